package jsonpatch

import (
	"encoding/json"
	"fmt"
	"maps"
	"slices"
	"strings"
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
	if old == nil || new == nil {
		if old == nil && new == nil {
			return nil
		}
		var value any
		if new != nil {
			value = new
		}
		return []Operation{{Op: "replace", Path: "/spec", Value: value}}
	}
	return diffKeys("/spec", old, new, func(key, at string, left, right any) []Operation {
		switch key {
		case "headGroupSpec":
			return diffGroup(at, left, right)
		case "workerGroupSpecs":
			return diffGroups(at, left, right)
		}
		return replace(at, left, right)
	})
}

func diffGroups(at string, left, right any) []Operation {
	old, new := List(left), List(right)
	if old == nil || new == nil || len(old) != len(new) {
		return replace(at, left, right)
	}
	var operations []Operation
	for i := range old {
		operations = append(operations, diffGroup(fmt.Sprintf("%s/%d", at, i), old[i], new[i])...)
	}
	return operations
}

func diffGroup(at string, left, right any) []Operation {
	old, new := Map(left), Map(right)
	if old == nil || new == nil {
		return replace(at, left, right)
	}
	return diffKeys(at, old, new, func(_, at string, left, right any) []Operation { return replace(at, left, right) })
}

// diffKeys adds and removes keys itself and leaves those that both maps have to both.
func diffKeys(at string, old, new map[string]any, both func(key, at string, left, right any) []Operation) []Operation {
	var operations []Operation
	keys := slices.Concat(slices.Collect(maps.Keys(old)), slices.Collect(maps.Keys(new)))
	slices.Sort(keys)
	for _, key := range slices.Compact(keys) {
		left, had := old[key]
		right, has := new[key]
		here := at + "/" + escape(key)
		switch {
		case had && has:
			operations = append(operations, both(key, here, left, right)...)
		case has:
			operations = append(operations, Operation{Op: "add", Path: here, Value: right})
		default:
			operations = append(operations, Operation{Op: "remove", Path: here})
		}
	}
	return operations
}

func replace(at string, left, right any) []Operation {
	if Equal(left, right) {
		return nil
	}
	return []Operation{{Op: "replace", Path: at, Value: right}}
}

// escape follows RFC 6901.
func escape(key string) string {
	return strings.NewReplacer("~", "~0", "/", "~1").Replace(key)
}

// Set gives the operation that puts a value at a path of an object. Parents that are missing or null are added.
func Set(object map[string]any, value any, path ...string) []Operation {
	at, parent := "", any(object)
	for i, key := range path {
		at += "/" + escape(key)
		child, exists := Map(parent)[key]
		if !exists || child == nil {
			return []Operation{{Op: "add", Path: at, Value: nest(path[i+1:], value)}}
		}
		parent = child
	}
	if Equal(parent, value) {
		return nil
	}
	return []Operation{{Op: "replace", Path: at, Value: value}}
}

// Unset gives the operation that removes what is at a path of an object; none where nothing is.
func Unset(object map[string]any, path ...string) []Operation {
	at, parent := "", any(object)
	for _, key := range path {
		at += "/" + escape(key)
		child, exists := Map(parent)[key]
		if !exists {
			return nil
		}
		parent = child
	}
	return []Operation{{Op: "remove", Path: at}}
}

// nest is the value under these keys.
func nest(path []string, value any) any {
	for i := len(path) - 1; i >= 0; i-- {
		value = map[string]any{path[i]: value}
	}
	return value
}
