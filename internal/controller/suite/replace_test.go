package suite_test

import (
	"fmt"
	"io"
	"maps"
	"net/http"
	"os"
	"path"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	. "github.com/onsi/ginkgo/v2"
	. "github.com/onsi/gomega"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/raytls/raytls/api/v1alpha1"
	"github.com/raytls/raytls/internal/keys"
)

// maxReplaceWrites is how many writes the replacement of one cluster's authority takes at most: the authority, the CA Secret, and the
// status. The status is written once, and twice more if the cluster got its last issuer less than ten seconds ago and so has to wait.
const maxReplaceWrites = 5

// writesPerCluster counts what the operator wrote for each cluster of the namespace since that part of the log of its writes, by kind.
// Writes that the API server refused count too.
func writesPerCluster(log, ns string, clusters []string) map[string]map[string]int {
	out := map[string]map[string]int{}
	of := map[string]string{} // cluster by the path of an object
	for _, name := range clusters {
		out[name] = map[string]int{}
		authority := keys.AuthoritySecretName(types.NamespacedName{Namespace: ns, Name: name})
		of["/"+operatorNamespace+"/secrets/"+authority] = name
		of["/"+ns+"/secrets/raytls-"+name] = name
		of["/"+ns+"/rayclustertlses/"+name] = name
		of["/"+ns+"/rayclusters/"+name] = name
	}
	for line := range strings.Lines(log) {
		_, object, _ := strings.Cut(line, "/namespaces")
		object = strings.TrimSuffix(strings.Fields(object)[0], "/status")
		if name, found := of[object]; found {
			parts := strings.Split(object, "/")
			out[name][parts[1]+"/"+parts[2]]++
		}
	}
	for _, counts := range out {
		for kind := range counts {
			if strings.HasPrefix(kind, operatorNamespace) {
				counts["authority"] = counts[kind]
				delete(counts, kind)
			}
		}
	}
	return out
}

// kindsOf counts how many clusters took which writes.
func kindsOf(writes map[string]map[string]int) map[string]int {
	out := map[string]int{}
	for _, counts := range writes {
		var text []string
		for _, kind := range slices.Sorted(maps.Keys(counts)) {
			text = append(text, fmt.Sprintf("%s %d", path.Base(kind), counts[kind]))
		}
		out[strings.Join(text, ", ")]++
	}
	return out
}

func total(counts map[string]int) int {
	sum := 0
	for _, n := range counts {
		sum += n
	}
	return sum
}

var _ = Describe("Replacing the authorities of several clusters together", func() {
	It("takes as few writes for each as for one", func() {
		w := newWorld()
		w.policy("p", selecting())
		var names []string
		for i := range 6 {
			names = append(names, fmt.Sprintf("c%d", i))
			w.start("p", names[i])
		}
		w.quiet()
		before, err := os.ReadFile(env.writes)
		Expect(err).NotTo(HaveOccurred())
		w.updatePolicy("p", func(p *v1alpha1.RayTLSPolicy) {
			p.Spec.CertificateAuthority.ReplaceIssuedBefore = &metav1.Time{Time: time.Now().Truncate(time.Second)}
		})
		w.eventually(func(g Gomega) {
			for _, name := range names {
				g.Expect(w.status(name).Authority.Generation).To(BeEquivalentTo(2))
			}
		})
		w.quiet()
		after, err := os.ReadFile(env.writes)
		Expect(err).NotTo(HaveOccurred())
		for name, counts := range writesPerCluster(string(after[len(before):]), w.ns, names) {
			Expect(total(counts)).To(BeNumerically("<=", maxReplaceWrites), "%s: %v", name, counts)
			Expect(counts).To(HaveKeyWithValue("authority", 1))
		}
	})
})

// BenchmarkReplace200 replaces the authorities of 200 RayClusters together, with a head each, and prints how long that took, how many
// writes each cluster took, and how long reconciles took. It fails by the number of writes alone.
func BenchmarkReplace200(b *testing.B) {
	const clusters = 200
	metrics, err := freeAddress()
	if err != nil {
		b.Fatal(err)
	}
	e := benchEnvironment(b, envMetrics+"="+metrics)
	round := 0
	for b.Loop() {
		b.StopTimer()
		round++
		f := &fleet{b: b, e: e, ns: fmt.Sprintf("replace-%d", round), metrics: metrics}
		f.begin(clusters)
		b.StartTimer()
		f.replace()
	}
}

// fleet is many encrypted clusters with a head each.
type fleet struct {
	b           *testing.B
	e           *environment
	ns, metrics string
	names       []string
}

func (f *fleet) must(err error) {
	f.b.Helper()
	if err != nil {
		f.b.Fatal(err)
	}
}

// await has the stand-in for KubeRay act until the statuses of all clusters fit.
func (f *fleet) await(ray *kubeRay, fits func(*v1alpha1.RayClusterTLSStatus) bool) {
	f.b.Helper()
	ctx := f.b.Context()
	for end := time.Now().Add(10 * time.Minute); time.Now().Before(end); time.Sleep(200 * time.Millisecond) {
		if ray != nil {
			ray.step(ctx)
		}
		var list v1alpha1.RayClusterTLSList
		f.must(f.e.admin.List(ctx, &list, client.InNamespace(f.ns)))
		waiting := len(f.names) - len(list.Items)
		for i := range list.Items {
			if !fits(&list.Items[i].Status) {
				waiting++
			}
		}
		if waiting == 0 {
			return
		}
	}
	f.b.Fatal("the clusters are not done within ten minutes")
}

