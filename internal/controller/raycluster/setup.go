package raycluster

import (
	"context"
	"fmt"
	"slices"
	"strings"

	corev1 "k8s.io/api/core/v1"
	policyv1 "k8s.io/api/policy/v1"
	"k8s.io/apimachinery/pkg/api/meta"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/client-go/util/workqueue"
	ctrl "sigs.k8s.io/controller-runtime"
	"sigs.k8s.io/controller-runtime/pkg/builder"
	"sigs.k8s.io/controller-runtime/pkg/client"
	"sigs.k8s.io/controller-runtime/pkg/controller"
	"sigs.k8s.io/controller-runtime/pkg/event"
	"sigs.k8s.io/controller-runtime/pkg/handler"
	"sigs.k8s.io/controller-runtime/pkg/predicate"
	"sigs.k8s.io/controller-runtime/pkg/reconcile"
	"sigs.k8s.io/controller-runtime/pkg/source"

	"github.com/raytls/raytls/api/v1alpha1"
	"github.com/raytls/raytls/internal/cluster"
	"github.com/raytls/raytls/internal/injection"
	"github.com/raytls/raytls/internal/jsonpatch"
	"github.com/raytls/raytls/internal/kept"
	"github.com/raytls/raytls/internal/kuberay"
	"github.com/raytls/raytls/internal/policy"
)

// workers is how many clusters are reconciled at a time. Making keys keeps a core busy, waiting for the API server does not.
const workers = 8

// SetupWithManager registers the reconciler, its indexes and its watches.
func (r *Reconciler) SetupWithManager(ctx context.Context, mgr ctrl.Manager) error {
	indexer := mgr.GetFieldIndexer()
	if err := indexer.IndexField(ctx, &corev1.Pod{}, cluster.IndexPodCluster, func(o client.Object) []string {
		return []string{o.GetLabels()[kuberay.LabelCluster]}
	}); err != nil {
		return fmt.Errorf("indexing pods: %w", err)
	}
	rayCluster, secrets := kuberay.NewRayCluster(), &metav1.PartialObjectMetadata{}
	secrets.SetGroupVersionKind(corev1.SchemeGroupVersion.WithKind("Secret"))
	c, err := ctrl.NewControllerManagedBy(mgr).
		Named("raycluster").
		For(rayCluster).
		Watches(&v1alpha1.RayClusterTLS{}, r.onTLS()).
		Watches(&corev1.Pod{}, handler.EnqueueRequestsFromMapFunc(byLabel)).
		Watches(&policyv1.PodDisruptionBudget{}, handler.EnqueueRequestsFromMapFunc(r.byBudget)).
		Watches(&corev1.Secret{}, handler.EnqueueRequestsFromMapFunc(r.bySecret)).
		WatchesRawSource(r.AdmissionChanges(r.allOf)).
		WatchesRawSource(source.Kind(r.SecretNames, secrets, handler.TypedEnqueueRequestsFromMapFunc(r.byName))).
		WatchesRawSource(source.Func(r.observeHeads)).
		Watches(&corev1.ConfigMap{}, handler.EnqueueRequestsFromMapFunc(r.injectedIn)).
		Watches(&v1alpha1.RayTLSPolicy{}, handler.EnqueueRequestsFromMapFunc(r.allIn),
			// Not the status, which says what was found of the clusters. A deletion changes the generation.
			builder.WithPredicates(predicate.GenerationChangedPredicate{})).
		WithOptions(controller.Options{MaxConcurrentReconciles: workers}).
		Build(r)
	if err != nil {
		return fmt.Errorf("setting up the RayCluster controller: %w", err)
	}
	r.Kinds.Register(r.watchOwners(mgr, c))
	return nil
}

