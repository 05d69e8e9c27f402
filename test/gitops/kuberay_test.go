package gitops_test

import (
	"context"
	"fmt"
	"reflect"
	"strings"
	"time"

	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/runtime"
	"sigs.k8s.io/controller-runtime/pkg/client"
)

// kubeRay plays KubeRay and the kubelets of one namespace, as far as the operator can see them: pods follow the template
// that they were made from and stay when it changes.
type kubeRay struct {
	c         client.Client
	namespace string
	made      int
	// away makes no pods.
	away bool
}

// step does what there is to do for every cluster.
func (k *kubeRay) step(ctx context.Context) error {
	var clusters unstructured.UnstructuredList
	clusters.SetGroupVersionKind(clusterKind)
	if err := k.c.List(ctx, &clusters, client.InNamespace(k.namespace)); err != nil {
		return err
	}
	for i := range clusters.Items {
		if k.away || clusters.Items[i].GetDeletionTimestamp() != nil {
			continue
		}
		if err := k.stepCluster(ctx, &clusters.Items[i]); err != nil && !apierrors.IsConflict(err) && !apierrors.IsNotFound(err) {
			return fmt.Errorf("the stand-in for KubeRay: %w", err)
		}
	}
	return nil
}

func (k *kubeRay) stepCluster(ctx context.Context, cluster *unstructured.Unstructured) error {
	pods, err := k.pods(ctx, cluster.GetName())
	if err != nil {
		return err
	}
	have, ready := map[string]int64{}, true
	for i := range pods {
		pod := &pods[i]
		if pod.DeletionTimestamp != nil {
			if err := k.c.Delete(ctx, pod, client.GracePeriodSeconds(0)); err != nil {
				return err
			}
			ready = false
			continue
		}
		have[pod.Labels["ray.io/group"]]++
		if err := k.run(ctx, pod); err != nil {
			return err
		}
	}
	for group, template := range templates(cluster) {
		for ; have[group] < template.replicas; have[group]++ {
			ready = false
			if err := k.make(ctx, cluster, group, template.template); err != nil {
				return err
			}
		}
	}
	return k.report(ctx, cluster, ready)
}

func (k *kubeRay) pods(ctx context.Context, cluster string) ([]corev1.Pod, error) {
	var list corev1.PodList
	err := k.c.List(ctx, &list, client.InNamespace(k.namespace), client.MatchingLabels{"ray.io/cluster": cluster})
	return list.Items, err
}

type template struct {
	template any
	replicas int64
}

const headGroup = "headgroup"

func templates(cluster *unstructured.Unstructured) map[string]template {
	out := map[string]template{headGroup: {at(cluster, "spec", "headGroupSpec", "template"), 1}}
	groups, _ := at(cluster, "spec", "workerGroupSpecs").([]any)
	for i := range groups {
		replicas, _ := at(cluster, "spec", "workerGroupSpecs", i, "replicas").(int64)
		name, _ := at(cluster, "spec", "workerGroupSpecs", i, "groupName").(string)
		out[name] = template{at(cluster, "spec", "workerGroupSpecs", i, "template"), replicas}
	}
	return out
}

func (k *kubeRay) make(ctx context.Context, cluster *unstructured.Unstructured, group string, from any) error {
	var t corev1.PodTemplateSpec
	if err := runtime.DefaultUnstructuredConverter.FromUnstructured(from.(map[string]any), &t); err != nil {
		return err
	}
	k.made++
	kind := "worker"
	if group == headGroup {
		kind = "head"
	}
	pod := &corev1.Pod{
		ObjectMeta: metav1.ObjectMeta{
			Namespace: k.namespace, Name: fmt.Sprintf("%s-%s-%d", cluster.GetName(), group, k.made),
			Labels:          map[string]string{"ray.io/cluster": cluster.GetName(), "ray.io/node-type": kind, "ray.io/group": group},
			OwnerReferences: []metav1.OwnerReference{*metav1.NewControllerRef(cluster, clusterKind)},
		},
		Spec: t.Spec,
	}
	pod.Spec.NodeName = "node"
	return k.c.Create(ctx, pod)
}

