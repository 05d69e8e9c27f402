package raycluster

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"regexp"
	"strings"

	corev1 "k8s.io/api/core/v1"
	policyv1 "k8s.io/api/policy/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"
	"sigs.k8s.io/controller-runtime/pkg/log"

	"github.com/raytls/raytls/api/v1alpha1"
	"github.com/raytls/raytls/internal/cluster"
	"github.com/raytls/raytls/internal/kube"
)

// evictPods evicts the pods of the plan, as far as the API server lets it: a pod that it refuses to evict keeps none but the hosts of
// its replica, and the first refusal is the error. The gathered pods are those whose controller is the RayCluster, by UID, and each
// eviction names its pod by UID.
func (a *application) evictPods(ctx context.Context) error {
	plan := &a.decision.Plan
	if plan.Changes(&a.decision.Snapshot) {
		return nil
	}
	var names []string
	var refusal, failure error
	refused := map[string]bool{} // multi-host replicas: KubeRay deletes all hosts when one goes
	for i := range plan.Evict {
		pod := &plan.Evict[i]
		if refused[pod.Replica] {
			continue
		}
		log.FromContext(ctx).Info("Evicting pod", "pod", pod.Name)
		err := a.evict(ctx, pod.Name, types.UID(pod.UID))
		if err == nil {
			names = append(names, pod.Name)
			continue
		}
		if kube.AsOutcome(err) == nil {
			failure = err
			break
		}
		refusal = cmp.Or(refusal, err)
		refused[pod.Replica] = pod.Replica != ""
	}
	if len(names) > 0 {
		a.event(false, "EvictedPods", "Evict", "evicted "+strings.Join(names, ", ")+" for new certificates")
	}
	return cmp.Or(failure, refusal)
}

func (a *application) evict(ctx context.Context, name string, uid types.UID) error {
	meta := metav1.ObjectMeta{Namespace: a.facts.Key.Namespace, Name: name}
	eviction := &policyv1.Eviction{ObjectMeta: meta, DeleteOptions: &metav1.DeleteOptions{Preconditions: &metav1.Preconditions{UID: &uid}}}
	err := a.Client.SubResource("eviction").Create(ctx, &corev1.Pod{ObjectMeta: meta}, eviction)
	switch {
	case err == nil || apierrors.IsNotFound(err):
		return nil
	case apierrors.IsConflict(err):
		return kube.ErrStale // another pod has the name, or somebody else evicts
	case apierrors.IsTooManyRequests(err) || apierrors.IsForbidden(err):
		outcome := kube.Waitf(v1alpha1.ReasonBlocked, "the API server does not let pod %s be evicted for a new certificate: %s", name, kube.Steady(err.Error())).RetryAfter(kube.UnwatchedRetry)
		outcome.OfRestart = true
		outcome.BlockedBy = "Pod/" + name
		if budget := budgetIn(err); budget != "" {
			outcome.BlockedBy = cluster.Budget(budget)
		}
		return outcome
	}
	return fmt.Errorf("evicting pod %s: %w", name, err)
}

var budgetPattern = regexp.MustCompile(`^The disruption budget ([a-z0-9]([-a-z0-9.]*[a-z0-9])?) `)

// budgetIn finds the PodDisruptionBudget that an error of the API server names; empty for none.
func budgetIn(err error) string {
	refusal, ok := errors.AsType[*apierrors.StatusError](err)
	if !ok || refusal.ErrStatus.Details == nil {
		return ""
	}
	for _, cause := range refusal.ErrStatus.Details.Causes {
		if cause.Type != policyv1.DisruptionBudgetCause {
			continue
		}
		if found := budgetPattern.FindStringSubmatch(cause.Message); found != nil {
			return found[1]
		}
	}
	return ""
}
