package suite_test

import (
	"slices"
	"strings"
	"time"

	. "github.com/onsi/ginkgo/v2"
	. "github.com/onsi/gomega"
	rayv1 "github.com/ray-project/kuberay/ray-operator/apis/ray/v1"
	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/raytls/raytls/api/v1alpha1"
	"github.com/raytls/raytls/internal/injection"
	"github.com/raytls/raytls/internal/keys"
	"github.com/raytls/raytls/internal/pki"
)

// issuerSecret is the cluster's CA Secret since that many generations were revoked.
func (w *world) issuerSecret(cluster string, revokedBefore int64) (*corev1.Secret, error) {
	s := &corev1.Secret{}
	key := client.ObjectKey{Namespace: w.ns, Name: keys.IssuerSecretName(client.ObjectKey{Namespace: w.ns, Name: cluster}, revokedBefore)}
	return s, w.admin.Get(w.ctx, key, s)
}

// revoke has the policy revoke the authorities that were issued until now.
func (w *world) revoke(policy, cluster string, more ...func(*v1alpha1.RayTLSPolicySpec)) {
	GinkgoHelper()
	before := metav1.NewTime(w.status(cluster).Authority.IssuedTime.Add(time.Second))
	w.updatePolicy(policy, func(p *v1alpha1.RayTLSPolicy) {
		p.Spec.CertificateAuthority.RevokeIssuedBefore = &before
		p.Spec = with(p.Spec, more...)
	})
}

func revokingNow(s *v1alpha1.RayTLSPolicySpec) { s.CertificateAuthority.RevokeNow = true }

// revoked waits until a revocation is over, and expects that nothing of the authority before is left.
func (w *world) revoked(policy, cluster string, generation int64, before *corev1.Secret) {
	GinkgoHelper()
	w.eventually(func(g Gomega) {
		status := w.status(cluster)
		g.Expect(status.Authority.RevokedBeforeGeneration).To(Equal(generation))
		g.Expect(status.Authority.Generation).To(BeNumerically(">=", generation))
		g.Expect(status.Rollout).To(BeNil())
		g.Expect(status.PendingRestart).To(BeNil())
		g.Expect(status.Pods.Certified).To(Equal(status.Pods.Total))
		err := w.admin.Get(w.ctx, client.ObjectKeyFromObject(before), &corev1.Secret{})
		g.Expect(apierrors.IsNotFound(err)).To(BeTrue(), "the CA Secret of before is gone")
	})
	w.encrypted(policy, cluster)
	w.upToDate(policy, cluster, metav1.ConditionTrue, v1alpha1.ReasonUpToDate)
	now, err := w.issuerSecret(cluster, generation)
	Expect(err).NotTo(HaveOccurred())
	for _, pod := range w.pods(cluster) {
		Expect(mountedIssuer(&pod)).To(Equal(now.Name))
	}
	unrelated(before, now)
}

// injectedFor are the numbers of the CA Secrets that the templates of a cluster mount.
func injectedFor(c *unstructured.Unstructured) []int64 {
	var out []int64
	for _, t := range injection.Inspect(c.Object["spec"].(map[string]any), c.GetName()) {
		if t.State == injection.Injected {
			out = append(out, t.Parameters.RevokedBefore)
		}
	}
	return out
}

// unrelated expects that pods of two CA Secrets refuse each other.
func unrelated(before, now *corev1.Secret) {
	GinkgoHelper()
	parse := func(data []byte) []string {
		certificates, err := pki.ParseBundle(data)
		Expect(err).NotTo(HaveOccurred())
		var out []string
		for _, c := range certificates {
			out = append(out, pki.IDOf(c), pki.SignerOf(c))
		}
		return out
	}
	var old []string
	for _, key := range []string{"chain.pem", "ca.crt"} {
		old = append(old, parse(before.Data[key])...)
	}
	for _, key := range []string{"chain.pem", "ca.crt"} {
		for _, id := range parse(now.Data[key]) {
			Expect(old).NotTo(ContainElement(id), "no certificate connects the two")
		}
	}
}

