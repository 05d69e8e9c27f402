package raycluster

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"time"

	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/types"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/raytls/raytls/api/v1alpha1"
	"github.com/raytls/raytls/internal/rollout"
)

// slots holds the clusters whose restart was started and is not in the cache yet.
type slots struct {
	mu    sync.Mutex
	taken map[types.NamespacedName]types.NamespacedName // cluster to policy
}

func (s *slots) release(cluster types.NamespacedName) {
	s.mu.Lock()
	defer s.mu.Unlock()
	delete(s.taken, cluster)
}

// settle gives the slot back unless a restart was started that the cache does not show yet.
func (s *slots) settle(st *state, err error) {
	unseen := errors.Is(err, errStale) || apierrors.IsConflict(err) || err == nil && st.written && st.planned.Progress != nil
	if st.snapshot.Progress != nil || !unseen {
		s.release(st.key)
	}
}

// takeSlot reserves one of the policy's slots for the cluster, or says what it has to wait for.
func (r *Reconciler) takeSlot(ctx context.Context, st *state) (why string, err error) {
	if !st.snapshot.Provisioned || st.snapshot.Suspended || len(st.pods) == 0 {
		return "", nil
	}
	policy := types.NamespacedName{Namespace: st.key.Namespace, Name: st.decision.Policy.Name}
	var clusters unstructured.UnstructuredList
	clusters.SetGroupVersionKind(RayClusterKind())
	if err := r.Client.List(ctx, &clusters, client.InNamespace(st.key.Namespace), client.UnsafeDisableDeepCopy); err != nil {
		return "", fmt.Errorf("listing RayClusters: %w", err)
	}
	busy := map[string]bool{}
	for i := range clusters.Items {
		other := &clusters.Items[i]
		annotations := other.GetAnnotations()
		if other.GetName() == st.key.Name || annotations[v1alpha1.AnnotationPolicy] != policy.Name || other.GetDeletionTimestamp() != nil {
			continue
		}
		if annotations[v1alpha1.AnnotationRollout] != "" {
			busy[other.GetName()] = true
		}
		_, excluded := other.GetLabels()[v1alpha1.LabelExclude]
		failed := annotations[v1alpha1.AnnotationEnableFailed] != "" && !excluded
		if failed && st.snapshot.Approval == "" && st.snapshot.Goal == rollout.Encrypted {
			return fmt.Sprintf("enabling RayCluster %s failed, and no further running cluster is started until that is mended; approve this one to start it all the same", other.GetName()), nil
		}
	}
	r.slots.mu.Lock()
	defer r.slots.mu.Unlock()
	for cluster, of := range r.slots.taken {
		if of == policy && cluster != st.key {
			busy[cluster.Name] = true
		}
	}
	if most := int(st.policy.Rollout.MaxConcurrentClusters); len(busy) >= most {
		return fmt.Sprintf("%d of at most %d clusters (rollout.maxConcurrentClusters) are being restarted; this one comes later", len(busy), most), nil
	}
	if r.slots.taken == nil {
		r.slots.taken = map[types.NamespacedName]types.NamespacedName{}
	}
	r.slots.taken[st.key] = policy
	return "", nil
}

// issues holds when each cluster got its last issuer. Making keys takes time, and whoever can alter a CA Secret must not
// be able to keep the operator from everybody else's.
type issues struct {
	mu   sync.Mutex
	last map[types.NamespacedName]time.Time
}

// issueInterval is how far apart two issuers of one cluster are at least.
const issueInterval = 10 * time.Second

// wait says how long the cluster has to wait for its next issuer.
func (i *issues) wait(cluster types.NamespacedName, now time.Time) time.Duration {
	i.mu.Lock()
	defer i.mu.Unlock()
	last, known := i.last[cluster]
	if !known {
		return 0
	}
	return max(0, last.Add(issueInterval).Sub(now))
}

func (i *issues) made(cluster types.NamespacedName, now time.Time) {
	i.mu.Lock()
	defer i.mu.Unlock()
	if i.last == nil {
		i.last = map[types.NamespacedName]time.Time{}
	}
	i.last[cluster] = now
}

func (i *issues) forget(cluster types.NamespacedName) {
	i.mu.Lock()
	defer i.mu.Unlock()
	delete(i.last, cluster)
}
