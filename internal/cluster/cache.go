package cluster

import (
	"fmt"
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

// What a cache keeps, in bytes as jsonpatch.Weigh gives them. Whoever may create RayClusters decides how many there are, and a list
// of empty objects takes thirty times its text.
const (
	// maxKept is the weight of the heaviest RayCluster that is kept, and maxKeptNamespace that of all of one namespace.
	maxKept, maxKeptNamespace = 1 << 20, 16 << 20
	// maxKeptMetadata is the weight of the labels, annotations and owner references that stay of one that is not kept.
	maxKeptMetadata = 16 << 10
	// maxAnnotation is the size of the largest annotation that stays.
	maxAnnotation = 4 << 10
)

// notKeptKey stands alone in a cached RayCluster's spec that was not kept. Its value says why.
const (
	notKeptKey = "raytls.io/not-kept"
	// tooLarge: nobody reads it. readLive: it is read past the cache, if the operator has to do with it.
	tooLarge = "too-large"
	readLive = "read-live"
)

// notKept is why a cached spec is not the RayCluster's; empty if it is.
func notKept(spec map[string]any) string { return jsonpatch.String(spec[notKeptKey]) }

// MayBeInjected reports whether a cached spec carries a piece of the injection, or was not kept, so that it may.
func MayBeInjected(spec map[string]any) bool { return notKept(spec) != "" || injection.AnyPiece(spec) }

// Keeper decides which RayClusters a cache keeps whole. It is safe for concurrent use.
type Keeper struct {
	mu sync.Mutex
	// weights are those of the RayClusters that are kept, and totals their sums.
	weights map[types.UID]int64
	totals  map[string]int64
	left    map[types.UID]bool
}

// NewKeeper makes a Keeper for an empty cache.
func NewKeeper() *Keeper {
	return &Keeper{weights: map[types.UID]int64{}, totals: map[string]int64{}, left: map[types.UID]bool{}}
}

// Slim is the transformation of a cache of RayClusters.
func (k *Keeper) Slim(object any) (any, error) {
	cluster, ok := object.(*unstructured.Unstructured)
	if !ok {
		return object, nil
	}
	if notKept(jsonpatch.Map(cluster.Object["spec"])) != "" {
		return cluster, nil
	}
	trim(cluster)
	if why := k.account(cluster); why != "" {
		return stub(cluster, why), nil
	}
	return cluster, nil
}

// unreadable is why a spec is too large to be worked on; nil if it is not.
func unreadable(spec map[string]any) error {
	if err := injection.CheckSize(spec); err != nil {
		return err
	}
	if jsonpatch.Weigh(spec) > injection.MaxWeight {
		return &injection.ConflictError{Field: "spec", Message: fmt.Sprintf("takes more than %d MiB of memory to read: shorten its lists", injection.MaxWeight>>20)}
	}
	return nil
}

// account counts a RayCluster, and returns why it is not kept; empty if it is.
func (k *Keeper) account(object *unstructured.Unstructured) string {
	weight, large := jsonpatch.Weigh(object.Object), unreadable(jsonpatch.Map(object.Object["spec"])) != nil
	k.mu.Lock()
	defer k.mu.Unlock()
	namespace, uid := object.GetNamespace(), object.GetUID()
	k.forget(namespace, uid)
	if !large && weight <= maxKept && k.totals[namespace]+weight <= maxKeptNamespace {
		k.weights[uid] = weight
		k.totals[namespace] += weight
		return ""
	}
	k.left[uid] = true
	if large {
		return tooLarge
	}
	return readLive
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
		"apiVersion": object.GetAPIVersion(), "kind": object.GetKind(), "metadata": kept, "spec": map[string]any{notKeptKey: why},
	}}
}
