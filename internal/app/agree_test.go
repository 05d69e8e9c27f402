package app

import (
	"bytes"
	"encoding/json"
	"strings"
	"testing"
	"time"

	rfc6902 "github.com/evanphx/json-patch/v5"
	admissionv1 "k8s.io/api/admission/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"
	"sigs.k8s.io/controller-runtime/pkg/client/fake"
	"sigs.k8s.io/controller-runtime/pkg/webhook/admission"
	"sigs.k8s.io/yaml"

	"github.com/raytls/raytls/api/v1alpha1"
	"github.com/raytls/raytls/internal/cli"
	"github.com/raytls/raytls/internal/injection"
	"github.com/raytls/raytls/internal/jsonpatch"
	"github.com/raytls/raytls/internal/webhook"
)

const plainCluster = `apiVersion: ray.io/v1
kind: RayCluster
metadata: {name: train, namespace: ml}
spec:
  headGroupSpec: {rayStartParams: {}, template: {spec: {containers: [{name: ray-head, image: ray}]}}}
`

// TestToolAndWebhookAgree gives both the same policy and the same RayCluster: what one injects, the other injects alike, and
// what one leaves alone, the other does.
func TestToolAndWebhookAgree(t *testing.T) {
	for name, c := range map[string]struct {
		reason   string
		cluster  string
		policy   v1alpha1.RayTLSPolicySpec
		injected bool
		// warning and note are what webhook and tool say; refused whether the tool prints nothing.
		warning, note string
		refused       bool
	}{
		"covered": {
			reason: "it is born with TLS", cluster: plainCluster, injected: true, note: "injected with the parameters of RayTLSPolicy default",
		},
		"with parameters": {
			reason: "the policy's choices reach the templates", cluster: plainCluster, injected: true, note: "injected with",
			policy: v1alpha1.RayTLSPolicySpec{Issuance: v1alpha1.Issuance{InitContainer: v1alpha1.InitContainer{ScriptsPath: "/opt/raytls"}}, AdditionalContainers: []string{"ray-head"}},
		},
		"paused": {
			reason: "nothing is written on behalf of a paused policy", cluster: plainCluster, policy: v1alpha1.RayTLSPolicySpec{Paused: true},
			warning: "spec.paused of the policy", note: "printed unchanged; spec.paused of the policy",
		},
		"managed elsewhere": {
			reason: "another controller runs it", cluster: plainCluster + "  managedBy: kueue.x-k8s.io/multikueue\n",
			note: "printed unchanged; spec.managedBy hands the RayCluster to kueue.x-k8s.io/multikueue",
		},
		"managed by KubeRay": {
			reason: "that is the default in other words", cluster: plainCluster + "  managedBy: ray.io/kuberay-operator\n", injected: true, note: "injected with",
		},
		"excluded": {
			reason: "its label says so", cluster: strings.Replace(plainCluster, "namespace: ml", `namespace: ml, labels: {raytls.io/exclude: "true"}`, 1),
			note: "printed unchanged; its label raytls.io/exclude takes it out",
		},
		"excluded, misspelt": {
			reason: "one value excludes, and both say so", cluster: strings.Replace(plainCluster, "namespace: ml", `namespace: ml, labels: {raytls.io/exclude: "yes"}`, 1),
			injected: true, warning: `is "yes", which excludes nothing`, note: `is "yes", which excludes nothing`,
		},
		"another selector": {
			reason: "no policy covers it; the tool takes defaults, since the policy may be elsewhere", cluster: plainCluster,
			policy: v1alpha1.RayTLSPolicySpec{Selector: &metav1.LabelSelector{MatchLabels: map[string]string{"a": "b"}}}, note: "no RayTLSPolicy in the input covers it",
		},
		"TLS of its own": {
			reason: "it is left alone, and the reason is the same", cluster: strings.Replace(plainCluster, "image: ray", "image: ray, env: [{name: RAY_USE_TLS, value: '1'}]", 1),
			warning: "env[RAY_USE_TLS] is set by somebody else", note: "env[RAY_USE_TLS] is set by somebody else", refused: true,
		},
		"a container that is not there": {
			reason: "the conflict is the same", cluster: plainCluster, policy: v1alpha1.RayTLSPolicySpec{AdditionalContainers: []string{"no"}},
			warning: `no template has a container named "no"`, note: `no template has a container named "no"`, refused: true,
		},
	} {
		t.Run(name, func(t *testing.T) {
			spec := c.policy
			if spec.Selector == nil {
				spec.Selector = &metav1.LabelSelector{}
			}
			policy := &v1alpha1.RayTLSPolicy{
				TypeMeta:   metav1.TypeMeta{APIVersion: v1alpha1.GroupVersion.String(), Kind: "RayTLSPolicy"},
				ObjectMeta: metav1.ObjectMeta{Namespace: "ml", Name: "default"}, Spec: spec,
			}
			byWebhook, warnings := admit(t, policy, c.cluster)
			byTool, notes, err := printed(t, policy, c.cluster)
			if (err != nil) != c.refused {
				t.Fatalf("%s: %v", c.reason, err)
			}
			if err != nil {
				notes = err.Error()
			}
			if !strings.Contains(warnings, c.warning) || (c.warning == "") != (warnings == "") {
				t.Errorf("%s: the webhook warns %q, want %q", c.reason, warnings, c.warning)
			}
			if !strings.Contains(notes, c.note) {
				t.Errorf("%s: the tool notes %q, want %q", c.reason, notes, c.note)
			}
			if got := injection.AnyPiece(byWebhook); got != c.injected {
				t.Errorf("%s: injected by the webhook: %t", c.reason, got)
			}
			if name == "another selector" || c.refused {
				return
			}
			if difference := jsonpatch.Diff(byWebhook, byTool); len(difference) > 0 {
				t.Errorf("%s: applying what the tool prints changes %v", c.reason, difference)
			}
		})
	}
}

