package policy

import (
	"cmp"
	"context"
	"fmt"
	"slices"

	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/raytls/raytls/api/v1alpha1"
)

// These bound what the policies of one namespace cost everybody else. Each RayCluster of the namespace is held against all of them.
const (
	// maxPolicies is how many policies of a namespace are in force, the oldest ones, and maxSelectors how many of these may have a
	// selector.
	maxPolicies, maxSelectors = 1024, 64
	// maxBytes is how many bytes selector and approvals of a policy may have together. The schema lets through a little more.
	maxBytes = 64 << 10
	// maxFinalizers is how many bytes of finalizers a policy may have.
	maxFinalizers = 4 << 10
)

// leftOutKey is an annotation of a cached policy whose spec is not kept.
const leftOutKey = "raytls.io/not-kept"

// Slim is the transformation of a cache of policies. It drops what nobody reads, and what is too large.
func Slim(p *v1alpha1.RayTLSPolicy) {
	large := tooLarge(p)
	p.ManagedFields, p.Labels, p.Annotations, p.OwnerReferences = nil, nil, nil, nil
	if large {
		p.Spec, p.Finalizers, p.Annotations = v1alpha1.RayTLSPolicySpec{}, nil, map[string]string{leftOutKey: "too-large"}
	}
}

// LeftOut reports whether a cached policy lacks its spec, so that whoever needs it reads it live. Every stored policy has a selector or a
// targetRef, whatever its annotations.
func LeftOut(p *v1alpha1.RayTLSPolicy) bool {
	return p.Annotations[leftOutKey] != "" && p.Spec.Selector == nil && p.Spec.TargetRef == nil
}

// tooLarge reports whether a policy is too large to be in force. The answer is the same for a cached policy and for one that was read live.
func tooLarge(p *v1alpha1.RayTLSPolicy) bool {
	size, finalizers := 0, 0
	if selector := p.Spec.Selector; selector != nil {
		for key, value := range selector.MatchLabels {
			size += len(key) + len(value)
		}
		for _, e := range selector.MatchExpressions {
			size += len(e.Key)
			for _, value := range e.Values {
				size += len(value)
			}
		}
	}
	for _, a := range p.Spec.Rollout.Approvals {
		size += len(a.Cluster) + len(a.Restart)
	}
	for _, f := range p.Finalizers {
		finalizers += len(f)
	}
	return LeftOut(p) || size > maxBytes || finalizers > maxFinalizers
}

// List lists the policies of a namespace that are in force. They are the same whether the reader is a cache or the API server.
func List(ctx context.Context, reader client.Reader, namespace string) ([]*v1alpha1.RayTLSPolicy, error) {
	all, err := byAge(ctx, reader, namespace)
	if err != nil {
		return nil, err
	}
	var policies []*v1alpha1.RayTLSPolicy
	var before count
	for _, p := range all {
		if before.add(p) && !tooLarge(p) {
			policies = append(policies, p.DeepCopy()) // the list is the cache's own
		}
	}
	return policies, nil
}

func byAge(ctx context.Context, reader client.Reader, namespace string) ([]*v1alpha1.RayTLSPolicy, error) {
	var list v1alpha1.RayTLSPolicyList
	if err := reader.List(ctx, &list, client.InNamespace(namespace), client.UnsafeDisableDeepCopy); err != nil {
		return nil, fmt.Errorf("listing policies: %w", err)
	}
	all := make([]*v1alpha1.RayTLSPolicy, 0, len(list.Items))
	for i := range list.Items {
		all = append(all, &list.Items[i])
	}
	slices.SortFunc(all, older)
	return all, nil
}

func older(a, b *v1alpha1.RayTLSPolicy) int {
	return cmp.Or(a.CreationTimestamp.Compare(b.CreationTimestamp.Time), cmp.Compare(a.Name, b.Name))
}

// count is how many policies of a namespace there are, and how many of them have selectors.
type count struct{ policies, selectors int }

// add counts the next policy by age, and reports whether there is room for it.
func (c *count) add(p *v1alpha1.RayTLSPolicy) bool {
	c.policies++
	if p.Spec.Selector != nil {
		c.selectors++
	}
	return c.policies <= maxPolicies && (p.Spec.Selector == nil || c.selectors <= maxSelectors)
}

// OutOfBounds returns the verdict on a policy that exceeds a bound of its namespace, and nil for any other policy.
func OutOfBounds(ctx context.Context, reader client.Reader, p *v1alpha1.RayTLSPolicy) (*Verdict, error) {
	if tooLarge(p) {
		return refuse(v1alpha1.ReasonPolicyTooLarge, "selector and approvals have more than %d KiB, or the finalizers more than %d KiB; use a shorter selector, or remove approvals that were used", maxBytes>>10, maxFinalizers>>10), nil
	}
	all, err := byAge(ctx, reader, p.Namespace)
	if err != nil {
		return nil, err
	}
	var before count
	for _, other := range all {
		if older(other, p) < 0 {
			before.add(other)
		}
	}
	if !before.add(p) {
		return refuse(v1alpha1.ReasonTooManyPolicies, "namespace %s has older policies enough: the oldest %d are in force, and of those with a selector the oldest %d; delete some", p.Namespace, maxPolicies, maxSelectors), nil
	}
	return nil, nil
}
