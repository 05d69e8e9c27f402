//go:build hostile

// Package hostile has one namespace of a real cluster send the operator the worst that it may, and shows that other namespaces do not
// notice. It needs a kubeconfig of an administrator, KubeRay, and the operator as it is shipped.
package hostile

import (
	"cmp"
	"context"
	"fmt"
	"io"
	"maps"
	"os"
	"runtime"
	"slices"
	"strconv"
	"strings"
	"sync"
	"testing"
	"text/tabwriter"
	"time"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/client-go/kubernetes"
	"k8s.io/client-go/rest"
	ctrl "sigs.k8s.io/controller-runtime"
	"sigs.k8s.io/controller-runtime/pkg/client"
	"sigs.k8s.io/controller-runtime/pkg/log/zap"

	"github.com/raytls/raytls/internal/kuberay"
	"github.com/raytls/raytls/test/live"
)

const (
	operatorNamespace = live.OperatorNamespace
	// greedy sends what is hostile, quiet creates small clusters. So does bare, which has no policy, so that only the API server
	// answers: what quiet waits for longer is the operator's.
	greedy, quiet, bare = "raytls-hostile", "raytls-hostile-quiet", "raytls-hostile-bare"
	// tenant is the ServiceAccount that acts in each of these namespaces.
	tenant = "tenant"
	// stored is how many clusters of a kind exist at a time.
	stored = 3
	// most is how long all but a hundredth of the quiet namespace's creations may take, and how much longer than the bare one's.
	most = 2 * time.Second
)

// world is the cluster, and what was seen of it.
type world struct {
	t *testing.T
	// api and kube are the administrator's. The API server lets those requests pass ahead of all others.
	api    client.Client
	kube   kubernetes.Interface
	config *rest.Config

	mu   sync.Mutex
	sent map[string]*tally
	// took is how long creations took in the quiet and in the bare namespace, and refused are those that failed.
	took    map[string][]time.Duration
	refused map[string][]string
	// memory is the most that each pod of the operator took, in bytes.
	memory map[string]uint64
}

// tally counts the answers to one kind of request.
type tally struct{ accepted, refused int }

func TestOneNamespaceDoesNotStopTheOthers(t *testing.T) {
	w := connect(t)
	before := w.operator(t.Context())
	tenants := map[string]client.Client{bare: w.prepare(bare, false), quiet: w.prepare(quiet, true), greedy: w.prepare(greedy, true)}
	ctx, cancel := context.WithTimeout(t.Context(), duration(t))
	defer cancel()
	var wait sync.WaitGroup
	for n := range senders(t) {
		wait.Go(func() { w.dryRuns(ctx, tenants[greedy], n) })
	}
	wait.Go(func() { w.stores(ctx, tenants[greedy]) })
	for _, namespace := range []string{quiet, bare} {
		wait.Go(func() { w.creates(ctx, tenants[namespace], namespace) })
	}
	wait.Go(func() { w.watchMemory(ctx) })
	wait.Wait()
	w.judge(before, w.operator(t.Context()))
}

func connect(t *testing.T) *world {
	t.Helper()
	ctrl.SetLogger(zap.New(zap.WriteTo(io.Discard))) // the webhook's warnings are expected
	target, err := live.Connect("../..")
	if err != nil {
		t.Fatal(err)
	}
	return &world{
		t: t, api: target.API, kube: target.Clients, config: target.Config,
		sent: map[string]*tally{}, took: map[string][]time.Duration{}, refused: map[string][]string{}, memory: map[string]uint64{},
	}
}

// duration is how long requests are sent: HOSTILE_DURATION, or five minutes.
func duration(t *testing.T) time.Duration {
	t.Helper()
	out, err := time.ParseDuration(cmp.Or(os.Getenv("HOSTILE_DURATION"), "5m"))
	if err != nil {
		t.Fatalf("HOSTILE_DURATION: %v", err)
	}
	return out
}

// senders is how many dry runs are under way at a time: HOSTILE_SENDERS, or as many as this machine has cores. On one machine with
// the API server these keep all cores busy, and more show how long the API server's requests wait for each other.
func senders(t *testing.T) int {
	t.Helper()
	out, err := strconv.Atoi(cmp.Or(os.Getenv("HOSTILE_SENDERS"), strconv.Itoa(runtime.NumCPU())))
	if err != nil {
		t.Fatalf("HOSTILE_SENDERS: %v", err)
	}
	return out
}

// operator are the operator's pods by their names.
func (w *world) operator(ctx context.Context) map[string]corev1.Pod {
	w.t.Helper()
	var pods corev1.PodList
	if err := w.api.List(ctx, &pods, client.InNamespace(operatorNamespace), client.MatchingLabels{"app.kubernetes.io/name": "raytls"}); err != nil {
		w.t.Fatal(err)
	}
	out := map[string]corev1.Pod{}
	for _, pod := range pods.Items {
		if pod.DeletionTimestamp.IsZero() {
			out[pod.Name] = pod
		}
	}
	if len(out) == 0 {
		w.t.Fatalf("the operator is not installed in %s", operatorNamespace)
	}
	return out
}

