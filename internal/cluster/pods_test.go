package cluster

import (
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"

	"github.com/raytls/raytls/internal/injection"
	"github.com/raytls/raytls/internal/jsonpatch"
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

func TestClusterThatTheCacheDroppedMayBeInjected(t *testing.T) {
	plain := map[string]any{"headGroupSpec": map[string]any{"template": map[string]any{"spec": map[string]any{"containers": []any{map[string]any{"name": "ray-head"}}}}}}
	if MayBeInjected(plain) {
		t.Error("a cluster without a piece of the injection needs no scripts")
	}
	large := &unstructured.Unstructured{Object: map[string]any{"spec": map[string]any{"workerGroupSpecs": make([]any, injection.MaxWorkerGroups+1)}}}
	if _, err := SlimCluster(large); err != nil {
		t.Fatal(err)
	}
	if !MayBeInjected(jsonpatch.Map(large.Object["spec"])) {
		t.Error("nobody knows whether a cluster needs the scripts whose spec the cache dropped")
	}
}
