//go:build ray

package ray

import (
	"context"
	"strings"
	"time"

	. "github.com/onsi/ginkgo/v2"
	. "github.com/onsi/gomega"

	"github.com/raytls/raytls/internal/pki"
)

// generationSpecs prove that pods of two generations of authorities work together with bridges, in whatever order they were created anew.
func generationSpecs() {
	DescribeTable("works where pods of two generations meet", func(ctx SpecContext, head int) {
		generations := newGenerations()
		a := &aging{}
		a.create(ctx, "first", "second", "late")
		a.signer = generations[head-1]
		a.certify(ctx, "headgroup", long)
		for i, group := range []string{"first", "second"} {
			a.signer = generations[i]
			a.certify(ctx, group, long)
		}
		a.ready(ctx)
		for _, script := range []string{"tasks.py", "actors.py", "objects.py", "placement_groups.py"} {
			a.n.passes(ctx, a.pods["headgroup"], script, strings.TrimSuffix(script, ".py"))
		}
		for group, pod := range a.pods {
			a.n.connects(ctx, pod, agingName+"-head-svc."+a.n.name+".svc.cluster.local:10001")
			a.noFailedHandshake(ctx, group)
		}
	},
		Entry("with a head of the first", 1, SpecTimeout(6*time.Minute)),
		Entry("with a head of the second", 2, SpecTimeout(6*time.Minute)),
	)
}

// newGenerations makes an authority and its successor, bridged both ways: chains of the second lead to the first, and the second's
// bundle accepts what the first issued.
func newGenerations() []*signer {
	GinkgoHelper()
	var authorities []*pki.Authority
	var signers []*signer
	for range 2 {
		authority, s := newSigner(agingName)
		authorities, signers = append(authorities, authority), append(signers, s)
	}
	old, successor := authorities[0], authorities[1]
	forward, err := old.Bridge(pki.BridgeOptions{To: successor.Certificate(), Now: time.Now()})
	Expect(err).NotTo(HaveOccurred())
	reverse, err := successor.Bridge(pki.BridgeOptions{To: old.Certificate(), Now: time.Now()})
	Expect(err).NotTo(HaveOccurred())
	signers[1].chain = append(signers[1].chain, pki.EncodeBundle(forward)...)
	signers[1].bundle = append(signers[1].bundle, pki.EncodeBundle(reverse)...)
	return signers
}

// noFailedHandshake asserts that no log of a group's pod tells of one.
func (a *aging) noFailedHandshake(ctx context.Context, group string) {
	GinkgoHelper()
	ended, err := a.n.sh(ctx, a.pods[group], "grep -rl CERTIFICATE_VERIFY_FAILED /tmp/ray/session_latest/logs/")
	Expect(err).NotTo(HaveOccurred())
	Expect(ended.Code).To(Equal(1), "grep has to read the logs, and to find nothing: %s", ended.Output())
	Expect(ended.Stdout).To(BeEmpty(), "logs of %s that tell of a failed handshake", group)
}
