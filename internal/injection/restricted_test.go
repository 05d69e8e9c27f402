package injection

import (
	"encoding/json"
	"slices"
	"testing"

	"github.com/google/go-cmp/cmp"
	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/equality"
)

func typedPod(t testing.TB, pod map[string]any) corev1.PodSpec {
	t.Helper()
	text, err := json.Marshal(pod)
	if err != nil {
		t.Fatal(err)
	}
	var typed corev1.PodSpec
	if err := json.Unmarshal(text, &typed); err != nil {
		t.Fatal(err)
	}
	return typed
}

// The rules are those of https://kubernetes.io/docs/concepts/security/pod-security-standards/#restricted for the fields
// that we write.
func TestRestrictedNamespaces(t *testing.T) {
	uid := int64(1000660000)
	cases := map[string]struct {
		reason  string
		podSC   map[string]any
		raySC   map[string]any
		wantUID *int64
	}{
		"the container complies by itself": {
			reason:  "what only the container sets must be copied",
			raySC:   map[string]any{"runAsNonRoot": true, "runAsUser": uid, "runAsGroup": int64(7), "seLinuxOptions": map[string]any{"level": "s0:c1"}},
			wantUID: &uid,
		},
		"the pod complies": {
			reason: "what the pod sets holds for every container",
			podSC:  map[string]any{"runAsNonRoot": true, "runAsUser": uid, "seccompProfile": map[string]any{"type": "RuntimeDefault"}},
		},
	}
	for name, tc := range cases {
		t.Run(name, func(t *testing.T) {
			spec := plain(t)
			spec["enableInTreeAutoscaling"] = false
			if tc.podSC != nil {
				pod(spec)["securityContext"] = tc.podSC
			}
			if tc.raySC != nil {
				ray(spec)["securityContext"] = tc.raySC
			}
			typed := typedPod(t, pod(mustApply(t, spec, Parameters{}, All())))
			ours := typed.InitContainers[0]
			sc := ours.SecurityContext
			if sc.AllowPrivilegeEscalation == nil || *sc.AllowPrivilegeEscalation {
				t.Error("privilege escalation is allowed")
			}
			if !slices.Equal(sc.Capabilities.Drop, []corev1.Capability{"ALL"}) || len(sc.Capabilities.Add) != 0 {
				t.Errorf("capabilities are %v", sc.Capabilities)
			}
			if sc.SeccompProfile == nil || sc.SeccompProfile.Type != corev1.SeccompProfileTypeRuntimeDefault {
				t.Errorf("seccomp profile is %v", sc.SeccompProfile)
			}
			podNonRoot := typed.SecurityContext != nil && typed.SecurityContext.RunAsNonRoot != nil && *typed.SecurityContext.RunAsNonRoot
			if own := sc.RunAsNonRoot; !(own == nil && podNonRoot) && !(own != nil && *own) {
				t.Errorf("%s: runAsNonRoot does not hold", tc.reason)
			}
			if diff := cmp.Diff(tc.wantUID, sc.RunAsUser); diff != "" {
				t.Errorf("%s: runAsUser (-want +got):\n%s", tc.reason, diff)
			}
			theirs := typed.Containers[0].SecurityContext
			if theirs != nil && (!equality.Semantic.DeepEqual(theirs.RunAsGroup, sc.RunAsGroup) || !equality.Semantic.DeepEqual(theirs.SELinuxOptions, sc.SELinuxOptions)) {
				t.Errorf("%s: group or SELinux options are not the Ray container's", tc.reason)
			}
			for _, volume := range typed.Volumes {
				if volume.EmptyDir == nil && volume.Secret == nil && volume.ConfigMap == nil {
					t.Errorf("volume %s is of a kind that restricted forbids", volume.Name)
				}
			}
		})
	}
}

// A root image, or one whose user is unknown, must not be forced to any user.
func TestNothingIsSetThatTheRayContainerDoesNotSet(t *testing.T) {
	sc := typedPod(t, pod(mustApply(t, plain(t), Parameters{}, All()))).InitContainers[0].SecurityContext
	if sc.RunAsUser != nil || sc.RunAsGroup != nil || sc.RunAsNonRoot != nil || sc.SELinuxOptions != nil {
		t.Errorf("the init container would not run as the image's user: %v", sc)
	}
}

func TestTheIssuerKeyIsMountedInTheInitContainerAlone(t *testing.T) {
	spec := mustApply(t, withUsers(plain(t)), Parameters{AdditionalContainers: []string{"logs", "fetch"}}, All())
	for _, template := range templatesOf(spec) {
		typed := typedPod(t, template.pod)
		for _, container := range slices.Concat(typed.InitContainers, typed.Containers) {
			for _, mount := range container.VolumeMounts {
				if container.Name != InitContainerName && (mount.Name == IssuerVolume || mount.Name == ScriptsVolume || (mount.Name == CertsVolume && !mount.ReadOnly)) {
					t.Errorf("%s: container %s mounts %s, read-only: %t", template.path, container.Name, mount.Name, mount.ReadOnly)
				}
			}
		}
	}
}

func TestGuaranteedPodsStayGuaranteed(t *testing.T) {
	ours := typedPod(t, pod(mustApply(t, plain(t), Parameters{}, All()))).InitContainers[0]
	if !equality.Semantic.DeepEqual(ours.Resources.Requests, ours.Resources.Limits) || len(ours.Resources.Limits) != 2 {
		t.Errorf("requests %v and limits %v differ", ours.Resources.Requests, ours.Resources.Limits)
	}
}

// A controller that writes RayClusters through typed structs must not make our pieces look altered.
func TestATypedRoundTripLeavesOurPiecesAlone(t *testing.T) {
	spec := mustApply(t, withUsers(plain(t)), everyParameter(), All())
	for _, template := range templatesOf(spec) {
		text, err := json.Marshal(typedPod(t, template.pod))
		if err != nil {
			t.Fatal(err)
		}
		clear(template.pod)
		if err := json.Unmarshal(text, &template.pod); err != nil {
			t.Fatal(err)
		}
	}
	for _, found := range Inspect(spec, "sample") {
		if found.State != Injected {
			t.Errorf("%s is %s after a typed round trip", found.Path, found.State)
		}
	}
}
