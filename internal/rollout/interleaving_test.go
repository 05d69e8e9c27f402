package rollout

import (
	"errors"
	"flag"
	"fmt"
	"math/rand/v2"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/raytls/raytls/api/v1alpha1"
)

var (
	oneSeed = flag.Int("seed", -1, "play only the schedule of this seed, and print it")
	seeds   = flag.Int("seeds", 500, "how many schedules of each kind are played")
)

// schedule plays a world in an order that a seed decides.
type schedule struct {
	*world
	r     *rand.Rand
	trace []string
	// disturbed: users and other controllers were at it, apart from what the test began with.
	disturbed bool
	// may says what somebody may do in between.
	may []func(*schedule) string
	// prompt: KubeRay's cache never lags, so that it makes no pod from templates that have been changed.
	prompt bool
	// stopped: it was without pods for a moment.
	stopped bool
	// approver: each restart that waits for an approval gets one in the end.
	approver bool
	last     Plan
	// spent are the approvals that were there when a restart ended without success and was not put off for a job.
	spent []string
}

func (x *schedule) note(format string, args ...any) {
	x.trace = append(x.trace, fmt.Sprintf("%6.1fs ", x.now.Sub(start()).Seconds())+fmt.Sprintf(format, args...))
}

// operator looks, checks what it is told to do, and does it; now and then it is killed in between.
func (x *schedule) operator() error {
	survives := 100
	if x.r.IntN(12) == 0 {
		survives = x.r.IntN(3)
	}
	before := x.snapshot()
	if err := x.plan(before); err != nil {
		return err
	}
	version, recorded, deletes := x.cluster.version, x.record.version, len(x.restarts)
	s, p := x.operate(survives)
	x.last = p
	if ended := s.Progress != nil && s.Progress.Goal == v1alpha1.GoalEncrypted && s.Progress.Phase != v1alpha1.PhaseRevert &&
		(p.Progress == nil || p.Progress.Phase == v1alpha1.PhaseRevert || p.Progress.Goal == v1alpha1.GoalPlaintext); ended && !p.Enabled && s.BlockedBy == "" && x.record.Equal(&p.Record) {
		x.spent = slices.Clone(x.approvals)
	}
	if x.wrong != nil {
		return x.wrong
	}
	if x.cluster.version != version || x.record.version != recorded || len(x.restarts) != deletes || survives < 100 {
		x.note("operator %s%s: %s (survives %d)", acts(s, &p), p.Reason, p.Message, survives)
	}
	if survives < 100 {
		x.dirty = true // a restarted operator looks at everything
	}
	return nil
}

// plan checks what holds for each plan whatever happened.
func (x *schedule) plan(s *Snapshot) error {
	kept := x.snapshot()
	p := Make(s)
	if diff := cmp.Diff(kept, s); diff != "" {
		return fmt.Errorf("planning changed the snapshot:\n%s", diff)
	}
	if diff := cmp.Diff(p, Make(kept)); diff != "" {
		return fmt.Errorf("another operator would plan something else:\n%s", diff)
	}
	if p.Reason == "" {
		return fmt.Errorf("a plan without a reason: %+v", p)
	}
	if p.Changes(s) && len(p.Delete) > 0 {
		return fmt.Errorf("a plan that writes deletes %v too", p.Delete)
	}
	if !p.RequeueAt.IsZero() && !p.RequeueAt.After(s.Now) {
		return fmt.Errorf("plans anew at %s, which has passed", p.RequeueAt)
	}
	if err := errors.Join(evictionsAllowed(s, &p), slotFreed(s, &p)); err != nil {
		return err
	}
	for _, pod := range p.Delete {
		if !slices.Contains(s.Pods, pod) || pod.Terminating {
			return fmt.Errorf("deletes %+v, which is not the cluster's or goes anyway", pod)
		}
	}
	if p.Reason == v1alpha1.ReasonEncrypted && len(s.pods(plaintext)) > 0 {
		return fmt.Errorf("reports Encrypted while %v speak plaintext", s.pods(plaintext))
	}
	if p.Release && (len(s.pods(injected)) > 0 || s.anyPieces()) {
		return fmt.Errorf("lets go of the keys of %v", s.pods(injected))
	}
	return x.restartsAllowed(s, &p)
}

