package manifest

import (
	"errors"
	"fmt"
	"slices"
	"strings"

	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/apimachinery/pkg/util/validation"

	"github.com/raytls/raytls/api/v1alpha1"
	"github.com/raytls/raytls/internal/jsonpatch"
)

// Object is one Kubernetes object.
type Object struct {
	unstructured.Unstructured
	// Where it was read, such as "document 2 of cluster.yaml".
	Where string
	// wrapper is the object that this one is inside of; nil for an object of the file.
	wrapper *Object
}

// newObject makes sure of what the methods take for granted. lines gives the line of a path, for errors.
func newObject(where string, tree any, lines func(path ...any) string) (*Object, error) {
	fields := jsonpatch.Map(tree)
	if fields == nil {
		return nil, fmt.Errorf("%s: is not an object with apiVersion and kind", where)
	}
	for _, key := range []string{"apiVersion", "kind"} {
		if jsonpatch.String(fields[key]) == "" {
			return nil, fmt.Errorf("%s: %s%s is missing", where, lines(), key)
		}
	}
	o := &Object{Unstructured: unstructured.Unstructured{Object: fields}, Where: where}
	err := o.check(lines)
	o.eachWrapped(func(path []any, inner *Object) {
		if err == nil {
			err = inner.check(func(below ...any) string { return lines(slices.Concat(path, below)...) })
		}
	}, func(path []any, v any) {
		if err == nil && jsonpatch.Map(v) != nil {
			if wrong := checkText(v, path, lines); wrong != nil {
				err = fmt.Errorf("%s: %w", o, wrong)
			}
		}
	})
	if err != nil {
		return nil, err
	}
	return o, nil
}

// check refuses what the API server would refuse without saying where.
func (o *Object) check(lines func(path ...any) string) error {
	if err := o.checkText(lines); err != nil {
		return fmt.Errorf("%s: %w", o, err)
	}
	for _, key := range []string{"metadata", "spec"} {
		if o.Object[key] != nil && jsonpatch.Map(o.Object[key]) == nil && o.clusterPath() != nil {
			return fmt.Errorf("%s: %s%s is not an object", o, lines(key), key)
		}
	}
	return nil
}

// CheckNames returns an error unless the object has a name, and name and namespace are such as the API server takes.
func (o *Object) CheckNames() error {
	if o.GetName() == "" {
		return errors.New("metadata.name: is missing")
	}
	if wrong := validation.IsDNS1123Subdomain(o.GetName()); len(wrong) > 0 {
		return fmt.Errorf("metadata.name: %s", wrong[0])
	}
	if wrong := validation.IsDNS1123Label(o.GetNamespace()); len(wrong) > 0 && o.GetNamespace() != "" {
		return fmt.Errorf("metadata.namespace: %s", wrong[0])
	}
	return nil
}

// String is such as "RayCluster ml/train (document 2 of cluster.yaml)".
func (o *Object) String() string { return fmt.Sprintf("%s (%s)", o.Title(), o.Where) }

// Title is such as "RayCluster ml/train".
func (o *Object) Title() string {
	name := o.GetName()
	if name == "" {
		name = o.GetGenerateName() + "?"
	}
	if namespace := o.GetNamespace(); namespace != "" {
		name = namespace + "/" + name
	}
	return o.GetKind() + " " + name
}

// Is reports whether the object is of this kind, in any version of the group; the group "" is Kubernetes' own core.
func (o *Object) Is(group, kind string) bool {
	return o.GroupVersionKind().GroupKind() == schema.GroupKind{Group: group, Kind: kind}
}

// Near reports whether both can be in one namespace. Where one names none, whoever applies it chooses.
func (o *Object) Near(other *Object) bool {
	a, b := o.GetNamespace(), other.GetNamespace()
	return a == b || a == "" || b == ""
}

// clusterPath is where the object's kind holds a RayCluster's spec; nil for kinds that hold none.
func (o *Object) clusterPath() []string {
	if o.GroupVersionKind().Group != "ray.io" {
		return nil
	}
	switch v1alpha1.TargetKind(o.GetKind()) {
	case v1alpha1.TargetRayCluster:
		return []string{"spec"}
	case v1alpha1.TargetRayJob:
		return []string{"spec", "rayClusterSpec"}
	case v1alpha1.TargetRayService:
		return []string{"spec", "rayClusterConfig"}
	case v1alpha1.TargetRayCronJob:
		return []string{"spec", "jobTemplate", "rayClusterSpec"}
	}
	return nil
}

// ClusterSpec gives the RayCluster's spec that the object is or holds, nil where there is none, and the path for it;
// empty for a kind that holds none.
func (o *Object) ClusterSpec() (spec map[string]any, path string) {
	keys := o.clusterPath()
	if keys == nil {
		return nil, ""
	}
	found, _, _ := unstructured.NestedFieldNoCopy(o.Object, keys...)
	return jsonpatch.Map(found), strings.Join(keys, ".")
}

// SetClusterSpec replaces what ClusterSpec gives, where it gives something. The object's other parts stay as they are.
func (o *Object) SetClusterSpec(spec map[string]any) {
	keys := o.clusterPath()
	last := len(keys) - 1
	parent, _, _ := unstructured.NestedFieldNoCopy(o.Object, keys[:last]...)
	jsonpatch.Map(parent)[keys[last]] = spec
}
