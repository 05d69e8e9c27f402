package kuberay

import (
	"context"
	"errors"
	"fmt"

	rayv1 "github.com/ray-project/kuberay/ray-operator/apis/ray/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"k8s.io/apimachinery/pkg/api/meta"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"sigs.k8s.io/controller-runtime/pkg/cache"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/raytls/raytls/api/v1alpha1"
)

// Owners are the KubeRay objects that the cluster was made for, the nearest first: a RayService, or a RayJob and the
// RayCronJob above it.
//
// A controller reference says it, and the labels only where there is none, as after a deletion that orphaned the cluster.
// Whoever may create RayClusters can claim either. All that it gets them is that a policy covers their cluster.
func Owners(ctx context.Context, reader client.Reader, cluster metav1.Object) ([]v1alpha1.TargetReference, error) {
	owner, found := Owner(cluster)
	if !found {
		return nil, nil
	}
	if owner.Kind != v1alpha1.TargetRayJob {
		return []v1alpha1.TargetReference{owner}, nil
	}
	job := NewObject(v1alpha1.TargetRayJob)
	err := reader.Get(ctx, client.ObjectKey{Namespace: cluster.GetNamespace(), Name: owner.Name}, job)
	if err != nil && !apierrors.IsNotFound(err) && !notServed(err) {
		return nil, fmt.Errorf("reading RayJob %s: %w", owner.Name, err)
	}
	if above := cronJobOf(cluster, job, err == nil); above != "" {
		return []v1alpha1.TargetReference{owner, {Kind: v1alpha1.TargetRayCronJob, Name: above}}, nil
	}
	return []v1alpha1.TargetReference{owner}, nil
}

// Owner is the KubeRay object that the cluster was made for directly.
func Owner(cluster metav1.Object) (v1alpha1.TargetReference, bool) {
	kind, name := cluster.GetLabels()[labelOwnerKind], cluster.GetLabels()[labelOwnerName]
	if by := metav1.GetControllerOf(cluster); by != nil {
		if !isRay(by) {
			return v1alpha1.TargetReference{}, false
		}
		kind, name = by.Kind, by.Name
	}
	owner := v1alpha1.TargetReference{Kind: v1alpha1.TargetKind(kind), Name: name}
	return owner, name != "" && (owner.Kind == v1alpha1.TargetRayJob || owner.Kind == v1alpha1.TargetRayService)
}

// cronJobOf is the name of the RayCronJob above the cluster's RayJob; empty if there is none. KubeRay copies a RayJob's
// labels to its cluster, which tells of a job that is not in the cache yet.
func cronJobOf(cluster, job metav1.Object, found bool) string {
	if !found {
		return cluster.GetLabels()[labelCronJob]
	}
	by := metav1.GetControllerOf(job)
	if by == nil {
		return job.GetLabels()[labelCronJob]
	}
	if isRay(by) && by.Kind == string(v1alpha1.TargetRayCronJob) {
		return by.Name
	}
	return ""
}

// notServed reports whether the API server does not serve the kind, so that nothing of it is cached.
func notServed(err error) bool {
	var missing *cache.ErrResourceNotCached
	return meta.IsNoMatchError(err) || errors.As(err, &missing)
}

func isRay(owner *metav1.OwnerReference) bool {
	gv, err := schema.ParseGroupVersion(owner.APIVersion)
	return err == nil && gv.Group == rayv1.GroupVersion.Group
}
