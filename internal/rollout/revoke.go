package rollout

import (
	"fmt"
	"slices"

	"github.com/raytls/raytls/api/v1alpha1"
	"github.com/raytls/raytls/internal/kube"
)

// Reasons of the events of a revocation.
const (
	eventRevoking = "Revoking"
	eventRevoked  = "Revoked"
)

// Revocation is what the policy asks of the cluster's authority.
type Revocation struct {
	// Asked says why the authority is to be revoked; empty if it is not. It is empty for a revocation on record too.
	Asked string
	// Generation is the number of the authority that takes its place.
	Generation int64
	// Now lets the restart begin without waiting for jobs, for an approval, or for anything else that protects work.
	Now bool
	// Unusable says why no authority can be made; empty if one can.
	Unusable string
}

// Revokes reports whether the authority is to be revoked and the cluster is in a state in which that can begin. A cluster that is being
// enabled or disabled finishes this first.
func (s *Snapshot) Revokes() bool {
	return s.Revocation.Asked != "" && s.Goal == v1alpha1.GoalEncrypted && (s.Progress == nil || s.rolling() || s.renewing()) &&
		(s.Enabled || len(s.live(injected)) == 0)
}

// revoke begins a revocation that is asked for, in place of what was planned. If it is not allowed yet, the rest of the plan stays.
func (p *Plan) revoke(s *Snapshot, approved bool) {
	if !s.Revokes() {
		return
	}
	asked := s.Revocation.Asked
	if s.Service != nil && s.Running() && !s.Revocation.Now && !s.Roll.Paused {
		p.replaceRevoked(s, s.revocationWaits(approved))
		return
	}
	if waits := s.revocationWaits(approved); waits != nil {
		p.awaitRevocation(s, *waits)
		return
	}
	*p = Plan{Record: s.Record}
	p.RevokedBefore = s.Revocation.Generation
	p.say(v1alpha1.ReasonRevoking, "%s; no generation below %d is used from now on, and no pod has a certificate of one", asked, p.RevokedBefore)
	if s.Enabled {
		p.Progress = s.next(v1alpha1.PhaseRevoke)
		p.say(v1alpha1.ReasonRevoking, "%s; no generation below %d is used from now on, and all pods are restarted together", asked, p.RevokedBefore)
	}
	p.Event.Reason = eventRevoking
}

// awaitRevocation says what a revocation waits for, and what that means.
func (p *Plan) awaitRevocation(s *Snapshot, waits Waiting) {
	waits.Message = fmt.Sprintf("%s; until all pods are restarted, they trust it; %s", s.Revocation.Asked, waits.Message)
	p.Roll = waits
	if waits.Reason == v1alpha1.ReasonWaitingForWindow {
		p.RequeueAt = kube.Earlier(p.RequeueAt, s.Opens)
	}
}

// revocationWaits is why a revocation may not begin; nil if it may. Neither Now nor an approval can help where it would be left half done.
func (s *Snapshot) revocationWaits(approved bool) *Waiting {
	const now = "; certificateAuthority.revokeNow lets it begin all the same"
	const inPlace = "; certificateAuthority.revokeNow restarts this one in place at once"
	held := slices.IndexFunc(s.Pods, func(p Pod) bool { return !p.Terminating && p.HeldBy != "" })
	switch {
	case s.Roll.Paused:
		return &Waiting{Reason: v1alpha1.ReasonPaused, Message: "spec.paused of the policy keeps the operator from restarting pods"}
	case s.Revocation.Unusable != "":
		return &Waiting{Reason: v1alpha1.ReasonNotAccepted, UserMustAct: true, Message: s.Revocation.Unusable}
	case s.ClockSkew != "":
		return &Waiting{Reason: v1alpha1.ReasonClockSkew, UserMustAct: true, Message: s.ClockSkew}
	case !s.Running() || len(s.live(injected)) == 0:
		return nil
	case s.Roll.HeadBlockedBy != "":
		return &Waiting{
			Reason: v1alpha1.ReasonBlocked, BlockedBy: s.Roll.HeadBlockedBy, UserMustAct: s.Revocation.Now,
			Message: s.Roll.HeadBlockedWhy + "; delete the RayCluster or its RayJob to be rid of the authority",
		}
	case s.Revocation.Now:
		return nil
	case s.BlockedBy != "":
		return &Waiting{Reason: v1alpha1.ReasonBlocked, BlockedBy: s.BlockedBy, Message: s.BlockedWhy + now}
	case held >= 0 && s.Service == nil:
		return &Waiting{Reason: v1alpha1.ReasonBlocked, BlockedBy: s.Pods[held].HeldBy, Message: s.Pods[held].HeldWhy + now}
	case s.Queued && !approved:
		return &Waiting{
			Reason: v1alpha1.ReasonBlocked, BlockedBy: Kueue, Approvable: true,
			Message: "the cluster runs in a Kueue queue, and Kueue evicts it when its templates change; suspend it, or approve the eviction" + now,
		}
	case !s.Immediate && !approved && s.Service != nil:
		return &Waiting{
			Reason: v1alpha1.ReasonAwaitingApproval, Approvable: true,
			Message: fmt.Sprintf("RayService %s has to replace the cluster by a new one, without downtime; approve that%s", s.Service.Name, inPlace),
		}
	case !s.Immediate && !approved:
		return &Waiting{Reason: v1alpha1.ReasonAwaitingApproval, Approvable: true, Message: "suspend the cluster, or approve the restart" + now}
	case s.rolling():
		return nil // it has its slot, and its window is past
	case s.NoSlot != "":
		return &Waiting{Reason: v1alpha1.ReasonWaitingForSlot, Message: s.NoSlot + now}
	case !s.Opens.IsZero():
		return &Waiting{
			Reason:  v1alpha1.ReasonWaitingForWindow,
			Message: fmt.Sprintf("the restart begins when the next window of rollout.windows opens, at %s%s", kube.FormatTime(s.Opens), now),
		}
	}
	return nil
}

