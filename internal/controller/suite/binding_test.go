package suite_test

import (
	. "github.com/onsi/ginkgo/v2"
	. "github.com/onsi/gomega"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"

	"github.com/raytls/raytls/api/v1alpha1"
	"github.com/raytls/raytls/internal/injection"
)

var _ = Describe("Which policy a cluster follows", func() {
	var w *world
	BeforeEach(func() { w = newWorld() })

	matching := func(key, value string) v1alpha1.RayTLSPolicySpec {
		return v1alpha1.RayTLSPolicySpec{Selector: &metav1.LabelSelector{MatchLabels: map[string]string{key: value}}}
	}

	It("stays the same when its labels change", func() {
		w.policy("p", matching("team", "x"))
		w.start("p", "a", label("team", "x"))
		w.policy("q", matching("team", "y"))
		pods := uids(w.pods("a"))
		w.mark()
		w.update("a", label("team", "y"))
		w.conflicts("q", "RayCluster a: RayTLSPolicy p covers this RayCluster already")
		w.says("p", "a", v1alpha1.ReasonEncrypted)
		w.update("a", func(c *unstructured.Unstructured) { c.SetLabels(nil) })
		w.says("p", "a", v1alpha1.ReasonEncrypted)
		Expect(uids(w.pods("a"))).To(Equal(pods))
		Expect(w.status("a").PolicyRef.Name).To(Equal("p"))
	})

	It("goes over from a selector to a targetRef, without a write to the spec", func() {
		w.policy("all", selecting())
		w.start("all", "a")
		spec, pods := w.get("a").Object["spec"], uids(w.pods("a"))
		w.policy("one", targeting("a", immediately))
		w.encrypted("one", "a")
		w.eventually(func(g Gomega) {
			g.Expect(w.getPolicy("all").Status.Clusters).To(BeZero())
			g.Expect(w.condition("all", v1alpha1.ConditionReady).Reason).To(Equal(v1alpha1.ReasonNoClusters), "singling a cluster out is no conflict")
		})
		Expect(w.get("a").Object["spec"]).To(Equal(spec))
		Expect(uids(w.pods("a"))).To(Equal(pods))
	})

	It("is the older of two that overlap, and the loser says so and changes nothing", func() {
		w.policy("old", targeting("a", immediately))
		w.lookedAt("old")
		w.policy("young", targeting("a", func(s *v1alpha1.RayTLSPolicySpec) { s.PodCertificate.ValidityDays = 7 }))
		w.start("old", "a")
		w.conflicts("young", "narrow one of the two")
		w.quiet()
	})

	It("may be a new one after Retain, which adopts the cluster without a restart or a write to its spec", func() {
		w.policy("p", selecting())
		w.start("p", "a")
		before, pods := w.get("a"), uids(w.pods("a"))
		w.mark()
		w.deletePolicy("p")
		w.eventually(func(g Gomega) { w.policyGone(g, "p") })
		w.settle()
		same(Default, before, w.get("a"))
		w.hasKeys("a")

		secret, err := w.caSecret("a")
		Expect(err).NotTo(HaveOccurred())
		issuer := secret.Data["issuer.crt"]
		Expect(w.admin.Delete(w.ctx, secret)).To(Succeed())
		w.eventually(func(g Gomega) {
			secret, err := w.caSecret("a")
			g.Expect(err).NotTo(HaveOccurred(), "new pods still get certificates")
			g.Expect(secret.Data["issuer.crt"]).NotTo(Equal(issuer))
		})

		w.policy("next", selecting())
		w.encrypted("next", "a")
		Expect(w.get("a").Object["spec"]).To(Equal(before.Object["spec"]))
		Expect(uids(w.pods("a"))).To(Equal(pods))
		Expect(w.deleted()).To(BeEmpty())
	})

	It("may be a new one of the same name after Retain", func() {
		w.policy("p", selecting())
		w.start("p", "a")
		before := w.get("a")
		w.deletePolicy("p")
		w.eventually(func(g Gomega) { w.policyGone(g, "p") })
		w.policy("p", selecting())
		w.encrypted("p", "a")
		same(Default, before, w.get("a"))
	})

	It("is none where the cluster is excluded", func() {
		before := w.run("a", label(v1alpha1.LabelExclude, v1alpha1.ExcludeTrue))
		pods := uids(w.pods("a"))
		w.mark()
		w.policy("p", selecting(immediately))
		w.eventually(func(g Gomega) {
			g.Expect(w.condition("p", v1alpha1.ConditionReady).Reason).To(Equal(v1alpha1.ReasonNoClusters))
		})
		w.untouched(before, pods)
	})

	It("is left by an encrypted cluster that gets excluded: with Retain it stays as it is", func() {
		w.policy("p", selecting())
		w.start("p", "a")
		spec, pods := w.get("a").Object["spec"], uids(w.pods("a"))
		w.update("a", label(v1alpha1.LabelExclude, v1alpha1.ExcludeTrue))
		w.eventually(func(g Gomega) { g.Expect(w.getPolicy("p").Status.Clusters).To(BeZero()) })
		w.quiet()
		Expect(w.get("a").Object["spec"]).To(Equal(spec))
		Expect(uids(w.pods("a"))).To(Equal(pods))
		w.hasKeys("a")
	})

	It("is left by an encrypted cluster that gets excluded: with Disable it becomes plaintext when it may", func() {
		before := w.run("a")
		w.policy("p", targeting("a", immediately, disabling))
		w.encrypted("p", "a")
		w.update("a", label(v1alpha1.LabelExclude, v1alpha1.ExcludeTrue))
		w.eventually(func(g Gomega) {
			g.Expect(w.get("a").Object["spec"]).To(Equal(before.Object["spec"]))
			g.Expect(w.status("a").Injection.Revision).To(BeZero())
			g.Expect(gone(w.authority("a"))).To(BeTrue())
		})
		w.quiet()
		w.update("a", func(c *unstructured.Unstructured) { c.SetLabels(nil) })
		w.encrypted("p", "a")
	})
})

