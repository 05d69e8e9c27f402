package kuberay

import (
	"context"
	"fmt"
	"slices"
	"sync"
	"time"

	apiequality "k8s.io/apimachinery/pkg/api/equality"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"k8s.io/apimachinery/pkg/api/meta"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/util/wait"
	"sigs.k8s.io/controller-runtime/pkg/client"
	"sigs.k8s.io/controller-runtime/pkg/event"
	"sigs.k8s.io/controller-runtime/pkg/log"
	"sigs.k8s.io/controller-runtime/pkg/predicate"

	"github.com/raytls/raytls/api/v1alpha1"
)

// servedInterval is how often the API server is asked for kinds that it did not serve.
const servedInterval = time.Minute

// Kinds has the kinds that KubeRay makes RayClusters for watched: at once what the API server serves, and the rest when
// it comes to be served. KubeRay's older versions have no RayCronJob, and not every installation has all CRDs.
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
	for _, kind := range OwnerKinds() {
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

// Start looks for what is not served yet until everything is, or ctx ends.
func (k *Kinds) Start(ctx context.Context) error {
	missing := func(kind v1alpha1.TargetKind) bool { return !k.Served(kind) }
	err := wait.PollUntilContextCancel(ctx, servedInterval, false, func(ctx context.Context) (done bool, err error) {
		if slices.ContainsFunc(OwnerKinds(), missing) {
			if err := k.Discover(ctx); err != nil {
				log.FromContext(ctx).Error(err, "Looking for kinds of KubeRay")
			}
		}
		return !slices.ContainsFunc(OwnerKinds(), missing), nil
	})
	if ctx.Err() == nil {
		return err
	}
	return nil // the operator ends
}

// SlimOwner keeps of a RayJob, a RayService or a RayCronJob what is looked at. Untyped, since the API server takes
// quantities that cannot be read, and one such object would hide all others of its kind. Other objects stay as they are.
func SlimOwner(object any) (any, error) {
	owner, ok := object.(*unstructured.Unstructured)
	if !ok || !slices.ContainsFunc(OwnerKinds(), func(kind v1alpha1.TargetKind) bool {
		return owner.GroupVersionKind() == GroupVersionKind(kind)
	}) {
		return object, nil
	}
	slim := &unstructured.Unstructured{Object: map[string]any{}}
	slim.SetGroupVersionKind(owner.GroupVersionKind())
	slim.SetNamespace(owner.GetNamespace())
	slim.SetName(owner.GetName())
	slim.SetUID(owner.GetUID())
	slim.SetResourceVersion(owner.GetResourceVersion())
	slim.SetDeletionTimestamp(owner.GetDeletionTimestamp())
	slim.SetOwnerReferences(owner.GetOwnerReferences())
	slim.SetLabels(owner.GetLabels())
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
		if value, found, err := unstructured.NestedFieldNoCopy(owner.Object, path...); found && err == nil {
			switch value.(type) {
			case string, int64, float64:
				if err := unstructured.SetNestedField(slim.Object, value, path...); err != nil {
					return nil, fmt.Errorf("keeping %v of a %s: %w", path, owner.GetKind(), err)
				}
			}
		}
	}
	return slim, nil
}

// Exists reports whether the object is there. RayClusters are not asked for here.
func (k *Kinds) Exists(ctx context.Context, reader client.Reader, namespace string, ref v1alpha1.TargetReference) (bool, error) {
	if ref.Kind == v1alpha1.TargetRayCluster || !k.Served(ref.Kind) {
		return false, nil
	}
	err := reader.Get(ctx, client.ObjectKey{Namespace: namespace, Name: ref.Name}, NewObject(ref.Kind))
	if apierrors.IsNotFound(err) {
		return false, nil
	}
	if err != nil {
		return false, fmt.Errorf("reading %s %s: %w", ref.Kind, ref.Name, err)
	}
	return true, nil
}

// OwnerChanged leaves out updates of what is not looked at.
func OwnerChanged() predicate.TypedPredicate[*unstructured.Unstructured] {
	return predicate.TypedFuncs[*unstructured.Unstructured]{UpdateFunc: func(e event.TypedUpdateEvent[*unstructured.Unstructured]) bool {
		return !sameOwner(e.ObjectOld, e.ObjectNew)
	}}
}

// sameOwner reports whether nothing changed that is looked at: KubeRay writes the status of a RayService often.
func sameOwner(before, after *unstructured.Unstructured) bool {
	a, b := before.DeepCopy(), after.DeepCopy()
	a.SetResourceVersion("")
	b.SetResourceVersion("")
	return apiequality.Semantic.DeepEqual(a.Object, b.Object)
}
