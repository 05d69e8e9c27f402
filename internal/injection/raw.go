package injection

import (
	"encoding/json"
	"fmt"
	"math"
	"strconv"

	"github.com/raytls/raytls/internal/rawjson"
)

// Kind tells a head's template from a worker group's.
type Kind string

// The two kinds of template.
const (
	Head   Kind = "head"
	Worker Kind = "worker"
)

// template is a pod template found in a spec. pod is nil where the shape is not that of a template.
type template struct {
	kind  Kind
	group string
	path  string
	pod   map[string]any
	// options is the spec's autoscalerOptions, for the head alone.
	options map[string]any
}

func (t template) field(format string, args ...any) string {
	return t.path + ".spec." + fmt.Sprintf(format, args...)
}

// templatesOf lists what looks like a group, head first, and leaves complaints about the rest to checkShape.
func templatesOf(spec map[string]any) []template {
	var found []template
	if head := rawjson.Map(spec["headGroupSpec"]); head != nil {
		found = append(found, template{
			kind: Head, path: "spec.headGroupSpec.template",
			pod:     rawjson.Map(rawjson.Map(head["template"])["spec"]),
			options: rawjson.Map(spec["autoscalerOptions"]),
		})
	}
	for i, item := range rawjson.List(spec["workerGroupSpecs"]) {
		group := rawjson.Map(item)
		if group == nil {
			continue
		}
		found = append(found, template{
			kind: Worker, group: rawjson.String(group["groupName"]), path: fmt.Sprintf("spec.workerGroupSpecs[%d].template", i),
			pod: rawjson.Map(rawjson.Map(group["template"])["spec"]),
		})
	}
	return found
}

// Groups are the names of the spec's worker groups that carry the injection with its record, in their order.
func Groups(spec map[string]any) []string {
	var names []string
	for _, t := range templatesOf(spec) {
		if t.kind == Worker && t.group != "" && recordOf(t.pod) != nil {
			names = append(names, t.group)
		}
	}
	return names
}

// containerLists are the pod's fields that hold containers of a template; both are edited alike.
func containerLists() []string { return []string{"containers", "initContainers"} }

// equal compares two JSON trees; a number equals the same number of another Go type, because who decoded an object
// decides whether it holds int64, float64 or json.Number.
func equal(a, b any) bool {
	switch left := a.(type) {
	case map[string]any:
		right, ok := b.(map[string]any)
		if !ok || len(left) != len(right) {
			return false
		}
		for key, value := range left {
			other, ok := right[key]
			if !ok || !equal(value, other) {
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
			if !equal(left[i], right[i]) {
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

// canonicalValue copies a tree with one spelling for each number, for hashing.
func canonicalValue(v any) any {
	switch typed := v.(type) {
	case map[string]any:
		copied := make(map[string]any, len(typed))
		for key, value := range typed {
			copied[key] = canonicalValue(value)
		}
		return copied
	case []any:
		list := make([]any, len(typed))
		for i, item := range typed {
			list[i] = canonicalValue(item)
		}
		return list
	}
	if n, ok := number(v); ok {
		return n
	}
	return v
}
