package rollout

import (
	"fmt"
	"maps"
	"slices"
	"time"

	"github.com/raytls/raytls/api/v1alpha1"
)

// planEnabling continues to enable a running cluster.
func planEnabling(s *Snapshot, p *Plan) {
	// While the operator restarts the head, having no pods is the restart itself.
	if s.Suspended || len(s.Pods) == 0 && s.Progress.Phase != v1alpha1.PhaseHead {
		p.inject(s, "the cluster stopped meanwhile")
		return
	}
	p.Reason = v1alpha1.ReasonEnabling
	canReturn := s.Progress.Phase == v1alpha1.PhaseCanary || s.Progress.Phase == v1alpha1.PhaseHead && len(s.live(and(head, plaintext))) > 0
	if s.BlockedBy != "" && canReturn {
		// Nothing failed, so enabling begins anew when the block ends.
		p.Edit, p.Progress = RemoveAll, s.next(v1alpha1.PhaseRevert)
		p.say(v1alpha1.ReasonEnabling, "put back, since %s came up before the head was restarted: %s", s.BlockedBy, s.BlockedWhy)
		return
	}
	early := s.Progress.Phase == v1alpha1.PhaseCanary || s.Progress.Phase == v1alpha1.PhaseHead
	if altered := s.live(s.altered); early && len(altered) > 0 {
		p.revert(s, fmt.Sprintf("pod %s is not as its template: %s; correct the webhook or admission policy that changes pods", altered[0].Name, altered[0].Differs))
		return
	}
	switch s.Progress.Phase {
	case v1alpha1.PhaseCanary:
		planCanary(s, p)
	case v1alpha1.PhaseHead:
		planHead(s, p)
	default:
		planRest(s, p)
	}
}

// planCanary waits until each canary's replacement has its certificate, and then continues with the head.
func planCanary(s *Snapshot, p *Plan) {
	var waiting, leaving []string
	var old []Pod
	shown := false
	groups := slices.Sorted(maps.Keys(s.Progress.Canaries))
	for _, group := range groups {
		t, exists := s.template(group)
		if !exists || t.Replicas == 0 {
			continue // no pod is left that could get a certificate
		}
		if !t.Injected {
			p.reinject(s, groups, "injecting into the templates of the pods that go first")
			return
		}
		if canary := s.canary(group); len(canary) > 0 {
			old, leaving = append(old, canary[0]), append(leaving, canary[0].Name)
			continue
		}
		switch done, why := s.shown(group); {
		case why != "":
			p.revert(s, why)
			return
		case !done:
			waiting = append(waiting, s.Progress.Canaries[group])
		default:
			shown = true
		}
	}
	if len(old) > 0 {
		p.Message = "restarting " + list(leaving)
		p.restart(s, old)
		return
	}
	if len(waiting) > 0 {
		p.await(s, "for the replacement of "+list(waiting))
		return
	}
	if others := s.canaries(); !shown && len(others) > 0 {
		p.startCanaries(s, others)
		return
	}
	p.startHead(s, shown)
}

// reinject restores what somebody changed since the phase began, until the phase ends.
func (p *Plan) reinject(s *Snapshot, groups []string, message string) {
	if !s.Now.Before(s.phaseEnd()) {
		p.revert(s, manager(s)+"took the injection out of the templates again")
		return
	}
	p.Edit, p.Groups, p.Message = Inject, groups, message
}

// canary returns the group's canary until it is deleted. If KubeRay replaced it from the old template, its replacement must
// go as well.
func (s *Snapshot) canary(group string) []Pod {
	name := s.Progress.Canaries[group]
	all := s.pods(in(group))
	if at := slices.IndexFunc(all, func(p Pod) bool { return p.Name == name }); at >= 0 {
		return s.live(and(in(group), plaintext, func(p Pod) bool { return p.Name == name }))
	}
	if slices.ContainsFunc(all, injected) {
		return nil
	}
	old := s.live(and(in(group), plaintext, s.stale, func(p Pod) bool { return !p.Created.Before(s.Progress.Since) }))
	return old[:min(1, len(old))]
}

