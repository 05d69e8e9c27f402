//go:build e2e

package e2e

import (
	"context"
	"fmt"
	"time"

	. "github.com/onsi/ginkgo/v2"
	. "github.com/onsi/gomega"
	rayv1 "github.com/ray-project/kuberay/ray-operator/apis/ray/v1"
	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"

	"github.com/raytls/raytls/api/v1alpha1"
	"github.com/raytls/raytls/internal/injection"
	"github.com/raytls/raytls/internal/keys"
)

var _ = Describe("A revoked authority", func() {
	const cluster, policy = "train", "revoked"
	It("opens nothing once each pod has restarted, and neither a manifest nor a backup of its Secret brings it back", func(ctx SpecContext) {
		n := newNamespace(ctx)
		n.create(ctx, newPolicy(policy, ""))
		n.createEncrypted(ctx, policy, newCluster(cluster, workers("small", 2)), 3)
		manifest, secret := n.spec(ctx, cluster), n.secret(ctx, injection.SecretName(cluster))
		robbed := n.pods.live(cluster, isWorker)[0].pod.Name
		stolen := map[string]string{}
		for _, file := range []string{leafFile, keyFile, authorityFile} {
			stolen[file] = n.mustSh(ctx, robbed, workerContainer, "cat "+file, "")
		}

		By("revoking it once that is approved")
		printed, _ := raytls(ctx, nil, "revoke", cluster, "-n", n.name, "--yes")
		Expect(string(printed)).To(ContainSubstring(policy))
		Expect(n.approve(ctx, cluster).Action).To(Equal(v1alpha1.ActionRevoke))
		n.encrypted(ctx, policy, cluster, 3)
		Expect(n.pods.counts(cluster)).To(Equal(map[string]int{"head": 2, "small": 4}), "each pod restarts once")
		now := n.secret(ctx, keys.IssuerSecretName(n.key(cluster), 2))
		Expect(now.Name).NotTo(Equal(secret.Name))
		gone := func(ctx context.Context) bool {
			return apierrors.IsNotFound(api.Get(ctx, n.key(secret.Name), &corev1.Secret{}))
		}
		Expect(gone(ctx)).To(BeTrue(), "the CA Secret of before is gone")

		By("refusing what was stolen, both ways")
		worker := n.pods.live(cluster, isWorker)[0]
		n.joined(ctx, cluster, worker)
		for file, content := range stolen {
			n.mustSh(ctx, worker.pod.Name, workerContainer, "mkdir -p /tmp/stolen && cat >/tmp/stolen/$(basename "+file+")", content)
		}
		Expect(n.healthCheck(ctx, worker.pod.Name, "RAY_TLS_SERVER_CERT=/tmp/stolen/tls.crt RAY_TLS_SERVER_KEY=/tmp/stolen/tls.key", "$FQ_RAY_IP")).To(refused(""))
		Expect(n.healthCheck(ctx, worker.pod.Name, "RAY_TLS_CA_CERT=/tmp/stolen/ca.crt", "$FQ_RAY_IP")).To(refused(""))
		Expect(n.healthCheck(ctx, worker.pod.Name, "", "$FQ_RAY_IP")).To(endsWell())

		By("bringing back the manifest and the Secret of before")
		spec := n.spec(ctx, cluster)
		n.patch(ctx, &rayv1.RayCluster{}, cluster, fmt.Sprintf(`{"spec":%s}`, manifest))
		Expect(n.spec(ctx, cluster)).To(MatchJSON(spec), "the webhook corrects it")
		n.create(ctx, &corev1.Secret{
			ObjectMeta: metav1.ObjectMeta{Name: secret.Name, Labels: secret.Labels, Annotations: secret.Annotations}, Data: secret.Data,
		})
		Eventually(ctx, gone).Should(BeTrue(), "the operator deletes it")
		Expect(api.Delete(ctx, &worker.pod)).To(Succeed())
		Eventually(ctx, func() []types.UID { return n.pods.uids(cluster) }).ShouldNot(ContainElement(worker.pod.UID))
		n.encrypted(ctx, policy, cluster, 3)
		for _, pod := range n.pods.live(cluster, isWorker) {
			n.joined(ctx, cluster, pod)
		}
		Expect(n.pods.counts(cluster)).To(Equal(map[string]int{"head": 2, "small": 5}), "nobody else restarted")
	}, SpecTimeout(4*time.Minute))
})
