package jsonpatch

import (
	"encoding/json"
	"maps"
	"math"
	"slices"
	"strconv"
)

// Equal reports whether two JSON trees are the same. A number equals the same number of another Go type: who decoded an
// object decides whether it holds int64, float64 or json.Number.
func Equal(a, b any) bool {
	switch left := a.(type) {
	case map[string]any:
		right, ok := b.(map[string]any)
		return ok && maps.EqualFunc(left, right, Equal)
	case []any:
		right, ok := b.([]any)
		return ok && slices.EqualFunc(left, right, Equal)
	}
	switch b.(type) {
	case map[string]any, []any:
		return false
	}
	return Canonical(a) == Canonical(b)
}

// Canonical copies a tree with one spelling for each number, for comparing and hashing.
func Canonical(v any) any {
	switch typed := v.(type) {
	case map[string]any:
		copied := make(map[string]any, len(typed))
		for key, value := range typed {
			copied[key] = Canonical(value)
		}
		return copied
	case []any:
		list := make([]any, len(typed))
		for i, item := range typed {
			list[i] = Canonical(item)
		}
		return list
	case int:
		return Canonical(int64(typed))
	case int32:
		return Canonical(int64(typed))
	case int64:
		return json.Number(strconv.FormatInt(typed, 10))
	case float64:
		if typed == math.Trunc(typed) && math.Abs(typed) < 1<<63 {
			return Canonical(int64(typed))
		}
		return json.Number(strconv.FormatFloat(typed, 'g', -1, 64))
	case json.Number: // stays as it is if it is too large for Go's numbers
		if whole, err := typed.Int64(); err == nil {
			return Canonical(whole)
		}
		if float, err := typed.Float64(); err == nil {
			return Canonical(float)
		}
	}
	return v
}
