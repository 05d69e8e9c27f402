package suite_test

import (
	"context"
	"crypto/rand"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"strings"
	"time"

	. "github.com/onsi/ginkgo/v2"
	rayv1 "github.com/ray-project/kuberay/ray-operator/apis/ray/v1"
	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	apimeta "k8s.io/apimachinery/pkg/api/meta"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/runtime"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/raytls/raytls/internal/gencert"
	"github.com/raytls/raytls/internal/gencert/gencerttest"
)

// kubeRay plays KubeRay and the kubelets in one namespace, one step at a time. It does what kuberay.md in the design
// says of the real ones, as far as the operator can see it: pods follow the template they were made from and stay when
// it changes, a terminating pod counts until it is gone, an init container needs the CA Secret.
type kubeRay struct {
	admin     client.Client
	namespace string
	made      int

	// frozen makes no pods and changes no status.
	frozen bool
	// keepTerminating has deleted pods take their time.
	keepTerminating bool
	// versionTrap has KubeRay restamp the head instead of recreating the pods, as after an upgrade of KubeRay.
	versionTrap bool
	// lag keeps status.observedGeneration as it is.
	lag bool
	// unready never reports a cluster as provisioned.
	unready bool
	// startup is how long Ray takes to be ready in a pod.
	startup time.Duration
	// holdTraffic keeps a RayService's traffic where it is.
	holdTraffic bool
	// keepOld keeps the clusters that a RayService has moved its traffic away from.
	keepOld bool
	// born changes the clusters that are made for a RayService, as a webhook would.
	born func(*unstructured.Unstructured)
	// headAddress is the address of heads; empty for none.
	headAddress string
	// admission changes pods when they are made, as webhooks of others would.
	admission func(*corev1.Pod)
	// certificate says how an init container of ours fares.
	certificate func(*corev1.Pod) outcome
}

// outcome is how an init container ended: well if it is empty, and not yet if it is hangs.
type outcome string

const (
	succeeds outcome = ""
	hangs    outcome = "hangs"
)

const recreateHash = "ray.io/upgrade-strategy-recreate-hash"

// step does what there is to do for every cluster of the namespace.
func (k *kubeRay) step(ctx context.Context) {
	GinkgoHelper()
	k.stepServices(ctx)
	var clusters unstructured.UnstructuredList
	clusters.SetGroupVersionKind(rayv1.GroupVersion.WithKind("RayCluster"))
	k.must(k.admin.List(ctx, &clusters, client.InNamespace(k.namespace)))
	for i := range clusters.Items {
		k.stepCluster(ctx, &clusters.Items[i])
	}
}

func (k *kubeRay) must(err error) {
	GinkgoHelper()
	if err != nil && !apierrors.IsConflict(err) && !apierrors.IsNotFound(err) {
		Fail("the stand-in for KubeRay: " + err.Error())
	}
}

func (k *kubeRay) stepCluster(ctx context.Context, object *unstructured.Unstructured) {
	GinkgoHelper()
	cluster := &rayv1.RayCluster{}
	k.must(runtime.DefaultUnstructuredConverter.FromUnstructured(object.Object, cluster))
	if cluster.Spec.ManagedBy != nil && *cluster.Spec.ManagedBy != "ray.io/kuberay-operator" || cluster.DeletionTimestamp != nil {
		return
	}
	if len(cluster.Name) > 53 {
		return // KubeRay refuses longer names
	}
	pods := k.pods(ctx, cluster)
	k.kubelet(ctx, pods)
	if k.frozen {
		return
	}
	suspended := cluster.Spec.Suspend != nil && *cluster.Spec.Suspend
	hash := specHash(object)
	byGroup := map[string]int{}
	for i := range pods {
		pod := &pods[i]
		stale := cluster.Spec.UpgradeStrategy != nil && pod.Labels["ray.io/node-type"] == "head" && pod.Annotations[recreateHash] != hash
		if stale && k.versionTrap {
			pod.Annotations[recreateHash] = hash
			k.must(k.admin.Update(ctx, pod))
			stale = false
		}
		if (suspended || stale) && pod.DeletionTimestamp == nil {
			for j := range pods {
				k.must(k.admin.Delete(ctx, &pods[j]))
			}
			return
		}
		byGroup[pod.Labels["ray.io/group"]]++
	}
	if !suspended {
		k.makePods(ctx, cluster, hash, byGroup)
	}
	k.report(ctx, cluster, pods, suspended)
}

