package jsonpatch

import (
	"encoding/json"
	"math"
	"strconv"
)

// Equal reports whether two JSON trees are the same. It compares two JSON trees; a number equals the same number of another Go type, because who decoded an object
// decides whether it holds int64, float64 or json.Number.
func Equal(a, b any) bool {
	switch left := a.(type) {
	case map[string]any:
		right, ok := b.(map[string]any)
		if !ok || len(left) != len(right) {
			return false
		}
		for key, value := range left {
			other, ok := right[key]
			if !ok || !Equal(value, other) {
				return false
			}
		}
		return true
	case []any:
		right, ok := b.([]any)
		if !ok || len(left) != len(right) {
			return false
		}
		for i := range left {
			if !Equal(left[i], right[i]) {
				return false
			}
		}
		return true
	}
	if left, ok := number(a); ok {
		right, ok := number(b)
		return ok && left == right
	}
	switch left := a.(type) {
	case nil:
		return b == nil
	case string:
		right, ok := b.(string)
		return ok && left == right
	case bool:
		right, ok := b.(bool)
		return ok && left == right
	case json.Number: // too large for any of Go's numbers
		right, ok := b.(json.Number)
		return ok && left == right
	}
	return false
}

// number gives one spelling for each number.
func number(v any) (json.Number, bool) {
	switch typed := v.(type) {
	case int64:
		return json.Number(strconv.FormatInt(typed, 10)), true
	case int:
		return json.Number(strconv.Itoa(typed)), true
	case int32:
		return json.Number(strconv.FormatInt(int64(typed), 10)), true
	case float64:
		return floatNumber(typed)
	case json.Number:
		if whole, err := strconv.ParseInt(typed.String(), 10, 64); err == nil {
			return json.Number(strconv.FormatInt(whole, 10)), true
		}
		if float, err := strconv.ParseFloat(typed.String(), 64); err == nil {
			return floatNumber(float)
		}
	}
	return "", false
}

func floatNumber(f float64) (json.Number, bool) {
	if math.IsNaN(f) || math.IsInf(f, 0) {
		return "", false
	}
	if f == math.Trunc(f) && math.Abs(f) < 1<<63 {
		return json.Number(strconv.FormatInt(int64(f), 10)), true
	}
	return json.Number(strconv.FormatFloat(f, 'g', -1, 64)), true
}

// Canonical copies a tree with one spelling for each number, for hashing.
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
	}
	if n, ok := number(v); ok {
		return n
	}
	return v
}
