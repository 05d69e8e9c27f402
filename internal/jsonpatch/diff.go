package jsonpatch

import (
	"encoding/json"
	"path"
	"slices"
	"strconv"
	"strings"

	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/util/sets"
)

// Operation is one operation of a JSON patch (RFC 6902).
type Operation struct {
	Op    string `json:"op"`
	Path  string `json:"path"`
	Value any    `json:"value"`
}

// Patch is the operations as a JSON patch of exactly that version of an object: of another one it is a conflict (409).
func Patch(operations []Operation, resourceVersion string) ([]byte, error) {
	version := Operation{Op: "replace", Path: "/metadata/resourceVersion", Value: resourceVersion}
	return json.Marshal(append(slices.Clone(operations), version))
}

// Diff gives the operations that turn {"spec": old} into {"spec": new}; none where they are equal. An operation replaces
// the whole template or option block that differs and nothing above it, so that lists inside a template are never edited
// by index, and other writers' fields (replicas) are not in the patch. Values are shared with new. A patch is only right
// for the object that old was read from: send it with that object's resourceVersion.
func Diff(old, new map[string]any) []Operation {
	switch {
	case old == nil && new == nil:
		return nil
	case new == nil:
		return []Operation{{Op: "replace", Path: "/spec"}}
	case old == nil:
		return []Operation{{Op: "replace", Path: "/spec", Value: new}}
	}
	return diff("/spec", old, new)
}

func diff(at string, left, right any) []Operation {
	if isDivided(at) {
		if old, new := Map(left), Map(right); old != nil && new != nil {
			return diffKeys(at, old, new)
		}
		if old, new := List(left), List(right); old != nil && new != nil && len(old) == len(new) {
			var operations []Operation
			for i := range old {
				operations = append(operations, diff(at+"/"+strconv.Itoa(i), old[i], new[i])...)
			}
			return operations
		}
	}
	if Equal(left, right) {
		return nil
	}
	return []Operation{{Op: "replace", Path: at, Value: right}}
}

// isDivided reports whether Diff compares the parts of the block at this path and not the block as a whole.
func isDivided(at string) bool {
	const groups = "/spec/workerGroupSpecs"
	return slices.Contains([]string{"/spec", "/spec/headGroupSpec", groups}, at) || path.Dir(at) == groups
}

func diffKeys(at string, old, new map[string]any) []Operation {
	var operations []Operation
	for _, key := range sets.List(sets.KeySet(old).Union(sets.KeySet(new))) {
		left, had := old[key]
		right, has := new[key]
		here := at + pointer(key)
		switch {
		case had && has:
			operations = append(operations, diff(here, left, right)...)
		case has:
			operations = append(operations, Operation{Op: "add", Path: here, Value: right})
		default:
			operations = append(operations, Operation{Op: "remove", Path: here})
		}
	}
	return operations
}

// pointer spells a path as RFC 6901 does.
func pointer(path ...string) string {
	escape := strings.NewReplacer("~", "~0", "/", "~1")
	at := ""
	for _, key := range path {
		at += "/" + escape.Replace(key)
	}
	return at
}

// Set gives the operation that puts a value at a path of an object. Parents that are missing or null are added.
func Set(object map[string]any, value any, path ...string) []Operation {
	for i := range path {
		if child, _, _ := unstructured.NestedFieldNoCopy(object, path[:i+1]...); child != nil {
			continue
		}
		for _, key := range slices.Backward(path[i+1:]) {
			value = map[string]any{key: value}
		}
		return []Operation{{Op: "add", Path: pointer(path[:i+1]...), Value: value}}
	}
	if there, _, _ := unstructured.NestedFieldNoCopy(object, path...); Equal(there, value) {
		return nil
	}
	return []Operation{{Op: "replace", Path: pointer(path...), Value: value}}
}

// Unset gives the operation that removes what is at a path of an object; none where nothing is.
func Unset(object map[string]any, path ...string) []Operation {
	if _, exists, _ := unstructured.NestedFieldNoCopy(object, path...); !exists {
		return nil
	}
	return []Operation{{Op: "remove", Path: pointer(path...)}}
}
