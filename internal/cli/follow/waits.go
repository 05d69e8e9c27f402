package follow

import (
	"fmt"

	"k8s.io/apimachinery/pkg/api/meta"

	"github.com/raytls/raytls/api/v1alpha1"
	"github.com/raytls/raytls/internal/policy"
)

// Waits says what the cluster's restart waits for and what a user can do about it; empty if none waits. approve is the command
// that approves restarts of the cluster.
func Waits(status *v1alpha1.RayClusterTLSStatus, approve string) string {
	p := status.PendingRestart
	if p == nil {
		return stalled(status)
	}
	obstacle, approvable := policy.Obstacle(p.Message)
	out := fmt.Sprintf("; the restart %s (%s) waits, %s", p.ID, p.Action, p.Reason)
	if p.BlockedBy != "" {
		out += " by " + p.BlockedBy
	}
	if obstacle != "" {
		out += ": " + obstacle
	}
	if approvable {
		out += fmt.Sprintf("; to approve it, run `%s --restart %s`", approve, p.ID)
	}
	return out
}

// stalled says why a user must act.
func stalled(status *v1alpha1.RayClusterTLSStatus) string {
	if c := meta.FindStatusCondition(status.Conditions, v1alpha1.ConditionStalled); c != nil && c.Status == "True" {
		return fmt.Sprintf("; a user must act, %s: %s", c.Reason, c.Message)
	}
	return ""
}
