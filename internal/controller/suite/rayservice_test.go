package suite_test

import (
	"strings"
	"time"

	. "github.com/onsi/ginkgo/v2"
	. "github.com/onsi/gomega"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"

	"github.com/raytls/raytls/api/v1alpha1"
)

// startup is how long Ray takes: longer than it takes until plaintext pods that came first are replaced. Pods that KubeRay makes
// just after the templates changed may be of either, so they wait for fifteen seconds.
const startup = 18 * time.Second

var _ = Describe("A RayService that serves in plaintext", func() {
	var w *world
	BeforeEach(func() { w = newWorld() })

	// restartedFor is what the RayService was asked for last, and what it is without that.
	restartedFor := func() (string, map[string]any) {
		GinkgoHelper()
		service := w.getService("serve")
		path := []string{"spec", "rayClusterConfig", "headGroupSpec", "template", "metadata"}
		text, _, err := unstructured.NestedString(service.Object, append(path, "annotations", v1alpha1.AnnotationRestartedFor)...)
		Expect(err).NotTo(HaveOccurred())
		unstructured.RemoveNestedField(service.Object, path...)
		return text, essence(service)
	}
	untouchedService := func(old string, before map[string]any) {
		GinkgoHelper()
		w.consistently(func(g Gomega) {
			g.Expect(w.serving("serve")).To(Equal(old))
			g.Expect(w.asked()).To(BeEmpty())
		})
		text, now := restartedFor()
		Expect(text).To(BeEmpty())
		Expect(now).To(Equal(before))
	}

	It("is asked once for a new cluster, to which it moves its traffic, and the old one loses no pod", func() {
		old := w.serve("serve", set("as it was", "spec", "rayClusterConfig", "headGroupSpec", "futureField"),
			groupsOf(map[string]any{
				"groupName": "small", "replicas": int64(1), "minReplicas": int64(0), "maxReplicas": int64(3),
				"rayStartParams": map[string]any{}, "template": podTemplate("ray-worker", image), "futureField": "as it was",
			}))
		_, before := restartedFor()
		pods := uids(w.pods(old))
		w.mark()
		w.ray.startup, w.ray.holdTraffic = startup, true
		w.policy("p", forOwner(v1alpha1.TargetRayService, "serve", immediately))
		w.says("p", old, v1alpha1.ReasonEnabling, "RayService serve is being upgraded", "takes over")
		next := w.upcoming("serve")
		w.encrypted("p", next)
		Expect(uids(w.pods(old))).To(Equal(pods), "the old cluster serves on")
		text, after := restartedFor()
		Expect(text).To(ContainSubstring(`"goal":"Encrypted"`))
		Expect(after).To(Equal(before), "nothing but the annotation changed, fields that this KubeRay does not know included")
		Expect(w.getService("serve").GetManagedFields()).To(ContainElement(HaveField("Manager", v1alpha1.ManagedBy)))

		w.ray.holdTraffic = false
		Expect(w.takenOver("serve", old)).To(Equal(next))
		w.eventually(func(g Gomega) {
			g.Expect(w.condition("p", v1alpha1.ConditionReady).Reason).To(Equal(v1alpha1.ReasonEncrypted))
			g.Expect(gone(w.authority(old))).To(BeTrue(), "the old cluster leaves no keys")
		})
		w.encrypted("p", next)
		Expect(w.asked()).To(HaveLen(1))
		for _, name := range w.deleted() {
			Expect(name).To(HavePrefix(next+"-"), "only pods that the new cluster made before it was injected are replaced")
		}
		w.quiet()
	})

	It("waits for an approval, which is good once, and goes back the same way", func() {
		old := w.serve("serve")
		_, before := restartedFor()
		w.mark()
		w.ray.startup = startup
		w.policy("p", selecting(disabling))
		w.says("p", old, v1alpha1.ReasonAwaitingApproval, "RayService serve has to replace it")
		untouchedService(old, before)
		w.approve("p", old)
		next := w.takenOver("serve", old)
		w.encrypted("p", next)
		Expect(w.asked()).To(HaveLen(1))

		w.deletePolicy("p")
		w.says("p", next, v1alpha1.ReasonAwaitingApproval, "to become plaintext RayService serve")
		w.consistently(func(g Gomega) { g.Expect(w.asked()).To(HaveLen(1), "the approval was used by the cluster before") })
		pods := uids(w.pods(next))
		w.ray.keepOld = true
		w.approve("p", next)
		w.eventually(func(g Gomega) { g.Expect(w.serving("serve")).NotTo(Equal(next)) })
		w.says("p", next, v1alpha1.ReasonDisabling, "has moved its traffic")
		Expect(uids(w.pods(next))).To(Equal(pods))
		w.ray.keepOld = false
		last := w.takenOver("serve", next)
		w.eventually(func(g Gomega) { w.policyGone(g, "p") })
		Expect(injectedTemplates(w.get(last))).To(BeZero())
		Expect(w.asked()).To(HaveLen(2))
		Expect(gone(w.authority(next))).To(BeTrue())
		Expect(gone(w.scripts())).To(BeTrue())
		_, after := restartedFor()
		Expect(after).To(Equal(before))
	})

	It("is left alone where it would make no new cluster", func() {
		old := w.serve("serve", set("None", "spec", "upgradeStrategy", "type"))
		_, before := restartedFor()
		w.mark()
		w.policy("p", forOwner(v1alpha1.TargetRayService, "serve", immediately))
		w.says("p", old, v1alpha1.ReasonBlocked, "spec.upgradeStrategy.type of RayService serve is None", "NewCluster")
		Expect(w.blockedBy(old)).To(Equal("RayService/serve"))
		w.approve("p", old)
		untouchedService(old, before)
		w.ray.startup = startup
		w.updateService("serve", set("NewCluster", "spec", "upgradeStrategy", "type"))
		w.encrypted("p", w.takenOver("serve", old))
	})

	It("is left alone where the new cluster would not be covered", func() {
		old := w.serve("serve")
		_, before := restartedFor()
		w.mark()
		w.policy("p", targeting(old, immediately))
		w.says("p", old, v1alpha1.ReasonBlocked, "would not cover", "{kind: RayService, name: serve}")
		untouchedService(old, before)
	})

	It("is left alone where excluding the cluster would have the next one encrypted again", func() {
		w.ray.startup = startup
		w.policy("p", selecting(disabling, immediately))
		old := w.serve("serve")
		w.encrypted("p", old)
		w.mark()
		w.update(old, label(v1alpha1.LabelExclude, v1alpha1.ExcludeTrue))
		w.says("p", old, v1alpha1.ReasonBlocked, "label the RayService raytls.io/exclude: \"true\" too")
		w.consistently(func(g Gomega) { g.Expect(w.asked()).To(BeEmpty()) })
		w.updateService("serve", label(v1alpha1.LabelExclude, v1alpha1.ExcludeTrue))
		next := w.takenOver("serve", old)
		Expect(injectedTemplates(w.get(next))).To(BeZero())
		Expect(w.asked()).To(HaveLen(1))
	})

	It("is left alone when another manager runs it", func() {
		w.ray.frozen = true
		w.createService("serve", set("kueue.x-k8s.io/multikueue", "spec", "managedBy"))
		owner := w.getService("serve")
		w.ray.frozen = false
		w.run("child", func(c *unstructured.Unstructured) { ownedByObject(c, owner) })
		Expect(unstructured.SetNestedField(owner.Object, "child", "status", "activeServiceStatus", "rayClusterName")).To(Succeed())
		Expect(w.admin.Status().Update(w.ctx, owner)).To(Succeed())
		w.mark()
		w.policy("p", forOwner(v1alpha1.TargetRayService, "serve", immediately))
		w.says("p", "child", v1alpha1.ReasonBlocked, "hands it to kueue.x-k8s.io/multikueue")
		w.consistently(func(g Gomega) { g.Expect(w.asked()).To(BeEmpty()) })
	})

	It("says that the new cluster does not become ready, and is not asked again, whatever is approved", func() {
		old := w.serve("serve")
		pods := uids(w.pods(old))
		w.mark()
		w.ray.startup, w.ray.holdTraffic = startup, true
		w.policy("p", forOwner(v1alpha1.TargetRayService, "serve", immediately, func(s *v1alpha1.RayTLSPolicySpec) { s.Rollout.ProgressDeadlineSeconds = 30 }))
		w.says("p", old, v1alpha1.ReasonBlocked, "has not become ready to take over within 30s", "serves on")
		Expect(w.clusterCondition(old, v1alpha1.ConditionEncrypted).Message).To(ContainSubstring("RayCluster " + w.upcoming("serve")))
		w.approve("p", old)
		w.consistently(func(g Gomega) {
			g.Expect(w.asked()).To(HaveLen(1))
			g.Expect(uids(w.pods(old))).To(Equal(pods))
		})
		w.ray.holdTraffic = false
		w.encrypted("p", w.takenOver("serve", old))
	})

	It("is not asked again by an operator that takes over", func() {
		old := w.serve("serve")
		w.mark()
		w.ray.startup, w.ray.holdTraffic = startup, true
		restartOperator(envDieAt + "=/rayservices/")
		w.policy("p", forOwner(v1alpha1.TargetRayService, "serve", immediately))
		w.eventually(func(g Gomega) { g.Expect(operator.running()).To(BeFalse()) })
		restartOperator()
		w.says("p", old, v1alpha1.ReasonEnabling, "takes over when it is ready")
		w.settle()
		// What the operator that died wrote last need not be noted.
		first, _ := restartedFor()
		Expect(first).NotTo(BeEmpty())
		w.mark()
		restartOperator()
		w.says("p", old, v1alpha1.ReasonEnabling, "takes over when it is ready")
		w.settle()
		Expect(w.asked()).To(BeEmpty())
		w.ray.holdTraffic = false
		w.encrypted("p", w.takenOver("serve", old))
		Expect(w.asked()).To(BeEmpty())
		now, _ := restartedFor()
		Expect(now).To(Equal(first))
	})

	It("is not asked for one cluster after the other where each comes to serve before it is encrypted", func() {
		old := w.serve("serve")
		w.mark()
		w.policy("p", forOwner(v1alpha1.TargetRayService, "serve", immediately))
		next := w.takenOver("serve", old)
		w.says("p", next, v1alpha1.ReasonAwaitingApproval, "before it was", "approve another one")
		w.consistently(func(g Gomega) { g.Expect(w.asked()).To(HaveLen(1)) })
		Expect(w.deleted()).To(BeEmpty(), "it serves, so its pods stay")
		w.ray.startup = startup
		w.approve("p", next)
		w.encrypted("p", w.takenOver("serve", next))
	})

	It("is encrypted by an upgrade of the user's own too", func() {
		old := w.serve("serve")
		w.mark()
		w.ray.startup = startup
		w.policy("p", selecting())
		w.says("p", old, v1alpha1.ReasonAwaitingApproval)
		w.updateService("serve", set("2.53.0", "spec", "rayClusterConfig", "rayVersion"))
		w.says("p", old, v1alpha1.ReasonEnabling, "RayService serve is being upgraded")
		w.encrypted("p", w.takenOver("serve", old))
		Expect(w.asked()).To(BeEmpty())
	})

	It("needs nothing when its cluster is suspended", func() {
		old := w.serve("serve")
		w.mark()
		w.policy("p", selecting())
		w.says("p", old, v1alpha1.ReasonAwaitingApproval)
		w.update(old, set(true, "spec", "suspend"))
		w.encrypted("p", old)
		Expect(w.asked()).To(BeEmpty())
	})

	It("is upgraded one after the other, as many at a time as allowed", func() {
		a, b := w.serve("one"), w.serve("two")
		w.mark()
		w.ray.startup, w.ray.holdTraffic = startup, true
		w.policy("p", selecting(immediately))
		w.eventually(func(g Gomega) {
			reasons := w.reason(a) + " " + w.reason(b)
			g.Expect(reasons).To(Or(
				Equal(v1alpha1.ReasonEnabling+" "+v1alpha1.ReasonWaitingForSlot),
				Equal(v1alpha1.ReasonWaitingForSlot+" "+v1alpha1.ReasonEnabling),
			))
		})
		w.consistently(func(g Gomega) { g.Expect(w.asked()).To(HaveLen(1)) })
		w.ray.holdTraffic = false
		w.encrypted("p", w.takenOver("one", a))
		w.encrypted("p", w.takenOver("two", b))
		Expect(w.asked()).To(HaveLen(2))
	})
})

var _ = Describe("A new RayService", func() {
	It("is encrypted from its start, with its own name in the certificate of its head", func() {
		w := newWorld()
		w.ray.startup = startup
		w.policy("p", forOwner(v1alpha1.TargetRayService, "serve", immediately))
		w.eventually(func(g Gomega) {
			condition := w.condition("p", v1alpha1.ConditionReady)
			g.Expect(condition.Reason).To(Equal(v1alpha1.ReasonTargetNotFound))
			g.Expect(condition.Message).To(ContainSubstring("RayService serve does not exist"))
		})
		cluster := w.serve("serve")
		w.encrypted("p", cluster)
		names := w.profile(cluster).HeadDNSNames
		Expect(strings.Join(names, " ")).To(Equal("serve-head-svc." + w.ns + " serve-head-svc." + w.ns + ".svc serve-head-svc." + w.ns + ".svc." + clusterDomain))
		Expect(w.asked()).To(BeEmpty())
		w.quiet()
	})
})
