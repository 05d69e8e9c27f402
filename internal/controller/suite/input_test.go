package suite_test

import (
	"crypto"
	"crypto/ecdsa"
	"crypto/ed25519"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/pem"
	"math/big"
	"strings"
	"time"

	. "github.com/onsi/ginkgo/v2"
	. "github.com/onsi/gomega"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/types"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/raytls/raytls/api/v1alpha1"
	"github.com/raytls/raytls/internal/gencert/gencerttest"
)

var _ = Describe("A policy that makes no sense", func() {
	It("and passes the API server, is not accepted: a selector that cannot be parsed", func() {
		w := newWorld()
		before := w.create("a", set(true, "spec", "suspend"))
		w.mark()
		w.policy("p", v1alpha1.RayTLSPolicySpec{Selector: &metav1.LabelSelector{
			MatchExpressions: []metav1.LabelSelectorRequirement{{Key: "team", Operator: metav1.LabelSelectorOpIn}},
		}})
		w.notAccepted("p", v1alpha1.ReasonInvalidSelector, "spec.selector", "values")
		w.untouched(before, uids(nil))
	})

	It("names an image that the administrator has not allowed: nothing happens until that is mended", func() {
		w := newWorld()
		before := w.create("a", set(true, "spec", "suspend"))
		w.mark()
		w.policy("p", selecting(func(s *v1alpha1.RayTLSPolicySpec) { s.Issuance.InitContainer.Image = "evil.example/x" }))
		w.notAccepted("p", v1alpha1.ReasonImageNotAllowed, "spec.issuance.initContainer.image", "evil.example/x", "--allowed-init-image")
		w.says("p", "a", v1alpha1.ReasonNotAccepted)
		w.untouched(before, uids(nil))
		w.updatePolicy("p", func(p *v1alpha1.RayTLSPolicy) { p.Spec.Issuance.InitContainer.Image = "" })
		w.encrypted("p", "a")
		w.eventually(func(g Gomega) {
			g.Expect(w.condition("p", v1alpha1.ConditionAccepted).Status).To(Equal(metav1.ConditionTrue))
		})
	})
})

func (w *world) notAccepted(policy, reason string, message ...string) {
	GinkgoHelper()
	w.eventually(func(g Gomega) {
		c := w.condition(policy, v1alpha1.ConditionAccepted)
		g.Expect(c.Status).To(Equal(metav1.ConditionFalse))
		g.Expect(c.Reason).To(Equal(reason), c.Message)
		for _, m := range message {
			g.Expect(c.Message).To(ContainSubstring(m))
		}
		r := w.condition(policy, v1alpha1.ConditionReady)
		g.Expect(r.Status).To(Equal(metav1.ConditionFalse))
		g.Expect(r.Reason).To(Equal(v1alpha1.ReasonNotAccepted))
	})
}

// ca is a CA as a user brings it. ends is when it does.
func ca(ends time.Duration, public, private any, change func(*x509.Certificate)) (certificate, key []byte) {
	GinkgoHelper()
	template := &x509.Certificate{
		SerialNumber: big.NewInt(1), Subject: pkix.Name{CommonName: "brought"}, NotBefore: time.Now().Add(-48 * time.Hour), NotAfter: time.Now().Add(ends),
		IsCA: true, BasicConstraintsValid: true, KeyUsage: x509.KeyUsageCertSign | x509.KeyUsageCRLSign, SubjectKeyId: []byte{1, 2, 3, 4},
	}
	if change != nil {
		change(template)
	}
	der, err := x509.CreateCertificate(rand.Reader, template, template, public, private)
	Expect(err).NotTo(HaveOccurred())
	keyDER, err := x509.MarshalPKCS8PrivateKey(private)
	Expect(err).NotTo(HaveOccurred())
	return pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: der}), pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: keyDER})
}

func goodCA(ends time.Duration) (certificate, key []byte) {
	GinkgoHelper()
	private, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	Expect(err).NotTo(HaveOccurred())
	return ca(ends, private.Public(), private, nil)
}

const year = 365 * 24 * time.Hour

// parsed is the first certificate of a PEM text.
func parsed(text []byte) *x509.Certificate {
	GinkgoHelper()
	block, _ := pem.Decode(text)
	Expect(block).NotTo(BeNil())
	certificate, err := x509.ParseCertificate(block.Bytes)
	Expect(err).NotTo(HaveOccurred())
	return certificate
}

