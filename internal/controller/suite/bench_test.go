package suite_test

import (
	"context"
	"fmt"
	"os"
	"slices"
	"strings"
	"testing"
	"time"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"sigs.k8s.io/controller-runtime/pkg/client"

	rayv1 "github.com/ray-project/kuberay/ray-operator/apis/ray/v1"

	"github.com/raytls/raytls/api/v1alpha1"
)

// BenchmarkEnable500 has one policy come to 500 RayClusters without pods, and tells how long it takes until all are
// patched, and how long a cluster takes in each hundred.
func BenchmarkEnable500(b *testing.B) {
	const clusters = 500
	e := benchEnvironment(b)
	round := 0
	for b.Loop() {
		b.StopTimer()
		round++
		ns := fmt.Sprintf("bench-%d", round)
		makeClusters(b, e, ns, clusters)
		b.StartTimer()
		patched := enable(b, e, ns, clusters)
		slices.Sort(patched)
		var out strings.Builder
		fmt.Fprintf(&out, "%d clusters: all patched after %s; per cluster:", clusters, patched[clusters-1].Round(time.Millisecond))
		for hundred := 0; hundred < clusters; hundred += 100 {
			start := time.Duration(0)
			if hundred > 0 {
				start = patched[hundred-1]
			}
			each := (patched[hundred+99] - start) / 100
			fmt.Fprintf(&out, " %d-%d %s", hundred+1, hundred+100, each.Round(10*time.Microsecond))
			b.ReportMetric(float64(each.Microseconds())/1000, fmt.Sprintf("ms/cluster(%d-%d)", hundred+1, hundred+100))
		}
		b.Log(out.String())
	}
}

func makeClusters(b *testing.B, e *environment, ns string, count int) {
	b.Helper()
	ctx := context.Background()
	if err := e.admin.Create(ctx, &corev1.Namespace{ObjectMeta: metav1.ObjectMeta{Name: ns}}); err != nil {
		b.Fatal(err)
	}
	w := &world{ns: ns}
	for i := range count {
		if err := e.admin.Create(ctx, w.rayCluster(fmt.Sprintf("c%03d", i))); err != nil {
			b.Fatal(err)
		}
	}
}

// enable creates the policy, and returns when after that each cluster was patched.
func enable(b *testing.B, e *environment, ns string, count int) []time.Duration {
	b.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), 5*time.Minute)
	defer cancel()
	list := &unstructured.UnstructuredList{}
	list.SetGroupVersionKind(rayv1.GroupVersion.WithKind("RayClusterList"))
	watcher, err := e.admin.Watch(ctx, list, client.InNamespace(ns))
	if err != nil {
		b.Fatal(err)
	}
	defer watcher.Stop()
	start := time.Now()
	policy := &v1alpha1.RayTLSPolicy{
		ObjectMeta: metav1.ObjectMeta{Namespace: ns, Name: "p"}, Spec: v1alpha1.RayTLSPolicySpec{Selector: &metav1.LabelSelector{}},
	}
	if err := e.admin.Create(ctx, policy); err != nil {
		b.Fatal(err)
	}
	patched := map[string]time.Duration{}
	for len(patched) < count {
		select {
		case <-ctx.Done():
			b.Fatalf("%d of %d clusters were patched", len(patched), count)
		case event := <-watcher.ResultChan():
			c, ok := event.Object.(*unstructured.Unstructured)
			if !ok {
				continue
			}
			if _, seen := patched[c.GetName()]; !seen && injectedTemplates(c) > 0 {
				patched[c.GetName()] = time.Since(start)
			}
		}
	}
	out := make([]time.Duration, 0, count)
	for _, d := range patched {
		out = append(out, d)
	}
	return out
}

// benchEnvironment starts an API server and the operator, with these variables, until the benchmark ends. It skips the benchmark where
// there is none.
func benchEnvironment(b *testing.B, variables ...string) *environment {
	b.Helper()
	if os.Getenv("KUBEBUILDER_ASSETS") == "" {
		b.Skip("KUBEBUILDER_ASSETS is not set; make bench sets it")
	}
	e, err := newEnvironment(b.TempDir())
	if err != nil {
		b.Fatal(err)
	}
	b.Cleanup(func() {
		if err := e.stop(); err != nil {
			b.Error(err)
		}
	})
	if err := e.start(); err != nil {
		b.Fatal(err)
	}
	p, err := e.startOperator(variables...)
	if err != nil {
		b.Fatal(err)
	}
	b.Cleanup(func() { p.kill() })
	return e
}
