// Package kuberay is what this project knows of KubeRay: its kinds, labels and owners, and what it does with a RayCluster.
package kuberay

import (
	rayv1 "github.com/ray-project/kuberay/ray-operator/apis/ray/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/runtime/schema"

	"github.com/raytls/raytls/api/v1alpha1"
)

// Labels and annotations that KubeRay and Kueue define.
const (
	// LabelCluster on a pod names its RayCluster.
	LabelCluster = "ray.io/cluster"
	// LabelNodeType on a pod is head, worker or redis-cleanup.
	LabelNodeType = "ray.io/node-type"
	// LabelGroup on a pod names its worker group.
	LabelGroup = "ray.io/group"
	// LabelReplica on a worker names the multi-host replica that it is part of. KubeRay has it from v1.6.
	LabelReplica = "ray.io/worker-group-replica-name"
	// AnnotationNoHeadRestart on a RayCluster has KubeRay make no new head once the cluster was ready.
	AnnotationNoHeadRestart = "ray.io/disable-provisioned-head-restart"

	labelOwnerKind          = "ray.io/originated-from-crd"
	labelOwnerName          = "ray.io/originated-from-cr-name"
	labelCronJob            = "ray.io/cronjob-name"
	labelQueue              = "kueue.x-k8s.io/queue-name"
	annotationFaultTolerant = "ray.io/ft-enabled"

	// NodeTypeHead is the value of LabelNodeType on a head pod.
	NodeTypeHead = "head"

	managedByKubeRay = "ray.io/kuberay-operator"
)

// RayClusterGVK is the version of RayCluster that is read and written. KubeRay has served it since v1.0.
func RayClusterGVK() schema.GroupVersionKind { return GroupVersionKind(v1alpha1.TargetRayCluster) }

// GroupVersionKind is where a kind that policies name is found.
func GroupVersionKind(kind v1alpha1.TargetKind) schema.GroupVersionKind {
	return rayv1.GroupVersion.WithKind(string(kind))
}

// NewObject is an empty object of the kind.
func NewObject(kind v1alpha1.TargetKind) *unstructured.Unstructured {
	object := &unstructured.Unstructured{}
	object.SetGroupVersionKind(GroupVersionKind(kind))
	return object
}

// NewRayCluster is an empty RayCluster.
func NewRayCluster() *unstructured.Unstructured { return NewObject(v1alpha1.TargetRayCluster) }

// NewRayClusterList is an empty list of RayClusters.
func NewRayClusterList() *unstructured.UnstructuredList {
	list := &unstructured.UnstructuredList{}
	list.SetGroupVersionKind(RayClusterGVK())
	return list
}