// log is what the operator wrote so far, once it writes no more.
func (f *fleet) log() string {
	f.b.Helper()
	last, since := -1, time.Now()
	for {
		text, err := os.ReadFile(f.e.writes)
		f.must(err)
		if len(text) != last {
			last, since = len(text), time.Now()
		}
		if time.Since(since) > 5*time.Second {
			return string(text)
		}
		time.Sleep(200 * time.Millisecond)
	}
}

func (f *fleet) begin(clusters int) {
	f.b.Helper()
	w := &world{ns: f.ns}
	makeClusters(f.b, f.e, f.ns, 0)
	policy := &v1alpha1.RayTLSPolicy{ObjectMeta: metav1.ObjectMeta{Namespace: f.ns, Name: "p"}}
	policy.Spec.Selector = &metav1.LabelSelector{}
	policy.Spec.Rollout.EnablePolicy = v1alpha1.EnableImmediate
	f.must(f.e.admin.Create(f.b.Context(), policy))
	for i := range clusters {
		f.names = append(f.names, fmt.Sprintf("c%03d", i))
		object := w.rayCluster(f.names[i])
		object.Object["spec"].(map[string]any)["workerGroupSpecs"] = []any{}
		f.must(f.e.admin.Create(f.b.Context(), object))
	}
	f.await(nil, func(s *v1alpha1.RayClusterTLSStatus) bool { return s.Injection.Revision > 0 })
	f.await(&kubeRay{admin: f.e.admin, namespace: f.ns}, func(s *v1alpha1.RayClusterTLSStatus) bool { return s.Pods.Certified == 1 })
}

func (f *fleet) replace() {
	f.b.Helper()
	before, timesBefore := f.log(), f.times()
	start := time.Now()
	patch := fmt.Sprintf(`{"spec":{"certificateAuthority":{"replaceIssuedBefore":%q}}}`, start.UTC().Format(time.RFC3339))
	policy := &v1alpha1.RayTLSPolicy{ObjectMeta: metav1.ObjectMeta{Namespace: f.ns, Name: "p"}}
	f.must(f.e.admin.Patch(f.b.Context(), policy, client.RawPatch(types.MergePatchType, []byte(patch))))
	f.await(nil, func(s *v1alpha1.RayClusterTLSStatus) bool { return s.Authority.Generation == 2 })
	took := time.Since(start)
	log := f.log()[len(before):]
	writes := writesPerCluster(log, f.ns, f.names)
	var out strings.Builder
	fmt.Fprintf(&out, "%d authorities replaced together in %s\n| clusters | writes for each |\n|---|---|\n", len(f.names), took.Round(time.Millisecond))
	kinds := kindsOf(writes)
	for _, kind := range slices.Sorted(maps.Keys(kinds)) {
		fmt.Fprintf(&out, "| %d | %s |\n", kinds[kind], kind)
	}
	fmt.Fprintf(&out, "writes of the policy's status: %d\n", strings.Count(log, "/namespaces/"+f.ns+"/raytlspolicies/"))
	times := f.times()
	for bound, n := range timesBefore {
		times[bound] -= n
	}
	for _, part := range []float64{0.5, 0.99, 1} {
		fmt.Fprintf(&out, "%g %% of %g reconciles took at most %s\n", part*100, times["+Inf"], quantile(times, part))
	}
	f.b.Log(out.String())
	f.b.ReportMetric(took.Seconds(), "s/200")
	for name, counts := range writes {
		if total(counts) > maxReplaceWrites || counts["authority"] != 1 {
			f.b.Errorf("RayCluster %s took %v", name, counts)
		}
	}
}

// times are how many reconciles of RayClusters took at most so many seconds, by the operator's metrics.
func (f *fleet) times() map[string]float64 {
	f.b.Helper()
	response, err := http.Get("http://" + f.metrics + "/metrics")
	f.must(err)
	defer response.Body.Close()
	text, err := io.ReadAll(response.Body)
	f.must(err)
	out := map[string]float64{}
	for line := range strings.Lines(string(text)) {
		rest, found := strings.CutPrefix(line, `controller_runtime_reconcile_time_seconds_bucket{controller="raycluster",le="`)
		if !found {
			continue
		}
		bound, count, _ := strings.Cut(rest, `"} `)
		n, err := strconv.ParseFloat(strings.TrimSpace(count), 64)
		f.must(err)
		out[bound] = n
	}
	return out
}

// quantile is the first bound below which that part of the reconciles is.
func quantile(times map[string]float64, part float64) string {
	var bounds []float64
	for bound := range times {
		if value, err := strconv.ParseFloat(bound, 64); err == nil && bound != "+Inf" {
			bounds = append(bounds, value)
		}
	}
	slices.Sort(bounds)
	for _, bound := range bounds {
		if times[strconv.FormatFloat(bound, 'g', -1, 64)] >= part*times["+Inf"] {
			return time.Duration(bound * float64(time.Second)).String()
		}
	}
	return "longer than all bounds"
}