func (p *Plan) startCanaries(s *Snapshot, canaries map[string]string) {
	p.Edit, p.Groups, p.Progress = Inject, slices.Sorted(maps.Keys(canaries)), s.next(v1alpha1.PhaseCanary)
	p.Progress.Canaries = canaries
	var pods []string
	for _, group := range p.Groups {
		pods = append(pods, canaries[group])
	}
	p.say(v1alpha1.ReasonEnabling, "first, %s shows whether certificates can be made", list(pods))
}

func (p *Plan) startHead(s *Snapshot, shown bool) {
	p.Edit, p.Groups, p.Progress = Inject, []string{""}, s.next(v1alpha1.PhaseHead)
	if shown {
		p.say(v1alpha1.ReasonEnabling, "certificates can be made by workers; now the head")
		return
	}
	p.say(v1alpha1.ReasonEnabling, "no worker group has a ready pod that could go first; the head does")
}

// planHead waits until the new head has its certificate, and then continues with all other pods.
func planHead(s *Snapshot, p *Plan) {
	if t, _ := s.template(""); !t.Injected {
		p.reinject(s, []string{""}, "injecting into the head's template")
		return
	}
	if old := s.live(and(head, plaintext, s.stale)); len(old) > 0 {
		p.Message = "restarting the head"
		p.restart(s, old)
		return
	}
	switch done, why := s.shown(""); {
	case why != "":
		p.revert(s, why)
	case !done:
		p.await(s, "for the new head")
	default:
		p.Edit, p.Progress = InjectAll, s.next(v1alpha1.PhaseRest)
		if s.allInjected() {
			p.Edit = NoEdit
		}
		p.Enabled, p.InjectedAt = true, s.stamp()
		p.say(v1alpha1.ReasonEnabling, "the head is encrypted; now all other pods")
	}
}

// planRest restarts all other pods. It cannot revert, because the head is encrypted.
func planRest(s *Snapshot, p *Plan) {
	if !s.allInjected() {
		p.Edit = InjectAll
		p.Message = "injecting into all templates"
		if !s.Now.Before(s.phaseEnd()) {
			// From now on, the rules for a stripped encrypted cluster apply.
			p.Edit, p.Progress, p.Enabled = NoEdit, nil, true
		}
		return
	}
	altered := s.live(s.altered)
	left := slices.DeleteFunc(s.pods(plaintext), func(p Pod) bool { return !p.Terminating && s.settled(p) })
	if live := s.live(and(plaintext, s.stale)); len(live) > 0 && !s.leftToOthers() {
		p.Delete = live
		p.Message = fmt.Sprintf("restarting %s", count(len(live)))
		return
	}
	uncertified := s.live(and(injected, func(p Pod) bool { return !p.Certified }))
	end := s.phaseEnd()
	if len(left) == 0 && (len(uncertified) == 0 || !s.Now.Before(end)) {
		p.Progress, p.Enabled = nil, true
		p.say(v1alpha1.ReasonEncrypted, "all pods are encrypted")
		if len(uncertified) > 0 {
			p.say(v1alpha1.ReasonPodsStarting, "the restart is over; certificates are missing on %s", count(len(uncertified)))
		}
		if len(altered) > 0 {
			p.alter(altered)
			p.Event = &Event{Warning: true, Reason: p.Reason, Message: p.Message}
		}
		return
	}
	p.Message = fmt.Sprintf("%s without TLS and %s that make their certificates are left", count(len(left)), count(len(uncertified)))
	if bad := s.live(and(injected, failed)); len(bad) > 0 {
		p.Reason, p.Message = v1alpha1.ReasonCertificateFailed, fmt.Sprintf("pod %s: %s", bad[0].Name, bad[0].Failure)
	}
	if s.Now.Before(end) {
		p.RequeueAt = end
	}
	if s.leftToOthers() && s.Recreate {
		p.RequeueAt = s.Progress.Since.Add(RecreatePatience)
	}
}

// leftToOthers reports whether KubeRay or Kueue deletes the pods. KubeRay does not always delete them, and writes
// observedGeneration only together with another change, so both have a deadline.
func (s *Snapshot) leftToOthers() bool {
	if s.Progress.Phase != v1alpha1.PhaseAll {
		return false
	}
	if s.Queued {
		return s.Now.Before(s.phaseEnd())
	}
	return s.Recreate && !s.Observed && s.Now.Before(s.Progress.Since.Add(RecreatePatience))
}

// RecreatePatience is how long KubeRay has to delete the pods of a cluster with upgradeStrategy Recreate.
const RecreatePatience = 30 * time.Second