// earlier makes a pod what it would be by the template of before a first revocation.
func earlier(pod *corev1.Pod, secret string) {
	for i := range pod.Spec.Volumes {
		if pod.Spec.Volumes[i].Name == injection.IssuerVolume {
			pod.Spec.Volumes[i].Secret.SecretName = secret
		}
	}
	for i := range pod.Spec.InitContainers {
		for j := range pod.Spec.InitContainers[i].Env {
			env := &pod.Spec.InitContainers[i].Env[j]
			env.Value = strings.Replace(env.Value, `"revokedBefore":2`, `"revokedBefore":0`, 1)
		}
	}
}

var _ = Describe("Revoking an authority", func() {
	var (
		w   *world
		old []string
		ca  *corev1.Secret
	)
	begin := func(policy v1alpha1.RayTLSPolicySpec, edits ...edit) {
		GinkgoHelper()
		w.policy("p", policy)
		w.start("p", "a", edits...)
		w.eventually(func(g Gomega) { g.Expect(w.status("a").Pods.Certified).To(BeEquivalentTo(3)) })
		w.settle()
		old = names(w.pods("a"))
		var err error
		ca, err = w.caSecret("a")
		Expect(err).NotTo(HaveOccurred())
		w.mark()
	}
	// waits expects that the revocation waits, and that the message says what that means.
	waits := func(reason, by string, message ...string) {
		GinkgoHelper()
		w.eventually(func(g Gomega) {
			w.current(g, "p", "a")
			pending := w.status("a").PendingRestart
			g.Expect(pending).NotTo(BeNil())
			g.Expect(pending.Action).To(Equal(v1alpha1.ActionRevoke))
			g.Expect(pending.Reason).To(Equal(reason), pending.Message)
			g.Expect(pending.BlockedBy).To(Equal(by))
			for _, part := range append(message, "until all pods are restarted, they trust it") {
				g.Expect(pending.Message).To(ContainSubstring(part))
			}
		})
		w.upToDate("p", "a", metav1.ConditionFalse, v1alpha1.ReasonRevocationPending, "the policy revokes the authority", "they trust it")
		Expect(w.reason("a")).To(Equal(v1alpha1.ReasonEncrypted), "the cluster goes on as it was")
	}
	untouched := func() {
		GinkgoHelper()
		w.settle()
		Expect(w.deleted()).To(BeEmpty())
		Expect(w.clusterWrites()).To(BeEmpty())
		now, err := w.caSecret("a")
		Expect(err).NotTo(HaveOccurred())
		Expect(now.Data).To(Equal(ca.Data), "pods that start now must be able to join")
	}
	once := func() {
		GinkgoHelper()
		Expect(w.deleted()).To(ConsistOf(old), "each pod is restarted once")
	}
	BeforeEach(func() { w = newWorld() })

	It("restarts all pods together at once where that is allowed, and never again", onEveryKubeRay, func() {
		begin(selecting(immediately))
		w.revoke("p", "a")
		w.revoked("p", "a", 2, ca)
		once()
		Expect(w.events()).To(ContainElement(ContainSubstring("Normal Revoking: the policy revokes the authority, which was issued before")))
		Expect(w.events()).To(ContainElement(ContainSubstring("Normal Revoked: no pod has a certificate of a generation below 2")))
		w.quiet()
		second, err := w.issuerSecret("a", 2)
		Expect(err).NotTo(HaveOccurred())
		old = names(w.pods("a"))
		w.mark()
		w.revoke("p", "a")
		w.revoked("p", "a", 3, second)
		once()
		w.quiet()
	})

	It("waits for an approval, which counts once", func() {
		begin(selecting())
		w.revoke("p", "a")
		waits(v1alpha1.ReasonAwaitingApproval, "", "kubectl patch")
		untouched()
		w.approve("p", "a")
		w.revoked("p", "a", 2, ca)
		once()
		w.mark()
		w.revoke("p", "a")
		waits(v1alpha1.ReasonAwaitingApproval, "")
		w.settle()
		Expect(w.deleted()).To(BeEmpty())
	})

	It("happens when the cluster stops, and its pods come back with the new authority alone", func() {
		begin(selecting())
		w.revoke("p", "a")
		waits(v1alpha1.ReasonAwaitingApproval, "")
		w.update("a", set(true, "spec", "suspend"))
		w.eventually(func(g Gomega) {
			g.Expect(w.pods("a")).To(BeEmpty())
			g.Expect(gone(w.caSecret("a"))).To(BeTrue())
			g.Expect(w.status("a").Authority.Generation).To(BeEquivalentTo(2))
			g.Expect(w.reason("a")).To(Equal(v1alpha1.ReasonSuspended))
		})
		w.update("a", set(false, "spec", "suspend"))
		w.eventually(func(g Gomega) { g.Expect(w.status("a").Pods.Certified).To(BeEquivalentTo(3)) })
		w.revoked("p", "a", 2, ca)
		Expect(w.deleted()).To(BeEmpty())
	})

	It("waits for a RayJob, even if it is approved, unless it is to happen now", func() {
		begin(selecting(immediately))
		job := &rayv1.RayJob{ObjectMeta: metav1.ObjectMeta{Namespace: w.ns, Name: "train"}, Spec: rayv1.RayJobSpec{Entrypoint: "true"}}
		Expect(w.admin.Create(w.ctx, job)).To(Succeed())
		job.Status.RayClusterName, job.Status.JobDeploymentStatus = "a", rayv1.JobDeploymentStatusRunning
		Expect(w.admin.Status().Update(w.ctx, job)).To(Succeed())
		w.revoke("p", "a")
		waits(v1alpha1.ReasonBlocked, "RayJob/train", "a restart would fail it", "revokeNow lets it begin all the same")
		w.approve("p", "a")
		untouched()
		waits(v1alpha1.ReasonBlocked, "RayJob/train")
		w.revoke("p", "a", revokingNow)
		w.revoked("p", "a", 2, ca)
		once()
	})

	It("waits for a pod that asks to be left alone, and stops for a paused policy even if it is to happen now", func() {
		begin(selecting(immediately))
		pod := w.pods("a")[0]
		hold := func(value string) {
			GinkgoHelper()
			patch := client.RawPatch("application/merge-patch+json", []byte(`{"metadata":{"annotations":{"karpenter.sh/do-not-disrupt":"`+value+`"}}}`))
			Expect(w.admin.Patch(w.ctx, pod.DeepCopy(), patch)).To(Succeed())
		}
		hold("true")
		w.eventually(func(g Gomega) { w.saying(g, "p", "a", v1alpha1.ReasonEncrypted) })
		w.revoke("p", "a")
		waits(v1alpha1.ReasonBlocked, "annotation karpenter.sh/do-not-disrupt")
		w.revoke("p", "a", revokingNow, paused)
		waits(v1alpha1.ReasonPaused, "", "spec.paused")
		untouched()
		w.updatePolicy("p", func(p *v1alpha1.RayTLSPolicy) { p.Spec.Paused = false })
		w.revoked("p", "a", 2, ca)
		once()
	})

	It("that could not make an authority begins when it can", func() {
		begin(selecting(immediately))
		w.revoke("p", "a", func(s *v1alpha1.RayTLSPolicySpec) {
			s.CertificateAuthority.SecretRef = &v1alpha1.SecretReference{Name: "missing"}
		})
		waits(v1alpha1.ReasonNotAccepted, "", "missing")
		untouched()
		w.updatePolicy("p", func(p *v1alpha1.RayTLSPolicy) { p.Spec.CertificateAuthority.SecretRef = nil })
		w.revoked("p", "a", 2, ca)
		once()
	})

	It("makes one authority where a replacement is asked for as well", func() {
		begin(selecting(immediately))
		w.eventually(func(g Gomega) { // the operator makes one issuer in ten seconds
			g.Expect(time.Since(w.status("a").Authority.IssuedTime.Time)).To(BeNumerically(">", 12*time.Second))
		})
		w.revoke("p", "a", func(s *v1alpha1.RayTLSPolicySpec) {
			s.CertificateAuthority.ReplaceIssuedBefore = s.CertificateAuthority.RevokeIssuedBefore.DeepCopy()
		})
		w.revoked("p", "a", 2, ca)
		once()
		Expect(w.status("a").Authority.Generation).To(BeEquivalentTo(2))
		w.quiet()
	})

	It("takes pods along that come up between its writes", func() {
		begin(selecting(immediately))
		made := 0
		w.ray.admission = func(pod *corev1.Pod) {
			if made++; made <= 2 { // KubeRay's cache lags behind
				earlier(pod, ca.Name)
			}
		}
		w.revoke("p", "a")
		w.revoked("p", "a", 2, ca)
		Expect(w.deleted()).To(HaveLen(5), "three of before, and two that came from the earlier template")
	})

	It("after each single write ends the same, with one restart per pod", func() {
		begin(selecting(immediately))
		w.revoke("p", "a")
		deaths := w.dying(func(g Gomega) {
			status := w.status("a")
			g.Expect(status.Authority.RevokedBeforeGeneration).To(BeEquivalentTo(2))
			g.Expect(status.Rollout).To(BeNil())
			g.Expect(status.Pods).To(Equal(v1alpha1.PodCounts{Total: 3, Certified: 3}))
			g.Expect(gone(w.caSecret("a"))).To(BeTrue())
		})
		Expect(deaths).To(BeNumerically(">", 8))
		w.revoked("p", "a", 2, ca)
		once()
		Expect(w.status("a").Authority.Generation).To(BeEquivalentTo(2), "one authority is made")
	})

	Context("leaves no way back:", func() {
		var (
			before    *unstructured.Unstructured
			authority *corev1.Secret
			recorded  v1alpha1.RayClusterTLSStatus
		)
		BeforeEach(func() {
			begin(selecting(immediately))
			before, recorded = w.get("a"), w.status("a")
			var err error
			authority, err = w.authority("a")
			Expect(err).NotTo(HaveOccurred())
			w.revoke("p", "a")
			w.revoked("p", "a", 2, ca)
			w.settle()
			w.mark()
		})
		current := func() *corev1.Secret {
			GinkgoHelper()
			s, err := w.issuerSecret("a", 2)
			Expect(err).NotTo(HaveOccurred())
			return s
		}

		It("a CA Secret of before is deleted again, and so it is without a policy", func() {
			for _, covered := range []bool{true, false} {
				if !covered {
					w.deletePolicy("p")
					w.eventually(func(g Gomega) { w.policyGone(g, "p") })
				}
				restored := ca.DeepCopy()
				restored.ResourceVersion, restored.UID = "", ""
				Expect(w.admin.Create(w.ctx, restored)).To(Succeed())
				w.eventually(func(g Gomega) { g.Expect(gone(w.caSecret("a"))).To(BeTrue()) })
			}
			w.settle()
			Expect(w.deleted()).To(BeEmpty())
			Expect(w.clusterWrites()).To(BeEmpty())
		})

		It("an authority's Secret of before is refused", func() {
			keysNow, pods := current(), uids(w.pods("a"))
			stored, err := w.authority("a")
			Expect(err).NotTo(HaveOccurred())
			stored.Data = authority.Data
			Expect(w.admin.Update(w.ctx, stored)).To(Succeed())
			w.says("p", "a", v1alpha1.ReasonAuthorityRestored, "every generation below 2 was revoked")
			w.update("a", set(true, "spec", "suspend"))
			w.eventually(func(g Gomega) { g.Expect(w.pods("a")).To(BeEmpty()) })
			w.says("p", "a", v1alpha1.ReasonAuthorityRestored)
			Expect(current().Data).To(Equal(keysNow.Data))
			Expect(w.admin.Delete(w.ctx, stored)).To(Succeed())
			w.eventually(func(g Gomega) {
				status := w.status("a").Authority
				g.Expect(status.Generation).To(BeEquivalentTo(3))
				g.Expect(status.RevokedBeforeGeneration).To(BeEquivalentTo(3))
			})
			w.update("a", set(false, "spec", "suspend"))
			w.eventually(func(g Gomega) { g.Expect(w.status("a").Pods.Certified).To(BeEquivalentTo(3)) })
			Expect(pods).To(HaveLen(3))
			w.revoked("p", "a", 3, keysNow)
		})

		It("an authority's Secret of before is refused by the pods, though the record is lost", func() {
			operator.kill()
			stored, err := w.authority("a")
			Expect(err).NotTo(HaveOccurred())
			stored.Data = authority.Data
			Expect(w.admin.Update(w.ctx, stored)).To(Succeed())
			Expect(w.admin.Delete(w.ctx, w.tls("a"))).To(Succeed())
			restartOperator()
			w.says("p", "a", v1alpha1.ReasonAuthorityRestored, current().Name)
			w.settle()
			Expect(w.deleted()).To(BeEmpty())
			Expect(w.clusterWrites()).To(BeEmpty())
		})

		It("a record of before is corrected", func() {
			for _, status := range []v1alpha1.RayClusterTLSStatus{recorded, {}} {
				Eventually(func() error {
					tls := w.tls("a")
					tls.Status = status
					return w.admin.Status().Update(w.ctx, tls)
				}).Should(Succeed())
				w.eventually(func(g Gomega) {
					g.Expect(w.status("a").Authority.RevokedBeforeGeneration).To(BeEquivalentTo(2))
					g.Expect(w.status("a").Authority.Generation).To(BeEquivalentTo(2))
				})
				w.encrypted("p", "a")
			}
			w.settle()
			Expect(w.deleted()).To(BeEmpty())
			Expect(w.clusterWrites()).To(BeEmpty())
		})

		It("the templates of before are corrected, and pods that KubeRay makes of them are replaced", func() {
			w.update("a", func(c *unstructured.Unstructured) { c.Object["spec"] = before.DeepCopy().Object["spec"] })
			w.ray.step(w.ctx)
			w.eventually(func(g Gomega) {
				g.Expect(injectedFor(w.get("a"))).To(Equal([]int64{2, 2}))
				for _, pod := range w.pods("a") {
					g.Expect(mountedIssuer(&pod)).To(Equal(current().Name))
				}
				g.Expect(w.status("a").Pods).To(Equal(v1alpha1.PodCounts{Total: 3, Certified: 3}))
			})
			w.encrypted("p", "a")
		})

		It("all of before at once is revoked again", func() {
			now := current()
			operator.kill()
			stored, err := w.authority("a")
			Expect(err).NotTo(HaveOccurred())
			stored.Data = authority.Data
			Expect(w.admin.Update(w.ctx, stored)).To(Succeed())
			Expect(w.admin.DeleteAllOf(w.ctx, &corev1.Pod{}, inNamespace(w.ns), gracePeriod0)).To(Succeed())
			w.ray.frozen = true
			w.update("a", func(c *unstructured.Unstructured) { c.Object["spec"] = before.DeepCopy().Object["spec"] })
			tls := w.tls("a")
			tls.Status = recorded
			Expect(w.admin.Status().Update(w.ctx, tls)).To(Succeed())
			restored := ca.DeepCopy()
			restored.ResourceVersion, restored.UID = "", ""
			Expect(w.admin.Create(w.ctx, restored)).To(Succeed())
			w.ray.frozen = false
			restartOperator()
			w.revoked("p", "a", 2, ca)
			unrelated(now, current())
		})
	})
})

