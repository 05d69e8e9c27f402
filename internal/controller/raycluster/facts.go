package raycluster

import (
	"cmp"
	"fmt"
	"slices"
	"strings"

	rayv1 "github.com/ray-project/kuberay/ray-operator/apis/ray/v1"
	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/meta"
	"k8s.io/apimachinery/pkg/api/resource"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/util/validation"

	"github.com/raytls/raytls/api/v1alpha1"
	"github.com/raytls/raytls/internal/controller/coverage"
	"github.com/raytls/raytls/internal/gencert"
	"github.com/raytls/raytls/internal/injection"
	"github.com/raytls/raytls/internal/rollout"
)

// Names that KubeRay and Kueue define.
const (
	labelCluster           = "ray.io/cluster"
	labelNodeType          = "ray.io/node-type"
	labelGroup             = "ray.io/group"
	labelQueue             = "kueue.x-k8s.io/queue-name"
	annotationNoHead       = "ray.io/disable-provisioned-head-restart"
	annotationFT           = "ray.io/ft-enabled"
	managedByKubeRay       = "ray.io/kuberay-operator"
	nodeTypeHead           = "head"
	upgradeRecreate        = rayv1.RayClusterRecreate
	maxMessage             = 1024
	maxTerminationMessages = 256
)

// provisioned says whether the cluster was ready once: by the condition, and before KubeRay had that, by the state.
func provisioned(c *rayv1.RayCluster) bool {
	if condition := meta.FindStatusCondition(c.Status.Conditions, string(rayv1.RayClusterProvisioned)); condition != nil {
		return condition.Status == metav1.ConditionTrue
	}
	if c.Status.StateTransitionTimes[rayv1.Ready] != nil {
		return true
	}
	return c.Status.State == rayv1.Ready //nolint:staticcheck // all that KubeRay 1.1 has
}

// faultTolerant says whether the cluster's GCS keeps its state outside of the head.
func faultTolerant(c *rayv1.RayCluster) bool {
	return c.Spec.GcsFaultToleranceOptions != nil || c.Annotations[annotationFT] == "true"
}

func recreates(c *rayv1.RayCluster) bool {
	return c.Spec.UpgradeStrategy != nil && c.Spec.UpgradeStrategy.Type != nil && *c.Spec.UpgradeStrategy.Type == upgradeRecreate
}

// ManagedElsewhere names who but this cluster's KubeRay runs the RayCluster; empty for nobody.
func ManagedElsewhere(c *unstructured.Unstructured) string {
	by, _, _ := unstructured.NestedString(c.Object, "spec", "managedBy")
	if by == managedByKubeRay {
		return ""
	}
	return by
}

// blocked names what forbids to restart the cluster even where that is approved, and says why.
// jobs are the RayJobs that own the cluster or run on it, service is the RayService that made it.
func blocked(c *rayv1.RayCluster, jobs []unstructured.Unstructured, service *service) (by, why string) {
	for i := range jobs {
		status, _, _ := unstructured.NestedString(jobs[i].Object, "status", "jobDeploymentStatus")
		if name := jobs[i].GetName(); !rayv1.IsJobDeploymentTerminal(rayv1.JobDeploymentStatus(status)) && jobs[i].GetDeletionTimestamp().IsZero() {
			return "RayJob/" + name, fmt.Sprintf("RayJob %s runs on the cluster, and a restart would fail it; the cluster goes on when the job has finished", name)
		}
	}
	if service != nil {
		return "", "" // nothing is restarted: the RayService makes another cluster
	}
	if owner, found := coverage.Owner(c); found && owner.Kind == v1alpha1.TargetRayService && metav1.GetControllerOf(c) != nil {
		return "RayService/" + owner.Name, fmt.Sprintf("the cluster belongs to RayService %s, which does not exist any more, so it is about to be deleted; if it stays, remove its owner reference", owner.Name)
	}
	if provisioned(c) && c.Annotations[annotationNoHead] == "true" {
		return "annotation " + annotationNoHead, "KubeRay would not make a new head for this cluster; a cluster created anew is encrypted from its start"
	}
	return "", ""
}

// queued says whether Kueue runs the cluster. KubeRay copies the label from a RayService, whose cluster Kueue runs by it,
// and from a RayJob, which Kueue runs itself, with no eye on its cluster.
func queued(c *rayv1.RayCluster) bool {
	owner, found := coverage.Owner(c)
	return c.Labels[labelQueue] != "" && (!found || owner.Kind != v1alpha1.TargetRayJob)
}

