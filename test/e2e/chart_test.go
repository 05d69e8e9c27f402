//go:build e2e

package e2e

import (
	"context"
	"time"

	. "github.com/onsi/ginkgo/v2"
	. "github.com/onsi/gomega"
	admissionregistrationv1 "k8s.io/api/admissionregistration/v1"
	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"k8s.io/apimachinery/pkg/types"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/raytls/raytls/internal/injection"
	"github.com/raytls/raytls/internal/keys"
)

var _ = Describe("The chart's release", Serial, func() {
	It("is upgraded, uninstalled and installed again, and a running cluster keeps its pods and its authority", Label("core"), func(ctx SpecContext) {
		const cluster = "kept"
		n := newNamespace(ctx)
		n.create(ctx, newPolicy("all", ""))
		n.createEncrypted(ctx, "all", newCluster(cluster, workers("small", 1)), 2)
		uids, objects := n.pods.uids(cluster), n.kept(ctx, cluster)

		By("upgrading it")
		registered, err := registration(ctx)
		Expect(err).NotTo(HaveOccurred())
		deploy(ctx, "--set=log.level=debug")
		after, err := registration(ctx)
		Expect(err).NotTo(HaveOccurred())
		Expect(after.Generation).To(Equal(registered.Generation), "the webhook never lost what the operator adds to it")
		n.encrypted(ctx, "all", cluster, 2)
		Expect(n.pods.uids(cluster)).To(Equal(uids))

		By("uninstalling it")
		DeferCleanup(func(ctx SpecContext) { deploy(ctx) }, NodeTimeout(2*time.Minute))
		run(ctx, "make", "undeploy")
		for _, name := range []string{controllerName, webhookName} {
			Eventually(ctx, func(ctx context.Context) []corev1.Pod { return operatorPods(ctx, name) }).Should(BeEmpty())
		}
		_, err = registration(ctx)
		Expect(apierrors.IsNotFound(err)).To(BeTrue(), "admission is gone: %v", err)
		Expect(n.kept(ctx, cluster)).To(Equal(objects))

		By("taking in a worker meanwhile, whose pod makes its certificate itself")
		n.scale(ctx, cluster, 0, 2)
		n.running(ctx, cluster, 3, podRecord.injected)
		for _, worker := range n.pods.live(cluster, isWorker) {
			n.joined(ctx, cluster, worker)
		}
		spec := n.spec(ctx, cluster)
		uids = n.pods.uids(cluster)

		By("installing it again")
		deploy(ctx)
		n.encrypted(ctx, "all", cluster, 3)
		n.admitted(ctx, "all")
		Expect(n.kept(ctx, cluster)).To(Equal(objects))
		Expect(n.pods.uids(cluster)).To(Equal(uids))
		Expect(n.spec(ctx, cluster)).To(MatchJSON(spec))
	}, SpecTimeout(5*time.Minute))
})

// registration is what registers the operator's webhook.
func registration(ctx context.Context) (*admissionregistrationv1.MutatingWebhookConfiguration, error) {
	found := &admissionregistrationv1.MutatingWebhookConfiguration{}
	return found, api.Get(ctx, types.NamespacedName{Name: "raytls"}, found)
}

// kept are the UIDs of what an uninstalled operator leaves behind for a cluster: its policy, its RayClusterTLS, its CA Secret and its
// authority.
func (n *namespace) kept(ctx context.Context, cluster string) []types.UID {
	GinkgoHelper()
	authority := &corev1.Secret{}
	key := client.ObjectKey{Namespace: operatorNamespace, Name: keys.AuthoritySecretName(n.key(cluster))}
	Expect(api.Get(ctx, key, authority)).To(Succeed())
	return []types.UID{n.policy(ctx, "all").UID, n.tls(ctx, cluster).UID, n.secret(ctx, injection.SecretName(cluster)).UID, authority.UID}
}
