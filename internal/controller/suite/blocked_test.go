package suite_test

import (
	. "github.com/onsi/ginkgo/v2"
	. "github.com/onsi/gomega"
	rayv1 "github.com/ray-project/kuberay/ray-operator/apis/ray/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/raytls/raytls/api/v1alpha1"
)

var _ = Describe("A restart is never made", func() {
	var w *world
	BeforeEach(func() { w = newWorld() })

	job := func(name, cluster string, status rayv1.JobDeploymentStatus) {
		GinkgoHelper()
		j := &rayv1.RayJob{ObjectMeta: metav1.ObjectMeta{Namespace: w.ns, Name: name}, Spec: rayv1.RayJobSpec{Entrypoint: "true"}}
		Expect(w.admin.Create(w.ctx, j)).To(Succeed())
		j.Status.RayClusterName, j.Status.JobDeploymentStatus = cluster, status
		Expect(w.admin.Status().Update(w.ctx, j)).To(Succeed())
	}
	end := func(name string) {
		GinkgoHelper()
		var j rayv1.RayJob
		key := metav1.ObjectMeta{Namespace: w.ns, Name: name}
		Expect(w.admin.Get(w.ctx, keyOf(key), &j)).To(Succeed())
		j.Status.JobDeploymentStatus = rayv1.JobDeploymentStatusComplete
		Expect(w.admin.Status().Update(w.ctx, &j)).To(Succeed())
	}
	// blocked runs a cluster, and expects that even an approval restarts nothing.
	blocked := func(by, message string, edits ...edit) {
		GinkgoHelper()
		before := w.run("a", edits...)
		pods := uids(w.pods("a"))
		w.mark()
		w.policy("p", targeting("a", immediately))
		w.says("p", "a", v1alpha1.ReasonBlocked, message)
		w.approve("p", "a")
		w.untouched(before, pods)
		w.says("p", "a", v1alpha1.ReasonBlocked)
		Expect(w.blockedBy("a")).To(Equal(by))
		w.readySays("p", v1alpha1.ReasonBlocked)
	}

	It("while a RayJob that owns the cluster runs, and then is", func() {
		job("train", "a", rayv1.JobDeploymentStatusRunning)
		blocked("RayJob/train", "when the job has finished", owned("RayJob", "train"))
		end("train")
		w.encrypted("p", "a")
	})

	It("while a RayJob that owns the cluster has not written its name yet", func() {
		job("train", "", rayv1.JobDeploymentStatusInitializing)
		blocked("RayJob/train", "when the job has finished", owned("RayJob", "train"))
	})

	It("while a RayJob that does not own the cluster runs on it, and then is", onEveryKubeRay, func() {
		job("batch", "a", rayv1.JobDeploymentStatusRunning)
		blocked("RayJob/batch", "a restart would fail it")
		end("batch")
		w.encrypted("p", "a")
	})

	It("of the cluster of a RayService that is gone", func() {
		blocked("RayService/serve", "does not exist any more", owned("RayService", "serve"))
		w.ray.frozen = true
		w.create("b", owned("RayService", "serve"))
		w.updatePolicy("p", func(p *v1alpha1.RayTLSPolicy) { p.Spec = selecting() })
		w.encrypted("p", "b")
	})

	It("of a head that KubeRay would not make again", func() {
		blocked("annotation ray.io/disable-provisioned-head-restart", "created anew", annotation("ray.io/disable-provisioned-head-restart", "true"))
	})

	It("of a cluster whose templates hold what TLS would break, until the policy heals it", func() {
		before := w.run("a", set([]any{map[string]any{"name": "wait", "image": image, "command": []any{"ray", "health-check"}}},
			"spec", "headGroupSpec", "template", "spec", "initContainers"))
		pods := uids(w.pods("a"))
		w.mark()
		w.policy("p", targeting("a", immediately))
		w.says("p", "a", v1alpha1.ReasonHazard, `add container "wait" to additionalContainers`)
		w.approve("p", "a")
		w.untouched(before, pods)
		w.says("p", "a", v1alpha1.ReasonHazard)
		Expect(w.blockedBy("a")).To(Equal("spec.headGroupSpec.template.spec.initContainers[0].command"))
		w.readySays("p", v1alpha1.ReasonHazard)
		w.updatePolicy("p", func(p *v1alpha1.RayTLSPolicy) { p.Spec.AdditionalContainers = []string{"wait"} })
		w.encrypted("p", "a")
	})

	It("of a cluster that another manager runs", onEveryKubeRay, func() {
		needs("spec", "managedBy")
		before := w.create("a", set("kueue.x-k8s.io/multikueue", "spec", "managedBy"))
		w.mark()
		w.policy("p", targeting("a", immediately))
		w.says("p", "a", v1alpha1.ReasonBlocked, "spec.managedBy hands the RayCluster to kueue.x-k8s.io/multikueue")
		w.untouched(before, uids(nil))
	})

	It("of a cluster in a Kueue queue, unless that is approved: then Kueue does the deleting", func() {
		before := w.run("a", label("kueue.x-k8s.io/queue-name", "q"))
		pods := uids(w.pods("a"))
		w.mark()
		w.policy("p", targeting("a", immediately))
		w.says("p", "a", v1alpha1.ReasonBlocked, "Kueue evicts it")
		Expect(w.blockedBy("a")).To(Equal("Kueue"))
		w.untouched(before, pods)
		w.approve("p", "a")
		w.says("p", "a", v1alpha1.ReasonEnabling)
		w.eventually(func(g Gomega) { g.Expect(injectedTemplates(w.get("a"))).To(Equal(2)) })
		w.quiet()
		Expect(uids(w.pods("a"))).To(Equal(pods), "the operator leaves the pods to Kueue")
		w.update("a", set(true, "spec", "suspend"))
		w.eventually(func(g Gomega) { g.Expect(w.pods("a")).To(BeEmpty()) })
		w.update("a", set(false, "spec", "suspend"))
		w.eventually(func(g Gomega) { g.Expect(w.status("a").Pods.Certified).To(BeEquivalentTo(3)) })
		w.encrypted("p", "a")
	})

	It("of a queued cluster that is suspended: it is encrypted before Kueue admits it", func() {
		w.create("a", label("kueue.x-k8s.io/queue-name", "q"), set(true, "spec", "suspend"))
		w.policy("p", selecting())
		w.encrypted("p", "a")
	})
})

