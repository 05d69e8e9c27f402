package rollout

import (
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/raytls/raytls/api/v1alpha1"
)

// snapshot is what the operator makes of its caches, as the controller does.
func (w *world) snapshot() *Snapshot {
	c, r := w.clusters[w.seen.cluster], w.records[w.seen.record].clone()
	s := &Snapshot{
		Now: w.now.Add(w.ahead), Goal: w.goal, Suspended: c.suspend, Provisioned: c.provisioned, New: w.isNew(c), Recreate: c.recreate,
		Observed: c.observed >= c.generated, Queued: c.queued, Immediate: w.immediate, NoSlot: w.noSlot, Record: r.Record,
		Deadline: 10 * time.Minute, BlockedBy: w.blocked,
	}
	since := max(r.RevokedBefore, w.keys)
	if s.Revocation = (Revocation{Generation: w.revokeTo, Now: w.revokeNow}); since < w.revokeTo {
		s.Revocation.Asked = "the authority is to be revoked"
	}
	s.Roll, s.Opens = w.roll, w.opens
	if w.blocked != "" {
		s.BlockedWhy = w.blocked + " runs on it"
	}
	s.Roll.BlockedBy, s.Roll.BlockedWhy = s.BlockedBy, s.BlockedWhy
	if s.Roll.WorkerEnd = w.now.Add(w.life); w.life > 0 {
		s.Roll.Validity = w.life
	}
	if s.Roll.HeadEnd = s.Roll.WorkerEnd; !w.opens.After(w.now) {
		s.Opens = time.Time{}
	}
	if w.service != nil {
		service := *w.service
		if service.Ask = string(w.goal); s.Enabled && s.Goal == v1alpha1.GoalEncrypted {
			service.Ask = "Roll"
		}
		s.Service = &service
	}
	var attempt strings.Builder
	for _, t := range c.templates {
		fmt.Fprint(&attempt, t.group, t.edition, ";")
		s.Templates = append(s.Templates, Template{
			Group: t.group, Injected: t.injected && !t.stale && t.since == since, Revoked: t.injected && t.since != since, Pieces: t.injected, Recorded: t.group == "" || slices.Contains(r.groups, t.group),
			Stripped: !t.injected, CanaryKey: t.key, Replicas: t.replicas, Hosts: t.hosts,
		})
	}
	s.Attempt = attempt.String()
	for _, p := range w.lists[w.seen.pods] {
		mounts := ""
		if p.injected && p.since != since {
			mounts = fmt.Sprintf("it mounts the Secret of the generations since %d", p.since)
		}
		if p.owned {
			s.Pods = append(s.Pods, Pod{
				Name: p.name, UID: p.uid, Group: p.group, Injected: p.injected, Pieces: p.pieces, Differs: p.differs, Certified: p.certified, Failure: p.failure,
				Ready: p.ready, ReadySince: p.readied, Terminating: p.terminating, Deleted: p.deleted, Deadline: p.deadline, Created: p.created,
				Replica: p.replica, Revoked: mounts, Earlier: p.since != since, Leaf: Leaf{IssuedAt: p.issued, End: p.end}, HeldBy: w.holds[p.name], HeldWhy: w.holds[p.name] + " holds it",
			})
		}
	}
	id := restartID(s)
	s.Approved = id != "" && slices.Contains(w.approvals, id)
	return s
}

// isNew goes by the sight of the head, as the controller does.
func (w *world) isNew(c simCluster) bool {
	worked := slices.ContainsFunc(w.lists[w.seen.pods], func(p simPod) bool {
		return p.owned && p.group == "" && p.ready && w.now.Sub(p.readied) > time.Minute
	})
	return !c.provisioned && !worked && w.blocked == "" && w.now.Before(start().Add(10*time.Minute))
}

// restartID is what the status names the restart of the running head by. After a failed attempt, and while the RayService
// is being asked, it is another one.
func restartID(s *Snapshot) string {
	heads := s.live(head)
	if len(heads) == 0 {
		return ""
	}
	if s.Revokes() {
		return fmt.Sprint(heads[0].UID, "/Revoke/", s.Attempted.Format(time.RFC3339))
	}
	return fmt.Sprint(heads[0].UID, "/", s.Goal, "/", s.Attempted.Format(time.RFC3339))
}

// operate is one reconcile: the record is written first, then everything else. survives is how many of its writes it lives to make.
func (w *world) operate(survives int) (*Snapshot, Plan) {
	s := w.snapshot()
	w.dirty, w.requeueAt = false, time.Time{}
	p := Make(s)
	w.requeueAt = p.RequeueAt
	w.write(s, &p, survives)
	return s, p
}

