package suite_test

import (
	. "github.com/onsi/ginkgo/v2"
	. "github.com/onsi/gomega"
	rayv1 "github.com/ray-project/kuberay/ray-operator/apis/ray/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"

	"github.com/raytls/raytls/api/v1alpha1"
)

// queue has Kueue manage the cluster.
func queue() edit { return label("kueue.x-k8s.io/queue-name", "q") }

// templatesOf are the pod templates of a RayCluster's spec.
func templatesOf(c *unstructured.Unstructured) []map[string]any {
	spec := c.Object["spec"].(map[string]any)
	out := []map[string]any{spec["headGroupSpec"].(map[string]any)["template"].(map[string]any)}
	for _, g := range spec["workerGroupSpecs"].([]any) {
		out = append(out, g.(map[string]any)["template"].(map[string]any))
	}
	return out
}

// admit does what Kueue does when it starts a workload: it writes where the pods are to run, and ends the suspension.
func admit(c *unstructured.Unstructured) {
	for _, template := range templatesOf(c) {
		Expect(unstructured.SetNestedField(template, "spot", "spec", "nodeSelector", "flavor")).To(Succeed())
		Expect(unstructured.SetNestedField(template, "yes", "metadata", "labels", "kueue.x-k8s.io/podset")).To(Succeed())
	}
	set(false, "spec", "suspend")(c)
}

// evict does what Kueue does when it stops one.
func evict(c *unstructured.Unstructured) {
	for _, template := range templatesOf(c) {
		unstructured.RemoveNestedField(template, "spec", "nodeSelector")
		unstructured.RemoveNestedField(template, "metadata", "labels")
	}
	set(true, "spec", "suspend")(c)
}

var _ = Describe("A cluster in a Kueue queue", func() {
	var w *world
	BeforeEach(func() { w = newWorld() })
	up := func(name string) {
		GinkgoHelper()
		w.eventually(func(g Gomega) {
			g.Expect(w.status(name).Pods).To(Equal(v1alpha1.PodCounts{Total: 3, Certified: 3}))
		})
		w.encrypted("p", name)
	}

	It("is injected before it is admitted, and stays so when it is admitted, evicted and admitted again", func() {
		w.policy("p", selecting())
		w.create("a", queue(), set(true, "spec", "suspend"))
		w.encrypted("p", "a")
		w.mark()
		w.update("a", admit)
		up("a")
		for _, pod := range w.pods("a") {
			Expect(pod.Spec.NodeSelector).To(HaveKeyWithValue("flavor", "spot"), "what Kueue wrote stays too")
		}
		w.update("a", evict)
		w.eventually(func(g Gomega) { g.Expect(w.pods("a")).To(BeEmpty()) })
		w.update("a", admit)
		up("a")
		Expect(w.deleted()).To(BeEmpty())
		for _, write := range w.writes() {
			Expect(write).NotTo(ContainSubstring("rayclusters/"), "the cluster was written once, before it was admitted")
		}
		w.quiet()
	})

	It("that waits for its admission is injected when a policy comes to cover it", func() {
		w.create("a", queue(), set(true, "spec", "suspend"))
		w.policy("p", selecting())
		w.encrypted("p", "a")
		w.update("a", admit)
		up("a")
	})

	It("runs on until Kueue stops it by itself, and is encrypted then", func() {
		w.run("a", queue())
		pods := uids(w.pods("a"))
		w.mark()
		w.policy("p", selecting(immediately))
		w.says("p", "a", v1alpha1.ReasonBlocked, "Kueue evicts it when its templates change")
		w.consistently(func(g Gomega) { g.Expect(uids(w.pods("a"))).To(Equal(pods)) })
		w.update("a", evict)
		w.encrypted("p", "a")
		w.update("a", admit)
		up("a")
		Expect(w.deleted()).To(BeEmpty(), "Kueue does the deleting")
	})

	It("through its RayJob is none that Kueue looks at", func() {
		job := w.rayJob("train", queue())
		w.runOn(job, "a", rayv1.JobDeploymentStatusComplete)
		w.run("a", childOf(job))
		Expect(w.get("a").GetLabels()).To(HaveKey("kueue.x-k8s.io/queue-name"))
		w.policy("p", forOwner(v1alpha1.TargetRayJob, "train", immediately))
		w.encrypted("p", "a")
	})

	It("through its RayService is replaced only when that is approved, and the new one is injected while it waits for its admission", func() {
		old := w.serve("serve", queue())
		w.mark()
		w.ray.startup = startup
		w.policy("p", forOwner(v1alpha1.TargetRayService, "serve", immediately))
		w.says("p", old, v1alpha1.ReasonBlocked, "has to be admitted beside it")
		w.consistently(func(g Gomega) { g.Expect(w.asked()).To(BeEmpty()) })
		w.ray.born = func(c *unstructured.Unstructured) { set(true, "spec", "suspend")(c) } // Kueue's webhook
		w.approve("p", old)
		w.eventually(func(g Gomega) { g.Expect(w.upcoming("serve")).NotTo(BeEmpty()) })
		next := w.upcoming("serve")
		w.encrypted("p", next)
		w.update(next, admit)
		Expect(w.takenOver("serve", old)).To(Equal(next))
		up(next)
		Expect(w.asked()).To(HaveLen(1))
		Expect(w.deleted()).To(BeEmpty())
	})
})
