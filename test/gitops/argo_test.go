package gitops_test

import (
	"encoding/json"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/itchyny/gojq"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
)

// ignoring removes from an object what the page has Argo CD ignore in a RayCluster, by the library that Argo CD does it with. Lists that
// are empty then count as none, which the page says about.
func ignoring(t *testing.T, object *unstructured.Unstructured) any {
	t.Helper()
	entries, _ := at(documented(t, "Application", "spec", "ignoreDifferences")[0], "spec", "ignoreDifferences").([]any)
	if len(entries) != 1 {
		t.Fatalf("%s has %d entries in ignoreDifferences", page, len(entries))
	}
	expressions, _ := entries[0].(map[string]any)["jqPathExpressions"].([]any)
	if len(expressions) == 0 {
		t.Fatalf("%s ignores nothing", page)
	}
	value := specOf(t, object)
	for _, expression := range expressions {
		query, err := gojq.Parse("del(" + expression.(string) + ")")
		if err != nil {
			t.Fatalf("%s: %v", expression, err)
		}
		next, _ := query.Run(value).Next()
		if err, failed := next.(error); failed {
			t.Fatalf("%s: %v", expression, err)
		}
		value = next
	}
	return withoutEmptyLists(value)
}

// specOf is an object's spec alone, as JSON has it.
func specOf(t *testing.T, object *unstructured.Unstructured) (value any) {
	t.Helper()
	text, err := json.Marshal(map[string]any{"spec": object.Object["spec"]})
	if err != nil {
		t.Fatal(err)
	}
	if err := json.Unmarshal(text, &value); err != nil {
		t.Fatal(err)
	}
	return value
}

func withoutEmptyLists(value any) any {
	switch value := value.(type) {
	case map[string]any:
		out := map[string]any{}
		for key, field := range value {
			if list, ok := field.([]any); !ok || len(list) > 0 {
				out[key] = withoutEmptyLists(field)
			}
		}
		return out
	case []any:
		var out []any
		for _, entry := range value {
			out = append(out, withoutEmptyLists(entry))
		}
		return out
	}
	return value
}

// An Argo CD that compares on its own side sees nothing of the injection, and all that is not of it.
func TestArgoIgnoresTheInjectionAlone(t *testing.T) {
	t.Parallel()
	for name, file := range map[string]string{"tidy": "config/samples/raycluster.yaml", "awkward": "awkward.yaml"} {
		t.Run(name, func(t *testing.T) {
			w := newWorld(t)
			cluster := w.manifest(file)
			w.ray.away = true
			w.applies(cluster)
			plain := w.get(clusterKind, "sample")
			w.delete(clusterKind, "sample")
			w.applies(w.policy())
			w.admitted()
			w.applies(cluster)
			encrypted := w.get(clusterKind, "sample")
			w.complete("sample")
			if diff := cmp.Diff(ignoring(t, plain), ignoring(t, encrypted)); diff != "" {
				t.Errorf("Argo CD shows what raytls does (-plain +encrypted):\n%s", diff)
			}
			if diff := cmp.Diff(withoutEmptyLists(specOf(t, plain)), ignoring(t, plain)); diff != "" {
				t.Errorf("Argo CD ignores what is the user's (-stored +compared):\n%s", diff)
			}
		})
	}
}
