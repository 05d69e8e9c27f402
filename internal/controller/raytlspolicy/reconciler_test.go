package raytlspolicy

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	rayv1 "github.com/ray-project/kuberay/ray-operator/apis/ray/v1"
	"k8s.io/apimachinery/pkg/api/meta"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/types"
	clientgoscheme "k8s.io/client-go/kubernetes/scheme"
	"k8s.io/client-go/tools/events"
	clocktesting "k8s.io/utils/clock/testing"
	ctrl "sigs.k8s.io/controller-runtime"
	"sigs.k8s.io/controller-runtime/pkg/client"
	"sigs.k8s.io/controller-runtime/pkg/client/fake"
	"sigs.k8s.io/controller-runtime/pkg/client/interceptor"
	"sigs.k8s.io/controller-runtime/pkg/reconcile"
	"sigs.k8s.io/controller-runtime/pkg/source"

	"github.com/raytls/raytls/api/v1alpha1"
	"github.com/raytls/raytls/internal/kube"
	"github.com/raytls/raytls/internal/kuberay"
	"github.com/raytls/raytls/internal/policy"
)

func newClient(t *testing.T, objects ...client.Object) client.WithWatch {
	t.Helper()
	scheme := runtime.NewScheme()
	for _, add := range []func(*runtime.Scheme) error{clientgoscheme.AddToScheme, v1alpha1.AddToScheme, rayv1.AddToScheme} {
		if err := add(scheme); err != nil {
			t.Fatal(err)
		}
	}
	return fake.NewClientBuilder().WithScheme(scheme).WithObjects(objects...).
		WithStatusSubresource(&v1alpha1.RayTLSPolicy{}, &v1alpha1.RayClusterTLS{}).Build()
}

func rayCluster(name string, generation int64) *rayv1.RayCluster {
	return &rayv1.RayCluster{ObjectMeta: metav1.ObjectMeta{Namespace: "ns", Name: name, UID: types.UID("uid-" + name), Generation: generation}}
}

func record(name string, generation int64, by v1alpha1.PolicyReference, reason string) *v1alpha1.RayClusterTLS {
	status := metav1.ConditionFalse
	if reason == v1alpha1.ReasonEncrypted {
		status = metav1.ConditionTrue
	}
	return &v1alpha1.RayClusterTLS{
		ObjectMeta: metav1.ObjectMeta{Namespace: "ns", Name: name, OwnerReferences: []metav1.OwnerReference{
			{APIVersion: "ray.io/v1", Kind: "RayCluster", Name: name, UID: types.UID("uid-" + name)},
		}},
		Status: v1alpha1.RayClusterTLSStatus{
			ObservedGeneration: generation, PolicyRef: by,
			Conditions: []metav1.Condition{{Type: v1alpha1.ConditionEncrypted, Status: status, Reason: reason}},
		},
	}
}

func newPolicy(name string) *v1alpha1.RayTLSPolicy {
	return &v1alpha1.RayTLSPolicy{
		ObjectMeta: metav1.ObjectMeta{Namespace: "ns", Name: name, Generation: 1, Finalizers: []string{v1alpha1.Finalizer}, CreationTimestamp: metav1.NewTime(epoch())},
		Spec:       v1alpha1.RayTLSPolicySpec{Selector: &metav1.LabelSelector{}},
	}
}

type admission struct{ unread bool }

func (a *admission) Condition(string) metav1.Condition {
	if a.unread {
		return metav1.Condition{Type: v1alpha1.ConditionAdmissionActive, Status: metav1.ConditionUnknown, Reason: v1alpha1.ReasonAdmissionPending}
	}
	return metav1.Condition{Type: v1alpha1.ConditionAdmissionActive, Status: metav1.ConditionTrue, Reason: v1alpha1.ReasonAdmissionActive}
}

func (*admission) Source(func(context.Context, string) []reconcile.Request) source.Source { return nil }

type world struct {
	*Reconciler
	t      *testing.T
	clock  *clocktesting.FakePassiveClock
	events *events.FakeRecorder
	// admission is the reconciler's.
	admission *admission
}

