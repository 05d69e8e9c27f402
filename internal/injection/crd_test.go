package injection

import (
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"k8s.io/apiextensions-apiserver/pkg/apis/apiextensions"
	apiextensionsv1 "k8s.io/apiextensions-apiserver/pkg/apis/apiextensions/v1"
	"k8s.io/apiextensions-apiserver/pkg/apiserver/schema"
	"k8s.io/apiextensions-apiserver/pkg/apiserver/schema/defaulting"
	"k8s.io/apiextensions-apiserver/pkg/apiserver/schema/listtype"
	"k8s.io/apiextensions-apiserver/pkg/apiserver/schema/pruning"
	"k8s.io/apiextensions-apiserver/pkg/apiserver/validation"
	"k8s.io/apimachinery/pkg/util/validation/field"
	"sigs.k8s.io/yaml"

	"github.com/raytls/raytls/internal/jsonpatch"
)

// rayClusterSchema is that of KubeRay's own CRD.
func rayClusterSchema(t testing.TB) (*schema.Structural, validation.SchemaValidator) {
	t.Helper()
	folder, err := exec.Command("go", "list", "-m", "-f", "{{.Dir}}", "github.com/ray-project/kuberay/ray-operator").Output()
	if err != nil {
		t.Fatal(err)
	}
	text, err := os.ReadFile(filepath.Join(strings.TrimSpace(string(folder)), "config", "crd", "bases", "ray.io_rayclusters.yaml"))
	if err != nil {
		t.Fatal(err)
	}
	var crd apiextensionsv1.CustomResourceDefinition
	if err := yaml.Unmarshal(text, &crd); err != nil {
		t.Fatal(err)
	}
	for _, version := range crd.Spec.Versions {
		if version.Name != "v1" {
			continue
		}
		var props apiextensions.JSONSchemaProps
		if err := apiextensionsv1.Convert_v1_JSONSchemaProps_To_apiextensions_JSONSchemaProps(version.Schema.OpenAPIV3Schema, &props, nil); err != nil {
			t.Fatal(err)
		}
		structural, err := schema.NewStructural(&props)
		if err != nil {
			t.Fatal(err)
		}
		validator, _, err := validation.NewSchemaValidator(&props)
		if err != nil {
			t.Fatal(err)
		}
		return structural, validator
	}
	t.Fatal("KubeRay's CRD has no v1")
	return nil, nil
}

// An API server prunes, defaults and validates what we write by KubeRay's schema. It must accept it and store our pieces
// unchanged, or every visit would find them altered and write again.
func TestTheStoredObjectIsWhatWasWritten(t *testing.T) {
	structural, validator := rayClusterSchema(t)
	specs := kuberaySamples(t, false)
	specs["with every parameter"] = mustApply(t, withUsers(plain(t)), everyParameter(), All())
	for name, spec := range specs {
		store := func(spec map[string]any) map[string]any {
			object := map[string]any{
				"apiVersion": "ray.io/v1", "kind": "RayCluster", "metadata": map[string]any{"name": "sample"}, "spec": jsonpatch.CopyMap(spec),
			}
			pruning.Prune(object, structural, true)
			defaulting.Default(object, structural)
			defaulting.PruneNonNullableNullsWithoutDefaults(object, structural)
			for _, invalid := range validation.ValidateCustomResource(field.NewPath(""), object, validator) {
				t.Errorf("%s: the schema refuses it: %v", name, invalid)
			}
			for _, invalid := range listtype.ValidateListSetsAndMaps(nil, structural, object) {
				t.Errorf("%s: a duplicate: %v", name, invalid)
			}
			return jsonpatch.Map(object["spec"])
		}
		parameters := Parameters{}
		if name == "with every parameter" {
			parameters = everyParameter()
		}
		stored := store(spec)
		out, err := Apply(stored, options(parameters), All())
		if err != nil {
			continue // TestKubeRaySamples says which
		}
		same(t, name+": the API server changes what was written", out, store(out))
	}
}