var _ = Describe("A brought CA", func() {
	var w *world
	BeforeEach(func() { w = newWorld() })
	withCA := func(s *v1alpha1.RayTLSPolicySpec) {
		s.CertificateAuthority.SecretRef = &v1alpha1.SecretReference{Name: "ca-tls"}
	}
	put := func(data map[string][]byte) {
		GinkgoHelper()
		allowed := map[string]string{v1alpha1.LabelCA: v1alpha1.CATrue}
		s := &corev1.Secret{ObjectMeta: metav1.ObjectMeta{Namespace: w.ns, Name: "ca-tls", Labels: allowed}, Data: data}
		Expect(w.admin.Create(w.ctx, s)).To(Succeed())
	}
	replace := func(data map[string][]byte) {
		GinkgoHelper()
		Expect(w.admin.Delete(w.ctx, &corev1.Secret{ObjectMeta: metav1.ObjectMeta{Namespace: w.ns, Name: "ca-tls"}})).To(Succeed())
		put(data)
	}
	good := func() map[string][]byte {
		certificate, key := goodCA(20 * year)
		return map[string][]byte{"ca.crt": certificate, "ca.key": key}
	}

	It("that does not exist is waited for", func() {
		before := w.create("a", set(true, "spec", "suspend"))
		w.mark()
		w.policy("p", selecting(withCA))
		w.notAccepted("p", v1alpha1.ReasonCASecretNotFound, "Secret ca-tls does not exist", "ca.crt and ca.key, or tls.crt and tls.key")
		w.says("p", "a", v1alpha1.ReasonNotAccepted)
		w.settle()
		same(Default, before, w.get("a"))
		put(good())
		w.encrypted("p", "a")
		w.eventually(func(g Gomega) {
			g.Expect(w.condition("p", v1alpha1.ConditionAccepted).Reason).To(Equal(v1alpha1.ReasonAccepted))
		})
	})

	DescribeTable("that cannot be used is refused with the reason, changes nothing, and is used when it is mended", func(data func() map[string][]byte, message string) {
		put(data())
		before := w.create("a", set(true, "spec", "suspend"))
		w.mark()
		w.policy("p", selecting(withCA))
		w.notAccepted("p", v1alpha1.ReasonCASecretInvalid, "spec.certificateAuthority.secretRef: Secret ca-tls", message)
		w.says("p", "a", v1alpha1.ReasonNotAccepted)
		w.untouched(before, uids(nil))
		Expect(w.condition("p", v1alpha1.ConditionAccepted).Message).NotTo(ContainSubstring("PRIVATE"))
		replace(good())
		w.encrypted("p", "a")
	},
		Entry("no such keys", func() map[string][]byte { return map[string][]byte{"x": []byte("y")} }, "holds neither"),
		Entry("not PEM", func() map[string][]byte { return map[string][]byte{"ca.crt": []byte("x"), "ca.key": []byte("y")} }, ""),
		Entry("the key of another", func() map[string][]byte {
			certificate, _ := goodCA(20 * year)
			_, key := goodCA(20 * year)
			return map[string][]byte{"ca.crt": certificate, "ca.key": key}
		}, "key"),
		Entry("expired", func() map[string][]byte {
			certificate, key := goodCA(-time.Hour)
			return map[string][]byte{"ca.crt": certificate, "ca.key": key}
		}, "expired"),
		Entry("a key that Ray's TLS refuses", func() map[string][]byte {
			public, private, err := ed25519.GenerateKey(rand.Reader)
			Expect(err).NotTo(HaveOccurred())
			certificate, key := ca(20*year, public, private, nil)
			return map[string][]byte{"ca.crt": certificate, "ca.key": key}
		}, ""),
		Entry("no CA", func() map[string][]byte {
			private, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
			Expect(err).NotTo(HaveOccurred())
			certificate, key := ca(20*year, private.Public(), crypto.Signer(private), func(c *x509.Certificate) { c.IsCA = false })
			return map[string][]byte{"ca.crt": certificate, "ca.key": key}
		}, "CA"),
	)

	It("is used only once it is labelled for it", func() {
		put(good())
		label := func(patch string) {
			GinkgoHelper()
			secret := &corev1.Secret{ObjectMeta: metav1.ObjectMeta{Namespace: w.ns, Name: "ca-tls"}}
			Expect(w.admin.Patch(w.ctx, secret, client.RawPatch(types.MergePatchType, []byte(`{"metadata":{"labels":`+patch+`}}`)))).To(Succeed())
		}
		label("null")
		before := w.create("a", set(true, "spec", "suspend"))
		w.mark()
		w.policy("p", selecting(withCA))
		w.notAccepted("p", v1alpha1.ReasonCASecretNotLabelled, "kubectl label secret ca-tls -n "+w.ns+" raytls.io/ca=true")
		w.says("p", "a", v1alpha1.ReasonNotAccepted)
		w.untouched(before, uids(nil))
		label(`{"raytls.io/ca":"true"}`)
		w.encrypted("p", "a")
	})

	It("of cert-manager's shape signs the authority, which alone is trusted", func() {
		certificate, key := goodCA(20 * year)
		put(map[string][]byte{"tls.crt": certificate, "tls.key": key, "ca.crt": []byte("its own issuer")})
		w.policy("p", selecting(withCA))
		w.start("p", "a")
		secret, err := w.caSecret("a")
		Expect(err).NotTo(HaveOccurred())
		Expect(string(secret.Data["ca.crt"])).NotTo(ContainSubstring(string(certificate)))
		Expect(strings.Count(string(secret.Data["ca.crt"]), "BEGIN CERTIFICATE")).To(Equal(1))
		Expect(parsed(secret.Data["ca.crt"]).CheckSignatureFrom(parsed(certificate))).To(Succeed())
	})

	It("that ends soon cuts what it signs, and Accepted says so", func() {
		certificate, key := goodCA(100 * 24 * time.Hour)
		put(map[string][]byte{"ca.crt": certificate, "ca.key": key})
		w.policy("p", selecting(withCA))
		w.start("p", "a")
		w.eventually(func(g Gomega) {
			c := w.condition("p", v1alpha1.ConditionAccepted)
			g.Expect(c.Status).To(Equal(metav1.ConditionTrue))
			g.Expect(c.Reason).To(Equal(v1alpha1.ReasonValidityCut))
			g.Expect(c.Message).To(ContainSubstring("Secret ca-tls ends at"))
		})
		secret, err := w.caSecret("a")
		Expect(err).NotTo(HaveOccurred())
		profile, err := gencerttest.ParseProfile(secret.Data["profile"])
		Expect(err).NotTo(HaveOccurred())
		Expect(profile.IssuerNotAfter).To(BeTemporally("<=", time.Now().Add(100*24*time.Hour)))
		w.quiet()
	})

	It("that is replaced by one that cannot be used changes nothing, and by another good one replaces the authority, while the cluster runs", func() {
		put(good())
		w.policy("p", selecting(withCA))
		w.start("p", "a")
		w.settle()
		before, pods := w.get("a"), w.podsAsTheyAre("a")
		keys, err := w.caSecret("a")
		Expect(err).NotTo(HaveOccurred())

		replace(map[string][]byte{"ca.crt": []byte("x"), "ca.key": []byte("y")})
		w.notAccepted("p", v1alpha1.ReasonCASecretInvalid)
		w.upToDate("p", "a", metav1.ConditionFalse, v1alpha1.ReasonAuthorityChangePending, "Secret ca-tls", "until then the cluster keeps its authority")
		w.settle()
		same(Default, before, w.get("a"))
		now, err := w.caSecret("a")
		Expect(err).NotTo(HaveOccurred())
		Expect(now.Data).To(Equal(keys.Data))

		certificate, key := goodCA(20 * year)
		replace(map[string][]byte{"ca.crt": certificate, "ca.key": key})
		w.eventually(func(g Gomega) { g.Expect(w.status("a").Authority.Generation).To(BeEquivalentTo(2)) })
		w.upToDate("p", "a", metav1.ConditionFalse, v1alpha1.ReasonPodsOutdated, "3 of 3 pods")
		w.says("p", "a", v1alpha1.ReasonEncrypted)
		same(Default, before, w.get("a"))
		Expect(w.podsAsTheyAre("a")).To(Equal(pods), "nothing restarts")
		authority, err := w.authority("a")
		Expect(err).NotTo(HaveOccurred())
		Expect(parsed(authority.Data["authority.crt"]).CheckSignatureFrom(parsed(certificate))).To(Succeed())
	})

	It("that goes missing later leaves encrypted clusters as they are", func() {
		put(good())
		w.policy("p", selecting(withCA))
		w.start("p", "a")
		before := w.get("a")
		Expect(w.admin.Delete(w.ctx, &corev1.Secret{ObjectMeta: metav1.ObjectMeta{Namespace: w.ns, Name: "ca-tls"}})).To(Succeed())
		w.notAccepted("p", v1alpha1.ReasonCASecretNotFound)
		w.settle()
		same(Default, before, w.get("a"))
		w.hasKeys("a")
	})
})

