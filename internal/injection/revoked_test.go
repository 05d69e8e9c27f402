package injection

import (
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"sigs.k8s.io/yaml"

	"github.com/raytls/raytls/internal/jsonpatch"
)

func TestSecretNameSince(t *testing.T) {
	for number, want := range map[int64]string{0: "raytls-train", 2: "raytls-train.g2", 1<<63 - 1: "raytls-train.g9223372036854775807"} {
		if got := SecretNameSince("train", number); got != want {
			t.Errorf("%d: %q, want %q", number, got, want)
		}
		if got := len(SecretNameSince("train", number)) - len(SecretName("train")); got > MaxSecretSuffix {
			t.Errorf("%d: the suffix has %d characters, and %d are left for it", number, got, MaxSecretSuffix)
		}
	}
}

// Templates differ in what a revocation is for and in nothing else, and both give the plain spec back.
func TestARevocationChangesTheNameAlone(t *testing.T) {
	base := plain(t)
	text := func(spec map[string]any) string {
		out, err := yaml.Marshal(spec)
		if err != nil {
			t.Fatal(err)
		}
		return string(out)
	}
	before, after := mustApply(t, base, Parameters{}, All()), mustApply(t, base, Parameters{RevokedBefore: 3}, All())
	changed := strings.NewReplacer("secretName: raytls-sample\n", "secretName: raytls-sample.g3\n", `"parameters":{}`, `"parameters":{"revokedBefore":3}`).Replace(text(before))
	if diff := cmp.Diff(changed, text(after)); diff != "" {
		t.Errorf("(-want +got):\n%s", diff)
	}
	for _, spec := range []map[string]any{before, after, mustApply(t, before, Parameters{RevokedBefore: 3}, All()), mustApply(t, after, Parameters{}, All())} {
		if diff := cmp.Diff(text(base), text(mustRemove(t, spec, All()))); diff != "" {
			t.Errorf("removing it leaves something (-want +got):\n%s", diff)
		}
	}
	if got := Renamed(before, after); len(got) != len(templatesOf(base)) || len(Renamed(base, after))+len(Renamed(after, base))+len(Renamed(after, after)) > 0 {
		t.Errorf("renamed: %v", got)
	}
}

func TestARecordWithANegativeNumberIsNone(t *testing.T) {
	for value, want := range map[string]bool{
		`{"parameters":{"revokedBefore":3},"revision":1}`: true, `{"parameters":{"revokedBefore":-3},"revision":1}`: false,
		`{"parameters":{"revokedBefore":1.5},"revision":1}`: false, `{"parameters":{"revokedBefore":"3"},"revision":1}`: false,
		`{"parameters":{"revokedBefore":9223372036854775808},"revision":1}`: false,
	} {
		if got := decodeRecord(value); (got != nil) != want {
			t.Errorf("%s: %v", value, got)
		}
	}
}

func TestPodsTellTheirSecret(t *testing.T) {
	pod := podOf(t, Worker, Parameters{RevokedBefore: 3})
	if got := InPod(pod, Worker, "ray"); got.CASecret != "raytls-c.g3" || got.RevokedBefore != 3 || !got.TLS {
		t.Errorf("%+v", got)
	}
	pod.Volumes = SlimVolumes(pod.Volumes)
	if got := InPod(pod, Worker, "ray"); got.CASecret != "raytls-c.g3" || len(pod.Volumes) != 1 {
		t.Errorf("of what a cache keeps: %+v", got)
	}
	for i := range pod.Volumes {
		pod.Volumes[i].Secret.SecretName = "raytls-c" // as admission may have it
	}
	if got := InPod(pod, Worker, "ray"); got.CASecret != "raytls-c" || got.RevokedBefore != 3 {
		t.Errorf("%+v", got)
	}
	if pod.Volumes = nil; InPod(pod, Worker, "ray").CASecret != "" {
		t.Error("without a volume there is no Secret")
	}
}

func TestCarryPutsThePresentSecretIn(t *testing.T) {
	base := plain(t)
	before, after := mustApply(t, base, Parameters{}, All()), mustApply(t, base, Parameters{RevokedBefore: 3}, All())
	image := func(spec map[string]any) { ray(spec)["image"] = "other:1" }
	imaged := change(base, image)
	imagedBefore, imagedAfter := mustApply(t, imaged, Parameters{}, All()), mustApply(t, imaged, Parameters{RevokedBefore: 3}, All())
	number := int64(3)
	for name, c := range map[string]struct {
		reason             string
		old, updated, want map[string]any
		since              *int64
		renamed            bool
	}{
		"manifest of before":         {"it was made before the revocation", after, before, after, &number, true},
		"carried forward":            {"the stored template is as old", before, change(before, image), imagedBefore, nil, false},
		"carried forward, corrected": {"the record says more than the stored template", after, change(before, image), imagedAfter, &number, true},
		"without the injection":      {"what comes back is the present one", after, imaged, imagedAfter, nil, false},
		"without a number":           {"the stored template tells", after, before, after, nil, true},
	} {
		t.Run(name, func(t *testing.T) {
			out, err := Carry(c.old, c.updated, CarryOptions{ClusterName: "sample", RevokedBefore: c.since})
			if err != nil {
				t.Fatal(err)
			}
			if !jsonpatch.Equal(out.Spec, c.want) || (len(out.Renamed) > 0) != c.renamed {
				t.Errorf("%s: renamed %v\n%s", c.reason, out.Renamed, cmp.Diff(c.want, out.Spec))
			}
		})
	}
}