// shown reports whether an injected pod of the group has its certificate, or why none will get it.
func (s *Snapshot) shown(group string) (done bool, why string) {
	fresh := s.live(and(in(group), injected))
	for _, p := range s.Ended {
		if p.Group == group && p.Injected && !p.Created.Before(s.Progress.Since) {
			fresh = append(fresh, p) // with restartPolicy Never, the init container's failure ends the pod
		}
	}
	if slices.ContainsFunc(fresh, certified) {
		return true, ""
	}
	if bad := slices.IndexFunc(fresh, failed); bad >= 0 {
		return false, fmt.Sprintf("pod %s: %s", fresh[bad].Name, fresh[bad].Failure)
	}
	if !s.Now.Before(s.phaseEnd()) {
		return false, fmt.Sprintf("no replacement made its certificate within %s", s.Deadline)
	}
	return false, ""
}

// phaseStart returns when the phase's time begins. A pod's grace period does not count, because its user chose it.
func (s *Snapshot) phaseStart() time.Time {
	begun := slices.MaxFunc([]time.Time{s.Progress.Since, s.Progress.From}, time.Time.Compare)
	for _, p := range s.pods(func(p Pod) bool { return !p.Injected || p.Revoked != "" }) {
		if p.Terminating && p.Deadline.After(begun) {
			begun = p.Deadline
		}
	}
	return begun
}

func (s *Snapshot) phaseEnd() time.Time { return s.phaseStart().Add(s.Deadline) }

// startClock records when the phase's time begins, because the pods from which it was computed will be gone.
func (p *Plan) startClock(s *Snapshot, at time.Time) {
	if at.After(s.Progress.Since) && at.After(s.Progress.From) {
		next := *s.Progress
		next.From = at.UTC().Truncate(time.Second)
		p.Progress = &next
	}
}

// restart deletes the pods. If the phase's time ended before that, the operator was away, and the time begins anew.
func (p *Plan) restart(s *Snapshot, pods []Pod) {
	if !s.Now.Before(s.phaseEnd()) {
		p.startClock(s, s.Now)
		return
	}
	p.Delete = pods
}

func (p *Plan) await(s *Snapshot, what string) {
	p.Message = "waiting " + what
	p.startClock(s, s.phaseStart())
	if end := s.phaseEnd(); s.Now.Before(end) {
		p.RequeueAt = end
	}
}

// revert gives the cluster its templates back.
func (p *Plan) revert(s *Snapshot, why string) {
	p.Edit, p.Groups, p.Progress = RemoveAll, nil, s.next(v1alpha1.PhaseRevert)
	p.Enabled, p.InjectedAt, p.Delete, p.RequeueAt = false, time.Time{}, nil, time.Time{}
	p.FailedAttempt, p.FailedBecause, p.FailedAt, p.Attempted = s.Attempt, why, s.stamp(), s.stamp()
	p.say(v1alpha1.ReasonEnableFailed, "enabling failed and is put back: %s", why)
	p.Event.Warning = true
}

// planRevert restarts the injected pods from the restored templates. A pod with some pieces that is ready works without TLS.
func planRevert(s *Snapshot, p *Plan) {
	p.Reason, p.Message = v1alpha1.ReasonEnableFailed, "enabling failed, and the pods that were touched are restarted in plaintext: "+s.FailedBecause
	if s.FailedAttempt == "" {
		p.Reason, p.Message = v1alpha1.ReasonEnabling, "enabling was put off, and the pods that were touched are restarted in plaintext"
	}
	broken := func(p Pod) bool { return p.Injected || p.Pieces && !p.Ready }
	left := slices.DeleteFunc(s.pods(broken), func(p Pod) bool { return !p.Terminating && s.settled(p) })
	switch live := s.live(and(broken, s.stale)); {
	case s.anyPieces():
		p.Edit = RemoveAll
	case len(live) > 0:
		p.Delete = live
	case len(left) > 0:
	case s.FailedAttempt == "" && !s.Suspended && s.Now.Before(s.Progress.Since.Add(overtakenBy)):
		// Without a recorded failure, nothing later would identify pods that KubeRay still makes from the old templates.
		p.RequeueAt = s.Progress.Since.Add(overtakenBy)
	default:
		p.Progress = nil
	}
}
