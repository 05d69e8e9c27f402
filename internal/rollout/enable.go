package rollout

import (
	"cmp"
	"fmt"
	"slices"
	"time"

	"github.com/raytls/raytls/api/v1alpha1"
	"github.com/raytls/raytls/internal/kube"
)

// planEnable begins to enable a cluster that is not on record as encrypted.
func planEnable(s *Snapshot, p *Plan) {
	if !s.Running() && !s.betweenPods() || s.injecting() {
		p.inject(s, "the cluster has no work to lose")
		return
	}
	if altered := s.live(s.altered); len(altered) > 0 && s.allInjected() && len(s.live(and(plaintext, s.stale))) == 0 {
		p.enabled() // what the templates hold is not what keeps these pods from TLS, so no restart could help
		p.alter(altered)
		return
	}
	if top, _ := s.template(""); s.allInjected() && len(s.live(plaintext)) == 0 || top.Pieces && len(s.live(and(head, injected))) > 0 {
		p.enabled()
		p.Reason, p.Message = v1alpha1.ReasonEnabling, "the cluster is encrypted already; recording it"
		return
	}
	if left := s.leftovers(); len(left) > 0 {
		p.Reason, p.Message = v1alpha1.ReasonEnableFailed, fmt.Sprintf("restarting %s made while the templates were being put back", count(len(left)))
		p.Delete = left
		return
	}
	if s.Service != nil {
		planReplace(s, p)
		return
	}
	if len(s.live(and(head, injected))) > 0 {
		p.Reason, p.UserMustAct = v1alpha1.ReasonFieldConflict, true
		p.Message = fmt.Sprintf("the head is encrypted, but %stook the injection and the record of it out of the RayCluster's spec, so new pods cannot join; let that tool ignore what is named raytls, or suspend the cluster, and it will be injected again", manager(s))
		return
	}
	if !allowed(s, p) {
		if s.half() {
			p.removeAll(s) // the record of an attempt was lost, so nothing would continue it
		}
		return
	}
	p.forgetFailure()
	if s.Recreate || s.Queued {
		p.Edit, p.Progress = InjectAll, s.next(v1alpha1.PhaseAll)
		p.say(v1alpha1.ReasonEnabling, "changing all templates at once; %s deletes the pods", deleter(s))
		return
	}
	if canaries := s.canaries(); len(canaries) > 0 {
		p.startCanaries(s, canaries)
		return
	}
	p.startHead(s, false)
}

// allowed reports whether a running cluster may be restarted now, and puts the reason in the plan if not.
func allowed(s *Snapshot, p *Plan) bool {
	switch {
	case s.ClockSkew != "":
		p.Reason, p.Message, p.UserMustAct = v1alpha1.ReasonClockSkew, s.ClockSkew, true
	case s.BlockedBy != "":
		p.Reason, p.BlockedBy, p.Message = v1alpha1.ReasonBlocked, s.BlockedBy, s.BlockedWhy
	case s.Hazard != "" && s.Goal == v1alpha1.GoalEncrypted && s.Progress == nil:
		p.Reason, p.BlockedBy, p.UserMustAct = v1alpha1.ReasonHazard, s.Hazard, true
		p.Message = fmt.Sprintf("%s %s; no pod is restarted until the field or the policy is corrected; or suspend the cluster to have it start encrypted as it is", s.Hazard, s.HazardWhy)
	case s.Approved && s.NoSlot == "" && s.Opens.IsZero():
		return true
	case s.Goal == v1alpha1.GoalEncrypted && s.failedBefore() && !s.Approved:
		p.Reason, p.UserMustAct = v1alpha1.ReasonEnableFailed, true
		p.Message = fmt.Sprintf("enabling failed and was put back: %s; it is tried again when the cluster's templates or the policy's parameters change, or when you approve the restart", s.FailedBecause)
	case s.Queued && !s.Approved:
		p.Reason, p.BlockedBy = v1alpha1.ReasonBlocked, Kueue
		p.Message = "the cluster runs in a Kueue queue, and Kueue evicts it when its templates change; suspend it, or approve the eviction"
		if s.Service != nil {
			p.Message = fmt.Sprintf("the cluster runs in a Kueue queue, and the one that RayService %s would replace it by has to be admitted beside it; approve that", s.Service.Name)
		}
	case s.Recreate && !s.Approved:
		p.Reason = v1alpha1.ReasonAwaitingApproval
		p.Message = "with upgradeStrategy Recreate, KubeRay restarts all pods at once and allows no canary; suspend the cluster, or approve the restart"
	case s.Service != nil && s.Service.Missed && !s.Approved:
		p.Reason = v1alpha1.ReasonAwaitingApproval
		p.Message = fmt.Sprintf("RayService %s made this cluster to be %s, and moved its traffic to it before it was; approve another one", s.Service.Name, s.adjective())
	case !s.Immediate && !s.Approved:
		p.Reason = v1alpha1.ReasonAwaitingApproval
		p.Message = fmt.Sprintf("the cluster runs, and to become %s its pods have to be restarted; suspend it, or approve the restart", s.adjective())
		if s.Service != nil {
			p.Message = fmt.Sprintf("the cluster serves, and to become %s RayService %s has to replace it by a new one, without downtime; approve that", s.adjective(), s.Service.Name)
		}
	case s.NoSlot != "":
		p.Reason, p.Message = v1alpha1.ReasonWaitingForSlot, s.NoSlot
	case !s.Opens.IsZero():
		p.Reason, p.Message = v1alpha1.ReasonWaitingForWindow, fmt.Sprintf("the restart begins when the next window of rollout.windows opens, at %s", kube.FormatTime(s.Opens))
		p.RequeueAt = s.Opens
	default:
		return true
	}
	p.RestartWaits = true
	return false
}

