package raycluster

import (
	"context"
	"fmt"
	"strings"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/labels"
	"k8s.io/apimachinery/pkg/selection"
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
	"github.com/raytls/raytls/internal/controller/coverage"
	"github.com/raytls/raytls/internal/injection"
	"github.com/raytls/raytls/internal/jsonpatch"
)

// workers is how many clusters are reconciled at a time. Making keys keeps a core busy, waiting for the API server does not.
const workers = 8

// CacheOptions are what the cache holds for this package: of Secrets and ConfigMaps only the operator's own, of pods only
// Ray's and of those only what is looked at.
func CacheOptions() (map[client.Object]cache.ByObject, error) {
	ours, err := labels.NewRequirement(v1alpha1.LabelManagedBy, selection.Equals, []string{v1alpha1.ManagedBy})
	if err != nil {
		return nil, fmt.Errorf("selecting the operator's own objects: %w", err)
	}
	rays, err := labels.NewRequirement(labelCluster, selection.Exists, nil)
	if err != nil {
		return nil, fmt.Errorf("selecting Ray's pods: %w", err)
	}
	cluster := &unstructured.Unstructured{}
	cluster.SetGroupVersionKind(RayClusterKind())
	own := cache.ByObject{Label: labels.NewSelector().Add(*ours), Transform: slimOwn}
	return map[client.Object]cache.ByObject{
		&corev1.Secret{}:    own,
		&corev1.ConfigMap{}: own,
		&corev1.Pod{}:       {Label: labels.NewSelector().Add(*rays), Transform: slimPod},
		cluster:             {Transform: slimCluster},
	}, nil
}

// tooLarge stands in a cached RayCluster's spec for one that is larger than is looked at.
const tooLarge = "raytls.io/too-large"

var errTooLarge = fmt.Errorf("it has more than %d worker groups, which is more than can be injected; use fewer", injection.MaxWorkerGroups)

// slimCluster drops specs that would take the operator's memory: whoever may create RayClusters decides how many there are.
func slimCluster(object any) (any, error) {
	cluster, ok := object.(*unstructured.Unstructured)
	if !ok {
		return object, nil
	}
	if injection.TooLarge(jsonpatch.Map(cluster.Object["spec"])) {
		cluster.Object["spec"] = map[string]any{tooLarge: true}
	}
	return cluster, nil
}

// slimPod keeps of a pod what is looked at: a cluster can have thousands.
func slimPod(object any) (any, error) {
	pod, ok := object.(*corev1.Pod)
	if !ok {
		return object, nil
	}
	var status []corev1.ContainerStatus
	if s := initStatus(pod); s != nil {
		status = append(status, *s)
	}
	pod.ManagedFields = nil
	pod.Annotations = only(pod.Annotations, v1alpha1.AnnotationSync)
	pod.Labels = only(pod.Labels, labelCluster, labelNodeType, labelGroup)
	pod.Spec = corev1.PodSpec{
		NodeName:       pod.Spec.NodeName,
		InitContainers: injection.SlimContainers(pod.Spec.InitContainers), Containers: injection.SlimContainers(pod.Spec.Containers),
	}
	pod.Status = corev1.PodStatus{Phase: pod.Status.Phase, Conditions: pod.Status.Conditions, InitContainerStatuses: status}
	return pod, nil
}

// maxOwnBytes is more than the operator ever puts into one of its own objects.
const maxOwnBytes = 256 << 10

// slimOwn keeps what claims by its label to be the operator's from filling the memory: anybody can label.
func slimOwn(object any) (any, error) {
	size := 0
	switch o := object.(type) {
	case *corev1.Secret:
		o.ManagedFields = nil
		for _, value := range o.Data {
			size += len(value)
		}
		if size > maxOwnBytes {
			o.Data = nil
		}
	case *corev1.ConfigMap:
		o.ManagedFields = nil
		o.BinaryData = nil
		for _, value := range o.Data {
			size += len(value)
		}
		if size > maxOwnBytes {
			o.Data = nil
		}
	}
	return object, nil
}

