package suite_test

import (
	. "github.com/onsi/ginkgo/v2"
	. "github.com/onsi/gomega"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"

	"github.com/raytls/raytls/api/v1alpha1"
)

func proxyFirst(pod *corev1.Pod) {
	pod.Spec.Containers = append([]corev1.Container{{Name: "proxy", Image: "proxy:1"}}, pod.Spec.Containers...)
}

// untls appends another value of RAY_USE_TLS to the Ray container.
func untls(pod *corev1.Pod) {
	for i := range pod.Spec.Containers {
		if c := &pod.Spec.Containers[i]; c.Name == "ray-head" || c.Name == "ray-worker" {
			c.Env = append(c.Env, corev1.EnvVar{Name: "RAY_USE_TLS", Value: "0"})
		}
	}
}

var _ = Describe("A webhook that changes pods", func() {
	var w *world
	BeforeEach(func() { w = newWorld() })

	It("may put a container before Ray's", func() {
		w.ray.admission = proxyFirst
		w.policy("p", selecting())
		w.start("p", "a")
		w.eventually(func(g Gomega) {
			g.Expect(w.status("a").Pods).To(Equal(v1alpha1.PodCounts{Total: 3, Certified: 3}))
		})
		Expect(w.pods("a")[0].Spec.Containers[0].Name).To(Equal("proxy"))
		Expect(w.deleted()).To(BeEmpty())
		w.quiet()
	})

	It("and turns TLS off is reported with pod, container and variable, and no pod is deleted for it", func() {
		w.ray.admission = untls
		w.policy("p", selecting())
		w.ray.frozen = true
		w.start("p", "a")
		w.ray.frozen = false
		w.says("p", "a", v1alpha1.ReasonPodsAltered, "pod a-", "container ray-head has another value of RAY_USE_TLS", "2 pods more", "delete the pod")
		Expect(w.clusterCondition("a", v1alpha1.ConditionStalled).Status).To(Equal(metav1.ConditionTrue))
		w.readySays("p", v1alpha1.ReasonPodsAltered)
		w.quiet()
		Expect(w.deleted()).To(BeEmpty())

		w.ray.admission = nil
		for _, pod := range w.pods("a") {
			Expect(w.admin.Delete(w.ctx, &pod)).To(Succeed())
		}
		w.encrypted("p", "a")
	})

	It("ends an attempt to enable a running cluster at its canary, and the approval counts no more after an exclusion", func() {
		w.run("a")
		w.ray.admission = untls
		w.policy("p", selecting(disabling))
		w.approve("p", "a")
		w.says("p", "a", v1alpha1.ReasonEnableFailed, "container ray-worker has another value of RAY_USE_TLS")
		w.eventually(func(g Gomega) { g.Expect(w.status("a").Rollout).To(BeNil()) })
		w.ray.admission = nil
		w.quiet()

		w.update("a", label(v1alpha1.LabelExclude, v1alpha1.ExcludeTrue))
		w.eventually(func(g Gomega) { g.Expect(w.status("a").Injection.FailedHash).To(BeEmpty()) })
		w.mark()
		w.update("a", func(c *unstructured.Unstructured) { c.SetLabels(nil) })
		w.says("p", "a", v1alpha1.ReasonAwaitingApproval)
		w.quiet()
		Expect(w.deleted()).To(BeEmpty())
		w.approve("p", "a")
		w.encrypted("p", "a")
	})
})