// half reports whether a cluster with a plaintext head carries the injection, so its pods cannot talk.
func (s *Snapshot) half() bool {
	if len(s.live(and(head, plaintext))) == 0 {
		return false
	}
	return len(s.live(and(injected, s.stale))) > 0 || s.anyPieces() && (!s.allInjected() || len(s.live(injected)) > 0)
}

// enabled records the cluster as encrypted.
func (p *Plan) enabled() {
	p.Enabled = true
	p.forgetFailure()
}

func (p *Plan) forgetFailure() {
	p.FailedAttempt, p.FailedBecause, p.FailedAt = "", "", time.Time{}
}

// canaries picks a ready pod of each kind of worker template.
func (s *Snapshot) canaries() map[string]string {
	out := map[string]string{}
	seen := map[string]bool{}
	for _, t := range s.Templates {
		if t.Group == "" || t.Replicas == 0 || seen[t.CanaryKey] {
			continue
		}
		ready := s.live(and(in(t.Group), plaintext, func(p Pod) bool { return p.Ready && !s.altered(p) }))
		if len(ready) == 0 {
			continue
		}
		youngest := slices.MinFunc(ready, func(a, b Pod) int { return cmp.Or(b.Created.Compare(a.Created), cmp.Compare(a.Name, b.Name)) })
		seen[t.CanaryKey] = true
		out[t.Group] = youngest.Name // it has the least to lose
	}
	return out
}

// injecting reports whether the templates were injected while the cluster had no work to lose, which is not on record yet. The
// cluster may have come up since then.
func (s *Snapshot) injecting() bool {
	return !s.Enabled && !s.InjectedAt.IsZero() && (s.anyPieces() || len(s.live(injected)) > 0)
}

// inject changes all templates of a cluster without work to lose at once. Its plaintext pods are deleted afterwards. The record
// of a restart or a failure stays until the templates are injected, because the cluster may come up before that.
func (p *Plan) inject(s *Snapshot, why string) {
	if s.allInjected() {
		p.Progress = nil
		// The record follows the templates, so that templates which were never written do not count as stripped.
		p.enabled()
		p.Reason, p.Message = v1alpha1.ReasonEnabling, "all templates are injected"
		if len(s.live(and(plaintext, s.stale))) == 0 {
			report(s, p)
		}
		return
	}
	p.Edit, p.InjectedAt = InjectAll, s.stamp()
	p.say(v1alpha1.ReasonEnabling, "injected into all templates: %s", why)
}