func (k *kubeRay) pods(ctx context.Context, cluster *rayv1.RayCluster) []corev1.Pod {
	GinkgoHelper()
	var list corev1.PodList
	k.must(k.admin.List(ctx, &list, client.InNamespace(k.namespace), client.MatchingLabels{"ray.io/cluster": cluster.Name}))
	return list.Items
}

func (k *kubeRay) makePods(ctx context.Context, cluster *rayv1.RayCluster, hash string, have map[string]int) {
	GinkgoHelper()
	if have["headgroup"] == 0 {
		k.makePod(ctx, cluster, "headgroup", "head", &cluster.Spec.HeadGroupSpec.Template, hash)
	}
	for i := range cluster.Spec.WorkerGroupSpecs {
		group := &cluster.Spec.WorkerGroupSpecs[i]
		want := int32(1)
		if group.Replicas != nil {
			want = *group.Replicas
		}
		for n := have[group.GroupName]; n < int(want); n++ {
			k.makePod(ctx, cluster, group.GroupName, "worker", &group.Template, "")
		}
	}
}

func (k *kubeRay) makePod(ctx context.Context, cluster *rayv1.RayCluster, group, kind string, template *corev1.PodTemplateSpec, hash string) {
	GinkgoHelper()
	k.made++
	pod := &corev1.Pod{
		ObjectMeta: metav1.ObjectMeta{
			Namespace: k.namespace, Name: fmt.Sprintf("%.40s-%s-%d", cluster.Name, group, k.made),
			Labels: map[string]string{"ray.io/cluster": cluster.Name, "ray.io/node-type": kind, "ray.io/group": group},
			OwnerReferences: []metav1.OwnerReference{
				*metav1.NewControllerRef(cluster, rayv1.GroupVersion.WithKind("RayCluster")),
			},
		},
		Spec: *template.Spec.DeepCopy(),
	}
	pod.Spec.NodeName = "node"
	if hash != "" {
		pod.Annotations = map[string]string{recreateHash: hash}
	}
	if k.admission != nil {
		k.admission(pod)
	}
	k.must(k.admin.Create(ctx, pod))
}

// kubelet runs the pods, and ends those that are deleted.
func (k *kubeRay) kubelet(ctx context.Context, pods []corev1.Pod) {
	GinkgoHelper()
	heads := map[bool]bool{} // is there a head that talks with TLS, without
	for i := range pods {
		if p := &pods[i]; p.Labels["ray.io/node-type"] == "head" && p.DeletionTimestamp == nil && ready(p) {
			heads[injectedPod(p)] = true
		}
	}
	for i := range pods {
		pod := &pods[i]
		if pod.DeletionTimestamp != nil {
			if !k.keepTerminating {
				k.must(k.admin.Delete(ctx, pod, client.GracePeriodSeconds(0)))
			}
			continue
		}
		before := pod.Status.DeepCopy()
		k.run(ctx, pod, pod.Labels["ray.io/node-type"] == "head" || heads[injectedPod(pod)])
		if !equalJSON(before, pod.Status) {
			k.must(k.admin.Status().Update(ctx, pod))
		}
	}
}

func (k *kubeRay) run(ctx context.Context, pod *corev1.Pod, hasHead bool) {
	GinkgoHelper()
	pod.Status.Phase = corev1.PodRunning
	isReady := corev1.ConditionFalse
	if injectedPod(pod) {
		status := k.initContainer(ctx, pod)
		pod.Status.InitContainerStatuses = []corev1.ContainerStatus{status}
		if status.State.Terminated == nil || status.State.Terminated.ExitCode != 0 {
			pod.Status.Phase, hasHead = corev1.PodPending, false
		}
	}
	if hasHead && time.Since(pod.CreationTimestamp.Time) >= k.startup {
		isReady = corev1.ConditionTrue
	}
	pod.Status.Conditions = []corev1.PodCondition{{Type: corev1.PodReady, Status: isReady}}
	if k.headAddress != "" && pod.Labels["ray.io/node-type"] == "head" {
		pod.Status.PodIP, pod.Status.PodIPs = k.headAddress, []corev1.PodIP{{IP: k.headAddress}}
	}
}

