package injection

import (
	"bytes"
	"encoding/json"
	"errors"
	"io"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	kyaml "k8s.io/apimachinery/pkg/util/yaml"
	"sigs.k8s.io/yaml"

	"github.com/raytls/raytls/internal/jsonpatch"
)

// specOf finds the RayCluster spec in each kind that holds one.
func specOf(object map[string]any) map[string]any {
	spec := jsonpatch.Map(object["spec"])
	switch object["kind"] {
	case "RayCluster":
		return spec
	case "RayJob":
		return jsonpatch.Map(spec["rayClusterSpec"])
	case "RayService":
		return jsonpatch.Map(spec["rayClusterConfig"])
	case "RayCronJob":
		return jsonpatch.Map(jsonpatch.Map(spec["jobTemplate"])["rayClusterSpec"])
	}
	return nil
}

// kuberaySamples reads every cluster spec of KubeRay's samples, by file name and kind, as json.Number or as the plain
// decoder's float64.
func kuberaySamples(t testing.TB, useNumber bool) map[string]map[string]any {
	t.Helper()
	folder, err := exec.Command("go", "list", "-m", "-f", "{{.Dir}}", "github.com/ray-project/kuberay/ray-operator").Output()
	if err != nil {
		t.Fatal(err)
	}
	samples := map[string]map[string]any{}
	root := filepath.Join(strings.TrimSpace(string(folder)), "config", "samples")
	err = filepath.WalkDir(root, func(file string, entry fs.DirEntry, err error) error {
		if err != nil || entry.IsDir() || filepath.Ext(file) != ".yaml" {
			return err
		}
		text, err := os.ReadFile(file)
		if err != nil {
			return err
		}
		documents := kyaml.NewDocumentDecoder(io.NopCloser(bytes.NewReader(text)))
		defer documents.Close()
		buffer := make([]byte, len(text)+1)
		for {
			n, err := documents.Read(buffer)
			if errors.Is(err, io.EOF) {
				return nil
			}
			if err != nil {
				return err
			}
			asJSON, err := yaml.YAMLToJSON(buffer[:n])
			if err != nil {
				return err
			}
			decoder := json.NewDecoder(bytes.NewReader(asJSON))
			if useNumber {
				decoder.UseNumber()
			}
			var object any
			if err := decoder.Decode(&object); err != nil {
				return err
			}
			if spec := specOf(jsonpatch.Map(object)); spec != nil {
				name, _ := filepath.Rel(root, file)
				samples[name+" "+jsonpatch.String(jsonpatch.Map(object)["kind"])] = spec
			}
		}
	})
	if err != nil {
		t.Fatal(err)
	}
	return samples
}

func TestKubeRaySamples(t *testing.T) {
	refused := map[string]string{
		"ray-cluster.tls.yaml RayCluster": head + "containers[0].env[RAY_USE_TLS]",
	}
	for _, useNumber := range []bool{true, false} {
		samples := kuberaySamples(t, useNumber)
		if len(samples) < 60 {
			t.Fatalf("only %d samples found", len(samples))
		}
		for name, spec := range samples {
			t.Run(name, func(t *testing.T) {
				before := jsonpatch.CopyMap(spec)
				out, err := Apply(spec, options(Parameters{}), All())
				if field := refused[name]; field != "" {
					var got *ConflictError
					if !errors.As(err, &got) || got.Field != field {
						t.Fatalf("got %v, want a conflict at %s", err, field)
					}
					return
				}
				if err != nil {
					t.Fatal(err)
				}
				same(t, "Apply changed its input", before, spec)
				back, err := Remove(out, All())
				if err != nil {
					t.Fatal(err)
				}
				same(t, "apply then remove is not exact", before, back)
				for _, found := range Inspect(out, "sample") {
					if found.State != Injected {
						t.Errorf("%s is %s", found.Path, found.State)
					}
				}
				checkDiff(t, spec, out)
				checkDiff(t, out, spec)
			})
		}
		for name := range refused {
			if samples[name] == nil {
				t.Errorf("%s is gone: the test no longer shows a refusal", name)
			}
		}
	}
}
