package rollout

import (
	"fmt"
	"slices"
	"time"

	"github.com/raytls/raytls/api/v1alpha1"
	"github.com/raytls/raytls/internal/kube"
)

// Reasons of the events of a roll.
const (
	eventRolling    = "Rolling"
	eventRolled     = "Rolled"
	eventRollPaused = "RollPaused"
)

// rolling reports whether a roll is under way.
func (s *Snapshot) rolling() bool {
	return s.Progress != nil && s.Progress.Phase == v1alpha1.PhaseRoll
}

// renewing reports whether the RayService replaces an encrypted cluster for a new certificate of its head.
func (s *Snapshot) renewing() bool {
	return s.upgrading() && s.Goal == v1alpha1.GoalEncrypted && s.Enabled && s.allInjected() && len(s.live(and(plaintext, s.stale))) == 0
}

// planRoll brings the pods of an encrypted cluster onto new certificates: workers first, as the budget allows, and the head last. The
// cluster stays encrypted meanwhile, so the report of it stays too.
func planRoll(s *Snapshot, p *Plan) {
	p.RequeueAt = kube.Earlier(p.RequeueAt, s.nextDue())
	f, due := s.fleet(), s.allDue()
	if s.Roll.Paused {
		p.paused(s, due) // nothing is written for a paused policy, not even how far a roll has come
		return
	}
	p.forgetRefusals(s)
	p.track(s, f)
	switch {
	case s.renewing():
		p.renewed(s)
	case len(due) == 0:
		p.finish(s, f)
	case p.Reason != v1alpha1.ReasonEncrypted && (!s.late(due) || len(s.live(and(head, certified))) == 0):
		if p.UserMustAct || s.late(due) && !s.rolling() {
			p.faulty(s, due)
		}
		p.rest(s, f)
	case s.Service != nil && !s.Service.Serving:
		p.rest(s, f) // the RayService is about to move its traffic here, or to delete the cluster
	case s.Service != nil && s.Service.Next != "" && !s.late(due):
		if s.Service.Asked != s.Service.Ask {
			p.Roll = Waiting{Reason: v1alpha1.ReasonBlocked, BlockedBy: "RayService/" + s.Service.Name, Message: s.need(due) + "; " + s.upgraded()}
		}
		p.rest(s, f)
	case p.forbidden(s, due):
		p.rest(s, f)
	default:
		p.roll(s, f, due)
	}
	if refused := p.refused(); refused != nil && len(due) > 0 && p.Roll.Reason == "" {
		p.Roll = refused.waiting(s.need(due))
	}
}

// faulty reports that new certificates wait for a fault of the cluster to be mended.
func (p *Plan) faulty(s *Snapshot, due []Pod) {
	p.Roll = Waiting{Reason: v1alpha1.ReasonBlocked, Message: s.need(due) + "; a restart could make it worse while the cluster has this fault: " + p.Message}
}

// allDue are the pods that need new certificates. Those of groups that want no replica are on their way out.
func (s *Snapshot) allDue() []Pod {
	if s.Suspended {
		return nil
	}
	return s.live(func(p Pod) bool {
		t, known := s.template(p.Group)
		return (p.Group == "" || known && t.Replicas > 0) && s.due(p) != ""
	})
}

// paused reports what a paused policy keeps waiting.
func (p *Plan) paused(s *Snapshot, due []Pod) {
	if len(due) > 0 && p.Reason == v1alpha1.ReasonEncrypted {
		p.Roll = Waiting{Reason: v1alpha1.ReasonPaused, Message: s.need(due) + "; spec.paused of the policy keeps the operator from restarting pods"}
	}
}

// dueOf are those of the pods that need new certificates.
func (s *Snapshot) dueOf(pods []Pod) []Pod {
	return slices.DeleteFunc(slices.Clone(pods), func(p Pod) bool { return s.due(p) == "" })
}

