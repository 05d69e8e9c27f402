package serving

import (
	"bytes"
	"crypto/x509"
	"flag"
	"fmt"
	"maps"
	"math/rand/v2"
	"slices"
	"strings"
	"testing"
	"time"
)

var (
	oneSeed = flag.Int("seed", -1, "play only the schedule of this seed, and print it")
	seeds   = flag.Int("seeds", 60, "how many schedules are played")
)

const (
	// serverLag and replicaLag bound how late API servers learn of caBundle, and replicas of Secret and caBundle.
	serverLag  = 50 * time.Second
	replicaLag = 5 * time.Minute
)

// history is an object of the API server with all that it ever was.
type history struct {
	versions []map[string][]byte // nil: it does not exist
	at       []time.Time
}

func (h *history) write(now time.Time, content map[string][]byte) {
	h.versions, h.at = append(h.versions, content), append(h.at, now)
}

func (h *history) last() int { return len(h.versions) - 1 }

// late says whether who has seen this version should have seen a later one.
func (h *history) late(seen int, now time.Time, lag time.Duration) bool {
	return seen < h.last() && now.Sub(h.at[seen+1]) > lag
}

// replica is a running operator.
type replica struct {
	memory         Memory
	serves         *Generation
	secret, bundle int
	again          time.Time
	// dirty: it has seen something that it has not acted on since that time.
	dirty time.Time
}

// schedule plays replicas and API servers in an order that a seed decides.
type schedule struct {
	Profile
	r              *rand.Rand
	now            time.Time
	secret, bundle history
	replicas       []*replica
	leader         int
	// servers are API servers, each with the version of caBundle that it knows.
	servers []int
	// calm: nobody deletes, alters or kills. starting: nobody trusts anything yet.
	calm, starting bool
	rotations      int
	trace          []string
}

func (x *schedule) note(format string, args ...any) {
	x.trace = append(x.trace, fmt.Sprintf("%9.0fs ", x.now.Sub(epoch()).Seconds())+fmt.Sprintf(format, args...))
}

func newSchedule(seed int) *schedule {
	x := &schedule{Profile: profile(), r: rand.New(rand.NewPCG(uint64(seed), 1)), now: epoch(), starting: true, servers: make([]int, 2)}
	x.secret.write(x.now, nil)
	x.bundle.write(x.now, map[string][]byte{keyBundle: nil})
	for range 3 {
		x.replicas = append(x.replicas, x.started())
	}
	return x
}

// started is a replica that has read everything, as caches do before anything runs.
func (x *schedule) started() *replica {
	return &replica{secret: x.secret.last(), bundle: x.bundle.last(), dirty: x.now}
}

func (x *schedule) kill(i int) {
	x.note("replica %d starts anew", i)
	x.replicas[i] = x.started()
	if i == x.leader {
		x.leader = x.r.IntN(len(x.replicas))
		x.replicas[x.leader].dirty = x.now
		x.note("replica %d leads", x.leader)
	}
}

// act is a reconcile of a replica. The leader may be killed before each of its writes, and after them.
func (x *schedule) act(i int) error {
	r := x.replicas[i]
	survives := 3
	if !x.calm && x.r.IntN(12) == 0 {
		survives = x.r.IntN(3)
	}
	r.dirty, r.again = time.Time{}, time.Time{}
	observed := Observe(x.bundle.versions[r.bundle][keyBundle])
	stored := Parse(x.secret.versions[r.secret], observed)
	r.memory = r.memory.See(x.now, stored, observed)
	adopts, again := x.Adopt(x.now, r.serves, stored, observed, r.memory)
	if adopts {
		x.note("replica %d serves %s", i, stored.Current.ID())
		r.serves = stored.Current
	}
	r.again = again
	if i != x.leader {
		return nil
	}
	d, err := x.Decide(x.now, stored, observed, r.memory)
	if err != nil {
		return err
	}
	r.memory = d.Memory
	if r.again.IsZero() || !d.Again.IsZero() && d.Again.Before(r.again) {
		r.again = d.Again
	}
	data, err := d.Stored.Data()
	if err != nil {
		return err
	}
	if survives == 0 {
		x.kill(i)
		return nil
	}
	latest := r.secret == x.secret.last()
	if !maps.EqualFunc(data, x.secret.versions[r.secret], bytes.Equal) || x.secret.versions[r.secret] == nil {
		if !latest {
			r.dirty = x.now // a conflict
			return nil
		}
		x.note("leader %d stores %s: %s", i, d.Stored, d.Why)
		if d.Stored.Current != nil && d.Stored.Current.ID() == stored.Next.ID() {
			x.rotations++
		}
		x.secret.write(x.now, data)
	}
	if survives == 1 {
		x.kill(i)
		return nil
	}
	if want := d.Stored.Bundle(); !bytes.Equal(want, x.bundle.versions[r.bundle][keyBundle]) {
		if !latest || r.bundle != x.bundle.last() {
			r.dirty = x.now // the Secret is read past the cache before caBundle is changed
			return nil
		}
		x.note("leader %d has %d authorities trusted", i, len(d.Stored.Authorities))
		x.bundle.write(x.now, map[string][]byte{keyBundle: want})
	}
	if survives == 2 {
		x.kill(i)
	}
	return nil
}