func newWorld(t *testing.T, objects ...client.Object) *world {
	t.Helper()
	c, clock, recorder := newClient(t, objects...), clocktesting.NewFakePassiveClock(epoch()), events.NewFakeRecorder(100)
	a := &admission{}
	return &world{t: t, clock: clock, events: recorder, admission: a, Reconciler: &Reconciler{
		Client: c, Live: c, Kinds: &kuberay.Kinds{}, Clock: clock, Recorder: recorder, Admission: a,
	}}
}

func (w *world) reconcile(name string) ctrl.Result {
	w.t.Helper()
	result, err := w.Reconcile(w.t.Context(), ctrl.Request{NamespacedName: types.NamespacedName{Namespace: "ns", Name: name}})
	if err != nil {
		w.t.Fatal(err)
	}
	return result
}

func (w *world) ready(name string) string {
	w.t.Helper()
	p := &v1alpha1.RayTLSPolicy{}
	if err := w.Client.Get(w.t.Context(), types.NamespacedName{Namespace: "ns", Name: name}, p); err != nil {
		w.t.Fatal(err)
	}
	condition := meta.FindStatusCondition(p.Status.Conditions, v1alpha1.ConditionReady)
	if condition == nil {
		return ""
	}
	return string(condition.Status) + " " + condition.Reason
}

func (w *world) update(o client.Object, change func()) {
	w.t.Helper()
	if err := w.Client.Get(w.t.Context(), client.ObjectKeyFromObject(o), o); err != nil {
		w.t.Fatal(err)
	}
	change()
	write := w.Client.Update
	if _, isRecord := o.(*v1alpha1.RayClusterTLS); isRecord {
		write = func(ctx context.Context, o client.Object, _ ...client.UpdateOption) error {
			return w.Client.Status().Update(ctx, o)
		}
	}
	if err := write(w.t.Context(), o); err != nil {
		w.t.Fatal(err)
	}
}

func TestBehindTheLastStatusHoldsForHalfAMinute(t *testing.T) {
	cluster, p := rayCluster("a", 1), newPolicy("p")
	tls := record("a", 1, v1alpha1.PolicyReference{Name: "p", Generation: 1}, v1alpha1.ReasonEncrypted)
	w := newWorld(t, p, cluster, tls)
	w.reconcile("p")
	if got := w.ready("p"); got != "True Encrypted" {
		t.Fatalf("got %s", got)
	}
	w.update(cluster, func() { cluster.Generation = 2 })
	if got := w.reconcile("p"); got.RequeueAfter != 30*time.Second {
		t.Errorf("looks again when patience ends: got %v", got)
	}
	w.clock.SetTime(epoch().Add(20 * time.Second))
	if got := w.reconcile("p"); got.RequeueAfter != 10*time.Second {
		t.Errorf("a second look does not prolong it: got %v", got)
	}
	if got := w.ready("p"); got != "True Encrypted" {
		t.Errorf("the last status holds: got %s", got)
	}
	w.clock.SetTime(epoch().Add(30 * time.Second))
	if got := w.reconcile("p"); got.RequeueAfter != 0 {
		t.Errorf("nothing to wait for: got %v", got)
	}
	if got := w.ready("p"); got != "Unknown Reconciling" {
		t.Errorf("then it is not known: got %s", got)
	}
	w.update(tls, func() { tls.Status.ObservedGeneration = 2 })
	w.reconcile("p")
	if got := w.ready("p"); got != "True Encrypted" {
		t.Errorf("the cluster has caught up: got %s", got)
	}
	w.update(cluster, func() { cluster.Generation = 3 })
	if got := w.reconcile("p"); got.RequeueAfter != 30*time.Second {
		t.Errorf("patience begins anew: got %v", got)
	}
	w.update(p, func() { p.Generation = 2 })
	w.reconcile("p")
	if got := w.ready("p"); got != "Unknown Reconciling" {
		t.Errorf("the last status says nothing of a new spec: got %s", got)
	}
}

