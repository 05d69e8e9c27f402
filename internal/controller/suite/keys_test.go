package suite_test

import (
	"fmt"
	"strings"
	"time"

	"github.com/google/go-cmp/cmp"
	. "github.com/onsi/ginkgo/v2"
	. "github.com/onsi/gomega"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/raytls/raytls/api/v1alpha1"
	"github.com/raytls/raytls/internal/gencert"
	"github.com/raytls/raytls/internal/gencert/gencerttest"
	"github.com/raytls/raytls/internal/injection"
	"github.com/raytls/raytls/internal/keys"
)

var _ = Describe("The keys of an encrypted cluster", func() {
	var (
		w      *world
		before *unstructured.Unstructured
		pods   map[string]any
	)
	BeforeEach(func() {
		w = newWorld()
		w.policy("p", selecting())
		w.start("p", "a")
		w.eventually(func(g Gomega) { g.Expect(w.status("a").Pods.Certified).To(BeEquivalentTo(3)) })
		w.settle()
		before, pods = w.get("a"), w.podsAsTheyAre("a")
		w.mark()
	})
	// unharmed expects that neither template nor pod was written.
	unharmed := func() {
		GinkgoHelper()
		w.settle()
		same(Default, before, w.get("a"))
		Expect(w.podsAsTheyAre("a")).To(Equal(pods))
		Expect(w.reason("a")).To(Equal(v1alpha1.ReasonEncrypted))
		Expect(w.status("a").Pods.Certified).To(BeEquivalentTo(3), "pods of an earlier issuer are still the authority's")
	}
	caSecret := func() *corev1.Secret {
		GinkgoHelper()
		s, err := w.caSecret("a")
		Expect(err).NotTo(HaveOccurred())
		return s
	}

	It("are a CA Secret that the cluster owns, and an authority that is in the operator's namespace only", onEveryKubeRay, func() {
		s := caSecret()
		Expect(s.OwnerReferences).To(HaveLen(1))
		Expect(s.OwnerReferences[0].UID).To(Equal(before.GetUID()))
		Expect(s.OwnerReferences[0].BlockOwnerDeletion).To(BeNil())
		for _, key := range []string{"ca.key", "issuer.crt", "chain.pem", "ca.crt", "profile", "formatVersion", "generation"} {
			Expect(s.Data).To(HaveKey(key))
		}
		Expect(s.Data).To(HaveLen(7))
		authority, err := w.authority("a")
		Expect(err).NotTo(HaveOccurred())
		Expect(string(s.Data["ca.key"])).NotTo(Equal(string(authority.Data["authority.key"])))
		Expect(string(s.Data["ca.crt"])).To(Equal(string(authority.Data["authority.crt"])), "pods trust the authority alone")
		status := w.status("a")
		profile, err := gencerttest.ParseProfile(s.Data["profile"])
		Expect(err).NotTo(HaveOccurred())
		Expect(status.Issuer.ExpiryTime.Time).To(BeTemporally("==", profile.IssuerNotAfter))
		Expect(status.Authority.Generation).To(BeEquivalentTo(1))
		Expect(status.Authority.ID).To(Equal(profile.Authority))
		Expect(status.EarliestExpiryTime).NotTo(BeNil())
		w.eventually(func(g Gomega) {
			g.Expect(w.getPolicy("p").Status.EarliestExpiryTime).To(Equal(status.EarliestExpiryTime))
			g.Expect(w.clusterCondition("a", v1alpha1.ConditionCertified).Status).To(Equal(metav1.ConditionTrue))
		})
	})

	It("get a new issuer when the CA Secret is deleted, and nothing else changes", func() {
		old := caSecret()
		Expect(w.admin.Delete(w.ctx, old)).To(Succeed())
		w.eventually(func(g Gomega) {
			s, err := w.caSecret("a")
			g.Expect(err).NotTo(HaveOccurred())
			g.Expect(s.Data["issuer.crt"]).NotTo(Equal(old.Data["issuer.crt"]))
			g.Expect(s.Data["ca.crt"]).To(Equal(old.Data["ca.crt"]), "the authority stays")
		})
		unharmed()
	})

	DescribeTable("are mended when the CA Secret is altered", func(newIssuer bool, alter func(*corev1.Secret)) {
		old := caSecret()
		altered := old.DeepCopy()
		alter(altered)
		Expect(w.admin.Update(w.ctx, altered)).To(Succeed())
		w.eventually(func(g Gomega) {
			s := caSecret()
			g.Expect(s.ResourceVersion).NotTo(Equal(altered.ResourceVersion))
			g.Expect(s.Data).To(HaveLen(7))
			g.Expect(s.Data["ca.crt"]).To(Equal(old.Data["ca.crt"]))
			g.Expect(s.Labels).To(Equal(old.Labels))
			g.Expect(s.OwnerReferences).To(Equal(old.OwnerReferences))
			if newIssuer {
				g.Expect(s.Data["ca.key"]).NotTo(Equal(old.Data["ca.key"]))
				g.Expect(s.Data["ca.key"]).NotTo(Equal(altered.Data["ca.key"]))
			} else {
				g.Expect(cmp.Diff(old.Data, s.Data)).To(BeEmpty())
			}
		})
		unharmed()
	},
		Entry("its key is another", true, func(s *corev1.Secret) { s.Data["ca.key"] = []byte("x") }),
		Entry("its key is gone", true, func(s *corev1.Secret) { delete(s.Data, "ca.key") }),
		Entry("its issuer is another", true, func(s *corev1.Secret) { s.Data["issuer.crt"] = s.Data["ca.crt"] }),
		Entry("its chain has more", true, func(s *corev1.Secret) { s.Data["chain.pem"] = append(s.Data["chain.pem"], s.Data["ca.crt"]...) }),
		Entry("its bundle trusts more", true, func(s *corev1.Secret) { s.Data["ca.crt"] = append(s.Data["ca.crt"], s.Data["issuer.crt"]...) }),
		Entry("its profile is another", false, func(s *corev1.Secret) { s.Data["profile"] = []byte("revision=1\n") }),
		Entry("it holds more", false, func(s *corev1.Secret) { s.Data["more"] = []byte("x") }),
		Entry("it belongs to nobody", false, func(s *corev1.Secret) { s.OwnerReferences = nil }),
		Entry("it has lost a label", true, func(s *corev1.Secret) { delete(s.Labels, v1alpha1.LabelComponent) }),
		Entry("it has lost all labels", true, func(s *corev1.Secret) { s.Labels = nil }),
	)

	It("follow a change of podCertificate by a change of the Secret alone", func() {
		old := caSecret()
		w.updatePolicy("p", func(p *v1alpha1.RayTLSPolicy) {
			p.Spec.PodCertificate.HeadDNSNames = []string{"ray.example.com"}
			p.Spec.PodCertificate.HeadServiceShortName = true
		})
		w.eventually(func(g Gomega) {
			profile, err := gencerttest.ParseProfile(caSecret().Data["profile"])
			g.Expect(err).NotTo(HaveOccurred())
			g.Expect(profile.HeadDNSNames).To(Equal([]string{"ray.example.com"}))
			g.Expect(profile.HeadServiceShortName).To(BeTrue())
		})
		Expect(caSecret().Data["ca.key"]).To(Equal(old.Data["ca.key"]), "the issuer stays")
		unharmed()
	})

	It("are replaced while the cluster runs, and each pod gets its part when it is created anew", func() {
		old := caSecret()
		Eventually(func() bool { return time.Now().Truncate(time.Second).After(w.status("a").Authority.IssuedTime.Time) }).Should(BeTrue())
		w.updatePolicy("p", func(p *v1alpha1.RayTLSPolicy) {
			p.Spec.CertificateAuthority.ReplaceIssuedBefore = &metav1.Time{Time: time.Now().Truncate(time.Second)}
		})
		w.eventually(func(g Gomega) {
			status := w.status("a")
			g.Expect(status.Authority.Generation).To(BeEquivalentTo(2))
			g.Expect(status.Authority.Earlier).To(HaveLen(1))
			g.Expect(status.Authority.Earlier[0].Pods).To(BeEquivalentTo(3))
			g.Expect(w.getPolicy("p").Status.OutdatedPods).To(BeEquivalentTo(3))
		})
		w.upToDate("p", "a", metav1.ConditionFalse, v1alpha1.ReasonPodsOutdated, "3 of generation 1")
		w.says("p", "a", v1alpha1.ReasonEncrypted)
		w.settle()
		same(Default, before, w.get("a"))
		Expect(w.podsAsTheyAre("a")).To(Equal(pods), "nothing restarts")
		authority, err := w.authority("a")
		Expect(err).NotTo(HaveOccurred())
		secret := caSecret()
		for _, s := range []*corev1.Secret{authority, secret} {
			keys := 0
			for _, value := range s.Data {
				keys += strings.Count(string(value), "-----BEGIN PRIVATE KEY-----")
			}
			Expect(keys).To(Equal(1), "Secret %s holds no other private key", s.Name)
			Expect(s.Data["formatVersion"]).To(BeEquivalentTo("2"))
		}
		Expect(strings.Count(string(secret.Data["chain.pem"]), "BEGIN CERTIFICATE")).To(Equal(2), "old pods accept new ones")
		Expect(strings.Count(string(secret.Data["ca.crt"]), "BEGIN CERTIFICATE")).To(Equal(2), "new pods accept old ones")
		Expect(secret.Data["ca.key"]).NotTo(Equal(old.Data["ca.key"]))
		w.mark()
		w.quiet()

		Expect(w.admin.Delete(w.ctx, &w.pods("a")[2], gracePeriod0)).To(Succeed())
		w.eventually(func(g Gomega) {
			g.Expect(w.status("a").Pods).To(Equal(v1alpha1.PodCounts{Total: 3, Certified: 1, Outdated: 2}))
			w.saying(g, "p", "a", v1alpha1.ReasonEncrypted)
		})
		w.upToDate("p", "a", metav1.ConditionFalse, v1alpha1.ReasonPodsOutdated, "2 of 3 pods")
		Expect(w.admin.DeleteAllOf(w.ctx, &corev1.Pod{}, inNamespace(w.ns), gracePeriod0)).To(Succeed())
		w.eventually(func(g Gomega) { g.Expect(w.status("a").Pods).To(Equal(v1alpha1.PodCounts{Total: 3, Certified: 3})) })
		w.upToDate("p", "a", metav1.ConditionTrue, v1alpha1.ReasonUpToDate)
	})

	It("are not made anew while pods trust an authority that is lost; the issuer is kept, and a restore mends it", func() {
		issuer := caSecret()
		lost, err := w.authority("a")
		Expect(err).NotTo(HaveOccurred())
		Expect(w.admin.Delete(w.ctx, lost)).To(Succeed())
		w.says("p", "a", v1alpha1.ReasonAuthorityLost, "restore it from a backup", lost.Name)
		w.quiet()
		Expect(caSecret().Data).To(Equal(issuer.Data))
		same(Default, before, w.get("a"))
		Expect(gone(w.authority("a"))).To(BeTrue())
		w.readySays("p", v1alpha1.ReasonAuthorityLost)
		lost.ResourceVersion, lost.UID = "", ""
		Expect(w.admin.Create(w.ctx, lost)).To(Succeed())
		w.says("p", "a", v1alpha1.ReasonEncrypted)
		unharmed()
	})

	It("are made anew when the authority is lost and the cluster is suspended", func() {
		lost, err := w.authority("a")
		Expect(err).NotTo(HaveOccurred())
		Expect(w.admin.Delete(w.ctx, lost)).To(Succeed())
		w.says("p", "a", v1alpha1.ReasonAuthorityLost)
		w.update("a", set(true, "spec", "suspend"))
		w.eventually(func(g Gomega) {
			made, err := w.authority("a")
			g.Expect(err).NotTo(HaveOccurred())
			g.Expect(made.Data["authority.crt"]).NotTo(Equal(lost.Data["authority.crt"]))
			g.Expect(caSecret().Data["ca.crt"]).To(Equal(made.Data["authority.crt"]))
		})
	})

	It("are not made from a restored authority that has the number of the one in use, even without pods", func() {
		w.update("a", set(true, "spec", "suspend"))
		w.says("p", "a", v1alpha1.ReasonSuspended)
		issuer := caSecret()
		own, err := w.authority("a")
		Expect(err).NotTo(HaveOccurred())
		stored, err := keys.Read(client.ObjectKeyFromObject(before), own, nil)
		Expect(err).NotTo(HaveOccurred())
		other, _, _, err := keys.Next(keys.Store{Cluster: client.ObjectKeyFromObject(before)}, stored.Settings, keys.Parent{}, keys.Pods{}, time.Now())
		Expect(err).NotTo(HaveOccurred())
		restored := own.DeepCopy()
		restored.Data, err = other.AuthorityData()
		Expect(err).NotTo(HaveOccurred())
		Expect(w.admin.Update(w.ctx, restored)).To(Succeed())
		w.says("p", "a", v1alpha1.ReasonAuthorityRestored, other.Authority.ID(), "authority "+stored.Authority.ID()+" was in use")
		w.settle()
		Expect(caSecret().Data).To(Equal(issuer.Data))
		Expect(w.status("a").Authority.ID).To(Equal(stored.Authority.ID()), "the record is what the restored one is recognised by")
		restored.Data = own.Data
		Expect(w.admin.Update(w.ctx, restored)).To(Succeed())
		w.says("p", "a", v1alpha1.ReasonSuspended)
	})

	It("are not published from an authority that was altered", func() {
		issuer := caSecret()
		authority, err := w.authority("a")
		Expect(err).NotTo(HaveOccurred())
		authority.Data["authority.key"] = []byte("x")
		Expect(w.admin.Update(w.ctx, authority)).To(Succeed())
		w.says("p", "a", v1alpha1.ReasonAuthorityLost, "cannot be used")
		w.settle()
		Expect(caSecret().Data).To(Equal(issuer.Data))
		same(Default, before, w.get("a"))
	})

	It("keep working for a cluster that is created anew under its name, under the same authority", func() {
		authority, err := w.authority("a")
		Expect(err).NotTo(HaveOccurred())
		operator.kill() // so that the sweep of the deleted cluster cannot come first
		Expect(w.admin.DeleteAllOf(w.ctx, &corev1.Pod{}, inNamespace(w.ns), gracePeriod0)).To(Succeed())
		Expect(w.admin.Delete(w.ctx, before)).To(Succeed())
		w.ray.frozen = true
		again := w.create("a")
		restartOperator()
		w.eventually(func(g Gomega) { g.Expect(injectedTemplates(w.get("a"))).To(Equal(2)) })
		w.ray.frozen = false
		w.eventually(func(g Gomega) {
			w.saying(g, "p", "a", v1alpha1.ReasonEncrypted)
			g.Expect(w.status("a").Pods.Certified).To(BeEquivalentTo(3))
			g.Expect(caSecret().OwnerReferences[0].UID).To(Equal(again.GetUID()))
		})
		now, err := w.authority("a")
		Expect(err).NotTo(HaveOccurred())
		Expect(now.Data["authority.crt"]).To(Equal(authority.Data["authority.crt"]))
	})

	It("go with the cluster", onEveryKubeRay, func() {
		Expect(w.admin.DeleteAllOf(w.ctx, &corev1.Pod{}, inNamespace(w.ns), gracePeriod0)).To(Succeed())
		Expect(w.admin.Delete(w.ctx, before)).To(Succeed())
		Eventually(func(g Gomega) {
			g.Expect(gone(w.authority("a"))).To(BeTrue())
			g.Expect(gone(w.scripts())).To(BeTrue())
			g.Expect(w.tls("a")).To(BeNil(), "its RayClusterTLS goes too")
			g.Expect(w.getPolicy("p").Status.Clusters).To(BeZero())
		}).Should(Succeed())
	})

	It("include the scripts, which are made again when they are deleted or replaced", func() {
		scripts, err := w.scripts()
		Expect(err).NotTo(HaveOccurred())
		Expect(*scripts.Immutable).To(BeTrue())
		Expect(w.admin.Delete(w.ctx, scripts)).To(Succeed())
		w.eventually(func(g Gomega) {
			_, err := w.scripts()
			g.Expect(err).NotTo(HaveOccurred())
		})
		scripts, err = w.scripts()
		Expect(err).NotTo(HaveOccurred())
		Expect(w.admin.Delete(w.ctx, scripts)).To(Succeed())
		evil := &corev1.ConfigMap{ObjectMeta: metav1.ObjectMeta{Namespace: w.ns, Name: scripts.Name, Labels: scripts.Labels}, Data: map[string]string{"gencert_head.sh": "evil"}}
		Eventually(func() error { return w.admin.Create(w.ctx, evil.DeepCopy()) }).Should(Or(Succeed(), MatchError(ContainSubstring("already exists"))))
		w.eventually(func(g Gomega) {
			now, err := w.scripts()
			g.Expect(err).NotTo(HaveOccurred())
			g.Expect(now.Data).To(BeEmpty())
			g.Expect(now.BinaryData).To(And(Not(BeEmpty()), Equal(scripts.BinaryData)))
		})
		unharmed()
	})
})

