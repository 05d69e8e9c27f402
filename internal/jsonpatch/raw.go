// Package jsonpatch compares and changes raw JSON: RFC 6902 operations, a diff by blocks, and accessors that read what is
// not as expected as nothing.
package jsonpatch

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

// Copy copies objects and lists and shares leaves, which are immutable. A nil list stays nil.
func Copy(v any) any {
	switch typed := v.(type) {
	case map[string]any:
		return CopyMap(typed)
	case []any:
		if typed == nil {
			return typed
		}
		list := make([]any, len(typed))
		for i, item := range typed {
			list[i] = Copy(item)
		}
		return list
	}
	return v
}

// CopyMap is Copy for an object. A nil one stays nil.
func CopyMap(m map[string]any) map[string]any {
	if m == nil {
		return nil
	}
	copied := make(map[string]any, len(m))
	for key, value := range m {
		copied[key] = Copy(value)
	}
	return copied
}