// headNames are further names of the cluster's head: those of the Service that KubeRay makes for its RayService or RayJob.
//
// The owner is the one of the controller reference, unless an object of its name exists and is another. Even a forged
// reference gets a tenant nothing: the certificate comes from the authority of the tenant's own cluster, which nobody
// else trusts, and KubeRay lets the Service of any RayCluster be named at will.
func (st *state) headNames(domain string, short bool) []string {
	owner, found := coverage.Owner(st.object)
	by := metav1.GetControllerOf(st.object)
	if !found || by == nil {
		return nil
	}
	for i := range st.jobs {
		if job := &st.jobs[i]; owner.Kind == v1alpha1.TargetRayJob && job.GetName() == owner.Name && job.GetUID() != by.UID {
			return nil
		}
	}
	if owner.Kind == v1alpha1.TargetRayService && st.impostor {
		return nil
	}
	service := owner.Name + "-head-svc"
	if len(validation.IsDNS1035Label(service)) > 0 {
		return nil // no Service can have that name
	}
	names := []string{service + "." + st.key.Namespace, service + "." + st.key.Namespace + ".svc", service + "." + st.key.Namespace + ".svc." + domain}
	if short {
		names = append(names, service)
	}
	return names
}

// templates tells the planner of the described templates. parameters are what is to be rendered.
func templates(described []injection.Template, c *rayv1.RayCluster, parameters injection.Parameters, recorded []string) []rollout.Template {
	var out []rollout.Template
	replicas := map[string]int32{}
	for _, g := range c.Spec.WorkerGroupSpecs {
		switch {
		case g.Suspend != nil && *g.Suspend:
			replicas[g.GroupName] = 0
		case g.Replicas != nil:
			replicas[g.GroupName] = *g.Replicas
		case g.MinReplicas != nil:
			replicas[g.GroupName] = *g.MinReplicas
		}
	}
	for _, t := range described {
		fits := t.Parameters != nil && t.Parameters.Equal(parameters)
		out = append(out, rollout.Template{
			Group:     t.Group,
			Injected:  t.State == injection.Injected && fits,
			Pieces:    t.State != injection.None,
			Recorded:  t.Group == "" || slices.Contains(recorded, t.Group),
			Stripped:  t.Stripped,
			CanaryKey: t.CanaryKey,
			Replicas:  replicas[t.Group],
		})
	}
	return out
}

// recordedParameters are those that the head's template, or else the first that has any, was rendered with.
func recordedParameters(described []injection.Template) *injection.Parameters {
	for _, t := range described {
		if t.Parameters != nil {
			return t.Parameters
		}
	}
	return nil
}

// Parameters are those of the policy's spec, with its defaults, that reach the templates.
func Parameters(spec *v1alpha1.RayTLSPolicySpec) injection.Parameters {
	init := spec.Issuance.InitContainer
	return injection.Parameters{
		Image: init.Image, ImagePullPolicy: string(init.ImagePullPolicy), Resources: requirements(init.Resources),
		ScriptsPath: init.ScriptsPath, AdditionalContainers: spec.AdditionalContainers,
	}
}

func requirements(r *v1alpha1.InitContainerResources) *corev1.ResourceRequirements {
	if r == nil {
		return nil
	}
	list := func(amounts v1alpha1.ResourceAmounts) corev1.ResourceList {
		out := corev1.ResourceList{}
		for name, amount := range map[corev1.ResourceName]*resource.Quantity{
			corev1.ResourceCPU: amounts.CPU, corev1.ResourceMemory: amounts.Memory, corev1.ResourceEphemeralStorage: amounts.EphemeralStorage,
		} {
			if amount != nil {
				out[name] = *amount
			}
		}
		if len(out) == 0 {
			return nil
		}
		return out
	}
	return &corev1.ResourceRequirements{Requests: list(r.Requests), Limits: list(r.Limits)}
}

