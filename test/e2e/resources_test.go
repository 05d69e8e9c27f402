//go:build e2e

package e2e

import (
	"context"
	"time"

	. "github.com/onsi/ginkgo/v2"
	. "github.com/onsi/gomega"
	rayv1 "github.com/ray-project/kuberay/ray-operator/apis/ray/v1"
	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/resource"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
)

var _ = Describe("What a pod asks for", func() {
	It("is the same with TLS, so that a LimitRange and a quota which Ray's pods fill to the last byte admit it", func(ctx SpecContext) {
		plain, tls := newNamespace(ctx), newNamespace(ctx)
		for _, n := range []*namespace{plain, tls} {
			n.create(ctx, limitRange())
		}
		plain.create(ctx, newCluster("plain", workers("small", 1), guaranteedHead))
		plain.running(ctx, "plain", 2, plaintext)

		tls.create(ctx, newPolicy("all", ""))
		tls.quota(ctx, plain.pods.live("plain"))
		tls.createEncrypted(ctx, "all", newCluster("tls", workers("small", 1), guaranteedHead), 2)

		for _, kind := range []func(podRecord) bool{isHead, isWorker} {
			with, without := tls.only("tls", kind).pod, plain.only("plain", kind).pod
			Expect(with.Status.QOSClass).To(Equal(without.Status.QOSClass))
			for _, amounts := range []func(corev1.Container) corev1.ResourceList{requests, limits} {
				Expect(effective(with, amounts)).To(Equal(effective(without, amounts)))
			}
		}
		Expect(tls.only("tls", isHead).pod.Status.QOSClass).To(Equal(corev1.PodQOSGuaranteed))
	}, SpecTimeout(3*time.Minute))
})

// limitRange allows each container what KubeRay's own init container asks for, and no more.
func limitRange() *corev1.LimitRange {
	return &corev1.LimitRange{ObjectMeta: metav1.ObjectMeta{Name: "small"}, Spec: corev1.LimitRangeSpec{Limits: []corev1.LimitRangeItem{{
		Type: corev1.LimitTypeContainer, Max: corev1.ResourceList{"cpu": resource.MustParse("200m"), "memory": resource.MustParse("1Gi")},
	}}}}
}

func guaranteedHead(c *rayv1.RayCluster) {
	amounts := corev1.ResourceList{"cpu": resource.MustParse("100m"), "memory": resource.MustParse("512Mi")}
	c.Spec.HeadGroupSpec.Template.Spec.Containers[0].Resources = corev1.ResourceRequirements{Requests: amounts, Limits: amounts}
}

// quota allows the namespace exactly what these pods use.
func (n *namespace) quota(ctx context.Context, pods []podRecord) {
	GinkgoHelper()
	hard := corev1.ResourceList{}
	for _, p := range pods {
		for prefix, amounts := range map[string]func(corev1.Container) corev1.ResourceList{"requests.": requests, "limits.": limits} {
			for name, amount := range effective(p.pod, amounts) {
				key := corev1.ResourceName(prefix + name)
				sum := hard[key]
				sum.Add(resource.MustParse(amount))
				hard[key] = sum
			}
		}
	}
	quota := &corev1.ResourceQuota{ObjectMeta: metav1.ObjectMeta{Name: "exact"}, Spec: corev1.ResourceQuotaSpec{Hard: hard}}
	n.create(ctx, quota)
	// Until then, the API server refuses every pod.
	Eventually(ctx, func(g Gomega, ctx context.Context) {
		g.Expect(api.Get(ctx, n.key("exact"), quota)).To(Succeed())
		g.Expect(quota.Status.Hard).To(HaveLen(len(hard)))
	}).Should(Succeed())
}

func requests(c corev1.Container) corev1.ResourceList { return c.Resources.Requests }

func limits(c corev1.Container) corev1.ResourceList { return c.Resources.Limits }

// effective returns what the scheduler counts: the sum over the containers, or the largest init container's.
func effective(pod corev1.Pod, amounts func(corev1.Container) corev1.ResourceList) map[string]string {
	counted := corev1.ResourceList{}
	for _, c := range pod.Spec.Containers {
		for name, amount := range amounts(c) {
			sum := counted[name]
			sum.Add(amount)
			counted[name] = sum
		}
	}
	for _, c := range pod.Spec.InitContainers {
		for name, amount := range amounts(c) {
			if counted.Name(name, amount.Format).Cmp(amount) < 0 {
				counted[name] = amount
			}
		}
	}
	texts := map[string]string{}
	for name, amount := range counted {
		texts[string(name)] = amount.String()
	}
	return texts
}
