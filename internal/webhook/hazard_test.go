package webhook

import (
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/raytls/raytls/api/v1alpha1"
)

// probed gives the head a probe in plaintext gRPC, and a sidecar that dials Ray.
func probed(c object) {
	template := c["spec"].(object)["headGroupSpec"].(object)["template"].(object)["spec"].(object)
	containers := template["containers"].([]any)
	containers[0].(object)["livenessProbe"] = object{"grpc": object{"port": 6379}}
	template["containers"] = append(containers, object{"name": "driver", "image": "ray:1", "command": []any{"ray", "status"}})
}

func hasBoth(t *testing.T, reason string, warnings []string) {
	t.Helper()
	said := strings.Join(warnings, "\n")
	for _, part := range []string{"containers[0].livenessProbe.grpc probes port 6379", `add container "driver" to additionalContainers`} {
		if !strings.Contains(said, part) {
			t.Errorf("%s: %q is missing in %q", reason, part, said)
		}
	}
}

// TestHazard warns and refuses nothing: whoever applies the cluster may know better.
func TestHazard(t *testing.T) {
	t.Parallel()
	policy := []client.Object{covering()}
	got, response := admitted(t, injector(t, policy), someone, nil, rayCluster(probed))
	if !response.Allowed || !cmp.Equal(got, born(t, probed)) {
		t.Errorf("it is not born with TLS:\n%s", cmp.Diff(born(t, probed), got))
	}
	hasBoth(t, "a new cluster", response.Warnings)

	healing := covering(func(p *v1alpha1.RayTLSPolicy) { p.Spec.AdditionalContainers = []string{"driver"} })
	if _, response := admitted(t, injector(t, []client.Object{healing}), someone, nil, rayCluster(probed)); len(response.Warnings) != 1 {
		t.Errorf("the policy gives the sidecar its certificate: %q", response.Warnings)
	}
	if _, response := admitted(t, injector(t, nil), someone, nil, rayCluster(probed)); len(response.Warnings) > 0 {
		t.Errorf("without a policy nothing breaks: %q", response.Warnings)
	}

	known := []client.Object{covering(), record()}
	_, response = admitted(t, injector(t, known), someone, born(t), rayCluster(probed))
	if !response.Allowed {
		t.Errorf("refused: %v", response.Result)
	}
	hasBoth(t, "a change of an encrypted cluster", response.Warnings)
	if _, response := admitted(t, injector(t, known), someone, born(t, probed), born(t, probed, spec("suspend", true))); len(response.Warnings) > 0 {
		t.Errorf("what was there before was told before: %q", response.Warnings)
	}
}

// TestHazard_bound: the answer holds a few, however many there are.
func TestHazard_bound(t *testing.T) {
	t.Parallel()
	many := func(c object) {
		template := c["spec"].(object)["headGroupSpec"].(object)["template"].(object)["spec"].(object)
		for range 50 {
			template["initContainers"] = append(template["initContainers"].([]any), object{"name": "w" + strings.Repeat("x", len(template["initContainers"].([]any))), "image": "i", "command": []any{"ray", "status"}})
		}
	}
	first := func(c object) {
		c["spec"].(object)["headGroupSpec"].(object)["template"].(object)["spec"].(object)["initContainers"] = []any{}
	}
	if _, response := admitted(t, injector(t, []client.Object{covering()}), someone, nil, rayCluster(first, many)); len(response.Warnings) != maxHazards {
		t.Errorf("%d warnings", len(response.Warnings))
	}
}
