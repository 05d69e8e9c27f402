package rollout

import (
	"cmp"
	"fmt"
	"slices"
	"time"

	"github.com/raytls/raytls/api/v1alpha1"
	"github.com/raytls/raytls/internal/kube"
)

// Leaf is what the planner knows of a pod's certificate. A pod that does not report its own counts as certified at its creation, so
// it is renewed by its age, and once: its replacement is young.
type Leaf struct {
	// IssuedAt and End are the ends of its life; zero where unknown. End is when peers begin to refuse it.
	IssuedAt, End time.Time
	// Outdated says in what the authority that issued it is not the cluster's; empty if it is.
	Outdated string
}

// Wish is the certificate settings that the policy asks for.
type Wish struct {
	// Hash identifies the settings; empty while no policy asked for any.
	Hash string
	// Since is the time from which every new pod follows the settings; zero if they never changed.
	Since time.Time
}

func (w Wish) equal(other Wish) bool { return w.Hash == other.Hash && w.Since.Equal(other.Since) }

// Rolling is how the pods of a cluster may be brought onto new certificates.
type Rolling struct {
	// OnDelete leaves every restart to users. Paused stops the operator.
	OnDelete, Paused bool
	// MaxUnavailable is how many worker replicas may be unavailable.
	MaxUnavailable int
	// BlockedBy names the object that forbids the restart of any pod, even an approved one. BlockedWhy gives the reason. Both are
	// empty if nothing forbids it.
	BlockedBy, BlockedWhy string
	// Head is when the head may be restarted, and FaultTolerant reports whether its restart loses nothing.
	Head          v1alpha1.HeadRestart
	FaultTolerant bool
	// HeadBlockedBy names the object that forbids the restart of the head, even an approved one. HeadBlockedWhy gives the reason. Both
	// are empty if nothing forbids it.
	HeadBlockedBy, HeadBlockedWhy string
	// WorkerEnd and HeadEnd are when a certificate that is made now would end, and Validity is how long one is asked to last.
	WorkerEnd, HeadEnd time.Time
	Validity           time.Duration
	// WorkerHash and HeadHash identify the certificate settings of the policy; empty without a policy.
	WorkerHash, HeadHash string
}

// Settles is how long a new pod may still get a certificate by the earlier settings after a change, because the kubelet mounts
// Secrets from a cache. Two edits of a policy within this time cause one restart.
const Settles = 2 * time.Minute

// wish records the certificate settings of an encrypted cluster. The first record restarts no pod, because no earlier settings are
// known. A paused policy records nothing, and nothing is recorded by a wrong clock.
func (p *Plan) wish(s *Snapshot) {
	if !p.Enabled || s.Roll.Paused || s.ClockSkew != "" {
		return
	}
	for _, w := range []struct {
		of   *Wish
		hash string
	}{{&p.WorkerWish, s.Roll.WorkerHash}, {&p.HeadWish, s.Roll.HeadHash}} {
		switch {
		case w.hash == "" || w.of.Hash == w.hash:
		case w.of.Hash == "":
			*w.of = Wish{Hash: w.hash}
		default:
			*w.of = Wish{Hash: w.hash, Since: s.stamp().Add(s.settles())}
		}
	}
	for _, since := range []time.Time{p.WorkerWish.Since, p.HeadWish.Since} {
		for _, at := range []time.Time{since, since.Add(s.tolerance())} {
			if !since.IsZero() && s.Now.Before(at) {
				p.RequeueAt = kube.Earlier(p.RequeueAt, at)
			}
		}
	}
}

// Unrecorded reports whether the policy asks for other certificate settings than those on record, which a paused policy leaves as they are.
func (s *Snapshot) Unrecorded() bool {
	differs := func(w Wish, hash string) bool { return s.Roll.Paused && hash != "" && w.Hash != "" && w.Hash != hash }
	return differs(s.WorkerWish, s.Roll.WorkerHash) || differs(s.HeadWish, s.Roll.HeadHash)
}

// due is why the pod needs a new certificate now; empty if it does not.
func (s *Snapshot) due(p Pod) string {
	switch at := s.dueAt(p); {
	case p.Terminating || !certified(p):
		return ""
	case p.Leaf.Outdated != "":
		return p.Leaf.Outdated
	case s.older(p, 0, s.tolerance()):
		return "podCertificate changed after it was created"
	case !at.IsZero() && !s.Now.Before(at) && s.worth(p):
		return "its certificate ends at " + kube.FormatTime(p.Leaf.End)
	}
	return ""
}

// Unlike reports whether the pod's certificate follows earlier settings than the policy's.
func (s *Snapshot) Unlike(p Pod) bool { return s.older(p, 0, 0) || s.older(p, s.settles(), 0) }

// older reports whether the API server created the pod before a moment that lies early before Since. It reports false until late
// after that moment. It uses the time of creation, because the pod's own clock may be wrong. The API server's clock may be behind,
// so a replacement would count as older too until late has passed.
func (s *Snapshot) older(p Pod, early, late time.Duration) bool {
	than := func(w Wish) bool {
		at := w.Since.Add(-early)
		return !w.Since.IsZero() && p.Created.Before(at) && !s.Now.Before(at.Add(late))
	}
	return certified(p) && (than(s.WorkerWish) || p.Group == "" && than(s.HeadWish))
}

// oftest is how many times in a certificate's asked life a place may be renewed by age. Ends are what pods claim, and a pod with a
// wrong clock would else be renewed without end.
const oftest = 12

// dueAt is when the pod is due by its age, at two thirds of its certificate's life; zero if that is unknown.
func (s *Snapshot) dueAt(p Pod) time.Time {
	from := p.Leaf.IssuedAt
	if p.Created.After(from) {
		from = p.Created
	}
	life := p.Leaf.End.Sub(from)
	if p.Leaf.End.IsZero() || life <= 0 {
		return time.Time{}
	}
	at := from.Add(life * 2 / 3)
	if earliest := p.Created.Add(s.Roll.Validity / oftest); at.Before(earliest) {
		return earliest
	}
	return at
}

// worth reports whether a new certificate would last half as long again as what is left of the pod's. Otherwise an issuer or an
// authority that ends would have the pod restarted again and again.
func (s *Snapshot) worth(p Pod) bool {
	next := s.Roll.WorkerEnd
	if p.Group == "" {
		next = s.Roll.HeadEnd
	}
	left := max(0, p.Leaf.End.Sub(s.Now))
	return next.After(s.Now) && next.Sub(s.Now) >= left+left/2
}

// nextDue is when the next pod becomes due; zero for never.
func (s *Snapshot) nextDue() time.Time {
	var next time.Time
	for _, p := range s.live(certified) {
		if at := s.dueAt(p); s.Now.Before(at) {
			next = kube.Earlier(next, at)
		}
	}
	return next
}

// need says which pods need new certificates, and why the first does.
func (s *Snapshot) need(pods []Pod) string {
	first := slices.MinFunc(pods, soonest)
	if len(pods) == 1 {
		return fmt.Sprintf("pod %s needs a new certificate: %s", first.Name, s.due(first))
	}
	return fmt.Sprintf("%s need new certificates, pod %s first: %s", count(len(pods)), first.Name, s.due(first))
}

// soonest orders pods by the ends of their certificates.
func soonest(a, b Pod) int {
	return cmp.Or(a.Leaf.End.Compare(b.Leaf.End), cmp.Compare(a.Group, b.Group), cmp.Compare(a.Name, b.Name))
}
