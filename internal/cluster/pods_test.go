package cluster

import (
	"encoding/json"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/raytls/raytls/internal/jsonpatch"
	"github.com/raytls/raytls/internal/kuberay"
	"github.com/raytls/raytls/internal/policy"
)

func epoch() time.Time { return time.Date(2026, 1, 2, 3, 4, 5, 0, time.UTC) }

func TestFailure(t *testing.T) {
	ended := func(code int32, message string) corev1.ContainerState {
		return corev1.ContainerState{Terminated: &corev1.ContainerStateTerminated{ExitCode: code, Reason: "Error", Message: message}}
	}
	waits := func(reason string) corev1.ContainerState {
		return corev1.ContainerState{Waiting: &corev1.ContainerStateWaiting{Reason: reason, Message: "because"}}
	}
	for name, c := range map[string]struct {
		reason string
		status corev1.ContainerStatus
		want   string
	}{
		"running":  {"what runs may still succeed", corev1.ContainerStatus{State: corev1.ContainerState{Running: &corev1.ContainerStateRunning{}}}, ""},
		"ended":    {"what ended well did not fail", corev1.ContainerStatus{State: ended(0, "{}")}, ""},
		"failed":   {"the script's sentence is what helps", corev1.ContainerStatus{State: ended(1, "no openssl\nmore")}, "init container raytls-init failed: no openssl"},
		"silent":   {"without a sentence the exit code has to do", corev1.ContainerStatus{State: ended(127, "")}, "init container raytls-init ended with exit code 127 (Error); see its log"},
		"backing":  {"between two attempts the last one counts", corev1.ContainerStatus{State: waits("CrashLoopBackOff"), LastTerminationState: ended(1, "x")}, "init container raytls-init failed: x"},
		"pulling":  {"a registry may answer yet", corev1.ContainerStatus{State: waits("ImagePullBackOff")}, ""},
		"starting": {"a pod that starts has not failed", corev1.ContainerStatus{State: waits("PodInitializing")}, ""},
		"no image": {"a name that is none never becomes one", corev1.ContainerStatus{State: waits("InvalidImageName")}, "init container raytls-init cannot start: InvalidImageName: because"},
		"a key":    {"a key is never repeated", corev1.ContainerStatus{State: ended(1, "-----BEGIN PRIVATE KEY-----")}, "init container raytls-init failed: (not repeated here: it holds key material)"},
	} {
		t.Run(name, func(t *testing.T) {
			if diff := cmp.Diff(c.want, failure(&c.status)); diff != "" {
				t.Errorf("%s (-want +got):\n%s", c.reason, diff)
			}
		})
	}
}

func TestSentenceIsFitForACondition(t *testing.T) {
	for in, want := range map[string]string{
		"":                       "",
		" a\n b":                 "a",
		"a\x1b[31mb\x00\x7f":     "a[31mb",
		"bad\xffutf8":            "badutf8",
		strings.Repeat("é", 200): strings.Repeat("é", 126) + "…",
		"x EC PRIVATE KEY y":     "(not repeated here: it holds key material)",
	} {
		if got := sentence(in); got != want {
			t.Errorf("sentence(%q) = %q (%d bytes), want %q", in, got, len(got), want)
		}
	}
}

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
	out, err := SlimPod(pod.DeepCopy())
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
