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
	"github.com/raytls/raytls/internal/cluster"
	"github.com/raytls/raytls/internal/kube"
)

// slots has the restarts of clusters begin one after another, so that each sees those that began before it. A slot itself is a
// fact: the restart on record in a RayClusterTLS.
type slots struct{ mu sync.Mutex }

// claimTimeout bounds how long one cluster keeps others from beginning.
const claimTimeout = 10 * time.Second

// claim fails unless the policy has a slot left for the cluster's restart, as the API server has it now. No other restart begins
// until release is called, which is to be after the record is written.
func (s *slots) claim(ctx context.Context, a *application) (release func(), err error) {
	s.mu.Lock()
	ctx, cancel := context.WithTimeout(ctx, claimTimeout)
	defer cancel()
	var list v1alpha1.RayClusterTLSList
	if err := a.Live.List(ctx, &list, client.InNamespace(a.facts.Key.Namespace)); err != nil {
		return s.mu.Unlock, fmt.Errorf("listing RayClusterTLSes: %w", err)
	}
	others := slices.DeleteFunc(list.Items, func(t v1alpha1.RayClusterTLS) bool { return t.Name == a.facts.Key.Name })
	goal := a.decision.Snapshot.Goal
	if a.decision.Snapshot.Approved {
		goal = v1alpha1.GoalPlaintext // an approval is for this cluster, whatever became of others
	}
	running := a.decision.Snapshot.Provisioned && !a.decision.Snapshot.Suspended && len(a.facts.Pods) > 0
	if why := cluster.NoSlot(a.facts.Decision.Policy.Name, a.facts.Policy.Rollout.MaxConcurrentClusters, others, goal); why != "" && running {
		return s.mu.Unlock, kube.Waitf(v1alpha1.ReasonWaitingForSlot, "%s", why).RetryAfter(kube.UnwatchedRetry)
	}
	return s.mu.Unlock, nil
}

// issuers holds when each cluster got its last issuer. Making keys takes time, and whoever can alter a CA Secret must not
// be able to keep the operator from everybody else's.
type issuers struct {
	mu   sync.Mutex
	last map[types.NamespacedName]time.Time
}

// issueInterval is how far apart two issuers of one cluster are at least.
const issueInterval = 10 * time.Second

// wait is how long the cluster has to wait for its next issuer.
func (i *issuers) wait(of types.NamespacedName, now time.Time) time.Duration {
	i.mu.Lock()
	defer i.mu.Unlock()
	last, known := i.last[of]
	if !known {
		return 0
	}
	return max(0, last.Add(issueInterval).Sub(now))
}

func (i *issuers) made(of types.NamespacedName, now time.Time) {
	i.mu.Lock()
	defer i.mu.Unlock()
	if i.last == nil {
		i.last = map[types.NamespacedName]time.Time{}
	}
	i.last[of] = now
}

func (i *issuers) forget(of types.NamespacedName) {
	i.mu.Lock()
	defer i.mu.Unlock()
	delete(i.last, of)
}