// replaceRevoked has the RayService replace the cluster by one with an authority of its own, without downtime.
// waits is what that waits for; nil for nothing.
func (p *Plan) replaceRevoked(s *Snapshot, waits *Waiting) {
	service := s.Service
	var other Plan
	switch {
	case s.renewing():
		if p.Roll.Message != "" {
			p.awaitRevocation(s, p.Roll)
		}
	case other.notServing(s):
		p.awaitRevocation(s, Waiting{Reason: v1alpha1.ReasonBlocked, BlockedBy: "RayService/" + service.Name, Message: other.Message})
	case service.Refuses != "":
		p.awaitRevocation(s, Waiting{Reason: v1alpha1.ReasonBlocked, BlockedBy: "RayService/" + service.Name, Message: service.Refuses, UserMustAct: true})
	case service.Next != "":
		p.awaitRevocation(s, Waiting{Reason: v1alpha1.ReasonBlocked, BlockedBy: "RayService/" + service.Name, Message: s.upgraded()})
	case service.Asked == service.Ask:
		p.resume(s)
		p.Evict, p.Roll = nil, Waiting{}
	case waits != nil:
		p.awaitRevocation(s, *waits)
	default:
		*p = Plan{Record: s.Record, Report: Report{Reason: p.Reason, Message: p.Message}}
		p.ask(s)
		p.Event = &Event{Reason: eventRevoking, Message: fmt.Sprintf("asked RayService %s for a new cluster, which has an authority of its own, since %s", service.Name, s.Revocation.Asked)}
	}
}

// planRevoking continues a revocation. The new keys are there, or are made before anything of this plan is done.
func planRevoking(s *Snapshot, p *Plan) {
	p.Reason = v1alpha1.ReasonRevoking
	end := s.phaseEnd()
	if !s.allInjected() {
		p.Edit, p.Message = InjectAll, "putting the new authority's Secret into all templates"
		if !s.Now.Before(end) {
			p.Edit, p.Progress = NoEdit, nil // from now on, the rules for a stripped encrypted cluster apply
		}
		return
	}
	old, altered := s.live(s.superseded), s.live(s.altered)
	left := s.pods(func(p Pod) bool { return p.Terminating && (revoked(p) || !p.Injected) })
	uncertified := s.live(and(injected, func(p Pod) bool { return !p.Certified }))
	headless := !s.Suspended && len(s.live(and(head, certified))) == 0
	switch {
	case len(old) > 0 && (s.Queued || s.Recreate && !s.Observed) && s.Now.Before(s.Progress.Since.Add(RecreatePatience)):
		p.Message, p.RequeueAt = deleter(s)+" restarts the pods", s.Progress.Since.Add(RecreatePatience)
	case len(old) > 0:
		p.Delete, p.Message = old, "restarting "+count(len(old))+" together with a new authority"
	case len(left) > 0 && s.Now.Before(end): // a node that is lost never ends its pods, and nobody trusts them any more
		p.await(s, fmt.Sprintf("until %s of the revoked authority ended", count(len(left))))
	case (len(uncertified) > 0 || headless) && s.Now.Before(end):
		p.Message, p.RequeueAt = "waiting until the new pods, the head among them, have certificates of the new authority", end
		if bad := s.live(and(injected, failed)); len(bad) > 0 {
			p.Reason, p.Message = v1alpha1.ReasonCertificateFailed, fmt.Sprintf("pod %s: %s", bad[0].Name, bad[0].Failure)
		}
	default:
		p.Progress = nil
		p.say(v1alpha1.ReasonRevoking, "no pod has a certificate of a generation below %d", s.RevokedBefore)
		if len(left) > 0 {
			p.say(v1alpha1.ReasonRevoking, "no pod has a certificate of a generation below %d, but for %s that were deleted and have not ended, pod %s among them", s.RevokedBefore, count(len(left)), left[0].Name)
		}
		p.Event.Reason = eventRevoked
		if len(altered) > 0 {
			p.alter(altered)
			p.Event = &Event{Warning: true, Reason: p.Reason, Message: p.Message}
		}
	}
}

// superseded reports whether the pod cannot talk to pods of the present authority, and comes from an earlier template. Its record of the
// injection tells of which. Clocks differ, so the time alone is no proof, but it bounds the deletions.
func (s *Snapshot) superseded(p Pod) bool {
	if !revoked(p) {
		return !p.Injected && s.stale(p)
	}
	at, found := s.changed(p.Group)
	return p.Earlier && (!found || p.Created.Before(at.Add(inEffect+2*kube.ClockTolerance)))
}
