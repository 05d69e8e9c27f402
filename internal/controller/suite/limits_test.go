package suite_test

import (
	"fmt"

	. "github.com/onsi/ginkgo/v2"
	. "github.com/onsi/gomega"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"

	"github.com/raytls/raytls/api/v1alpha1"
	"github.com/raytls/raytls/internal/injection"
)

var _ = Describe("A cluster that is not the operator's to trust", func() {
	It("is left alone and reported if it has more worker groups than are looked at", func() {
		w := newWorld()
		w.ray.frozen = true
		many := []any{}
		for n := range injection.MaxWorkerGroups + 1 {
			many = append(many, workerGroup(fmt.Sprint("g", n), 0, image))
		}
		before := w.create("large", groups(many...))
		w.policy("p", selecting())
		w.says("p", "large", v1alpha1.ReasonInjectionConflict, "more than 256 worker groups")
		w.create("small")
		w.encrypted("p", "small")
		w.settle()
		same(Default, before, w.get("large"))
		Expect(gone(w.caSecret("large"))).To(BeTrue())
	})

	It("is encrypted though it takes more memory than a cache keeps, and not if it takes more than is read", func() {
		w := newWorld()
		w.ray.frozen = true
		tolerating := func(count int) edit {
			list := make([]any, count)
			for n := range list {
				list[n] = map[string]any{"key": fmt.Sprint("k", n), "operator": "Exists"}
			}
			return set(list, "spec", "headGroupSpec", "template", "spec", "tolerations")
		}
		w.create("heavy", tolerating(4_000))
		before := w.create("heavier", tolerating(24_000))
		w.policy("p", selecting())
		w.encrypted("p", "heavy")
		Expect(fmt.Sprint(w.get("heavy").Object["spec"])).To(ContainSubstring("k3999"))
		w.says("p", "heavier", v1alpha1.ReasonInjectionConflict, "more than 8 MiB of memory")
		w.settle()
		same(Default, before, w.get("heavier"))
	})

	It("is left alone and reported if it takes its environment from more objects than are read", func() {
		w := newWorld()
		w.ray.frozen = true
		before := w.create("greedy", inHead(func(container map[string]any) {
			from := []any{}
			for n := range 17 {
				from = append(from, map[string]any{"configMapRef": map[string]any{"name": fmt.Sprint("c", n), "optional": true}})
			}
			container["envFrom"] = from
		}))
		w.policy("p", selecting())
		w.says("p", "greedy", v1alpha1.ReasonInjectionConflict, "name 17 ConfigMaps in envFrom", "at most 16")
		w.settle()
		same(Default, before, w.get("greedy"))
	})

	It("has no init image that is not allowed, whatever its templates carry", func() {
		w := newWorld()
		user := set(int64(1000), "spec", "headGroupSpec", "template", "spec", "securityContext", "runAsUser")
		w.create("forged", groups(), user, func(c *unstructured.Unstructured) {
			forged, err := injection.Apply(c.Object["spec"].(map[string]any), injection.Options{
				ClusterName: "forged", Parameters: injection.Parameters{Image: "evil.example/init:1"},
			}, injection.All())
			Expect(err).NotTo(HaveOccurred())
			c.Object["spec"] = forged
		})
		w.ray.frozen = true
		w.policy("p", selecting())
		w.encrypted("p", "forged")
		Expect(fmt.Sprint(w.get("forged").Object["spec"])).NotTo(ContainSubstring("evil.example"))
	})
})
