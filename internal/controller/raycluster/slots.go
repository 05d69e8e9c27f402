package raycluster

import (
	"context"
	"fmt"
	"slices"
	"sync"
	"time"

	"k8s.io/apimachinery/pkg/types"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/raytls/raytls/api/v1alpha1"
	"github.com/raytls/raytls/internal/kube"
	"github.com/raytls/raytls/internal/limit"
)

// claimTimeout bounds how long one cluster keeps others from beginning a restart.
const claimTimeout = 10 * time.Second

// claimSlot fails unless the policy has a slot left for the cluster's restart, as the API server has it now. A slot itself is a
// fact: the restart on record in a RayClusterTLS. The caller holds restarts until the record is written.
func (a *application) claimSlot(ctx context.Context) error {
	snapshot := &a.decision.Snapshot
	atOnce := a.decision.Plan.Progress.Phase == v1alpha1.PhaseRevoke && snapshot.Revocation.Now
	if !snapshot.Running() || atOnce || a.decision.Plan.Urgent {
		return nil
	}
	ctx, cancel := context.WithTimeout(ctx, claimTimeout)
	defer cancel()
	var list v1alpha1.RayClusterTLSList
	if err := a.Live.List(ctx, &list, client.InNamespace(a.facts.Key.Namespace)); err != nil {
		return fmt.Errorf("listing RayClusterTLSes: %w", err)
	}
	others := slices.DeleteFunc(list.Items, func(t v1alpha1.RayClusterTLS) bool { return t.Name == a.facts.Key.Name })
	if why, _ := a.facts.Slots().NoSlot(others, snapshot.Enables(), a.facts.Now); why != "" {
		outcome := kube.Waitf(v1alpha1.ReasonWaitingForSlot, "%s", why).RetryAfter(kube.UnwatchedRetry)
		outcome.OfRestart = snapshot.Enabled
		return outcome
	}
	return nil
}

// issuers holds when each cluster got its last issuer. Making keys takes time, and whoever can alter a CA Secret must not
// be able to keep the operator from everybody else's.
type issuers struct{ last sync.Map }

// issueInterval is how far apart two issuers of one cluster are at least.
const issueInterval = 10 * time.Second

// wait is how long the cluster has to wait for its next issuer.
func (i *issuers) wait(of types.NamespacedName, now time.Time) time.Duration {
	last, _ := i.last.Load(of)
	at, known := last.(time.Time)
	if !known {
		return 0
	}
	return max(0, at.Add(issueInterval).Sub(now))
}

func (i *issuers) made(of types.NamespacedName, now time.Time) { i.last.Store(of, now) }

func (i *issuers) forget(of types.NamespacedName) { i.last.Delete(of) }

// makers has few of the workers, which all namespaces share, make slow keys at a time, and one for each namespace. A key of RSA can take
// seconds, and whoever can alter CA Secrets decides how many are made.
type makers struct {
	once    sync.Once
	limiter *limit.Limiter
}

const (
	// slowMakers is half of the workers.
	slowMakers = workers / 2
	// makerRetry is when to ask again for a place among them.
	makerRetry = time.Second
)

// begin takes a place, if there is one for the namespace. The caller calls end once.
func (m *makers) begin(ctx context.Context, namespace string) (end func(), ok bool) {
	m.once.Do(func() { m.limiter = limit.New(limit.Options{Slots: slowMakers, Share: 1}) }) // nobody waits
	end, err := m.limiter.Acquire(ctx, limit.Key{Source: namespace}, 0)
	return end, err == nil
}

// settled holds since when what a cluster's keys are judged by has been as it is. Only memory: an operator that starts begins anew,
// so that it never counts a time in which it did not look.
type settled struct{ states sync.Map }

type settledState struct {
	state string
	since time.Time
}

// since returns since when the state has been this one. It is zero for the empty state, which is none that lasts.
func (s *settled) since(of types.NamespacedName, state string, now time.Time) time.Time {
	if state == "" {
		s.forget(of)
		return time.Time{}
	}
	before, _ := s.states.Load(of)
	held, ok := before.(settledState)
	if !ok || held.state != state {
		held = settledState{state, now}
		s.states.Store(of, held)
	}
	return held.since
}

func (s *settled) forget(of types.NamespacedName) { s.states.Delete(of) }
