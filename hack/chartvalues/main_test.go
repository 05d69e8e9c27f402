package main

import (
	"encoding/json"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"go.yaml.in/yaml/v3"
)

func TestRead(t *testing.T) {
	for name, test := range map[string]struct {
		text string
		want []value
		err  string
	}{
		"groups and values": {
			text: "a:\n  # Says so,\n  # in two lines.\n  b: 1\n# A list.\nc: [x]\n# A whole object.\nd:\n  e: {f: true}\n",
			want: []value{{"a.b", "1", "Says so, in two lines."}, {"c", `["x"]`, "A list."}, {"d", `{"e":{"f":true}}`, "A whole object."}},
		},
		"the file's own comment": {
			text: "# Of the file.\n\n# Of a.\na: x\n",
			want: []value{{"a", `"x"`, "Of a."}},
		},
		"without a comment": {text: "a:\n  # Says so.\n  b: 1\n  c: 2\n", err: "a.c has no comment"},
		"no mapping":        {text: "[1]", err: "is no mapping"},
	} {
		t.Run(name, func(t *testing.T) {
			file := filepath.Join(t.TempDir(), "values.yaml")
			if err := os.WriteFile(file, []byte(test.text), 0o600); err != nil {
				t.Fatal(err)
			}
			got, err := read(file)
			if (err == nil) != (test.err == "") || err != nil && !strings.Contains(err.Error(), test.err) {
				t.Fatalf("error %v, want %q", err, test.err)
			}
			if diff := cmp.Diff(test.want, got); diff != "" {
				t.Errorf("values (-want +got):\n%s", diff)
			}
		})
	}
}

func TestTable(t *testing.T) {
	want := "| value | default | meaning |\n|---|---|---|\n| `a` | `\"x\\|y\"` | One \\| other. |\n"
	if diff := cmp.Diff(want, table([]value{{"a", `"x|y"`, "One | other."}})); diff != "" {
		t.Errorf("table (-want +got):\n%s", diff)
	}
}

// TestValuesAreThoseOfTheSchema finds a value that the schema refuses or does not check, and a name in the schema that has no value.
func TestValuesAreThoseOfTheSchema(t *testing.T) {
	values, err := read("../../charts/raytls/values.yaml")
	if err != nil {
		t.Fatal(err)
	}
	text, err := os.ReadFile("../../charts/raytls/values.schema.json")
	if err != nil {
		t.Fatal(err)
	}
	var root node
	if err := json.Unmarshal(text, &root); err != nil {
		t.Fatal(err)
	}
	want := map[string]bool{}
	for _, v := range values {
		want[v.Path] = true
	}
	got := map[string]bool{}
	// The table shows the rest of these as one value.
	wholes := []string{"podSecurityContext", "containerSecurityContext", "webhook.certManager.issuerRef", "metrics.podMonitor.tokenSecret"}
	root.leaves(t, "", wholes, got)
	delete(got, "global") // Helm's own
	if diff := cmp.Diff(slices.Sorted(maps.Keys(want)), slices.Sorted(maps.Keys(got))); diff != "" {
		t.Errorf("values (-values.yaml +values.schema.json):\n%s", diff)
	}
}

// node is a part of the chart's schema.
type node struct {
	Properties           map[string]*node `json:"properties"`
	AdditionalProperties any              `json:"additionalProperties"`
}

func (n *node) leaves(t *testing.T, path string, wholes []string, into map[string]bool) {
	if len(n.Properties) > 0 && n.AdditionalProperties != false {
		t.Errorf("the schema lets %q have other names, so it finds no misspelled one", path)
	}
	if len(n.Properties) == 0 || slices.Contains(wholes, path) {
		into[path] = true
		return
	}
	for name, property := range n.Properties {
		property.leaves(t, strings.TrimPrefix(path+"."+name, "."), wholes, into)
	}
}

// TestEveryValueIsTested finds a value that no suite of the chart sets.
func TestEveryValueIsTested(t *testing.T) {
	values, err := read("../../charts/raytls/values.yaml")
	if err != nil {
		t.Fatal(err)
	}
	suites, err := filepath.Glob("../../charts/raytls/tests/*_test.yaml")
	if err != nil || len(suites) == 0 {
		t.Fatalf("no suites: %v", err)
	}
	var set []string
	for _, suite := range suites {
		if filepath.Base(suite) == "schema_test.yaml" {
			continue // it sets what is refused
		}
		text, err := os.ReadFile(suite)
		if err != nil {
			t.Fatal(err)
		}
		var read struct {
			Tests []struct {
				Set map[string]any `yaml:"set"`
			} `yaml:"tests"`
		}
		if err := yaml.Unmarshal(text, &read); err != nil {
			t.Fatalf("%s: %v", suite, err)
		}
		for _, test := range read.Tests {
			set = append(set, paths("", test.Set)...)
		}
	}
	for _, v := range values {
		if !slices.ContainsFunc(set, func(path string) bool { return path == v.Path || strings.HasPrefix(path, v.Path+".") }) {
			t.Errorf("no test sets %s", v.Path)
		}
	}
}

// paths returns the paths of the leaves of values.
func paths(prefix string, values map[string]any) []string {
	var all []string
	for key, content := range values {
		if inner, ok := content.(map[string]any); ok && len(inner) > 0 {
			all = append(all, paths(prefix+key+".", inner)...)
			continue
		}
		all = append(all, prefix+key)
	}
	return all
}