var _ = Describe("Waiting pods", func() {
	It("are annotated once when what they wait for is there", func() {
		w := newWorld()
		w.policy("p", selecting())
		w.ray.certificate = canaryHangs
		w.ray.frozen = true
		w.start("p", "a")
		// Times of creation are whole seconds: only one later is certain to be later.
		later := func(than time.Time) {
			Eventually(func() bool { return time.Since(than) > 2*time.Second }).Should(BeTrue())
		}
		secret, err := w.caSecret("a")
		Expect(err).NotTo(HaveOccurred())
		later(secret.CreationTimestamp.Time)
		w.ray.frozen = false
		w.eventually(func(g Gomega) { g.Expect(w.pods("a")).To(HaveLen(3)) })
		w.settle()
		for _, p := range w.pods("a") {
			Expect(p.Annotations).NotTo(HaveKey(v1alpha1.AnnotationSync), "what was there when the pod was made needs no sync")
		}
		later(w.pods("a")[2].CreationTimestamp.Time)
		w.mark()
		Expect(w.admin.Delete(w.ctx, secret)).To(Succeed())
		w.eventually(func(g Gomega) {
			for _, p := range w.pods("a") {
				g.Expect(p.Annotations).To(HaveKey(v1alpha1.AnnotationSync))
			}
		})
		w.settle()
		patches := 0
		for _, write := range w.writes() {
			// One from a cache that lagged behind is refused, and changes nothing.
			if strings.HasPrefix(write, "PATCH pods") && strings.HasSuffix(write, " 200") {
				patches++
			}
		}
		Expect(patches).To(Equal(3), "%v", w.writes())
		w.quiet()
		w.ray.certificate = nil
		w.eventually(func(g Gomega) { g.Expect(w.status("a").Pods.Certified).To(BeEquivalentTo(3)) })
	})
})

