package suite_test

import (
	"crypto/tls"
	"net"
	"net/netip"
	"os"
	"path/filepath"
	"time"

	. "github.com/onsi/ginkgo/v2"
	. "github.com/onsi/gomega"
	"google.golang.org/grpc"
	"google.golang.org/grpc/credentials"
	"google.golang.org/grpc/credentials/insecure"

	"github.com/raytls/raytls/api/v1alpha1"
	"github.com/raytls/raytls/internal/pki"
)

const headAddress = "192.0.2.1"

// listen has a gRPC server listen for heads that come to exist.
func (w *world) listen(with credentials.TransportCredentials) {
	GinkgoHelper()
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	Expect(err).NotTo(HaveOccurred())
	server := grpc.NewServer(grpc.Creds(with))
	go func() { _ = server.Serve(listener) }()
	DeferCleanup(server.Stop)
	file := filepath.Join(env.heads, headAddress+":6379")
	Expect(os.WriteFile(file, []byte(listener.Addr().String()), 0o600)).To(Succeed())
	DeferCleanup(os.RemoveAll, file)
}

// certificate is what a head of the cluster presents.
func (w *world) certificate(cluster string) credentials.TransportCredentials {
	GinkgoHelper()
	secret, err := w.caSecret(cluster)
	Expect(err).NotTo(HaveOccurred())
	issuer, err := pki.ParseIssuer(secret.Data["issuer.crt"], secret.Data["ca.key"])
	Expect(err).NotTo(HaveOccurred())
	leaf, key, err := issuer.NewLeaf(pki.LeafOptions{
		IPs: []netip.Addr{netip.MustParseAddr(headAddress)}, KeyAlgorithm: pki.ECDSAP256, Validity: 100 * 24 * time.Hour, Now: time.Now(),
	})
	Expect(err).NotTo(HaveOccurred())
	chain, err := tls.X509KeyPair(append(leaf, secret.Data["chain.pem"]...), key)
	Expect(err).NotTo(HaveOccurred())
	return credentials.NewTLS(&tls.Config{Certificates: []tls.Certificate{chain}, ClientAuth: tls.RequireAndVerifyClientCert, MinVersion: tls.VersionTLS12})
}

func (w *world) observes(cluster string, head v1alpha1.WireState, reason string) {
	GinkgoHelper()
	w.eventually(func(g Gomega) {
		seen := w.status(cluster).ObservedOnWire
		g.Expect(seen.Head).To(Equal(head), "reason: %s", seen.Reason)
		g.Expect(seen.Reason).To(Equal(reason))
	})
}

var _ = Describe("What a head serves", func() {
	var w *world
	BeforeEach(func() {
		w = newWorld()
		w.run("a")
		w.policy("p", targeting("a", immediately))
		w.encrypted("p", "a")
	})

	It("is shown, and agrees with what is on record", func() {
		w.listen(w.certificate("a"))
		w.ray.headAddress = headAddress
		w.observes("a", v1alpha1.WireTLS, "")
		seen := w.status("a").ObservedOnWire
		Expect(seen.AuthorityGeneration).To(BeEquivalentTo(1))
		Expect(seen.Port).To(BeEquivalentTo(6379))
		Expect(seen.ExpiryTime.Time).To(BeTemporally("~", time.Now().Add(100*24*time.Hour), time.Hour))
		w.encrypted("p", "a")
		w.quiet()
	})

	It("has the last word where it is plaintext, restarts nothing, and is forgotten with its pod", func() {
		w.listen(insecure.NewCredentials())
		w.settle()
		before := uids(w.pods("a"))
		w.ray.headAddress = headAddress
		w.says("p", "a", v1alpha1.ReasonPlaintextOnWire, "port 6379", "without TLS")
		w.eventually(func(g Gomega) {
			g.Expect(w.condition("p", v1alpha1.ConditionReady).Reason).To(Equal(v1alpha1.ReasonPlaintextOnWire))
		})
		Expect(w.clusterCondition("a", v1alpha1.ConditionStalled).Reason).To(Equal(v1alpha1.ReasonPlaintextOnWire))
		Expect(uids(w.pods("a"))).To(Equal(before))
		w.quiet()

		w.listen(w.certificate("a"))
		for _, pod := range w.pods("a") {
			if pod.Labels["ray.io/node-type"] == "head" {
				Expect(w.admin.Delete(w.ctx, &pod)).To(Succeed())
			}
		}
		w.observes("a", v1alpha1.WireTLS, "")
		w.encrypted("p", "a")
	})

	It("has the last word where it is another authority's certificate", func() {
		w.run("b")
		w.policy("q", targeting("b", immediately))
		w.encrypted("q", "b")
		w.listen(w.certificate("b"))
		w.ray.headAddress = headAddress
		w.observes("b", v1alpha1.WireTLS, "")
		w.says("p", "a", v1alpha1.ReasonForeignTLSOnWire, "did not issue")
	})

	It("changes nothing where it is unknown", func() {
		w.ray.headAddress = headAddress
		w.observes("a", v1alpha1.WireUnknown, "Refused")
		w.encrypted("p", "a")
	})
})