// watchOwners reconciles clusters when what is read of their owners changes.
func (r *Reconciler) watchOwners(mgr ctrl.Manager, c controller.Controller) kuberay.Watcher {
	return func(ctx context.Context, kind v1alpha1.TargetKind, object *unstructured.Unstructured) error {
		clusters := r.byService
		if kind == v1alpha1.TargetRayCronJob {
			return nil // a RayJob says which it is of
		}
		if kind == v1alpha1.TargetRayJob {
			clusters = byJob
			if err := mgr.GetFieldIndexer().IndexField(ctx, object, cluster.IndexJobCluster, func(o client.Object) []string {
				if job, ok := o.(*unstructured.Unstructured); ok && kuberay.JobCluster(job) != "" {
					return []string{kuberay.JobCluster(job)}
				}
				return nil
			}); err != nil {
				return fmt.Errorf("indexing: %w", err)
			}
		}
		return c.Watch(source.Kind(mgr.GetCache(), object, handler.TypedEnqueueRequestsFromMapFunc(clusters), kuberay.OwnerChanged()))
	}
}

func request(namespace, name string) []reconcile.Request {
	if name == "" {
		return nil
	}
	return []reconcile.Request{{NamespacedName: types.NamespacedName{Namespace: namespace, Name: name}}}
}

func byLabel(_ context.Context, o client.Object) []reconcile.Request {
	return request(o.GetNamespace(), o.GetLabels()[kuberay.LabelCluster])
}

func byJob(_ context.Context, job *unstructured.Unstructured) []reconcile.Request {
	return request(job.GetNamespace(), kuberay.JobCluster(job))
}

// byService maps to the RayService's clusters, those that it is about to delete included.
func (r *Reconciler) byService(ctx context.Context, o *unstructured.Unstructured) []reconcile.Request {
	self := v1alpha1.TargetReference{Kind: v1alpha1.TargetRayService, Name: o.GetName()}
	return r.clustersIn(ctx, o.GetNamespace(), func(c *unstructured.Unstructured) bool {
		owner, found := kuberay.Owner(c)
		return found && owner == self
	})
}

// bySecret maps an authority or a CA Secret to its cluster.
func (r *Reconciler) bySecret(_ context.Context, o client.Object) []reconcile.Request {
	if o.GetLabels()[v1alpha1.LabelComponent] == v1alpha1.ComponentAuthority && o.GetNamespace() == r.Settings.Namespace {
		namespace, name, _ := strings.Cut(o.GetAnnotations()[v1alpha1.AnnotationCluster], "/")
		return request(namespace, name)
	}
	return ofSecret(o.GetNamespace(), o.GetName())
}

// ofSecret maps the name of a CA Secret to the clusters that may have one of that name: since a revocation, it ends with a number.
func ofSecret(namespace, secret string) []reconcile.Request {
	name, ours := strings.CutPrefix(secret, injection.SecretName(""))
	if !ours {
		return nil
	}
	out := request(namespace, name)
	if at := strings.LastIndex(name, injection.SecretSuffix); at > 0 {
		out = append(out, request(namespace, name[:at])...)
	}
	return out
}

// byName maps a Secret that need not be ours to those who wait for it: the clusters of policies that name it as their CA, and
// the cluster whose CA Secret's name it takes.
func (r *Reconciler) byName(ctx context.Context, o *metav1.PartialObjectMetadata) []reconcile.Request {
	out := ofSecret(o.Namespace, o.Name)
	policies, err := policy.List(ctx, r.Client, o.Namespace)
	if err != nil {
		ctrl.LoggerFrom(ctx).Error(err, "Listing policies", "namespace", o.Namespace)
		return nil
	}
	if slices.ContainsFunc(policies, func(p *v1alpha1.RayTLSPolicy) bool {
		ref := p.Spec.CertificateAuthority.SecretRef
		return ref != nil && ref.Name == o.Name
	}) {
		out = append(out, r.allIn(ctx, o)...)
	}
	return out
}

// allIn maps to every cluster of the object's namespace.
func (r *Reconciler) allIn(ctx context.Context, o client.Object) []reconcile.Request {
	return r.allOf(ctx, o.GetNamespace())
}

// allOf maps to every cluster of the namespace.
func (r *Reconciler) allOf(ctx context.Context, namespace string) []reconcile.Request {
	return r.clustersIn(ctx, namespace, func(*unstructured.Unstructured) bool { return true })
}

// injectedIn maps to the clusters of the object's namespace that carry the injection.
func (r *Reconciler) injectedIn(ctx context.Context, o client.Object) []reconcile.Request {
	return r.clustersIn(ctx, o.GetNamespace(), injected)
}

