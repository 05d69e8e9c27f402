package cluster

import (
	"encoding/json"
	"testing"
	"time"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/raytls/raytls/internal/jsonpatch"
	"github.com/raytls/raytls/internal/kept"
	"github.com/raytls/raytls/internal/kuberay"
	"github.com/raytls/raytls/internal/policy"
)

func epoch() time.Time { return time.Date(2026, 1, 2, 3, 4, 5, 0, time.UTC) }

func TestReadPodFindsRayByName(t *testing.T) {
	f, _ := encryptedFacts(t)
	head := jsonpatch.Map(jsonpatch.Map(jsonpatch.Map(f.Spec["headGroupSpec"])["template"])["spec"])
	var spec corev1.PodSpec
	if err := json.Unmarshal(mustJSON(t, head), &spec); err != nil {
		t.Fatal(err)
	}
	at := metav1.NewTime(epoch().Add(-time.Hour))
	pod := &corev1.Pod{
		ObjectMeta: metav1.ObjectMeta{Name: "head", Labels: map[string]string{kuberay.LabelNodeType: kuberay.NodeTypeHead, kuberay.LabelGroup: "headgroup"}},
		Spec:       spec,
		Status:     corev1.PodStatus{Conditions: []corev1.PodCondition{{Type: corev1.PodReady, Status: corev1.ConditionTrue, LastTransitionTime: at}}},
	}
	pod.Spec.Containers = append([]corev1.Container{{Name: "linkerd-proxy"}}, pod.Spec.Containers...)
	names := map[string]string{"": "ray-head", "small": "ray-worker"}
	for reason, object := range map[string]*corev1.Pod{"as it is stored": pod, "as a cache keeps it": slimmed(t, pod)} {
		got := readPod(object, names)
		if !got.Injected || !got.Pieces || got.Differs != "" || got.Group != "" || !got.ReadySince.Equal(at.Time) {
			t.Errorf("%s: a proxy before Ray's container changes what is read: %+v", reason, got)
		}
	}
	pod.Spec.Containers[1].Env = append(pod.Spec.Containers[1].Env, corev1.EnvVar{Name: "RAY_USE_TLS", Value: "0"})
	if got := readPod(slimmed(t, pod), names); got.Injected || got.Differs != "container ray-head has another value of RAY_USE_TLS" {
		t.Errorf("the last value runs: %+v", got)
	}
	if got := readPod(pod, nil); got.Differs == "" {
		t.Errorf("without a template's name, the container with our pieces counts: %+v", got)
	}
}

func slimmed(t *testing.T, pod *corev1.Pod) *corev1.Pod {
	t.Helper()
	out, err := kept.SlimPod(pod.DeepCopy())
	if err != nil {
		t.Fatal(err)
	}
	return out.(*corev1.Pod)
}

func mustJSON(t *testing.T, v any) []byte {
	t.Helper()
	text, err := json.Marshal(v)
	if err != nil {
		t.Fatal(err)
	}
	return text
}

func TestInitImageNotAllowed(t *testing.T) {
	allowed := policy.Allowlist{"init:1"}
	for image, want := range map[string]bool{"": false, "init:1": false, "init:1@sha256:0": false, "init:2": true, "other@sha256:0": true} {
		f := &Facts{Pods: []Pod{{InitImage: image}}}
		f.Pods[0].Injected = true
		if got := f.initImageNotAllowed(allowed) != nil; got != want {
			t.Errorf("image %q is refused: %t", image, got)
		}
	}
}
