//go:build ray

package ray

import (
	"context"
	"encoding/json"
	"fmt"
	"os"
	"slices"
	"strconv"
	"strings"
	"time"

	. "github.com/onsi/ginkgo/v2"
	. "github.com/onsi/gomega"
	rayv1 "github.com/ray-project/kuberay/ray-operator/apis/ray/v1"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/raytls/raytls/api/v1alpha1"
)

// benchLabel is that of the benchmark, which runs only where a label filter asks for it.
const benchLabel = "bench"

// benchName is the name of the clusters that the benchmark makes.
const benchName = "bench"

// way is one way to run a cluster: in plaintext, or with keys of an algorithm.
type way struct {
	name         string
	keyAlgorithm v1alpha1.KeyAlgorithm
}

func (w way) encrypts() bool { return w.keyAlgorithm != "" }

// figure is a line of the benchmark's table. show words what was measured.
type figure struct {
	key, name string
	show      func(float64) string
}

// benchFigures are what the benchmark measures: the first three by watching pods, the others by specs/bench.py.
func benchFigures() []figure {
	in := func(format string, scale float64) func(float64) string {
		return func(v float64) string { return fmt.Sprintf(format, v*scale) }
	}
	return []figure{
		{"headReady", "head Ready after creation", in("%.1f s", 1)},
		{"allReady", "head and two workers Ready", in("%.1f s", 1)},
		{"scaleUp", "one more worker Ready", in("%.1f s", 1)},
		{"newActor", "new actor in a new process", in("%.0f ms", 1e3)},
		{"sync", "sync call driver → actor, median", in("%.0f µs", 1e6)},
		{"sync99", "the same, 99th percentile", in("%.1f ms", 1e3)},
		{"async", "async calls per second", in("%.0f", 1)},
		{"peer", "sync call actor → actor, median", in("%.0f µs", 1e6)},
		{"pull1", "pull of 1 MiB objects", in("%.0f MB/s", 1e-6)},
		{"pull16", "pull of 16 MiB objects", in("%.0f MB/s", 1e-6)},
		{"cpuCalls", "CPU time of all pods for 8,000 calls", in("%.2f s", 1)},
		{"cpuPulls", "CPU time of all pods to make and pull 192 MiB", in("%.2f s", 1)},
	}
}

// The benchmark judges nothing. One cluster is there at a time, and the ways take turns, so that what else the machine does
// meets all of them.
var _ = Describe("A benchmark", Label(benchLabel), func() {
	It("measures what TLS costs", func(ctx SpecContext) {
		if !strings.Contains(GinkgoLabelFilter(), benchLabel) {
			Skip("make bench-ray runs the benchmark")
		}
		rounds, err := strconv.Atoi(os.Getenv("BENCH_ROUNDS"))
		Expect(err).NotTo(HaveOccurred(), "BENCH_ROUNDS must be the number of rounds")
		ways := []way{{"plaintext", ""}, {"TLS, ECDSAP256", v1alpha1.KeyECDSAP256}, {"TLS, RSA2048", v1alpha1.KeyRSA2048}}
		spaces := make([]*namespace, len(ways))
		for i, w := range ways {
			spaces[i] = newNamespace(ctx)
			if w.encrypts() {
				spaces[i].encrypt(ctx, withKeys(w.keyAlgorithm))
			}
		}
		measured := make([]map[string][]float64, len(ways))
		machine := []string{}
		for round := range rounds {
			for i, w := range ways {
				once, cores, load := measure(ctx, spaces[i], w.encrypts())
				for key, value := range once {
					if measured[i] == nil {
						measured[i] = map[string][]float64{}
					}
					measured[i][key] = append(measured[i][key], value)
				}
				machine = append(machine, fmt.Sprintf("%.1f", load))
				GinkgoWriter.Printf("round %d, %s, %d cores: %v\n", round+1, w.name, cores, once)
			}
		}
		fmt.Printf("\nRay %s, medians of %d rounds; the machine's load before each: %s\n\n%s\n",
			rayVersion, rounds, strings.Join(machine, ", "), benchTable(ways, measured))
	}, SpecTimeout(150*time.Minute))
})

// benchTable is the Markdown table of the medians, with the least and the greatest value of each.
func benchTable(ways []way, measured []map[string][]float64) string {
	heading, line := "| |", "|---|"
	for _, w := range ways {
		heading += " " + w.name + " |"
		line += "---|"
	}
	lines := []string{heading, line}
	for _, f := range benchFigures() {
		text := "| " + f.name + " |"
		for i := range ways {
			values := slices.Sorted(slices.Values(measured[i][f.key]))
			if len(values) == 0 {
				text += " |"
				continue
			}
			text += fmt.Sprintf(" %s (%s to %s) |", f.show(median(values)), f.show(values[0]), f.show(values[len(values)-1]))
		}
		lines = append(lines, text)
	}
	return strings.Join(lines, "\n")
}

// median is that of values in order.
func median(values []float64) float64 {
	half := len(values) / 2
	if len(values)%2 == 0 {
		return (values[half-1] + values[half]) / 2
	}
	return values[half]
}

// withKeys has authority, issuer and pods use keys of an algorithm.
func withKeys(algorithm v1alpha1.KeyAlgorithm) func(*v1alpha1.RayTLSPolicy) {
	return func(policy *v1alpha1.RayTLSPolicy) {
		policy.Spec.CertificateAuthority.KeyAlgorithm = algorithm
		policy.Spec.PodCertificate.KeyAlgorithm = algorithm
	}
}

// measure makes a cluster, measures it once, and removes it. The load is the machine's before the calls.
func measure(ctx context.Context, n *namespace, encrypts bool) (figures map[string]float64, cores int, load float64) {
	GinkgoHelper()
	figures = map[string]float64{}
	cluster := newCluster(benchName, workers("small", 2, 3))
	created := time.Now()
	n.create(ctx, cluster)
	figures["headReady"] = n.since(ctx, created, "head", 1)
	figures["allReady"] = n.since(ctx, created, "", 3)
	if encrypts {
		n.encrypted(ctx, benchName, 3)
	}
	var said struct {
		Cores   int
		Load    float64
		Figures map[string]float64
	}
	Expect(json.Unmarshal([]byte(n.passes(ctx, n.head(ctx, benchName), "bench.py")), &said)).To(Succeed())
	for key, value := range said.Figures {
		figures[key] = value
	}
	patch := client.RawPatch("application/json-patch+json", []byte(`[{"op": "replace", "path": "/spec/workerGroupSpecs/0/replicas", "value": 3}]`))
	asked := time.Now()
	Expect(target.API.Patch(ctx, &rayv1.RayCluster{ObjectMeta: cluster.ObjectMeta}, patch)).To(Succeed())
	figures["scaleUp"] = n.since(ctx, asked, "", 4)
	n.remove(ctx, benchName)
	return figures, said.Cores, said.Load
}

// since waits until so many pods of a node type are Ready, and gives the seconds from a time on until then.
func (n *namespace) since(ctx context.Context, began time.Time, nodeType string, pods int) float64 {
	GinkgoHelper()
	var took time.Duration
	Eventually(ctx, func(g Gomega, ctx context.Context) {
		found, err := n.find(ctx, benchName, nodeType)
		g.Expect(err).NotTo(HaveOccurred())
		ready := 0
		for _, pod := range found {
			if isReady(&pod) {
				ready++
			}
		}
		g.Expect(ready).To(Equal(pods))
		took = time.Since(began)
	}).WithTimeout(5 * time.Minute).WithPolling(100 * time.Millisecond).Should(Succeed())
	return took.Seconds()
}
