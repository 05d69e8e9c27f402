package webhook

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"sync"
	"testing"
	"time"

	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/raytls/raytls/api/v1alpha1"
)

// policies are what a cache holds. It hands out copies as a cache does, without the detours of a fake client.
type policies []v1alpha1.RayTLSPolicy

func (p policies) Get(context.Context, client.ObjectKey, client.Object, ...client.GetOption) error {
	return errors.New("only lists are expected")
}

func (p policies) List(_ context.Context, list client.ObjectList, _ ...client.ListOption) error {
	found, ok := list.(*v1alpha1.RayTLSPolicyList)
	if !ok {
		return errors.New("only policies are expected")
	}
	for i := range p {
		found.Items = append(found.Items, *p[i].DeepCopy())
	}
	return nil
}

// BenchmarkCreate has 50 clients create clusters at the same time, and prints how long the slowest hundredth of the answers
// takes.
func BenchmarkCreate(b *testing.B) {
	b.Run("1 group", func(b *testing.B) { benchmarkCreate(b, 1) })
	b.Run("10 groups", func(b *testing.B) { benchmarkCreate(b, 10) })
}

func benchmarkCreate(b *testing.B, groups int) {
	const clients = 50
	large := rayCluster(func(c object) {
		list := []any{}
		for n := range groups {
			list = append(list, object{"groupName": fmt.Sprint("group-", n), "replicas": 1, "rayStartParams": object{}, "template": pod("ray-worker")})
		}
		c["spec"].(object)["workerGroupSpecs"] = list
	})
	i, r := injector(b, nil), request(b, someone, nil, large)
	i.Cached = policies{*covering()}
	var mu sync.Mutex
	var took []time.Duration
	b.ReportAllocs()
	for b.Loop() {
		var wait sync.WaitGroup
		for range clients {
			wait.Go(func() {
				began := time.Now()
				if response := i.Handle(b.Context(), r); !response.Allowed || response.Patch == nil {
					b.Error("it is not injected")
				}
				mu.Lock()
				defer mu.Unlock()
				took = append(took, time.Since(began))
			})
		}
		wait.Wait()
	}
	slices.Sort(took)
	b.ReportMetric(float64(took[len(took)*99/100].Microseconds())/1000, "p99-ms")
	b.ReportMetric(float64(took[len(took)/2].Microseconds())/1000, "median-ms")
}
