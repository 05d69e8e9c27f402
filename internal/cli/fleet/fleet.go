// Package fleet finds the RayClusters of a namespace, the policy that covers each, and what the operator reports of it. A user's
// rights suffice.
package fleet

import (
	"cmp"
	"context"
	"fmt"
	"slices"
	"strings"

	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/raytls/raytls/api/v1alpha1"
	"github.com/raytls/raytls/internal/cluster"
	"github.com/raytls/raytls/internal/kube"
	"github.com/raytls/raytls/internal/kuberay"
	"github.com/raytls/raytls/internal/policy"
)

// Cluster is a RayCluster.
type Cluster struct {
	types.NamespacedName
	// Generation is the RayCluster's.
	Generation int64
	// TLS is its RayClusterTLS; nil if there is none.
	TLS *v1alpha1.RayClusterTLS
	// Policy has it encrypted; nil if none does.
	Policy *v1alpha1.RayTLSPolicy
}

// Status is what the operator reports of the cluster; empty if it reports nothing.
func (c Cluster) Status() *v1alpha1.RayClusterTLSStatus {
	if c.TLS == nil {
		return &v1alpha1.RayClusterTLSStatus{}
	}
	return &c.TLS.Status
}

// Fleet is what there is in a namespace, or in all of them.
type Fleet struct {
	// Clusters and Policies are in the order of their namespaces and names.
	Clusters []Cluster
	Policies []*v1alpha1.RayTLSPolicy
}

// Read reads a namespace; the empty one stands for all.
func Read(ctx context.Context, reader client.Reader, namespace string) (*Fleet, error) {
	out := &Fleet{}
	var err error
	if out.Policies, err = policy.List(ctx, reader, namespace); err != nil {
		return nil, err
	}
	var records v1alpha1.RayClusterTLSList
	if err := reader.List(ctx, &records, client.InNamespace(namespace)); err != nil {
		return nil, fmt.Errorf("listing RayClusterTLSes: %w", err)
	}
	byName := map[types.NamespacedName]*v1alpha1.RayClusterTLS{}
	for i := range records.Items {
		byName[client.ObjectKeyFromObject(&records.Items[i])] = &records.Items[i]
	}
	policies := map[string][]*v1alpha1.RayTLSPolicy{}
	for _, p := range out.Policies {
		policies[p.Namespace] = append(policies[p.Namespace], p)
	}
	// A policy looks at the metadata alone, and a spec is large.
	objects := &metav1.PartialObjectMetadataList{}
	objects.SetGroupVersionKind(kuberay.NewRayClusterList().GroupVersionKind())
	if err := reader.List(ctx, objects, client.InNamespace(namespace)); err != nil {
		return nil, fmt.Errorf("listing RayClusters: %w", err)
	}
	for i := range objects.Items {
		object := &objects.Items[i]
		found := Cluster{NamespacedName: client.ObjectKeyFromObject(object), Generation: object.Generation}
		if record := byName[found.NamespacedName]; record != nil && kube.OwnedBy(record, object.UID) {
			found.TLS = record
		}
		if found.Policy, err = covering(ctx, reader, object, found.TLS, policies[object.Namespace]); err != nil {
			return nil, err
		}
		out.Clusters = append(out.Clusters, found)
	}
	slices.SortFunc(out.Clusters, func(a, b Cluster) int { return compare(a.NamespacedName, b.NamespacedName) })
	slices.SortFunc(out.Policies, func(a, b *v1alpha1.RayTLSPolicy) int {
		return compare(client.ObjectKeyFromObject(a), client.ObjectKeyFromObject(b))
	})
	return out, nil
}

func compare(a, b types.NamespacedName) int {
	return cmp.Or(cmp.Compare(a.Namespace, b.Namespace), cmp.Compare(a.Name, b.Name))
}

// covering finds the policy for a cluster as the operator does. Who may not read the RayJob that the cluster was made for gets the one that
// the operator names.
func covering(ctx context.Context, reader client.Reader, object metav1.Object, tls *v1alpha1.RayClusterTLS, policies []*v1alpha1.RayTLSPolicy) (*v1alpha1.RayTLSPolicy, error) {
	owners, err := kuberay.Owners(ctx, reader, object)
	if apierrors.IsForbidden(err) && tls != nil {
		at := slices.IndexFunc(policies, func(p *v1alpha1.RayTLSPolicy) bool { return p.Name == tls.Status.PolicyRef.Name })
		if at < 0 {
			return nil, nil
		}
		return policies[at], nil
	}
	if err != nil && !apierrors.IsForbidden(err) {
		return nil, err
	}
	decision := policy.Decide(cluster.Subject(object, owners, tls), policies)
	if decision.Goal != v1alpha1.GoalEncrypted {
		return nil, nil
	}
	return decision.Policy, nil
}

// Find is the cluster of that name.
func (f *Fleet) Find(key types.NamespacedName) (Cluster, error) {
	for _, c := range f.Clusters {
		if c.NamespacedName == key {
			return c, nil
		}
	}
	return Cluster{}, fmt.Errorf("RayCluster %s does not exist", key)
}

// Covered are the clusters of a policy.
func (f *Fleet) Covered(p *v1alpha1.RayTLSPolicy) []Cluster {
	return slices.DeleteFunc(slices.Clone(f.Clusters), func(c Cluster) bool { return c.Policy != p })
}

// maxNames is how many clusters a message names.
const maxNames = 8

// Names lists clusters for a message.
func Names(clusters []Cluster) string {
	var out []string
	for _, c := range clusters[:min(len(clusters), maxNames)] {
		out = append(out, c.String())
	}
	if more := len(clusters) - len(out); more > 0 {
		out = append(out, fmt.Sprintf("%d more", more))
	}
	return strings.Join(out, ", ")
}
