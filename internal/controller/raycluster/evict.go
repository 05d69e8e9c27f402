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
	"github.com/raytls/raytls/internal/rollout"
)

// evictPods evicts the pods of the plan, as far as the API server lets it: a pod that it refuses to evict keeps none but the hosts of
// its replica, and the first refusal is the error. Refusals go on record, and after as many as the record takes, no more pods are
// tried. The gathered pods are those whose controller is the RayCluster, by UID, and each
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
		err := a.evict(ctx, pod)
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
		if len(a.refused) >= rollout.MaxRefusals {
			break
		}
	}
	if len(names) > 0 {
		a.event(false, "EvictedPods", "Evict", "evicted "+strings.Join(names, ", ")+" for new certificates")
	}
	return cmp.Or(failure, refusal)
}

// evict evicts one pod. Whatever the API server answers but that the pod is gone or another one is a refusal: an admission webhook
// chooses the code of its answer.
func (a *application) evict(ctx context.Context, pod *rollout.Pod) error {
	uid := types.UID(pod.UID)
	meta := metav1.ObjectMeta{Namespace: a.facts.Key.Namespace, Name: pod.Name}
	eviction := &policyv1.Eviction{ObjectMeta: meta, DeleteOptions: &metav1.DeleteOptions{Preconditions: &metav1.Preconditions{UID: &uid}}}
	err := a.Client.SubResource("eviction").Create(ctx, &corev1.Pod{ObjectMeta: meta}, eviction)
	_, answered := errors.AsType[*apierrors.StatusError](err)
	// Admission words its refusals so, whatever their code (k8s.io/apiserver, ToStatusErr and the policies' own).
	denied := answered && (strings.Contains(err.Error(), "denied the request") || strings.Contains(err.Error(), "denied request"))
	switch {
	case err == nil || apierrors.IsNotFound(err) && !denied:
		return nil
	case apierrors.IsConflict(err) && !denied:
		return kube.ErrStale // another pod has the name, or somebody else evicts
	case !answered:
		return fmt.Errorf("evicting pod %s: %w", pod.Name, err)
	}
	text := kube.Steady(err.Error())
	outcome := kube.Waitf(v1alpha1.ReasonBlocked, "the API server does not let pod %s be evicted for a new certificate: %s", pod.Name, text).RetryAfter(rollout.RetryFirst)
	outcome.OfRestart = true
	outcome.BlockedBy = "Pod/" + pod.Name
	if budget := budgetIn(err); budget != "" {
		outcome.BlockedBy = cluster.Budget(budget)
	}
	a.refused = append(a.refused, cluster.Refused{Pod: pod, BlockedBy: outcome.BlockedBy, Message: text})
	return outcome
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
