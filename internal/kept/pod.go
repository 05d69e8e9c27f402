package kept

import (
	corev1 "k8s.io/api/core/v1"
	policyv1 "k8s.io/api/policy/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/raytls/raytls/api/v1alpha1"
	"github.com/raytls/raytls/internal/injection"
	"github.com/raytls/raytls/internal/kube"
	"github.com/raytls/raytls/internal/kuberay"
)

// maxValue is the longest value of a label or an annotation that is kept whole, in bytes: those that are read are shorter.
const maxValue = 128

// maxLabels is how many labels a pod may have to be kept with all of them.
const maxLabels = 64

// Annotations with which a pod asks those who drain nodes to leave it alone.
const (
	// AnnotationDoNotDisrupt is Karpenter's; any value but "false" holds.
	AnnotationDoNotDisrupt = "karpenter.sh/do-not-disrupt"
	// AnnotationSafeToEvict is the cluster autoscaler's; the value "false" holds.
	AnnotationSafeToEvict = "cluster-autoscaler.kubernetes.io/safe-to-evict"
)

// HoldAnnotations are those with which a pod asks to be left alone.
func HoldAnnotations() []string { return []string{AnnotationDoNotDisrupt, AnnotationSafeToEvict} }

// maxSelector is how many labels, requirements and values a PodDisruptionBudget may select by to be kept with its selector. The API
// server heeds every selector at an eviction.
const maxSelector = 256

// SlimBudget is the transformation of a cache of PodDisruptionBudgets: it keeps what tells which pods may be evicted.
func SlimBudget(object any) (any, error) {
	budget, ok := object.(*policyv1.PodDisruptionBudget)
	if !ok {
		return object, nil
	}
	budget.ManagedFields, budget.Annotations, budget.Labels = nil, nil, nil
	budget.Status.DisruptedPods, budget.Status.Conditions = nil, nil
	if selector := budget.Spec.Selector; selector != nil {
		size := len(selector.MatchLabels)
		for _, e := range selector.MatchExpressions {
			size += 1 + len(e.Values)
		}
		if size > maxSelector {
			budget.Spec.Selector = nil
		}
	}
	return budget, nil
}

// SlimPod is the transformation of a cache of Ray's pods: it keeps the fields that the operator reads. A cluster can have thousands
// of pods.
func SlimPod(object any) (any, error) {
	pod, ok := object.(*corev1.Pod)
	if !ok {
		return object, nil
	}
	pod.ManagedFields, pod.Finalizers = nil, nil
	controller := metav1.GetControllerOf(pod)
	if pod.OwnerReferences = nil; controller != nil {
		pod.OwnerReferences = []metav1.OwnerReference{*controller}
	}
	pod.Annotations = only(pod.Annotations, append(HoldAnnotations(), v1alpha1.AnnotationSync)...)
	if len(pod.Labels) > maxLabels { // PodDisruptionBudgets select by any
		pod.Labels = only(pod.Labels, kuberay.LabelCluster, kuberay.LabelNodeType, kuberay.LabelGroup, kuberay.LabelReplica)
	}
	pod.Spec = corev1.PodSpec{
		NodeName: pod.Spec.NodeName, HostNetwork: pod.Spec.HostNetwork,
		InitContainers: injection.SlimContainers(pod.Spec.InitContainers), Containers: injection.SlimContainers(pod.Spec.Containers),
		Volumes: injection.SlimVolumes(pod.Spec.Volumes),
	}
	pod.Status = corev1.PodStatus{
		Phase: pod.Status.Phase, Conditions: pod.Status.Conditions, InitContainerStatuses: injection.InitStatuses(pod), PodIPs: pod.Status.PodIPs,
	}
	return pod, nil
}

func only(from map[string]string, keys ...string) map[string]string {
	out := map[string]string{}
	for _, key := range keys {
		if value, ok := from[key]; ok {
			out[key] = kube.Truncate(value, maxValue)
		}
	}
	return out
}
