package raycluster

import (
	"testing"
	"time"

	"k8s.io/apimachinery/pkg/types"
)

func TestMakersShareTheWorkers(t *testing.T) {
	var m makers
	ends := map[string]func(){}
	for _, namespace := range []string{"a", "b", "c", "d"} {
		end, ok := m.begin(t.Context(), namespace)
		if !ok {
			t.Fatalf("namespace %s has no place", namespace)
		}
		ends[namespace] = end
		if _, ok := m.begin(t.Context(), namespace); ok {
			t.Errorf("namespace %s has two places", namespace)
		}
	}
	if _, ok := m.begin(t.Context(), "e"); ok {
		t.Error("slow keys may take every worker")
	}
	ends["a"]()
	if _, ok := m.begin(t.Context(), "e"); !ok {
		t.Error("a free place is not given out")
	}
}

func TestIssuersKeepTheirInterval(t *testing.T) {
	now := time.Date(2026, 1, 2, 3, 4, 5, 0, time.UTC)
	cluster, other := types.NamespacedName{Name: "x"}, types.NamespacedName{Name: "y"}
	var i issuers
	if wait := i.wait(cluster, now); wait != 0 {
		t.Errorf("the first issuer waits %s", wait)
	}
	i.made(cluster, now)
	if wait := i.wait(cluster, now.Add(time.Second)); wait != issueInterval-time.Second {
		t.Errorf("a second later the next waits %s, want the rest of the interval", wait)
	}
	if wait := i.wait(other, now.Add(time.Second)); wait != 0 {
		t.Errorf("another cluster waits %s", wait)
	}
	if wait := i.wait(cluster, now.Add(issueInterval)); wait != 0 {
		t.Errorf("after the interval the next waits %s", wait)
	}
	i.forget(cluster)
	if wait := i.wait(cluster, now); wait != 0 {
		t.Errorf("a cluster made anew waits %s", wait)
	}
}