var _ = Describe("A cluster that cannot be injected", func() {
	var w *world
	BeforeEach(func() { w = newWorld() })

	DescribeTable("is left alone, and the field in the way is named", func(reason string, message []string, prepare func(*world), edits ...edit) {
		if prepare != nil {
			prepare(w)
		}
		before := w.create("a", append(edits, set(true, "spec", "suspend"))...)
		w.mark()
		w.policy("p", selecting())
		w.says("p", "a", reason, message...)
		w.untouched(before, uids(nil))
		w.readySays("p", reason, message[0])
		Expect(gone(w.caSecret("a"))).To(BeTrue())
		Expect(gone(w.authority("a"))).To(BeTrue())

		// Mended, it goes on.
		w.ray.frozen = true
		w.update("a", func(c *unstructured.Unstructured) { c.Object["spec"] = w.rayCluster("a").Object["spec"] })
		w.encrypted("p", "a")
	},
		Entry("RAY_USE_TLS is set", v1alpha1.ReasonForeignTLS, []string{"spec.headGroupSpec.template.spec.containers[0].env[RAY_USE_TLS]", "remove it"}, nil,
			inHead(func(c map[string]any) { c["env"] = []any{map[string]any{"name": "RAY_USE_TLS", "value": "0"}} })),
		Entry("RAY_USE_TLS comes from a ConfigMap", v1alpha1.ReasonForeignTLS, []string{"envFrom[0]", "the ConfigMap settings sets RAY_USE_TLS"},
			func(w *world) {
				Expect(w.admin.Create(w.ctx, &corev1.ConfigMap{ObjectMeta: metav1.ObjectMeta{Namespace: w.ns, Name: "settings"}, Data: map[string]string{"RAY_USE_TLS": "1"}})).To(Succeed())
			},
			inHead(func(c map[string]any) {
				c["envFrom"] = []any{map[string]any{"configMapRef": map[string]any{"name": "settings"}}}
			})),
		Entry("KubeRay's own TLS is on", v1alpha1.ReasonForeignTLS, []string{"spec.tlsOptions.enabled", "set it to false"}, func(*world) { needsUnknownFields() }, set(true, "spec", "tlsOptions", "enabled")),
		Entry("something is mounted where the certificates go", v1alpha1.ReasonForeignTLS, []string{"volumeMounts[/etc/ray/tls]", "mount this volume elsewhere"}, nil,
			inHead(func(c map[string]any) {
				c["volumeMounts"] = []any{map[string]any{"name": "x", "mountPath": "/etc/ray/tls"}}
			})),
		Entry("a volume has a name of ours", v1alpha1.ReasonForeignTLS, []string{"volumes[raytls-certs]", "rename the volume"}, nil,
			set([]any{map[string]any{"name": "raytls-certs", "emptyDir": map[string]any{}}}, "spec", "headGroupSpec", "template", "spec", "volumes")),
		Entry("a template has no container", v1alpha1.ReasonInjectionConflict, []string{"spec.headGroupSpec.template.spec.containers", "the first one must run Ray"}, nil,
			set([]any{}, "spec", "headGroupSpec", "template", "spec", "containers")),
	)

	It("because of an init image without a user that it could share, is left alone", func() {
		before := w.create("a", set(true, "spec", "suspend"))
		w.mark()
		w.policy("p", selecting(func(s *v1alpha1.RayTLSPolicySpec) { s.Issuance.InitContainer.Image = allowedImage }))
		w.says("p", "a", v1alpha1.ReasonInjectionConflict, "securityContext.runAsUser")
		w.untouched(before, uids(nil))
	})
})
