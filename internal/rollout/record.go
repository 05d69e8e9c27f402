package rollout

import (
	"maps"
	"slices"
	"time"

	"github.com/raytls/raytls/api/v1alpha1"
)

// Record is what the operator remembers of a cluster, so that any replica can continue.
type Record struct {
	// Enabled reports whether the cluster is on record as encrypted.
	Enabled bool
	// InjectedAt is when the operator injected a cluster that was created without TLS; zero for other clusters.
	InjectedAt time.Time
	// Progress is how far a restart has come; nil when none is under way.
	Progress *Progress
	// FailedAttempt is the hash of the attempt that failed, FailedBecause its error, and FailedAt its time.
	FailedAttempt, FailedBecause string
	FailedAt                     time.Time
	// Restored are the times at which the operator restored stripped templates.
	Restored []time.Time
	// Changed is what the operator last made of the templates, by group.
	Changed map[string]Change
	// WorkerWish holds the certificate settings of all pods, and HeadWish the further settings of the head.
	WorkerWish, HeadWish Wish
	// Refusals are those of evictions that a roll still needs, the last one last.
	Refusals []Refusal
	// Attempted is when a restart failed or was given up last, or when the RayService was asked last. The id of a restart holds it, so that no
	// approval counts twice. It outlives the restart and the injection.
	Attempted time.Time
	// RevokedBefore is the number below which every generation of the authority is revoked; 0 if none is. Nothing makes it smaller.
	RevokedBefore int64
}

// Progress is how far a restart has come.
type Progress struct {
	Goal  v1alpha1.RolloutGoal
	Phase v1alpha1.RolloutPhase
	// Since is when the phase began. From is when the deadline began to count, if that is later.
	Since, From time.Time
	// Canaries are the pods that go first, by worker group.
	Canaries map[string]string
	// Remaining is how many replicas, the head included, still need a new certificate. From is since when, unless it has grown.
	Remaining int32
}

// Change is what the operator made of a template, and when.
type Change struct {
	Goal v1alpha1.RolloutGoal
	At   time.Time
}

func (c Change) equal(other Change) bool { return c.Goal == other.Goal && c.At.Equal(other.At) }

// Equal reports whether both records are the same.
func (r *Record) Equal(other *Record) bool {
	return r.Enabled == other.Enabled && r.InjectedAt.Equal(other.InjectedAt) && r.FailedAttempt == other.FailedAttempt &&
		r.FailedBecause == other.FailedBecause && r.FailedAt.Equal(other.FailedAt) &&
		slices.EqualFunc(r.Restored, other.Restored, time.Time.Equal) && maps.EqualFunc(r.Changed, other.Changed, Change.equal) &&
		r.Attempted.Equal(other.Attempted) && r.RevokedBefore == other.RevokedBefore && r.WorkerWish.equal(other.WorkerWish) &&
		r.HeadWish.equal(other.HeadWish) && slices.EqualFunc(r.Refusals, other.Refusals, func(a, b Refusal) bool { return a.equal(b) }) &&
		(r.Progress == nil) == (other.Progress == nil) && (r.Progress == nil || r.Progress.equal(other.Progress))
}

func (p *Progress) equal(other *Progress) bool {
	return p.Goal == other.Goal && p.Phase == other.Phase && p.Since.Equal(other.Since) && p.From.Equal(other.From) &&
		maps.Equal(p.Canaries, other.Canaries) && p.Remaining == other.Remaining
}

func (s *Snapshot) next(phase v1alpha1.RolloutPhase) *Progress {
	return &Progress{Goal: s.Goal, Phase: phase, Since: s.stamp()}
}

// stamp is now, as a record keeps it.
func (s *Snapshot) stamp() time.Time { return s.Now.UTC().Truncate(time.Second) }

// outdated reports whether the recorded restart does not fit the cluster. An older record may have come back, and continuing
// it would restart pods needlessly. The planner trusts a new record, because the caches may not show the templates yet.
func (s *Snapshot) outdated() bool {
	switch {
	case s.Progress == nil:
		return false
	case s.Progress.Phase == v1alpha1.PhaseUpgrade:
		return !s.upgrading()
	case s.Progress.Phase == v1alpha1.PhaseRevoke:
		return restartedInPlaintext(s) // disabling goes on with it: half of the pods cannot talk to the rest
	case s.Progress.Phase == v1alpha1.PhaseRoll:
		return s.Goal != v1alpha1.GoalEncrypted || !s.Enabled || restartedInPlaintext(s)
	case s.whole() && s.Progress.Goal == v1alpha1.GoalEncrypted:
		// Nothing is left to try or to revert, and an encrypted cluster stays encrypted until somebody asks.
		return s.Goal == v1alpha1.GoalPlaintext || s.Progress.Phase == v1alpha1.PhaseCanary || s.Progress.Phase == v1alpha1.PhaseRevert
	case s.Now.Before(s.Progress.Since.Add(RecreatePatience)):
		return false
	case s.whole():
		return true
	case s.Goal == v1alpha1.GoalEncrypted && s.Progress.Goal == v1alpha1.GoalEncrypted && s.Running() && !s.anyPieces() && len(s.pods(injected)) == 0:
		// The cluster is plaintext, and stays so until somebody asks.
		return s.Progress.Phase != v1alpha1.PhaseRevert && !allowed(s, &Plan{})
	}
	return false
}

// whole reports whether the cluster is encrypted and works.
func (s *Snapshot) whole() bool {
	return s.allInjected() && len(s.live(plaintext)) == 0 && len(s.live(and(head, certified))) > 0
}
