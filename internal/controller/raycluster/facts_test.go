package raycluster

import (
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	rayv1 "github.com/ray-project/kuberay/ray-operator/apis/ray/v1"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/raytls/raytls/api/v1alpha1"
)

func TestProvisioned(t *testing.T) {
	condition := func(status metav1.ConditionStatus) []metav1.Condition {
		return []metav1.Condition{{Type: string(rayv1.RayClusterProvisioned), Status: status}}
	}
	now := metav1.NewTime(epoch())
	for name, c := range map[string]struct {
		reason string
		status rayv1.RayClusterStatus
		want   bool
	}{
		"new":             {"a cluster without a status was never ready", rayv1.RayClusterStatus{}, false},
		"condition":       {"the condition says so", rayv1.RayClusterStatus{Conditions: condition(metav1.ConditionTrue)}, true},
		"condition false": {"the condition has the last word", rayv1.RayClusterStatus{Conditions: condition(metav1.ConditionFalse), State: rayv1.Ready}, false}, //nolint:staticcheck // what older versions have
		"old":             {"before the condition existed, the state said so", rayv1.RayClusterStatus{State: rayv1.Ready}, true},                                //nolint:staticcheck // as above
		"old, was once": {
			"or that it was ready once", rayv1.RayClusterStatus{StateTransitionTimes: map[rayv1.ClusterState]*metav1.Time{rayv1.Ready: &now}}, true,
		},
	} {
		t.Run(name, func(t *testing.T) {
			if got := provisioned(&rayv1.RayCluster{Status: c.status}); got != c.want {
				t.Errorf("%s: got %v", c.reason, got)
			}
		})
	}
}

func TestApproval(t *testing.T) {
	for name, c := range map[string]struct{ reason, text, used, want string }{
		"none":          {"no annotation approves nothing", "", "", ""},
		"pair":          {"a pair approves its cluster", "c=one", "", "one"},
		"used":          {"a token is good once", "c=one", "one", ""},
		"next":          {"another token is good again", "c=two", "one", "two"},
		"list":          {"spaces around pairs do not count", " a=x , c=one ", "", "one"},
		"other":         {"a pair is for its cluster only", "cc=one,C=one", "", ""},
		"no token":      {"an empty token is none", "c=,c", "", ""},
		"used and next": {"of two pairs the unused one counts", "c=one,c=two", "one", "two"},
		"equals sign":   {"a token may hold an equals sign", "c=a=b", "", "a=b"},
	} {
		t.Run(name, func(t *testing.T) {
			policy := &v1alpha1.RayTLSPolicy{ObjectMeta: metav1.ObjectMeta{Annotations: map[string]string{v1alpha1.AnnotationApproveRestart: c.text}}}
			cluster := &rayv1.RayCluster{ObjectMeta: metav1.ObjectMeta{Name: "c", Annotations: map[string]string{v1alpha1.AnnotationApproved: c.used}}}
			if got := approval(policy, cluster, nil); got != c.want {
				t.Errorf("%s: got %q, want %q", c.reason, got, c.want)
			}
		})
	}
}

func TestApprovalOfRayService(t *testing.T) {
	for name, c := range map[string]struct {
		reason, text, used, usedBefore string
		active                         string
		want                           string
	}{
		"service":         {"a pair for the RayService approves the cluster that serves it", "s=one", "", "", "c", "one"},
		"not serving":     {"and no other", "s=one", "", "", "d", ""},
		"used":            {"once", "s=one", "one", "", "c", ""},
		"used before":     {"also when it was the cluster before that used it", "s=one", "", "one", "c", ""},
		"next":            {"another token is good again", "s=two", "", "one", "c", "two"},
		"both":            {"of pairs for both the last one counts", "c=one,s=two", "", "", "c", "two"},
		"last used":       {"used or not, since the one before was superseded", "c=one,s=two", "", "two", "c", ""},
		"cluster's alone": {"a cluster's token is no RayService's", "c=one", "", "one", "c", "one"},
	} {
		t.Run(name, func(t *testing.T) {
			policy := &v1alpha1.RayTLSPolicy{ObjectMeta: metav1.ObjectMeta{Annotations: map[string]string{v1alpha1.AnnotationApproveRestart: c.text}}}
			cluster := &rayv1.RayCluster{ObjectMeta: metav1.ObjectMeta{Name: "c", Annotations: map[string]string{v1alpha1.AnnotationApproved: c.used}}}
			if got := approval(policy, cluster, &service{name: "s", active: c.active, asked: ask{Approved: digest(c.usedBefore)}}); got != c.want {
				t.Errorf("%s: got %q, want %q", c.reason, got, c.want)
			}
		})
	}
}

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

func TestManager(t *testing.T) {
	entry := func(manager, fields, subresource string, hour int) metav1.ManagedFieldsEntry {
		at := metav1.NewTime(epoch().Add(time.Duration(hour) * time.Hour))
		raw := metav1.FieldsV1{}
		raw.SetRawBytes([]byte(fields))
		return metav1.ManagedFieldsEntry{Manager: manager, FieldsV1: &raw, Subresource: subresource, Time: &at}
	}
	object := &metav1.ObjectMeta{ManagedFields: []metav1.ManagedFieldsEntry{
		entry("first", `{"f:spec":{}}`, "", 1),
		entry("argocd", `{"f:spec":{}}`, "", 2),
		entry("labeller", `{"f:metadata":{}}`, "", 3),
		entry("kuberay", `{"f:spec":{}}`, "status", 4),
		entry(v1alpha1.ManagedBy, `{"f:spec":{}}`, "", 5),
	}}
	if got := manager(object); got != "argocd" {
		t.Errorf("the last to write the spec, other than the operator, is named: got %q", got)
	}
	if got := manager(&metav1.ObjectMeta{}); got != "" {
		t.Errorf("nobody is named without a trace: got %q", got)
	}
}
