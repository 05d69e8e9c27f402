//go:build e2e

package e2e

import (
	"context"
	"time"

	. "github.com/onsi/ginkgo/v2"
	. "github.com/onsi/gomega"
	rayv1 "github.com/ray-project/kuberay/ray-operator/apis/ray/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"

	"github.com/raytls/raytls/api/v1alpha1"
)

// observed waits until the cluster's head was observed like that.
func (n *namespace) observed(ctx context.Context, cluster string, head v1alpha1.WireState) v1alpha1.ObservedOnWire {
	GinkgoHelper()
	var seen v1alpha1.ObservedOnWire
	Eventually(ctx, func(g Gomega, ctx context.Context) {
		seen = n.tls(ctx, cluster).Status.ObservedOnWire
		g.Expect(seen.Head).To(Equal(head), "reason: %s", seen.Reason)
	}).Should(Succeed())
	return seen
}

var _ = Describe("What a head serves", func() {
	It("is observed: the cluster's TLS, and plaintext that no field of the spec shows", func(ctx SpecContext) {
		n := newNamespace(ctx)
		for _, name := range []string{"honest", "sly"} {
			n.create(ctx, newPolicy(name, name, immediate))
		}
		n.createEncrypted(ctx, "honest", newCluster("honest"), 1)
		seen := n.observed(ctx, "honest", v1alpha1.WireTLS)
		Expect(seen.AuthorityGeneration).To(BeEquivalentTo(1))
		Expect(seen.ExpiryTime).To(Equal(n.tls(ctx, "honest").Status.EarliestExpiryTime))

		n.create(ctx, newCluster("sly", func(c *rayv1.RayCluster) {
			c.Spec.HeadGroupSpec.Template.Spec.Containers[0].Args = []string{"export RAY_USE_TLS=0"}
		}))
		n.observed(ctx, "sly", v1alpha1.WirePlaintext)
		message := n.condition(ctx, "sly", v1alpha1.ConditionReady, metav1.ConditionFalse, v1alpha1.ReasonPlaintextOnWire)
		Expect(message).To(ContainSubstring("port 6379"))
		head := n.only("sly", isHead).pod.UID
		Consistently(func() types.UID { return n.only("sly", isHead).pod.UID }).WithTimeout(3 * time.Second).Should(Equal(head))
		n.condition(ctx, "honest", v1alpha1.ConditionReady, metav1.ConditionTrue, v1alpha1.ReasonEncrypted)
	}, SpecTimeout(3*time.Minute))
})
