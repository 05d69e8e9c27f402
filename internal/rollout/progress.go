package rollout

import (
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/raytls/raytls/api/v1alpha1"
)

// planEnabling goes on with enabling a running cluster.
func planEnabling(s *Snapshot, p *Plan) {
	// While the head is the one that is being replaced, having no pods is the restart itself.
	if s.Suspended || len(s.pods(every)) == 0 && s.Progress.Phase != v1alpha1.PhaseHead {
		p.inject(s, "the cluster stopped meanwhile")
		return
	}
	p.Reason = v1alpha1.ReasonEnabling
	canReturn := s.Progress.Phase == v1alpha1.PhaseCanary || s.Progress.Phase == v1alpha1.PhaseHead && len(s.live(and(head, plaintext))) > 0
	if s.BlockedBy != "" && canReturn {
		// Nothing failed: it begins anew when the block ends.
		p.Edit, p.Progress = RemoveAll, s.next(v1alpha1.PhaseRevert)
		p.say(v1alpha1.ReasonEnabling, "put back, since %s came up before the head was restarted: %s", s.BlockedBy, s.BlockedWhy)
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

// planCanary sees each canary's replacement make its certificate, and then goes on to the head.
func planCanary(s *Snapshot, p *Plan) {
	var waiting []string
	var going []Pod
	shown := false
	for _, group := range keys(s.Progress.Canaries) {
		t, exists := s.template(group)
		if !exists || t.Replicas == 0 {
			continue // nobody is left to show anything
		}
		if !t.Injected {
			p.reinject(s, keys(s.Progress.Canaries), "injecting into the templates of the pods that go first")
			return
		}
		if old := s.canary(group); len(old) > 0 {
			going = append(going, old...)
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
	if len(going) > 0 {
		p.Message = "restarting " + names(going)
		p.restart(s, going)
		return
	}
	if len(waiting) > 0 {
		p.await(s, "for the replacement of pod "+strings.Join(waiting, " and pod "))
		return
	}
	if others := s.canaries(); !shown && len(others) > 0 {
		p.startCanaries(s, others)
		return
	}
	p.startHead(s, shown)
}

// reinject puts back what somebody changed since the phase began, for as long as the phase may last.
func (p *Plan) reinject(s *Snapshot, groups []string, message string) {
	if !s.Now.Before(s.phaseEnd()) {
		p.revert(s, manager(s)+"took the injection out of the templates again")
		return
	}
	p.Edit, p.Groups, p.Message = Inject, groups, message
}

// canary is the group's pod that goes first and has yet to go. If KubeRay replaced it before it had seen the new
// template, its replacement goes too.
func (s *Snapshot) canary(group string) []Pod {
	name := s.Progress.Canaries[group]
	all := s.pods(in(group))
	if at := slices.IndexFunc(all, func(p Pod) bool { return p.Name == name }); at >= 0 {
		return s.live(and(in(group), plaintext, func(p Pod) bool { return p.Name == name }))
	}
	if slices.ContainsFunc(all, injected) {
		return nil
	}
	old := s.live(and(in(group), plaintext, func(p Pod) bool { return !p.Created.Before(s.Progress.Since) }))
	return old[:min(1, len(old))]
}

func (p *Plan) startCanaries(s *Snapshot, canaries map[string]string) {
	p.Edit, p.Groups, p.Progress = Inject, keys(canaries), s.next(v1alpha1.PhaseCanary)
	p.Progress.Canaries = canaries
	p.say(v1alpha1.ReasonEnabling, "first, pod %s shows whether certificates can be made", strings.Join(values(canaries), " and pod "))
}

func (p *Plan) startHead(s *Snapshot, shown bool) {
	p.Edit, p.Groups, p.Progress = Inject, []string{""}, s.next(v1alpha1.PhaseHead)
	if shown {
		p.say(v1alpha1.ReasonEnabling, "certificates can be made by workers; now the head")
		return
	}
	p.say(v1alpha1.ReasonEnabling, "no worker group has a ready pod that could go first; the head does")
}

// planHead sees the new head make its certificate, and then goes on to everything else.
func planHead(s *Snapshot, p *Plan) {
	if t, _ := s.template(""); !t.Injected {
		p.reinject(s, []string{""}, "injecting into the head's template")
		return
	}
	if old := s.live(and(head, plaintext)); len(old) > 0 {
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

// planRest restarts what is left. From here on there is no way back: the head is encrypted.
func planRest(s *Snapshot, p *Plan) {
	if !s.allInjected() {
		p.Edit = InjectAll
		p.Message = "injecting into all templates"
		if !s.Now.Before(s.phaseEnd()) {
			// Whoever takes it out again and again is from now on met by what holds for an encrypted cluster.
			p.Edit, p.Progress, p.Enabled = NoEdit, nil, true
		}
		return
	}
	left := s.pods(plaintext)
	if live := s.live(plaintext); len(live) > 0 && !s.leftToOthers() {
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
			p.say(v1alpha1.ReasonEncrypted, "all pods that run are encrypted; %s have yet to make a certificate", count(len(uncertified)))
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

// leftToOthers reports whether KubeRay or Kueue deletes the pods. KubeRay does not always, and need not say that it has seen the
// change (it writes observedGeneration only together with something else), so that both have the deadline to do it.
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

// shown reports whether an injected pod of the group has its certificate, or why none will have it.
func (s *Snapshot) shown(group string) (done bool, why string) {
	fresh := s.live(and(in(group), injected))
	for _, p := range s.Ended {
		if p.Group == group && p.Injected && !p.Created.Before(s.Progress.Since) {
			fresh = append(fresh, p) // with restartPolicy Never, the init container's failure is the pod's end
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

// phaseStart is when the phase's time begins to run. A pod's grace period is its user's: it does not count.
func (s *Snapshot) phaseStart() time.Time {
	begun := s.Progress.Since
	if s.Progress.From.After(begun) {
		begun = s.Progress.From
	}
	for _, p := range s.pods(plaintext) {
		if p.Terminating && p.Deadline.After(begun) {
			begun = p.Deadline
		}
	}
	return begun
}

// phaseEnd is when the phase has taken too long.
func (s *Snapshot) phaseEnd() time.Time { return s.phaseStart().Add(s.Deadline) }

// startClock keeps on record from when the phase's time runs, since the pods that it was taken from will be gone.
func (p *Plan) startClock(s *Snapshot, at time.Time) {
	if at.After(s.Progress.Since) && at.After(s.Progress.From) {
		next := *s.Progress
		next.From = at.UTC().Truncate(time.Second)
		p.Progress = &next
	}
}

// restart deletes the pods. If the phase's time ran out before that, nobody was there to act on it, and it begins anew.
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
	p.RequeueAt = s.phaseEnd()
}

// revert gives the cluster its templates back.
func (p *Plan) revert(s *Snapshot, why string) {
	p.Edit, p.Groups, p.Progress = RemoveAll, nil, s.next(v1alpha1.PhaseRevert)
	p.Enabled, p.InjectedAt, p.Delete, p.RequeueAt = false, time.Time{}, nil, time.Time{}
	p.FailedAttempt, p.FailedBecause, p.FailedAt = s.Attempt, why, s.stamp()
	p.warn(v1alpha1.ReasonEnableFailed, "enabling failed and is put back: %s", why)
}

// planRevert restarts the pods that were touched from the templates that are back.
func planRevert(s *Snapshot, p *Plan) {
	p.Reason, p.Message = v1alpha1.ReasonEnableFailed, "enabling failed, and the pods that were touched are restarted in plaintext: "+s.FailedBecause
	if s.FailedAttempt == "" {
		p.Reason, p.Message = v1alpha1.ReasonEnabling, "enabling was put off, and the pods that were touched are restarted in plaintext"
	}
	switch {
	case s.anyPieces():
		p.Edit = RemoveAll
	case len(s.live(injected)) > 0:
		p.Delete = s.live(injected)
	case len(s.pods(injected)) > 0:
	case s.FailedAttempt == "" && !s.Suspended && s.Now.Before(s.Progress.Since.Add(overtakenBy)):
		// Without a failure on record, nothing would tell whose the pods are that KubeRay makes late from the templates before.
		p.RequeueAt = s.Progress.Since.Add(overtakenBy)
	default:
		p.Progress = nil
	}
}
