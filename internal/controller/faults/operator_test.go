package faults_test

import (
	"context"
	"errors"
	"fmt"
	"time"

	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/client-go/tools/events"
	ctrl "sigs.k8s.io/controller-runtime"
	"sigs.k8s.io/controller-runtime/pkg/client"
	"sigs.k8s.io/controller-runtime/pkg/client/interceptor"
	"sigs.k8s.io/controller-runtime/pkg/reconcile"
	"sigs.k8s.io/controller-runtime/pkg/source"

	"github.com/raytls/raytls/api/v1alpha1"
	"github.com/raytls/raytls/internal/cluster"
	"github.com/raytls/raytls/internal/controller/raycluster"
	"github.com/raytls/raytls/internal/controller/raytlspolicy"
	"github.com/raytls/raytls/internal/probe"
)

// A call fails in one of these ways.
type way string

const (
	// refused calls have no effect, and answers that are lost have had theirs.
	refused way = "refused"
	lost    way = "answer lost"
	// The operator ends before the call, or after it.
	killedBefore way = "operator killed before"
	killedAfter  way = "operator killed after"
)

// fault has one call fail, and no other.
type fault struct {
	at  int
	way way
}

var errKilled = errors.New("the operator was killed")

// operator is one process: its memory begins with it.
type operator struct {
	world    *world
	cache    client.Reader
	clusters *raycluster.Reconciler
	policies *raytlspolicy.Reconciler
	fault    fault
	calls    []string
	// turn waits until the operator may make its next call; nil for at once.
	turn func(call string)
	// news is how much its controllers are told of, seen how much of it they have looked at, and next when they look again though
	// there is no more.
	news func() int
	seen map[string]int
	next map[string]time.Time
}

func newOperator(w *world, f fault) *operator {
	o := &operator{world: w, cache: w.api, fault: f, seen: map[string]int{}, next: map[string]time.Time{}}
	o.news = func() int { return w.api.writes }
	api, recorder := o.client(), &events.FakeRecorder{}
	live := interceptor.NewClient(w.api, interceptor.Funcs{
		Get: func(ctx context.Context, c client.WithWatch, key client.ObjectKey, object client.Object, options ...client.GetOption) error {
			return o.call(fmt.Sprintf("get %T %s", object, key.Name), false, func() error { return c.Get(ctx, key, object, options...) })
		},
		List: func(ctx context.Context, c client.WithWatch, list client.ObjectList, options ...client.ListOption) error {
			return o.call(fmt.Sprintf("list %T", list), false, func() error { return c.List(ctx, list, options...) })
		},
	})
	served := func(v1alpha1.TargetKind) bool { return false }
	o.clusters = &raycluster.Reconciler{
		Client: api, Live: live, Clock: w.api.clock, Recorder: recorder, Heads: raycluster.NewHeads(nil, w.api.clock, live),
		Gatherer: cluster.Gatherer{
			Cached: api, Live: live, Namespace: operatorNamespace, ClusterDomain: "cluster.local", Served: served,
			Admission: func(string) string {
				if w.api.admits {
					return v1alpha1.ReasonAdmissionActive
				}
				return v1alpha1.ReasonAdmissionNotInstalled
			},
			Finding: func(probe.Target) *probe.Finding { return nil },
			Scale:   w.scale,
		},
		Settings: cluster.Settings{Namespace: operatorNamespace, Served: served},
	}
	o.policies = &raytlspolicy.Reconciler{Client: api, Live: live, Clock: w.api.clock, Recorder: recorder, Kinds: w.kinds, Admission: noAdmission{}, Scale: w.scale}
	return o
}

// noAdmission is a cluster without the webhook.
type noAdmission struct{}

func (noAdmission) Condition(string) metav1.Condition {
	return metav1.Condition{Type: v1alpha1.ConditionAdmissionActive, Status: metav1.ConditionFalse, Reason: v1alpha1.ReasonAdmissionNotInstalled, Message: "not installed"}
}

func (noAdmission) Source(func(context.Context, string) []reconcile.Request) source.Source {
	return nil
}

