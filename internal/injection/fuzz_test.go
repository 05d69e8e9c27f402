package injection

import (
	"bytes"
	"encoding/json"
	"maps"
	"os"
	"path/filepath"
	"reflect"
	"slices"
	"testing"
	"time"

	"pgregory.net/rapid"
	"sigs.k8s.io/yaml"

	"github.com/raytls/raytls/internal/jsonpatch"
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
		`{"headGroupSpec":{"template":{"spec":{"containers":[{"name":"r","resources":{"limits":{"cpu":"1e-9999999","memory":1e-9999999}}}],"initContainers":[{"name":"raytls-init","env":[{"name":"RAYTLS_INJECTION","value":"{\"revision\":1,\"parameters\":{\"resources\":{\"requests\":{\"cpu\":\"1e-9999999\"}}}}"}]}]}}}}`,
		`{"headGroupSpec":{"template":{"spec":{"containers":[{"name":"r","volumeMounts":[{"name":"raytls-certs"}]}],"initContainers":[{"name":"raytls-init","env":[{"name":"RAYTLS_INJECTION","value":"{\"revision\":1,\"was\":{\"volumes\":\"null\"}}"}]}]}}}}`,
	} {
		f.Add([]byte(seed))
	}
	f.Fuzz(func(t *testing.T, text []byte) {
		defer time.AfterFunc(time.Minute, func() { panic("one input takes longer than a minute") }).Stop()
		decoder := json.NewDecoder(bytes.NewReader(text))
		decoder.UseNumber()
		var spec map[string]any
		if decoder.Decode(&spec) != nil {
			return
		}
		checkPromises(t, spec)
	})
}

// checkPromises calls everything with a spec of any shape.
func checkPromises(t rapid.TB, spec map[string]any) {
	t.Helper()
	before := jsonpatch.CopyMap(spec)
	lookup := func(string, string) ([]string, bool) { return []string{EnvUseTLS}, true }
	Inspect(spec, "sample")
	ForeignTLS(spec, lookup, "sidecar-0")
	EnvFromRefs(spec, "sidecar-0")
	Hash(spec, Parameters{})
	plain, err := Remove(spec, All())
	if err == nil && AnyPiece(plain) {
		t.Fatalf("Remove leaves a piece of ours: %s", canonicalJSON(plain))
	}
	for _, p := range []Parameters{{}, {ScriptsPath: "/opt", AdditionalContainers: []string{"sidecar-0"}}} {
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
}

// A fuzzer's bytes seldom stay JSON, so this damages specs, injected or not, as trees.
func TestPromisesHoldForDamagedSpecs(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		spec := genSpec().Draw(t, "spec")
		if rapid.Bool().Draw(t, "injected") {
			spec, _ = applied(t, spec, genScope().Draw(t, "scope"))
			spec = jsonpatch.CopyMap(spec)
		}
		for range rapid.IntRange(1, 4).Draw(t, "injuries") {
			damage(t, spec)
		}
		checkPromises(t, spec)
	})
}

// damage walks to a random place and deletes, replaces, repeats or moves what is there.
func damage(t *rapid.T, spec map[string]any) {
	var at any = spec
	for range rapid.IntRange(0, 8).Draw(t, "depth") {
		var next any
		switch typed := at.(type) {
		case map[string]any:
			if len(typed) > 0 {
				next = typed[rapid.SampledFrom(slices.Sorted(maps.Keys(typed))).Draw(t, "key")]
			}
		case []any:
			if len(typed) > 0 {
				next = rapid.SampledFrom(typed).Draw(t, "item")
			}
		}
		if len(jsonpatch.Map(next)) == 0 && len(jsonpatch.List(next)) == 0 {
			break
		}
		at = next
	}
	value := rapid.OneOf(genValue(2), rapid.SampledFrom([]any{
		InitContainerName, CertsVolume, IssuerVolume, "sidecar-0", "ray", EnvUseTLS, EnvInjection, MountPath, `{"revision":1}`, `{"revision":9}`,
		rayMount(), rayEnv()[0], rayEnv(),
		[]any{rayMount()},
		[]any{map[string]any{"name": "ray"}},
	})).Draw(t, "value")
	switch typed := at.(type) {
	case map[string]any:
		if len(typed) == 0 {
			return
		}
		key := rapid.SampledFrom(slices.Sorted(maps.Keys(typed))).Draw(t, "key")
		if rapid.Bool().Draw(t, "delete") {
			delete(typed, key)
			return
		}
		typed[key] = jsonpatch.Copy(value)
	case []any:
		if len(typed) == 0 {
			return
		}
		i, j := rapid.IntRange(0, len(typed)-1).Draw(t, "i"), rapid.IntRange(0, len(typed)-1).Draw(t, "j")
		switch rapid.IntRange(0, 2).Draw(t, "how") {
		case 0:
			typed[i] = jsonpatch.Copy(value)
		case 1:
			typed[i] = jsonpatch.Copy(typed[j])
		default:
			typed[i], typed[j] = typed[j], typed[i]
		}
	}
}
