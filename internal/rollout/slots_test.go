package rollout

import (
	"strings"
	"testing"
	"time"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/raytls/raytls/api/v1alpha1"
)

func TestNoSlot(t *testing.T) {
	sibling := func(name, policy string, change func(*v1alpha1.RayClusterTLSStatus)) v1alpha1.RayClusterTLS {
		out := v1alpha1.RayClusterTLS{}
		out.Name, out.Status.PolicyRef.Name = name, policy
		change(&out.Status)
		return out
	}
	restarts := func(s *v1alpha1.RayClusterTLSStatus) {
		s.Rollout = &v1alpha1.RolloutProgress{Phase: v1alpha1.PhaseRoll, PhaseStartTime: metav1.NewTime(start().Add(-9 * time.Minute))}
	}
	stuck := func(s *v1alpha1.RayClusterTLSStatus) {
		s.Rollout = &v1alpha1.RolloutProgress{Phase: v1alpha1.PhaseRoll, PhaseStartTime: metav1.NewTime(start().Add(-10 * time.Minute))}
	}
	moves := func(s *v1alpha1.RayClusterTLSStatus) {
		stuck(s)
		s.Rollout.DeadlineStartTime = new(metav1.NewTime(start().Add(-time.Minute)))
	}
	failed := func(s *v1alpha1.RayClusterTLSStatus) { s.Injection.FailedHash = "x" }
	rests := func(*v1alpha1.RayClusterTLSStatus) {}
	for name, c := range map[string]struct {
		reason  string
		others  []v1alpha1.RayClusterTLS
		enables bool
		want    string
	}{
		"alone":        {"a slot is free", nil, true, ""},
		"others rest":  {"a slot is free", []v1alpha1.RayClusterTLS{sibling("a", "p", rests)}, true, ""},
		"one restarts": {"the slot is in use", []v1alpha1.RayClusterTLS{sibling("a", "p", restarts)}, true, "1 of at most 1 clusters"},
		"one is stuck": {"whoever may create pods can keep a restart from its end", []v1alpha1.RayClusterTLS{sibling("a", "p", stuck)}, true, ""},
		"pods end slowly": {"they may take their grace period", []v1alpha1.RayClusterTLS{sibling("a", "p", func(s *v1alpha1.RayClusterTLSStatus) {
			stuck(s)
			s.Rollout.Phase = v1alpha1.PhaseRest
		})}, true, "1 of at most 1 clusters"},
		"one moves":      {"its deadline began anew", []v1alpha1.RayClusterTLS{sibling("a", "p", moves)}, true, "1 of at most 1 clusters"},
		"another policy": {"each policy has slots of its own", []v1alpha1.RayClusterTLS{sibling("a", "q", restarts)}, true, ""},
		"one failed":     {"the next would fail alike", []v1alpha1.RayClusterTLS{sibling("a", "p", failed)}, true, "enabling RayCluster a failed"},
		"disabling":      {"that a cluster could not be encrypted keeps none encrypted", []v1alpha1.RayClusterTLS{sibling("a", "p", failed)}, false, ""},
	} {
		got, until := Slots{"p", 1, 10 * time.Minute}.NoSlot(c.others, c.enables, start())
		if at := strings.HasPrefix(c.want, "1 of"); at != until.After(start()) {
			t.Errorf("%s: %s: free at %s", name, c.reason, until)
		}
		if !strings.Contains(got, c.want) || c.want == "" && got != "" {
			t.Errorf("%s: %s: got %q", name, c.reason, got)
		}
	}
}