// forbidden reports whether no pod may be restarted for a new certificate now, and puts the reason in the plan.
func (p *Plan) forbidden(s *Snapshot, due []Pod) bool {
	need, urgent := s.need(due), urgent(due)
	switch {
	case s.ClockSkew != "":
		p.Roll = Waiting{Reason: v1alpha1.ReasonClockSkew, Message: need + "; " + s.ClockSkew, UserMustAct: true}
	case s.Roll.BlockedBy != "":
		p.Roll = Waiting{Reason: v1alpha1.ReasonBlocked, BlockedBy: s.Roll.BlockedBy, Message: need + "; " + s.Roll.BlockedWhy}
	case s.Roll.OnDelete:
		p.Roll = Waiting{Reason: v1alpha1.ReasonOnDelete, Message: need + "; rollout.strategy OnDelete leaves the restart to you: delete the pods, the head last"}
	case s.rolling():
		return false
	case s.late(due):
		p.Urgent = true
		return false
	case s.NoSlot != "":
		p.Roll = Waiting{Reason: v1alpha1.ReasonWaitingForSlot, Message: need + "; " + s.NoSlot}
		p.RequeueAt = kube.Earlier(p.RequeueAt, urgent)
	case !s.Opens.IsZero():
		p.Roll = Waiting{Reason: v1alpha1.ReasonWaitingForWindow, Message: fmt.Sprintf("%s; the next window of rollout.windows opens at %s", need, kube.FormatTime(s.Opens))}
		if !urgent.IsZero() && s.Opens.After(urgent) {
			p.Roll.Reason = v1alpha1.ReasonWindowTooLate
			p.Roll.Message += fmt.Sprintf(", which is too late, so the restart begins at %s", kube.FormatTime(urgent))
		}
		p.RequeueAt = kube.Earlier(p.RequeueAt, kube.Earlier(s.Opens, urgent))
	default:
		return false
	}
	return true
}

// late reports whether one of these pods cannot wait any more.
func (s *Snapshot) late(due []Pod) bool {
	at := urgent(due)
	return !at.IsZero() && !s.Now.Before(at)
}

// urgent is from when on these pods wait for no window and for no other cluster: when the last sixth of a certificate's life begins. It
// is zero for never.
func urgent(due []Pod) time.Time {
	var out time.Time
	for _, pod := range due {
		if life := pod.Leaf.End.Sub(pod.Leaf.IssuedAt); !pod.Leaf.End.IsZero() && life > 0 {
			out = kube.Earlier(out, pod.Leaf.End.Add(-life/6))
		}
	}
	return out
}

// roll takes the next step of a cluster that may be rolled.
func (p *Plan) roll(s *Snapshot, f fleet, due []Pod) {
	heads := s.live(and(head, certified))
	// Anybody who may create pods can add a head. The one that is due must not be hidden by it.
	top := heads[max(0, slices.IndexFunc(heads, func(p Pod) bool { return s.due(p) != "" }))]
	headDue, quiet := s.due(top) != "", p.quietAt(s)
	moving, mayGo := s.Now.Before(quiet), s.headMayGo(quiet)
	c := s.choose(f)
	switch {
	case headDue && !top.Leaf.End.IsZero() && !s.Now.Before(top.Leaf.End):
		p.rollHead(s, f, top) // nobody can join this head any more
	case !top.Ready && moving && s.rolling():
		p.attend(quiet)
	case !top.Ready:
		p.pause(s, due, "Pod/"+top.Name, "the head is not ready, so no new worker can join it")
	case len(c.evict) > 0:
		p.evict(s, f, c.evict, s.need(due))
	case !c.young.IsZero():
		p.attend(c.young)
	case len(c.waiting) > 0 && moving && s.rolling():
		p.attend(quiet)
	case headDue && p.Reason != v1alpha1.ReasonEncrypted:
		p.faulty(s, due) // what the cluster's pods cannot do, a new head could not either
		p.rest(s, f)
	case len(c.waiting) > 0 && !(headDue && s.late([]Pod{top})):
		by, why := s.lacks(f)
		p.pause(s, due, by, why)
	case headDue && f.unavailable > 0 && moving:
		p.attendHead(s, f, top, quiet)
	case headDue && s.lost(f) && !s.late([]Pod{top}):
		by, why := s.lacks(f)
		p.pause(s, due, by, why)
	case headDue && s.rolling() && s.Now.Before(mayGo):
		p.attendHead(s, f, top, mayGo)
	case headDue:
		p.rollHead(s, f, top)
	default:
		p.Roll = Waiting{Reason: v1alpha1.ReasonBlocked, BlockedBy: c.held[0].heldBy, Message: s.need(s.dueOf(c.held[0].pods)) + "; " + c.held[0].heldWhy}
		p.rest(s, f)
	}
}

