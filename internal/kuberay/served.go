package kuberay

import (
	"context"
	"fmt"
	"slices"
	"sync"
	"time"

	rayv1 "github.com/ray-project/kuberay/ray-operator/apis/ray/v1"
	apiequality "k8s.io/apimachinery/pkg/api/equality"
	"k8s.io/apimachinery/pkg/api/meta"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/util/wait"
	"sigs.k8s.io/controller-runtime/pkg/event"
	"sigs.k8s.io/controller-runtime/pkg/log"
	"sigs.k8s.io/controller-runtime/pkg/predicate"

	"github.com/raytls/raytls/api/v1alpha1"
)

// servedInterval is how often the API server is asked for kinds that it did not serve.
const servedInterval = time.Minute

// ownerKinds are the kinds that KubeRay makes RayClusters for.
func ownerKinds() []v1alpha1.TargetKind {
	return []v1alpha1.TargetKind{v1alpha1.TargetRayJob, v1alpha1.TargetRayService, v1alpha1.TargetRayCronJob}
}

// Kinds watches the kinds that KubeRay makes RayClusters for, each from when the API server serves it. KubeRay's older versions
// have no RayCronJob, and not every installation has all CRDs.
type Kinds struct {
	// Mapper knows what is served.
	Mapper   meta.RESTMapper
	mu       sync.Mutex
	served   []v1alpha1.TargetKind
	watchers []Watcher
}

// Watcher begins to watch a kind. It is called once for each.
type Watcher func(ctx context.Context, kind v1alpha1.TargetKind, object *unstructured.Unstructured) error

// Served reports whether the kind can be named: RayClusters always, others once they are watched.
func (k *Kinds) Served(kind v1alpha1.TargetKind) bool {
	k.mu.Lock()
	defer k.mu.Unlock()
	return kind == v1alpha1.TargetRayCluster || slices.Contains(k.served, kind)
}

// Register adds a watcher. It comes before Discover.
func (k *Kinds) Register(w Watcher) { k.watchers = append(k.watchers, w) }

// Discover begins to watch what is served by now.
func (k *Kinds) Discover(ctx context.Context) error {
	for _, kind := range ownerKinds() {
		if k.Served(kind) {
			continue
		}
		gvk := GroupVersionKind(kind)
		if _, err := k.Mapper.RESTMapping(gvk.GroupKind(), gvk.Version); meta.IsNoMatchError(err) {
			continue
		} else if err != nil {
			return fmt.Errorf("asking whether %s is served: %w", kind, err)
		}
		log.FromContext(ctx).Info("Watching kind", "kind", kind)
		for _, watch := range k.watchers {
			if err := watch(ctx, kind, NewObject(kind)); err != nil {
				return fmt.Errorf("watching %s: %w", kind, err)
			}
		}
		k.mu.Lock()
		k.served = append(k.served, kind)
		k.mu.Unlock()
	}
	return nil
}

// Start looks for kinds that were not served until ctx ends.
func (k *Kinds) Start(ctx context.Context) error {
	wait.UntilWithContext(ctx, func(ctx context.Context) {
		if err := k.Discover(ctx); err != nil {
			log.FromContext(ctx).Error(err, "Looking for kinds of KubeRay")
		}
	}, servedInterval)
	return nil
}

// SlimOwner keeps the fields of a RayJob, a RayService or a RayCronJob that the operator reads. Other objects stay as they are.
// The object is untyped: one quantity that cannot be decoded would hide all others of its kind.
func SlimOwner(object any) (any, error) {
	owner, ok := object.(*unstructured.Unstructured)
	if !ok || owner.GroupVersionKind().GroupVersion() != rayv1.GroupVersion || !slices.Contains(ownerKinds(), v1alpha1.TargetKind(owner.GetKind())) {
		return object, nil
	}
	slim := &unstructured.Unstructured{Object: map[string]any{}}
	slim.SetGroupVersionKind(owner.GroupVersionKind())
	slim.SetNamespace(owner.GetNamespace())
	slim.SetName(owner.GetName())
	slim.SetUID(owner.GetUID())
	slim.SetResourceVersion(owner.GetResourceVersion())
	slim.SetDeletionTimestamp(owner.GetDeletionTimestamp())
	if by := metav1.GetControllerOf(owner); by != nil {
		slim.SetOwnerReferences([]metav1.OwnerReference{*by})
	}
	slim.SetLabels(slimLabels(owner.GetLabels()))
	for _, path := range [][]string{
		{"status", "rayClusterName"},
		{"status", "jobDeploymentStatus"},
		{"status", "activeServiceStatus", "rayClusterName"},
		{"status", "pendingServiceStatus", "rayClusterName"},
		{"status", "pendingServiceStatus", "trafficRoutedPercent"},
		{"spec", "managedBy"},
		{"spec", "upgradeStrategy", "type"},
		restartedForPath(),
	} {
		value, _, _ := unstructured.NestedFieldNoCopy(owner.Object, path...)
		if text, is := value.(string); is && len(text) > maxText {
			continue
		}
		switch value.(type) {
		case string, int64, float64:
			if err := unstructured.SetNestedField(slim.Object, value, path...); err != nil {
				return nil, fmt.Errorf("keeping %v of a %s: %w", path, owner.GetKind(), err)
			}
		}
	}
	return slim, nil
}

// These bound what SlimOwner keeps. The makers of RayJobs and RayServices decide their contents.
const (
	maxLabels = 256
	// maxText is longer than a name or any other text that is read, in bytes.
	maxText = 1 << 10
)

// slimLabels are those of an object, or of one with very many the ones that are read.
func slimLabels(labels map[string]string) map[string]string {
	if len(labels) <= maxLabels {
		return labels
	}
	out := map[string]string{}
	for _, key := range []string{labelCronJob, labelQueue, v1alpha1.LabelExclude} {
		if value, found := labels[key]; found {
			out[key] = value
		}
	}
	return out
}

// OwnerChanged leaves out updates of fields that SlimOwner drops.
func OwnerChanged() predicate.TypedPredicate[*unstructured.Unstructured] {
	return predicate.TypedFuncs[*unstructured.Unstructured]{UpdateFunc: func(e event.TypedUpdateEvent[*unstructured.Unstructured]) bool {
		return !sameOwner(e.ObjectOld, e.ObjectNew)
	}}
}

// sameOwner reports whether both objects agree but for their version: KubeRay writes the status of a RayService often.
func sameOwner(before, after *unstructured.Unstructured) bool {
	a, b := before.DeepCopy(), after.DeepCopy()
	a.SetResourceVersion("")
	b.SetResourceVersion("")
	return apiequality.Semantic.DeepEqual(a.Object, b.Object)
}