func TestAPolicyIsUnknownWhileAClusterIs(t *testing.T) {
	ours := v1alpha1.PolicyReference{Name: "p", Generation: 1}
	unknown, plain := record("b", 1, ours, v1alpha1.ReasonError), record("c", 1, ours, v1alpha1.ReasonAwaitingApproval)
	unknown.Status.Conditions[0].Status = metav1.ConditionUnknown
	w := newWorld(t, newPolicy("p"), rayCluster("a", 1), record("a", 1, ours, v1alpha1.ReasonEncrypted), rayCluster("b", 1), unknown)
	w.reconcile("p")
	if got := w.ready("p"); got != "Unknown Error" {
		t.Errorf("one cluster is not known: got %s", got)
	}
	w = newWorld(t, newPolicy("p"), rayCluster("b", 1), unknown, rayCluster("c", 1), plain)
	w.reconcile("p")
	if got := w.ready("p"); got != "False AwaitingApproval" {
		t.Errorf("what is known to be plaintext is worse: got %s", got)
	}
}

func TestAPolicyThatCannotBeReadIsUnknownAfterHalfAMinute(t *testing.T) {
	down := false
	w := newWorld(t, newPolicy("p"))
	stored, ok := w.Client.(client.WithWatch)
	if !ok {
		t.Fatal("the fake client watches")
	}
	w.Client = interceptor.NewClient(stored, interceptor.Funcs{
		List: func(ctx context.Context, c client.WithWatch, list client.ObjectList, options ...client.ListOption) error {
			if down {
				return errors.New("the cache is down")
			}
			return c.List(ctx, list, options...)
		},
	})
	w.reconcile("p")
	down = true
	if got := w.reconcile("p"); got.RequeueAfter != 5*time.Second || w.ready("p") != "True NoClusters" {
		t.Errorf("the last status holds: got %v, %s", got, w.ready("p"))
	}
	w.clock.SetTime(epoch().Add(30 * time.Second))
	if _, err := w.Reconcile(t.Context(), ctrl.Request{NamespacedName: types.NamespacedName{Namespace: "ns", Name: "p"}}); err == nil || w.ready("p") != "Unknown Error" {
		t.Errorf("then it is not known: got %v, %s", err, w.ready("p"))
	}
	down = false
	w.reconcile("p")
	if got := w.ready("p"); got != "True NoClusters" {
		t.Errorf("it can be read again: got %s", got)
	}
}

// Otherwise every start of the operator would write every policy twice.
func TestAnOperatorThatHasJustStartedKeepsTheLastStatus(t *testing.T) {
	w := newWorld(t, newPolicy("p"))
	active := func() string {
		t.Helper()
		p := &v1alpha1.RayTLSPolicy{}
		if err := w.Client.Get(t.Context(), types.NamespacedName{Namespace: "ns", Name: "p"}, p); err != nil {
			t.Fatal(err)
		}
		return string(meta.FindStatusCondition(p.Status.Conditions, v1alpha1.ConditionAdmissionActive).Status)
	}
	w.reconcile("p")
	w.admission.unread = true
	if got := w.reconcile("p"); got.RequeueAfter != 30*time.Second || active() != "True" {
		t.Errorf("the last status holds: got %s, %v", active(), got)
	}
	w.clock.SetTime(epoch().Add(time.Minute))
	if got := w.reconcile("p"); got.RequeueAfter != 0 || active() != "Unknown" {
		t.Errorf("then it is not known: got %s, %v", active(), got)
	}
}

