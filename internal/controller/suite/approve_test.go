package suite_test

import (
	"fmt"
	"strings"

	. "github.com/onsi/ginkgo/v2"
	. "github.com/onsi/gomega"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/raytls/raytls/api/v1alpha1"
)

var _ = Describe("Approval", func() {
	var w *world
	BeforeEach(func() { w = newWorld() })

	It("leaves running clusters alone until they are approved, each approval good once and for its cluster only", func() {
		a, b := w.run("a"), w.run("b")
		podsA, podsB := uids(w.pods("a")), uids(w.pods("b"))
		w.mark()
		w.policy("p", selecting())
		w.says("p", "a", v1alpha1.ReasonAwaitingApproval, "suspend it, or approve")
		pending := w.status("a").PendingRestart
		Expect(pending).To(HaveValue(And(HaveField("Action", v1alpha1.ActionEnable), HaveField("Reason", v1alpha1.ReasonAwaitingApproval), HaveField("BlockedBy", ""))))
		Expect(pending.Message).To(And(ContainSubstring("kubectl patch raytlspolicy p -n "+w.ns), ContainSubstring(pending.ID)), "the command to copy")
		w.says("p", "b", v1alpha1.ReasonAwaitingApproval)
		w.untouched(a, podsA)
		w.untouched(b, podsB)
		w.readySays("p", v1alpha1.ReasonAwaitingApproval)

		w.approve("p", "a")
		w.encrypted("p", "a")
		Expect(w.status("a").PendingRestart).To(BeNil())
		same(Default, b, w.get("b"))
		Expect(uids(w.pods("b"))).To(Equal(podsB))

		w.approve("p", "b")
		w.encrypted("p", "b")
		w.quiet()
	})

	It("does not take the same approval twice", func() {
		w.run("a")
		w.ray.certificate = func(*corev1.Pod) outcome { return "raytls-init: no openssl in this image" }
		w.policy("p", selecting())
		w.says("p", "a", v1alpha1.ReasonAwaitingApproval)
		first := w.approve("p", "a")
		w.says("p", "a", v1alpha1.ReasonEnableFailed)
		w.eventually(func(g Gomega) {
			g.Expect(w.status("a").Pods).To(Equal(v1alpha1.PodCounts{Total: 3, Plaintext: 3}))
			g.Expect(w.status("a").Rollout).To(BeNil())
		})
		w.quiet()
		w.ray.certificate = nil
		w.approveID("p", "b", "abcdef")
		w.quiet()
		Expect(w.reason("a")).To(Equal(v1alpha1.ReasonEnableFailed))
		Expect(w.approve("p", "a")).NotTo(Equal(first))
		w.encrypted("p", "a")
	})

	It("encrypts a cluster that was waiting for approval when it is suspended", func() {
		w.run("a")
		w.policy("p", selecting())
		w.says("p", "a", v1alpha1.ReasonAwaitingApproval)
		w.update("a", set(true, "spec", "suspend"))
		w.encrypted("p", "a")
	})

	DescribeTable("restarts no more running clusters at a time than allowed", func(most int) {
		for i := range 3 {
			w.run(fmt.Sprintf("c%d", i), groups(workerGroup("small", 1, image)))
		}
		started := func() (out int) {
			for i := range 3 {
				if w.status(fmt.Sprintf("c%d", i)).Rollout != nil {
					out++
				}
			}
			return out
		}
		waiting := func() (out int) {
			for i := range 3 {
				if c := w.clusterCondition(fmt.Sprintf("c%d", i), v1alpha1.ConditionEncrypted); c.Reason == v1alpha1.ReasonWaitingForSlot {
					Expect(c.Message).To(ContainSubstring("maxConcurrentClusters"))
					out++
				}
			}
			return out
		}
		w.ray.certificate = func(*corev1.Pod) outcome { return hangs }
		w.policy("p", selecting(immediately, func(s *v1alpha1.RayTLSPolicySpec) { s.Rollout.MaxConcurrentClusters = int32(most) }))
		w.eventually(func(g Gomega) {
			g.Expect(started()).To(Equal(most))
			g.Expect(waiting()).To(Equal(3 - most))
		})
		w.ray.frozen = true // or its pods could be up in plaintext before the operator sees it
		w.create("fresh")
		w.eventually(func(g Gomega) {
			g.Expect(injectedTemplates(w.get("fresh"))).To(Equal(2), "a cluster without pods does not count and does not wait")
		})
		w.ray.frozen = false
		w.consistently(func(g Gomega) { g.Expect(started()).To(Equal(most)) })
		w.ray.certificate = nil
		w.eventually(func(g Gomega) {
			g.Expect(started()).To(BeNumerically("<=", most))
			for i := range 3 {
				w.saying(g, "p", fmt.Sprintf("c%d", i), v1alpha1.ReasonEncrypted)
			}
		})
	}, Entry("one", 1), Entry("two", 2))
})

