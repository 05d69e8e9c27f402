package policy

import (
	"cmp"
	"context"
	"encoding/json"
	"fmt"
	"slices"

	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/raytls/raytls/api/v1alpha1"
)

// These bound what the policies of one namespace cost everybody else. Each RayCluster of the namespace is held against all of them.
const (
	// maxPolicies is how many policies of a namespace are in force, the oldest ones.
	maxPolicies = 64
	// maxBytes is how many bytes a policy's spec may have as JSON to be in force. The schema lets through a little more.
	maxBytes = 64 << 10
	// maxFinalizers is how many bytes of finalizers are kept of a policy.
	maxFinalizers = 4 << 10
)

// leftOutKey is an annotation of a cached policy whose spec is not kept.
const leftOutKey = "raytls.io/not-kept"

// Slim is the transformation of a cache of policies. It drops what nobody reads, and what is too large.
func Slim(p *v1alpha1.RayTLSPolicy) error {
	if LeftOut(p) {
		return nil
	}
	p.ManagedFields, p.Labels, p.Annotations, p.OwnerReferences = nil, nil, nil, nil
	finalizers := 0
	for _, f := range p.Finalizers {
		finalizers += len(f)
	}
	large, err := tooLarge(&p.Spec)
	if err != nil {
		return err
	}
	if large || finalizers > maxFinalizers {
		p.Spec, p.Finalizers, p.Annotations = v1alpha1.RayTLSPolicySpec{}, nil, map[string]string{leftOutKey: "too-large"}
	}
	return nil
}

// LeftOut reports whether a cached policy lacks its spec, so that whoever needs it reads it live.
func LeftOut(p *v1alpha1.RayTLSPolicy) bool { return p.Annotations[leftOutKey] != "" }

func tooLarge(spec *v1alpha1.RayTLSPolicySpec) (bool, error) {
	text, err := json.Marshal(spec)
	if err != nil {
		return false, fmt.Errorf("weighing a policy: %w", err)
	}
	return len(text) > maxBytes, nil
}

// List lists the policies of a namespace that are in force.
func List(ctx context.Context, reader client.Reader, namespace string) ([]*v1alpha1.RayTLSPolicy, error) {
	var list v1alpha1.RayTLSPolicyList
	// Copied are those alone that are in force.
	if err := reader.List(ctx, &list, client.InNamespace(namespace), client.UnsafeDisableDeepCopy); err != nil {
		return nil, fmt.Errorf("listing policies: %w", err)
	}
	all := make([]*v1alpha1.RayTLSPolicy, 0, len(list.Items))
	for i := range list.Items {
		all = append(all, &list.Items[i])
	}
	slices.SortFunc(all, older)
	policies := make([]*v1alpha1.RayTLSPolicy, 0, min(len(all), maxPolicies))
	for _, p := range all[:min(len(all), maxPolicies)] {
		if !LeftOut(p) {
			policies = append(policies, p.DeepCopy())
		}
	}
	return policies, nil
}

func older(a, b *v1alpha1.RayTLSPolicy) int {
	return cmp.Or(a.CreationTimestamp.Compare(b.CreationTimestamp.Time), cmp.Compare(a.Name, b.Name))
}

// OutOfBounds says why a policy is not in force beside the others of its namespace; nil if it is.
func OutOfBounds(ctx context.Context, reader client.Reader, p *v1alpha1.RayTLSPolicy) (*Verdict, error) {
	large, err := tooLarge(&p.Spec)
	if err != nil {
		return nil, err
	}
	if large || LeftOut(p) {
		return refuse(v1alpha1.ReasonPolicyTooLarge, "the spec is larger than %d KiB as JSON; use a shorter selector, or remove approvals that were used", maxBytes>>10), nil
	}
	var list v1alpha1.RayTLSPolicyList
	if err := reader.List(ctx, &list, client.InNamespace(p.Namespace), client.UnsafeDisableDeepCopy); err != nil {
		return nil, fmt.Errorf("listing policies: %w", err)
	}
	before := 0
	for i := range list.Items {
		if older(&list.Items[i], p) < 0 {
			before++
		}
	}
	if before >= maxPolicies {
		return refuse(v1alpha1.ReasonTooManyPolicies, "namespace %s has %d older policies, and only the oldest %d of a namespace are in force; delete some, or use a selector in place of many targetRefs", p.Namespace, before, maxPolicies), nil
	}
	return nil, nil
}
