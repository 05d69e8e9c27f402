//go:build e2e

package e2e

import (
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/sha256"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/pem"
	"math/big"
	"time"

	. "github.com/onsi/ginkgo/v2"
	. "github.com/onsi/gomega"
	rayv1 "github.com/ray-project/kuberay/ray-operator/apis/ray/v1"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/raytls/raytls/api/v1alpha1"
	"github.com/raytls/raytls/internal/injection"
)

var _ = Describe("What is somebody else's", func() {
	It("is never touched: TLS that a cluster sets up by itself, and a Secret of our name", func(ctx SpecContext) {
		n := newNamespace(ctx)
		n.create(ctx, newCluster("foreign", func(c *rayv1.RayCluster) {
			ray := &c.Spec.HeadGroupSpec.Template.Spec.Containers[0]
			ray.Env = append(ray.Env, corev1.EnvVar{Name: injection.EnvUseTLS, Value: "0"})
		}))
		theirs := &corev1.Secret{ObjectMeta: metav1.ObjectMeta{Name: injection.SecretName("taken")}, StringData: map[string]string{"ca.key": "theirs"}}
		n.create(ctx, theirs)
		n.create(ctx, newCluster("taken"))
		n.running(ctx, "foreign", 1, plaintext)
		n.running(ctx, "taken", 1, plaintext)
		n.ready(ctx, "foreign")
		n.ready(ctx, "taken")
		n.create(ctx, newPolicy("foreign", "foreign", immediate))
		n.create(ctx, newPolicy("taken", "taken", immediate))

		message := n.condition(ctx, "foreign", v1alpha1.ConditionReady, metav1.ConditionFalse, v1alpha1.ReasonForeignTLS)
		Expect(message).To(ContainSubstring("spec.headGroupSpec.template.spec.containers[0].env[RAY_USE_TLS]"))
		message = n.condition(ctx, "taken", v1alpha1.ConditionReady, metav1.ConditionFalse, v1alpha1.ReasonNameConflict)
		Expect(message).To(ContainSubstring(injection.SecretName("taken")))
		untouched(ctx, n, "foreign", 3*time.Second)
		untouched(ctx, n, "taken", 3*time.Second)
		Expect(n.secret(ctx, theirs.Name).Data).To(Equal(map[string][]byte{"ca.key": []byte("theirs")}))
	}, SpecTimeout(2*time.Minute))
})