var _ = Describe("Revoking the authority of a RayService's cluster", func() {
	It("has the RayService replace the cluster, and restarts it in place only if that is to happen now", func() {
		w := newWorld()
		plain := w.serve("serve")
		w.ray.startup = startup
		w.policy("p", selecting(immediately))
		active := w.takenOver("serve", plain)
		w.encrypted("p", active)
		ca, err := w.caSecret(active)
		Expect(err).NotTo(HaveOccurred())
		w.settle()
		w.mark()
		w.ray.holdTraffic = true
		w.revoke("p", active)
		w.eventually(func(g Gomega) {
			g.Expect(w.status(active).Rollout).To(HaveValue(HaveField("Phase", v1alpha1.PhaseUpgrade)))
			g.Expect(slices.ContainsFunc(w.writes(), func(s string) bool { return strings.HasPrefix(s, "PATCH rayservices/serve") })).To(BeTrue())
		})
		Expect(w.clusterCondition(active, v1alpha1.ConditionUpToDate).Reason).To(Equal(v1alpha1.ReasonRevocationPending))
		Expect(w.deleted()).To(BeEmpty())
		w.revoke("p", active, revokingNow)
		w.revoked("p", active, 2, ca)
		Expect(w.deleted()).NotTo(BeEmpty())
	})
})

