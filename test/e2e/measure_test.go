//go:build e2e

package e2e

import (
	"context"
	"fmt"
	"os"
	"slices"
	"strconv"
	"strings"
	"time"

	. "github.com/onsi/ginkgo/v2"
	. "github.com/onsi/gomega"
	rayv1 "github.com/ray-project/kuberay/ray-operator/apis/ray/v1"
	corev1 "k8s.io/api/core/v1"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/raytls/raytls/internal/injection"
)

// starts is how often a pod's start is measured.
const starts = 10

// measured prints a figure as a line of its own and puts it into the report.
func measured(format string, args ...any) {
	text := fmt.Sprintf(format, args...)
	// Ginkgo shows reports of specs that passed only when it is asked to.
	_, err := fmt.Fprintf(os.Stdout, "\nmeasured: %s\n", text)
	Expect(err).NotTo(HaveOccurred())
	AddReportEntry("measured", text)
}

// The specs of this file judge what happens. They print how long it takes, since that depends on the machine.
var _ = Describe("Measurements", Serial, func() {
	BeforeEach(func(ctx SpecContext) {
		// Pods of earlier specs that still end would be measured too.
		Eventually(ctx, leftNamespaces).WithTimeout(2 * time.Minute).Should(BeEmpty())
	})

	// The pods have KubeRay's own probes and our default resources, as a user's would.
	It("enables the two-pod sample with one restart of each pod", func(ctx SpecContext) {
		n := newNamespace(ctx)
		twoPods := newCluster("two", workers("small", 1), everyPod(func(p *corev1.PodSpec) {
			p.Containers[0].ReadinessProbe, p.Containers[0].LivenessProbe = nil, nil
		}))
		began := time.Now()
		n.create(ctx, twoPods)
		n.running(ctx, "two", 2, plaintext)
		plain := lastReady(n.pods.live("two")).Sub(began)
		n.ready(ctx, "two")

		began = time.Now()
		n.create(ctx, newPolicy("two", "two", immediate))
		n.encrypted(ctx, "two", "two", 2)
		var gone time.Time
		for _, p := range n.pods.all("two", plaintext) {
			if p.gone.After(gone) {
				gone = p.gone
			}
		}
		ready := lastReady(n.pods.live("two"))
		measured("two-pod sample: Ready %.1f s after a plaintext start, and %.1f s after the last old pod was gone when enabled (%.1f s more); %.1f s from the policy's creation",
			plain.Seconds(), ready.Sub(gone).Seconds(), (ready.Sub(gone) - plain).Seconds(), ready.Sub(began).Seconds())
		Expect(n.pods.counts("two")).To(Equal(map[string]int{"head": 2, "small": 2}), "each pod restarted once")
	}, SpecTimeout(4*time.Minute))

	// The API tells container times in whole seconds. So each worker has an init container after ours that prints the
	// time, in a cluster with TLS and in one without, and the medians are compared.
	It("starts workers with and without the init container", func(ctx SpecContext) {
		n := newNamespace(ctx)
		stamped := func(c *rayv1.RayCluster) {
			workers("small", 1)(c)
			worker := &c.Spec.WorkerGroupSpecs[0].Template.Spec
			worker.InitContainers = []corev1.Container{{
				Name: "stamp", Image: rayImage, Command: []string{"date", "+%s.%N"}, Resources: worker.Containers[0].Resources,
			}}
		}
		n.create(ctx, newPolicy("tls", "tls"))
		n.create(ctx, newCluster("plain", stamped))
		n.createEncrypted(ctx, "tls", newCluster("tls", stamped), 2)
		n.running(ctx, "plain", 2, plaintext)

		took := map[string][]time.Duration{}
		var ran []time.Duration
		for range starts {
			for _, cluster := range []string{"plain", "tls"} {
				worker := n.replaceWorker(ctx, cluster)
				said, err := n.logs(ctx, worker.pod.Name, "stamp")
				Expect(err).NotTo(HaveOccurred())
				took[cluster] = append(took[cluster], parseStamp(said).Sub(worker.added))
				if cluster == "tls" {
					ended := initStatus(&worker.pod, injection.InitContainerName).State.Terminated
					ran = append(ran, ended.FinishedAt.Sub(ended.StartedAt.Time))
				}
			}
		}
		added := median(took["tls"]) - median(took["plain"])
		measured("init container: adds %.2f s to a worker's start (medians of %d: %.2f s with, %.2f s without; spreads %s and %s); it runs for %.0f s by the whole seconds of the API (median)",
			added.Seconds(), starts, median(took["tls"]).Seconds(), median(took["plain"]).Seconds(), spread(took["tls"]), spread(took["plain"]), median(ran).Seconds())
	}, SpecTimeout(6*time.Minute))
})

