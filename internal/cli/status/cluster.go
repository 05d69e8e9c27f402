package status

import (
	"fmt"
	"strings"
	"text/tabwriter"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/raytls/raytls/api/v1alpha1"
	"github.com/raytls/raytls/internal/cli/text"
	"github.com/raytls/raytls/internal/policy"
)

// cluster prints all that is known of one cluster, and its pods.
func (p *printer) cluster(c *clusterReport, podsUnread, wide bool) error {
	w := tabwriter.NewWriter(p.out, 0, 0, 3, ' ', 0)
	line := func(label, format string, args ...any) {
		fmt.Fprintf(w, "%s\t%s\n", label, text.Line(fmt.Sprintf(format, args...)))
	}
	s := c.status()
	line("RayCluster", "%s/%s", c.Namespace, c.Name)
	line("policy", "%s", or(c.Policy, "none"))
	switch {
	case c.Status == nil:
		line("operator", "reports nothing of this RayCluster")
	case !c.Current:
		line("operator", "has not reported the present state yet; this is what it reported last")
	}
	conditions(line, s.Conditions)
	if c.Computed != nil {
		line("computed now", "by this command, from the RayCluster, its policy and its pods: %s", podCounts(c.Computed.Pods))
		conditions(line, c.Computed.Conditions)
	}
	keys(line, s)
	if s.EarliestExpiryTime != nil {
		line("expires", "%s, the first certificate in use", stamp(s.EarliestExpiryTime))
	}
	if s.RestartBy != nil {
		line("restart by", "%s, the first pod", stamp(s.RestartBy))
	}
	if r := s.Rollout; r != nil {
		line("restarting", "phase %s, to be %s, since %s%s", r.Phase, strings.ToLower(string(r.Goal)), stamp(&r.PhaseStartTime), remaining(r))
	}
	if waits := s.PendingRestart; waits != nil {
		obstacle, approvable := policy.Obstacle(waits.Message)
		line("restart", "%s (%s) waits, %s: %s", waits.ID, waits.Action, by(waits), obstacle)
		if approvable {
			line("", "to approve it, run `%s --restart %s`", p.approve(c), waits.ID)
		}
	}
	if err := w.Flush(); err != nil {
		return err
	}
	switch {
	case podsUnread:
		return nil
	case len(c.Pods) == 0:
		_, err := fmt.Fprintln(p.out, "\nThere is no pod.")
		return err
	}
	if _, err := fmt.Fprintln(p.out); err != nil {
		return err
	}
	return p.table(podsTable(&report{Clusters: []clusterReport{*c}}, false, wide))
}

func conditions(line func(label, format string, args ...any), of []metav1.Condition) {
	for _, c := range of {
		line(c.Type, "%s, %s: %s", c.Status, c.Reason, c.Message)
	}
}

func keys(line func(label, format string, args ...any), s *v1alpha1.RayClusterTLSStatus) {
	if a := &s.Authority; a.Generation > 0 {
		line("authority", "generation %d, id %s, issued %s, ends %s", a.Generation, a.ID, stamp(a.IssuedTime), stamp(a.ExpiryTime))
		for _, e := range a.Earlier {
			line("", "generation %d, id %s, pods: %d, accepted until %s", e.Generation, e.ID, e.Pods, or(stamp(e.ExpiryTime), "it is dropped"))
		}
	}
	if s.Issuer.ID != "" {
		line("issuer", "id %s, ends %s", s.Issuer.ID, stamp(s.Issuer.ExpiryTime))
	}
	if seen := &s.ObservedOnWire; seen.Head != "" {
		text := fmt.Sprintf("the head serves %s", seen.Head)
		if seen.Reason != "" {
			text += " (" + seen.Reason + ")"
		}
		if seen.AuthorityGeneration > 0 {
			text += fmt.Sprintf(", generation %d", seen.AuthorityGeneration)
		}
		if seen.ExpiryTime != nil {
			text += ", until " + stamp(seen.ExpiryTime)
		}
		line("wire", "%s; seen %s", text, stamp(&seen.Time))
	}
}

func by(p *v1alpha1.PendingRestart) string {
	if p.BlockedBy != "" {
		return p.Reason + " by " + p.BlockedBy
	}
	return p.Reason
}

func remaining(r *v1alpha1.RolloutProgress) string {
	if r.Remaining == 0 {
		return ""
	}
	return fmt.Sprintf(", %d replicas left", r.Remaining)
}

func or(s, otherwise string) string {
	if s == "" {
		return otherwise
	}
	return s
}
