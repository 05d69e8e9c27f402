package suite_test

import (
	"fmt"

	. "github.com/onsi/ginkgo/v2"
	. "github.com/onsi/gomega"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/watch"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/raytls/raytls/api/v1alpha1"
)

var _ = Describe("A policy's status", func() {
	var w *world
	BeforeEach(func() { w = newWorld() })

	It("has all conditions from the first write on, each with the generation it speaks of, and never a false Ready", func() {
		w.run("a")
		watcher, err := w.admin.Watch(w.ctx, &v1alpha1.RayTLSPolicyList{}, client.InNamespace(w.ns))
		Expect(err).NotTo(HaveOccurred())
		defer watcher.Stop()
		w.policy("p", targeting("a", immediately))
		w.encrypted("p", "a")
		w.updatePolicy("p", func(p *v1alpha1.RayTLSPolicy) { p.Spec.PodCertificate.HeadServiceShortName = true })
		w.eventually(func(g Gomega) { g.Expect(w.getPolicy("p").Status.ObservedGeneration).To(BeEquivalentTo(2)) })
		w.settle()
		seen := 0
		for len(watcher.ResultChan()) > 0 || seen == 0 {
			event := <-watcher.ResultChan()
			p, ok := event.Object.(*v1alpha1.RayTLSPolicy)
			if !ok || event.Type == watch.Deleted || len(p.Status.Conditions) == 0 {
				continue
			}
			seen++
			Expect(p.Status.Conditions).To(HaveLen(5))
			for _, c := range p.Status.Conditions {
				Expect(c.ObservedGeneration).To(Equal(p.Status.ObservedGeneration))
				Expect(c.Reason).NotTo(BeEmpty())
				Expect(c.Message).NotTo(BeEmpty())
				if c.Type == v1alpha1.ConditionReady && c.Status == metav1.ConditionTrue {
					Expect(p.Status.PlaintextPods).To(BeZero(), "never Ready while a covered pod speaks plaintext")
					Expect(p.Status.EncryptedClusters).To(BeEquivalentTo(1), "never Ready before the cluster was looked at")
				}
			}
		}
		Expect(w.getPolicy("p").Status).To(And(HaveField("Clusters", BeEquivalentTo(1)), HaveField("EncryptedClusters", BeEquivalentTo(1)), HaveField("Pods", BeEquivalentTo(3))))
	})

	It("says of a cluster that is not there yet that it is not", func() {
		w.policy("p", targeting("later", immediately))
		w.eventually(func(g Gomega) {
			g.Expect(w.condition("p", v1alpha1.ConditionReady).Reason).To(Equal(v1alpha1.ReasonTargetNotFound))
			g.Expect(w.condition("p", v1alpha1.ConditionReady).Message).To(ContainSubstring("RayCluster later does not exist"))
			g.Expect(w.condition("p", v1alpha1.ConditionAccepted).Status).To(Equal(metav1.ConditionTrue))
		})
		w.ray.frozen = true
		w.start("p", "later")
	})

	It("counts all clusters and names the first three of the worst kind, and each has its own RayClusterTLS", func() {
		const clusters = 20
		w.policy("p", selecting())
		w.ray.frozen = true
		for i := range clusters {
			var edits []edit
			if i >= 16 {
				edits = append(edits, inHead(func(c map[string]any) { c["env"] = []any{map[string]any{"name": "RAY_USE_TLS", "value": "1"}} }))
			}
			Expect(w.admin.Create(w.ctx, w.rayCluster(fmt.Sprintf("c%02d", i), edits...))).To(Succeed())
		}
		Eventually(func(g Gomega) {
			g.Expect(w.getPolicy("p").Status.Clusters).To(BeEquivalentTo(clusters))
			ready := w.condition("p", v1alpha1.ConditionReady)
			g.Expect(ready.Reason).To(Equal(v1alpha1.ReasonForeignTLS))
			g.Expect(ready.Message).To(And(HavePrefix("0 of 20 RayClusters are encrypted. RayCluster c16: "), ContainSubstring("RayCluster c18: "), HaveSuffix("And 17 more")))
			g.Expect(w.condition("p", v1alpha1.ConditionStalled)).To(And(HaveField("Status", metav1.ConditionTrue), HaveField("Reason", v1alpha1.ReasonForeignTLS)))
			for i := range clusters {
				want := v1alpha1.ReasonNoPods
				if i >= 16 {
					want = v1alpha1.ReasonForeignTLS
				}
				g.Expect(w.reason(fmt.Sprintf("c%02d", i))).To(Equal(want))
			}
		}).Should(Succeed())
	})

	It("names a pod whose init container fails on a cluster that is encrypted already", func() {
		w.policy("p", selecting())
		w.start("p", "a")
		w.ray.certificate = canaryFails
		w.mark()
		w.update("a", func(c *unstructured.Unstructured) {
			c.Object["spec"].(map[string]any)["workerGroupSpecs"].([]any)[0].(map[string]any)["replicas"] = int64(3)
		})
		w.says("p", "a", v1alpha1.ReasonCertificateFailed, "no openssl in this image")
		w.readySays("p", v1alpha1.ReasonCertificateFailed, "RayCluster a: ")
		Expect(w.deleted()).To(BeEmpty())
		w.ray.certificate = nil
		w.says("p", "a", v1alpha1.ReasonEncrypted)
	})
})
