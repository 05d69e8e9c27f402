// Package kube has what every controller does alike with the API server: ensure, delete exactly, tell stale caches from
// failures, and carry an outcome in an error.
package kube

import (
	"errors"
	"fmt"
	"time"

	apierrors "k8s.io/apimachinery/pkg/api/errors"
)

// OutcomeKind tells who acts next.
type OutcomeKind string

// The kinds of outcome.
const (
	// UserMustAct: nothing changes until somebody mends what the message names.
	UserMustAct OutcomeKind = "UserMustAct"
	// Wait: it goes on by itself.
	Wait OutcomeKind = "Wait"
)

// Outcome is why something was not done. It is an error, so that it ends what it comes up in, and it is reported in a status.
type Outcome struct {
	Kind OutcomeKind
	// Reason is one of the API's reasons, and Message says what is wrong, with which object, and what to do.
	Reason, Message string
	// BlockedBy names the object that is in the way, as Kind/name; empty where there is none.
	BlockedBy string
	// After is when to try again where nothing that is watched tells that it changed; zero for never.
	After time.Duration
}

func (o *Outcome) Error() string { return o.Message }

// UserMustActf is an Outcome of that kind.
func UserMustActf(reason, format string, args ...any) *Outcome {
	return &Outcome{Kind: UserMustAct, Reason: reason, Message: fmt.Sprintf(format, args...)}
}

// Waitf is an Outcome of that kind.
func Waitf(reason, format string, args ...any) *Outcome {
	return &Outcome{Kind: Wait, Reason: reason, Message: fmt.Sprintf(format, args...)}
}

// RetryAfter has the same tried again after that time.
func (o *Outcome) RetryAfter(after time.Duration) *Outcome {
	o.After = after
	return o
}

// AsOutcome finds the outcome in an error; nil if there is none.
func AsOutcome(err error) *Outcome {
	var outcome *Outcome
	if errors.As(err, &outcome) {
		return outcome
	}
	return nil
}

// ErrStale says that a cache lags behind the API server.
var ErrStale = errors.New("the cache lags behind the API server")

// StaleRequeue is when to read again after a cache was found to lag.
const StaleRequeue = 500 * time.Millisecond

// IsStale reports whether an error comes from a cache that lags behind the API server.
func IsStale(err error) bool { return errors.Is(err, ErrStale) || apierrors.IsConflict(err) }
