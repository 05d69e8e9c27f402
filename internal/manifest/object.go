package manifest

import (
	"errors"
	"fmt"
	"strings"

	"k8s.io/apimachinery/pkg/util/validation"

	"github.com/raytls/raytls/internal/jsonpatch"
)

// Object is one Kubernetes object.
type Object struct {
	// Where it was read, such as "document 2 of cluster.yaml".
	Where string
	// Value is the object's JSON.
	Value map[string]any
}

// check makes sure of what the other methods take for granted.
func (o *Object) check() error {
	for _, key := range []string{"apiVersion", "kind"} {
		if text, ok := o.Value[key].(string); !ok || text == "" {
			return fmt.Errorf("%s: %s is missing", o.Where, key)
		}
	}
	for _, key := range []string{"metadata", "spec"} {
		if _, ok := o.Value[key].(map[string]any); o.Value[key] != nil && !ok && o.ray() {
			return fmt.Errorf("%s: %s is not an object", o, key)
		}
	}
	return nil
}

// CheckNames returns an error unless the object has a name, and name and namespace are such as the API server takes.
func (o *Object) CheckNames() error {
	if o.Name() == "" {
		return errors.New("metadata.name: is missing")
	}
	if wrong := validation.IsDNS1123Subdomain(o.Name()); len(wrong) > 0 {
		return fmt.Errorf("metadata.name: %s", wrong[0])
	}
	if wrong := validation.IsDNS1123Label(o.Namespace()); len(wrong) > 0 && o.Namespace() != "" {
		return fmt.Errorf("metadata.namespace: %s", wrong[0])
	}
	return nil
}

// Kind is the object's kind.
func (o *Object) Kind() string { return jsonpatch.String(o.Value["kind"]) }

// Name is metadata.name; empty where it is missing.
func (o *Object) Name() string { return jsonpatch.String(o.metadata()["name"]) }

// GenerateName is metadata.generateName.
func (o *Object) GenerateName() string { return jsonpatch.String(o.metadata()["generateName"]) }

// Namespace is metadata.namespace; empty where whoever applies the object chooses it.
func (o *Object) Namespace() string { return jsonpatch.String(o.metadata()["namespace"]) }

// Labels are metadata.labels.
func (o *Object) Labels() map[string]any { return jsonpatch.Map(o.metadata()["labels"]) }

func (o *Object) metadata() map[string]any { return jsonpatch.Map(o.Value["metadata"]) }

// String is such as "RayCluster ml/train (document 2 of cluster.yaml)".
func (o *Object) String() string { return fmt.Sprintf("%s (%s)", o.Title(), o.Where) }

// Title is such as "RayCluster ml/train".
func (o *Object) Title() string {
	name := o.Name()
	if name == "" {
		name = o.GenerateName() + "?"
	}
	if namespace := o.Namespace(); namespace != "" {
		name = namespace + "/" + name
	}
	return o.Kind() + " " + name
}

// Is reports whether the object is of this kind, in any version of the group; the group "" is Kubernetes' own core.
func (o *Object) Is(group, kind string) bool {
	have, _, found := strings.Cut(jsonpatch.String(o.Value["apiVersion"]), "/")
	if !found {
		have = ""
	}
	return have == group && o.Kind() == kind
}

// Near reports whether both can be in one namespace. Where one names none, whoever applies it chooses.
func (o *Object) Near(other *Object) bool {
	a, b := o.Namespace(), other.Namespace()
	return a == b || a == "" || b == ""
}

// RayGroup is the API group of KubeRay's kinds.
const RayGroup = "ray.io"

// The kinds of KubeRay that describe a RayCluster.
const (
	RayCluster = "RayCluster"
	RayJob     = "RayJob"
	RayService = "RayService"
	RayCronJob = "RayCronJob"
)

// clusterPath is where each kind holds a RayCluster's spec.
func clusterPath(kind string) []string {
	switch kind {
	case RayCluster:
		return []string{"spec"}
	case RayJob:
		return []string{"spec", "rayClusterSpec"}
	case RayService:
		return []string{"spec", "rayClusterConfig"}
	case RayCronJob:
		return []string{"spec", "jobTemplate", "rayClusterSpec"}
	}
	return nil
}

func (o *Object) ray() bool {
	path := clusterPath(o.Kind())
	return path != nil && o.Is(RayGroup, o.Kind())
}

// ClusterSpec gives the RayCluster's spec that the object is or holds, and its path; nil where there is none.
func (o *Object) ClusterSpec() (spec map[string]any, path string) {
	if !o.ray() {
		return nil, ""
	}
	keys := clusterPath(o.Kind())
	spec = o.Value
	for _, key := range keys {
		spec = jsonpatch.Map(spec[key])
	}
	return spec, strings.Join(keys, ".")
}

// SetClusterSpec replaces what ClusterSpec gives, where it gives something. The object's other parts stay as they are.
func (o *Object) SetClusterSpec(spec map[string]any) {
	keys := clusterPath(o.Kind())
	parent := o.Value
	for _, key := range keys[:len(keys)-1] {
		parent = jsonpatch.Map(parent[key])
	}
	parent[keys[len(keys)-1]] = spec
}