// restartsAllowed checks what may be changed and deleted now.
func (x *schedule) restartsAllowed(s *Snapshot, p *Plan) error {
	// Putting a cluster back whose pods cannot talk needs no consent, nor does recording what a RayService was asked for.
	back := p.Progress != nil && (p.Progress.Phase == v1alpha1.PhaseUpgrade && p.Upgrade == "" || p.Progress.Phase == v1alpha1.PhaseRevert || p.Progress.Goal == v1alpha1.GoalPlaintext && s.half())
	consent := back || s.Immediate || s.Approved || s.Goal == v1alpha1.GoalPlaintext
	if !consent && s.Progress == nil && !s.Enabled && !s.injecting() && s.Running() && (p.Edit != NoEdit || slices.ContainsFunc(p.Delete, plaintext) || p.Progress != nil) {
		return fmt.Errorf("touches a running cluster that nobody approved: %s", acts(s, p))
	}
	work := s.Running() && (s.Goal == v1alpha1.GoalEncrypted || len(s.live(injected)) > 0)
	revokes := p.Progress != nil && p.Progress.Phase == v1alpha1.PhaseRevoke
	free := revokes && (s.Revocation.Now || len(s.live(every)) == 0) // all pods are on their way out anyway
	if revokes && s.Progress == nil && work && !free && !s.Immediate && !s.Approved {
		return fmt.Errorf("revokes the authority of a running cluster that nobody approved")
	}
	if s.Progress == nil && p.Progress != nil && s.BlockedBy != "" && work && !back && !free {
		return fmt.Errorf("starts on a blocked cluster")
	}
	if s.Progress == nil && p.Progress != nil && work && !back && !s.Immediate && slices.Contains(x.spent, restartID(s)) {
		return fmt.Errorf("starts by an approval that was used")
	}
	for _, pod := range p.Delete {
		switch {
		case pod.Injected && pod.Revoked == "" && s.Goal == v1alpha1.GoalEncrypted && (s.anyPieces() || s.Enabled) && (s.Progress == nil || s.Progress.Goal == v1alpha1.GoalEncrypted):
			return fmt.Errorf("restarts pod %s, which is encrypted", pod.Name)
		case !pod.Injected && !pod.Pieces && s.Goal == v1alpha1.GoalPlaintext && (s.Progress == nil || s.Progress.Goal == v1alpha1.GoalPlaintext):
			return fmt.Errorf("restarts pod %s, which is in plaintext", pod.Name)
		case !pod.Injected && s.BlockedBy != "" && s.Progress != nil && (s.Progress.Phase == v1alpha1.PhaseCanary || s.Progress.Phase == v1alpha1.PhaseHead):
			return fmt.Errorf("restarts pod %s of a cluster that is blocked", pod.Name)
		case !pod.Injected && pod.Group == "" && s.Progress != nil && s.Progress.Phase == v1alpha1.PhaseHead && x.eligible && !x.certified:
			return fmt.Errorf("restarts the head before any worker has made a certificate, and some could")
		}
	}
	return nil
}

// step has one of all that can happen happen.
func (x *schedule) step(calm bool) error {
	switch x.r.IntN(10) {
	case 0, 1, 2:
		if x.due() {
			return x.operator()
		}
		x.syncCluster(len(x.clusters) - 1)
		x.syncRecord(len(x.records) - 1)
		x.syncPods(len(x.lists) - 1)
	case 3:
		x.syncCluster(x.seen.cluster + x.r.IntN(len(x.clusters)-x.seen.cluster))
	case 9:
		x.syncRecord(x.seen.record + x.r.IntN(len(x.records)-x.seen.record))
	case 4:
		x.syncPods(x.seen.pods + x.r.IntN(len(x.lists)-x.seen.pods))
	case 5:
		x.seen.kuberay += x.r.IntN(len(x.clusters) - x.seen.kuberay)
	case 6:
		if x.prompt {
			x.seen.kuberay = len(x.clusters) - 1
		}
		x.kuberay()
	case 7:
		x.tick(time.Duration(x.r.IntN(3000)) * time.Millisecond)
	case 8:
		if len(x.may) > 0 && !calm && x.r.IntN(6) == 0 {
			x.disturbed = true
			x.note("USER %s", x.may[x.r.IntN(len(x.may))](x))
		}
	}
	return nil
}