// rollHead restarts the head, or has the RayService replace the cluster, or says what that waits for.
func (p *Plan) rollHead(s *Snapshot, f fleet, top Pod) {
	need := s.need([]Pod{top})
	if seen := s.noticed([]Pod{top}); s.Now.Before(seen) {
		p.attend(seen)
		return
	}
	wait := func(w Waiting) {
		w.Message = need + "; " + w.Message
		p.Roll = w
		p.rest(s, f)
	}
	loses := s.Roll.Head == v1alpha1.HeadRestartIfFaultTolerant && !s.Roll.FaultTolerant
	heldBy, heldWhy := s.held(top)
	switch {
	case heldBy != "":
		wait(Waiting{Reason: v1alpha1.ReasonBlocked, BlockedBy: heldBy, Message: heldWhy})
	case s.Roll.Head == v1alpha1.HeadRestartNever:
		wait(Waiting{Reason: v1alpha1.ReasonBlocked, BlockedBy: "rollout.headRestart", Message: "rollout.headRestart Never leaves it to you: delete the pod, or suspend and resume the cluster"})
	case s.Queued && !s.Approved:
		wait(Waiting{Reason: v1alpha1.ReasonBlocked, BlockedBy: Kueue, Approvable: true, Message: "the cluster runs in a Kueue queue; suspend it, or approve the restart of the head"})
	case s.Service != nil && !s.Roll.FaultTolerant:
		p.replaceHead(s, need, wait)
	case s.Roll.HeadBlockedBy != "":
		wait(Waiting{Reason: v1alpha1.ReasonBlocked, BlockedBy: s.Roll.HeadBlockedBy, Message: s.Roll.HeadBlockedWhy})
	case loses && !s.Approved:
		wait(Waiting{
			Reason: v1alpha1.ReasonAwaitingApproval, Approvable: true,
			Message: "the cluster has no GCS fault tolerance, so it loses its state with its head; suspend and resume it at a time that suits you, or approve the restart of the head",
		})
	default:
		p.evict(s, f, []Pod{top}, need)
	}
}

// lost reports whether so many replicas do not work that the cluster is better off with the head that it has.
func (s *Snapshot) lost(f fleet) bool {
	return f.unavailable > s.Roll.MaxUnavailable || f.unavailable > 0 && !slices.ContainsFunc(f.replicas, func(r replica) bool { return r.available })
}

// settleTime is how long new workers work before the head goes. Ray then makes actors and processes on them, for which it asks the head,
// and what is asked of a head that goes may never be answered.
const settleTime = time.Minute

// headMayGo is when the workers have been ready for long enough, and no later than the roll waits for anything.
func (s *Snapshot) headMayGo(quiet time.Time) time.Time {
	var last time.Time
	for _, pod := range s.live(func(p Pod) bool { return p.Group != "" && p.Ready }) {
		if at := pod.ReadySince.Add(settleTime); at.After(last) {
			last = at
		}
	}
	if last.After(quiet) {
		return quiet
	}
	return last
}

// attendHead waits for replicas that are about to work before the head goes, and reports what the head waits for besides.
func (p *Plan) attendHead(s *Snapshot, f fleet, top Pod, until time.Time) {
	q := Plan{Record: p.Record}
	q.rollHead(s, f, top)
	p.Roll = q.Roll
	p.attend(until)
}

// replaceHead has the RayService replace the cluster, without downtime, because its head cannot be restarted without a loss.
func (p *Plan) replaceHead(s *Snapshot, need string, wait func(Waiting)) {
	switch service := s.Service; {
	case service.Refuses != "":
		wait(Waiting{Reason: v1alpha1.ReasonBlocked, BlockedBy: "RayService/" + service.Name, Message: service.Refuses, UserMustAct: true})
	case service.Next != "":
		wait(Waiting{Reason: v1alpha1.ReasonBlocked, BlockedBy: "RayService/" + service.Name, Message: s.upgraded() + ", and the head cannot be restarted without a loss"})
	case service.Asked == service.Ask:
		p.resume(s)
	default:
		p.ask(s)
		p.Event = &Event{Reason: eventRolling, Message: fmt.Sprintf("asked RayService %s for a new cluster, since %s, and the cluster has no GCS fault tolerance", service.Name, need)}
	}
}

// renewed waits for the RayService that replaces the cluster for a new certificate of its head.
func (p *Plan) renewed(s *Snapshot) {
	q := Plan{Record: p.Record}
	planUpgrading(s, &q)
	p.Record, p.Upgrade = q.Record, q.Upgrade
	p.RequeueAt = kube.Earlier(p.RequeueAt, q.RequeueAt)
	if q.Event != nil {
		p.Event = &Event{Warning: q.Event.Warning, Reason: eventRolling, Message: q.Event.Message}
	}
	if q.RestartWaits {
		p.Roll = Waiting{Reason: q.Reason, BlockedBy: q.BlockedBy, Message: q.Message, UserMustAct: q.UserMustAct}
	}
}

// evict restarts the pods. The roll is on record before its first pod goes. Another attempt at what was refused is no news.
func (p *Plan) evict(s *Snapshot, f fleet, pods []Pod, need string) {
	if s.rolling() {
		p.Evict = pods
		return
	}
	p.Progress = s.next(v1alpha1.PhaseRoll)
	p.Progress.Remaining = s.remaining(f)
	if len(s.Refusals) == 0 {
		p.Event = &Event{Reason: eventRolling, Message: need}
	}
}

