package raycluster

import (
	"testing"

	"github.com/google/go-cmp/cmp"
	"sigs.k8s.io/yaml"

	"github.com/raytls/raytls/internal/gencert"
	"github.com/raytls/raytls/internal/gencert/gencerttest"
	"github.com/raytls/raytls/internal/injection"
)

func TestScriptsSurviveSubstitution(t *testing.T) {
	configMap, err := scriptsConfigMap("ml")
	if err != nil {
		t.Fatal(err)
	}
	text, err := yaml.Marshal(configMap)
	if err != nil {
		t.Fatal(err)
	}
	for name, substitute := range gencerttest.Substitutions() {
		if diff := cmp.Diff(string(text), substitute(string(text))); diff != "" {
			t.Errorf("%s changes the manifest (-before +after):\n%s", name, diff)
		}
	}
	scripts, err := gencert.Scripts(injection.Revision)
	if err != nil {
		t.Fatal(err)
	}
	for file, want := range scripts {
		if string(configMap.BinaryData[file]) != want {
			t.Errorf("%s is not the script whose SHA-256 is in the templates", file)
		}
	}
}