// see has a replica see these versions.
func (x *schedule) see(i, secret, bundle int) {
	r := x.replicas[i]
	if (secret != r.secret || bundle != r.bundle) && r.dirty.IsZero() {
		r.dirty = x.now
	}
	r.secret, r.bundle = secret, bundle
}

// overdue has happen what must have happened by now.
func (x *schedule) overdue() error {
	for i, seen := range x.servers {
		if x.bundle.late(seen, x.now, serverLag) {
			x.servers[i] = x.bundle.last()
		}
	}
	for i, r := range x.replicas {
		if x.secret.late(r.secret, x.now, replicaLag) || x.bundle.late(r.bundle, x.now, replicaLag) {
			x.see(i, x.secret.last(), x.bundle.last())
		}
		if !r.again.IsZero() && !x.now.Before(r.again) && r.dirty.IsZero() {
			r.dirty = r.again
		}
		if !r.dirty.IsZero() && x.now.Sub(r.dirty) > 30*time.Second {
			if err := x.act(i); err != nil {
				return err
			}
		}
	}
	return nil
}

// step has one of all that can happen happen.
func (x *schedule) step() error {
	i := x.r.IntN(len(x.replicas))
	r := x.replicas[i]
	switch x.r.IntN(8) {
	case 0, 1:
		x.now = x.now.Add(time.Duration(x.r.IntN(20000)) * time.Millisecond)
		return x.overdue()
	case 2:
		s := x.r.IntN(len(x.servers))
		x.servers[s] += x.r.IntN(len(x.bundle.versions) - x.servers[s])
	case 3:
		x.see(i, r.secret+x.r.IntN(len(x.secret.versions)-r.secret), r.bundle)
	case 4:
		x.see(i, r.secret, r.bundle+x.r.IntN(len(x.bundle.versions)-r.bundle))
	case 5:
		if !r.dirty.IsZero() {
			return x.act(i)
		}
	case 6:
		x.see(x.leader, x.secret.last(), x.bundle.last())
		return x.act(x.leader)
	case 7:
		if !x.calm && x.r.IntN(15) == 0 {
			return x.disturb(i)
		}
	}
	return nil
}

// disturb has somebody do harm.
func (x *schedule) disturb(i int) error {
	present := x.secret.versions[x.secret.last()]
	altered := func(key string, value []byte) {
		if present == nil {
			return
		}
		content := maps.Clone(present)
		if content[key] = value; value == nil {
			delete(content, key)
		}
		x.secret.write(x.now, content)
		x.note("SOMEBODY alters %s", key)
	}
	switch x.r.IntN(12) {
	case 0, 1:
		x.kill(i)
	case 2:
		x.kill(x.leader)
	case 3:
		x.note("SOMEBODY deletes the Secret")
		x.secret.write(x.now, nil)
	case 4:
		altered(slices.Sorted(maps.Keys(map[string]bool{keyCurrentKey: true, keyCurrentCertificate: true, keyNextCertificate: true, keyNextKey: true}))[x.r.IntN(4)], []byte("x"))
	case 5:
		altered(keyBundle, nil)
	case 6:
		altered(keyNextKey, nil)
	case 7:
		// Whoever restores an old Secret does so when nothing else is going on: a replica that has not seen yet that the old
		// authority is no longer trusted cannot know better.
		if err := x.rest(); err != nil {
			return err
		}
		x.note("SOMEBODY restores a backup")
		x.secret.write(x.now, x.secret.versions[x.r.IntN(len(x.secret.versions))])
	default:
		if err := x.rest(); err != nil {
			return err
		}
		x.now = x.now.Add(time.Duration((10*24 + x.r.IntN(15*24))) * time.Hour)
		x.note("days pass")
		return x.overdue()
	}
	return nil
}

