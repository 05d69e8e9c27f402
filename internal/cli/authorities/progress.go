package authorities

import (
	"fmt"
	"slices"
	"strings"
	"time"

	"k8s.io/apimachinery/pkg/api/meta"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/raytls/raytls/api/v1alpha1"
	"github.com/raytls/raytls/internal/cli/fleet"
	"github.com/raytls/raytls/internal/cli/follow"
	"github.com/raytls/raytls/internal/kube"
	"github.com/raytls/raytls/internal/rollout"
)

// look tells how far a cluster is whose authorities from before that time are replaced.
func (r *replacement) look(c fleet.Cluster, at time.Time) follow.Look {
	approve := r.command("approve "+c.Name, c.Namespace)
	return func(tls *v1alpha1.RayClusterTLS) (follow.Step, error) {
		if tls == nil { // RayJobs delete their clusters
			return follow.Step{Text: "deleted", Done: true}, nil
		}
		status := &tls.Status
		authority, waits := &status.Authority, follow.Waits(status, approve)
		upToDate := meta.FindStatusCondition(status.Conditions, v1alpha1.ConditionUpToDate)
		if upToDate == nil {
			upToDate = &metav1.Condition{Status: metav1.ConditionUnknown}
		}
		if !r.field.Replaced(&c.Status().Authority, authority, at) {
			text := fmt.Sprintf("generation %d is not replaced yet", authority.Generation)
			if waits == "" && slices.Contains([]string{v1alpha1.ReasonTooManyGenerations, v1alpha1.ReasonAuthorityChangePending, v1alpha1.ReasonRevocationPending}, upToDate.Reason) {
				text += "; " + upToDate.Message
			}
			return follow.Step{Text: text + waits}, nil
		}
		text := pods(status)
		switch {
		case status.Pods.Outdated > 0 || status.Pods.Certified < status.Pods.Total:
			if waits == "" {
				waits = r.begins(status)
			}
			return follow.Step{Text: text + waits}, nil
		case upToDate.Status == metav1.ConditionTrue:
			return follow.Step{Text: text + "; up to date", Done: true}, nil
		case upToDate.Reason == v1alpha1.ReasonPodsOutdated || upToDate.Status == metav1.ConditionUnknown:
			return follow.Step{Text: text}, nil
		}
		// The rest does not wait for a new authority.
		return follow.Step{Text: fmt.Sprintf("%s; not up to date for another reason, %s: %s", text, upToDate.Reason, upToDate.Message), Done: true}, nil
	}
}

// pods says how many pods have a certificate of the present authority.
func pods(status *v1alpha1.RayClusterTLSStatus) string {
	out := fmt.Sprintf("generation %d: %d of %d pods", status.Authority.Generation, status.Pods.Certified, status.Pods.Total)
	var earlier []string
	for _, e := range status.Authority.Earlier {
		if e.Pods > 0 {
			earlier = append(earlier, fmt.Sprintf("%d of generation %d", e.Pods, e.Generation))
		}
	}
	if len(earlier) > 0 {
		out += " (" + strings.Join(earlier, ", ") + ")"
	}
	return out
}

// begins says when a roll begins that nothing else waits for; empty for one that has begun.
func (r *replacement) begins(status *v1alpha1.RayClusterTLSStatus) string {
	issued := status.Authority.IssuedTime
	if issued == nil || status.Rollout != nil || len(status.Authority.Earlier) == 0 {
		return ""
	}
	at := issued.Add(rollout.Settles + kube.ClockTolerance)
	if !r.Now().Before(at) {
		return ""
	}
	return fmt.Sprintf("; the roll begins at %s at the earliest", kube.FormatTime(at))
}
