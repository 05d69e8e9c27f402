package injection

import (
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	corev1 "k8s.io/api/core/v1"
)

func TestInitFailure(t *testing.T) {
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
			if diff := cmp.Diff(c.want, InitFailure(&c.status)); diff != "" {
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
