//go:build e2e

package e2e

import (
	"context"
	"time"

	. "github.com/onsi/ginkgo/v2"
	. "github.com/onsi/gomega"
	rayv1 "github.com/ray-project/kuberay/ray-operator/apis/ray/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"k8s.io/apimachinery/pkg/types"

	"github.com/raytls/raytls/api/v1alpha1"
	"github.com/raytls/raytls/internal/injection"
)

var _ = Describe("A deleted policy", func() {
	It("that keeps leaves everything as it is, and a new policy adopts it without a restart", Label("core"), func(ctx SpecContext) {
		n := newNamespace(ctx)
		n.create(ctx, newPolicy("first", "kept"))
		n.createEncrypted(ctx, "first", newCluster("kept", workers("small", 1)), 2)
		spec, uids := n.spec(ctx, "kept"), n.pods.uids("kept")
		keys := n.secret(ctx, injection.SecretName("kept")).Data

		n.deletePolicy(ctx, "first")
		Eventually(ctx, func(ctx context.Context) bool {
			return apierrors.IsNotFound(api.Get(ctx, n.key("first"), &v1alpha1.RayTLSPolicy{}))
		}).Should(BeTrue())
		Consistently(ctx, func(g Gomega, ctx context.Context) {
			g.Expect(n.spec(ctx, "kept")).To(MatchJSON(spec))
			g.Expect(n.pods.uids("kept")).To(Equal(uids))
			g.Expect(n.secret(ctx, injection.SecretName("kept")).Data).To(Equal(keys))
		}).WithTimeout(4 * time.Second).Should(Succeed())

		By("new pods still getting certificates")
		n.scale(ctx, "kept", 0, 2)
		n.running(ctx, "kept", 3, podRecord.injected)
		for _, worker := range n.pods.live("kept", isWorker) {
			n.joined(ctx, "kept", worker)
		}
		uids = n.pods.uids("kept")

		By("a new policy adopting the cluster")
		n.create(ctx, newPolicy("second", ""))
		n.encrypted(ctx, "second", "kept", 3)
		Consistently(ctx, func() any { return n.pods.uids("kept") }).WithTimeout(3 * time.Second).Should(Equal(uids))
		Expect(n.secret(ctx, injection.SecretName("kept")).Data).To(Equal(keys))
	}, SpecTimeout(3*time.Minute))
})

var _ = Describe("A deleted RayClusterTLS", func() {
	It("of a running encrypted cluster is made again from what there is, and nobody restarts", Label("core"), func(ctx SpecContext) {
		n := newNamespace(ctx)
		n.create(ctx, newPolicy("all", "", immediate))
		n.admitted(ctx, "all")
		n.create(ctx, newCluster("forgotten", workers("small", 1)))
		n.encrypted(ctx, "all", "forgotten", 2)
		spec, uids := n.spec(ctx, "forgotten"), n.pods.uids("forgotten")
		keys := n.secret(ctx, injection.SecretName("forgotten")).Data
		before := n.tls(ctx, "forgotten")

		Expect(api.Delete(ctx, n.tls(ctx, "forgotten"))).To(Succeed())
		Eventually(ctx, func(ctx context.Context) types.UID { return n.tls(ctx, "forgotten").UID }).ShouldNot(Or(BeEmpty(), Equal(before.UID)))
		n.encrypted(ctx, "all", "forgotten", 2)
		after := n.tls(ctx, "forgotten").Status
		Expect(after.Injection.Revision).To(Equal(before.Status.Injection.Revision))
		Expect(after.Injection.Groups).To(Equal(before.Status.Injection.Groups))
		Expect(after.Authority).To(Equal(before.Status.Authority))
		Expect(after.Issuer).To(Equal(before.Status.Issuer))
		Consistently(ctx, func(g Gomega, ctx context.Context) {
			g.Expect(n.pods.uids("forgotten")).To(Equal(uids))
			g.Expect(n.spec(ctx, "forgotten")).To(MatchJSON(spec))
			g.Expect(n.secret(ctx, injection.SecretName("forgotten")).Data).To(Equal(keys))
		}).WithTimeout(5 * time.Second).Should(Succeed())
		for _, p := range n.pods.live("forgotten") {
			Expect(p.restarts()).To(BeZero(), p.pod.Name)
		}

		By("a worker more, which joins")
		n.scale(ctx, "forgotten", 0, 2)
		n.encrypted(ctx, "all", "forgotten", 3)
		for _, worker := range n.pods.live("forgotten", isWorker) {
			n.joined(ctx, "forgotten", worker)
		}
		Expect(n.pods.counts("forgotten")).To(Equal(map[string]int{"head": 1, "small": 2}))
	}, SpecTimeout(3*time.Minute))
})

var _ = Describe("KubeRay's own init container", func() {
	It("sees no CA key", Label("core"), func(ctx SpecContext) {
		n := newNamespace(ctx)
		n.create(ctx, newPolicy("all", ""))
		// A head that runs no Ray keeps its workers waiting for it, so that one can look into what waits.
		n.createInjected(ctx, newCluster("asleep", workers("small", 1), func(c *rayv1.RayCluster) {
			c.Annotations = map[string]string{"ray.io/overwrite-container-cmd": "true"}
			c.Spec.HeadGroupSpec.Template.Spec.Containers[0].Command = []string{"sleep", "infinity"}
		}))
		const waiting = "wait-gcs-ready"
		Eventually(ctx, func(g Gomega) {
			pods := n.pods.live("asleep", isWorker, podRecord.injected)
			g.Expect(pods).To(HaveLen(1))
			status := initStatus(&pods[0].pod, waiting)
			g.Expect(status).NotTo(BeNil())
			g.Expect(status.State.Running).NotTo(BeNil())
		}).Should(Succeed())
		worker := n.only("asleep", isWorker)
		noCAKey(ctx, n, worker.pod.Name, waiting, keyLine(n.secret(ctx, injection.SecretName("asleep"))))
		mountedOnlyInInit(&worker.pod)
	}, SpecTimeout(2*time.Minute))
})
