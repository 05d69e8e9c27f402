package injection

import (
	"bytes"
	"encoding/json"
	"os"
	"path/filepath"
	"reflect"
	"testing"

	"sigs.k8s.io/yaml"
)

// FuzzArbitraryJSON feeds whatever parses as an object: nothing panics, inputs stay as they are, and where Apply accepts
// a spec, everything that it promises holds.
func FuzzArbitraryJSON(f *testing.F) {
	for _, name := range []string{"plain.yaml", "default.yaml", "parameters.yaml"} {
		text, err := os.ReadFile(filepath.Join("testdata", "revision1", name))
		if err != nil {
			f.Fatal(err)
		}
		seed, err := yaml.YAMLToJSON(text)
		if err != nil {
			f.Fatal(err)
		}
		f.Add(seed)
	}
	for _, seed := range []string{
		`{}`,
		`{"headGroupSpec":null,"workerGroupSpecs":null,"autoscalerOptions":null}`,
		`{"headGroupSpec":{"template":{"spec":{"containers":[{"name":"r"}]}}},"workerGroupSpecs":[null,1,{"template":null}]}`,
		`{"headGroupSpec":{"template":{"spec":{"containers":[{"name":"r","env":[null,1,{"name":3}]},null],"initContainers":[null],"volumes":[0]}}}}`,
		`{"enableInTreeAutoscaling":true,"autoscalerOptions":{"env":null,"volumeMounts":[]},"headGroupSpec":{"template":{"spec":{"containers":[{"name":"sidecar"}]}}}}`,
		`{"headGroupSpec":{"template":{"spec":{"containers":[{"name":"r","volumeMounts":[{"name":"raytls-certs"}]}],"initContainers":[{"name":"raytls-init","env":[{"name":"RAYTLS_INJECTION","value":"{\"revision\":1,\"was\":{\"volumes\":\"null\"}}"}]}]}}}}`,
	} {
		f.Add([]byte(seed))
	}
	f.Fuzz(func(t *testing.T, text []byte) {
		decoder := json.NewDecoder(bytes.NewReader(text))
		decoder.UseNumber()
		var spec map[string]any
		if decoder.Decode(&spec) != nil {
			return
		}
		before := copyMap(spec)
		lookup := func(string, string) ([]string, bool) { return []string{EnvUseTLS}, true }
		Inspect(spec, "sample")
		ForeignTLS(spec, lookup, "sidecar")
		EnvFromRefs(spec, "sidecar")
		Hash(spec, Parameters{})
		plain, err := Remove(spec, All())
		if err == nil && AnyPiece(plain) {
			t.Fatal("Remove leaves a piece of ours")
		}
		for _, p := range []Parameters{{}, {ScriptsPath: "/opt", AdditionalContainers: []string{"sidecar"}}} {
			out, err := Apply(spec, options(p), All())
			if err != nil {
				continue
			}
			back, err := Remove(out, All())
			if err != nil {
				t.Fatal(err)
			}
			same(t, "apply then remove is not exact", plain, back)
			again, err := Apply(out, options(p), All())
			if err != nil {
				t.Fatal(err)
			}
			same(t, "a second Apply changes something", out, again)
			for _, found := range Inspect(out, "sample") {
				if found.State != Injected {
					t.Fatalf("%s is %s after Apply", found.Path, found.State)
				}
			}
			checkDiff(t, spec, out)
			checkDiff(t, out, plain)
		}
		if !reflect.DeepEqual(before, spec) {
			t.Fatal("an input was changed")
		}
	})
}