var _ = Describe("Deleting a policy with Disable", func() {
	var w *world
	BeforeEach(func() { w = newWorld() })

	nothingLeft := func(before *unstructured.Unstructured) {
		GinkgoHelper()
		w.eventually(func(g Gomega) {
			w.policyGone(g, "p")
			for _, pod := range w.pods(before.GetName()) {
				g.Expect(injectedPod(&pod)).To(BeFalse())
			}
		})
		same(Default, before, w.get(before.GetName()))
		Expect(gone(w.caSecret(before.GetName()))).To(BeTrue())
		Expect(gone(w.authority(before.GetName()))).To(BeTrue())
		Expect(gone(w.scripts())).To(BeTrue())
		w.settle() // the last status may be written after the policy has gone
		settled := len(w.writes())
		w.consistently(func(g Gomega) { g.Expect(w.writes()).To(HaveLen(settled)) })
	}

	It("gives the spec back exactly, restarts each pod once in plaintext, and leaves nothing", onEveryKubeRay, func() {
		before := w.run("a")
		w.policy("p", targeting("a", immediately, disabling))
		w.encrypted("p", "a")
		w.eventually(func(g Gomega) { g.Expect(w.status("a").Pods.Certified).To(BeEquivalentTo(3)) })
		pods := names(w.pods("a"))
		w.mark()
		w.deletePolicy("p")
		nothingLeft(before)
		Expect(w.deletedIn(pods)).To(BeTrue())
	})

	It("asks before it restarts a running cluster that it covers by selector", func() {
		w.policy("p", selecting(disabling))
		w.start("p", "a")
		encrypted, pods := w.get("a"), uids(w.pods("a"))
		w.deletePolicy("p")
		w.says("p", "a", v1alpha1.ReasonAwaitingApproval, "to become plaintext")
		same(Default, encrypted, w.get("a"))
		Expect(uids(w.pods("a"))).To(Equal(pods))
		Expect(w.status("a").PendingRestart).To(HaveValue(HaveField("Action", v1alpha1.ActionDisable)))
		w.approve("p", "a")
		w.eventually(func(g Gomega) { w.policyGone(g, "p") })
		Expect(injection.AnyPiece(w.get("a").Object["spec"].(map[string]any))).To(BeFalse())
		Expect(w.status("a").Injection.Revision).To(BeZero())
	})

	It("needs no restart where the cluster never was enabled", func() {
		before := w.run("a")
		pods := uids(w.pods("a"))
		w.policy("p", selecting(disabling))
		w.says("p", "a", v1alpha1.ReasonAwaitingApproval)
		w.mark()
		w.deletePolicy("p")
		nothingLeft(before)
		Expect(uids(w.pods("a"))).To(Equal(pods))
	})

	It("in the middle of enabling puts the cluster back without asking", func() {
		before := w.run("a")
		w.ray.certificate = canaryHangs
		w.policy("p", targeting("a", immediately, disabling))
		w.eventually(func(g Gomega) { g.Expect(w.deleted()).To(HaveLen(1)) })
		w.eventually(func(g Gomega) {
			g.Expect(w.status("a").Pods).To(Equal(v1alpha1.PodCounts{Total: 3, Plaintext: 2}), "the replacement is there")
		})
		w.deletePolicy("p")
		nothingLeft(before)
		Expect(w.deleted()).To(HaveLen(2), "the canary, and its replacement")
	})

	It("clears the record of a failed enabling", func() {
		before := w.run("a")
		w.ray.certificate = canaryFails
		w.policy("p", targeting("a", immediately, disabling))
		w.says("p", "a", v1alpha1.ReasonEnableFailed)
		w.eventually(func(g Gomega) { g.Expect(w.status("a").Rollout).To(BeNil()) })
		w.deletePolicy("p")
		nothingLeft(before)
	})

	It("with Retain in the middle of enabling leaves no cluster half encrypted", func() {
		w.run("a")
		w.ray.certificate = canaryHangs
		w.policy("p", targeting("a", immediately))
		w.eventually(func(g Gomega) { g.Expect(w.deleted()).To(HaveLen(1)) })
		w.deletePolicy("p")
		w.ray.certificate = nil
		w.eventually(func(g Gomega) {
			w.policyGone(g, "p")
			n := injectedTemplates(w.get("a"))
			g.Expect(n).To(Or(Equal(0), Equal(2)))
			for _, pod := range w.pods("a") {
				g.Expect(injectedPod(&pod)).To(Equal(n == 2))
			}
		})
	})
})

