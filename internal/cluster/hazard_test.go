package cluster

import (
	"strings"
	"testing"
	"time"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/raytls/raytls/api/v1alpha1"
	"github.com/raytls/raytls/internal/injection"
	"github.com/raytls/raytls/internal/jsonpatch"
	"github.com/raytls/raytls/internal/kuberay"
	"github.com/raytls/raytls/internal/policy"
)

// TestDecide_hazard: a running cluster whose worker would wait for ever is not restarted, and learns why.
func TestDecide_hazard(t *testing.T) {
	f, _ := encryptedFacts(t)
	plain, err := injection.Remove(f.Spec, injection.All())
	if err != nil {
		t.Fatal(err)
	}
	worker := jsonpatch.Map(jsonpatch.Map(jsonpatch.Map(jsonpatch.List(plain["workerGroupSpecs"])[0])["template"])["spec"])
	worker["initContainers"] = []any{map[string]any{"name": "wait", "image": "ray:1", "command": []any{"ray", "health-check"}}}
	f.Object.Object["spec"], f.Spec, f.TLS = plain, plain, nil
	f.Templates = injection.Inspect(plain, f.Key.Name)
	f.Policy.Rollout.EnablePolicy = v1alpha1.EnableImmediate
	for i := range f.Pods {
		f.Pods[i].Injected, f.Pods[i].Certified = false, false
	}
	settings := Settings{Images: policy.Allowlist{"*"}, Served: func(v1alpha1.TargetKind) bool { return true }}

	d := Decide(f, settings)
	report := d.Plan.Report
	if report.Reason != v1alpha1.ReasonHazard || !report.UserMustAct || d.Edited != nil || len(d.Plan.Delete) > 0 {
		t.Fatalf("got %+v", d.Plan)
	}
	for _, part := range []string{"spec.workerGroupSpecs[0].template.spec.initContainers[0].command", "`ray health-check`", `add container "wait" to additionalContainers`} {
		if !strings.Contains(report.Message, part) {
			t.Errorf("%q is missing in %q", part, report.Message)
		}
	}
	status := Status(f, &d, Done{})
	if p := status.PendingRestart; p == nil || p.Reason != v1alpha1.ReasonHazard || strings.Contains(p.Message, "kubectl patch") {
		t.Errorf("an approval does not help, but %+v", p)
	}

	f.Policy.AdditionalContainers = []string{"wait"}
	if healed := Decide(f, settings); healed.Plan.Reason != v1alpha1.ReasonEnabling || healed.Edited == nil {
		t.Errorf("the policy heals it, but %+v", healed.Plan.Report)
	}
	f.Policy.AdditionalContainers, f.Ray, f.Pods = nil, kuberay.Cluster{Replicas: f.Ray.Replicas}, nil
	f.Object.SetCreationTimestamp(metav1.NewTime(f.Now.Add(-time.Second)))
	if created := Decide(f, settings); created.Plan.Reason != v1alpha1.ReasonEnabling || created.Edited == nil {
		t.Errorf("a cluster without work to lose is encrypted, but %+v", created.Plan.Report)
	}
}