func injected(c *unstructured.Unstructured) bool {
	return kept.MayBeInjected(jsonpatch.Map(c.Object["spec"]))
}

func (r *Reconciler) clustersIn(ctx context.Context, namespace string, keep func(*unstructured.Unstructured) bool) []reconcile.Request {
	clusters := kuberay.NewRayClusterList()
	if err := r.Client.List(ctx, clusters, client.InNamespace(namespace), client.UnsafeDisableDeepCopy); err != nil {
		ctrl.LoggerFrom(ctx).Error(err, "Listing RayClusters", "namespace", namespace)
		return nil
	}
	var out []reconcile.Request
	for i := range clusters.Items {
		if keep(&clusters.Items[i]) {
			out = append(out, request(namespace, clusters.Items[i].GetName())...)
		}
	}
	return out
}

// onTLS reconciles the cluster of a RayClusterTLS that somebody else changed or deleted, and, when a restart ends, the clusters of
// the namespace that wait for their turn.
func (r *Reconciler) onTLS() handler.EventHandler {
	type queue = workqueue.TypedRateLimitingInterface[reconcile.Request]
	holds := func(o client.Object) string {
		tls, ok := o.(*v1alpha1.RayClusterTLS)
		if !ok || tls.Status.Rollout == nil && tls.Status.Injection.FailedHash == "" {
			return ""
		}
		return fmt.Sprint(tls.Status.Rollout != nil, tls.Status.Injection.FailedHash)
	}
	// changed takes what the object holds now; empty if it is gone.
	changed := func(ctx context.Context, before client.Object, now string, q queue) {
		q.Add(reconcile.Request{NamespacedName: client.ObjectKeyFromObject(before)})
		if held := holds(before); held != "" && held != now {
			for _, waiting := range r.waiting(ctx, before.GetNamespace()) {
				q.Add(waiting)
			}
		}
	}
	return handler.Funcs{
		UpdateFunc: func(ctx context.Context, e event.UpdateEvent, q queue) {
			changed(ctx, e.ObjectOld, holds(e.ObjectNew), q)
		},
		DeleteFunc: func(ctx context.Context, e event.DeleteEvent, q queue) { changed(ctx, e.Object, "", q) },
	}
}

// byBudget maps a PodDisruptionBudget to the clusters of its namespace whose pods need new certificates.
func (r *Reconciler) byBudget(ctx context.Context, o client.Object) []reconcile.Request {
	return r.waitingFor(ctx, o.GetNamespace(), func(status *v1alpha1.RayClusterTLSStatus) bool {
		waits := status.PendingRestart
		return waits != nil && (waits.Action == v1alpha1.ActionRoll || waits.Action == v1alpha1.ActionRevoke) ||
			status.Rollout != nil && status.Rollout.Phase == v1alpha1.PhaseRoll
	})
}

// waiting are the namespace's clusters whose restart waits for that of others.
func (r *Reconciler) waiting(ctx context.Context, namespace string) []reconcile.Request {
	return r.waitingFor(ctx, namespace, func(status *v1alpha1.RayClusterTLSStatus) bool {
		condition := meta.FindStatusCondition(status.Conditions, v1alpha1.ConditionEncrypted)
		return condition != nil && condition.Reason == v1alpha1.ReasonWaitingForSlot ||
			status.PendingRestart != nil && status.PendingRestart.Reason == v1alpha1.ReasonWaitingForSlot
	})
}

// waitingFor are the namespace's clusters with such a status.
func (r *Reconciler) waitingFor(ctx context.Context, namespace string, waits func(*v1alpha1.RayClusterTLSStatus) bool) []reconcile.Request {
	var list v1alpha1.RayClusterTLSList
	if err := r.Client.List(ctx, &list, client.InNamespace(namespace), client.UnsafeDisableDeepCopy); err != nil {
		ctrl.LoggerFrom(ctx).Error(err, "Listing RayClusterTLSes", "namespace", namespace)
		return nil
	}
	var out []reconcile.Request
	for i := range list.Items {
		if waits(&list.Items[i].Status) {
			out = append(out, request(namespace, list.Items[i].Name)...)
		}
	}
	return out
}
