package policy

import (
	"context"
	"fmt"

	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/raytls/raytls/api/v1alpha1"
)

// List lists a namespace's policies, or those of them that the options narrow it to.
func List(ctx context.Context, reader client.Reader, namespace string, narrowed ...client.ListOption) ([]*v1alpha1.RayTLSPolicy, error) {
	var list v1alpha1.RayTLSPolicyList
	if err := reader.List(ctx, &list, append(narrowed, client.InNamespace(namespace))...); err != nil {
		return nil, fmt.Errorf("listing policies: %w", err)
	}
	policies := make([]*v1alpha1.RayTLSPolicy, 0, len(list.Items))
	for i := range list.Items {
		policies = append(policies, &list.Items[i])
	}
	return policies, nil
}