func (x *schedule) tick(d time.Duration) {
	x.now = x.now.Add(d)
	before := x.String()
	x.kubelet()
	x.stopped = x.stopped || len(x.own(func(simPod) bool { return true })) == 0
	if x.String() != before {
		x.note("         %s", x)
	}
}

// settle lets everybody do what is left to do. It is an error if that does not end. Jobs end some time, and what refuses evictions does.
func (x *schedule) settle() error {
	quiet := 0
	x.settings(func() {
		x.blocked = ""
		clear(x.refused)
	})
	for range 4000 {
		before := []int{x.cluster.version, x.record.version, len(x.lists)}
		x.seen.kuberay = len(x.clusters) - 1
		x.kuberay()
		x.sync()
		for range 20 {
			if !x.due() {
				break
			}
			if err := x.operator(); err != nil {
				return err
			}
			x.sync()
		}
		if x.due() {
			return fmt.Errorf("the operator acts without end: %s %s", x.last.Reason, x.last.Message)
		}
		x.tick(time.Second)
		if slices.Equal(before, []int{x.cluster.version, x.record.version, len(x.lists)}) {
			quiet++
		} else {
			quiet = 0
		}
		if quiet <= 10 {
			continue
		}
		if x.approver && (x.last.RestartWaits || x.last.Roll.Approvable) && x.approve() {
			continue
		}
		next := x.requeueAt
		if !next.IsZero() {
			next = next.Add(-x.ahead)
		}
		for _, i := range x.own(func(p simPod) bool { return p.terminating }) {
			if gone := x.pods[i].gone; next.IsZero() || gone.Before(next) {
				next = gone
			}
		}
		if next.IsZero() {
			return nil
		}
		if x.now.Before(next) {
			x.now = next // nothing happens until then
		}
	}
	return fmt.Errorf("it does not come to rest: %s %s", x.last.Reason, x.last.Message)
}

