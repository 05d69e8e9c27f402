package rollout

import (
	"strings"
	"testing"

	"github.com/raytls/raytls/api/v1alpha1"
)

func TestNoSlot(t *testing.T) {
	sibling := func(name, policy string, change func(*v1alpha1.RayClusterTLSStatus)) v1alpha1.RayClusterTLS {
		out := v1alpha1.RayClusterTLS{}
		out.Name, out.Status.PolicyRef.Name = name, policy
		change(&out.Status)
		return out
	}
	restarts := func(s *v1alpha1.RayClusterTLSStatus) { s.Rollout = &v1alpha1.RolloutProgress{} }
	failed := func(s *v1alpha1.RayClusterTLSStatus) { s.Injection.FailedHash = "x" }
	rests := func(*v1alpha1.RayClusterTLSStatus) {}
	for name, c := range map[string]struct {
		reason string
		others []v1alpha1.RayClusterTLS
		goal   v1alpha1.RolloutGoal
		want   string
	}{
		"alone":          {"a slot is free", nil, v1alpha1.GoalEncrypted, ""},
		"others rest":    {"a slot is free", []v1alpha1.RayClusterTLS{sibling("a", "p", rests)}, v1alpha1.GoalEncrypted, ""},
		"one restarts":   {"the slot is in use", []v1alpha1.RayClusterTLS{sibling("a", "p", restarts)}, v1alpha1.GoalEncrypted, "1 of at most 1 clusters"},
		"another policy": {"each policy has slots of its own", []v1alpha1.RayClusterTLS{sibling("a", "q", restarts)}, v1alpha1.GoalEncrypted, ""},
		"one failed":     {"the next would fail alike", []v1alpha1.RayClusterTLS{sibling("a", "p", failed)}, v1alpha1.GoalEncrypted, "enabling RayCluster a failed"},
		"disabling":      {"that a cluster could not be encrypted keeps none encrypted", []v1alpha1.RayClusterTLS{sibling("a", "p", failed)}, v1alpha1.GoalPlaintext, ""},
	} {
		if got := NoSlot("p", 1, c.others, c.goal); !strings.Contains(got, c.want) || c.want == "" && got != "" {
			t.Errorf("%s: %s: got %q", name, c.reason, got)
		}
	}
}
