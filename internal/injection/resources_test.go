package injection

import (
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/raytls/raytls/internal/jsonpatch"
)

func initResources(spec map[string]any) any {
	return jsonpatch.Map(jsonpatch.List(pod(spec)["initContainers"])[0])["resources"]
}

// A pod's effective requests, its QoS class, LimitRanges and quotas all take in the init container.
func TestTheInitContainerAsksForWhatRayHas(t *testing.T) {
	cases := map[string]struct{ reason, ray, want string }{
		"Guaranteed": {
			"requests and limits keep the QoS class", `{requests: {cpu: "1", memory: 2Gi}, limits: {cpu: "1", memory: 2Gi}}`,
			`{requests: {cpu: "1", memory: 2Gi}, limits: {cpu: "1", memory: 2Gi}}`,
		},
		"small": {
			"a small pod stays small", `{requests: {cpu: 10m}, limits: {memory: 20Mi}}`, `{requests: {cpu: 10m}, limits: {memory: 20Mi}}`,
		},
		"ephemeral storage": {
			"a quota can count it", `{limits: {ephemeral-storage: 1Gi}}`, `{limits: {ephemeral-storage: 1Gi}}`,
		},
		"devices": {
			"a second share of a device would not be free",
			`{requests: {cpu: "8", nvidia.com/gpu: 4, hugepages-2Mi: 1Gi}, limits: {nvidia.com/gpu: 4, hugepages-2Mi: 1Gi}}`, `{requests: {cpu: "8"}}`,
		},
		"claims":     {"the init container uses no device", `{claims: [{name: gpu}], limits: {cpu: "8"}}`, `{limits: {cpu: "8"}}`},
		"raw":        {"amounts are copied and never parsed", `{limits: {cpu: 1, memory: "1e9999"}}`, `{limits: {cpu: 1, memory: "1e9999"}}`},
		"null":       {"null is no amount", `{requests: null, limits: {cpu: null, memory: 1Gi}}`, `{limits: {memory: 1Gi}}`},
		"empty":      {"BestEffort stays BestEffort", `{}`, `{}`},
		"missing":    {"BestEffort stays BestEffort", `null`, `{}`},
		"no objects": {"the schema refuses it, so it only must not fail here", `[1]`, `{}`},
	}
	for name, tc := range cases {
		t.Run(name, func(t *testing.T) {
			spec := plain(t)
			ray(spec)["resources"] = fromYAML(t, "v: "+tc.ray)["v"]
			injected := mustApply(t, spec, Parameters{}, All())
			if diff := cmp.Diff(fromYAML(t, "v: "+tc.want)["v"], initResources(injected)); diff != "" {
				t.Errorf("%s (-want +got):\n%s", tc.reason, diff)
			}
			if diff := cmp.Diff(spec, mustRemove(t, injected, All())); diff != "" {
				t.Errorf("Remove does not restore the spec (-want +got):\n%s", diff)
			}
		})
	}
}

// A template that is scaled keeps pods that run as they are, so the copy follows in the same request.
func TestTheCopyFollowsRaysResources(t *testing.T) {
	injected := mustApply(t, plain(t), Parameters{}, All())
	scale := func(spec map[string]any) {
		ray(spec)["resources"] = map[string]any{"limits": map[string]any{"cpu": "16", "example.com/fpga": int64(1)}}
	}
	scaled := mustCarry(t, injected, change(injected, scale))
	var want any = map[string]any{"limits": map[string]any{"cpu": "16"}}
	if diff := cmp.Diff(want, initResources(scaled)); diff != "" {
		t.Errorf("the init container keeps the old amounts (-want +got):\n%s", diff)
	}
	if got := Inspect(scaled, "sample")[0].State; got != Injected {
		t.Errorf("the scaled template is %s", got)
	}
	if again := mustCarry(t, scaled, change(plain(t), scale)); !jsonpatch.Equal(again, scaled) {
		t.Errorf("applying the scaled manifest writes something:\n%s", cmp.Diff(scaled, again))
	}
	if Inspect(change(injected, scale), "sample")[0].Stripped {
		t.Error("an outdated copy counts as stripped, which restarts the cluster")
	}
}
