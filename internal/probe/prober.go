package probe

import (
	"bytes"
	"context"
	"net/netip"
	"sync"
	"time"

	"k8s.io/apimachinery/pkg/types"
	"k8s.io/utils/clock"

	"github.com/raytls/raytls/internal/pki"
)

// How many heads are observed at a time, in all and of one namespace.
const (
	maxObservations             = 16
	maxObservationsPerNamespace = 2
)

// Interval is how long a good finding counts. The files of a running pod can be replaced, though nothing needs to.
const Interval = 24 * time.Hour

// faultInterval is how long a bad finding counts: somebody is expected to act on it.
const faultInterval = time.Hour

// Target is a head to observe.
type Target struct {
	// Cluster is whose head it is, in the same namespace.
	Cluster types.NamespacedName
	PodName string
	PodUID  types.UID
	// Address is the pod's own, with the GCS port.
	Address netip.AddrPort
	// Bundle is what the cluster's pods trust, in PEM.
	Bundle []byte
}

// is reports whether both are the same pod at the same address, judged by the same bundle.
func (t Target) is(other Target) bool {
	return t.PodUID == other.PodUID && t.Address == other.Address && bytes.Equal(t.Bundle, other.Bundle)
}

// Finding is what an observation found of a target. Nothing in it is the peer's own text.
type Finding struct {
	// Time is when the target was observed, and Next when that is due next.
	Time, Next time.Time
	Answer     Answer
	Cause      Cause
	// AuthorityID and ExpiryTime are those of a chain that leads to the cluster's authority; empty for any other.
	AuthorityID string
	ExpiryTime  time.Time

	target Target
	// unknowns counts the observations in a row without an answer.
	unknowns int
}

// faulty reports whether something else than the cluster's mutual TLS is proven.
func (f *Finding) faulty() bool {
	return f.Answer == Plaintext || f.Answer == ForeignTLS || !f.ExpiryTime.IsZero() && !f.Time.Before(f.ExpiryTime)
}

// Prober observes heads in the background and keeps the last finding of each cluster.
type Prober struct {
	dial  Dial
	clock clock.PassiveClock
	holds func(ctx context.Context, target Target) bool

	mu    sync.Mutex
	queue queue
	// waiting and running are the targets that are to be observed, and that are being observed.
	waiting, running map[types.NamespacedName]Target
	findings         map[types.NamespacedName]Finding
	wake             chan struct{}
}

// NewProber makes a prober. holds reports whether the pod exists and has the address, by the API server: it keeps what another pod
// answers under an inherited address from being held against this one.
func NewProber(dial Dial, now clock.PassiveClock, holds func(context.Context, Target) bool) *Prober {
	return &Prober{
		dial: dial, clock: now, holds: holds,
		queue:   queue{total: maxObservations, perNamespace: maxObservationsPerNamespace},
		waiting: map[types.NamespacedName]Target{}, running: map[types.NamespacedName]Target{},
		findings: map[types.NamespacedName]Finding{}, wake: make(chan struct{}, 1),
	}
}

// Finding is the last finding of the target; nil if there is none.
func (p *Prober) Finding(target Target) *Finding {
	p.mu.Lock()
	defer p.mu.Unlock()
	finding, found := p.findings[target.Cluster]
	if !found || !finding.target.is(target) {
		return nil
	}
	return &finding
}

// Ask has the target observed soon, unless that is under way. The newest target of a cluster counts.
func (p *Prober) Ask(target Target) {
	p.mu.Lock()
	if running, found := p.running[target.Cluster]; !found || !running.is(target) {
		if _, waits := p.waiting[target.Cluster]; !waits {
			p.queue.add(target.Cluster)
		}
		p.waiting[target.Cluster] = target
	}
	p.mu.Unlock()
	p.signal()
}

// Forget drops what is known of a cluster that is gone.
func (p *Prober) Forget(cluster types.NamespacedName) {
	p.mu.Lock()
	defer p.mu.Unlock()
	delete(p.waiting, cluster)
	delete(p.findings, cluster)
}

// Run observes what it is asked for until ctx ends. It calls notify with each cluster that has a new finding.
func (p *Prober) Run(ctx context.Context, notify func(types.NamespacedName)) {
	var observations sync.WaitGroup
	defer observations.Wait()
	for {
		for target, found := p.next(); found; target, found = p.next() {
			observations.Go(func() {
				if p.observe(ctx, target) {
					notify(target.Cluster)
				}
			})
		}
		select {
		case <-ctx.Done():
			return
		case <-p.wake:
		}
	}
}

func (p *Prober) signal() {
	select {
	case p.wake <- struct{}{}:
	default:
	}
}

// next takes a target out of the queue. Clusters that were forgotten meanwhile have none.
func (p *Prober) next() (Target, bool) {
	p.mu.Lock()
	defer p.mu.Unlock()
	for {
		key, found := p.queue.next()
		if !found {
			return Target{}, false
		}
		if target, wanted := p.waiting[key]; wanted {
			delete(p.waiting, key)
			p.running[key] = target
			return target, true
		}
		p.queue.done(key)
	}
}

// observe observes the target and reports whether there is a new finding.
func (p *Prober) observe(ctx context.Context, target Target) bool {
	at := p.clock.Now()
	result := Observe(ctx, p.dial, target.Address.String())
	if bundle, err := pki.ParseBundle(target.Bundle); err == nil {
		result = result.Judge(bundle, at)
	}
	finding := Finding{Time: at, Answer: result.Answer, Cause: result.Cause, target: target}
	if result.Validity != "" {
		finding.AuthorityID, finding.ExpiryTime = result.AuthorityID(), result.Chain[0].NotAfter
	}
	if finding.faulty() && !p.holds(ctx, target) {
		finding = Finding{Time: at, Answer: Unknown, Cause: Moved, target: target}
	}
	defer p.signal()
	p.mu.Lock()
	defer p.mu.Unlock()
	p.queue.done(target.Cluster)
	if p.running[target.Cluster].is(target) {
		delete(p.running, target.Cluster)
	}
	if ctx.Err() != nil {
		return false // the end of the process cut it short
	}
	before := p.findings[target.Cluster]
	finding.schedule(&before)
	p.findings[target.Cluster] = finding
	return true
}

// schedule sets when the pod is due again. A port without an answer is tried thrice soon, since a head may still start or be too
// busy, and then daily: more will not open it.
func (f *Finding) schedule(before *Finding) {
	if f.Answer == Unknown && before.target.is(f.target) {
		f.unknowns = before.unknowns
	}
	wait := Interval
	switch {
	case f.faulty():
		wait = faultInterval
	case f.Answer == Unknown:
		f.unknowns++
		if retries := []time.Duration{15 * time.Second, time.Minute, 10 * time.Minute}; f.unknowns <= len(retries) {
			wait = retries[f.unknowns-1]
		}
	}
	f.Next = f.Time.Add(wait)
}
