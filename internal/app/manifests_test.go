package app

import (
	"bytes"
	"os"
	"path/filepath"
	"slices"
	"testing"

	"github.com/google/go-cmp/cmp"
	appsv1 "k8s.io/api/apps/v1"
	networkingv1 "k8s.io/api/networking/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/labels"
	"sigs.k8s.io/yaml"
)

// installed reads the objects of a kind from the installation.
func installed[T any](t *testing.T, kind string) []T {
	t.Helper()
	text, err := os.ReadFile(filepath.Join("..", "..", "dist", "install.yaml"))
	if err != nil {
		t.Fatal(err)
	}
	var out []T
	for document := range bytes.SplitSeq(text, []byte("\n---\n")) {
		var meta metav1.TypeMeta
		if err := yaml.Unmarshal(document, &meta); err != nil {
			t.Fatal(err)
		}
		if meta.Kind != kind {
			continue
		}
		var object T
		if err := yaml.UnmarshalStrict(document, &object); err != nil {
			t.Fatalf("a %s: %v", kind, err)
		}
		out = append(out, object)
	}
	return out
}

func selects(t *testing.T, selector metav1.LabelSelector, set labels.Set) bool {
	t.Helper()
	parsed, err := metav1.LabelSelectorAsSelector(&selector)
	if err != nil {
		t.Fatal(err)
	}
	return parsed.Matches(set)
}

// TestNetworkLetsServedPortsBeReached compares the policies with the ports of the Deployments: a port that is forgotten cuts off
// admission, probes or metrics where the network enforces policies.
func TestNetworkLetsServedPortsBeReached(t *testing.T) {
	ingress, deployments := installed[networkingv1.NetworkPolicy](t, "NetworkPolicy"), installed[appsv1.Deployment](t, "Deployment")
	if len(deployments) != 2 {
		t.Fatalf("got %d Deployments", len(deployments))
	}
	for _, deployment := range deployments {
		var serves, reached []int32
		for _, port := range deployment.Spec.Template.Spec.Containers[0].Ports {
			serves = append(serves, port.ContainerPort)
		}
		for _, policy := range ingress {
			if policy.Namespace != deployment.Namespace || !selects(t, policy.Spec.PodSelector, deployment.Spec.Template.Labels) {
				continue
			}
			for _, rule := range policy.Spec.Ingress {
				if len(rule.From) > 0 {
					t.Errorf("%s: API servers and kubelets are no pods, and are left out", policy.Name)
				}
				for _, port := range rule.Ports {
					reached = append(reached, port.Port.IntVal)
				}
			}
		}
		slices.Sort(serves)
		slices.Sort(reached)
		if diff := cmp.Diff(serves, reached); diff != "" {
			t.Errorf("ports of %s (-served +reached):\n%s", deployment.Name, diff)
		}
	}
}
