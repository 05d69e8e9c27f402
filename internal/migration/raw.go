package migration

import (
	"fmt"
	"maps"
	"path"
	"slices"
	"strings"

	"github.com/raytls/raytls/internal/jsonpatch"
)

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
	kept := slices.DeleteFunc(slices.Clone(list), drop)
	switch len(kept) {
	case len(list):
	case 0:
		delete(parent, key)
	default:
		parent[key] = kept
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

func join(at, key string) string { return strings.TrimPrefix(at+"."+key, ".") }

func sortedKeys(m map[string]any) []string { return slices.Sorted(maps.Keys(m)) }
