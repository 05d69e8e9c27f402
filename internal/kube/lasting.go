package kube

import (
	"sync"
	"time"

	"k8s.io/apimachinery/pkg/types"
)

const (
	// GatherTimeout bounds all reads of one reconcile together.
	GatherTimeout = 8 * time.Second
	// GatherRetry is when to read again after reads failed.
	GatherRetry = 5 * time.Second
	// UnknownAfter is how long a status holds while a new one cannot be computed.
	UnknownAfter = 30 * time.Second
)

// Lasting holds since when something lasts, by object. The zero value is empty, and safe for concurrent use.
type Lasting struct{ since sync.Map }

// For returns how long it has lasted for the object. It begins with the first call.
func (l *Lasting) For(key types.NamespacedName, now time.Time) time.Duration {
	since, _ := l.since.LoadOrStore(key, now)
	began, _ := since.(time.Time)
	return now.Sub(began)
}

// Left returns how much is left of a time for which it may last. Nothing begins by the call.
func (l *Lasting) Left(key types.NamespacedName, most time.Duration, now time.Time) time.Duration {
	since, _ := l.since.Load(key)
	if began, lasts := since.(time.Time); lasts {
		return max(0, most-now.Sub(began))
	}
	return most
}

// End forgets the object.
func (l *Lasting) End(key types.NamespacedName) { l.since.Delete(key) }
