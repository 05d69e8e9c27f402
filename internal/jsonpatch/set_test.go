package jsonpatch

import (
	"encoding/json"
	"testing"

	rfc6902 "github.com/evanphx/json-patch/v5"
	"github.com/google/go-cmp/cmp"
)

// applied is an object after operations on it, as the API server makes it.
func applied(t *testing.T, text string, operations []Operation) string {
	t.Helper()
	body, err := json.Marshal(operations)
	if err != nil {
		t.Fatal(err)
	}
	patch, err := rfc6902.DecodePatch(body)
	if err != nil {
		t.Fatal(err)
	}
	out, err := patch.Apply([]byte(text))
	if err != nil {
		t.Fatalf("%s does not apply: %v", body, err)
	}
	return string(out)
}

func decoded(t *testing.T, text string) map[string]any {
	t.Helper()
	var object map[string]any
	if err := json.Unmarshal([]byte(text), &object); err != nil {
		t.Fatal(err)
	}
	return object
}

func TestSet(t *testing.T) {
	for name, c := range map[string]struct {
		reason, object string
		want           []Operation
		after          string
	}{
		"there":            {"a needless write restarts pods", `{"a":{"b/c":"x"}}`, nil, `{"a":{"b/c":"x"}}`},
		"another value":    {"the value is replaced", `{"a":{"b/c":"y","d":1}}`, []Operation{{"replace", "/a/b~1c", "x"}}, `{"a":{"b/c":"x","d":1}}`},
		"missing":          {"it is added beside the others", `{"a":{"d":1}}`, []Operation{{"add", "/a/b~1c", "x"}}, `{"a":{"d":1,"b/c":"x"}}`},
		"missing parent":   {"and its parent with it", `{}`, []Operation{{"add", "/a", map[string]any{"b/c": "x"}}}, `{"a":{"b/c":"x"}}`},
		"null parent":      {"null is what a user may write for nothing", `{"a":null}`, []Operation{{"add", "/a", map[string]any{"b/c": "x"}}}, `{"a":{"b/c":"x"}}`},
		"null for a value": {"or for a value", `{"a":{"b/c":null}}`, []Operation{{"add", "/a/b~1c", "x"}}, `{"a":{"b/c":"x"}}`},
	} {
		t.Run(name, func(t *testing.T) {
			got := Set(decoded(t, c.object), "x", "a", "b/c")
			if diff := cmp.Diff(c.want, got); diff != "" {
				t.Errorf("%s (-want +got):\n%s", c.reason, diff)
			}
			if len(got) == 0 {
				return
			}
			if diff := cmp.Diff(decoded(t, c.after), decoded(t, applied(t, c.object, got))); diff != "" {
				t.Errorf("%s: applied (-want +got):\n%s", c.reason, diff)
			}
		})
	}
}

func TestUnset(t *testing.T) {
	for name, c := range map[string]struct {
		reason, object string
		want           []Operation
		after          string
	}{
		"there":       {"it goes, and its neighbours stay", `{"a":{"b/c":"x","d":1}}`, []Operation{{Op: "remove", Path: "/a/b~1c"}}, `{"a":{"d":1}}`},
		"the last":    {"its parent stays", `{"a":{"b/c":"x"}}`, []Operation{{Op: "remove", Path: "/a/b~1c"}}, `{"a":{}}`},
		"null":        {"a key with null is there", `{"a":{"b/c":null}}`, []Operation{{Op: "remove", Path: "/a/b~1c"}}, `{"a":{}}`},
		"missing":     {"nothing is there", `{"a":{"d":1}}`, nil, ""},
		"no parent":   {"nothing is there", `{}`, nil, ""},
		"null parent": {"nothing is there", `{"a":null}`, nil, ""},
		"no object":   {"nothing is there", `{"a":"b/c"}`, nil, ""},
	} {
		t.Run(name, func(t *testing.T) {
			got := Unset(decoded(t, c.object), "a", "b/c")
			if diff := cmp.Diff(c.want, got); diff != "" {
				t.Errorf("%s (-want +got):\n%s", c.reason, diff)
			}
			if len(got) == 0 {
				return
			}
			if diff := cmp.Diff(decoded(t, c.after), decoded(t, applied(t, c.object, got))); diff != "" {
				t.Errorf("%s: applied (-want +got):\n%s", c.reason, diff)
			}
		})
	}
}

// A patch is of one version of an object: a list that others wrote to meanwhile is not edited by index.
func TestPatchNamesTheVersion(t *testing.T) {
	operations := make([]Operation, 1, 2)
	operations[0] = Operation{Op: "remove", Path: "/a"}
	body, err := Patch(operations, "7")
	if err != nil {
		t.Fatal(err)
	}
	const want = `[{"op":"remove","path":"/a","value":null},{"op":"replace","path":"/metadata/resourceVersion","value":"7"}]`
	if string(body) != want {
		t.Errorf("got %s", body)
	}
	if operations = operations[:2]; operations[1].Op != "" {
		t.Error("the caller's list is written to")
	}
}