// run has the kubelet run the pod. An encrypted one waits for the cluster's Secret.
func (k *kubeRay) run(ctx context.Context, pod *corev1.Pod) error {
	before := pod.Status.DeepCopy()
	pod.Status.Phase = corev1.PodRunning
	ready := corev1.ConditionTrue
	if len(before.InitContainerStatuses) > 0 && before.InitContainerStatuses[0].State.Terminated != nil {
		return nil // it runs already
	}
	if encryptedPod(pod) {
		status := corev1.ContainerStatus{Name: "raytls-init", Image: "i", ImageID: "i"}
		secret := &corev1.Secret{}
		err := k.c.Get(ctx, client.ObjectKey{Namespace: k.namespace, Name: "raytls-" + pod.Labels["ray.io/cluster"]}, secret)
		switch {
		case apierrors.IsNotFound(err):
			status.State.Running = &corev1.ContainerStateRunning{}
			pod.Status.Phase, ready = corev1.PodPending, corev1.ConditionFalse
		case err != nil:
			return err
		default:
			status.State.Terminated = &corev1.ContainerStateTerminated{Reason: "Completed", Message: certified(secret)}
		}
		pod.Status.InitContainerStatuses = []corev1.ContainerStatus{status}
	}
	pod.Status.Conditions = []corev1.PodCondition{{Type: corev1.PodReady, Status: ready}}
	if reflect.DeepEqual(before, &pod.Status) {
		return nil
	}
	return k.c.Status().Update(ctx, pod)
}

// certified is what the init container says of a certificate that it made with the cluster's CA Secret.
func certified(secret *corev1.Secret) string {
	profile := map[string]string{}
	for line := range strings.Lines(string(secret.Data["profile"])) {
		key, value, _ := strings.Cut(strings.TrimSpace(line), "=")
		profile[key] = value
	}
	now := time.Now().UTC()
	return fmt.Sprintf(`{"authority":%q,"issuer":%q,"serial":"%032x","notAfter":%q,"issuedAt":%q}`+"\n", profile["authority"], profile["issuer"],
		now.UnixNano(), now.AddDate(1, 0, 0).Format(time.RFC3339), now.Format(time.RFC3339))
}

func (k *kubeRay) report(ctx context.Context, cluster *unstructured.Unstructured, ready bool) error {
	before := cluster.DeepCopy()
	set(cluster.GetGeneration(), "status", "observedGeneration")(cluster)
	if ready && at(cluster, "status", "conditions") == nil {
		set([]any{map[string]any{
			"type": "RayClusterProvisioned", "status": "True", "reason": "AllPodRunningAndReadyFirstTime", "message": "",
			"lastTransitionTime": cluster.GetCreationTimestamp().UTC().Format("2006-01-02T15:04:05Z"),
		}}, "status", "conditions")(cluster)
		set("ready", "status", "state")(cluster)
	}
	if reflect.DeepEqual(before.Object, cluster.Object) {
		return nil
	}
	return k.c.Status().Update(ctx, cluster, client.FieldOwner("kuberay-operator"))
}

// up says what of the cluster does not run yet.
func (k *kubeRay) up(ctx context.Context, name string) error {
	cluster := &unstructured.Unstructured{}
	cluster.SetGroupVersionKind(clusterKind)
	if err := k.c.Get(ctx, client.ObjectKey{Namespace: k.namespace, Name: name}, cluster); err != nil {
		return err
	}
	pods, err := k.pods(ctx, name)
	if err != nil {
		return err
	}
	have := map[string]int64{}
	for i := range pods {
		if ready := pods[i].Status.Conditions; len(ready) > 0 && ready[0].Status == corev1.ConditionTrue && pods[i].DeletionTimestamp == nil {
			have[pods[i].Labels["ray.io/group"]]++
		}
	}
	for group, t := range templates(cluster) {
		if have[group] != t.replicas {
			return fmt.Errorf("%d of %d pods of %s run", have[group], t.replicas, group)
		}
	}
	if at(cluster, "status", "conditions") == nil {
		return fmt.Errorf("the cluster was never ready")
	}
	return nil
}

// encrypted says which pod of the cluster speaks plaintext.
func (k *kubeRay) encrypted(ctx context.Context, cluster string) error {
	pods, err := k.pods(ctx, cluster)
	if err != nil {
		return err
	}
	for i := range pods {
		if !encryptedPod(&pods[i]) {
			return fmt.Errorf("pod %s speaks plaintext", pods[i].Name)
		}
	}
	return nil
}

func encryptedPod(pod *corev1.Pod) bool {
	for i := range pod.Spec.InitContainers {
		if pod.Spec.InitContainers[i].Name == "raytls-init" {
			return true
		}
	}
	return false
}
