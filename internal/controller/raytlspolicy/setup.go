package raytlspolicy

import (
	"context"
	"fmt"
	"slices"
	"time"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/client-go/util/workqueue"
	ctrl "sigs.k8s.io/controller-runtime"
	"sigs.k8s.io/controller-runtime/pkg/builder"
	"sigs.k8s.io/controller-runtime/pkg/client"
	"sigs.k8s.io/controller-runtime/pkg/event"
	"sigs.k8s.io/controller-runtime/pkg/handler"
	"sigs.k8s.io/controller-runtime/pkg/log"
	"sigs.k8s.io/controller-runtime/pkg/predicate"
	"sigs.k8s.io/controller-runtime/pkg/reconcile"
	"sigs.k8s.io/controller-runtime/pkg/source"

	"github.com/raytls/raytls/api/v1alpha1"
	"github.com/raytls/raytls/internal/kuberay"
	"github.com/raytls/raytls/internal/policy"
)

// coalesce is how long changes of a policy's clusters are gathered before its status is computed: many clusters change at once.
const coalesce = 200 * time.Millisecond

// SetupWithManager registers the reconciler and its watches.
func (r *Reconciler) SetupWithManager(mgr ctrl.Manager) error {
	secrets := &metav1.PartialObjectMetadata{}
	secrets.SetGroupVersionKind(corev1.SchemeGroupVersion.WithKind("Secret"))
	c, err := ctrl.NewControllerManagedBy(mgr).
		Named("raytlspolicy").
		For(&v1alpha1.RayTLSPolicy{}).
		// A policy that changes or goes can end the conflicts of others.
		Watches(&v1alpha1.RayTLSPolicy{}, handler.Funcs{UpdateFunc: r.updated, DeleteFunc: r.deleted}, builder.WithPredicates(predicate.GenerationChangedPredicate{})).
		Watches(&v1alpha1.RayClusterTLS{}, handler.Funcs{CreateFunc: r.created, UpdateFunc: r.recordUpdated, DeleteFunc: r.deleted}).
		Watches(kuberay.NewRayCluster(), handler.Funcs{CreateFunc: r.created, UpdateFunc: r.updated, DeleteFunc: r.deleted}, builder.WithPredicates(clusterChanged())).
		WatchesRawSource(r.Admission.Source(r.allIn)).
		WatchesRawSource(source.Kind(r.SecretNames, secrets, handler.TypedEnqueueRequestsFromMapFunc(r.bySecret))).
		Build(r)
	if err != nil {
		return fmt.Errorf("setting up the RayTLSPolicy controller: %w", err)
	}
	r.Kinds.Register(func(_ context.Context, _ v1alpha1.TargetKind, object *unstructured.Unstructured) error {
		return c.Watch(source.Kind(mgr.GetCache(), object, handler.TypedEnqueueRequestsFromMapFunc(r.byTarget), appearance()))
	})
	return nil
}

type queue = workqueue.TypedRateLimitingInterface[reconcile.Request]

func (r *Reconciler) created(ctx context.Context, e event.CreateEvent, q queue) {
	enqueueLater(q, r.allIn(ctx, e.Object.GetNamespace()))
}

func (r *Reconciler) updated(ctx context.Context, e event.UpdateEvent, q queue) {
	enqueueLater(q, r.allIn(ctx, e.ObjectNew.GetNamespace()))
}

func (r *Reconciler) deleted(ctx context.Context, e event.DeleteEvent, q queue) {
	enqueueLater(q, r.allIn(ctx, e.Object.GetNamespace()))
}

// recordUpdated requests the policy that the RayClusterTLS names, and every policy of the namespace where the change can decide
// which policy covers the cluster.
func (r *Reconciler) recordUpdated(ctx context.Context, e event.UpdateEvent, q queue) {
	before, isRecord := e.ObjectOld.(*v1alpha1.RayClusterTLS)
	after, areRecords := e.ObjectNew.(*v1alpha1.RayClusterTLS)
	if !isRecord || !areRecords {
		return
	}
	old, status := &before.Status, &after.Status
	if old.PolicyRef.Name != status.PolicyRef.Name || policy.Bound(old) != policy.Bound(status) || policy.UnderWay(old) != policy.UnderWay(status) {
		r.updated(ctx, e, q)
		return
	}
	if name := status.PolicyRef.Name; name != "" {
		enqueueLater(q, []reconcile.Request{{NamespacedName: types.NamespacedName{Namespace: after.Namespace, Name: name}}})
	}
}

// enqueueLater adds the requests after a moment, in which further changes ask for the same.
func enqueueLater(q queue, requests []reconcile.Request) {
	for _, request := range requests {
		q.AddAfter(request, coalesce)
	}
}

// clusterChanged leaves out updates of a RayCluster's status, which KubeRay writes often. A deletion changes the generation.
func clusterChanged() predicate.Predicate {
	sameOwner := func(a, b metav1.OwnerReference) bool { return a.UID == b.UID }
	return predicate.Or[client.Object](predicate.GenerationChangedPredicate{}, predicate.LabelChangedPredicate{}, predicate.Funcs{UpdateFunc: func(e event.UpdateEvent) bool {
		return !slices.EqualFunc(e.ObjectOld.GetOwnerReferences(), e.ObjectNew.GetOwnerReferences(), sameOwner)
	}})
}

// appearance leaves out updates: only whether a target exists matters.
func appearance() predicate.TypedPredicate[*unstructured.Unstructured] {
	return predicate.TypedFuncs[*unstructured.Unstructured]{UpdateFunc: func(event.TypedUpdateEvent[*unstructured.Unstructured]) bool { return false }}
}

// byTarget maps an object to the policies whose targetRef names it.
func (r *Reconciler) byTarget(ctx context.Context, o *unstructured.Unstructured) []reconcile.Request {
	return r.requests(ctx, o.GetNamespace(), func(p *v1alpha1.RayTLSPolicy) bool {
		ref := p.Spec.TargetRef
		return ref != nil && string(ref.Kind) == o.GetKind() && ref.Name == o.GetName()
	})
}

// bySecret maps a Secret to the policies whose secretRef names it.
func (r *Reconciler) bySecret(ctx context.Context, o *metav1.PartialObjectMetadata) []reconcile.Request {
	return r.requests(ctx, o.GetNamespace(), func(p *v1alpha1.RayTLSPolicy) bool {
		ref := p.Spec.CertificateAuthority.SecretRef
		return ref != nil && ref.Name == o.GetName()
	})
}

// allIn maps a namespace to all its policies.
func (r *Reconciler) allIn(ctx context.Context, namespace string) []reconcile.Request {
	return r.requests(ctx, namespace, func(*v1alpha1.RayTLSPolicy) bool { return true })
}

// requests are for the namespace's policies that keep reports true for.
func (r *Reconciler) requests(ctx context.Context, namespace string, keep func(*v1alpha1.RayTLSPolicy) bool) []reconcile.Request {
	policies, err := policy.List(ctx, r.Client, namespace)
	if err != nil {
		log.FromContext(ctx).Error(err, "Listing policies", "namespace", namespace)
		return nil
	}
	var out []reconcile.Request
	for _, p := range policies {
		if keep(p) {
			out = append(out, reconcile.Request{NamespacedName: client.ObjectKeyFromObject(p)})
		}
	}
	return out
}
