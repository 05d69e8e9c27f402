package suite_test

import (
	"os"
	"path/filepath"

	. "github.com/onsi/ginkgo/v2"
	. "github.com/onsi/gomega"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"

	"github.com/raytls/raytls/api/v1alpha1"
)

// apiServerAhead has the answers of the API server be of a clock that is so far ahead of the operator's, or no more so. A new operator
// knows it from its first answer.
func apiServerAhead(ahead string) {
	GinkgoHelper()
	file := filepath.Join(env.heads, dateFile)
	if ahead == "" {
		Expect(os.Remove(file)).To(Succeed())
	} else {
		Expect(os.WriteFile(file, []byte(ahead), 0o600)).To(Succeed())
	}
	restartOperator()
}

var _ = Describe("An operator whose clock is off", func() {
	It("makes no keys, restarts nothing, says so, and goes on when its clock is right", func() {
		w := newWorld()
		w.policy("p", selecting(immediately))
		w.start("p", "old")
		w.run("plain", label(v1alpha1.LabelExclude, "true"))
		w.quiet()
		before, pods := w.get("plain"), uids(w.pods("plain"))
		DeferCleanup(func() { _ = os.Remove(filepath.Join(env.heads, dateFile)) })
		apiServerAhead("1h")
		w.mark()
		w.ray.frozen = true
		w.create("new")
		w.eventually(func(g Gomega) {
			w.saying(g, "p", "new", v1alpha1.ReasonClockSkew, "operator's clock read 20", "that of an API server read 20")
		})
		Expect(w.clusterCondition("new", v1alpha1.ConditionStalled)).To(HaveField("Status", metav1.ConditionTrue))
		w.update("plain", func(c *unstructured.Unstructured) { c.SetLabels(nil) })
		w.eventually(func(g Gomega) {
			g.Expect(w.reason("plain")).To(Equal(v1alpha1.ReasonClockSkew))
			g.Expect(w.status("plain").PendingRestart).To(HaveValue(HaveField("Reason", v1alpha1.ReasonClockSkew)))
		})
		w.updatePolicy("p", func(p *v1alpha1.RayTLSPolicy) {
			now := metav1.Now()
			p.Spec.CertificateAuthority.ReplaceIssuedBefore = &now
		})
		w.upToDate("p", "old", metav1.ConditionFalse, v1alpha1.ReasonClockSkew)
		w.encrypted("p", "old")
		for _, cluster := range []string{"new", "plain"} {
			Expect(gone(w.authority(cluster))).To(BeTrue(), "no keys are made")
		}
		Expect(w.status("old").Authority.Generation).To(BeEquivalentTo(1))
		Expect(essence(w.get("plain"))["spec"]).To(Equal(essence(before)["spec"]))
		Expect(uids(w.pods("plain"))).To(Equal(pods))
		Expect(w.deleted()).To(BeEmpty())
		w.quiet()

		apiServerAhead("")
		w.ray.frozen = false
		w.encrypted("p", "new")
		w.encrypted("p", "plain")
		w.eventually(func(g Gomega) { g.Expect(w.status("old").Authority.Generation).To(BeEquivalentTo(2)) })
	})

	It("tells the time by the API server's clock", func() {
		w := newWorld()
		DeferCleanup(func() { _ = os.Remove(filepath.Join(env.heads, dateFile)) })
		apiServerAhead("4m")
		w.policy("p", selecting())
		w.start("p", "a")
		at := w.status("a").Injection.Since
		Expect(at).NotTo(BeNil())
		apiServerAhead("")
		Expect(at.Sub(w.get("a").GetCreationTimestamp().Time)).To(BeNumerically("~", 4*60*1e9, 60*1e9))
	})
})
