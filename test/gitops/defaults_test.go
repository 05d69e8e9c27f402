package gitops_test

import (
	"encoding/json"
	"strings"
	"testing"

	"github.com/fluxcd/pkg/ssa"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
)

// sparse are policies that leave out fields with a default, in the ways that people do.
func sparse() map[string]*unstructured.Unstructured {
	empty := func(fields ...string) []edit {
		var out []edit
		for _, field := range fields {
			out = append(out, set(map[string]any{}, "spec", field))
		}
		return out
	}
	bare := func(edits ...edit) *unstructured.Unstructured {
		o := &unstructured.Unstructured{Object: map[string]any{"metadata": map[string]any{"name": "sample"}, "spec": map[string]any{"selector": map[string]any{}}}}
		o.SetGroupVersionKind(policyKind)
		for _, e := range edits {
			e(o)
		}
		return o
	}
	return map[string]*unstructured.Unstructured{
		"nothing but a selector": bare(),
		"empty objects":          bare(empty("issuance", "certificateAuthority", "podCertificate", "rollout")...),
		"an empty init container": bare(set(map[string]any{}, "spec", "issuance", "initContainer"),
			set(map[string]any{}, "spec", "issuance", "initContainer", "resources")),
		"one field of each object": bare(set("Script", "spec", "issuance", "mode"), set(int64(400), "spec", "certificateAuthority", "validityDays"),
			set(int64(30), "spec", "podCertificate", "validityDays"), set(int64(2), "spec", "rollout", "maxConcurrentClusters")),
		"lists": bare(set([]any{}, "spec", "additionalContainers"), set([]any{}, "spec", "rollout", "approvals"), set([]any{"ray.example.com"}, "spec", "podCertificate", "headDNSNames")),
		"false": bare(set(false, "spec", "paused"), set(false, "spec", "podCertificate", "headServiceShortName")),
	}
}

// defaults sees that the API server has stored a value for each field that has a default.
func (w *world) defaults(policy string) {
	w.t.Helper()
	p := w.get(policyKind, policy)
	for _, path := range [][]any{
		{"spec", "issuance", "mode"},
		{"spec", "certificateAuthority", "keyAlgorithm"},
		{"spec", "certificateAuthority", "validityDays"},
		{"spec", "podCertificate", "keyAlgorithm"},
		{"spec", "podCertificate", "validityDays"},
		{"spec", "podCertificate", "headServiceShortName"},
		{"spec", "rollout", "enablePolicy"},
		{"spec", "rollout", "maxConcurrentClusters"},
		{"spec", "rollout", "progressDeadlineSeconds"},
		{"spec", "deletionPolicy"},
		{"spec", "paused"},
	} {
		if at(p, path...) == nil {
			w.t.Errorf("nothing is stored for %v, so this test shows nothing: %v", path, p.Object["spec"])
		}
	}
}

func TestFluxSeesNoDriftInDefaults(t *testing.T) {
	t.Parallel()
	for name := range sparse() {
		t.Run(name, func(t *testing.T) {
			w := newWorld(t)
			policy := sparse()[name]
			w.does(ssa.CreatedAction, policy)
			w.defaults("sample")
			w.settles()
			before := w.get(policyKind, "sample").GetResourceVersion()
			w.unchanged(policy)
			if after := w.get(policyKind, "sample").GetResourceVersion(); before != after {
				t.Error("applied again, the policy was written")
			}
			// What the API server fills in is nobody's, so that another tool may set it without a conflict.
			for _, entry := range w.get(policyKind, "sample").GetManagedFields() {
				var fields struct {
					Spec map[string]json.RawMessage `json:"f:spec"`
				}
				w.must(json.Unmarshal(entry.FieldsV1.Raw, &fields))
				for field := range fields.Spec {
					if at(policy, "spec", strings.TrimPrefix(field, "f:")) == nil {
						t.Errorf("%s owns %s, which the manifest leaves out", entry.Manager, field)
					}
				}
			}
		})
	}
}

func TestKubectlSeesNoChangeInDefaults(t *testing.T) {
	t.Parallel()
	for name := range sparse() {
		for way, flags := range map[string][]string{"client-side": nil, "server-side": {"--server-side"}} {
			t.Run(name+" "+way, func(t *testing.T) {
				w := newWorld(t)
				f := w.folder()
				f.write(sparse()[name])
				f.apply(flags...)
				w.defaults("sample")
				w.settles()
				before := w.get(policyKind, "sample").GetResourceVersion()
				for range 2 {
					if out := f.apply(flags...); flags == nil && !strings.Contains(out, "unchanged") {
						t.Errorf("kubectl apply: %s", out)
					}
				}
				if after := w.get(policyKind, "sample").GetResourceVersion(); before != after {
					t.Error("applied again, the policy was written")
				}
				if out, code := f.kubectl(append([]string{"diff"}, flags...)...); code != 0 {
					t.Errorf("kubectl diff: exit code %d: %s", code, out)
				}
				w.rests()
			})
		}
	}
}

// A field that a commit takes out goes back to its default; one that it writes out in full changes nothing.
func TestFluxRestoresADefault(t *testing.T) {
	w := newWorld(t)
	bare := w.manifest("selector.yaml", func(o *unstructured.Unstructured) { delete(o.Object["spec"].(map[string]any), "deletionPolicy") })
	set5 := w.manifest("selector.yaml", set(int64(5), "spec", "rollout", "maxConcurrentClusters"))
	w.does(ssa.CreatedAction, set5)
	w.does(ssa.ConfiguredAction, bare)
	p := w.get(policyKind, "sample")
	if got := at(p, "spec", "rollout", "maxConcurrentClusters"); got != int64(1) {
		t.Errorf("maxConcurrentClusters is %v", got)
	}
	if got := at(p, "spec", "deletionPolicy"); got != "Retain" {
		t.Errorf("deletionPolicy is %v", got)
	}
	w.unchanged(bare)
	full := bare.DeepCopy()
	full.Object["spec"] = w.get(policyKind, "sample").Object["spec"]
	w.applies(full)
	if before, after := p.GetGeneration(), w.get(policyKind, "sample").GetGeneration(); before != after {
		t.Errorf("the defaults written out, the generation goes from %d to %d", before, after)
	}
	w.unchanged(full)
}
