package policy

import (
	"testing"

	"github.com/raytls/raytls/api/v1alpha1"
)

func TestBoundAndUnderWay(t *testing.T) {
	named := v1alpha1.PolicyReference{Name: "p"}
	for name, c := range map[string]struct {
		reason   string
		status   v1alpha1.RayClusterTLSStatus
		bound    string
		underWay bool
	}{
		"covered":   {"being covered binds nobody", v1alpha1.RayClusterTLSStatus{PolicyRef: named}, "", false},
		"injected":  {"being injected does", v1alpha1.RayClusterTLSStatus{PolicyRef: named, Injection: v1alpha1.InjectionStatus{Revision: 1}}, "p", false},
		"failed":    {"so does an attempt, which another policy must not repeat", v1alpha1.RayClusterTLSStatus{PolicyRef: named, Injection: v1alpha1.InjectionStatus{FailedHash: "x"}}, "p", false},
		"restart":   {"and a restart", v1alpha1.RayClusterTLSStatus{PolicyRef: named, Rollout: &v1alpha1.RolloutProgress{Phase: v1alpha1.PhaseHead}}, "p", true},
		"upgrade":   {"a cluster that its RayService replaces works", v1alpha1.RayClusterTLSStatus{PolicyRef: named, Rollout: &v1alpha1.RolloutProgress{Phase: v1alpha1.PhaseUpgrade}}, "p", false},
		"no policy": {"without a policy it is bound to none", v1alpha1.RayClusterTLSStatus{Injection: v1alpha1.InjectionStatus{Revision: 1}}, "", false},
	} {
		if got := Bound(&c.status); got != c.bound {
			t.Errorf("%s: %s: bound to %q", name, c.reason, got)
		}
		if got := UnderWay(&c.status); got != c.underWay {
			t.Errorf("%s: %s: under way %t", name, c.reason, got)
		}
	}
}