// client reads from the operator's cache, and each of its writes is a call.
func (o *operator) client() client.Client {
	write := func(verb string, object client.Object, do func() error) error {
		return o.call(fmt.Sprintf("%s %T %s", verb, object, object.GetName()), true, do)
	}
	return interceptor.NewClient(o.world.api, interceptor.Funcs{
		Get: func(ctx context.Context, _ client.WithWatch, key client.ObjectKey, object client.Object, options ...client.GetOption) error {
			return o.cache.Get(ctx, key, object, options...)
		},
		List: func(ctx context.Context, _ client.WithWatch, list client.ObjectList, options ...client.ListOption) error {
			return o.cache.List(ctx, list, options...)
		},
		Create: func(ctx context.Context, c client.WithWatch, object client.Object, options ...client.CreateOption) error {
			return write("create", object, func() error { return c.Create(ctx, object, options...) })
		},
		Update: func(ctx context.Context, c client.WithWatch, object client.Object, options ...client.UpdateOption) error {
			return write("update", object, func() error { return c.Update(ctx, object, options...) })
		},
		Patch: func(ctx context.Context, c client.WithWatch, object client.Object, patch client.Patch, options ...client.PatchOption) error {
			return write("patch", object, func() error { return c.Patch(ctx, object, patch, options...) })
		},
		Delete: func(ctx context.Context, c client.WithWatch, object client.Object, options ...client.DeleteOption) error {
			return write("delete", object, func() error {
				return o.world.restart(ctx, object, func() error { return c.Delete(ctx, object, options...) })
			})
		},
		SubResourceCreate: func(ctx context.Context, c client.Client, name string, object, sub client.Object, options ...client.SubResourceCreateOption) error {
			return write(name, object, func() error {
				return o.world.restart(ctx, object, func() error { return c.SubResource(name).Create(ctx, object, sub, options...) })
			})
		},
		SubResourcePatch: func(ctx context.Context, c client.Client, name string, object client.Object, patch client.Patch, options ...client.SubResourcePatchOption) error {
			return write("patch "+name+" of", object, func() error { return c.SubResource(name).Patch(ctx, object, patch, options...) })
		},
	})
}

// call makes one call of the operator to the API server, or has it fail.
func (o *operator) call(what string, write bool, do func() error) error {
	if o.turn != nil {
		o.turn(what)
	}
	o.calls = append(o.calls, what)
	if len(o.calls) != o.fault.at {
		return do()
	}
	switch {
	case o.fault.way == killedBefore:
		panic(errKilled)
	case o.fault.way == refused:
		return apierrors.NewServiceUnavailable("no leader of etcd")
	}
	err := do()
	if o.fault.way == killedAfter {
		panic(errKilled)
	}
	if write && err == nil {
		err = errors.New("read tcp 10.0.0.5:43210->10.96.0.1:443: connection reset by peer")
	}
	return err
}

// reconcile runs both controllers where they have something to look at. It reports whether one did.
func (o *operator) reconcile(ctx context.Context) (looked bool, err error) {
	defer func() {
		if killed := recover(); killed != nil {
			if killed != errKilled { //nolint:errorlint // the very value
				panic(killed)
			}
			err = errKilled
		}
	}()
	for _, one := range []struct {
		controller string
		run        func() (ctrl.Result, error)
	}{
		{"cluster", func() (ctrl.Result, error) { return o.clusters.Reconcile(ctx, requestOf("train")) }},
		{"policy", func() (ctrl.Result, error) { return o.policies.Reconcile(ctx, requestOf("p")) }},
	} {
		next, now := o.next[one.controller], o.world.now()
		if o.seen[one.controller] == o.news()+1 && (next.IsZero() || now.Before(next)) {
			continue
		}
		o.seen[one.controller] = o.news() + 1
		result, failed := one.run()
		looked = true
		o.next[one.controller] = time.Time{}
		switch {
		case failed != nil:
			o.next[one.controller] = now.Add(time.Second)
		case result.RequeueAfter > 0:
			o.next[one.controller] = now.Add(result.RequeueAfter)
		}
	}
	return looked, nil
}

// nextLook is when the operator looks again; zero for never.
func (o *operator) nextLook() time.Time {
	var out time.Time
	for _, at := range o.next {
		if out.IsZero() || !at.IsZero() && at.Before(out) {
			out = at
		}
	}
	return out
}

func requestOf(name string) ctrl.Request {
	return ctrl.Request{NamespacedName: client.ObjectKey{Namespace: namespace, Name: name}}
}

// restart counts how often the operator restarted each place.
func (w *world) restart(ctx context.Context, object client.Object, do func() error) error {
	var pod corev1.Pod
	if _, ok := object.(*corev1.Pod); !ok || w.api.Get(ctx, client.ObjectKeyFromObject(object), &pod) != nil {
		return do()
	}
	err := do()
	if err == nil {
		w.restarts[pod.Labels[labelPlace]]++
	}
	return err
}
