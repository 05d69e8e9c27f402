//go:build ray

package ray

import (
	"context"
	"path/filepath"
	"time"

	. "github.com/onsi/ginkgo/v2"
	. "github.com/onsi/gomega"

	"github.com/raytls/raytls/api/v1alpha1"
)

var _ = Describe("The real Ray after a revocation", func() {
	It("refuses what was stolen, and works with all pods restarted together", func(ctx SpecContext) {
		const cluster = "robbed"
		n := newTLSNamespace(ctx)
		n.create(ctx, newCluster(cluster, workers("small", 2, 2)))
		thief := n.outsider(ctx, "thief")
		n.encrypted(ctx, cluster, 3)
		before := n.made(ctx, cluster)
		to := cluster + "-head-svc." + n.name + ".svc.cluster.local:10001"
		stolen := []string{"RAY_USE_TLS=1"}
		for _, v := range []struct{ name, file string }{
			{"RAY_TLS_SERVER_CERT", "tls.crt"}, {"RAY_TLS_SERVER_KEY", "tls.key"}, {"RAY_TLS_CA_CERT", "ca.crt"},
		} {
			copied := "/tmp/" + v.file
			found, err := n.sh(ctx, &n.workers(ctx, cluster)[0], "cat "+filepath.Join(certificateFiles, v.file))
			Expect(err).NotTo(HaveOccurred())
			Expect(found.Code).To(BeZero(), found.Stderr)
			written, err := target.Exec(ctx, n.key(thief.Name), thief.Spec.Containers[0].Name, found.Stdout, "/bin/sh", "-c", "cat >"+copied)
			Expect(err).NotTo(HaveOccurred())
			Expect(written.Code).To(BeZero(), written.Stderr)
			stolen = append(stolen, v.name+"="+copied)
		}
		n.connects(ctx, thief, to, stolen...)

		n.change(ctx, map[string]any{"certificateAuthority": map[string]any{"revokeIssuedBefore": time.Now().UTC().Format(time.RFC3339)}})
		Eventually(ctx, func(g Gomega, ctx context.Context) {
			status := n.status(ctx, g, cluster)
			g.Expect(status.Authority.RevokedBeforeGeneration).To(BeEquivalentTo(2))
			g.Expect(status.Rollout).To(BeNil())
			g.Expect(status.Pods).To(Equal(v1alpha1.PodCounts{Total: 3, Certified: 3}))
			isTrue(g, status, v1alpha1.ConditionUpToDate)
		}).WithTimeout(4 * time.Minute).Should(Succeed())
		n.encrypted(ctx, cluster, 3)
		for _, uid := range uids(before) {
			Expect(uids(n.made(ctx, cluster))).NotTo(ContainElement(uid))
		}
		n.works(ctx, cluster)
		n.connects(ctx, &n.workers(ctx, cluster)[0], to)
		refused, err := n.pythonIn(ctx, thief, stolen, "client.py", to)
		Expect(err).NotTo(HaveOccurred())
		Expect(refused.Output()).To(ContainSubstring("ConnectionError: ray client connection timeout"))
		Expect(refused.Code).To(Equal(1))
		n.remove(ctx, cluster)
	}, SpecTimeout(8*time.Minute))
})