// podFacts describes a pod to the planner.
func podFacts(pod *corev1.Pod) rollout.Pod {
	out := rollout.Pod{
		Name: pod.Name, UID: string(pod.UID), Created: pod.CreationTimestamp.Time,
		Injected: injection.InPod(&pod.Spec),
	}
	if pod.Labels[labelNodeType] != nodeTypeHead {
		out.Group = cmp.Or(pod.Labels[labelGroup], "-") // never the head's name
	}
	if pod.DeletionTimestamp != nil {
		out.Terminating, out.Deadline = true, pod.DeletionTimestamp.Time
	}
	out.Ready = slices.ContainsFunc(pod.Status.Conditions, func(c corev1.PodCondition) bool {
		return c.Type == corev1.PodReady && c.Status == corev1.ConditionTrue
	})
	if status := initStatus(pod); status != nil {
		out.Certified = status.State.Terminated != nil && status.State.Terminated.ExitCode == 0
		out.Failure = failure(status)
	}
	return out
}

func initStatus(pod *corev1.Pod) *corev1.ContainerStatus {
	i := slices.IndexFunc(pod.Status.InitContainerStatuses, func(s corev1.ContainerStatus) bool { return s.Name == injection.InitContainerName })
	if i < 0 {
		return nil
	}
	return &pod.Status.InitContainerStatuses[i]
}

// failure says why the init container cannot make a certificate. What may pass by itself, such as a registry that does
// not answer, is none.
func failure(status *corev1.ContainerStatus) string {
	if ended := status.State.Terminated; ended != nil && ended.ExitCode == 0 {
		return "" // whatever an earlier try came to
	}
	for _, state := range []corev1.ContainerState{status.State, status.LastTerminationState} {
		ended := state.Terminated
		if ended == nil || ended.ExitCode == 0 {
			continue
		}
		if said := sentence(ended.Message); said != "" {
			return fmt.Sprintf("init container %s failed: %s", injection.InitContainerName, said)
		}
		return fmt.Sprintf("init container %s ended with exit code %d (%s); see its log", injection.InitContainerName, ended.ExitCode, ended.Reason)
	}
	if waiting := status.State.Waiting; waiting != nil {
		switch waiting.Reason {
		case "CreateContainerConfigError", "InvalidImageName", "ErrImageNeverPull", "CreateContainerError", "RunContainerError":
			return fmt.Sprintf("init container %s cannot start: %s: %s", injection.InitContainerName, waiting.Reason, sentence(waiting.Message))
		}
	}
	return ""
}

// sentence is what an init container said when it failed, made fit for a condition: one line, printable, bounded. Nothing
// that could be a key is repeated.
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
	return cut(line, maxTerminationMessages)
}

// cut shortens a text to so many bytes at most, between two characters.
func cut(text string, most int) string {
	if len(text) <= most {
		return text
	}
	return strings.ToValidUTF8(text[:most-len("…")], "") + "…"
}

// leaf is the certificate that the pod says it has; nil if it says none.
func leaf(pod *corev1.Pod) *gencert.Report {
	status := initStatus(pod)
	if status == nil || status.State.Terminated == nil || status.State.Terminated.ExitCode != 0 {
		return nil
	}
	report, err := gencert.ParseReport(status.State.Terminated.Message)
	if err != nil {
		return nil
	}
	return &report
}

// approval is the policy's token for the cluster, or for the RayService that it serves, unless it was used already. Of
// several for one cluster the last counts: otherwise two of them could be used in turn for ever, since only the last one
// used is on record.
func approval(policy *v1alpha1.RayTLSPolicy, c *rayv1.RayCluster, service *service) string {
	token := ""
	for _, pair := range strings.Split(policy.Annotations[v1alpha1.AnnotationApproveRestart], ",") {
		name, value, found := strings.Cut(strings.TrimSpace(pair), "=")
		switch {
		case found && name == c.Name:
			token = value
		case found && service != nil && name == service.name && service.active == c.Name:
			if token = value; digest(value) == service.asked.Approved {
				token = "" // by the cluster that this one replaced
			}
		}
	}
	if token == c.Annotations[v1alpha1.AnnotationApproved] {
		return ""
	}
	return token
}

// manager names the last manager, other than us, that wrote to the object's spec.
func manager(object metav1.Object) string {
	var last metav1.ManagedFieldsEntry
	for _, entry := range object.GetManagedFields() {
		if entry.Manager == v1alpha1.ManagedBy || entry.Subresource != "" || entry.FieldsV1 == nil || entry.Time == nil ||
			!strings.Contains(entry.FieldsV1.GetRawString(), `"f:spec"`) {
			continue
		}
		if last.Time == nil || last.Time.Before(entry.Time) {
			last = entry
		}
	}
	return last.Manager
}
