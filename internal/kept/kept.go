// Package kept decides how much of RayClusters and of their pods a cache keeps.
package kept

import (
	"maps"
	"sync"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/types"
	toolscache "k8s.io/client-go/tools/cache"

	"github.com/raytls/raytls/api/v1alpha1"
	"github.com/raytls/raytls/internal/injection"
	"github.com/raytls/raytls/internal/jsonpatch"
)

// These bound a cache, in bytes as jsonpatch.Weigh gives them. Everyone who may create RayClusters decides how many there are, and a
// list of empty objects takes thirty times its text.
const (
	// maxKept is the weight of the heaviest RayCluster that is kept, and maxKeptNamespace that of all of one namespace.
	maxKept, maxKeptNamespace = 1 << 20, 16 << 20
	// maxKeptMetadata is the weight of the labels, annotations and owner references that stay of one that is not kept.
	maxKeptMetadata = 16 << 10
	// maxAnnotation is the size of the largest annotation that stays.
	maxAnnotation = 4 << 10
)

// The reasons for which a RayCluster is not kept.
const (
	// TooLarge: nobody reads it.
	TooLarge = "too-large"
	// ReadLive: it is read past the cache, if the operator has to do with it.
	ReadLive = "read-live"
)

// leftOutKey stands alone in the spec of a RayCluster that is not kept. Its value is the reason.
const leftOutKey = "raytls.io/not-kept"

// LeftOut is why a cached spec is not the RayCluster's; empty if it is.
func LeftOut(spec map[string]any) string { return jsonpatch.String(spec[leftOutKey]) }

// MayBeInjected reports whether a cached spec carries a piece of the injection, or was left out, so that it may.
func MayBeInjected(spec map[string]any) bool { return LeftOut(spec) != "" || injection.AnyPiece(spec) }

// Whole is what is worked on of a RayCluster that was read past the cache. If that is too large, LeftOut says so.
func Whole(object *unstructured.Unstructured) *unstructured.Unstructured {
	trim(object)
	if isTooLarge(jsonpatch.Map(object.Object["spec"])) {
		return stub(object, TooLarge)
	}
	return object
}

// Keeper decides which RayClusters a cache keeps whole. It is safe for concurrent use.
type Keeper struct {
	mu sync.Mutex
	// weights are those of the RayClusters that are kept, and totals their sums.
	weights map[types.UID]int64
	totals  map[string]int64
	left    map[types.UID]bool
}

// New makes a Keeper for an empty cache.
func New() *Keeper {
	return &Keeper{weights: map[types.UID]int64{}, totals: map[string]int64{}, left: map[types.UID]bool{}}
}

// Slim is the transformation of a cache of RayClusters.
func (k *Keeper) Slim(object any) (any, error) {
	cluster, ok := object.(*unstructured.Unstructured)
	if !ok {
		return object, nil
	}
	if LeftOut(jsonpatch.Map(cluster.Object["spec"])) != "" {
		return cluster, nil
	}
	trim(cluster)
	if why := k.account(cluster); why != "" {
		return stub(cluster, why), nil
	}
	return cluster, nil
}

func isTooLarge(spec map[string]any) bool {
	return injection.CheckSize(spec) != nil || jsonpatch.Weigh(spec) > injection.MaxWeight
}

// account counts a RayCluster, and returns why it is not kept; empty if it is.
func (k *Keeper) account(object *unstructured.Unstructured) string {
	spec, weight := jsonpatch.Map(object.Object["spec"]), jsonpatch.Weigh(object.Object)
	light := weight <= maxKept && injection.CheckSize(spec) == nil
	large := !light && isTooLarge(spec)
	k.mu.Lock()
	defer k.mu.Unlock()
	namespace, uid := object.GetNamespace(), object.GetUID()
	k.forget(namespace, uid)
	if light && k.totals[namespace]+weight <= maxKeptNamespace {
		k.weights[uid] = weight
		k.totals[namespace] += weight
		return ""
	}
	k.left[uid] = true
	if large {
		return TooLarge
	}
	return ReadLive
}

// Forget takes back the room of a RayCluster that has left the cache. The object is what an informer's handler is given.
func (k *Keeper) Forget(object any) {
	if gone, ok := object.(toolscache.DeletedFinalStateUnknown); ok {
		object = gone.Obj
	}
	if cluster, ok := object.(metav1.Object); ok {
		k.mu.Lock()
		defer k.mu.Unlock()
		k.forget(cluster.GetNamespace(), cluster.GetUID())
	}
}

func (k *Keeper) forget(namespace string, uid types.UID) {
	k.totals[namespace] -= k.weights[uid]
	if k.totals[namespace] == 0 {
		delete(k.totals, namespace)
	}
	delete(k.weights, uid)
	delete(k.left, uid)
}

// Left is how many RayClusters are not kept.
func (k *Keeper) Left() int {
	k.mu.Lock()
	defer k.mu.Unlock()
	return len(k.left)
}

// trim drops what nobody reads: which fields of the spec each manager has, and annotations that repeat the object.
func trim(object *unstructured.Unstructured) {
	metadata := jsonpatch.Map(object.Object["metadata"])
	for _, item := range jsonpatch.List(metadata["managedFields"]) {
		if entry := jsonpatch.Map(item); entry != nil {
			fields := map[string]any{}
			if jsonpatch.Map(entry["fieldsV1"])["f:spec"] != nil {
				fields["f:spec"] = map[string]any{}
			}
			entry["fieldsV1"] = fields
		}
	}
	// A patch adds to the annotations, so the map stays though it may become empty.
	maps.DeleteFunc(jsonpatch.Map(metadata["annotations"]), func(key string, value any) bool {
		return key != v1alpha1.AnnotationEdit && len(jsonpatch.String(value)) > maxAnnotation
	})
}

// stub is what stays of a RayCluster that is not kept.
func stub(object *unstructured.Unstructured, why string) *unstructured.Unstructured {
	metadata, kept := jsonpatch.Map(object.Object["metadata"]), map[string]any{}
	for _, key := range []string{"namespace", "name", "uid", "resourceVersion", "generation", "creationTimestamp", "deletionTimestamp"} {
		if value := metadata[key]; value != nil {
			kept[key] = value
		}
	}
	for _, key := range []string{"labels", "annotations", "ownerReferences"} {
		if value := metadata[key]; value != nil && jsonpatch.Weigh(value) <= maxKeptMetadata {
			kept[key] = value
		}
	}
	return &unstructured.Unstructured{Object: map[string]any{
		"apiVersion": object.GetAPIVersion(), "kind": object.GetKind(), "metadata": kept, "spec": map[string]any{leftOutKey: why},
	}}
}
