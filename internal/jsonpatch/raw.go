// Package jsonpatch compares and changes raw JSON: RFC 6902 operations, a diff by blocks, and accessors that read what is
// not as expected as nothing.
package jsonpatch

import "k8s.io/apimachinery/pkg/runtime"

// Map is an object's fields; nil for anything else.
func Map(v any) map[string]any {
	m, _ := v.(map[string]any)
	return m
}

// List is a list's elements; nil for anything else.
func List(v any) []any {
	l, _ := v.([]any)
	return l
}

// String is a string; empty for anything else.
func String(v any) string {
	s, _ := v.(string)
	return s
}

// Name is the field name of an object; empty for anything else.
func Name(v any) string { return String(Map(v)["name"]) }

// Copy copies objects and lists. A nil list stays nil.
func Copy(v any) any { return runtime.DeepCopyJSONValue(v) }

// CopyMap is Copy for an object. A nil one stays nil.
func CopyMap(m map[string]any) map[string]any { return runtime.DeepCopyJSON(m) }
