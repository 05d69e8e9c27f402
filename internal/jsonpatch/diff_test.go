package jsonpatch

import (
	"encoding/json"
	"math"
	"testing"

	"github.com/google/go-cmp/cmp"
)

func TestDiff(t *testing.T) {
	object := func(text string) map[string]any {
		var m map[string]any
		if err := json.Unmarshal([]byte(text), &m); err != nil {
			t.Fatal(err)
		}
		return m
	}
	cases := map[string]struct {
		reason   string
		old, new string
		want     []Operation
	}{
		"equal": {"a needless write is a restart under upgradeStrategy Recreate", `{"a":[1,{"b":null}]}`, `{"a":[1.0,{"b":null}]}`, nil},
		"template": {
			"replicas, which the autoscaler writes, stay out of the patch",
			`{"workerGroupSpecs":[{"replicas":1,"template":{}},{"template":1}]}`, `{"workerGroupSpecs":[{"replicas":1,"template":{"x":1}},{"template":1}]}`,
			[]Operation{{"replace", "/spec/workerGroupSpecs/0/template", map[string]any{"x": 1.0}}},
		},
		"options come": {"an absent parent is added", `{}`, `{"autoscalerOptions":{}}`, []Operation{{"add", "/spec/autoscalerOptions", map[string]any{}}}},
		"options go":   {"what was absent is removed", `{"autoscalerOptions":{}}`, `{}`, []Operation{{"remove", "/spec/autoscalerOptions", nil}}},
		"null is a value": {
			"null and absent are different specs", `{"autoscalerOptions":{}}`, `{"autoscalerOptions":null}`, []Operation{{"replace", "/spec/autoscalerOptions", nil}},
		},
		"groups": {
			"groups that come or go are no longer the same by index",
			`{"workerGroupSpecs":[1]}`, `{"workerGroupSpecs":[]}`,
			[]Operation{{"replace", "/spec/workerGroupSpecs", []any{}}},
		},
		"null groups": {"null and no group are different specs", `{"workerGroupSpecs":[]}`, `{"workerGroupSpecs":null}`, []Operation{{"replace", "/spec/workerGroupSpecs", nil}}},
		"odd keys":    {"a pointer escapes ~ and /", `{"headGroupSpec":{"a/~b":1}}`, `{"headGroupSpec":{}}`, []Operation{{"remove", "/spec/headGroupSpec/a~1~0b", nil}}},
		"group shape": {"a group that is no object is replaced", `{"headGroupSpec":1}`, `{"headGroupSpec":{}}`, []Operation{{"replace", "/spec/headGroupSpec", map[string]any{}}}},
		"spec comes":  {"a null spec is replaced whole", `null`, `{"a":1}`, []Operation{{"replace", "/spec", map[string]any{"a": 1.0}}}},
		"spec goes":   {"a null spec is replaced whole", `{"a":1}`, `null`, []Operation{{"replace", "/spec", nil}}},
		"no spec":     {"null stays null", `null`, `null`, nil},
	}
	for name, tc := range cases {
		t.Run(name, func(t *testing.T) {
			old, new := object(tc.old), object(tc.new)
			if diff := cmp.Diff(tc.want, Diff(old, new)); diff != "" {
				t.Errorf("%s (-want +got):\n%s", tc.reason, diff)
			}
		})
	}
}

func TestEqualKnowsEveryKindOfNumber(t *testing.T) {
	cases := []struct {
		a, b any
		want bool
	}{
		{int64(292), float64(292), true},
		{int64(292), json.Number("292"), true},
		{292, int32(292), true},
		{json.Number("2.50"), 2.5, true},
		{json.Number("1e3"), int64(1000), true},
		{math.Copysign(0, -1), int64(0), true},
		{int64(1<<53 + 1), float64(1 << 53), false},
		{json.Number("1e999"), json.Number("1e999"), true},
		{json.Number("1e999"), json.Number("2e999"), false},
		{int64(1), "1", false},
		{int64(1), true, false},
		{nil, false, false},
		{nil, map[string]any{}, false},
		{nil, nil, true},
		{"", nil, false},
		{[]any{}, map[string]any{}, false},
		{[]any{int64(1)}, []any{}, false},
	}
	for _, tc := range cases {
		if Equal(tc.a, tc.b) != tc.want || Equal(tc.b, tc.a) != tc.want {
			t.Errorf("Equal(%v %[1]T, %v %[2]T) is not %t both ways", tc.a, tc.b, tc.want)
		}
	}
}
