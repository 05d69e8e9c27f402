// Package policy decides which RayTLSPolicy covers a RayCluster, whether the policy is accepted, and whether the RayCluster may
// be injected. It is pure, and the webhook, the controllers and the command line tool ask it alike.
package policy

import (
	"cmp"
	"fmt"
	"slices"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/labels"

	"github.com/raytls/raytls/api/v1alpha1"
)

// Decision is which policy covers a cluster. Without a policy, a cluster stays as it is.
type Decision struct {
	// Policy is nil when none covers the cluster or the one that did is gone.
	Policy *v1alpha1.RayTLSPolicy
	// Goal is what the cluster is meant to become, when there is a policy.
	Goal v1alpha1.RolloutGoal
	// Losers are the policies that cover the cluster equally closely and have to report it.
	Losers []*v1alpha1.RayTLSPolicy
}

// Subject is a RayCluster as far as policies look at it.
type Subject struct {
	metav1.Object
	// Owners are the KubeRay objects that it was made for: RayJob, RayService, RayCronJob (through its RayJob).
	Owners []v1alpha1.TargetReference
	// Bound names the policy that the cluster is bound to: it is injected, or in the middle of a restart, on that one's behalf.
	Bound string
	// UnderWay reports whether the cluster is in the middle of a restart, in which half of its pods cannot talk to the rest.
	UnderWay bool
}

// Excluded reports whether the cluster's label takes it out of every policy.
func Excluded(cluster metav1.Object) bool {
	return cluster.GetLabels()[v1alpha1.LabelExclude] == v1alpha1.ExcludeTrue
}

// InvalidExclude is what is wrong with the cluster's label raytls.io/exclude; empty if nothing is.
func InvalidExclude(cluster metav1.Object) string {
	value, labelled := cluster.GetLabels()[v1alpha1.LabelExclude]
	if !labelled || value == v1alpha1.ExcludeTrue {
		return ""
	}
	return fmt.Sprintf("label %s of RayCluster %s is %q, which excludes nothing; set it to %q, or remove it", v1alpha1.LabelExclude, cluster.GetName(), value, v1alpha1.ExcludeTrue)
}

// Set is the policies of a namespace, with their selectors parsed.
type Set []parsed

type parsed struct {
	*v1alpha1.RayTLSPolicy
	// selector is nil if there is none, or none that can be parsed.
	selector labels.Selector
}

// maxSelector is how many labels, requirements, and values of each a selector may have. The schema says the same.
const maxSelector = 32

// Parse parses the selectors of policies, once for all clusters that are held against them.
func Parse(policies []*v1alpha1.RayTLSPolicy) Set {
	set := make(Set, 0, len(policies))
	for _, p := range policies {
		next := parsed{RayTLSPolicy: p}
		if p.Spec.TargetRef == nil && p.Spec.Selector != nil {
			if selector, err := parseSelector(p.Spec.Selector); err == nil {
				next.selector = selector
			}
		}
		set = append(set, next)
	}
	return set
}

func parseSelector(of *metav1.LabelSelector) (labels.Selector, error) {
	if len(of.MatchLabels) > maxSelector || len(of.MatchExpressions) > maxSelector || slices.ContainsFunc(of.MatchExpressions, func(r metav1.LabelSelectorRequirement) bool {
		return len(r.Values) > maxSelector
	}) {
		return nil, fmt.Errorf("has more than %d labels, requirements, or values of one; use fewer", maxSelector)
	}
	return metav1.LabelSelectorAsSelector(of)
}

// Decide finds the policy for a cluster among its namespace's policies.
func Decide(cluster Subject, policies []*v1alpha1.RayTLSPolicy) Decision {
	return Parse(policies).Decide(cluster)
}

// Decide finds the policy for a cluster.
//
// A cluster stays with the policy it is bound to, whatever its labels become; only a closer policy takes it over. A targetRef that
// names the cluster is closest, then one that names its owner, then one that names the owner's owner, then a selector. Among
// equals the oldest wins. A policy that is being deleted keeps only the clusters that it has to give back.
func (s Set) Decide(cluster Subject) Decision {
	var leaving *v1alpha1.RayTLSPolicy
	var candidates []*v1alpha1.RayTLSPolicy
	for _, p := range s {
		switch {
		case !p.DeletionTimestamp.IsZero():
			if p.Name == cluster.Bound {
				leaving = p.RayTLSPolicy
			}
		case p.Name == cluster.Bound || p.matches(cluster):
			candidates = append(candidates, p.RayTLSPolicy)
		}
	}
	rank := func(p *v1alpha1.RayTLSPolicy) int {
		if p.Name == cluster.Bound {
			return 2*closeness(p) - 1 // ahead of those that are equally close
		}
		return 2 * closeness(p)
	}
	slices.SortFunc(candidates, func(a, b *v1alpha1.RayTLSPolicy) int {
		return cmp.Or(cmp.Compare(rank(a), rank(b)), older(a, b))
	})
	if len(candidates) == 0 {
		return leave(leaving, cluster)
	}
	winner := candidates[0]
	if Excluded(cluster) {
		if winner.Name == cluster.Bound {
			leaving = winner
		}
		return leave(leaving, cluster)
	}
	losers := slices.DeleteFunc(candidates[1:], func(l *v1alpha1.RayTLSPolicy) bool { return closeness(winner) < closeness(l) })
	return Decision{Policy: winner, Goal: v1alpha1.GoalEncrypted, Losers: losers}
}

// leave is for a cluster that its policy no longer covers. A restart goes on, or half the pods could not talk to the other half.
func leave(p *v1alpha1.RayTLSPolicy, cluster Subject) Decision {
	switch {
	case p == nil:
		return Decision{}
	case p.Spec.DeletionPolicy == v1alpha1.DeletionDisable:
		return Decision{Policy: p, Goal: v1alpha1.GoalPlaintext}
	case cluster.UnderWay:
		return Decision{Policy: p, Goal: v1alpha1.GoalEncrypted}
	}
	return Decision{}
}

// closeness is how closely the policy covers a cluster; the smaller, the closer. The kind alone decides, so that a policy keeps a
// bound cluster when its targetRef changes to another name.
func closeness(p *v1alpha1.RayTLSPolicy) int {
	switch ref := p.Spec.TargetRef; {
	case ref == nil:
		return 3
	case ref.Kind == v1alpha1.TargetRayCronJob:
		return 2
	case ref.Kind == v1alpha1.TargetRayCluster:
		return 0
	}
	return 1
}

// Names reports whether the policy's targetRef fits the cluster.
func Names(p *v1alpha1.RayTLSPolicy, cluster Subject) bool {
	ref := p.Spec.TargetRef
	self := v1alpha1.TargetReference{Kind: v1alpha1.TargetRayCluster, Name: cluster.GetName()}
	return ref != nil && (*ref == self || slices.Contains(cluster.Owners, *ref))
}

// matches reports whether the policy's selector or targetRef fits the cluster. A selector that cannot be parsed fits none.
func (p parsed) matches(cluster Subject) bool {
	return Names(p.RayTLSPolicy, cluster) || p.selector != nil && p.selector.Matches(labels.Set(cluster.GetLabels()))
}