var _ = Describe("A brought CA", func() {
	It("that is missing or malformed is reported, and once mended signs the cluster's authority", func(ctx SpecContext) {
		n := newNamespace(ctx)
		n.create(ctx, newCluster("brought", workers("small", 1)))
		n.running(ctx, "brought", 2, plaintext)
		n.ready(ctx, "brought")
		n.create(ctx, newPolicy("brought", "brought", immediate, func(p *v1alpha1.RayTLSPolicy) {
			p.Spec.CertificateAuthority.SecretRef = &v1alpha1.SecretReference{Name: "ca-tls"}
		}))
		message := n.condition(ctx, "brought", v1alpha1.ConditionAccepted, metav1.ConditionFalse, v1alpha1.ReasonCASecretNotFound)
		Expect(message).To(ContainSubstring("ca-tls"))

		certificate, key, root := newCA()
		secret := &corev1.Secret{ObjectMeta: metav1.ObjectMeta{Name: "ca-tls"}, Data: map[string][]byte{"ca.crt": []byte("no certificate"), "ca.key": key}}
		n.create(ctx, secret)
		message = n.condition(ctx, "brought", v1alpha1.ConditionAccepted, metav1.ConditionFalse, v1alpha1.ReasonCASecretNotLabelled)
		Expect(message).To(ContainSubstring(v1alpha1.LabelCA))
		secret.Labels = map[string]string{v1alpha1.LabelCA: v1alpha1.CATrue}
		Expect(api.Update(ctx, secret)).To(Succeed())
		message = n.condition(ctx, "brought", v1alpha1.ConditionAccepted, metav1.ConditionFalse, v1alpha1.ReasonCASecretInvalid)
		Expect(message).NotTo(ContainSubstring("PRIVATE KEY"))
		n.condition(ctx, "brought", v1alpha1.ConditionReady, metav1.ConditionFalse, v1alpha1.ReasonNotAccepted)
		untouched(ctx, n, "brought", 3*time.Second)

		secret.Data["ca.crt"] = certificate
		Expect(api.Update(ctx, secret)).To(Succeed())
		n.condition(ctx, "brought", v1alpha1.ConditionAccepted, metav1.ConditionTrue, v1alpha1.ReasonAccepted)
		n.encrypted(ctx, "brought", "brought", 2)
		n.joined(ctx, "brought", n.only("brought", isWorker))
		authority := parseCertificate(n.secret(ctx, injection.SecretName("brought")).Data["ca.crt"])
		Expect(authority.CheckSignatureFrom(root)).To(Succeed())
		trusted, untrusted := x509.NewCertPool(), x509.NewCertPool()
		trusted.AddCert(root)
		untrusted.AddCert(authority)
		untrusted.AddCert(parseCertificate(n.secret(ctx, injection.SecretName("brought")).Data["issuer.crt"]))
		leaf := parseCertificate([]byte(n.mustSh(ctx, n.only("brought", isHead).pod.Name, headContainer, "cat "+leafFile, "")))
		_, err := leaf.Verify(x509.VerifyOptions{Roots: trusted, Intermediates: untrusted, KeyUsages: []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth}})
		Expect(err).NotTo(HaveOccurred())
	}, SpecTimeout(3*time.Minute))
})

// newCA is a CA as one makes it with openssl for Ray's TLS guide, in PEM and parsed.
func newCA() (certificate, key []byte, parsed *x509.Certificate) {
	GinkgoHelper()
	private, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	Expect(err).NotTo(HaveOccurred())
	point, err := private.PublicKey.Bytes()
	Expect(err).NotTo(HaveOccurred())
	id := sha256.Sum256(point)
	template := &x509.Certificate{
		SerialNumber: big.NewInt(time.Now().UnixNano()), Subject: pkix.Name{CommonName: "brought CA"},
		NotBefore: time.Now().Add(-time.Hour), NotAfter: time.Now().AddDate(20, 0, 0),
		IsCA: true, BasicConstraintsValid: true, KeyUsage: x509.KeyUsageCertSign | x509.KeyUsageCRLSign, SubjectKeyId: id[:20],
	}
	der, err := x509.CreateCertificate(rand.Reader, template, template, private.Public(), private)
	Expect(err).NotTo(HaveOccurred())
	text, err := x509.MarshalPKCS8PrivateKey(private)
	Expect(err).NotTo(HaveOccurred())
	certificate = pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: der})
	return certificate, pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: text}), parseCertificate(certificate)
}

// parseCertificate parses the first certificate.
func parseCertificate(text []byte) *x509.Certificate {
	GinkgoHelper()
	block, _ := pem.Decode(text)
	Expect(block).NotTo(BeNil())
	certificate, err := x509.ParseCertificate(block.Bytes)
	Expect(err).NotTo(HaveOccurred())
	return certificate
}

