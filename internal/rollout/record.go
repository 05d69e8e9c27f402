package rollout

import (
	"encoding/json"
	"maps"
	"slices"
	"time"

	"github.com/raytls/raytls/api/v1alpha1"
)

// Goal is the state that a restart brings a cluster into.
type Goal = v1alpha1.RolloutGoal

// Phase is a stage of a restart.
type Phase = v1alpha1.RolloutPhase

// Record is what the operator remembers of a cluster, so that any replica can go on with it.
type Record struct {
	// Enabled reports whether the cluster is on record as encrypted.
	Enabled bool
	// InjectedAt is when the templates of a cluster that was created without TLS were injected; otherwise zero.
	InjectedAt time.Time
	// Progress is how far a restart has come; nil when none is under way.
	Progress *Progress
	// FailedAttempt is the hash of what was tried and failed, FailedBecause the error, and FailedAt when.
	FailedAttempt, FailedBecause string
	FailedAt                     time.Time
	// Restored are the times at which stripped templates were restored.
	Restored []time.Time
}

// Progress is how far a restart has come.
type Progress struct {
	Goal  Goal  `json:"goal"`
	Phase Phase `json:"phase"`
	// Since is when the phase began.
	Since time.Time `json:"since"`
	// From is when the deadline counts from, where that is later than Since.
	From time.Time `json:"from,omitzero"`
	// Canaries are the pods that go first, by worker group.
	Canaries map[string]string `json:"canaries,omitempty"`
}

// String is the progress as JSON.
func (p *Progress) String() string {
	text, err := json.Marshal(p)
	if err != nil { // no field of it can fail to encode
		panic(err)
	}
	return string(text)
}

// Equal reports whether both records hold the same.
func (r *Record) Equal(other *Record) bool {
	return r.Enabled == other.Enabled && r.InjectedAt.Equal(other.InjectedAt) && r.FailedAttempt == other.FailedAttempt &&
		r.FailedBecause == other.FailedBecause && r.FailedAt.Equal(other.FailedAt) &&
		slices.EqualFunc(r.Restored, other.Restored, time.Time.Equal) &&
		(r.Progress == nil) == (other.Progress == nil) && (r.Progress == nil || r.Progress.equal(other.Progress))
}

func (p *Progress) equal(other *Progress) bool {
	return p.Goal == other.Goal && p.Phase == other.Phase && p.Since.Equal(other.Since) && p.From.Equal(other.From) &&
		maps.Equal(p.Canaries, other.Canaries)
}

func (s *Snapshot) next(phase Phase) *Progress {
	return &Progress{Goal: s.Goal, Phase: phase, Since: s.stamp()}
}

// stamp is now, as a record keeps it.
func (s *Snapshot) stamp() time.Time { return s.Now.UTC().Truncate(time.Second) }

// outdated reports whether the restart on record is none that the cluster is in. An older record may have come back, and then
// going on with it would restart pods for nothing. A record that was just written is believed: the caches may not show the
// templates that were written after it.
func (s *Snapshot) outdated() bool {
	switch {
	case s.Progress == nil:
		return false
	case s.Progress.Phase == v1alpha1.PhaseUpgrade:
		return !s.upgrading()
	case s.whole() && s.Progress.Goal == v1alpha1.GoalEncrypted:
		// Nothing is left to show or to put back, and being encrypted does not end without asking.
		return s.Goal == v1alpha1.GoalPlaintext || s.Progress.Phase == v1alpha1.PhaseCanary || s.Progress.Phase == v1alpha1.PhaseRevert
	case s.Now.Before(s.Progress.Since.Add(RecreatePatience)):
		return false
	case s.whole():
		return true
	case s.Goal == v1alpha1.GoalEncrypted && s.Progress.Goal == v1alpha1.GoalEncrypted && s.running() && !s.anyPieces() && len(s.pods(injected)) == 0:
		// It is plaintext: that does not end without asking either.
		return s.Progress.Phase != v1alpha1.PhaseRevert && !allowed(s, &Plan{})
	}
	return false
}

// whole reports whether the cluster is encrypted and works.
func (s *Snapshot) whole() bool {
	return s.allInjected() && len(s.live(plaintext)) == 0 && len(s.live(and(head, certified))) > 0
}
