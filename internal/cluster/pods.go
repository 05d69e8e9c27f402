package cluster

import (
	"cmp"
	"fmt"
	"net/netip"
	"strings"
	"time"

	corev1 "k8s.io/api/core/v1"

	"github.com/raytls/raytls/api/v1alpha1"
	"github.com/raytls/raytls/internal/gencert"
	"github.com/raytls/raytls/internal/injection"
	"github.com/raytls/raytls/internal/kube"
	"github.com/raytls/raytls/internal/kuberay"
	"github.com/raytls/raytls/internal/policy"
	"github.com/raytls/raytls/internal/probe"
	"github.com/raytls/raytls/internal/rollout"
)

// maxTerminationMessage is how many bytes of an init container's message are repeated.
const maxTerminationMessage = 256

// Pod is one of the cluster's pods.
type Pod struct {
	rollout.Pod
	// Report describes the pod's certificate; nil if there is none that can be read.
	Report *gencert.Report
	// InitImage is the image of the init container, if it is not the Ray container's own.
	InitImage string
	// ReadySince is since when the pod is ready; zero if it is not.
	ReadySince time.Time
	// ResourceVersion, Node and Sync are the pod's: Sync is the value of the annotation raytls.io/sync.
	ResourceVersion, Node, Sync string
	// Address is the head's own; the zero value for a worker, and for a head that has none. HostNetwork reports whether the head
	// has its node's.
	Address     netip.Addr
	HostNetwork bool
}

// readPod reads a pod. containers are the names of the templates' Ray containers, by group.
func readPod(pod *corev1.Pod, containers map[string]string) Pod {
	out := Pod{
		Pod:             rollout.Pod{Name: pod.Name, UID: string(pod.UID), Created: pod.CreationTimestamp.Time},
		ResourceVersion: pod.ResourceVersion, Node: pod.Spec.NodeName, Sync: pod.Annotations[v1alpha1.AnnotationSync],
	}
	kind := injection.Worker
	out.Group = cmp.Or(pod.Labels[kuberay.LabelGroup], "-") // a worker's group is never empty
	if pod.Labels[kuberay.LabelNodeType] == kuberay.NodeTypeHead {
		kind = injection.Head
		out.Group, out.HostNetwork = "", pod.Spec.HostNetwork
		out.Address, _ = probe.Address(pod)
	}
	state := injection.InPod(&pod.Spec, kind, containers[out.Group])
	out.Injected, out.Pieces, out.Differs, out.InitImage = state.TLS, state.Pieces, state.Differs, state.InitImage
	if pod.DeletionTimestamp != nil {
		out.Terminating, out.Deadline = true, pod.DeletionTimestamp.Time
	}
	for _, c := range pod.Status.Conditions {
		if c.Type == corev1.PodReady && c.Status == corev1.ConditionTrue {
			out.Ready, out.ReadySince = true, cmp.Or(c.LastTransitionTime.Time, out.Created)
		}
	}
	for _, status := range initStatuses(pod) {
		out.Failure = failure(&status)
		if ended := status.State.Terminated; ended != nil && ended.ExitCode == 0 {
			out.Certified = true
			if report, err := gencert.ParseReport(ended.Message); err == nil {
				out.Report = &report
			}
		}
	}
	return out
}

// initImageNotAllowed is the first pod that runs an init image which the administrator does not allow; nil if none does. An image
// that admission pinned by its digest is the same.
func (f *Facts) initImageNotAllowed(images policy.Allowlist) *Pod {
	return f.pod(func(p *Pod) bool {
		name, _, _ := strings.Cut(p.InitImage, "@")
		return p.Injected && !p.Terminating && !images.Allows(p.InitImage) && !images.Allows(name)
	})
}

// SlimPod keeps the fields of a pod that readPod reads: a cluster can have thousands of pods.
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
		Phase: pod.Status.Phase, Conditions: pod.Status.Conditions, InitContainerStatuses: initStatuses(pod), PodIPs: pod.Status.PodIPs,
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

// initStatuses holds the status of the init container of ours; it is empty if there is none.
func initStatuses(pod *corev1.Pod) []corev1.ContainerStatus {
	var out []corev1.ContainerStatus
	for i := range pod.Status.InitContainerStatuses {
		if pod.Status.InitContainerStatuses[i].Name == injection.InitContainerName {
			out = append(out, pod.Status.InitContainerStatuses[i])
		}
	}
	return out
}

// failure is why the init container cannot make a certificate. It is empty for an obstacle that may pass by itself, such as a
// registry that does not answer.
func failure(status *corev1.ContainerStatus) string {
	if ended := status.State.Terminated; ended != nil && ended.ExitCode == 0 {
		return "" // an earlier attempt does not count
	}
	for _, state := range []corev1.ContainerState{status.State, status.LastTerminationState} {
		ended := state.Terminated
		if ended == nil || ended.ExitCode == 0 {
			continue
		}
		if said := sentence(ended.Message); said != "" {
			return fmt.Sprintf("init container %s failed: %s", injection.InitContainerName, kube.Steady(said))
		}
		return fmt.Sprintf("init container %s ended with exit code %d (%s); see its log", injection.InitContainerName, ended.ExitCode, ended.Reason)
	}
	if waiting := status.State.Waiting; waiting != nil {
		switch waiting.Reason {
		case "CreateContainerConfigError", "InvalidImageName", "ErrImageNeverPull", "CreateContainerError", "RunContainerError":
			return fmt.Sprintf("init container %s cannot start: %s: %s", injection.InitContainerName, waiting.Reason, kube.Steady(sentence(waiting.Message)))
		}
	}
	return ""
}

// sentence makes an init container's message fit for a condition: one line, printable, bounded, and without key material.
func sentence(message string) string {
	line, _, _ := strings.Cut(strings.TrimSpace(message), "\n")
	if strings.Contains(line, "PRIVATE KEY") {
		return "(not repeated here: it holds key material)"
	}
	line = strings.Map(func(r rune) rune {
		if r < ' ' || r == 0x7f {
			return -1
		}
		return r
	}, strings.ToValidUTF8(line, ""))
	return kube.Truncate(line, maxTerminationMessage)
}
