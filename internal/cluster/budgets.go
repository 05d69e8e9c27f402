package cluster

import (
	"cmp"
	"context"
	"fmt"
	"slices"

	policyv1 "k8s.io/api/policy/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/labels"
	"sigs.k8s.io/controller-runtime/pkg/client"
)

// Budget is the BlockedBy of what a PodDisruptionBudget forbids.
func Budget(name string) string { return "PodDisruptionBudget/" + name }

// maxBudgets is how many PodDisruptionBudgets of a namespace are looked at. The API server heeds all of them.
const maxBudgets = 256

// budgets marks the pods that a PodDisruptionBudget lets nobody evict now. The API server decides at the eviction; knowing before keeps
// the operator from trying again and again. It reads them for clusters whose pods may be evicted alone.
func (g *Gatherer) budgets(ctx context.Context, f *Facts) error {
	if f.Policy == nil || !f.Record().Enabled {
		return nil
	}
	var list policyv1.PodDisruptionBudgetList
	if err := g.Cached.List(ctx, &list, client.InNamespace(f.Key.Namespace), client.UnsafeDisableDeepCopy); err != nil {
		return fmt.Errorf("listing PodDisruptionBudgets: %w", err)
	}
	slices.SortFunc(list.Items, func(a, b policyv1.PodDisruptionBudget) int { return cmp.Compare(a.Name, b.Name) })
	list.Items = list.Items[:min(len(list.Items), maxBudgets)]
	selected := map[string]string{} // by pod, the first budget
	for i := range list.Items {
		budget := &list.Items[i]
		if budget.Spec.Selector == nil {
			continue
		}
		selector, err := metav1.LabelSelectorAsSelector(budget.Spec.Selector)
		if err != nil {
			continue
		}
		for j := range f.Pods {
			pod := &f.Pods[j]
			if pod.Pending || !selector.Matches(labels.Set(pod.Labels)) {
				continue
			}
			first, several := selected[pod.Name]
			selected[pod.Name] = budget.Name
			switch {
			case pod.HeldBy != "":
			case several:
				pod.HeldBy = Budget(budget.Name)
				pod.HeldWhy = fmt.Sprintf("PodDisruptionBudgets %s and %s select pod %s, and the API server evicts no pod that several select; delete one of them, or the pod", first, budget.Name, pod.Name)
			case !allows(budget, pod.Ready):
				pod.HeldBy = Budget(budget.Name)
				pod.HeldWhy = fmt.Sprintf("PodDisruptionBudget %s allows no disruption now; pod %s is restarted when it does", budget.Name, pod.Name)
			}
		}
	}
	return nil
}

// allows reports whether the budget lets a pod be evicted, as the API server decides.
func allows(budget *policyv1.PodDisruptionBudget, ready bool) bool {
	status := &budget.Status
	if status.ObservedGeneration < budget.Generation {
		return false
	}
	if !ready {
		if policy := budget.Spec.UnhealthyPodEvictionPolicy; policy != nil && *policy == policyv1.AlwaysAllow {
			return true
		}
		if status.DesiredHealthy > 0 && status.CurrentHealthy >= status.DesiredHealthy {
			return true
		}
	}
	return status.DisruptionsAllowed > 0
}
