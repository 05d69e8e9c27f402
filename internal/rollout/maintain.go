package rollout

import (
	"fmt"
	"slices"
	"time"

	"github.com/raytls/raytls/api/v1alpha1"
)

// planMaintain keeps a cluster that is on record as encrypted.
func planMaintain(s *Snapshot, p *Plan) {
	if !s.allInjected() {
		planRestore(s, p)
		return
	}
	if left := s.live(and(revoked, s.superseded)); len(left) > 0 {
		p.Reason, p.Message = v1alpha1.ReasonRevoking, fmt.Sprintf("replacing %s of a revoked authority", count(len(left)))
		p.Delete = left
		return
	}
	wrong := s.live(and(plaintext, s.stale))
	if len(wrong) == 0 {
		report(s, p)
		planRoll(s, p)
		return
	}
	if s.Service != nil && s.Running() && slices.ContainsFunc(wrong, head) && len(s.live(injected)) > 0 {
		planReplace(s, p)
		return
	}
	if s.Service != nil && s.Running() && s.overtaken() {
		p.removeAll(s) // the cluster began to serve before its pods were replaced
		p.Reason, p.Message = v1alpha1.ReasonEnabling, "the cluster serves in plaintext; giving it its templates back, so that new pods can join"
		return
	}
	// These pods were made before the injection, or while it was stripped, and cannot talk to the others.
	if s.Running() && s.BlockedBy != "" && len(s.live(and(head, plaintext))) > 0 {
		p.Reason, p.BlockedBy, p.Message = v1alpha1.ReasonBlocked, s.BlockedBy, s.BlockedWhy
		if len(s.live(injected)) == 0 && s.overtaken() {
			p.removeAll(s) // the cluster works in plaintext, and new pods must be able to join
		}
		return
	}
	p.Reason, p.Message = v1alpha1.ReasonEnabling, fmt.Sprintf("replacing %s made without the injection", count(len(wrong)))
	p.Delete = wrong
}

// removeAll restores the cluster's templates and removes it from the record. PhaseRevert stays on record until the templates
// are seen, so that another replica can continue.
func (p *Plan) removeAll(s *Snapshot) {
	p.Edit, p.Enabled, p.InjectedAt, p.Progress = RemoveAll, false, time.Time{}, s.next(v1alpha1.PhaseRevert)
}

// overtakenBy is how long after the injection KubeRay may still make pods from the old templates, because its cache lags.
const overtakenBy = 10 * time.Second

// overtaken reports whether the head was made before the injection. A later plaintext head proves nothing, because anybody who
// may create pods could have made it.
func (s *Snapshot) overtaken() bool {
	heads := s.live(and(head, plaintext))
	return len(heads) > 0 && !slices.ContainsFunc(heads, func(p Pod) bool {
		return s.InjectedAt.IsZero() || p.Created.After(s.InjectedAt.Add(overtakenBy))
	})
}

// report describes a cluster whose templates are all injected and whose restart is over. The certificates decide whether a cluster
// that this reports as encrypted is.
func report(s *Snapshot, p *Plan) {
	plain, altered := s.pods(plaintext), s.live(s.altered)
	bad := s.live(and(injected, failed))
	for _, p := range s.Ended {
		if p.Injected && p.Failure != "" {
			bad = append(bad, p) // with restartPolicy Never, KubeRay replaces it repeatedly
		}
	}
	switch {
	case len(altered) > 0:
		p.alter(altered)
	case len(plain) > 0:
		p.Reason, p.Message = v1alpha1.ReasonEnabling, fmt.Sprintf("waiting until %s without TLS ended", count(len(plain)))
	case len(bad) > 0:
		p.UserMustAct = true
		p.Reason, p.Message = v1alpha1.ReasonCertificateFailed, fmt.Sprintf("pod %s: %s", bad[0].Name, bad[0].Failure)
	case s.Suspended && len(s.live(every)) == 0:
		p.Reason, p.Message = v1alpha1.ReasonSuspended, "the cluster is suspended; its pods will have TLS"
	case len(s.Pods) == 0:
		p.Reason, p.Message = v1alpha1.ReasonNoPods, "the cluster has no pods yet; they will have TLS"
		if s.PodsMissing != "" {
			p.Message = "KubeRay cannot create the cluster's pods: " + s.PodsMissing
		}
	case len(s.live(and(head, certified))) == 0:
		p.Reason, p.Message = v1alpha1.ReasonPodsStarting, "the head has yet to make its certificate"
	default:
		p.Reason = v1alpha1.ReasonEncrypted
	}
}
