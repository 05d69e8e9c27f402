//go:build e2e

package e2e

import (
	"context"
	"time"

	. "github.com/onsi/ginkgo/v2"
	. "github.com/onsi/gomega"
	rayv1 "github.com/ray-project/kuberay/ray-operator/apis/ray/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/raytls/raytls/api/v1alpha1"
)

// untouched checks for a while that a cluster's spec and pods stay as they are.
func untouched(ctx context.Context, n *namespace, cluster string, during time.Duration) {
	GinkgoHelper()
	spec, uids := n.spec(ctx, cluster), n.pods.uids(cluster)
	Expect(spec).NotTo(ContainSubstring("raytls"))
	Consistently(ctx, func(g Gomega, ctx context.Context) {
		g.Expect(n.spec(ctx, cluster)).To(MatchJSON(spec))
		g.Expect(n.pods.uids(cluster)).To(Equal(uids))
	}).WithTimeout(during).Should(Succeed())
}

var _ = Describe("A policy with a selector", func() {
	It("leaves a running cluster alone until it is approved, and encrypts a new one from its start", func(ctx SpecContext) {
		n := newNamespace(ctx)
		n.create(ctx, newCluster("old", workers("small", 1)))
		n.running(ctx, "old", 2, plaintext)
		n.ready(ctx, "old")
		n.create(ctx, newPolicy("all", ""))
		message := n.condition(ctx, "all", v1alpha1.ConditionReady, metav1.ConditionFalse, v1alpha1.ReasonAwaitingApproval)
		Expect(message).To(ContainSubstring("old"))
		untouched(ctx, n, "old", 10*time.Second)
		Expect(n.annotations(ctx, "old")).To(BeEmpty())
		Expect(n.tls(ctx, "old").Status.Pods).To(Equal(v1alpha1.PodCounts{Total: 2, Plaintext: 2}))

		By("creating a cluster")
		n.create(ctx, newCluster("new", workers("small", 1)))
		n.encrypted(ctx, "all", "new", 2)
		for group, count := range n.pods.counts("new") {
			Expect(count).To(BeNumerically("<=", 2), "plaintext pods of %s are replaced at most once", group)
		}
		n.joined(ctx, "new", n.only("new", isWorker))
		n.condition(ctx, "all", v1alpha1.ConditionReady, metav1.ConditionFalse, v1alpha1.ReasonAwaitingApproval)

		By("approving the restart")
		approved := n.approve(ctx, "old")
		n.encrypted(ctx, "all", "old", 2)
		n.condition(ctx, "all", v1alpha1.ConditionReady, metav1.ConditionTrue, v1alpha1.ReasonEncrypted)
		Expect(n.annotations(ctx, "old")).To(BeEmpty())
		Expect(n.policy(ctx, "all").Spec.Rollout.Approvals).To(Equal([]v1alpha1.Approval{{Cluster: "old", Restart: approved.ID}}))
		Expect(n.pods.counts("old")).To(Equal(map[string]int{"head": 2, "small": 2}))
		n.joined(ctx, "old", n.only("old", isWorker))
	}, SpecTimeout(4*time.Minute))

	It("leaves out what carries raytls.io/exclude", func(ctx SpecContext) {
		n := newNamespace(ctx)
		n.create(ctx, newPolicy("all", "", immediate))
		n.create(ctx, newCluster("out", func(c *rayv1.RayCluster) { c.Labels = map[string]string{v1alpha1.LabelExclude: v1alpha1.ExcludeTrue} }))
		n.running(ctx, "out", 1, plaintext)
		n.ready(ctx, "out")
		untouched(ctx, n, "out", 3*time.Second)
		n.condition(ctx, "all", v1alpha1.ConditionReady, metav1.ConditionTrue, v1alpha1.ReasonNoClusters)
		n.patch(ctx, &rayv1.RayCluster{}, "out", `{"metadata":{"labels":{"raytls.io/exclude":null}}}`)
		n.encrypted(ctx, "all", "out", 1)
	}, SpecTimeout(2*time.Minute))
})

var _ = Describe("A paused policy", func() {
	It("changes nothing until it goes on", func(ctx SpecContext) {
		n := newNamespace(ctx)
		n.create(ctx, newCluster("still"))
		n.running(ctx, "still", 1, plaintext)
		n.ready(ctx, "still")
		n.create(ctx, newPolicy("still", "still", immediate, func(p *v1alpha1.RayTLSPolicy) { p.Spec.Paused = true }))
		n.condition(ctx, "still", v1alpha1.ConditionReady, metav1.ConditionFalse, v1alpha1.ReasonPaused)
		untouched(ctx, n, "still", 3*time.Second)
		n.patch(ctx, &v1alpha1.RayTLSPolicy{}, "still", `{"spec":{"paused":false}}`)
		n.encrypted(ctx, "still", "still", 1)
	}, SpecTimeout(2*time.Minute))
})

var _ = Describe("Two policies for one cluster", func() {
	It("conflict, the loser says so, and the cluster follows the first", func(ctx SpecContext) {
		n := newNamespace(ctx)
		n.create(ctx, newPolicy("first", "wanted"))
		n.createEncrypted(ctx, "first", newCluster("wanted"), 1)
		spec, uids := n.spec(ctx, "wanted"), n.pods.uids("wanted")
		n.create(ctx, newPolicy("second", "wanted", shortName))
		message := n.condition(ctx, "second", v1alpha1.ConditionReady, metav1.ConditionFalse, v1alpha1.ReasonPolicyConflict)
		Expect(message).To(ContainSubstring("first"))
		n.condition(ctx, "first", v1alpha1.ConditionReady, metav1.ConditionTrue, v1alpha1.ReasonEncrypted)
		Expect(n.tls(ctx, "wanted").Status.PolicyRef.Name).To(Equal("first"))
		Expect(n.spec(ctx, "wanted")).To(MatchJSON(spec))
		Expect(n.pods.uids("wanted")).To(Equal(uids))
	}, SpecTimeout(2*time.Minute))
})
