package cluster

import (
	"cmp"
	"fmt"
	"net/netip"
	"strings"
	"time"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/utils/ptr"

	"github.com/raytls/raytls/api/v1alpha1"
	"github.com/raytls/raytls/internal/gencert"
	"github.com/raytls/raytls/internal/injection"
	"github.com/raytls/raytls/internal/kept"
	"github.com/raytls/raytls/internal/kuberay"
	"github.com/raytls/raytls/internal/policy"
	"github.com/raytls/raytls/internal/probe"
	"github.com/raytls/raytls/internal/rollout"
)

// Pod is one of the cluster's pods.
type Pod struct {
	rollout.Pod
	// Report describes the pod's certificate; nil if there is none that can be read.
	Report *gencert.Report
	// InitImage is the image of the init container, if it is not the Ray container's own.
	InitImage string
	// Pending reports whether not all of its containers have started. The API server evicts such a pod whatever a PodDisruptionBudget
	// says.
	Pending bool
	// CASecret is the Secret that the pod gets its issuer from; empty for none. RevokedBefore is the number of its template's.
	CASecret      string
	RevokedBefore int64
	// ResourceVersion, Node and Sync are the pod's: Sync is the value of the annotation raytls.io/sync.
	ResourceVersion, Node, Sync string
	// Labels are the pod's, by which PodDisruptionBudgets select.
	Labels map[string]string
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
		Labels: pod.Labels, Pending: pod.Status.Phase == corev1.PodPending,
	}
	kind := injection.Worker
	out.Group = cmp.Or(pod.Labels[kuberay.LabelGroup], "-") // a worker's group is never empty
	out.Replica = pod.Labels[kuberay.LabelReplica]
	out.HeldBy, out.HeldWhy = held(pod)
	if pod.Labels[kuberay.LabelNodeType] == kuberay.NodeTypeHead {
		kind = injection.Head
		out.Group, out.HostNetwork = "", pod.Spec.HostNetwork
		out.Address, _ = probe.Address(pod)
	}
	state := injection.InPod(&pod.Spec, kind, containers[out.Group])
	out.Injected, out.Pieces, out.Differs, out.InitImage = state.TLS, state.Pieces, state.Differs, state.InitImage
	out.CASecret, out.RevokedBefore = state.CASecret, state.RevokedBefore
	if pod.DeletionTimestamp != nil {
		out.Terminating, out.Deadline = true, pod.DeletionTimestamp.Time
		out.Deleted = out.Deadline.Add(-time.Duration(ptr.Deref(pod.DeletionGracePeriodSeconds, 0)) * time.Second)
	}
	for _, c := range pod.Status.Conditions {
		if c.Type == corev1.PodReady && c.Status == corev1.ConditionTrue {
			out.Ready, out.ReadySince = true, cmp.Or(c.LastTransitionTime.Time, out.Created)
		}
	}
	for _, status := range injection.InitStatuses(pod) {
		out.Failure = injection.InitFailure(&status)
		if ended := status.State.Terminated; ended != nil && ended.ExitCode == 0 {
			out.Certified = true
			if report, err := gencert.ParseReport(ended.Message); err == nil {
				out.Report = &report
			}
		}
	}
	return out
}

// held is the annotation with which the pod asks to be left alone, and what to do; empty for none.
func held(pod *corev1.Pod) (by, why string) {
	for annotation, lets := range map[string]func(string) bool{
		kept.AnnotationDoNotDisrupt: func(value string) bool { return value == "false" },
		kept.AnnotationSafeToEvict:  func(value string) bool { return value != "false" },
	} {
		if value, found := pod.Annotations[annotation]; found && !lets(value) && (by == "" || annotation < by) {
			by = annotation
		}
	}
	if by == "" {
		return "", ""
	}
	return "annotation " + by, fmt.Sprintf("pod %s asks by the annotation %s to be left alone; it is restarted when the annotation is gone, or delete the pod", pod.Name, by)
}

// initImageNotAllowed is the first pod that runs an init image which the administrator does not allow; nil if none does. An image
// that admission pinned by its digest is the same.
func (f *Facts) initImageNotAllowed(images policy.Allowlist) *Pod {
	return f.pod(func(p *Pod) bool {
		name, _, _ := strings.Cut(p.InitImage, "@")
		return p.Injected && !p.Terminating && !images.Allows(p.InitImage) && !images.Allows(name)
	})
}
