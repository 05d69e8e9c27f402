//go:build ray

package ray

import (
	"context"
	"encoding/json"
	"fmt"
	"slices"
	"time"

	. "github.com/onsi/ginkgo/v2"
	. "github.com/onsi/gomega"
	rayv1 "github.com/ray-project/kuberay/ray-operator/apis/ray/v1"
	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"

	"github.com/raytls/raytls/api/v1alpha1"
)

// enablingSpecs encrypt a cluster that runs, and take TLS out of it again.
func enablingSpecs() {
	It("encrypts a running cluster, one worker first, and takes TLS out again", func(ctx SpecContext) {
		n := newNamespace(ctx)
		n.create(ctx, newCluster("running", workers("small", 2, 2), outside))
		n.ready(ctx, "running", 3)
		n.passes(ctx, n.head(ctx, "running"), "tasks.py", "no marker")
		before, asWritten := n.made(ctx, "running"), n.specOf(ctx, "running")

		policy := newPolicy()
		policy.Spec.DeletionPolicy = v1alpha1.DeletionDisable
		n.create(ctx, policy)
		Eventually(ctx, func(g Gomega, ctx context.Context) {
			status := n.status(ctx, g, "running")
			g.Expect(status.Rollout).NotTo(BeNil())
			g.Expect(status.Rollout.Phase).To(Equal(v1alpha1.PhaseCanary))
		}).WithPolling(50 * time.Millisecond).Should(Succeed())
		left := uids(n.made(ctx, "running"))
		Expect(slices.DeleteFunc(uids(before), func(uid string) bool { return slices.Contains(left, uid) })).
			To(Or(BeEmpty(), HaveLen(1)), "pods that are restarted beside the canary")
		n.encrypted(ctx, "running", 3)
		after := n.made(ctx, "running")
		for _, pod := range after {
			Expect(uids(before)).NotTo(ContainElement(string(pod.UID)), "%s was not restarted", pod.Name)
		}
		n.works(ctx, "running")

		Expect(target.API.Delete(ctx, policy)).To(Succeed())
		Eventually(ctx, func(ctx context.Context) bool {
			return apierrors.IsNotFound(target.API.Get(ctx, n.key("default"), &v1alpha1.RayTLSPolicy{}))
		}).WithTimeout(4 * time.Minute).Should(BeTrue())
		Eventually(ctx, func(g Gomega, ctx context.Context) {
			g.Expect(n.specOf(ctx, "running")).To(Equal(asWritten))
			pods := n.made(ctx, "running")
			g.Expect(pods).To(HaveLen(3))
			for _, pod := range pods {
				g.Expect(isReady(&pod)).To(BeTrue())
				g.Expect(uids(after)).NotTo(ContainElement(string(pod.UID)), "%s still has TLS", pod.Name)
			}
		}).WithTimeout(4 * time.Minute).Should(Succeed())
		n.works(ctx, "running")
		n.remove(ctx, "running")
	}, SpecTimeout(12*time.Minute))
}

// outside keeps the audit from judging a cluster that is plaintext at times.
func outside(c *rayv1.RayCluster) {
	c.Spec.HeadGroupSpec.Template.Labels = map[string]string{outsiderLabel: "yes"}
	for i := range c.Spec.WorkerGroupSpecs {
		c.Spec.WorkerGroupSpecs[i].Template.Labels = map[string]string{outsiderLabel: "yes"}
	}
}

// works waits until the tasks of tasks.py run. Ray needs a moment until it knows which nodes are gone.
func (n *namespace) works(ctx context.Context, cluster string) {
	GinkgoHelper()
	Eventually(ctx, func(g Gomega, ctx context.Context) {
		ended, err := n.python(ctx, n.head(ctx, cluster), "tasks.py", "no marker", fmt.Sprint(len(n.workers(ctx, cluster))))
		g.Expect(err).NotTo(HaveOccurred())
		g.Expect(ended.Code).To(BeZero(), ended.Output())
	}).Should(Succeed())
}

// made are the pods of a cluster, the oldest first.
func (n *namespace) made(ctx context.Context, cluster string) []corev1.Pod {
	GinkgoHelper()
	pods, err := n.find(ctx, cluster, "")
	Expect(err).NotTo(HaveOccurred())
	slices.SortFunc(pods, func(a, b corev1.Pod) int { return a.CreationTimestamp.Compare(b.CreationTimestamp.Time) })
	return pods
}

func uids(pods []corev1.Pod) []string {
	var out []string
	for _, pod := range pods {
		out = append(out, string(pod.UID))
	}
	return out
}

// specOf is a cluster's spec as JSON.
func (n *namespace) specOf(ctx context.Context, cluster string) string {
	GinkgoHelper()
	object := &rayv1.RayCluster{}
	Expect(target.API.Get(ctx, n.key(cluster), object)).To(Succeed())
	text, err := json.Marshal(object.Spec)
	Expect(err).NotTo(HaveOccurred())
	return string(text)
}
