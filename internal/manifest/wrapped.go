package manifest

import (
	"fmt"
	"slices"
	"strings"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"

	"github.com/raytls/raytls/internal/jsonpatch"
)

// Wrapped is what an object of a kind that holds no RayCluster itself has of RayClusters, at any path.
type Wrapped struct {
	// Objects are whole RayClusters, RayJobs, RayServices and RayCronJobs. They share their fields with the wrapper, so that
	// changing them changes the wrapper.
	Objects []*Object
	// Templates are specs of RayClusters that a controller makes under names of its own.
	Templates []Template
	// Texts are the paths of texts in which a RayCluster stands, as in a ConfigMap or a patch.
	Texts []string
}

// Template is a RayCluster's spec in an object that is none.
type Template struct {
	Path string
	Spec map[string]any
}

// Wrapped finds the RayClusters inside an object by their shape. It finds none in an object that ClusterSpec knows.
func (o *Object) Wrapped() Wrapped {
	var found Wrapped
	o.eachWrapped(func(_ []any, inner *Object) { found.Objects = append(found.Objects, inner) },
		func(path []any, v any) {
			if spec := jsonpatch.Map(v); spec != nil {
				found.Templates = append(found.Templates, Template{Path: spell(path), Spec: spec})
				return
			}
			found.Texts = append(found.Texts, spell(path))
		})
	return found
}

// WithWrapped lists the objects, each followed by the whole objects inside it.
func WithWrapped(objects []*Object) []*Object {
	var all []*Object
	for _, o := range objects {
		all = append(append(all, o), o.Wrapped().Objects...)
	}
	return all
}

// Wrapper is the object of the file that this one is inside of; nil for an object of the file.
func (o *Object) Wrapper() *Object { return o.wrapper }

// Top is the object of the file: the wrapper or the object itself.
func (o *Object) Top() *Object {
	if o.wrapper != nil {
		return o.wrapper
	}
	return o
}

// GetNamespace is the object's namespace. One that names none is created in its wrapper's.
func (o *Object) GetNamespace() string {
	if own := o.Unstructured.GetNamespace(); own != "" || o.wrapper == nil {
		return own
	}
	return o.wrapper.GetNamespace()
}

// eachWrapped calls whole for each whole object, and part for each template and each text.
func (o *Object) eachWrapped(whole func(path []any, inner *Object), part func(path []any, v any)) {
	if o.clusterPath() != nil || o.Is("apiextensions.k8s.io", "CustomResourceDefinition") {
		return
	}
	var visit func(v any, path []any)
	visit = func(v any, path []any) {
		switch typed := v.(type) {
		case map[string]any:
			inner := &Object{Unstructured: unstructured.Unstructured{Object: typed}, Where: fmt.Sprintf("%s of %s", spell(path), o), wrapper: o}
			switch {
			case len(path) > 0 && inner.clusterPath() != nil && jsonpatch.Map(typed["metadata"]) != nil:
				whole(path, inner)
				return
			case isClusterSpec(typed):
				part(path, typed)
				return
			}
			for _, key := range sortedKeys(typed) {
				visit(typed[key], slices.Concat(path, []any{key}))
			}
		case []any:
			for i, item := range typed {
				visit(item, slices.Concat(path, []any{i}))
			}
		case string:
			if strings.Contains(typed, "headGroupSpec") && !slices.Contains(path, any(corev1.LastAppliedConfigAnnotation)) {
				part(path, typed)
			}
		}
	}
	visit(o.Object, nil)
}

// isClusterSpec tells a RayCluster's spec by its head, which has a pod template. A schema of that name has none.
func isClusterSpec(fields map[string]any) bool {
	template := jsonpatch.Map(jsonpatch.Map(fields["headGroupSpec"])["template"])
	return len(jsonpatch.List(jsonpatch.Map(template["spec"])["containers"])) > 0
}
