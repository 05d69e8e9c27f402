package kept

import (
	corev1 "k8s.io/api/core/v1"

	"github.com/raytls/raytls/api/v1alpha1"
	"github.com/raytls/raytls/internal/injection"
	"github.com/raytls/raytls/internal/kuberay"
)

// SlimPod is the transformation of a cache of Ray's pods: it keeps the fields that the operator reads. A cluster can have thousands
// of pods.
func SlimPod(object any) (any, error) {
	pod, ok := object.(*corev1.Pod)
	if !ok {
		return object, nil
	}
	pod.ManagedFields = nil
	pod.Annotations = only(pod.Annotations, v1alpha1.AnnotationSync)
	pod.Labels = only(pod.Labels, kuberay.LabelCluster, kuberay.LabelNodeType, kuberay.LabelGroup)
	pod.Spec = corev1.PodSpec{
		NodeName: pod.Spec.NodeName, HostNetwork: pod.Spec.HostNetwork,
		InitContainers: injection.SlimContainers(pod.Spec.InitContainers), Containers: injection.SlimContainers(pod.Spec.Containers),
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
			out[key] = value
		}
	}
	return out
}
