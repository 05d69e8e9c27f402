package suite_test

import (
	"time"

	. "github.com/onsi/ginkgo/v2"
	. "github.com/onsi/gomega"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"

	"github.com/raytls/raytls/api/v1alpha1"
)

var _ = Describe("A tool that takes the injection out", func() {
	var (
		w     *world
		plain map[string]any
	)
	BeforeEach(func() {
		w = newWorld()
		plain = w.rayCluster("a").Object["spec"].(map[string]any)
		w.policy("p", selecting())
		w.start("p", "a")
		w.mark()
	})

	It("is outdone twice within the hour and then named, and no pod is restarted", func() {
		pods := uids(w.pods("a"))
		for n := range 2 {
			w.update("a", func(c *unstructured.Unstructured) { c.Object["spec"] = plain })
			w.eventually(func(g Gomega) {
				g.Expect(injectedTemplates(w.get("a"))).To(Equal(2))
				restored := w.status("a").Injection.RestoredTimes
				g.Expect(restored).To(HaveLen(n + 1))
				g.Expect(time.Since(restored[n].Time)).To(BeNumerically(">", 11*time.Second), "what comes sooner counts as the same time")
			})
		}
		w.update("a", func(c *unstructured.Unstructured) { c.Object["spec"] = plain })
		w.says("p", "a", v1alpha1.ReasonFieldConflict, `"some-tool"`, "let that tool ignore")
		w.eventually(func(g Gomega) {
			g.Expect(w.status("a").Injection.Templates).To(BeEmpty(), "the operator's own changes are on record until caches show that they are gone")
		})
		w.quiet()
		Expect(injectedTemplates(w.get("a"))).To(BeZero())
		Expect(uids(w.pods("a"))).To(Equal(pods))
		w.readySays("p", v1alpha1.ReasonFieldConflict)
		Expect(w.events()).To(ContainElement(ContainSubstring("InjectionRestored")))

		restartOperator()
		w.quiet()
		Expect(injectedTemplates(w.get("a"))).To(BeZero(), "a new operator does not start to count anew")

		w.update("a", set(true, "spec", "suspend"))
		w.eventually(func(g Gomega) { g.Expect(w.pods("a")).To(BeEmpty()) })
	})

	It("together with a lost RayClusterTLS, is not fought: the head is encrypted and goes on so", func() {
		pods := uids(w.pods("a"))
		operator.kill() // which has the record again in a moment
		w.update("a", func(c *unstructured.Unstructured) { c.Object["spec"] = plain })
		Expect(w.admin.Delete(w.ctx, w.tls("a"))).To(Succeed())
		restartOperator()
		w.says("p", "a", v1alpha1.ReasonFieldConflict, "and the record of it")
		w.quiet()
		Expect(uids(w.pods("a"))).To(Equal(pods))
		w.update("a", set(true, "spec", "suspend"))
		w.encrypted("p", "a")
	})

	It("from one template only, is outdone", onEveryKubeRay, func() {
		w.update("a", func(c *unstructured.Unstructured) {
			c.Object["spec"].(map[string]any)["workerGroupSpecs"] = plain["workerGroupSpecs"]
		})
		w.eventually(func(g Gomega) {
			g.Expect(injectedTemplates(w.get("a"))).To(Equal(2))
			w.saying(g, "p", "a", v1alpha1.ReasonEncrypted)
		})
	})

	It("and scales up meanwhile, costs the plaintext pods that cannot join, and no other", func() {
		pods := names(w.pods("a"))
		w.ray.frozen = true
		w.update("a", func(c *unstructured.Unstructured) { c.Object["spec"] = plain })
		w.eventually(func(g Gomega) { g.Expect(injectedTemplates(w.get("a"))).To(Equal(2)) })
		// A pod made from the template while it was stripped.
		worker := w.pods("a")[0]
		worker.ResourceVersion, worker.UID, worker.Name = "", "", "late"
		worker.Labels["ray.io/node-type"], worker.Labels["ray.io/group"] = "worker", "small"
		worker.Spec.InitContainers, worker.Spec.Volumes = nil, nil
		worker.Spec.Containers[0].VolumeMounts = nil
		Expect(w.admin.Create(w.ctx, &worker)).To(Succeed())
		w.eventually(func(g Gomega) { g.Expect(w.deleted()).To(ConsistOf("late")) })
		w.ray.frozen = false
		w.encrypted("p", "a")
		Expect(names(w.pods("a"))).To(ConsistOf(pods))
	})
})

var _ = Describe("Fields that the operator does not know", func() {
	It("survive enabling, a change and disabling, at every depth", func() {
		needsUnknownFields()
		w := newWorld()
		unknown := map[string]any{"deep": []any{map[string]any{"a": int64(1), "b": nil}}}
		group := workerGroup("small", 1, image)
		group["futureGroupField"] = unknown
		group["template"].(map[string]any)["spec"].(map[string]any)["futurePodField"] = "x"
		before := w.run("a", groups(group), set(unknown, "spec", "futureField"), set("y", "spec", "headGroupSpec", "futureHeadField"),
			inHead(func(c map[string]any) {
				c["futureContainerField"] = unknown
				c["env"] = []any{}
			}), annotation("keep", "me"))
		Expect(before.Object["spec"]).To(HaveKey("futureField"), "the API server keeps them to begin with")
		w.policy("p", targeting("a", immediately, disabling))
		w.encrypted("p", "a")
		spec := w.get("a").Object["spec"].(map[string]any)
		Expect(spec).To(HaveKeyWithValue("futureField", unknown))
		Expect(spec["workerGroupSpecs"].([]any)[0]).To(HaveKeyWithValue("futureGroupField", unknown))
		w.deletePolicy("p")
		w.eventually(func(g Gomega) { w.policyGone(g, "p") })
		same(Default, before, w.get("a"))
	})
})