func TestCompleteness(t *testing.T) {
	ours := v1alpha1.PolicyReference{Name: "p", Generation: 1}
	foreign := record("a", 1, ours, v1alpha1.ReasonEncrypted)
	foreign.OwnerReferences[0].UID = "earlier"
	empty := record("a", 1, ours, v1alpha1.ReasonEncrypted)
	empty.Status.Conditions = nil
	deleting := rayCluster("a", 2)
	deleting.DeletionTimestamp, deleting.Finalizers = &metav1.Time{Time: epoch()}, []string{"ray.io/x"}
	older := newPolicy("o")
	older.CreationTimestamp = metav1.NewTime(epoch().Add(-time.Hour))
	excluded := rayCluster("a", 1)
	excluded.Labels = map[string]string{v1alpha1.LabelExclude: v1alpha1.ExcludeTrue}
	for name, c := range map[string]struct {
		reason  string
		objects []client.Object
		want    string
	}{
		"current":            {"both generations match", []client.Object{rayCluster("a", 1), record("a", 1, ours, v1alpha1.ReasonEncrypted)}, "True Encrypted"},
		"none":               {"a new cluster has no RayClusterTLS yet", []client.Object{rayCluster("a", 1)}, "Unknown Reconciling"},
		"old cluster":        {"the RayCluster changed", []client.Object{rayCluster("a", 2), record("a", 1, ours, v1alpha1.ReasonEncrypted)}, "Unknown Reconciling"},
		"old policy":         {"the policy changed", []client.Object{rayCluster("a", 1), record("a", 1, v1alpha1.PolicyReference{Name: "p", Generation: 7}, v1alpha1.ReasonEncrypted)}, "Unknown Reconciling"},
		"earlier cluster":    {"it is about another RayCluster of the name", []client.Object{rayCluster("a", 1), foreign}, "Unknown Reconciling"},
		"without conditions": {"a status without an answer is none", []client.Object{rayCluster("a", 1), empty}, "Unknown Reconciling"},
		"deleting":           {"nothing is computed for a cluster that is being deleted", []client.Object{deleting, record("a", 1, ours, v1alpha1.ReasonPodsStarting)}, "False PodsStarting"},
		"another's":          {"the older policy covers it", []client.Object{rayCluster("a", 1), older}, "False PolicyConflict"},
		"not covered":        {"a cluster that nobody covers is nobody's business", []client.Object{excluded}, "True NoClusters"},
	} {
		t.Run(name, func(t *testing.T) {
			w := newWorld(t, append(c.objects, newPolicy("p"))...)
			w.reconcile("p")
			if got := w.ready("p"); got != c.want {
				t.Errorf("%s: got %s, want %s", c.reason, got, c.want)
			}
		})
	}
}

func TestDeletedPolicyIsHeldUntilItIsCarriedOut(t *testing.T) {
	ours := v1alpha1.PolicyReference{Name: "p", Generation: 1}
	injected := record("a", 1, ours, v1alpha1.ReasonEncrypted)
	injected.Status.Injection.Revision = 1
	released := record("a", 1, ours, v1alpha1.ReasonNotCovered)
	underWay := record("a", 1, ours, v1alpha1.ReasonEnabling)
	underWay.Status.Rollout = &v1alpha1.RolloutProgress{Goal: v1alpha1.GoalEncrypted, Phase: v1alpha1.PhaseRest}
	others := record("a", 1, v1alpha1.PolicyReference{Name: "o", Generation: 1}, v1alpha1.ReasonEncrypted)
	others.Status.Injection.Revision = 1
	deleting := rayCluster("a", 1)
	deleting.DeletionTimestamp, deleting.Finalizers = &metav1.Time{Time: epoch()}, []string{"ray.io/x"}
	for name, c := range map[string]struct {
		reason   string
		deletion v1alpha1.DeletionPolicy
		objects  []client.Object
		held     bool
	}{
		"nothing":             {"nothing to carry out", v1alpha1.DeletionDisable, nil, false},
		"retained":            {"clusters stay encrypted without their policy", v1alpha1.DeletionRetain, []client.Object{rayCluster("a", 1), injected}, false},
		"retained under way":  {"half of the pods cannot talk to the rest", v1alpha1.DeletionRetain, []client.Object{rayCluster("a", 1), underWay}, true},
		"injected":            {"the cluster is still to be restored", v1alpha1.DeletionDisable, []client.Object{rayCluster("a", 1), injected}, true},
		"released":            {"the cluster is restored", v1alpha1.DeletionDisable, []client.Object{rayCluster("a", 1), released}, false},
		"another policy's":    {"another policy took it over", v1alpha1.DeletionDisable, []client.Object{rayCluster("a", 1), others}, false},
		"cluster gone":        {"garbage collection may be late", v1alpha1.DeletionDisable, []client.Object{injected}, false},
		"cluster being ended": {"there is nothing left to restore", v1alpha1.DeletionDisable, []client.Object{deleting, injected}, false},
	} {
		t.Run(name, func(t *testing.T) {
			p := newPolicy("p")
			p.Spec.DeletionPolicy, p.DeletionTimestamp = c.deletion, &metav1.Time{Time: epoch()}
			w := newWorld(t, append(c.objects, p)...)
			w.reconcile("p")
			err := w.Client.Get(t.Context(), client.ObjectKeyFromObject(p), &v1alpha1.RayTLSPolicy{})
			if held := err == nil; held != c.held {
				t.Errorf("%s: got held %v (%v), want %v", c.reason, held, err, c.held)
			}
		})
	}
}

