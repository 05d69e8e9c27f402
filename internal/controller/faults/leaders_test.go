package faults_test

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"math/rand/v2"
	"reflect"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"sigs.k8s.io/controller-runtime/pkg/client"
)

var (
	oneSeed = flag.Int("seed", -1, "play only the schedule of this seed, and print it")
	seeds   = flag.Int("seeds", 4, "how many schedules of each scenario are played")
)

// most is the most that a cache lags, and lease for how long a leader may not know that it does not lead any more.
const (
	most  = 3 * time.Second
	lease = 15 * time.Second
)

// lagging shows of each kind what the API server kept when the kind was synced last.
type lagging struct {
	api    *apiServer
	kinds  map[string]client.Reader
	synced map[int]time.Time
	// version is how often something was synced.
	version int
}

func newLagging(api *apiServer) *lagging {
	l := &lagging{api: api, kinds: map[string]client.Reader{}, synced: map[int]time.Time{}}
	l.catchUp(0)
	return l
}

// catchUp syncs what lags for longer.
func (l *lagging) catchUp(longer time.Duration) {
	for kind := range lists() {
		if l.api.clock.Now().Sub(l.synced[kind]) >= longer {
			l.sync(kind)
		}
	}
}

func (l *lagging) sync(kind int) {
	objects := lists()[kind]
	if err := l.api.List(context.Background(), objects); err != nil {
		panic(err)
	}
	l.kinds[kindOf(objects)] = store(items(objects))
	l.synced[kind] = l.api.clock.Now()
	l.version++
}

// kindOf is one name for an object and for a list of such.
func kindOf(of any) string { return strings.TrimSuffix(reflect.TypeOf(of).Elem().Name(), "List") }

// Get implements client.Reader.
func (l *lagging) Get(ctx context.Context, key client.ObjectKey, object client.Object, options ...client.GetOption) error {
	return l.kinds[kindOf(object)].Get(ctx, key, object, options...)
}

// List implements client.Reader.
func (l *lagging) List(ctx context.Context, list client.ObjectList, options ...client.ListOption) error {
	return l.kinds[kindOf(list)].List(ctx, list, options...)
}

// leader is an operator that makes a call only when it is its turn, and whose caches lag.
type leader struct {
	*operator
	cache *lagging
	// asks is where it says which call it is about to make, empty when its reconcile is over, and may lets it.
	asks chan string
	may  chan bool
	// at is the call that it is about to make; empty while it reconciles nothing.
	at  string
	err error
}

func newLeader(w *world) *leader {
	l := &leader{operator: newOperator(w, fault{}), cache: newLagging(w.api), asks: make(chan string), may: make(chan bool)}
	l.operator.cache, l.news = l.cache, func() int { return l.cache.version }
	l.turn = func(call string) {
		l.asks <- call
		if !<-l.may {
			panic(errKilled)
		}
	}
	return l
}

// move lets the leader go on to its next call: of the reconcile that is under way, or of the next one.
func (l *leader) move(ctx context.Context) error {
	if l.at != "" {
		l.may <- true
	} else {
		go func() {
			_, l.err = l.reconcile(ctx)
			l.asks <- ""
		}()
	}
	l.at = <-l.asks
	if l.at == "" {
		return l.err
	}
	return nil
}

// kill ends the leader wherever it is.
func (l *leader) kill() {
	if l.at != "" {
		l.may <- false
		<-l.asks
	}
}

// lead ends the reconcile that is under way. From then on the leader is an operator whose caches do not lag.
func (l *leader) lead(ctx context.Context) (*operator, error) {
	for l.at != "" {
		if err := l.move(ctx); err != nil {
			return nil, err
		}
	}
	l.turn, l.operator.cache, l.news = nil, l.world.api, func() int { return l.world.api.writes }
	return l.operator, nil
}

// duel is a world in which two operators lead at a time: the lease of one has ended, and it does not know it yet.
type duel struct {
	*world
	r       *rand.Rand
	leaders [2]*leader
	trace   []string
}

func (d *duel) note(format string, args ...any) {
	d.trace = append(d.trace, fmt.Sprintf("%7.1fs ", d.now().Sub(epoch()).Seconds())+fmt.Sprintf(format, args...))
}

// play has both lead until the lease has ended, and returns the one that leads then.
func (d *duel) play(ctx context.Context) (*operator, error) {
	for end := d.now().Add(lease); d.now().Before(end); {
		who := d.r.IntN(2)
		l := d.leaders[who]
		switch n := d.r.IntN(12); {
		case n < 6:
			if err := l.move(ctx); err != nil {
				return nil, err
			}
			if l.at != "" {
				d.note("leader %d: %s", who, l.at)
			}
		case n < 9:
			l.cache.sync(d.r.IntN(len(lists())))
		case n < 11:
			if err := errors.Join(d.kubelet(ctx), d.kubeRay(ctx), d.pairs(ctx)); err != nil {
				return nil, err
			}
		default:
			d.pass(time.Duration(d.r.IntN(1000)) * time.Millisecond)
			for _, l := range d.leaders {
				l.cache.catchUp(most)
			}
		}
	}
	d.leaders[0].kill()
	d.note("leader 1 leads alone")
	return d.leaders[1].lead(ctx)
}

// duelOf plays a scenario: one operator makes so many calls, then two lead, and then one.
func duelOf(t *testing.T, s scenario, begin *world, seed, calls int) (*duel, error) {
	t.Helper()
	d := &duel{world: begin.clone(), r: rand.New(rand.NewPCG(uint64(seed), 0))}
	s.ask(t, d.world)
	done := func() bool { return s.done(t, d.world) }
	if err := d.settle(t.Context(), done, newOperator(d.world, fault{at: 1 + d.r.IntN(calls), way: killedBefore})); err != nil && !errors.Is(err, errKilled) {
		return d, err
	}
	d.leaders = [2]*leader{newLeader(d.world), newLeader(d.world)}
	last, err := d.play(t.Context())
	if err != nil {
		return d, err
	}
	return d, d.settle(t.Context(), done, last)
}

// TestTwoLeaders has an operator lead for a while, and then two at a time for as long as a lease lasts. Their caches lag, and a seed
// decides which of them makes its next call. Everything ends as with one: each pod was restarted once at most, and each pair of pods
// could talk.
func TestTwoLeaders(t *testing.T) {
	for name, s := range scenarios() {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			begin := s.begin(t)
			w, alone, err := run(t, s, begin, fault{})
			if err != nil {
				t.Fatalf("with one leader: %v", err)
			}
			want, both := w.state(t), 0
			first, last := 0, *seeds
			if *oneSeed >= 0 {
				first, last = *oneSeed, *oneSeed+1
			}
			for seed := first; seed < last; seed++ {
				d, err := duelOf(t, s, begin, seed, len(alone.calls))
				if err == nil {
					if diff := cmp.Diff(want, d.state(t)); diff != "" {
						err = fmt.Errorf("it ends otherwise (-want +got):\n%s", diff)
					}
				}
				if *oneSeed >= 0 || err != nil {
					t.Logf("%s", strings.Join(d.trace, "\n"))
				}
				if err != nil {
					t.Fatalf("seed %d: %v\nto see it again: go test ./internal/controller/faults -run %s -seed %d", seed, err, t.Name(), seed)
				}
				if len(d.leaders[0].calls) > 1 && len(d.leaders[1].calls) > 1 {
					both++
				}
			}
			if both == 0 && *oneSeed < 0 {
				t.Error("the leaders were never at it together")
			}
		})
	}
}
