package kuberay

import (
	rayv1 "github.com/ray-project/kuberay/ray-operator/apis/ray/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/util/validation"

	"github.com/raytls/raytls/api/v1alpha1"
)

// JobUnfinished reports whether a RayJob may still run.
func JobUnfinished(job *unstructured.Unstructured) bool {
	status, _, _ := unstructured.NestedString(job.Object, "status", "jobDeploymentStatus")
	return !rayv1.IsJobDeploymentTerminal(rayv1.JobDeploymentStatus(status)) && job.GetDeletionTimestamp().IsZero()
}

// JobCluster is the name of the RayCluster that a RayJob runs on; empty while it has none.
func JobCluster(job *unstructured.Unstructured) string {
	name, _, _ := unstructured.NestedString(job.Object, "status", "rayClusterName")
	return name
}

// HeadServiceNames are the DNS names of the Service that KubeRay makes for the head of a RayService's or RayJob's cluster,
// beside the cluster's own. domain is the Kubernetes cluster's DNS domain; short adds the bare name. owners are those
// objects of the owner's name that exist.
//
// The owner is the one of the controller reference, unless an object of its name exists and is another. Even a forged
// reference gets a tenant nothing: the certificate comes from the authority of the tenant's own cluster, which nobody
// else trusts, and KubeRay lets the Service of any RayCluster be named at will.
func HeadServiceNames(cluster metav1.Object, owners []metav1.Object, domain string, short bool) []string {
	owner, found := Owner(cluster)
	by := metav1.GetControllerOf(cluster)
	if !found || by == nil || (owner.Kind != v1alpha1.TargetRayJob && owner.Kind != v1alpha1.TargetRayService) {
		return nil
	}
	for _, existing := range owners {
		if existing.GetName() == owner.Name && existing.GetUID() != by.UID {
			return nil
		}
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
