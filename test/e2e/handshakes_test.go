//go:build e2e

package e2e

import (
	"context"
	"strings"

	. "github.com/onsi/ginkgo/v2"
	. "github.com/onsi/gomega"
	gomegatypes "github.com/onsi/gomega/types"

	"github.com/raytls/raytls/test/live"
)

const (
	headContainer   = "ray-head"
	workerContainer = "ray-worker"
	leafFile        = "/etc/ray/tls/tls.crt"
	keyFile         = "/etc/ray/tls/tls.key"
	authorityFile   = "/etc/ray/tls/ca.crt"
)

// healthCheck runs what KubeRay's wait-gcs-ready runs, in a worker. address may use the pod's variables.
func (n *namespace) healthCheck(ctx context.Context, pod, env, address string) (live.Result, error) {
	return n.sh(ctx, pod, workerContainer, env+` ray health-check --address "`+address+`:6379"`, "")
}

func endsWell() gomegatypes.GomegaMatcher {
	return HaveField("Code", BeZero())
}

// joined waits until a worker reaches its head by the name in the head's certificate and, where the head tells whom it
// dialled back, until it tells so of this worker.
func (n *namespace) joined(ctx context.Context, cluster string, worker podRecord) {
	GinkgoHelper()
	Eventually(ctx, func(g Gomega, ctx context.Context) {
		ended, err := n.healthCheck(ctx, worker.pod.Name, "", "$FQ_RAY_IP")
		g.Expect(err).NotTo(HaveOccurred())
		g.Expect(ended.Code).To(BeZero(), ended.Output())
	}).Should(Succeed())
	head := n.only(cluster, isHead)
	said, err := n.logs(ctx, head.pod.Name, headContainer)
	Expect(err).NotTo(HaveOccurred())
	if !strings.Contains(said, "head up") {
		return // Ray itself does not log this
	}
	Eventually(ctx, func(g Gomega, ctx context.Context) {
		said, err := n.logs(ctx, head.pod.Name, headContainer)
		g.Expect(err).NotTo(HaveOccurred())
		g.Expect(said).To(ContainSubstring("raylet ok " + worker.pod.Status.PodIP + ":"))
	}).Should(Succeed())
	Expect(n.logs(ctx, head.pod.Name, headContainer)).NotTo(ContainSubstring("raylet FAILED " + worker.pod.Status.PodIP + ":"))
}

// sClient dials the head with openssl. With a client certificate the connection stays until it is cut off (124); without
// one the server ends it.
func sClient(arguments string) string {
	return `timeout 4 openssl s_client -connect "$FQ_RAY_IP:6379" -servername "$FQ_RAY_IP" -alpn h2 -ign_eof -partial_chain ` +
		`-CAfile /etc/ray/tls/ca.crt -verify_return_error ` + arguments + ` </dev/null`
}

// refused is for a command that ends badly and says what the expression matches. gRPC's releases word it differently.
func refused(saying string) gomegatypes.GomegaMatcher {
	return And(
		HaveField("Code", Not(BeZero())),
		WithTransform(live.Result.Output, MatchRegexp(saying)),
	)
}
