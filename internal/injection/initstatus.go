package injection

import (
	"fmt"
	"strings"
	"unicode"

	corev1 "k8s.io/api/core/v1"

	"github.com/raytls/raytls/internal/kube"
)

// maxTerminationMessage is how many bytes of an init container's message are repeated.
const maxTerminationMessage = 256

// InitStatuses holds the status of the init container of ours; it is empty if there is none.
func InitStatuses(pod *corev1.Pod) []corev1.ContainerStatus {
	var out []corev1.ContainerStatus
	for i := range pod.Status.InitContainerStatuses {
		if pod.Status.InitContainerStatuses[i].Name == InitContainerName {
			out = append(out, pod.Status.InitContainerStatuses[i])
		}
	}
	return out
}

// InitFailure is why the init container cannot make a certificate. It is empty for an obstacle that may pass by itself, such as a
// registry that does not answer.
func InitFailure(status *corev1.ContainerStatus) string {
	if ended := status.State.Terminated; ended != nil && ended.ExitCode == 0 {
		return "" // an earlier attempt does not count
	}
	for _, state := range []corev1.ContainerState{status.State, status.LastTerminationState} {
		ended := state.Terminated
		if ended == nil || ended.ExitCode == 0 {
			continue
		}
		if said := sentence(ended.Message); said != "" {
			return fmt.Sprintf("init container %s failed: %s", InitContainerName, kube.Steady(said))
		}
		return fmt.Sprintf("init container %s ended with exit code %d (%s); see its log", InitContainerName, ended.ExitCode, ended.Reason)
	}
	if waiting := status.State.Waiting; waiting != nil {
		switch waiting.Reason {
		case "CreateContainerConfigError", "InvalidImageName", "ErrImageNeverPull", "CreateContainerError", "RunContainerError":
			return fmt.Sprintf("init container %s cannot start: %s: %s", InitContainerName, waiting.Reason, kube.Steady(sentence(waiting.Message)))
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
		if !unicode.IsPrint(r) {
			return -1 // also what turns a terminal's colours or a line's direction
		}
		return r
	}, strings.ToValidUTF8(line, ""))
	return kube.Truncate(line, maxTerminationMessage)
}
