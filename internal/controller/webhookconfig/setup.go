package webhookconfig

import (
	"context"
	"fmt"
	"slices"
	"time"

	admissionregistrationv1 "k8s.io/api/admissionregistration/v1"
	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/client-go/util/workqueue"
	ctrl "sigs.k8s.io/controller-runtime"
	"sigs.k8s.io/controller-runtime/pkg/client"
	"sigs.k8s.io/controller-runtime/pkg/event"
	"sigs.k8s.io/controller-runtime/pkg/handler"
	"sigs.k8s.io/controller-runtime/pkg/reconcile"
	"sigs.k8s.io/controller-runtime/pkg/source"

	"github.com/raytls/raytls/api/v1alpha1"
	"github.com/raytls/raytls/internal/kuberay"
)

// coalesce is how long changes are gathered that put no further namespace within reach.
const coalesce = 100 * time.Millisecond

type queue = workqueue.TypedRateLimitingInterface[reconcile.Request]

// SetupWithManager registers the reconciler and its watches.
func (r *Reconciler) SetupWithManager(mgr ctrl.Manager) error {
	err := ctrl.NewControllerManagedBy(mgr).
		Named("webhookconfig").
		For(&admissionregistrationv1.MutatingWebhookConfiguration{}).
		Watches(&corev1.Secret{}, handler.EnqueueRequestsFromMapFunc(r.bySecret)).
		Watches(&v1alpha1.RayTLSPolicy{}, r.reaching()).
		Watches(kuberay.NewRayCluster(), r.reaching()).
		WatchesRawSource(source.Func(func(_ context.Context, q queue) error {
			q.Add(request()) // the webhook's pods need an authority with or without a configuration
			return nil
		})).
		Complete(r)
	if err != nil {
		return fmt.Errorf("setting up the controller of the admission webhook's registration: %w", err)
	}
	return nil
}

func request() reconcile.Request {
	return reconcile.Request{NamespacedName: types.NamespacedName{Name: Configuration}}
}

// bySecret reconciles for the operator's Secrets in its own namespace: those of authorities, the webhook's included.
func (r *Reconciler) bySecret(_ context.Context, o client.Object) []reconcile.Request {
	if o.GetNamespace() != r.Namespace {
		return nil
	}
	return []reconcile.Request{request()}
}

// reaching reconciles at once for an object that comes or goes in a namespace that is not within reach, and otherwise after a
// moment.
func (r *Reconciler) reaching() handler.EventHandler {
	enqueue := func(o client.Object, q queue) {
		r.mu.Lock()
		defer r.mu.Unlock()
		if slices.Contains(r.found.namespaces, o.GetNamespace()) {
			q.AddAfter(request(), coalesce)
			return
		}
		q.Add(request())
	}
	return handler.Funcs{
		CreateFunc: func(_ context.Context, e event.CreateEvent, q queue) { enqueue(e.Object, q) },
		DeleteFunc: func(_ context.Context, e event.DeleteEvent, q queue) { enqueue(e.Object, q) },
	}
}

// Source enqueues requests for each namespace for which Condition changes.
func (r *Reconciler) Source(requests func(ctx context.Context, namespace string) []reconcile.Request) source.Source {
	return source.Func(func(ctx context.Context, q queue) error {
		r.mu.Lock()
		defer r.mu.Unlock()
		r.wake = append(r.wake, func(namespace string) {
			for _, request := range requests(ctx, namespace) {
				q.Add(request)
			}
		})
		return nil
	})
}