var _ = Describe("An object of a name that the operator needs", func() {
	var w *world
	BeforeEach(func() { w = newWorld() })

	conflict := func(object interface {
		metav1.Object
		GetResourceVersion() string
	}, kind string,
	) {
		GinkgoHelper()
		w.policy("p", selecting())
		w.ray.frozen = true
		before := w.create("a")
		w.says("p", "a", v1alpha1.ReasonNameConflict, kind+" "+object.GetName(), "not the operator's")
		w.settle()
		same(Default, before, w.get("a"))
		w.readySays("p", v1alpha1.ReasonNameConflict)
		w.eventually(func(g Gomega) {
			g.Expect(w.events()).To(ContainElement(And(HavePrefix("Warning NameConflict: "+kind+" "+object.GetName()), ContainSubstring("not the operator's"))))
		})
	}

	It("and is a foreign Secret where the CA Secret goes, is never overwritten, and asks for it to be removed", func() {
		s := &corev1.Secret{ObjectMeta: metav1.ObjectMeta{Namespace: w.ns, Name: injection.SecretName("a")}, Data: map[string][]byte{"mine": []byte("x")}}
		Expect(w.admin.Create(w.ctx, s)).To(Succeed())
		conflict(s, "Secret")
		now, err := w.caSecret("a")
		Expect(err).NotTo(HaveOccurred())
		Expect(now.ResourceVersion).To(Equal(s.ResourceVersion))
		Expect(w.admin.Delete(w.ctx, s)).To(Succeed())
		w.encrypted("p", "a")
	})

	It("and is a foreign ConfigMap where the scripts go, is never overwritten", func() {
		name, err := gencert.ConfigMapName(injection.Revision)
		Expect(err).NotTo(HaveOccurred())
		c := &corev1.ConfigMap{ObjectMeta: metav1.ObjectMeta{Namespace: w.ns, Name: name}, Data: map[string]string{"mine": "x"}}
		Expect(w.admin.Create(w.ctx, c)).To(Succeed())
		conflict(c, "ConfigMap")
		now, err := w.scripts()
		Expect(err).NotTo(HaveOccurred())
		Expect(now.ResourceVersion).To(Equal(c.ResourceVersion))
	})

	It("and is a foreign Secret where the authority goes, is never overwritten", func() {
		key := w.authorityKey("a")
		s := &corev1.Secret{ObjectMeta: metav1.ObjectMeta{Namespace: key.Namespace, Name: key.Name}, Data: map[string][]byte{"mine": []byte("x")}}
		Expect(w.admin.Create(w.ctx, s)).To(Succeed())
		conflict(s, "Secret")
		now, err := w.authority("a")
		Expect(err).NotTo(HaveOccurred())
		Expect(now.ResourceVersion).To(Equal(s.ResourceVersion))
		Expect(w.admin.Delete(w.ctx, s)).To(Succeed())
		w.update("a", annotation("look", "again"))
		w.encrypted("p", "a")
	})

	DescribeTable("may be long", func(length int) {
		name := ""
		for i := range length {
			name += fmt.Sprint(i % 10)
		}
		name = "c" + name[1:]
		w.policy("p", selecting())
		w.ray.frozen = length > 53 // KubeRay refuses those
		w.start("p", name)
		w.hasKeys(name)
	}, Entry("KubeRay's limit", 53), Entry("a label's", 63), Entry("the longest that leaves room for the Secret's name", 225))

	It("cannot be given to a cluster whose name leaves no room for it, and that is said", func() {
		name := "c"
		for len(name) < 253 {
			name += "x"
		}
		w.policy("p", selecting())
		w.ray.frozen = true
		before := w.create(name)
		w.says("p", name, v1alpha1.ReasonInjectionConflict, "name")
		w.settle()
		same(Default, before, w.get(name))
	})
})
