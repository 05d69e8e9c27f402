package suite_test

import (
	"slices"

	. "github.com/onsi/ginkgo/v2"
	. "github.com/onsi/gomega"
	corev1 "k8s.io/api/core/v1"

	"github.com/raytls/raytls/api/v1alpha1"
)

// restartOperator kills the operator and waits until the next one works, unless that is to die first.
func restartOperator(extra ...string) {
	GinkgoHelper()
	operator.kill()
	var err error
	operator, err = env.startOperator(extra...)
	Expect(err).NotTo(HaveOccurred())
	if len(extra) == 0 {
		Eventually(operator.works).Should(BeTrue())
	}
}

// dying runs the operator so that each of its processes dies with its first write, until the check holds. Each process has the
// time of an eventually: how many there will be depends on what the check asks for, and how fast they start on the machine.
func (w *world) dying(check func(g Gomega)) (deaths int) {
	GinkgoHelper()
	restartOperator(envDieAfter + "=1")
	for held := false; !held; {
		w.eventually(func(g Gomega) {
			if operator.running() {
				check(g)
				held = true
			}
		})
		if !held {
			deaths++
			Expect(deaths).To(BeNumerically("<", 100), "the operator comes to an end of its writes")
			restartOperator(envDieAfter + "=1")
		}
	}
	restartOperator()
	return deaths
}

// restoreOperator leaves a working operator to the next spec, whatever became of this one's.
func restoreOperator() {
	GinkgoHelper()
	if operator.running() && !operator.doomed {
		return
	}
	byItself := !operator.doomed && !operator.killed
	restartOperator()
	Expect(byItself).To(BeFalse(), "the operator ended by itself; see its log")
}

var _ = Describe("Killing the operator", func() {
	var w *world
	BeforeEach(func() { w = newWorld() })

	It("changes nothing in any phase, and the next one goes on", func() {
		w.run("a", groups(workerGroup("small", 2, image), workerGroup("other", 1, "other:1")))
		old := names(w.pods("a"))
		hold := "worker"
		w.ray.certificate = func(p *corev1.Pod) outcome {
			if p.Labels["ray.io/node-type"] == hold {
				return hangs
			}
			return succeeds
		}
		at := func(phase v1alpha1.RolloutPhase, deleted int) {
			GinkgoHelper()
			w.eventually(func(g Gomega) {
				g.Expect(w.status("a").Rollout).To(HaveValue(HaveField("Phase", phase)))
				g.Expect(w.deleted()).To(HaveLen(deleted))
			})
			w.settle()
			count := len(w.writes())
			before := w.get("a")
			restartOperator()
			w.consistently(func(g Gomega) {
				same(g, before, w.get("a"))
				g.Expect(w.writes()).To(HaveLen(count), "the new operator finds everything as it is to be")
			})
		}
		w.policy("p", targeting("a", immediately))
		at(v1alpha1.PhaseCanary, 2)
		hold = "head"
		at(v1alpha1.PhaseHead, 3)
		w.ray.keepTerminating = true
		hold = ""
		at(v1alpha1.PhaseRest, 4)
		w.ray.keepTerminating = false
		w.encrypted("p", "a")
		w.settle()
		count := len(w.writes())
		restartOperator()
		w.consistently(func(g Gomega) { g.Expect(w.writes()).To(HaveLen(count)) })
		Expect(w.deleted()).To(ConsistOf(old), "each pod was restarted once")
	})

	It("after each single write still enables with one restart per pod, and disables to the same spec", func() {
		before := w.run("a")
		old := names(w.pods("a"))
		w.policy("p", targeting("a", immediately, disabling))
		deaths := w.dying(func(g Gomega) {
			w.saying(g, "p", "a", v1alpha1.ReasonEncrypted)
			g.Expect(w.status("a").Pods.Certified).To(BeEquivalentTo(3))
		})
		Expect(deaths).To(BeNumerically(">", 8))
		w.encrypted("p", "a")
		Expect(w.deleted()).To(ConsistOf(old))
		encrypted := names(w.pods("a"))
		w.mark()
		w.deletePolicy("p")
		w.dying(func(g Gomega) { w.policyGone(g, "p") })
		same(Default, before, w.get("a"))
		Expect(slices.Sorted(slices.Values(w.deleted()))).To(Equal(slices.Sorted(slices.Values(encrypted))))
		Expect(gone(w.caSecret("a"))).To(BeTrue())
		Expect(gone(w.authority("a"))).To(BeTrue())
		Expect(gone(w.scripts())).To(BeTrue())
	})

	It("after each single write still puts a failed enabling back", func() {
		before := w.run("a")
		w.ray.certificate = func(*corev1.Pod) outcome { return "raytls-init: no openssl in this image" }
		w.policy("p", targeting("a", immediately))
		w.dying(func(g Gomega) {
			w.saying(g, "p", "a", v1alpha1.ReasonEnableFailed)
			g.Expect(w.status("a").Pods).To(Equal(v1alpha1.PodCounts{Total: 3, Plaintext: 3}))
			g.Expect(w.status("a").Rollout).To(BeNil())
		})
		Expect(w.get("a").Object["spec"]).To(Equal(before.Object["spec"]))
		Expect(w.deleted()).To(HaveLen(2))
	})

	It("after each single write still rolls with one restart per pod", func() {
		w.policy("p", selecting())
		w.start("p", "a", annotation("ray.io/ft-enabled", "true"))
		w.eventually(func(g Gomega) { g.Expect(w.status("a").Pods.Certified).To(BeEquivalentTo(3)) })
		old := names(w.pods("a"))
		w.changeCertificates("p", "a")
		deaths := w.dying(func(g Gomega) {
			g.Expect(w.evicted()).To(HaveLen(3))
			g.Expect(w.status("a").Pods).To(Equal(v1alpha1.PodCounts{Total: 3, Certified: 3}))
			g.Expect(w.status("a").Rollout).To(BeNil())
		})
		Expect(deaths).To(BeNumerically(">", 5))
		evicted := w.evicted()
		Expect(evicted).To(ConsistOf(old), "each pod was restarted once")
		Expect(evicted[2]).To(ContainSubstring("headgroup"))
		w.encrypted("p", "a")
	})

	It("sweeps the authorities of clusters that went while it was down", func() {
		w.policy("p", selecting())
		w.start("p", "a")
		_, err := w.authority("a")
		Expect(err).NotTo(HaveOccurred())
		operator.kill()
		Expect(w.admin.Delete(w.ctx, w.get("a"))).To(Succeed())
		restartOperator()
		Eventually(func() bool { return gone(w.authority("a")) }).Should(BeTrue())
	})
})