// A policy that is not kept is read live, and one too many is not in force.
func TestPoliciesOutOfBoundsSaySo(t *testing.T) {
	large, last := newPolicy("large"), newPolicy("last")
	last.CreationTimestamp = metav1.NewTime(epoch().Add(time.Hour))
	for i := range 100 {
		large.Spec.Rollout.Approvals = append(large.Spec.Rollout.Approvals, v1alpha1.Approval{Cluster: fmt.Sprintf("%0253d", i), Restart: strings.Repeat("x", 500)})
	}
	objects := []client.Object{large, last, rayCluster("a", 1)}
	for i := range 64 {
		p := newPolicy(fmt.Sprint("p-", i))
		p.Spec.Selector = &metav1.LabelSelector{}
		objects = append(objects, p)
	}
	last.Spec.Selector = &metav1.LabelSelector{}
	w := newWorld(t, objects...)
	w.Client = interceptor.NewClient(w.Client.(client.WithWatch), interceptor.Funcs{
		Get: func(ctx context.Context, c client.WithWatch, key client.ObjectKey, into client.Object, options ...client.GetOption) error {
			if err := c.Get(ctx, key, into, options...); err != nil {
				return err
			}
			if p, is := into.(*v1alpha1.RayTLSPolicy); is {
				policy.Slim(p)
			}
			return nil
		},
	})
	for name, want := range map[string]string{"large": v1alpha1.ReasonPolicyTooLarge, "last": v1alpha1.ReasonTooManyPolicies} {
		result := w.reconcile(name)
		stored := &v1alpha1.RayTLSPolicy{}
		if err := w.Live.Get(t.Context(), types.NamespacedName{Namespace: "ns", Name: name}, stored); err != nil {
			t.Fatal(err)
		}
		accepted := meta.FindStatusCondition(stored.Status.Conditions, v1alpha1.ConditionAccepted)
		if accepted == nil || accepted.Status != metav1.ConditionFalse || accepted.Reason != want {
			t.Errorf("%s: got %+v", name, accepted)
		}
		if result.RequeueAfter <= 0 || result.RequeueAfter > kube.UnwatchedRetry+time.Second {
			t.Errorf("%s is looked at again after %s, though others may go", name, result.RequeueAfter)
		}
	}
}

func TestFinalizerComesFirst(t *testing.T) {
	p := newPolicy("p")
	p.Finalizers = nil
	w := newWorld(t, p)
	w.reconcile("p")
	if got := w.ready("p"); got != "" {
		t.Errorf("no status before there is a finalizer: got %s", got)
	}
	w.reconcile("p")
	if got := w.ready("p"); got != "True NoClusters" {
		t.Errorf("got %s", got)
	}
}

func TestEventsTellOfChangesAlone(t *testing.T) {
	ours := v1alpha1.PolicyReference{Name: "p", Generation: 1}
	tls := record("a", 1, ours, v1alpha1.ReasonPodsStarting)
	w := newWorld(t, newPolicy("p"), rayCluster("a", 1), tls)
	w.reconcile("p")
	w.reconcile("p")
	w.update(tls, func() { tls.Status.Conditions[0].Reason = v1alpha1.ReasonAuthorityLost })
	w.reconcile("p")
	close(w.events.Events)
	var got []string
	for event := range w.events.Events {
		got = append(got, strings.Join(strings.Fields(event)[:2], " "))
	}
	want := []string{"Normal Accepted", "Normal PodsStarting", "Normal UpToDate", "Normal AdmissionActive", "Warning AuthorityLost"}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("(-want +got):\n%s", diff)
	}
}