// rest checks how it ended.
func (x *schedule) rest() error {
	s := x.snapshot()
	p := Make(s)
	plain, tls := s.pods(plaintext), s.pods(injected)
	missing := 0
	for _, t := range s.Templates {
		want := int(t.Replicas) * max(1, int(t.Hosts))
		if t.Group == "" {
			want = 1
		}
		if !s.Suspended && len(s.live(in(t.Group))) != want {
			missing++
		}
	}
	switch {
	case missing > 0:
		return fmt.Errorf("%d groups have not the pods that they are meant to", missing)
	case p.Changes(s) && !p.Release || len(p.Delete)+len(p.Evict) > 0:
		return fmt.Errorf("something is left to do: %s", acts(s, &p))
	case x.admission != nil && (p.UserMustAct || p.RestartWaits):
		return nil // nothing is as meant, and nothing goes on
	case len(plain) > 0 && len(tls) > 0:
		return fmt.Errorf("%d pods cannot talk to %d others", len(plain), len(tls))
	case slices.ContainsFunc(tls, revoked) && slices.ContainsFunc(tls, func(p Pod) bool { return !revoked(p) }):
		return fmt.Errorf("pods of a revoked authority cannot talk to %d others", len(tls))
	case len(plain) > 0 && s.anyPieces():
		return fmt.Errorf("new pods cannot talk to %d others", len(plain))
	case len(tls) > 0 && s.Goal == v1alpha1.GoalEncrypted && !s.allInjected() && p.Reason != v1alpha1.ReasonFieldConflict:
		return fmt.Errorf("new pods cannot talk to %d others with TLS", len(tls))
	case s.Progress != nil && s.Progress.Phase != v1alpha1.PhaseUpgrade:
		return fmt.Errorf("the restart never ended: %+v", s.Progress)
	}
	switch p.Reason {
	case v1alpha1.ReasonEncrypted, v1alpha1.ReasonSuspended:
		if len(plain) > 0 || !s.allInjected() || !s.Enabled || s.Suspended != (p.Reason == v1alpha1.ReasonSuspended) {
			return fmt.Errorf("it is not encrypted")
		}
	case v1alpha1.ReasonEnableFailed:
		if len(tls) > 0 || s.anyPieces() || s.FailedAttempt != s.Attempt || s.FailedBecause == "" {
			return fmt.Errorf("it was not put back, or the attempt not recorded (%q, %q)", s.FailedAttempt, s.FailedBecause)
		}
	case v1alpha1.ReasonAwaitingApproval, v1alpha1.ReasonBlocked:
	case v1alpha1.ReasonCertificateFailed, v1alpha1.ReasonPodsStarting:
		if len(plain) > 0 {
			return fmt.Errorf("pods without TLS are left")
		}
	case v1alpha1.ReasonFieldConflict:
		if !x.disturbed {
			return fmt.Errorf("a conflict with nobody")
		}
	case v1alpha1.ReasonDisabling:
		if !p.Release || len(tls) > 0 {
			return fmt.Errorf("it was not disabled")
		}
	default:
		return fmt.Errorf("it stays as it is: %s", p.Message)
	}
	return nil
}

// run plays one schedule to its end and judges it.
func (x *schedule) run(steps int) (err error) {
	x.note("         %s, inits %v, immediate %v, grace %s, queue %v, recreate %v", x, x.inits, x.immediate, x.grace, x.cluster.queued, x.cluster.recreate)
	for range steps {
		if err = x.step(false); err != nil {
			return err
		}
	}
	x.note("no more disturbances")
	if err = x.settle(); err != nil {
		return err
	}
	return x.rest()
}

func newSchedule(seed int) *schedule {
	r := rand.New(rand.NewPCG(uint64(seed), 0))
	workers := make([]int32, r.IntN(4))
	for i := range workers {
		workers[i] = int32(r.IntN(3))
	}
	w := newWorld(workers...)
	for i := range w.cluster.templates {
		w.cluster.templates[i].key = []string{"same", "same", "other"}[r.IntN(3)]
	}
	w.clusters = []simCluster{w.cluster}
	w.seen.cluster, w.seen.kuberay = 0, 0
	w.grace = []time.Duration{0, 2 * time.Second, 30 * time.Second, 15 * time.Minute}[r.IntN(4)]
	w.period = w.grace + time.Duration(r.IntN(20))*time.Second
	return &schedule{world: w, r: r}
}

// each plays many schedules.
func each(t *testing.T, prepare func(*schedule), judge func(*schedule) error) {
	t.Helper()
	first, last := 0, *seeds
	if testing.Short() {
		last /= 5
	}
	if *oneSeed >= 0 {
		first, last = *oneSeed, *oneSeed+1
	}
	failures := 0
	for seed := first; seed < last; seed++ {
		x := newSchedule(seed)
		prepare(x)
		err := x.run(150 + x.r.IntN(400))
		if err == nil {
			err = judge(x)
		}
		if err == nil && *oneSeed < 0 {
			continue
		}
		if *oneSeed < 0 && len(x.trace) > 60 {
			x.trace = slices.Concat(x.trace[:10], []string{"  ... (all of it with -seed)"}, x.trace[len(x.trace)-50:])
		}
		t.Logf("%s\nlast word: %s: %s\nseed %d: %v", strings.Join(x.trace, "\n"), x.last.Reason, x.last.Message, seed, err)
		if err != nil {
			t.Errorf("seed %d: %v", seed, err)
		}
		if failures++; failures == 3 {
			t.Fatal("and no more are tried")
		}
	}
}
