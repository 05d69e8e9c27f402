package probe

import (
	"fmt"
	"testing"

	"k8s.io/apimachinery/pkg/types"
)

func named(namespace string, n int) types.NamespacedName {
	return types.NamespacedName{Namespace: namespace, Name: fmt.Sprint(n)}
}

// TestQueueIsFair has one namespace with many clusters, whose heads never answer, ask before all others.
func TestQueueIsFair(t *testing.T) {
	q := queue{total: 4, perNamespace: 2}
	for n := range 1000 {
		q.add(named("slow", n))
	}
	for n := range 3 {
		q.add(named("a", n))
		q.add(named("b", n))
	}
	var order []string
	for {
		key, found := q.next()
		if !found {
			break
		}
		order = append(order, key.String())
		if key.Namespace != "slow" {
			q.done(key)
		}
	}
	want := "[slow/0 a/0 b/0 slow/1 a/1 b/1 a/2 b/2]"
	if got := fmt.Sprint(order); got != want {
		t.Errorf("the order is %s, want %s", got, want)
	}
}

func TestQueueIsBounded(t *testing.T) {
	q := queue{total: 5, perNamespace: 2}
	for _, namespace := range []string{"a", "b", "c"} {
		for n := range 3 {
			q.add(named(namespace, n))
		}
	}
	var out []types.NamespacedName
	for key, found := q.next(); found; key, found = q.next() {
		out = append(out, key)
	}
	if len(out) != 5 {
		t.Fatalf("%d are out at a time, want the 5 of all: %v", len(out), out)
	}
	count := map[string]int{}
	for _, key := range out {
		count[key.Namespace]++
		q.done(key)
	}
	for namespace, n := range count {
		if n > 2 {
			t.Errorf("%d of namespace %s are out at a time", n, namespace)
		}
	}
	for key, found := q.next(); found; key, found = q.next() {
		out = append(out, key)
		q.done(key)
	}
	if len(out) != 9 || len(q.namespaces) != 0 || len(q.turns) != 0 {
		t.Errorf("%d came out, want 9; left are %v and %v", len(out), q.namespaces, q.turns)
	}
}