// write makes the plan's writes as far as the operator lives and the API server lets it. All it knows of are its caches.
func (w *world) write(s *Snapshot, p *Plan, survives int) {
	c, r := w.clusters[w.seen.cluster], w.records[w.seen.record]
	lives := func() bool { survives--; return survives >= 0 }
	if r.RevokedBefore > w.keys && p.RevokedBefore == r.RevokedBefore {
		if !lives() {
			return
		}
		w.keys = r.RevokedBefore
	}
	next := onRecord(r, s, p)
	records := !next.equal(r)
	if records {
		if !lives() {
			return
		}
		if r.version != w.record.version || c.generated != w.cluster.generated {
			w.dirty = true // a conflict, or no record of a spec that is not the newest: read it later
			return
		}
		w.recorded = true
		if s.Progress == nil && p.Progress != nil {
			w.certified = false
		}
		if p.Progress != nil && p.Progress.Phase == v1alpha1.PhaseHead {
			w.eligible = len(s.canaries()) > 0 && (s.Progress == nil || s.Progress.Phase == v1alpha1.PhaseCanary)
		}
		w.setRecord(next)
		r = w.record
	}
	if p.Edit == NoEdit && p.Upgrade == "" && len(p.Delete) == 0 && len(p.Evict) == 0 {
		return
	}
	if r.version != w.record.version {
		w.dirty = true // past the cache, the record is another one
		return
	}
	if p.Upgrade != "" {
		if !lives() {
			return
		}
		w.touched = true
		if w.service.Asked != p.Upgrade || !w.service.AskedAt.Equal(p.Progress.Since) {
			w.asks++
		}
		w.service.Asked, w.service.AskedAt = p.Upgrade, p.Progress.Since
	}
	if edited := c.edited(p, w.keys); edited.hash() != c.hash() {
		if !lives() {
			return
		}
		if c.version != w.cluster.version {
			w.dirty = true // a conflict: read it later
			return
		}
		w.touched = true
		w.store(edited, true)
	}
	if p.Changes(s) {
		return
	}
	if records {
		p.Delete, p.Evict = nil, nil // the groups are on record first
		return
	}
	for _, pod := range p.Delete {
		if !lives() {
			return
		}
		if at := w.find(pod.UID); at >= 0 {
			w.touched = true
			if !w.pods[at].terminating {
				w.restarts[pod.UID] = w.pods[at]
				w.judge(w.pods[at])
			}
			w.terminate(at)
		}
	}
	refused := w.evict(p.Evict, lives)
	if len(refused) == 0 || !lives() || r.version != w.record.version {
		return
	}
	next = r.clone()
	for i := range refused {
		next.Record = next.Refused(&refused[i], "Pod/"+refused[i].Name, "a webhook says no", s.Now)
	}
	w.setRecord(next)
}

// evict evicts the pods as far as the operator lives, and returns those that the API server refuses.
func (w *world) evict(pods []Pod, lives func() bool) (refused []Pod) {
	for _, pod := range pods {
		at := w.find(pod.UID)
		switch {
		case !lives():
			return nil
		case at < 0:
		case w.refuses || w.refused[pod.Name]:
			refused = append(refused, pod)
		default:
			w.touched = true
			if !w.pods[at].terminating {
				w.evicted[w.pods[at].slot]++
			}
			w.terminate(at)
		}
	}
	return refused
}

// edited is the cluster with the plan's edit.
func (c simCluster) edited(p *Plan, since int64) simCluster {
	next := c.clone()
	for i := range next.templates {
		t := &next.templates[i]
		switch {
		case p.Edit == InjectAll, p.Edit == Inject && slices.Contains(p.Groups, t.group):
			t.injected, t.stale, t.since = true, false, since
		case p.Edit == RemoveAll:
			t.injected, t.stale, t.since = false, false, 0
		}
	}
	return next
}

// onRecord is the record with the plan's. A worker group is on record once its template was seen to carry the injection.
func onRecord(r simRecord, s *Snapshot, p *Plan) simRecord {
	next := simRecord{version: r.version, Record: p.Record}
	if !p.Enabled {
		return next
	}
	var carry []string
	for _, t := range s.Templates {
		if t.Group != "" && (t.Pieces || t.Recorded) {
			carry = append(carry, t.Group)
		}
	}
	next.groups = r.groups
	if slices.ContainsFunc(carry, func(group string) bool { return !slices.Contains(r.groups, group) }) {
		next.groups = carry
	}
	return next
}

// approve is a user who writes the name of the restart that waits into the policy, and says whether it was not there before.
func (w *world) approve() bool {
	id := restartID(w.snapshot())
	if id == "" || slices.Contains(w.approvals, id) {
		return false
	}
	w.settings(func() { w.approvals = append(w.approvals, id) })
	return true
}

// loseRecord is somebody who deletes the RayClusterTLS.
func (w *world) loseRecord() { w.setRecord(simRecord{}) }

// restoreRecord is a backup that brings an older record back.
func (w *world) restoreRecord(version int) { w.setRecord(w.records[version].clone()) }
