package webhookconfig

import (
	"context"
	"fmt"
	"time"

	admissionregistrationv1 "k8s.io/api/admissionregistration/v1"
	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/client-go/util/workqueue"
	ctrl "sigs.k8s.io/controller-runtime"
	"sigs.k8s.io/controller-runtime/pkg/builder"
	"sigs.k8s.io/controller-runtime/pkg/client"
	"sigs.k8s.io/controller-runtime/pkg/event"
	"sigs.k8s.io/controller-runtime/pkg/handler"
	"sigs.k8s.io/controller-runtime/pkg/predicate"
	"sigs.k8s.io/controller-runtime/pkg/reconcile"
	"sigs.k8s.io/controller-runtime/pkg/source"

	"github.com/raytls/raytls/api/v1alpha1"
	"github.com/raytls/raytls/internal/kuberay"
)

// coalesce is how long changes are gathered that put no further namespace within reach.
const coalesce = 100 * time.Millisecond

// SetupWithManager registers the reconciler and its watches.
func (r *Reconciler) SetupWithManager(mgr ctrl.Manager) error {
	err := ctrl.NewControllerManagedBy(mgr).
		Named("webhookconfig").
		For(&admissionregistrationv1.MutatingWebhookConfiguration{}).
		Watches(&corev1.Secret{}, handler.EnqueueRequestsFromMapFunc(always), builder.WithPredicates(predicate.NewPredicateFuncs(func(o client.Object) bool {
			return o.GetNamespace() == r.Namespace && (o.GetName() == Secret || o.GetLabels()[v1alpha1.LabelComponent] == v1alpha1.ComponentAuthority)
		}))).
		Watches(&v1alpha1.RayTLSPolicy{}, r.reaching()).
		Watches(kuberay.NewRayCluster(), r.reaching()).
		WatchesRawSource(source.Func(start)).
		Complete(r)
	if err != nil {
		return fmt.Errorf("setting up the controller of the admission webhook's registration: %w", err)
	}
	return nil
}

func always(context.Context, client.Object) []reconcile.Request {
	return []reconcile.Request{request()}
}

func request() reconcile.Request {
	return reconcile.Request{NamespacedName: types.NamespacedName{Name: Configuration}}
}

// start asks for one reconcile, for the webhook's pods need an authority with or without a configuration.
func start(_ context.Context, queue workqueue.TypedRateLimitingInterface[reconcile.Request]) error {
	queue.Add(request())
	return nil
}

// reaching reconciles at once when an object that comes or goes is in a namespace that is not within reach, and otherwise
// after a moment.
func (r *Reconciler) reaching() handler.EventHandler {
	enqueue := func(o client.Object, queue workqueue.TypedRateLimitingInterface[reconcile.Request]) {
		if r.listed(o.GetNamespace()) {
			queue.AddAfter(request(), coalesce)
			return
		}
		queue.Add(request())
	}
	return handler.Funcs{
		CreateFunc: func(_ context.Context, e event.CreateEvent, queue workqueue.TypedRateLimitingInterface[reconcile.Request]) {
			enqueue(e.Object, queue)
		},
		DeleteFunc: func(_ context.Context, e event.DeleteEvent, queue workqueue.TypedRateLimitingInterface[reconcile.Request]) {
			enqueue(e.Object, queue)
		},
	}
}

// Source puts requests into a controller's queue for each namespace for which Condition changes.
func (r *Reconciler) Source(requests func(ctx context.Context, namespace string) []reconcile.Request) source.Source {
	return source.Func(func(ctx context.Context, queue workqueue.TypedRateLimitingInterface[reconcile.Request]) error {
		r.OnChange(func(namespace string) {
			for _, request := range requests(ctx, namespace) {
				queue.Add(request)
			}
		})
		return nil
	})
}
