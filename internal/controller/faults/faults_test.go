package faults_test

import (
	"errors"
	"flag"
	"fmt"
	"maps"
	"os"
	"slices"
	"strings"
	"testing"

	"github.com/go-logr/logr"
	"github.com/google/go-cmp/cmp"
	ctrl "sigs.k8s.io/controller-runtime"
)

var every = flag.Int("every", 4, "play every so many faults of each kind: 1 plays all of them, and 4 has each call fail in one of the four ways")

func TestMain(m *testing.M) {
	ctrl.SetLogger(logr.Discard())
	os.Exit(m.Run())
}

// run plays a scenario with a fault from its beginning on, and returns the first operator. When a fault killed it, another one goes on.
func run(t testing.TB, s scenario, begin *world, f fault) (*world, *operator, error) {
	t.Helper()
	w := begin.clone()
	s.ask(t, w)
	first := newOperator(w, f)
	done := func() bool { return s.done(t, w) }
	err := w.settle(t.Context(), done, first)
	if errors.Is(err, errKilled) {
		err = w.settle(t.Context(), done, newOperator(w, fault{}))
	}
	return w, first, err
}

// TestEveryCallFailsOnce has the first call of the operator to the API server fail, then the second, and so on until there are no more.
// Each time everything ends as without a fault: each pod was restarted once at most, and each pair of pods that ran at the same time
// could talk.
func TestEveryCallFailsOnce(t *testing.T) {
	for name, s := range scenarios() {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			begin := s.begin(t)
			w, undisturbed, err := run(t, s, begin, fault{})
			if err != nil {
				t.Fatalf("without a fault: %v", err)
			}
			want, calls := w.state(t), len(undisturbed.calls)
			for _, place := range []string{"head", "small-0", "small-1"} {
				if w.restarts[place] != s.restarts {
					t.Fatalf("without a fault, the pods are restarted %v times, and should be %d times", w.restarts, s.restarts)
				}
			}
			played := map[way]int{}
			for at, how := range []way{refused, lost, killedBefore, killedAfter} {
				for n := 1 + at%*every; ; n += *every {
					w, o, err := run(t, s, begin, fault{at: n, way: how})
					if len(o.calls) < n {
						break
					}
					played[how]++
					if err == nil {
						if diff := cmp.Diff(want, w.state(t)); diff != "" {
							err = fmt.Errorf("it ends otherwise (-want +got):\n%s", diff)
						}
					}
					if err != nil {
						t.Errorf("call %d, %s, %s: %v\n%s", n, o.calls[n-1], how, err, strings.Join(around(o.calls, n), "\n"))
						return
					}
				}
			}
			t.Logf("%d calls without a fault, writes among them; faults: %v", calls, played)
			for _, how := range slices.Collect(maps.Keys(played)) {
				if played[how] < calls / *every / 2 {
					t.Errorf("%s: %d faults are too few for %d calls", how, played[how], calls)
				}
			}
		})
	}
}

// around are the calls around the n-th.
func around(calls []string, n int) []string {
	var out []string
	for i := max(0, n-6); i < min(len(calls), n+8); i++ {
		out = append(out, fmt.Sprintf("%4d %s", i+1, calls[i]))
	}
	return out
}
