package migration

import (
	"fmt"
	"maps"
	"path"
	"slices"

	"github.com/raytls/raytls/internal/jsonpatch"
)

// stringList gives a list's strings, with an empty one for what is none, so that it is not overlooked.
func stringList(v any) []string {
	var list []string
	for _, item := range jsonpatch.List(v) {
		list = append(list, jsonpatch.String(item))
	}
	return list
}

// clean gives one spelling for each path, and leaves what is empty or no absolute path as it is.
func clean(p string) string {
	if !path.IsAbs(p) {
		return p
	}
	return path.Clean(p)
}

// filter drops elements of a list, and the list with its last element.
func filter(parent map[string]any, key string, drop func(any) bool) {
	list := jsonpatch.List(parent[key])
	if !slices.ContainsFunc(list, drop) {
		return
	}
	parent[key] = slices.DeleteFunc(slices.Clone(list), drop)
	if len(jsonpatch.List(parent[key])) == 0 {
		delete(parent, key)
	}
}

// walk calls visit for every object of a tree, with its path, in the order of keys.
func walk(at string, v any, visit func(at string, object map[string]any)) {
	switch typed := v.(type) {
	case map[string]any:
		visit(at, typed)
		for _, key := range sortedKeys(typed) {
			walk(join(at, key), typed[key], visit)
		}
	case []any:
		for i, item := range typed {
			walk(fmt.Sprintf("%s[%d]", at, i), item, visit)
		}
	}
}

func join(at, key string) string {
	if at == "" {
		return key
	}
	return at + "." + key
}

func sortedKeys(m map[string]any) []string { return slices.Sorted(maps.Keys(m)) }

func anyList(list []string) []any {
	out := make([]any, 0, len(list))
	for _, item := range list {
		out = append(out, item)
	}
	return out
}