// rest has everybody do what there is to do until nothing is, and nobody disturbs.
func (x *schedule) rest() error {
	calm := x.calm
	x.calm = true
	defer func() { x.calm = calm }()
	versions := 0
	for quiet := 0; quiet < 12; quiet++ {
		for i := range x.servers {
			x.servers[i] = x.bundle.last()
		}
		for i := range x.replicas {
			x.see(i, x.secret.last(), x.bundle.last())
			if err := x.act(i); err != nil {
				return err
			}
		}
		if err := x.check(); err != nil {
			return err
		}
		if total := len(x.secret.versions) + len(x.bundle.versions); total != versions {
			versions, quiet = total, 0
		}
		x.now = x.now.Add(65 * time.Second)
	}
	for i := range x.servers {
		x.servers[i] = x.bundle.last()
	}
	x.starting = false
	return x.settled()
}

// check is what holds at every moment: API servers take what replicas serve.
func (x *schedule) check() error {
	for i, r := range x.replicas {
		for s, seen := range x.servers {
			if r.serves == nil || x.starting {
				continue
			}
			// That an authority vouches for its certificate is checked elsewhere; here it would take most of the time.
			trusted := bytes.Contains(x.bundle.versions[seen][keyBundle], encode(r.serves.authority))
			if !trusted || len(valid([]*x509.Certificate{r.serves.leaf, r.serves.authority}, x.now)) != 2 {
				return fmt.Errorf("API server %d does not take what replica %d serves (%s)", s, i, r.serves.ID())
			}
		}
	}
	return nil
}

// settled is what holds once nothing is left to do.
func (x *schedule) settled() error {
	stored := Parse(x.secret.versions[x.secret.last()], Observed{})
	if stored.Current == nil || stored.Next != nil || len(stored.Authorities) != 1 {
		return fmt.Errorf("at rest there is one generation: %s", stored)
	}
	if !bytes.Equal(stored.Bundle(), x.bundle.versions[x.bundle.last()][keyBundle]) {
		return fmt.Errorf("at rest caBundle is another than the Secret's")
	}
	for i, r := range x.replicas {
		if r.serves.ID() != stored.Current.ID() {
			return fmt.Errorf("at rest replica %d serves %q and not %q", i, r.serves.ID(), stored.Current.ID())
		}
	}
	return nil
}

func (x *schedule) run(steps int) error {
	if err := x.rest(); err != nil {
		return err
	}
	for range steps {
		if err := x.step(); err != nil {
			return err
		}
		if err := x.check(); err != nil {
			return err
		}
	}
	return x.rest()
}

// At every moment of every schedule API servers take what each replica serves.
func TestInterleavings(t *testing.T) {
	first, last, rotations := 0, *seeds, 0
	if testing.Short() {
		last /= 5
	}
	if *oneSeed >= 0 {
		first, last = *oneSeed, *oneSeed+1
	}
	for seed := first; seed < last; seed++ {
		x := newSchedule(seed)
		err := x.run(300 + x.r.IntN(900))
		rotations += x.rotations
		if err == nil && *oneSeed < 0 {
			continue
		}
		if *oneSeed < 0 && len(x.trace) > 60 {
			x.trace = x.trace[len(x.trace)-60:]
		}
		t.Logf("%s", strings.Join(x.trace, "\n"))
		if err != nil {
			t.Fatalf("seed %d: %v", seed, err)
		}
	}
	if *oneSeed < 0 && rotations < last {
		t.Errorf("only %d certificates were replaced in %d schedules", rotations, last)
	}
}

// After an outage of everything that outlasts the certificate, all is as at the first start.
func TestEverythingExpired(t *testing.T) {
	x := newSchedule(0)
	if err := x.rest(); err != nil {
		t.Fatal(err)
	}
	x.now = x.now.Add(120 * day)
	for i := range x.replicas {
		x.kill(i)
	}
	x.starting = true
	began := x.now
	x.see(x.leader, x.secret.last(), x.bundle.last())
	for range 3 {
		for i := range x.replicas {
			x.see(i, x.secret.last(), x.bundle.last())
			if err := x.act(i); err != nil {
				t.Fatal(err)
			}
		}
	}
	x.starting, x.servers = false, []int{x.bundle.last()}
	if err := x.check(); err != nil {
		t.Error(err)
	}
	if !x.now.Equal(began) {
		t.Error("nobody waited")
	}
	if err := x.rest(); err != nil {
		t.Error(err)
	}
}
