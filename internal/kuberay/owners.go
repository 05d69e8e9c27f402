package kuberay

import (
	"context"
	"errors"
	"fmt"
	"slices"

	rayv1 "github.com/ray-project/kuberay/ray-operator/apis/ray/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"k8s.io/apimachinery/pkg/api/meta"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/apimachinery/pkg/util/validation"
	"sigs.k8s.io/controller-runtime/pkg/cache"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/raytls/raytls/api/v1alpha1"
)

// Owners are the KubeRay objects that the cluster was made for, the nearest first: a RayService, or a RayJob and the
// RayCronJob above it. Whoever may create RayClusters can claim an owner, and gains only that a policy covers the cluster.
func Owners(ctx context.Context, reader client.Reader, cluster metav1.Object) ([]v1alpha1.TargetReference, error) {
	owner, found := Owner(cluster)
	if !found {
		return nil, nil
	}
	owners := []v1alpha1.TargetReference{owner}
	if owner.Kind != v1alpha1.TargetRayJob {
		return owners, nil
	}
	job, err := Read(ctx, reader, cluster.GetNamespace(), owner)
	if err != nil {
		return nil, err
	}
	if above := cronJobOf(cluster, job); above != "" {
		owners = append(owners, v1alpha1.TargetReference{Kind: v1alpha1.TargetRayCronJob, Name: above})
	}
	return owners, nil
}

// Owner is the RayJob or RayService that the cluster was made for. The controller reference names it; the labels count only
// where there is none, as after a deletion that orphaned the cluster.
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

// Read reads an object that a policy or a cluster names; nil if it does not exist or its kind is not served.
func Read(ctx context.Context, reader client.Reader, namespace string, ref v1alpha1.TargetReference) (*unstructured.Unstructured, error) {
	object := NewObject(ref.Kind)
	err := reader.Get(ctx, client.ObjectKey{Namespace: namespace, Name: ref.Name}, object)
	var notCached *cache.ErrResourceNotCached
	switch {
	case err == nil:
		return object, nil
	case apierrors.IsNotFound(err), meta.IsNoMatchError(err), errors.As(err, &notCached):
		return nil, nil
	}
	return nil, fmt.Errorf("reading %s %s: %w", ref.Kind, ref.Name, err)
}

// cronJobOf is the name of the RayCronJob above the cluster's RayJob; empty if there is none. The labels of a RayJob that is not in
// the cache yet (nil) are on its cluster too, since KubeRay copies them.
func cronJobOf(cluster metav1.Object, job *unstructured.Unstructured) string {
	if job == nil {
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

func isRay(owner *metav1.OwnerReference) bool {
	gv, err := schema.ParseGroupVersion(owner.APIVersion)
	return err == nil && gv.Group == rayv1.GroupVersion.Group
}

// JobUnfinished reports whether a RayJob may still run.
func JobUnfinished(job *unstructured.Unstructured) bool {
	status, _, _ := unstructured.NestedString(job.Object, "status", "jobDeploymentStatus")
	return !rayv1.IsJobDeploymentTerminal(rayv1.JobDeploymentStatus(status)) && job.GetDeletionTimestamp().IsZero()
}

// JobStarted reports whether a RayJob may have given work to a cluster. KubeRay submits no job before its cluster is ready.
func JobStarted(job *unstructured.Unstructured) bool {
	status, _, _ := unstructured.NestedString(job.Object, "status", "jobDeploymentStatus")
	return !slices.Contains([]rayv1.JobDeploymentStatus{rayv1.JobDeploymentStatusNew, rayv1.JobDeploymentStatusInitializing}, rayv1.JobDeploymentStatus(status))
}

// JobCluster is the name of the RayCluster that a RayJob runs on; empty while it has none.
func JobCluster(job *unstructured.Unstructured) string {
	name, _, _ := unstructured.NestedString(job.Object, "status", "rayClusterName")
	return name
}

// HeadServiceNames are the DNS names of the Service that KubeRay makes for the head of a RayService's or RayJob's cluster,
// beside the cluster's own. existing is the object of the owner's name, which may not be the owner; nil if there is none. domain is
// the Kubernetes cluster's DNS domain; short adds the bare name.
//
// A forged controller reference gains a tenant nothing: nobody else trusts the authority of the tenant's own cluster.
func HeadServiceNames(cluster metav1.Object, existing *unstructured.Unstructured, domain string, short bool) []string {
	owner, found := Owner(cluster)
	if !found || metav1.GetControllerOf(cluster) == nil || existing != nil && !metav1.IsControlledBy(cluster, existing) {
		return nil
	}
	service, namespace := owner.Name+"-head-svc", cluster.GetNamespace()
	if len(validation.IsDNS1035Label(service)) > 0 {
		return nil // no Service can have that name
	}
	names := []string{service + "." + namespace, service + "." + namespace + ".svc", service + "." + namespace + ".svc." + domain}
	if short {
		names = append(names, service)
	}
	return names
}