var _ = Describe("Pods of every kind", func() {
	// Under restricted, the pods that KubeRay makes of injected templates are admitted only if all containers comply.
	It("are encrypted under Pod Security's restricted level", func(ctx SpecContext) {
		n := newNamespace(ctx, "pod-security.kubernetes.io/enforce=restricted", "pod-security.kubernetes.io/enforce-version=latest")
		n.create(ctx, newPolicy("all", ""))
		n.createEncrypted(ctx, "all", newCluster("restricted", workers("small", 1), everyPod(func(p *corev1.PodSpec) {
			p.SecurityContext = &corev1.PodSecurityContext{
				RunAsNonRoot: new(true), RunAsUser: new(int64(1000)), SeccompProfile: &corev1.SeccompProfile{Type: corev1.SeccompProfileTypeRuntimeDefault},
			}
			p.Containers[0].SecurityContext = &corev1.SecurityContext{
				AllowPrivilegeEscalation: new(false), Capabilities: &corev1.Capabilities{Drop: []corev1.Capability{"ALL"}},
			}
		})), 2)
		n.joined(ctx, "restricted", n.only("restricted", isWorker))
	}, SpecTimeout(2*time.Minute))

	It("are encrypted as root, and as a user that only the container sets", func(ctx SpecContext) {
		n := newNamespace(ctx)
		n.create(ctx, newPolicy("all", ""))
		n.createEncrypted(ctx, "all", newCluster("users", workers("small", 1), func(c *rayv1.RayCluster) {
			c.Spec.HeadGroupSpec.Template.Spec.SecurityContext = &corev1.PodSecurityContext{RunAsUser: new(int64(0))}
			worker := &c.Spec.WorkerGroupSpecs[0].Template.Spec
			worker.SecurityContext = &corev1.PodSecurityContext{RunAsUser: new(int64(1000))}
			worker.Containers[0].SecurityContext = &corev1.SecurityContext{RunAsUser: new(int64(1234))}
			worker.Containers[0].Env = []corev1.EnvVar{{Name: "HOME", Value: "/tmp"}}
		}), 2)
		worker := n.only("users", isWorker)
		n.joined(ctx, "users", worker)
		owner := func(pod, container string) string {
			return n.mustSh(ctx, pod, container, "stat -c '%u %a' "+keyFile, "")
		}
		Expect(owner(n.only("users", isHead).pod.Name, headContainer)).To(Equal("0 600\n"))
		Expect(owner(worker.pod.Name, workerContainer)).To(Equal("1234 600\n"))
	}, SpecTimeout(2*time.Minute))
})

var _ = Describe("A cluster with GCS fault tolerance", func() {
	It("is deleted without its cleanup hanging in our init container, even when keys and scripts are gone", func(ctx SpecContext) {
		n := newNamespace(ctx)
		n.create(ctx, newPolicy("all", ""))
		n.createEncrypted(ctx, "all", newCluster("durable", func(c *rayv1.RayCluster) {
			c.Spec.GcsFaultToleranceOptions = &rayv1.GcsFaultToleranceOptions{RedisAddress: "127.0.0.1:6399"}
		}), 1)
		Expect(n.rayCluster(ctx, "durable").GetFinalizers()).NotTo(BeEmpty(), "KubeRay means to clean up")
		Expect(api.Delete(ctx, n.rayCluster(ctx, "durable"))).To(Succeed())
		Expect(api.Delete(ctx, n.secret(ctx, injection.SecretName("durable")))).To(Succeed())
		Expect(kubectl(ctx, "-n", n.name, "delete", "configmap", "-l", v1alpha1.LabelManagedBy+"="+v1alpha1.ManagedBy)).To(ContainSubstring("deleted"))

		var cleanup podRecord
		Eventually(ctx, func(g Gomega) {
			pods := n.pods.all("durable", podRecord.cleanup)
			g.Expect(pods).To(HaveLen(1))
			cleanup = pods[0]
			status := initStatus(&cleanup.pod, injection.InitContainerName)
			g.Expect(status).NotTo(BeNil())
			g.Expect(status.State.Terminated).NotTo(BeNil())
			g.Expect(status.State.Terminated.ExitCode).To(BeZero())
		}).Should(Succeed())
		By("the cluster being gone once the Job has ended, well or not")
		Eventually(ctx, func(ctx context.Context) string {
			return kubectl(ctx, "-n", n.name, "get", "raycluster", "durable", "--ignore-not-found", "-o", "name")
		}).Should(BeEmpty())
	}, SpecTimeout(3*time.Minute))
})