// KubeRay's own probes wait ten seconds, so that they would hide what is measured.
var _ = Describe("A worker added by scale-up", Serial, func() {
	It("is Ready with TLS and in a plaintext cluster", func(ctx SpecContext) {
		Eventually(ctx, leftNamespaces).WithTimeout(2 * time.Minute).Should(BeEmpty())
		n := newNamespace(ctx)
		n.create(ctx, newPolicy("tls", "tls"))
		n.admitted(ctx, "tls")
		n.create(ctx, newCluster("plain", workers("small", 1)))
		n.create(ctx, newCluster("tls", workers("small", 1)))
		n.encrypted(ctx, "tls", "tls", 2)
		n.running(ctx, "plain", 2, plaintext)
		took := map[string][]time.Duration{}
		for range starts {
			for _, cluster := range []string{"plain", "tls"} {
				known := n.pods.uids(cluster)
				began := time.Now()
				n.scale(ctx, cluster, 0, 2)
				var added podRecord
				Eventually(ctx, func(g Gomega) {
					fresh := n.pods.live(cluster, isWorker, func(p podRecord) bool { return !containsUID(known, p.pod.UID) && p.isReady() })
					g.Expect(fresh).To(HaveLen(1))
					added = fresh[0]
				}).WithPolling(20 * time.Millisecond).Should(Succeed())
				took[cluster] = append(took[cluster], added.ready.Sub(began))
				n.scale(ctx, cluster, 0, 1)
				Eventually(ctx, func() int { return len(n.pods.there(cluster)) }).Should(Equal(2))
			}
		}
		later := median(took["tls"]) - median(took["plain"])
		measured("a worker added by scale-up: Ready %.2f s later with TLS (medians of %d: %.2f s with, %.2f s without; spreads %s and %s)",
			later.Seconds(), starts, median(took["tls"]).Seconds(), median(took["plain"]).Seconds(), spread(took["tls"]), spread(took["plain"]))
	}, SpecTimeout(6*time.Minute))
})

// replaceWorker deletes the cluster's worker, and gives its successor once that has printed its stamp.
func (n *namespace) replaceWorker(ctx context.Context, cluster string) podRecord {
	GinkgoHelper()
	old := n.only(cluster, isWorker)
	Expect(api.Delete(ctx, &old.pod, client.GracePeriodSeconds(1))).To(Succeed())
	var fresh podRecord
	Eventually(ctx, func(g Gomega) {
		pods := n.pods.live(cluster, isWorker, func(p podRecord) bool { return p.pod.UID != old.pod.UID })
		g.Expect(pods).To(HaveLen(1))
		fresh = pods[0]
		stamp := initStatus(&fresh.pod, "stamp")
		g.Expect(stamp).NotTo(BeNil())
		g.Expect(stamp.State.Terminated).NotTo(BeNil())
	}).Should(Succeed())
	return fresh
}

func lastReady(pods []podRecord) time.Time {
	var last time.Time
	for _, p := range pods {
		if p.ready.After(last) {
			last = p.ready
		}
	}
	return last
}

// parseStamp reads what `date +%s.%N` printed.
func parseStamp(text string) time.Time {
	GinkgoHelper()
	seconds, nanos, found := strings.Cut(strings.TrimSpace(text), ".")
	Expect(found).To(BeTrue(), text)
	s, err := strconv.ParseInt(seconds, 10, 64)
	Expect(err).NotTo(HaveOccurred())
	ns, err := strconv.ParseInt(nanos, 10, 64)
	Expect(err).NotTo(HaveOccurred())
	return time.Unix(s, ns)
}

func median(d []time.Duration) time.Duration {
	s := slices.Sorted(slices.Values(d))
	return (s[(len(s)-1)/2] + s[len(s)/2]) / 2
}

func spread(d []time.Duration) string {
	return fmt.Sprintf("%.2f to %.2f s", slices.Min(d).Seconds(), slices.Max(d).Seconds())
}
