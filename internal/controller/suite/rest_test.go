package suite_test

import (
	"fmt"
	"os"
	"strings"
	"time"

	. "github.com/onsi/ginkgo/v2"
	. "github.com/onsi/gomega"

	"github.com/raytls/raytls/api/v1alpha1"
)

// envRestWindow is for how long the operator is watched doing nothing. The issue it answers to says two minutes.
const envRestWindow = "RAYTLS_REST_WINDOW"

var _ = Describe("At rest", func() {
	It("the operator writes nothing, with 50 covered clusters whose pods run", SpecPriority(1), func() {
		window := 10 * time.Second
		if text := os.Getenv(envRestWindow); text != "" {
			var err error
			window, err = time.ParseDuration(text)
			Expect(err).NotTo(HaveOccurred())
		}
		w := newWorld()
		w.policy("p", selecting())
		const clusters = 50
		w.ray.frozen = true
		for i := range clusters {
			Expect(w.admin.Create(w.ctx, w.rayCluster(fmt.Sprintf("c%02d", i), groups(workerGroup("small", 1, image))))).To(Succeed())
		}
		Eventually(func(g Gomega) {
			g.Expect(w.getPolicy("p").Status.Clusters).To(BeEquivalentTo(clusters))
			g.Expect(w.condition("p", v1alpha1.ConditionReady).Reason).To(Equal(v1alpha1.ReasonNoPods), "all are injected, and wait for pods")
		}).Should(Succeed())
		w.ray.frozen = false
		Eventually(func(g Gomega) {
			w.ray.step(w.ctx)
			status := w.getPolicy("p").Status
			g.Expect(status.EncryptedClusters).To(BeEquivalentTo(clusters))
			g.Expect(status.Pods).To(BeEquivalentTo(2 * clusters))
		}).WithPolling(time.Second).WithTimeout(3 * time.Minute).Should(Succeed())
		w.settle()
		writes := func() []string {
			text, err := os.ReadFile(env.writes)
			Expect(err).NotTo(HaveOccurred())
			return strings.Split(string(text[w.from:]), "\n")
		}
		w.mark()
		started := time.Now()
		// Every write counts here, events and other namespaces' too.
		Consistently(writes).WithTimeout(window).WithPolling(500 * time.Millisecond).Should(Equal([]string{""}))
		AddReportEntry("writes at rest", fmt.Sprintf("0 in %s with %d clusters", time.Since(started).Round(time.Second), clusters))
	})
})
