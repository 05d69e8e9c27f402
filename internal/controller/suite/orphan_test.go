package suite_test

import (
	. "github.com/onsi/ginkgo/v2"
	. "github.com/onsi/gomega"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"

	"github.com/raytls/raytls/api/v1alpha1"
	"github.com/raytls/raytls/internal/injection"
)

var _ = Describe("A cluster with the injection that nobody makes keys for", func() {
	It("is given its templates back, and its pods start in plaintext", func() {
		w := newWorld()
		plain := w.create("b")
		w.create("a", func(c *unstructured.Unstructured) {
			spec, err := injection.Apply(c.Object["spec"].(map[string]any), injection.Options{ClusterName: "a"}, injection.All())
			Expect(err).NotTo(HaveOccurred())
			c.Object["spec"] = spec
		})
		w.eventually(func(g Gomega) {
			g.Expect(injectedTemplates(w.get("a"))).To(BeZero())
			g.Expect(w.provisioned("a")).To(BeTrue())
			g.Expect(w.reason("a")).To(Equal(v1alpha1.ReasonNotCovered))
		})
		Expect(w.get("a").Object["spec"]).To(Equal(plain.Object["spec"]))
		for _, pod := range w.pods("a") {
			Expect(injectedPod(&pod)).To(BeFalse())
		}
		Expect(w.tls("b")).To(BeNil(), "a plaintext cluster is none of the operator's")
		w.quiet()
		w.policy("p", targeting("a", immediately))
		w.encrypted("p", "a")
	})
})
