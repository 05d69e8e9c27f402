package suite_test

import (
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"

	. "github.com/onsi/ginkgo/v2"
	. "github.com/onsi/gomega"
	rayv1 "github.com/ray-project/kuberay/ray-operator/apis/ray/v1"
	apiextensionsv1 "k8s.io/apiextensions-apiserver/pkg/apis/apiextensions/v1"
	apimeta "k8s.io/apimachinery/pkg/api/meta"
)

// envKubeRay is the version of KubeRay whose CRDs the API server has, of those that hack/kuberay/versions pins. Without it,
// it is go.mod's, the newest.
const envKubeRay = "RAYTLS_KUBERAY"

// onEveryKubeRay labels the specs that hold on every version of KubeRay, and are run on each: what the operator promises
// does not lean on fields that came later. hack/specs knows the label.
var onEveryKubeRay = Label("crds")

var _ = Describe("KubeRay's version", func() {
	It("is the one that the suite is run for, and the operator works without the kinds that it lacks", onEveryKubeRay, func() {
		_, err := env.admin.RESTMapper().RESTMapping(rayv1.GroupVersion.WithKind("RayCronJob").GroupKind())
		Expect(apimeta.IsNoMatchError(err)).To(Equal(!newestKubeRay()), "RayCronJob came with the newest: %v", err)
		for _, kind := range []string{"RayCluster", "RayJob", "RayService"} {
			_, err := env.admin.RESTMapper().RESTMapping(rayv1.GroupVersion.WithKind(kind).GroupKind())
			Expect(err).NotTo(HaveOccurred())
		}
		Expect(env.knows("spec", "upgradeStrategy")).To(Equal(newestKubeRay()), "so did this field")
		Expect(operator.works()).To(BeTrue())
	})
})

func newestKubeRay() bool { return os.Getenv(envKubeRay) == "" }

// suiteName tells the runs of the suite apart.
func suiteName() string {
	if newestKubeRay() {
		return "Controllers"
	}
	return "Controllers on KubeRay " + os.Getenv(envKubeRay)
}

func rayCRDFolder() (string, error) {
	command := exec.Command(filepath.Join("..", "..", "..", "hack", "kuberay", "crds"), os.Getenv(envKubeRay))
	inModule := ""
	if newestKubeRay() {
		command = exec.Command("go", "list", "-m", "-f", "{{.Dir}}", "github.com/ray-project/kuberay/ray-operator")
		inModule = filepath.Join("config", "crd", "bases")
	}
	command.Stderr = os.Stderr
	out, err := command.Output()
	if err != nil {
		return "", fmt.Errorf("finding KubeRay's CRDs: %w", err)
	}
	return filepath.Join(strings.TrimSpace(string(out)), inModule), nil
}

// needs skips a spec where a RayCluster has no such field, given by its path, since this version of KubeRay is too old.
func needs(path ...string) {
	GinkgoHelper()
	if !env.knows(path...) {
		Skip(fmt.Sprintf("KubeRay %s has no %s", os.Getenv(envKubeRay), strings.Join(path, ".")))
	}
}

// needsUnknownFields skips a spec where the API server would take away what KubeRay's CRD does not know.
func needsUnknownFields() {
	GinkgoHelper()
	if !newestKubeRay() {
		Skip("KubeRay " + os.Getenv(envKubeRay) + "'s CRD keeps no field that it does not know")
	}
}

// knows says whether a RayCluster has that field.
func (e *environment) knows(path ...string) bool {
	for _, crd := range e.rays {
		if crd.Spec.Names.Kind != "RayCluster" {
			continue
		}
		for i := range crd.Spec.Versions {
			if v := &crd.Spec.Versions[i]; v.Name == "v1" {
				return hasProperty(v.Schema.OpenAPIV3Schema, path)
			}
		}
	}
	return false
}

func hasProperty(schema *apiextensionsv1.JSONSchemaProps, path []string) bool {
	for _, name := range path {
		property, found := schema.Properties[name]
		if !found {
			return false
		}
		schema = &property
	}
	return true
}
