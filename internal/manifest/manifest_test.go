package manifest

import (
	"bytes"
	"encoding/json"
	"testing"

	"github.com/google/go-cmp/cmp"
)

// values are what YAML could take for something else.
func values() map[string]any {
	texts := []any{}
	for _, text := range []string{
		"", " ", " lead", "trail ", "0777", "0o777", "0x1F", "1_000", "1e3", "1.", ".5", "+1", "12:30:45", "2001-01-01", "yes", "No", "on", "y",
		"true", "null", "~", "=", "<<", "a: b", "- x", "? x", "#c", "a #c", "!!x", "&x", "*x", "@x", "%x", "`x", "{", "[", "\t", "\u0085", "a\u0085b", "\u2028", "\u2029", "\ufeff", "a\ufeff", "\u00a0", "\x7f", "\u009f",
		"multi\nline\n", "\n\nx", "x\n\n", "é", "---", "...", "--- x", "line\n---\nline", "\\", `"`, "'", "\x01", "😀",
	} {
		texts = append(texts, text)
	}
	return map[string]any{
		"texts": texts, "null": nil, "yes": true, "empty": map[string]any{}, "none": []any{}, "1": json.Number("1"), "~": json.Number("-0.5"),
		"large": json.Number("9223372036854775807"), "more": json.Number("18446744073709551615"), "deep": []any{[]any{map[string]any{"a b": nil}}},
	}
}

func TestWrite_isReadBack(t *testing.T) {
	t.Parallel()
	object := func(name string) map[string]any {
		return map[string]any{"apiVersion": "v1", "kind": "ConfigMap", "metadata": map[string]any{"name": name}, "data": values()}
	}
	list := map[string]any{"apiVersion": "v1", "kind": "List", "metadata": map[string]any{}, "items": []any{object("a"), object("b")}}
	want := []map[string]any{object("c"), list, object("d")}
	asJSON := func() (stream []byte) {
		for _, tree := range want {
			text, err := json.Marshal(tree)
			if err != nil {
				t.Fatal(err)
			}
			stream = append(append(stream, text...), '\n')
		}
		return stream
	}()
	text := asJSON
	for _, form := range []string{"JSON", "YAML", "YAML again"} {
		documents, err := Read(form, text)
		if err != nil {
			t.Fatalf("%s: %v", form, err)
		}
		var got []map[string]any
		for _, d := range documents {
			got = append(got, d.tree())
		}
		if diff := cmp.Diff(want, got); diff != "" {
			t.Fatalf("%s (-want +got):\n%s", form, diff)
		}
		var out bytes.Buffer
		if err := Write(&out, documents); err != nil {
			t.Fatal(err)
		}
		if form == "YAML again" && !bytes.Equal(text, out.Bytes()) {
			t.Error("the output is not stable")
		}
		text = out.Bytes()
	}
}

func TestRead_documents(t *testing.T) {
	t.Parallel()
	const object = "apiVersion: v1\nkind: A\n"
	for name, c := range map[string]struct {
		reason, text string
		want         []string
	}{
		"separators":      {"empty documents do not count as objects, but as documents", "---\n---\n# c\n---\n" + object + "---\n" + object + "---\n", []string{"document 3 of f", "document 4 of f"}},
		"comment on ---":  {"kustomize writes such", object + "--- # next\n" + object, []string{"document 1 of f", "document 2 of f"}},
		"CRLF":            {"from Windows", "apiVersion: v1\r\nkind: A\r\n---\r\napiVersion: v1\r\nkind: A\r\n", []string{"document 1 of f", "document 2 of f"}},
		"flow mapping":    {"YAML that starts like JSON", "{apiVersion: v1, kind: A}\n---\n" + object, []string{"document 1 of f", "document 2 of f"}},
		"JSON, separated": {"JSON is YAML", "{\"apiVersion\":\"v1\",\"kind\":\"A\"}\n---\n{\"apiVersion\":\"v1\",\"kind\":\"A\"}", []string{"document 1 of f", "document 2 of f"}},
		"List of none":    {"nothing to do", "apiVersion: v1\nkind: List\nitems: []\n", nil},
		"items elsewhere": {"a kind of somebody's with such a field is no List", "apiVersion: v1\nkind: Basket\nitems: [1]\n", []string{"document 1 of f"}},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			documents, err := Read("f", []byte(c.text))
			if err != nil {
				t.Fatal(err)
			}
			var got []string
			for _, o := range Objects(documents) {
				got = append(got, o.Where)
			}
			if diff := cmp.Diff(c.want, got); diff != "" {
				t.Errorf("%s (-want +got):\n%s", c.reason, diff)
			}
		})
	}
}

func TestObject_clusterSpec(t *testing.T) {
	t.Parallel()
	for name, c := range map[string]struct{ reason, text, path string }{
		"RayCluster": {"it is one", "apiVersion: ray.io/v1\nkind: RayCluster\nspec: {a: 1}", "spec"},
		"RayJob":     {"it holds one", "apiVersion: ray.io/v1\nkind: RayJob\nspec: {rayClusterSpec: {a: 1}}", "spec.rayClusterSpec"},
		"RayService": {"under another name", "apiVersion: ray.io/v1alpha1\nkind: RayService\nspec: {rayClusterConfig: {a: 1}}", "spec.rayClusterConfig"},
		"RayCronJob": {"deeper", "apiVersion: ray.io/v1\nkind: RayCronJob\nspec: {jobTemplate: {rayClusterSpec: {a: 1}}}", "spec.jobTemplate.rayClusterSpec"},
		"a namesake": {"of another group", "apiVersion: example.com/v1\nkind: RayCluster\nspec: {a: 1}", ""},
		"a Pod":      {"has none", "apiVersion: v1\nkind: Pod\nspec: {a: 1}", ""},
		"no cluster": {"the job runs on an existing one", "apiVersion: ray.io/v1\nkind: RayJob\nspec: {clusterSelector: {a: b}}", ""},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			documents, err := Read("f", []byte(c.text))
			if err != nil {
				t.Fatal(err)
			}
			o := Objects(documents)[0]
			spec, path := o.ClusterSpec()
			if c.path == "" {
				if spec != nil {
					t.Errorf("%s: got %v", c.reason, spec)
				}
				return
			}
			if diff := cmp.Diff(map[string]any{"a": json.Number("1")}, spec); diff != "" || path != c.path {
				t.Errorf("%s: got %v at %s", c.reason, spec, path)
			}
			o.SetClusterSpec(map[string]any{"b": nil})
			if spec, _ := o.ClusterSpec(); len(spec) != 1 || spec["a"] != nil {
				t.Errorf("it is not replaced: %v", o.Object)
			}
		})
	}
}