func only(from map[string]string, keys ...string) map[string]string {
	out := map[string]string{}
	for _, key := range keys {
		if value, ok := from[key]; ok {
			out[key] = value
		}
	}
	return out
}

// SetupWithManager registers the reconciler, its indexes and its watches.
func (r *Reconciler) SetupWithManager(ctx context.Context, mgr ctrl.Manager) error {
	r.began = r.Clock.Now()
	indexer := mgr.GetFieldIndexer()
	if err := indexer.IndexField(ctx, &corev1.Pod{}, IndexPodCluster, func(o client.Object) []string {
		return []string{o.GetLabels()[labelCluster]}
	}); err != nil {
		return fmt.Errorf("indexing pods: %w", err)
	}
	cluster, secrets := &unstructured.Unstructured{}, &metav1.PartialObjectMetadata{}
	cluster.SetGroupVersionKind(RayClusterKind())
	secrets.SetGroupVersionKind(corev1.SchemeGroupVersion.WithKind("Secret"))
	c, err := ctrl.NewControllerManagedBy(mgr).
		Named("raycluster").
		For(cluster).
		Watches(cluster, r.slotFreed()).
		Watches(&corev1.Pod{}, handler.EnqueueRequestsFromMapFunc(byLabel)).
		Watches(&corev1.Secret{}, handler.EnqueueRequestsFromMapFunc(r.bySecret)).
		WatchesRawSource(r.Admission.Source(r.allOf)).
		WatchesRawSource(source.Kind(r.SecretNames, secrets, handler.TypedEnqueueRequestsFromMapFunc(r.byName))).
		Watches(&corev1.ConfigMap{}, handler.EnqueueRequestsFromMapFunc(r.injectedIn)).
		Watches(&v1alpha1.RayTLSPolicy{}, handler.EnqueueRequestsFromMapFunc(r.allIn),
			// Not the status, which says what was found of the clusters.
			builder.WithPredicates(predicate.Or(predicate.GenerationChangedPredicate{}, predicate.AnnotationChangedPredicate{}, deletionChanged()))).
		WithOptions(controller.Options{MaxConcurrentReconciles: workers}).
		Build(r)
	if err != nil {
		return fmt.Errorf("setting up the RayCluster controller: %w", err)
	}
	r.Kinds.Register(r.watchOwners(mgr, c))
	return nil
}

// watchOwners looks at clusters again when what is read of their owners changes.
func (r *Reconciler) watchOwners(mgr ctrl.Manager, c controller.Controller) Watcher {
	return func(ctx context.Context, kind v1alpha1.TargetKind, object *unstructured.Unstructured) error {
		clusters := r.byService
		if kind == v1alpha1.TargetRayCronJob {
			return nil // a RayJob says which it is of
		}
		if kind == v1alpha1.TargetRayJob {
			clusters = byJob
			if err := mgr.GetFieldIndexer().IndexField(ctx, object, IndexJobCluster, func(o client.Object) []string {
				if name := clusterOfJob(o); name != "" {
					return []string{name}
				}
				return nil
			}); err != nil {
				return fmt.Errorf("indexing: %w", err)
			}
		}
		return c.Watch(source.Kind(mgr.GetCache(), object, handler.TypedEnqueueRequestsFromMapFunc(clusters), ownerChanged()))
	}
}

func deletionChanged() predicate.Predicate {
	return predicate.Funcs{UpdateFunc: func(e event.UpdateEvent) bool {
		return e.ObjectOld.GetDeletionTimestamp().IsZero() != e.ObjectNew.GetDeletionTimestamp().IsZero()
	}}
}

func request(namespace, name string) []reconcile.Request {
	if name == "" {
		return nil
	}
	return []reconcile.Request{{NamespacedName: types.NamespacedName{Namespace: namespace, Name: name}}}
}

func byLabel(_ context.Context, o client.Object) []reconcile.Request {
	return request(o.GetNamespace(), o.GetLabels()[labelCluster])
}

func byJob(_ context.Context, job *unstructured.Unstructured) []reconcile.Request {
	return request(job.GetNamespace(), clusterOfJob(job))
}