var _ = Describe("Admission after a revocation", Ordered, func() {
	BeforeAll(installAdmission)

	It("stores no template of before, and the operator writes none itself", func() {
		w := admitting(selecting(immediately))
		apply := func(o *unstructured.Unstructured) {
			GinkgoHelper()
			o = o.DeepCopy()
			o.SetManagedFields(nil)
			for _, field := range []string{"resourceVersion", "uid", "creationTimestamp", "generation"} {
				unstructured.RemoveNestedField(o.Object, "metadata", field)
			}
			delete(o.Object, "status")
			Expect(w.admin.Apply(w.ctx, client.ApplyConfigurationFromUnstructured(o), client.FieldOwner("some-tool"), client.ForceOwnership)).To(Succeed())
		}
		apply(w.rayCluster("a"))
		w.eventually(func(g Gomega) { g.Expect(w.provisioned("a")).To(BeTrue()) })
		w.encrypted("p", "a")
		w.eventually(func(g Gomega) { g.Expect(w.status("a").Pods.Certified).To(BeEquivalentTo(3)) })
		before := w.get("a")
		ca, err := w.caSecret("a")
		Expect(err).NotTo(HaveOccurred())
		w.revoke("p", "a")
		w.revoked("p", "a", 2, ca)
		after, pods := w.get("a"), uids(w.pods("a"))
		for _, entry := range after.GetManagedFields() {
			if entry.Manager == v1alpha1.ManagedBy {
				Expect(entry.FieldsV1.GetRawString()).NotTo(ContainSubstring("f:spec"), "the templates stay with whoever applies them")
			}
		}
		w.settle()
		w.mark()

		apply(w.rayCluster("a")) // the manifest in Git
		same(Default, after, w.get("a"))
		apply(before) // what was stored before, as a backup or the output of raytls inject
		same(Default, after, w.get("a"))
		w.update("a", func(c *unstructured.Unstructured) { c.Object["spec"] = before.DeepCopy().Object["spec"] })
		same(Default, after, w.get("a"))
		Expect(w.get("a").GetGeneration()).To(Equal(after.GetGeneration()))
		w.settle()
		Expect(w.clusterWrites()).To(BeEmpty())
		Expect(uids(w.pods("a"))).To(Equal(pods))

		operator.kill() // so that the next cluster of the name comes before the sweep
		w.ray.deleteCluster(w.ctx, w.get("a"))
		restartOperator()
		apply(before)
		w.eventually(func(g Gomega) {
			for _, pod := range w.pods("a") {
				g.Expect(mountedIssuer(&pod)).To(Equal(keys.IssuerSecretName(client.ObjectKey{Namespace: w.ns, Name: "a"}, w.status("a").Authority.RevokedBeforeGeneration)))
			}
			g.Expect(w.status("a").Pods).To(Equal(v1alpha1.PodCounts{Total: 3, Certified: 3}))
		})
		w.encrypted("p", "a")
		now, err := w.issuerSecret("a", w.status("a").Authority.RevokedBeforeGeneration)
		Expect(err).NotTo(HaveOccurred())
		unrelated(ca, now)
	})
})
