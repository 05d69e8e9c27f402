package cli

import (
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	rayv1 "github.com/ray-project/kuberay/ray-operator/apis/ray/v1"
	"sigs.k8s.io/yaml"

	"github.com/raytls/raytls/api/v1alpha1"
)

const samples = "../../config/samples"

// decode reads a file into an object and refuses fields that the object does not have.
func decode[T any](t *testing.T, file string) *T {
	t.Helper()
	text, err := os.ReadFile(filepath.Join(samples, file))
	if err != nil {
		t.Fatal(err)
	}
	into := new(T)
	if err := yaml.UnmarshalStrict(text, into); err != nil {
		t.Fatalf("%s: %v", file, err)
	}
	return into
}

func TestSamples(t *testing.T) {
	t.Parallel()
	cluster := decode[rayv1.RayCluster](t, "raycluster.yaml")
	images := map[string]string{"the head": cluster.Spec.HeadGroupSpec.Template.Spec.Containers[0].Image}
	for _, group := range cluster.Spec.WorkerGroupSpecs {
		images["worker group "+group.GroupName] = group.Template.Spec.Containers[0].Image
		if *group.MinReplicas != *group.Replicas {
			t.Errorf("worker group %s: the autoscaler removes idle workers, and who waits for the sample's pods waits for ever", group.GroupName)
		}
	}
	for name, image := range images {
		if want := "rayproject/ray:" + cluster.Spec.RayVersion; image != want {
			t.Errorf("%s runs %s, and KubeRay expects %s", name, image, want)
		}
	}
	policy := decode[v1alpha1.RayTLSPolicy](t, "raytls_v1alpha1_raytlspolicy.yaml")
	if diff := cmp.Diff(&v1alpha1.TargetReference{Kind: v1alpha1.TargetRayCluster, Name: cluster.Name}, policy.Spec.TargetRef); diff != "" {
		t.Errorf("the sample's policy covers the sample's cluster (-want +got):\n%s", diff)
	}
	_, notes := mustRun(t, "", "inject", "-f", filepath.Join(samples, "raycluster.yaml"))
	if strings.Contains(notes, "WARNING") {
		t.Errorf("TLS breaks a part of the sample:\n%s", notes)
	}
}