// admit is the spec that the webhook has stored, and its warnings.
func admit(t *testing.T, policy *v1alpha1.RayTLSPolicy, manifest string) (spec map[string]any, warnings string) {
	t.Helper()
	scheme, err := Scheme()
	if err != nil {
		t.Fatal(err)
	}
	reader := fake.NewClientBuilder().WithScheme(scheme).WithObjects(policy.DeepCopy()).Build()
	raw, err := yaml.YAMLToJSON([]byte(manifest))
	if err != nil {
		t.Fatal(err)
	}
	handler := &webhook.Injector{Cached: reader, Live: reader, Namespace: "raytls-system"}
	response := handler.Handle(t.Context(), admission.Request{AdmissionRequest: admissionv1.AdmissionRequest{
		Operation: admissionv1.Create, Namespace: "ml", Object: runtime.RawExtension{Raw: raw},
	}})
	if !response.Allowed {
		t.Fatalf("refused: %v", response.Result)
	}
	if response.Patch != nil {
		patch, err := rfc6902.DecodePatch(response.Patch)
		if err != nil {
			t.Fatal(err)
		}
		if raw, err = patch.Apply(raw); err != nil {
			t.Fatal(err)
		}
	}
	return specIn(t, raw), strings.Join(response.Warnings, "\n")
}

// printed is the spec that the tool prints, and its notes.
func printed(t *testing.T, policy *v1alpha1.RayTLSPolicy, manifest string) (spec map[string]any, notes string, err error) {
	t.Helper()
	text, err := yaml.Marshal(object(t, policy))
	if err != nil {
		t.Fatal(err)
	}
	var out, said bytes.Buffer
	env := cli.Environment{In: strings.NewReader(manifest + "---\n" + string(text)), Out: &out, Notes: &said, Now: time.Now}
	if err := cli.Main("v0", []string{"raytls", "inject", "-f", "-"}, env); err != nil {
		return nil, said.String(), err
	}
	first, _, _ := strings.Cut(out.String(), "\n---\n")
	raw, err := yaml.YAMLToJSON([]byte(first))
	if err != nil {
		t.Fatal(err)
	}
	return specIn(t, raw), said.String(), nil
}

// object is what a user writes of a policy: without status.
func object(t *testing.T, policy *v1alpha1.RayTLSPolicy) map[string]any {
	t.Helper()
	raw, err := json.Marshal(policy)
	if err != nil {
		t.Fatal(err)
	}
	var out map[string]any
	if err := json.Unmarshal(raw, &out); err != nil {
		t.Fatal(err)
	}
	delete(out, "status")
	return out
}

func specIn(t *testing.T, raw []byte) map[string]any {
	t.Helper()
	var out map[string]any
	if err := json.Unmarshal(raw, &out); err != nil {
		t.Fatal(err)
	}
	return jsonpatch.Map(out["spec"])
}