func (k *kubeRay) initContainer(ctx context.Context, pod *corev1.Pod) corev1.ContainerStatus {
	GinkgoHelper()
	for _, s := range pod.Status.InitContainerStatuses {
		if s.Name == "raytls-init" && s.State.Terminated != nil && s.State.Terminated.ExitCode == 0 {
			return s
		}
	}
	status := corev1.ContainerStatus{Name: "raytls-init", Image: "i", ImageID: "i"}
	running := corev1.ContainerState{Running: &corev1.ContainerStateRunning{}}
	how := succeeds
	if k.certificate != nil {
		how = k.certificate(pod)
	}
	var secret corev1.Secret
	err := k.admin.Get(ctx, client.ObjectKey{Namespace: k.namespace, Name: mountedIssuer(pod)}, &secret)
	switch {
	case how == hangs || apierrors.IsNotFound(err):
		status.State = running
	case how != succeeds:
		status.State.Waiting = &corev1.ContainerStateWaiting{Reason: "CrashLoopBackOff"}
		status.LastTerminationState.Terminated = &corev1.ContainerStateTerminated{ExitCode: 1, Reason: "Error", Message: string(how)}
	default:
		k.must(err)
		status.State.Terminated = &corev1.ContainerStateTerminated{Reason: "Completed", Message: k.reportOf(secret.Data["profile"])}
	}
	return status
}

// mountedIssuer names the CA Secret that the pod mounts.
func mountedIssuer(pod *corev1.Pod) string {
	for _, v := range pod.Spec.Volumes {
		if v.Name == "raytls-issuer" && v.Secret != nil {
			return v.Secret.SecretName
		}
	}
	return ""
}

// reportOf is what the script would say of a certificate that it made by that profile.
func (k *kubeRay) reportOf(profile []byte) string {
	GinkgoHelper()
	p, err := gencerttest.ParseProfile(profile)
	k.must(err)
	serial := make([]byte, 16)
	_, err = rand.Read(serial)
	k.must(err)
	now := time.Now()
	message, err := gencert.Report{
		Authority: p.Authority, Issuer: p.Issuer, Serial: hex.EncodeToString(serial),
		IssuedAt: now, NotAfter: now.Add(time.Duration(p.ValidityDays) * 24 * time.Hour),
	}.Message()
	k.must(err)
	return message
}

func (k *kubeRay) report(ctx context.Context, cluster *rayv1.RayCluster, pods []corev1.Pod, suspended bool) {
	GinkgoHelper()
	before := cluster.Status.DeepCopy()
	if !k.lag {
		cluster.Status.ObservedGeneration = cluster.Generation
	}
	all := len(pods) > 0
	for i := range pods {
		all = all && ready(&pods[i])
	}
	if all && !suspended && !k.unready {
		cluster.Status.State = rayv1.Ready //nolint:staticcheck // older versions have nothing else
		apimeta.SetStatusCondition(&cluster.Status.Conditions, metav1.Condition{
			Type: string(rayv1.RayClusterProvisioned), Status: metav1.ConditionTrue, Reason: "AllPodRunningAndReadyFirstTime",
		})
	}
	if suspended {
		cluster.Status.State = rayv1.Suspended //nolint:staticcheck // as above
		apimeta.SetStatusCondition(&cluster.Status.Conditions, metav1.Condition{
			Type: string(rayv1.RayClusterProvisioned), Status: metav1.ConditionFalse, Reason: "RayClusterSuspended",
		})
	}
	if !equalJSON(before, cluster.Status) {
		k.must(k.admin.Status().Update(ctx, cluster))
	}
}

func ready(pod *corev1.Pod) bool {
	for _, c := range pod.Status.Conditions {
		if c.Type == corev1.PodReady {
			return c.Status == corev1.ConditionTrue
		}
	}
	return false
}

func injectedPod(pod *corev1.Pod) bool {
	for _, c := range pod.Spec.InitContainers {
		if c.Name == "raytls-init" {
			return true
		}
	}
	return false
}

// specHash leaves out what KubeRay leaves out when it decides whether to recreate.
func specHash(cluster *unstructured.Unstructured) string {
	spec, _, _ := unstructured.NestedMap(cluster.Object, "spec")
	delete(spec, "upgradeStrategy")
	delete(spec, "suspend")
	groups, _ := spec["workerGroupSpecs"].([]any)
	for _, g := range groups {
		for _, key := range []string{"replicas", "minReplicas", "maxReplicas"} {
			delete(g.(map[string]any), key)
		}
	}
	text, _ := json.Marshal(spec)
	sum := sha256.Sum256(text)
	return strings.ToLower(hex.EncodeToString(sum[:8]))
}

func equalJSON(a, b any) bool {
	left, _ := json.Marshal(a)
	right, _ := json.Marshal(b)
	return string(left) == string(right)
}
