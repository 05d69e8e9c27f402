package observed

import (
	"context"
	"testing"
	"testing/synctest"
	"time"

	"github.com/google/go-cmp/cmp"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/client-go/util/workqueue"
	"sigs.k8s.io/controller-runtime/pkg/reconcile"

	"github.com/raytls/raytls/api/v1alpha1"
)

func key(name string) types.NamespacedName { return types.NamespacedName{Namespace: "ns", Name: name} }

func cluster(policy, reason string) Cluster {
	return Cluster{Policy: policy, Status: v1alpha1.ClusterStatus{Reason: reason}}
}

// queued drains the queue after everything that was put off has come.
func queued(queue workqueue.TypedRateLimitingInterface[reconcile.Request]) map[string]int {
	time.Sleep(10 * coalesce) // a fake clock's
	synctest.Wait()
	out := map[string]int{}
	for queue.Len() > 0 {
		request, _ := queue.Get()
		out[request.Name]++
		queue.Done(request)
	}
	return out
}

func TestChangesReachThePolicies(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		queue := workqueue.NewTypedRateLimitingQueue(workqueue.DefaultTypedControllerRateLimiter[reconcile.Request]())
		defer queue.ShutDown()
		found := New()
		found.Set(key("a"), cluster("early", v1alpha1.ReasonEncrypted))
		if err := found.Start(context.Background(), queue); err != nil {
			t.Fatal(err)
		}
		expect := func(reason string, want map[string]int) {
			t.Helper()
			if diff := cmp.Diff(want, queued(queue)); diff != "" {
				t.Errorf("%s (-want +got):\n%s", reason, diff)
			}
		}
		expect("what was found before the queue was there is not lost", map[string]int{"early": 1})
		found.Set(key("a"), cluster("early", v1alpha1.ReasonEncrypted))
		expect("the same again is no change", map[string]int{})
		for range 50 {
			found.Set(key("a"), cluster("early", v1alpha1.ReasonEnabling))
			found.Set(key("b"), cluster("early", v1alpha1.ReasonEnabling))
			found.Set(key("b"), cluster("early", v1alpha1.ReasonPodsStarting))
		}
		expect("many changes are one request", map[string]int{"early": 1})
		found.Set(key("a"), cluster("late", v1alpha1.ReasonEncrypted))
		expect("both the policy that lost the cluster and the one that got it are told", map[string]int{"early": 1, "late": 1})
		lost := cluster("late", v1alpha1.ReasonEncrypted)
		lost.Conflicts = map[string]v1alpha1.ClusterStatus{"loser": {Name: "a"}}
		found.Set(key("a"), lost)
		expect("so is one that covers it in vain", map[string]int{"late": 1, "loser": 1})
		found.Delete(key("a"))
		expect("and all of them when the cluster goes", map[string]int{"late": 1, "loser": 1})
		found.Delete(key("a"))
		expect("going twice is no change", map[string]int{})
		if _, known := found.Get(key("a")); known {
			t.Error("what is gone is forgotten")
		}
		if got := len(found.Namespace("ns")); got != 1 {
			t.Errorf("one of two is left, got %d", got)
		}
	})
}

func TestWaiting(t *testing.T) {
	found := New()
	for name, reason := range map[string]string{"c": v1alpha1.ReasonWaitingForSlot, "a": v1alpha1.ReasonWaitingForSlot, "b": v1alpha1.ReasonEncrypted} {
		found.Set(key(name), cluster("p", reason))
	}
	if diff := cmp.Diff([]types.NamespacedName{key("a"), key("c")}, found.Waiting("ns")); diff != "" {
		t.Errorf("those that wait for a slot, by name (-want +got):\n%s", diff)
	}
	if got := found.Waiting("other"); len(got) != 0 {
		t.Errorf("another namespace's do not count: %v", got)
	}
}
