package raycluster

import (
	"context"
	"errors"
	"testing"
	"time"

	rayv1 "github.com/ray-project/kuberay/ray-operator/apis/ray/v1"
	"k8s.io/apimachinery/pkg/api/meta"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/types"
	clientgoscheme "k8s.io/client-go/kubernetes/scheme"
	clocktesting "k8s.io/utils/clock/testing"
	ctrl "sigs.k8s.io/controller-runtime"
	"sigs.k8s.io/controller-runtime/pkg/client"
	"sigs.k8s.io/controller-runtime/pkg/client/fake"
	"sigs.k8s.io/controller-runtime/pkg/client/interceptor"

	"github.com/raytls/raytls/api/v1alpha1"
	"github.com/raytls/raytls/internal/cluster"
	"github.com/raytls/raytls/internal/kube"
)

func train() types.NamespacedName { return types.NamespacedName{Namespace: "ml", Name: "train"} }

func api(t *testing.T, objects ...client.Object) client.WithWatch {
	t.Helper()
	scheme := runtime.NewScheme()
	for _, add := range []func(*runtime.Scheme) error{clientgoscheme.AddToScheme, v1alpha1.AddToScheme, rayv1.AddToScheme} {
		if err := add(scheme); err != nil {
			t.Fatal(err)
		}
	}
	return fake.NewClientBuilder().WithScheme(scheme).WithObjects(objects...).WithStatusSubresource(&v1alpha1.RayClusterTLS{}).Build()
}

// unreadable is a reconciler whose cache answers every read with what answer gives.
func unreadable(t *testing.T, answer func(context.Context) error) (*Reconciler, *clocktesting.FakePassiveClock, func() v1alpha1.RayClusterTLS) {
	t.Helper()
	tls := &v1alpha1.RayClusterTLS{ObjectMeta: metav1.ObjectMeta{Namespace: "ml", Name: "train"}}
	tls.Status.ObservedGeneration = 7
	for _, kind := range []string{v1alpha1.ConditionEncrypted, v1alpha1.ConditionCertified, v1alpha1.ConditionUpToDate} {
		meta.SetStatusCondition(&tls.Status.Conditions, metav1.Condition{Type: kind, Status: metav1.ConditionTrue, Reason: "Fine", ObservedGeneration: 7})
	}
	meta.SetStatusCondition(&tls.Status.Conditions, metav1.Condition{Type: v1alpha1.ConditionStalled, Status: metav1.ConditionFalse, Reason: "Fine"})
	live := api(t, tls)
	cached := interceptor.NewClient(live, interceptor.Funcs{
		Get: func(ctx context.Context, _ client.WithWatch, _ client.ObjectKey, _ client.Object, _ ...client.GetOption) error {
			return answer(ctx)
		},
	})
	clock := clocktesting.NewFakePassiveClock(epoch())
	stored := func() v1alpha1.RayClusterTLS {
		t.Helper()
		var out v1alpha1.RayClusterTLS
		if err := live.Get(t.Context(), train(), &out); err != nil {
			t.Fatal(err)
		}
		return out
	}
	return &Reconciler{Client: live, Live: live, Clock: clock, Gatherer: cluster.Gatherer{Cached: cached}}, clock, stored
}

func encryptedIn(tls v1alpha1.RayClusterTLS) string {
	condition := meta.FindStatusCondition(tls.Status.Conditions, v1alpha1.ConditionEncrypted)
	return string(condition.Status) + " " + condition.Reason
}

func TestAClusterThatCannotBeReadIsUnknownAfterHalfAMinute(t *testing.T) {
	cause := errors.New("read tcp 10.0.0.5:1111->10.96.0.1:443: i/o timeout")
	r, clock, stored := unreadable(t, func(context.Context) error { return cause })
	request := ctrl.Request{NamespacedName: train()}
	for _, step := range []struct {
		at, requeue time.Duration
	}{{0, 5 * time.Second}, {5 * time.Second, 5 * time.Second}, {27 * time.Second, 3 * time.Second}} {
		clock.SetTime(epoch().Add(step.at))
		result, err := r.Reconcile(t.Context(), request)
		if err != nil || result.RequeueAfter != step.requeue || encryptedIn(stored()) != "True Fine" {
			t.Errorf("after %s, the last status holds: got %v, %v, %s", step.at, result, err, encryptedIn(stored()))
		}
	}
	clock.SetTime(epoch().Add(30 * time.Second))
	if _, err := r.Reconcile(t.Context(), request); !errors.Is(err, cause) {
		t.Errorf("the queue's backoff takes over: got %v", err)
	}
	first := stored()
	for _, kind := range []string{v1alpha1.ConditionEncrypted, v1alpha1.ConditionCertified, v1alpha1.ConditionUpToDate} {
		c := meta.FindStatusCondition(first.Status.Conditions, kind)
		if c.Status != metav1.ConditionUnknown || c.Reason != v1alpha1.ReasonError || c.ObservedGeneration != 7 || c.Message != "the operator cannot read the present state and tries again: read tcp 10.0.0.5->10.96.0.1:443: i/o timeout" {
			t.Errorf("got %+v", c)
		}
	}
	if c := meta.FindStatusCondition(first.Status.Conditions, v1alpha1.ConditionStalled); c.Status != metav1.ConditionFalse {
		t.Errorf("no user needs to act: got %+v", c)
	}
	cause = errors.New("read tcp 10.0.0.5:2222->10.96.0.1:443: i/o timeout")
	clock.SetTime(epoch().Add(time.Hour))
	if _, err := r.Reconcile(t.Context(), request); err == nil || stored().ResourceVersion != first.ResourceVersion {
		t.Errorf("the next attempt fails in the same way and writes nothing: %v", err)
	}
}

func TestReadsThatSucceedEndTheWait(t *testing.T) {
	answer := errors.New("down")
	r, clock, stored := unreadable(t, func(context.Context) error { return answer })
	reconcile := func(at time.Duration, with error) ctrl.Result {
		t.Helper()
		answer = with
		clock.SetTime(epoch().Add(at))
		result, err := r.Reconcile(t.Context(), ctrl.Request{NamespacedName: train()})
		if err != nil {
			t.Fatal(err)
		}
		return result
	}
	reconcile(0, errors.New("down"))
	if got := reconcile(20*time.Second, kube.ErrStale); got.RequeueAfter != kube.StaleRequeue {
		t.Errorf("a lagging cache is read again: got %v", got)
	}
	if reconcile(40*time.Second, errors.New("down")); encryptedIn(stored()) != "True Fine" {
		t.Errorf("the wait begins anew: got %s", encryptedIn(stored()))
	}
}

func TestReadsThatHangAreEnded(t *testing.T) {
	r, clock, stored := unreadable(t, func(ctx context.Context) error {
		<-ctx.Done()
		return ctx.Err()
	})
	r.unreadable.For(train(), epoch())
	clock.SetTime(epoch().Add(30*time.Second - time.Millisecond)) // what is left bounds the reads
	if _, err := r.Reconcile(t.Context(), ctrl.Request{NamespacedName: train()}); err != nil {
		t.Fatal(err)
	}
	if encryptedIn(stored()) != "True Fine" {
		t.Errorf("got %s", encryptedIn(stored()))
	}
}
