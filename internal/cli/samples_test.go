package cli

import (
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	rayv1 "github.com/ray-project/kuberay/ray-operator/apis/ray/v1"
	networkingv1 "k8s.io/api/networking/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/labels"
	"sigs.k8s.io/yaml"

	"github.com/raytls/raytls/api/v1alpha1"
)

const (
	samples = "../../config/samples"
	// sampleNamespace is where the samples are applied.
	sampleNamespace = "ray"
)

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
	if token := decode[rayv1.RayCluster](t, "closed/token.yaml"); token.Name != cluster.Name || token.Spec.AuthOptions == nil || token.Spec.AuthOptions.Mode != rayv1.AuthModeToken {
		t.Errorf("the patch does not give the sample's cluster a token: %+v", token)
	}
	_, notes := mustRun(t, "", "inject", "-f", filepath.Join(samples, "raycluster.yaml"))
	if strings.Contains(notes, "WARNING") {
		t.Errorf("TLS breaks a part of the sample:\n%s", notes)
	}
}

// TestSamples_networkPolicy asks the sample's NetworkPolicy who reaches what.
func TestSamples_networkPolicy(t *testing.T) {
	t.Parallel()
	sample := decode[rayv1.RayCluster](t, "raycluster.yaml").Name
	policy := decode[networkingv1.NetworkPolicy](t, "closed/networkpolicy.yaml")
	pod := labels.Set{"ray.io/cluster": sample, "ray.io/node-type": "head"}
	if !matches(t, &policy.Spec.PodSelector, pod) || !slices.Contains(policy.Spec.PolicyTypes, networkingv1.PolicyTypeIngress) {
		t.Fatal("the NetworkPolicy does not protect the sample's pods")
	}
	for name, c := range map[string]struct {
		reason    string
		namespace string
		pod       labels.Set
		reaches   []int32
	}{
		"own worker":      {"Ray's ports are random, and the cluster's pods need all of them", sampleNamespace, labels.Set{"ray.io/cluster": sample}, []int32{6379, 8265, 8000, 10001, 33333, 52365}},
		"another cluster": {"the job API of a neighbour runs code", sampleNamespace, labels.Set{"ray.io/cluster": "other"}, nil},
		"another pod":     {"nobody named it", sampleNamespace, labels.Set{"app": "notebook"}, nil},
		"KubeRay":         {"it asks for jobs, deploys Serve, and asks for Serve's health", "kuberay-system", labels.Set{"app.kubernetes.io/component": "kuberay-operator"}, []int32{8265, 8000}},
		"false KubeRay":   {"everybody may choose the labels of their own pods", "team", labels.Set{"app.kubernetes.io/component": "kuberay-operator"}, nil},
		"raytls":          {"it makes a handshake with the head", "raytls-system", labels.Set{"app.kubernetes.io/name": "raytls", "app.kubernetes.io/component": "controller"}, []int32{6379}},
		"webhook":         {"it dials nobody", "raytls-system", labels.Set{"app.kubernetes.io/name": "raytls", "app.kubernetes.io/component": "webhook"}, nil},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			var reached []int32
			for _, port := range []int32{6379, 8265, 8000, 10001, 33333, 52365} {
				if lets(t, policy, c.namespace, c.pod, port) {
					reached = append(reached, port)
				}
			}
			if diff := cmp.Diff(c.reaches, reached); diff != "" {
				t.Errorf("%s (-want +got):\n%s", c.reason, diff)
			}
		})
	}
}

// lets reports whether a rule of the policy lets a pod of a namespace reach a port of the sample's pods.
func lets(t *testing.T, policy *networkingv1.NetworkPolicy, from string, pod labels.Set, port int32) bool {
	t.Helper()
	return slices.ContainsFunc(policy.Spec.Ingress, func(rule networkingv1.NetworkPolicyIngressRule) bool {
		onPort := len(rule.Ports) == 0 || slices.ContainsFunc(rule.Ports, func(p networkingv1.NetworkPolicyPort) bool { return p.Port.IntVal == port })
		return onPort && slices.ContainsFunc(rule.From, func(peer networkingv1.NetworkPolicyPeer) bool {
			if peer.PodSelector == nil || peer.IPBlock != nil {
				t.Fatal("the rule names its peers in a way that this test does not know")
			}
			near := peer.NamespaceSelector == nil && from == sampleNamespace ||
				peer.NamespaceSelector != nil && matches(t, peer.NamespaceSelector, labels.Set{"kubernetes.io/metadata.name": from})
			return near && matches(t, peer.PodSelector, pod)
		})
	})
}

func matches(t *testing.T, selector *metav1.LabelSelector, set labels.Set) bool {
	t.Helper()
	s, err := metav1.LabelSelectorAsSelector(selector)
	if err != nil {
		t.Fatal(err)
	}
	return s.Matches(set)
}

// TestSamples_docs holds the pages against the files that they show.
func TestSamples_docs(t *testing.T) {
	t.Parallel()
	page, err := os.ReadFile("../../docs/tasks/close-http-ports.md")
	if err != nil {
		t.Fatal(err)
	}
	file, err := os.ReadFile(filepath.Join(samples, "closed/networkpolicy.yaml"))
	if err != nil {
		t.Fatal(err)
	}
	if want := fmt.Sprintf("```yaml\n%s```\n", file); !strings.Contains(string(page), want) {
		t.Errorf("docs/tasks/close-http-ports.md does not show the NetworkPolicy as it is:\n%s", want)
	}
}