var _ = Describe("A cluster with upgradeStrategy Recreate", func() {
	var w *world
	BeforeEach(func() {
		needs("spec", "upgradeStrategy")
		w = newWorld()
	})
	recreate := set("Recreate", "spec", "upgradeStrategy", "type")

	It("needs approval even when it is singled out, and is then restarted by KubeRay alone", func() {
		before := w.run("a", recreate)
		pods := uids(w.pods("a"))
		w.mark()
		w.policy("p", targeting("a", immediately))
		w.says("p", "a", v1alpha1.ReasonAwaitingApproval, "Recreate")
		w.untouched(before, pods)
		w.ray.lag = true // KubeRay has not looked yet
		w.approve("p", "a")
		w.eventually(func(g Gomega) { g.Expect(injectedTemplates(w.get("a"))).To(Equal(2)) })
		w.ray.lag = false
		w.encrypted("p", "a")
		Expect(w.deleted()).To(BeEmpty(), "no pod is deleted twice")
	})

	It("is restarted all the same where KubeRay takes the change for its own upgrade's", func() {
		w.run("a", recreate)
		old := names(w.pods("a"))
		w.ray.versionTrap = true
		w.policy("p", targeting("a", immediately))
		w.approve("p", "a")
		w.encrypted("p", "a")
		Expect(w.deleted()).To(ConsistOf(old))
	})
})