var _ = Describe("A failed canary", func() {
	var w *world
	BeforeEach(func() { w = newWorld() })
	noOpenssl := func(*corev1.Pod) outcome { return "raytls-init: no openssl in this image\nmore" }

	It("is put back exactly, and not tried again until template or approval change, nor is another cluster started", func() {
		before := w.run("a")
		w.run("b")
		old := uids(w.pods("a"))
		w.ray.certificate = noOpenssl
		w.policy("p", selecting(immediately))
		w.eventually(func(g Gomega) {
			reasons := w.reason("a") + " " + w.reason("b")
			g.Expect(reasons).To(Or(
				Equal(v1alpha1.ReasonEnableFailed+" "+v1alpha1.ReasonWaitingForSlot),
				Equal(v1alpha1.ReasonWaitingForSlot+" "+v1alpha1.ReasonEnableFailed),
			))
		})
		failed, other := "a", "b"
		if w.reason("b") == v1alpha1.ReasonEnableFailed {
			failed, other = "b", "a"
		}
		w.eventually(func(g Gomega) {
			for _, name := range []string{failed, other} {
				g.Expect(w.status(name).Pods).To(Equal(v1alpha1.PodCounts{Total: 3, Plaintext: 3}))
			}
			g.Expect(w.status(failed).Rollout).To(BeNil())
		})
		after := w.get(failed)
		Expect(after.Object["spec"]).To(Equal(before.Object["spec"]), "the templates are as they were, to the byte of JSON")
		Expect(w.status(failed).Injection.FailedHash).NotTo(BeEmpty())
		Expect(w.status(failed).Injection.FailedMessage).To(ContainSubstring("no openssl in this image"))
		Expect(w.clusterCondition(failed, v1alpha1.ConditionEncrypted).Message).To(ContainSubstring("when you approve the restart"))
		Expect(w.clusterCondition(failed, v1alpha1.ConditionStalled).Status).To(Equal(metav1.ConditionTrue))
		Expect(w.clusterCondition(other, v1alpha1.ConditionEncrypted).Message).To(ContainSubstring("enabling RayCluster " + failed + " failed"))
		w.readySays("p", v1alpha1.ReasonEnableFailed)
		touched := w.deleted()
		Expect(touched).To(HaveLen(2), "the canary, and its replacement when the template was back")
		for _, name := range touched {
			Expect(name).To(HavePrefix(failed + "-small-"))
		}
		for name, uid := range old {
			if failed == "a" && name != touched[0] {
				Expect(uids(w.pods("a"))).To(HaveKeyWithValue(name, uid), "no pod but the canary was touched")
			}
		}
		w.quiet()
		Eventually(func(g Gomega) {
			g.Expect(w.events()).To(ContainElement(And(ContainSubstring(v1alpha1.ReasonEnableFailed), ContainSubstring("no openssl in this image"))))
		}).Should(Succeed())

		w.ray.certificate = nil
		w.update(failed, inHead(func(c map[string]any) { c["image"] = "rayproject/ray:2.53.0" }))
		w.encrypted("p", failed)
		w.encrypted("p", other)
		Expect(w.status(failed).Injection.FailedHash).To(BeEmpty())
	})

	It("is put back where the head is what fails", onEveryKubeRay, func() {
		before := w.run("a")
		w.ray.certificate = func(p *corev1.Pod) outcome {
			if p.Labels["ray.io/node-type"] == "head" {
				return "raytls-init: no openssl in this image"
			}
			return succeeds
		}
		w.policy("p", targeting("a", immediately))
		w.says("p", "a", v1alpha1.ReasonEnableFailed, "put back")
		w.eventually(func(g Gomega) {
			g.Expect(w.status("a").Pods).To(Equal(v1alpha1.PodCounts{Total: 3, Plaintext: 3}))
			g.Expect(w.status("a").Rollout).To(BeNil())
		})
		Expect(w.get("a").Object["spec"]).To(Equal(before.Object["spec"]))
		Expect(w.deleted()).To(HaveLen(4), "the canary, the head, and both again when the templates were back")
		w.quiet()
	})

	It("is put back after the progress deadline, counted from when the old pod is gone", func() {
		group := workerGroup("small", 2, image)
		group["template"].(map[string]any)["spec"].(map[string]any)["terminationGracePeriodSeconds"] = int64(1)
		before := w.run("a", groups(group))
		w.ray.certificate = func(*corev1.Pod) outcome { return hangs }
		w.policy("p", targeting("a", immediately, func(s *v1alpha1.RayTLSPolicySpec) { s.Rollout.ProgressDeadlineSeconds = 10 }))
		w.says("p", "a", v1alpha1.ReasonEnabling, "waiting for the replacement")
		w.says("p", "a", v1alpha1.ReasonEnableFailed)
		w.eventually(func(g Gomega) {
			g.Expect(w.status("a").Pods).To(Equal(v1alpha1.PodCounts{Total: 3, Plaintext: 3}))
		})
		w.eventually(func(g Gomega) { g.Expect(w.get("a").Object["spec"]).To(Equal(before.Object["spec"])) })
		Eventually(func(g Gomega) {
			g.Expect(strings.Join(w.events(), "\n")).To(ContainSubstring("within 10s"))
		}).Should(Succeed())
	})

	It("is tried again with a policy that names another init image", func() {
		w.run("a", inHead(func(c map[string]any) { c["securityContext"] = map[string]any{"runAsUser": int64(1000)} }),
			groups(func() any {
				g := workerGroup("small", 1, image)
				g["template"].(map[string]any)["spec"].(map[string]any)["securityContext"] = map[string]any{"runAsUser": int64(1000)}
				return g
			}()))
		w.ray.certificate = func(p *corev1.Pod) outcome {
			if p.Spec.InitContainers[0].Image == allowedImage {
				return succeeds
			}
			return "raytls-init: no openssl in this image"
		}
		w.policy("p", targeting("a", immediately))
		w.says("p", "a", v1alpha1.ReasonEnableFailed)
		w.updatePolicy("p", func(p *v1alpha1.RayTLSPolicy) { p.Spec.Issuance.InitContainer.Image = allowedImage })
		w.encrypted("p", "a")
	})
})