// dryRuns sends creations of one kind after the other that nobody stores. Each sender begins with another kind.
func (w *world) dryRuns(ctx context.Context, api client.Client, sender int) {
	all := kinds()
	names := slices.Sorted(maps.Keys(all))
	objects := map[string]*unstructured.Unstructured{}
	for name, kind := range all {
		objects[name] = kind.make(greedy, fmt.Sprintf("%s-%d", strings.ReplaceAll(name, " ", "-"), sender))
	}
	for n := sender; ctx.Err() == nil; n++ {
		name := names[n%len(names)]
		w.count(ctx, name+", dry run", api.Create(ctx, objects[name].DeepCopy(), client.DryRunAll))
	}
}

// stores creates a cluster of one kind after the other, changes it, and deletes the oldest of its kind.
func (w *world) stores(ctx context.Context, api client.Client) {
	all := kinds()
	maps.DeleteFunc(all, func(_ string, k kind) bool { return !k.storable })
	names := slices.Sorted(maps.Keys(all))
	for n := 0; ctx.Err() == nil; n++ {
		name, round := names[n%len(names)], n/len(names)
		called := func(round int) string {
			return fmt.Sprintf("%s-stored-%d", strings.ReplaceAll(name, " ", "-"), round)
		}
		object := all[name].make(greedy, called(round))
		err := api.Create(ctx, object)
		w.count(ctx, name+", stored", err)
		if err == nil {
			object.SetLabels(map[string]string{"changed": "true"})
			w.count(ctx, name+", changed", api.Update(ctx, object))
		}
		if round >= stored {
			gone := kuberay.NewRayCluster()
			gone.SetNamespace(greedy)
			gone.SetName(called(round - stored))
			w.count(ctx, name+", deleted", client.IgnoreNotFound(api.Delete(ctx, gone))) // fairness may refuse the greedy namespace
		}
	}
}

// creates is what the quiet and the bare namespace do: five creations a second, of which each tenth is stored.
func (w *world) creates(ctx context.Context, api client.Client, namespace string) {
	tick := time.NewTicker(200 * time.Millisecond)
	defer tick.Stop()
	for n := 0; ctx.Err() == nil; n++ {
		object, options := small(namespace, fmt.Sprint("small-", n)), []client.CreateOption{client.DryRunAll}
		if n%10 == 0 {
			options = nil
		}
		began := time.Now()
		err := api.Create(ctx, object, options...)
		took := time.Since(began)
		if ctx.Err() != nil {
			return
		}
		w.mu.Lock()
		w.took[namespace] = append(w.took[namespace], took)
		if err != nil {
			w.refused[namespace] = append(w.refused[namespace], err.Error())
		}
		w.mu.Unlock()
		if options == nil && err == nil {
			_ = api.Delete(ctx, object)
		}
		<-tick.C
	}
}

func (w *world) count(ctx context.Context, kind string, err error) {
	if ctx.Err() != nil {
		return // the end interrupted it
	}
	w.mu.Lock()
	defer w.mu.Unlock()
	if w.sent[kind] == nil {
		w.sent[kind] = &tally{}
	}
	if err != nil {
		w.sent[kind].refused++
		return
	}
	w.sent[kind].accepted++
}

// judge prints what was seen, and fails the test where others noticed.
func (w *world) judge(before, after map[string]corev1.Pod) {
	w.mu.Lock()
	defer w.mu.Unlock()
	var out strings.Builder
	table := tabwriter.NewWriter(&out, 0, 0, 2, ' ', 0)
	fmt.Fprintln(table, "sent by the greedy namespace\taccepted\trefused")
	for _, kind := range slices.Sorted(maps.Keys(w.sent)) {
		fmt.Fprintf(table, "%s\t%d\t%d\n", kind, w.sent[kind].accepted, w.sent[kind].refused)
	}
	w.judgePods(table, before, after)
	fmt.Fprintln(table, "\ncreations in\tcount\tmedian\tp99\tlongest\trefused")
	p99 := map[string]time.Duration{}
	for _, namespace := range []string{bare, quiet} {
		took := slices.Sorted(slices.Values(w.took[namespace]))
		if len(took) == 0 {
			w.t.Fatalf("namespace %s created nothing", namespace)
		}
		p99[namespace] = took[len(took)*99/100]
		fmt.Fprintf(table, "%s\t%d\t%s\t%s\t%s\t%d\n", namespace, len(took), took[len(took)/2].Round(time.Millisecond),
			p99[namespace].Round(time.Millisecond), took[len(took)-1].Round(time.Millisecond), len(w.refused[namespace]))
	}
	if err := table.Flush(); err != nil {
		w.t.Error(err)
	}
	w.t.Log("\n" + out.String())
	switch {
	case p99[bare] >= most:
		w.t.Logf("The API server alone takes %s or longer for a hundredth of the creations, so only the difference is judged.", most)
	case p99[quiet] >= most:
		w.t.Errorf("a hundredth of the quiet namespace's creations take %s, want less than %s", p99[quiet], most)
	}
	if later := p99[quiet] - p99[bare]; later >= most {
		w.t.Errorf("a hundredth of the quiet namespace's creations take %s longer than without the operator, want less than %s", later, most)
	}
	if refused := w.refused[quiet]; len(refused) > 0 {
		w.t.Errorf("%d creations of the quiet namespace were refused, the first with: %s", len(refused), refused[0])
	}
}
