package cluster

import (
	"fmt"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"

	"github.com/raytls/raytls/api/v1alpha1"
	"github.com/raytls/raytls/internal/kuberay"
	"github.com/raytls/raytls/internal/policy"
	"github.com/raytls/raytls/internal/rollout"
)

// requestID identifies that this very cluster is replaced by one of that kind. An encrypted cluster is replaced for new certificates.
func requestID(goal v1alpha1.RolloutGoal, encrypted bool, cluster types.UID) string {
	if encrypted && goal == v1alpha1.GoalEncrypted {
		return digest(string(v1alpha1.ActionRoll) + "/" + string(cluster))
	}
	return digest(string(goal) + "/" + string(cluster))
}

// serviceFor tells the planner of the RayService that made the cluster; nil for a cluster that none made.
func (f *Facts) serviceFor() *rollout.Service {
	v := f.Service
	if v == nil {
		return nil
	}
	goal, asked := f.Decision.Goal, kuberay.ParseRequest(v.RestartedFor)
	out := &rollout.Service{
		Name: v.Name, Ask: requestID(goal, f.Record().Enabled, f.Object.GetUID()), Asked: asked.For, AskedAt: asked.At, Refuses: f.refusal(),
		Missed: asked.For != "" && asked.Goal == goal && kuberay.ParseRequest(kuberay.ClusterRestartedFor(f.Spec)).For == asked.For,
	}
	if asked.At.After(f.Now) {
		out.AskedAt = f.Now // anybody can write a time that never comes
	}
	switch f.Key.Name {
	case v.Active:
		out.Serving, out.Next = true, v.Pending
	case v.Pending:
		out.Serving = v.Shifting
	default:
		out.Next = v.Active
	}
	return out
}

// refusal is why the RayService would not make a cluster that is as asked, and what to do; empty if it would.
func (f *Facts) refusal() string {
	v := f.Service
	switch {
	case v.ManagedBy != "":
		return fmt.Sprintf("spec.managedBy of RayService %s hands it to %s, so the operator leaves it alone", v.Name, v.ManagedBy)
	case v.Deleting:
		return fmt.Sprintf("RayService %s is being deleted, and its clusters are deleted with it", v.Name)
	case v.NeverUpgrades:
		return fmt.Sprintf("spec.upgradeStrategy.type of RayService %s is None, so KubeRay makes no new cluster for it; set it to NewCluster, or delete the RayCluster, which interrupts the service until KubeRay has made a new one", v.Name)
	}
	// KubeRay gives the next RayCluster a name of its own and the RayService's labels.
	next := policy.Decide(policy.Subject{
		Object: &metav1.ObjectMeta{Namespace: f.Key.Namespace, Labels: v.Labels},
		Owners: []v1alpha1.TargetReference{{Kind: v1alpha1.TargetRayService, Name: v.Name}},
	}, f.Policies)
	encrypted := next.Policy != nil && next.Goal == v1alpha1.GoalEncrypted
	switch {
	case f.Decision.Goal == v1alpha1.GoalEncrypted && !encrypted:
		return fmt.Sprintf("RayTLSPolicy %s covers this RayCluster and would not cover the one that RayService %s replaces it by; use targetRef: {kind: RayService, name: %[2]s}, or a selector that matches the RayService's labels", f.Decision.Policy.Name, v.Name)
	case f.Decision.Goal == v1alpha1.GoalPlaintext && encrypted:
		return fmt.Sprintf("RayTLSPolicy %s would encrypt the RayCluster that RayService %s replaces this one by; label the RayService %s: %q too, from which the new cluster has its labels", next.Policy.Name, v.Name, v1alpha1.LabelExclude, v1alpha1.ExcludeTrue)
	}
	return ""
}
