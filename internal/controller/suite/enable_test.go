package suite_test

import (
	"strings"

	. "github.com/onsi/ginkgo/v2"
	. "github.com/onsi/gomega"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"

	"github.com/raytls/raytls/api/v1alpha1"
)

var _ = Describe("Enabling", func() {
	var w *world
	BeforeEach(func() { w = newWorld() })

	It("injects a new cluster before it has pods, with its keys made first", onEveryKubeRay, func() {
		w.policy("p", selecting())
		w.ray.frozen = true
		w.start("p", "a")
		w.hasKeys("a")
		order := strings.Join(w.writes(), "\n")
		Expect(strings.Index(order, "POST secrets")).To(BeNumerically("<", strings.Index(order, "PATCH rayclusters/a")), "no pod ever waits for its keys")
		w.ray.frozen = false
		w.eventually(func(g Gomega) { g.Expect(w.provisioned("a")).To(BeTrue()) })
		w.says("p", "a", v1alpha1.ReasonEncrypted)
		w.eventually(func(g Gomega) {
			g.Expect(w.status("a").Pods).To(Equal(v1alpha1.PodCounts{Total: 3, Certified: 3}))
			g.Expect(w.condition("p", v1alpha1.ConditionReady).Status).To(Equal(metav1.ConditionTrue))
		})
		Expect(w.deleted()).To(BeEmpty(), "a cluster encrypted from its start is never restarted")
		w.quiet()
	})

	It("injects a suspended cluster, which then starts encrypted", onEveryKubeRay, func() {
		w.create("a", set(true, "spec", "suspend"))
		w.policy("p", selecting())
		w.encrypted("p", "a")
		w.update("a", set(false, "spec", "suspend"))
		w.eventually(func(g Gomega) {
			g.Expect(w.provisioned("a")).To(BeTrue())
			g.Expect(w.status("a").Pods.Certified).To(BeEquivalentTo(3))
		})
		Expect(w.deleted()).To(BeEmpty())
	})

	It("replaces the plaintext pods of a cluster that was never ready, without approval and without a canary", func() {
		w.ray.unready = true
		w.create("a")
		w.eventually(func(g Gomega) { g.Expect(w.pods("a")).To(HaveLen(3)) })
		old := names(w.pods("a"))
		w.policy("p", selecting())
		w.eventually(func(g Gomega) { g.Expect(w.status("a").Pods.Certified).To(BeEquivalentTo(3)) })
		w.encrypted("p", "a")
		Expect(w.deleted()).To(ConsistOf(old), "each pod once")
	})

	It("restarts a running cluster that is singled out: a canary, then the head, then the rest, each pod once", onEveryKubeRay, func() {
		before := w.run("a", groups(workerGroup("small", 2, image), workerGroup("large", 2, image)))
		old := names(w.pods("a"))
		w.policy("p", targeting("a", immediately))
		w.encrypted("p", "a")
		w.eventually(func(g Gomega) {
			g.Expect(w.condition("p", v1alpha1.ConditionReady).Status).To(Equal(metav1.ConditionTrue))
		})
		deleted := w.deleted()
		// The large group's pods are equal to the small one's, so one canary speaks for both. Its siblings
		// get the injection with the head, and it is not restarted again.
		Expect(deleted).To(ConsistOf(old))
		Expect(deleted[0]).NotTo(ContainSubstring("head"))
		Expect(deleted[1]).To(ContainSubstring("headgroup"))
		w.quiet()
		Expect(before.GetUID()).To(Equal(w.get("a").GetUID()))
	})

	It("takes one canary per distinct image and security context", func() {
		other := workerGroup("other", 1, "rayproject/ray:2.52.0-gpu")
		pinned := workerGroup("pinned", 1, image)
		pinned["template"].(map[string]any)["spec"].(map[string]any)["securityContext"] = map[string]any{"runAsUser": int64(1000)}
		w.run("a", groups(workerGroup("small", 1, image), workerGroup("same", 1, image), other, pinned))
		w.ray.certificate = func(p *corev1.Pod) outcome {
			if p.Labels["ray.io/node-type"] == "worker" {
				return hangs
			}
			return succeeds
		}
		w.policy("p", targeting("a", immediately))
		w.eventually(func(g Gomega) { g.Expect(w.deleted()).To(HaveLen(3)) })
		w.settle()
		Expect(w.deleted()).To(ConsistOf(ContainSubstring("-small-"), ContainSubstring("-other-"), ContainSubstring("-pinned-")))
		Expect(injectedTemplates(w.get("a"))).To(Equal(3), "neither head nor the group without a canary is injected yet")
		w.ray.certificate = nil
		w.encrypted("p", "a")
		Expect(w.deleted()[3]).To(ContainSubstring("headgroup"))
		Expect(w.deleted()).To(HaveLen(5), "the canaries are not restarted again")
	})

	It("takes the head as the canary where no worker is ready", func() {
		w.run("a", groups(workerGroup("small", 0, image)))
		w.policy("p", targeting("a", immediately))
		w.encrypted("p", "a")
		Expect(w.deleted()).To(ConsistOf(ContainSubstring("headgroup")))
	})

	It("waits for a terminating head until it is gone", func() {
		w.run("a")
		w.ray.keepTerminating = true
		w.policy("p", targeting("a", immediately))
		w.eventually(func(g Gomega) { g.Expect(w.deleted()).To(HaveLen(1)) })
		w.settle()
		Expect(w.deleted()).To(HaveLen(1), "the head stays while the canary has not shown anything")
		w.readySays("p", v1alpha1.ReasonEnabling)
		w.ray.keepTerminating = false
		w.encrypted("p", "a")
	})

	It("follows a change of the image on an encrypted cluster, and injects a new worker group at once", onEveryKubeRay, func() {
		w.policy("p", selecting())
		w.start("p", "a")
		pods := uids(w.pods("a"))
		w.update("a", func(c *unstructured.Unstructured) {
			spec := c.Object["spec"].(map[string]any)
			spec["workerGroupSpecs"] = append(spec["workerGroupSpecs"].([]any), workerGroup("new", 0, image))
		}, inHead(func(c map[string]any) { c["image"] = "rayproject/ray:2.53.0" }))
		w.eventually(func(g Gomega) {
			g.Expect(injectedTemplates(w.get("a"))).To(Equal(3))
			w.saying(g, "p", "a", v1alpha1.ReasonEncrypted)
		})
		Expect(uids(w.pods("a"))).To(Equal(pods), "no pod is restarted for it")
		w.quiet()
	})
})