// byService maps to the RayService's clusters, those that it is about to delete included.
func (r *Reconciler) byService(ctx context.Context, o *unstructured.Unstructured) []reconcile.Request {
	self := v1alpha1.TargetReference{Kind: v1alpha1.TargetRayService, Name: o.GetName()}
	return r.clustersIn(ctx, o.GetNamespace(), func(c *unstructured.Unstructured) bool {
		owner, found := coverage.Owner(c)
		return found && owner == self
	})
}

func clusterOfJob(o client.Object) string {
	job, ok := o.(*unstructured.Unstructured)
	if !ok {
		return ""
	}
	name, _, _ := unstructured.NestedString(job.Object, "status", "rayClusterName")
	return name
}

// bySecret maps an authority or a CA Secret to its cluster.
func (r *Reconciler) bySecret(_ context.Context, o client.Object) []reconcile.Request {
	if o.GetLabels()[v1alpha1.LabelComponent] == v1alpha1.ComponentAuthority && o.GetNamespace() == r.Namespace {
		namespace, name, _ := strings.Cut(o.GetAnnotations()[v1alpha1.AnnotationCluster], "/")
		return request(namespace, name)
	}
	name, _ := strings.CutPrefix(o.GetName(), injection.SecretName(""))
	return request(o.GetNamespace(), name)
}

// byName maps a Secret that need not be ours to those who wait for it: the clusters of policies that name it as their CA, and
// the cluster whose CA Secret's name it takes.
func (r *Reconciler) byName(ctx context.Context, o *metav1.PartialObjectMetadata) []reconcile.Request {
	var out []reconcile.Request
	if name, taken := strings.CutPrefix(o.Name, injection.SecretName("")); taken {
		out = request(o.Namespace, name)
	}
	var policies v1alpha1.RayTLSPolicyList
	if err := r.Client.List(ctx, &policies, client.InNamespace(o.Namespace)); err != nil {
		ctrl.LoggerFrom(ctx).Error(err, "Listing policies", "namespace", o.Namespace)
		return nil
	}
	for i := range policies.Items {
		if ref := policies.Items[i].Spec.CertificateAuthority.SecretRef; ref != nil && ref.Name == o.Name {
			return append(out, r.allIn(ctx, o)...)
		}
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
	return r.clustersIn(ctx, o.GetNamespace(), func(c *unstructured.Unstructured) bool {
		return injection.AnyPiece(jsonpatch.Map(c.Object["spec"]))
	})
}

func (r *Reconciler) clustersIn(ctx context.Context, namespace string, keep func(*unstructured.Unstructured) bool) []reconcile.Request {
	var clusters unstructured.UnstructuredList
	clusters.SetGroupVersionKind(RayClusterKind())
	if err := r.Client.List(ctx, &clusters, client.InNamespace(namespace), client.UnsafeDisableDeepCopy); err != nil {
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

// slotFreed wakes the clusters that wait for others when one of those is through.
func (r *Reconciler) slotFreed() handler.EventHandler {
	wake := func(namespace string, q workqueue.TypedRateLimitingInterface[reconcile.Request]) {
		for _, key := range r.Observed.Waiting(namespace) {
			q.Add(reconcile.Request{NamespacedName: key})
		}
	}
	holds := func(o metav1.Object) string {
		a := o.GetAnnotations()
		return a[v1alpha1.AnnotationRollout] + "/" + a[v1alpha1.AnnotationEnableFailed]
	}
	return handler.Funcs{
		UpdateFunc: func(_ context.Context, e event.UpdateEvent, q workqueue.TypedRateLimitingInterface[reconcile.Request]) {
			if before := holds(e.ObjectOld); before != "/" && before != holds(e.ObjectNew) {
				wake(e.ObjectNew.GetNamespace(), q)
			}
		},
		DeleteFunc: func(_ context.Context, e event.DeleteEvent, q workqueue.TypedRateLimitingInterface[reconcile.Request]) {
			if holds(e.Object) != "/" {
				wake(e.Object.GetNamespace(), q)
			}
		},
	}
}
