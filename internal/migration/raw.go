package migration

import (
	"fmt"
	"maps"
	"path"
	"slices"
)

func asMap(v any) map[string]any {
	m, _ := v.(map[string]any)
	return m
}

func asList(v any) []any {
	l, _ := v.([]any)
	return l
}

func asString(v any) string {
	s, _ := v.(string)
	return s
}

func nameOf(v any) string { return asString(asMap(v)["name"]) }

// stringList gives a list's strings, with an empty one for what is none, so that it is not overlooked.
func stringList(v any) []string {
	var list []string
	for _, item := range asList(v) {
		list = append(list, asString(item))
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
	list := asList(parent[key])
	if !slices.ContainsFunc(list, drop) {
		return
	}
	parent[key] = slices.DeleteFunc(slices.Clone(list), drop)
	if len(asList(parent[key])) == 0 {
		delete(parent, key)
	}
}

// copyValue copies maps and lists and shares leaves, which are immutable.
func copyValue(v any) any {
	switch typed := v.(type) {
	case map[string]any:
		copied := make(map[string]any, len(typed))
		for key, value := range typed {
			copied[key] = copyValue(value)
		}
		return copied
	case []any:
		copied := make([]any, len(typed))
		for i, item := range typed {
			copied[i] = copyValue(item)
		}
		return copied
	}
	return v
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