var _ = Describe("A paused policy", func() {
	var w *world
	BeforeEach(func() { w = newWorld() })

	It("starts nothing, says what it would do, and goes on when it is no longer", func() {
		before := w.create("a", set(true, "spec", "suspend"))
		w.policy("p", selecting(paused))
		w.says("p", "a", v1alpha1.ReasonPaused, "spec.paused")
		w.untouched(before, uids(nil))
		w.updatePolicy("p", func(p *v1alpha1.RayTLSPolicy) { p.Spec.Paused = false })
		w.encrypted("p", "a")
	})

	It("stops in the middle, and still replaces an issuer", func() {
		w.run("a")
		w.ray.certificate = canaryHangs
		w.policy("p", targeting("a", immediately))
		w.eventually(func(g Gomega) { g.Expect(w.deleted()).To(HaveLen(1)) })
		w.updatePolicy("p", func(p *v1alpha1.RayTLSPolicy) { p.Spec.Paused = true })
		w.settle()
		w.ray.certificate = nil
		w.says("p", "a", v1alpha1.ReasonPaused)
		before := w.get("a")
		w.mark()
		secret, err := w.caSecret("a")
		Expect(err).NotTo(HaveOccurred())
		Expect(w.admin.Delete(w.ctx, secret)).To(Succeed())
		w.eventually(func(g Gomega) { g.Expect(gone(w.caSecret("a"))).To(BeFalse()) })
		w.settle()
		same(Default, before, w.get("a"))
		Expect(w.deleted()).To(BeEmpty())
		w.updatePolicy("p", func(p *v1alpha1.RayTLSPolicy) { p.Spec.Paused = false })
		w.encrypted("p", "a")
	})
})