// attend waits for replicas that are about to work.
func (p *Plan) attend(until time.Time) { p.RequeueAt = kube.Earlier(p.RequeueAt, until) }

// rest waits for something else than replicas. The roll ends once the evicted replicas work or had their time, so that other clusters
// have their turn.
func (p *Plan) rest(s *Snapshot, f fleet) {
	switch until := p.quietAt(s); {
	case !s.rolling():
	case (f.unavailable > 0 || !s.headWorks()) && s.Now.Before(until):
		p.attend(until)
	default:
		p.Progress = nil
	}
}

// finish ends a roll after which no pod needs a new certificate.
func (p *Plan) finish(s *Snapshot, f fleet) {
	if !s.rolling() {
		return
	}
	p.rest(s, f)
	switch {
	case p.Progress != nil:
	case f.unavailable > 0 || !s.headWorks():
		p.Event = &Event{Warning: true, Reason: eventRollPaused, Message: fmt.Sprintf("no pod is left that needs a new certificate, and not all pods that were restarted are ready within %s", s.Deadline)}
	case len(s.live(s.Unlike)) == 0: // else the next change waits for its own time
		p.Event = &Event{Reason: eventRolled, Message: "all pods have new certificates"}
	}
}

// pause reports replicas that do not become ready. The roll goes on when they are.
func (p *Plan) pause(s *Snapshot, due []Pod, by, why string) {
	p.Roll = Waiting{Reason: v1alpha1.ReasonReplicasUnavailable, BlockedBy: by, Message: s.need(due) + "; " + why}
	if s.rolling() {
		p.Progress, p.Event = nil, &Event{Warning: true, Reason: eventRollPaused, Message: p.Roll.Message}
	}
}

// track records how far the roll has come. Its deadline begins anew when fewer replicas are left. Replicas that become ready or
// cease to be are no progress: one that flaps would keep other clusters waiting.
func (p *Plan) track(s *Snapshot, f fleet) {
	if left := s.remaining(f); s.rolling() && left != s.Progress.Remaining {
		next := *s.Progress
		if next.Remaining = left; left < s.Progress.Remaining {
			next.From = s.stamp()
		}
		p.Progress = &next
	}
}

// remaining is how many replicas, the head included, need a new certificate.
func (s *Snapshot) remaining(f fleet) int32 {
	left := 0
	for _, r := range f.replicas {
		if r.due {
			left++
		}
	}
	if len(s.dueOf(s.live(head))) > 0 {
		left++
	}
	return int32(min(left, 1<<30))
}

func (s *Snapshot) headWorks() bool {
	heads := s.live(head)
	return len(heads) > 0 && heads[0].Ready && certified(heads[0])
}

// quietAt is until when replicas that do not work may be about to. A roll waits for its deadline and no longer, whatever pods do
// meanwhile and however long they may take to end.
func (p *Plan) quietAt(s *Snapshot) time.Time {
	var last time.Time
	note := func(at time.Time) {
		if at.After(last) {
			last = at
		}
	}
	if s.rolling() {
		note(p.Progress.Since)
		note(p.Progress.From)
		return last.Add(s.Deadline)
	}
	for _, pod := range s.Pods {
		switch {
		case pod.Terminating:
			note(pod.Deleted)
		case !pod.Ready || !certified(pod):
			note(pod.Created)
		}
	}
	return last.Add(s.Deadline)
}

// lacks names a replica that does not work.
func (s *Snapshot) lacks(f fleet) (by, why string) {
	const budget = "as many replicas as rollout.maxUnavailable allows are not ready"
	for _, r := range f.replicas {
		if !r.available {
			bad := slices.IndexFunc(r.pods, func(p Pod) bool { return !p.Ready || !certified(p) })
			name := r.pods[max(0, bad)].Name
			return "Pod/" + name, fmt.Sprintf("%s; the first is pod %s of worker group %s, as its events say", budget, name, r.group)
		}
	}
	if going := s.pods(and(in(f.missing), func(p Pod) bool { return p.Terminating })); len(going) > 0 {
		return "Pod/" + going[0].Name, fmt.Sprintf("%s; pod %s of worker group %s is terminating, and may take until %s", budget, going[0].Name, f.missing, kube.FormatTime(going[0].Deadline))
	}
	why = fmt.Sprintf("%s; worker group %s lacks pods", budget, f.missing)
	if s.PodsMissing != "" {
		why += ": " + s.PodsMissing
	}
	return "WorkerGroup/" + f.missing, why
}
