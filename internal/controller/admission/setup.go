package admission

import (
	"context"
	"fmt"
	"net/url"
	"time"

	admissionregistrationv1 "k8s.io/api/admissionregistration/v1"
	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/fields"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/client-go/util/workqueue"
	ctrl "sigs.k8s.io/controller-runtime"
	"sigs.k8s.io/controller-runtime/pkg/builder"
	"sigs.k8s.io/controller-runtime/pkg/cache"
	"sigs.k8s.io/controller-runtime/pkg/client"
	"sigs.k8s.io/controller-runtime/pkg/controller"
	"sigs.k8s.io/controller-runtime/pkg/event"
	"sigs.k8s.io/controller-runtime/pkg/handler"
	"sigs.k8s.io/controller-runtime/pkg/predicate"
	"sigs.k8s.io/controller-runtime/pkg/reconcile"
	"sigs.k8s.io/controller-runtime/pkg/source"

	"github.com/raytls/raytls/api/v1alpha1"
	"github.com/raytls/raytls/internal/controller/raycluster"
)

// coalesce is how long changes are gathered that put no further namespace within reach.
const coalesce = 100 * time.Millisecond

// CacheOptions are what the cache holds for this package, but for Secrets, which package raycluster has it hold: of webhook
// configurations only the operator's, since it may read no other.
func CacheOptions() map[client.Object]cache.ByObject {
	return map[client.Object]cache.ByObject{
		&admissionregistrationv1.MutatingWebhookConfiguration{}: {
			Field: fields.OneTermEqualSelector("metadata.name", Configuration),
			Transform: func(object any) (any, error) {
				if configuration, ok := object.(*admissionregistrationv1.MutatingWebhookConfiguration); ok {
					configuration.ManagedFields = nil
				}
				return object, nil
			},
		},
	}
}

// SetupWithManager registers the reconciler and its watches. It runs on every replica, elected or not.
func (r *Reconciler) SetupWithManager(mgr ctrl.Manager) error {
	cluster := &unstructured.Unstructured{}
	cluster.SetGroupVersionKind(raycluster.RayClusterKind())
	everyReplica := false
	err := ctrl.NewControllerManagedBy(mgr).
		Named("admission").
		For(&admissionregistrationv1.MutatingWebhookConfiguration{}).
		Watches(&corev1.Secret{}, handler.EnqueueRequestsFromMapFunc(always), builder.WithPredicates(predicate.NewPredicateFuncs(func(o client.Object) bool {
			return o.GetNamespace() == r.Namespace && (o.GetName() == Secret || o.GetLabels()[v1alpha1.LabelComponent] == v1alpha1.ComponentAuthority)
		}))).
		Watches(&v1alpha1.RayTLSPolicy{}, r.reaching()).
		Watches(cluster, r.reaching()).
		WatchesRawSource(source.Func(r.start)).
		WithOptions(controller.Options{NeedLeaderElection: &everyReplica}).
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

// start looks once, with or without a configuration, again once this replica may write, and when it serves another
// certificate.
func (r *Reconciler) start(ctx context.Context, queue workqueue.TypedRateLimitingInterface[reconcile.Request]) error {
	queue.Add(request())
	r.Certificates.OnServe(func() { queue.Add(request()) })
	go func() {
		select {
		case <-ctx.Done():
		case <-r.Elected:
			queue.Add(request())
		}
	}()
	return nil
}

// reaching looks at once when an object that comes or goes is in a namespace that is not within reach, and soon otherwise.
func (r *Reconciler) reaching() handler.EventHandler {
	look := func(o client.Object, queue workqueue.TypedRateLimitingInterface[reconcile.Request]) {
		if r.listed(o.GetNamespace()) {
			queue.AddAfter(request(), coalesce)
			return
		}
		queue.Add(request())
	}
	return handler.Funcs{
		CreateFunc: func(_ context.Context, e event.CreateEvent, queue workqueue.TypedRateLimitingInterface[reconcile.Request]) {
			look(e.Object, queue)
		},
		DeleteFunc: func(_ context.Context, e event.DeleteEvent, queue workqueue.TypedRateLimitingInterface[reconcile.Request]) {
			look(e.Object, queue)
		},
	}
}

// Source puts requests into a controller's queue for each namespace for which Active changes.
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

// host is what API servers call the webhook by.
func host(to *admissionregistrationv1.WebhookClientConfig) string {
	if to.Service != nil {
		return to.Service.Name + "." + to.Service.Namespace + ".svc"
	}
	if to.URL == nil {
		return ""
	}
	parsed, err := url.Parse(*to.URL)
	if err != nil {
		return ""
	}
	return parsed.Hostname()
}
