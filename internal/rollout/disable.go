package rollout

import (
	"fmt"

	"github.com/raytls/raytls/api/v1alpha1"
)

// planDisable begins to return a cluster to plaintext.
func planDisable(s *Snapshot, p *Plan) {
	if !s.anyPieces() && len(s.pods(injected)) == 0 {
		p.release()
		return
	}
	if s.Progress == nil && s.Service != nil && s.Running() && len(s.live(injected)) > 0 {
		planReplace(s, p)
		return
	}
	// A half-enabled cluster works in neither state, so the operator reverts it without asking.
	if s.Progress == nil && s.Running() && len(s.live(injected)) > 0 && !s.half() && !allowed(s, p) {
		return
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
	live := s.live(injected)
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
	case len(s.pods(injected)) > 0:
		p.Message = fmt.Sprintf("waiting until %s with TLS ended", count(len(s.pods(injected))))
	default:
		p.release()
	}
}

func (p *Plan) release() {
	p.Release = true
	p.Record = Record{}
	p.Reason, p.Message = v1alpha1.ReasonDisabling, "the cluster is plaintext again"
}
