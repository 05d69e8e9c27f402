package rollout

import (
	"fmt"

	"github.com/raytls/raytls/api/v1alpha1"
)

// planDisable begins to return a cluster to plaintext.
func planDisable(s *Snapshot, p *Plan) {
	if !s.anyPieces() && len(s.pods(touched)) == 0 {
		p.release(s)
		return
	}
	if left := s.live(and(touched, s.belated)); s.Progress == nil && !s.anyPieces() && len(left) > 0 {
		p.Reason, p.Message = v1alpha1.ReasonDisabling, fmt.Sprintf("restarting %s made while the templates were being put back", count(len(left)))
		p.Delete = left
		return
	}
	if s.Progress == nil && s.Service != nil && s.Running() && len(s.live(touched)) > 0 {
		planReplace(s, p)
		return
	}
	// A half-enabled cluster works in neither state, so the operator reverts it without asking.
	if s.Progress == nil && s.Running() && len(s.live(touched)) > 0 && !s.half() && !allowed(s, p) {
		return
	}
	if s.Progress != nil {
		p.Attempted = s.stamp() // the attempt to enable the cluster ends here
	}
	p.Edit, p.Progress = RemoveAll, s.next(v1alpha1.PhaseAll)
	if !s.anyPieces() {
		p.Edit = NoEdit
	}
	p.say(v1alpha1.ReasonDisabling, "gave the cluster its templates back; its pods are restarted in plaintext")
}

// planRemoving continues to return a cluster to plaintext.
func planRemoving(s *Snapshot, p *Plan) {
	p.Reason = v1alpha1.ReasonDisabling
	live, kept := s.live(and(touched, s.stale)), s.live(and(touched, s.settled))
	switch {
	case s.anyPieces():
		p.Edit, p.Message = RemoveAll, "giving the cluster its templates back"
	case len(live) > 0 && s.leftToOthers() && !s.Suspended:
		p.Message, p.RequeueAt = deleter(s)+" restarts the pods", s.Progress.Since.Add(RecreatePatience)
		if s.Queued {
			p.RequeueAt = s.phaseEnd()
		}
	case len(live) > 0:
		p.Delete, p.Message = live, fmt.Sprintf("restarting %s in plaintext", count(len(live)))
	case len(kept) > 0:
		p.Reason, p.UserMustAct = v1alpha1.ReasonPodsAltered, true
		p.Message = fmt.Sprintf("pod %s carries the injection, and its template does not; the operator does not delete it, since KubeRay would create the same again; correct the webhook or admission policy that changes pods, then delete the pod", kept[0].Name)
	case len(s.pods(touched)) > 0:
		p.Message = fmt.Sprintf("waiting until %s with TLS ended", count(len(s.pods(touched))))
	default:
		p.release(s)
	}
}

func (p *Plan) release(s *Snapshot) {
	p.Release = true
	p.Record = Record{Attempted: s.Attempted, Changed: p.Changed, RevokedBefore: s.RevokedBefore}
	p.Reason, p.Message = v1alpha1.ReasonDisabling, "the cluster is plaintext again"
}
