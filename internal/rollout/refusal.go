package rollout

import (
	"cmp"
	"fmt"
	"slices"
	"time"

	"github.com/raytls/raytls/api/v1alpha1"
	"github.com/raytls/raytls/internal/kube"
)

// Refusal is the API server's answer that a pod may not be evicted for a new certificate, for a reason that the operator does not
// read: an admission webhook, a policy, or a PodDisruptionBudget whose status lags.
type Refusal struct {
	Pod, UID string
	// BlockedBy names what refuses, as Kind/name. Message is the API server's text.
	BlockedBy, Message string
	// First and Last are when the API server refused first and last, and Attempts is how often it did.
	First, Last time.Time
	Attempts    int32
}

// MaxRefusals bounds the refusals on record. No further worker is tried while as many pods but one are refused.
const MaxRefusals = 8

// A pod is tried again after RetryFirst, and each time after twice as long, up to retryMost.
const (
	RetryFirst = time.Minute
	retryMost  = 10 * time.Minute
)

func (r *Refusal) equal(other Refusal) bool {
	return r.Pod == other.Pod && r.UID == other.UID && r.BlockedBy == other.BlockedBy && r.Message == other.Message &&
		r.First.Equal(other.First) && r.Last.Equal(other.Last) && r.Attempts == other.Attempts
}

// retryAt is when the pod may be tried again.
func (r *Refusal) retryAt() time.Time {
	wait := retryMost
	if doublings := max(0, r.Attempts-1); doublings < 8 {
		wait = min(retryMost, RetryFirst<<doublings)
	}
	return r.Last.Add(wait)
}

// holds reports whether the pod is not tried now. A refusal of a later time than clocks may differ by comes from a clock that is wrong,
// and holds nothing.
func (r *Refusal) holds(now time.Time) bool {
	return !now.Add(kube.ClockTolerance).Before(r.Last) && now.Before(r.retryAt())
}

func (r *Refusal) why() string {
	return fmt.Sprintf("the API server does not let pod %s be evicted, and the operator tries again: %s", r.Pod, r.Message)
}

// waiting is the report of the pods that need new certificates while the refusal lasts.
func (r *Refusal) waiting(need string) Waiting {
	return Waiting{Reason: v1alpha1.ReasonBlocked, BlockedBy: r.BlockedBy, Message: need + "; " + r.why()}
}

// Refused is the record after the API server refused to evict the pod.
func (r Record) Refused(pod *Pod, blockedBy, message string, now time.Time) Record {
	now = now.UTC().Truncate(time.Second)
	refusal := Refusal{Pod: pod.Name, UID: pod.UID, First: now}
	rest := slices.Clone(r.Refusals)
	switch at := slices.IndexFunc(rest, func(r Refusal) bool { return r.UID == pod.UID }); {
	case at >= 0:
		refusal = rest[at]
		rest = slices.Delete(rest, at, at+1)
	case len(rest) >= MaxRefusals:
		rest = slices.Delete(rest, 0, len(rest)-MaxRefusals+1) // the oldest come first
	}
	refusal.BlockedBy, refusal.Message, refusal.Last = blockedBy, message, now
	refusal.Attempts = min(refusal.Attempts, 1<<20) + 1
	r.Refusals = append(rest, refusal)
	return r
}

// forgetRefusals drops the refusals of pods that are gone, or that need no new certificate any more.
func (p *Plan) forgetRefusals(s *Snapshot) {
	p.Refusals = slices.DeleteFunc(slices.Clone(s.Refusals), func(r Refusal) bool {
		return len(s.live(func(p Pod) bool { return p.UID == r.UID && s.due(p) != "" })) == 0
	})
	for i := range p.Refusals {
		if r := &p.Refusals[i]; r.holds(s.Now) {
			p.RequeueAt = kube.Earlier(p.RequeueAt, r.retryAt())
		}
	}
}

// refused is the refusal that has lasted longest; nil for none. It stands for all of them, so that a report stays the same while
// they are tried again.
func (r *Record) refused() *Refusal {
	if len(r.Refusals) == 0 {
		return nil
	}
	first := slices.MinFunc(r.Refusals, func(a, b Refusal) int { return cmp.Or(a.First.Compare(b.First), cmp.Compare(a.Pod, b.Pod)) })
	return &first
}

// held is what forbids the eviction of the pod now, and why; empty if nothing does.
func (s *Snapshot) held(p Pod) (by, why string) {
	if p.HeldBy != "" {
		return p.HeldBy, p.HeldWhy
	}
	if first := s.refused(); first != nil && s.holdsOff(p) {
		return first.BlockedBy, first.why()
	}
	return "", ""
}

// holdsOff reports whether a refusal keeps the operator from trying to evict the pod now. The head has a place of its own among those
// that are tried.
func (s *Snapshot) holdsOff(p Pod) bool {
	holds := func(r Refusal) bool { return r.holds(s.Now) }
	own := func(r Refusal) bool { return r.UID == p.UID }
	if at := slices.IndexFunc(s.Refusals, own); at >= 0 {
		return holds(s.Refusals[at])
	}
	return p.Group != "" && len(s.Refusals) >= MaxRefusals-1 && slices.ContainsFunc(s.Refusals, holds)
}
