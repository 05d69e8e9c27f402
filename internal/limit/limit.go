// Package limit shares a few slots fairly among many who ask for them.
package limit

import (
	"cmp"
	"context"
	"errors"
	"slices"
	"sync"
)

// ErrBusy is the answer to somebody for whom there is no room to wait.
var ErrBusy = errors.New("too many requests wait already")

// Key names somebody who asks. Source is where the requests come from, and Name is on whose behalf.
type Key struct{ Source, Name string }

// Options bound a Limiter.
type Options struct {
	// Slots is how many are given out at a time, and Share how many of them one Key may have.
	Slots, Share int
	// Waiting is the weight in bytes of all who wait, and WaitingShare that of one Key.
	Waiting, WaitingShare int64
}

// minWeight is what a request weighs at least: each takes a goroutine and a connection.
const minWeight = 4 << 10

// Limiter gives out slots. A free slot goes to the source that has the fewest, then to the key that has the fewest, then to
// whoever waits longest. It is safe for concurrent use.
type Limiter struct {
	options Options

	mu             sync.Mutex
	running        int
	runningSources map[string]int
	runningKeys    map[Key]int

	queue       []*waiter
	held        int64
	heldSources map[string]int64
	heldKeys    map[Key]int64
}

type waiter struct {
	key    Key
	weight int64
	// answer receives nil with a slot, or else ErrBusy. It holds one answer, so nobody waits to send it.
	answer chan error
}

// New makes a Limiter.
func New(options Options) *Limiter {
	return &Limiter{
		options: options, runningSources: map[string]int{}, runningKeys: map[Key]int{},
		heldSources: map[string]int64{}, heldKeys: map[Key]int64{},
	}
}

// Acquire waits for a slot until ctx ends. weight is what the request keeps in memory while it waits, in bytes. The caller
// calls release once. The error is ErrBusy, or that of ctx.
func (l *Limiter) Acquire(ctx context.Context, key Key, weight int64) (release func(), err error) {
	if err := ctx.Err(); err != nil {
		return nil, err
	}
	w := &waiter{key: key, weight: max(weight, minWeight), answer: make(chan error, 1)}
	l.mu.Lock()
	switch {
	case l.hasSlot(key): // all who wait have their share
		l.start(key)
		w.answer <- nil
	case l.makeRoom(w):
		l.enqueue(w)
	default:
		w.answer <- ErrBusy
	}
	l.mu.Unlock()
	select {
	case err := <-w.answer:
		if err != nil {
			return nil, err
		}
		return func() { l.release(key) }, nil
	case <-ctx.Done():
		l.leave(w)
		return nil, ctx.Err()
	}
}

func (l *Limiter) hasSlot(key Key) bool {
	return l.running < l.options.Slots && l.runningKeys[key] < l.options.Share
}

func (l *Limiter) start(key Key) {
	l.running++
	l.runningSources[key.Source]++
	l.runningKeys[key]++
}

func (l *Limiter) release(key Key) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.running--
	count(l.runningSources, key.Source, -1)
	count(l.runningKeys, key, -1)
	l.next()
}

// next gives the free slots to those whose turn it is.
func (l *Limiter) next() {
	for {
		at := -1
		for i, w := range l.queue {
			if l.hasSlot(w.key) && (at < 0 || l.before(w.key, l.queue[at].key)) {
				at = i
			}
		}
		if at < 0 {
			return
		}
		w := l.dequeue(at)
		l.start(w.key)
		w.answer <- nil
	}
}

// before reports whether one key has fewer slots than another.
func (l *Limiter) before(a, b Key) bool {
	if x, y := l.runningSources[a.Source], l.runningSources[b.Source]; x != y {
		return x < y
	}
	return l.runningKeys[a] < l.runningKeys[b]
}

// makeRoom reports whether there is room for one more to wait. Where there is none, it sends away the last of those who hold
// most of it, if the newcomer holds less than they do.
func (l *Limiter) makeRoom(w *waiter) bool {
	if l.heldKeys[w.key]+w.weight > l.options.WaitingShare {
		return false
	}
	var leaving []*waiter
	for l.held+w.weight > l.options.Waiting {
		most := l.heaviest(leaving)
		if most == nil || !l.holdsLess(w, most.key) {
			for _, stays := range leaving {
				l.hold(stays, stays.weight)
			}
			return false
		}
		leaving = append(leaving, most)
		l.hold(most, -most.weight)
	}
	for _, w := range leaving {
		l.queue = slices.DeleteFunc(l.queue, func(other *waiter) bool { return other == w })
		w.answer <- ErrBusy
	}
	return true
}

// heaviest is the last to come for the key that holds most of the source that holds most, but for those who leave.
func (l *Limiter) heaviest(leaving []*waiter) *waiter {
	var found *waiter
	for _, w := range l.queue {
		switch {
		case slices.Contains(leaving, w):
		case found == nil, cmp.Or(
			cmp.Compare(l.heldSources[w.key.Source], l.heldSources[found.key.Source]), cmp.Compare(l.heldKeys[w.key], l.heldKeys[found.key]),
		) >= 0:
			found = w
		}
	}
	return found
}

// holdsLess reports whether a newcomer would hold less than a key, or less than another source.
func (l *Limiter) holdsLess(w *waiter, than Key) bool {
	if w.key.Source != than.Source {
		return l.heldSources[w.key.Source]+w.weight < l.heldSources[than.Source]
	}
	return l.heldKeys[w.key]+w.weight < l.heldKeys[than]
}

func (l *Limiter) enqueue(w *waiter) {
	l.queue = append(l.queue, w)
	l.hold(w, w.weight)
}

func (l *Limiter) dequeue(at int) *waiter {
	w := l.queue[at]
	l.queue = slices.Delete(l.queue, at, at+1)
	l.hold(w, -w.weight)
	return w
}

func (l *Limiter) hold(w *waiter, weight int64) {
	l.held += weight
	count(l.heldSources, w.key.Source, weight)
	count(l.heldKeys, w.key, weight)
}

// leave takes somebody who gave up out of the queue, or returns the slot that came at the same moment.
func (l *Limiter) leave(w *waiter) {
	l.mu.Lock()
	at := slices.Index(l.queue, w)
	if at >= 0 {
		l.dequeue(at)
	}
	l.mu.Unlock()
	if at < 0 && <-w.answer == nil {
		l.release(w.key)
	}
}

// count adds to an entry, and removes it at zero: those who ask choose the names.
func count[K comparable, N int | int64](of map[K]N, key K, by N) {
	if of[key] += by; of[key] == 0 {
		delete(of, key)
	}
}
