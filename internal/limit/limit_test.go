package limit

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"sync"
	"testing"
	"testing/synctest"
)

// asking is a crowd that asks a Limiter, and notes who got a slot and who was sent away.
type asking struct {
	t        *testing.T
	limiter  *Limiter
	mu       sync.Mutex // the end of a test answers all who still wait, at once
	got      []string
	refused  []string
	releases map[string]func()
}

func newAsking(t *testing.T, options Options) *asking {
	t.Helper()
	return &asking{t: t, limiter: New(options), releases: map[string]func(){}}
}

// ask asks in the background, and returns once the limiter has answered or has it wait.
func (a *asking) ask(ctx context.Context, name string, key Key, weight int64) {
	a.t.Helper()
	go func() {
		release, err := a.limiter.Acquire(ctx, key, weight)
		a.mu.Lock()
		defer a.mu.Unlock()
		if err != nil {
			a.refused = append(a.refused, name)
			return
		}
		a.got = append(a.got, name)
		a.releases[name] = release
	}()
	synctest.Wait()
}

func (a *asking) release(name string) {
	a.t.Helper()
	a.releases[name]()
	synctest.Wait()
}

func (a *asking) want(reason string, got, refused []string) {
	a.t.Helper()
	if !slices.Equal(a.got, got) || !slices.Equal(a.refused, refused) {
		a.t.Errorf("%s: slots went to %v and %v were sent away, want %v and %v", reason, a.got, a.refused, got, refused)
	}
}

func tenant(name string) Key { return Key{Source: "api server", Name: name} }

func TestOneTenantLeavesSlotsToOthers(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		a := newAsking(t, Options{Slots: 4, Share: 2, Waiting: 1 << 30, WaitingShare: 1 << 30})
		for n := range 10 {
			a.ask(t.Context(), fmt.Sprint("greedy", n), tenant("greedy"), 0)
		}
		a.want("one tenant fills its share alone", []string{"greedy0", "greedy1"}, nil)
		a.ask(t.Context(), "other", tenant("other"), 0)
		a.want("another does not wait", []string{"greedy0", "greedy1", "other"}, nil)
		a.release("greedy1")
		a.want("its own free slot goes to the next", []string{"greedy0", "greedy1", "other", "greedy2"}, nil)
	})
}

func TestAFreeSlotGoesToWhoHasFewest(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		a := newAsking(t, Options{Slots: 4, Share: 4, Waiting: 1 << 30, WaitingShare: 1 << 30})
		pod := Key{Source: "a pod", Name: "a"}
		for n := range 4 {
			a.ask(t.Context(), fmt.Sprint("pod", n), pod, 0)
		}
		a.ask(t.Context(), "forged", Key{Source: "a pod", Name: "invented"}, 0)
		a.ask(t.Context(), "honest", tenant("ml"), 0)
		a.release("pod0")
		a.want("invented names do not help a source", []string{"pod0", "pod1", "pod2", "pod3", "honest"}, nil)
		a.release("pod1")
		a.want("and it is served when others are", []string{"pod0", "pod1", "pod2", "pod3", "honest", "forged"}, nil)
	})
}

func TestThereIsLittleRoomToWait(t *testing.T) {
	const mib = 1 << 20
	synctest.Test(t, func(t *testing.T) {
		a := newAsking(t, Options{Slots: 1, Share: 1, Waiting: 10 * mib, WaitingShare: 6 * mib})
		a.ask(t.Context(), "first", tenant("a"), 0)
		a.ask(t.Context(), "a1", tenant("a"), 3*mib)
		a.ask(t.Context(), "a2", tenant("a"), 3*mib)
		a.ask(t.Context(), "a3", tenant("a"), 3*mib)
		a.want("a tenant fills its share of the room alone", []string{"first"}, []string{"a3"})
		a.ask(t.Context(), "b1", tenant("b"), 3*mib)
		a.ask(t.Context(), "c1", tenant("c"), 2*mib)
		a.want("who holds most makes room for who holds less", []string{"first"}, []string{"a3", "a2"})
		a.ask(t.Context(), "large", Key{Source: "a pod"}, 6*mib)
		a.want("nobody makes room in vain", []string{"first"}, []string{"a3", "a2", "large"})
		a.ask(t.Context(), "small", Key{Source: "a pod"}, 4*mib)
		a.want("another source holds less", []string{"first"}, []string{"a3", "a2", "large", "b1"})
		a.ask(t.Context(), "d1", tenant("d"), 3*mib)
		a.want("and a tenant that would hold as much as others is sent away", []string{"first"}, []string{"a3", "a2", "large", "b1", "d1"})
	})
}

func TestWhoGivesUpTakesNoSlot(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		a := newAsking(t, Options{Slots: 1, Share: 1, Waiting: 1 << 30, WaitingShare: 1 << 30})
		a.ask(t.Context(), "first", tenant("a"), 0)
		ctx, cancel := context.WithCancel(t.Context())
		a.ask(ctx, "impatient", tenant("b"), 0)
		cancel()
		synctest.Wait()
		a.ask(ctx, "too late", tenant("b"), 0)
		a.release("first")
		a.want("nothing waits for them", []string{"first"}, []string{"impatient", "too late"})
		if l := a.limiter; l.running != 0 || l.held != 0 || len(l.queue)+len(l.heldKeys)+len(l.heldSources)+len(l.runningKeys)+len(l.runningSources) != 0 {
			t.Errorf("it keeps %+v of those who are gone", l)
		}
		if _, err := a.limiter.Acquire(ctx, tenant("a"), 0); !errors.Is(err, context.Canceled) {
			t.Errorf("got %v", err)
		}
	})
}

// TestASlotThatComesTooLateIsReturned has somebody give up and get a slot at the same moment.
func TestASlotThatComesTooLateIsReturned(t *testing.T) {
	l := New(Options{Slots: 1, Share: 1, Waiting: 1 << 30, WaitingShare: 1 << 30})
	release, err := l.Acquire(t.Context(), tenant("a"), 0)
	if err != nil {
		t.Fatal(err)
	}
	w := &waiter{key: tenant("b"), weight: minWeight, answer: make(chan error, 1)}
	l.enqueue(w)
	release()
	l.leave(w)
	if l.running != 0 {
		t.Error("the slot is lost")
	}
}
