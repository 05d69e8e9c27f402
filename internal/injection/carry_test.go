package injection

import (
	"errors"
	"slices"
	"testing"

	"github.com/google/go-cmp/cmp"
	"pgregory.net/rapid"

	"github.com/raytls/raytls/internal/jsonpatch"
)

// change gives a copy of the spec with something changed.
func change(spec map[string]any, edit func(spec map[string]any)) map[string]any {
	out := jsonpatch.CopyMap(spec)
	edit(out)
	return out
}

func states(spec map[string]any) []State {
	var out []State
	for _, t := range Inspect(spec, "sample") {
		out = append(out, t.State)
	}
	return out
}

func mustCarry(t testing.TB, old, updated map[string]any) map[string]any {
	t.Helper()
	out, err := Carry(old, updated, CarryOptions{ClusterName: "sample"})
	if err != nil {
		t.Fatal(err)
	}
	return out.Spec
}

func TestCarry(t *testing.T) {
	p := Parameters{ScriptsPath: "/opt/raytls"}
	base := plain(t)
	injected := mustApply(t, base, p, All())
	canary := mustApply(t, base, p, Only(false, jsonpatch.String(group(base, 0)["groupName"])))
	all := func(spec map[string]any, s State) []State { return slices.Repeat([]State{s}, len(templatesOf(spec))) }
	setImage := func(spec map[string]any) { ray(spec)["image"] = "other:1" }
	scale := func(spec map[string]any) { group(spec, 0)["replicas"] = int64(7) }
	addGroup := func(spec map[string]any) {
		added := jsonpatch.CopyMap(group(base, 0))
		added["groupName"] = "added"
		spec["workerGroupSpecs"] = append(jsonpatch.List(spec["workerGroupSpecs"]), added)
	}
	for _, c := range []struct {
		name, reason string
		old, updated map[string]any
		want         map[string]any
	}{
		{
			name: "the autoscaler's patch", reason: "a template that nobody changed is not touched",
			old: injected, updated: change(injected, scale), want: change(injected, scale),
		},
		{
			name: "a GitOps tool applies its manifest", reason: "what it strips is back, and nothing else is changed",
			old: injected, updated: base, want: injected,
		},
		{
			name: "a GitOps tool applies a changed manifest", reason: "the change arrives with the injection",
			old: injected, updated: change(base, setImage), want: mustApply(t, change(base, setImage), p, All()),
		},
		{
			name: "an image is changed in place", reason: "the pieces that depend on it follow",
			old: injected, updated: change(injected, setImage), want: mustApply(t, change(base, setImage), p, All()),
		},
		{
			name: "a worker group comes", reason: "it follows the head",
			old: injected, updated: change(injected, addGroup), want: mustApply(t, change(base, addGroup), p, All()),
		},
		{
			name: "a worker group comes to a plaintext cluster", reason: "it follows the head",
			old: base, updated: change(base, addGroup), want: change(base, addGroup),
		},
		{
			name: "a worker group comes while a canary is under way", reason: "the head is still plain",
			old: canary, updated: change(canary, addGroup), want: change(canary, addGroup),
		},
		{
			name: "a manifest is applied while a canary is under way", reason: "each template stays what it was",
			old: canary, updated: base, want: canary,
		},
		{
			name: "an injected manifest is applied to a plaintext cluster", reason: "a running cluster is not half-converted",
			old: base, updated: injected, want: base,
		},
		{
			name: "an injected manifest is applied while a canary is under way", reason: "the head is not converted by accident",
			old: canary, updated: injected, want: canary,
		},
	} {
		t.Run(c.name, func(t *testing.T) {
			got := mustCarry(t, c.old, c.updated)
			if diff := cmp.Diff(c.want, got); diff != "" {
				t.Errorf("%s (-want +got):\n%s", c.reason, diff)
			}
			if again := mustCarry(t, got, c.updated); !jsonpatch.Equal(again, got) {
				t.Errorf("the same update again changes something:\n%s", cmp.Diff(got, again))
			}
		})
	}
	if got := states(mustCarry(t, injected, base)); !slices.Equal(got, all(base, Injected)) {
		t.Errorf("after a strip, templates are %v", got)
	}
}

func TestCarrySaysWhatItLeavesOut(t *testing.T) {
	base := plain(t)
	out, err := Carry(base, mustApply(t, base, Parameters{}, All()), CarryOptions{ClusterName: "sample"})
	if err != nil {
		t.Fatal(err)
	}
	if len(out.Left) != len(templatesOf(base)) || out.Left[0] != "spec.headGroupSpec.template" {
		t.Errorf("left out: %v", out.Left)
	}
}

func TestCarryKeepsTheOrderOfWhatIsStored(t *testing.T) {
	base := plain(t)
	injected := mustApply(t, base, Parameters{}, All())
	turn := func(spec map[string]any) { slices.Reverse(jsonpatch.List(ray(spec)["env"])) }
	turned := change(injected, turn)
	if got := mustCarry(t, turned, base); !jsonpatch.Equal(got, turned) {
		t.Errorf("what was stored in another order is written anew:\n%s", cmp.Diff(turned, got))
	}
	if got := mustCarry(t, injected, turned); !jsonpatch.Equal(got, turned) {
		t.Errorf("what was asked for in another order is written anew:\n%s", cmp.Diff(turned, got))
	}
}

func TestCarryFollowsTheAutoscaler(t *testing.T) {
	base := plain(t)
	off := change(base, func(spec map[string]any) {
		delete(spec, "enableInTreeAutoscaling")
		delete(spec, "autoscalerOptions")
	})
	injected := mustApply(t, off, Parameters{}, All())
	on := change(injected, func(spec map[string]any) { spec["enableInTreeAutoscaling"] = true })
	got := mustCarry(t, injected, on)
	if !slices.ContainsFunc(jsonpatch.List(jsonpatch.Map(got["autoscalerOptions"])["env"]), ourEnv) {
		t.Errorf("the autoscaler that is switched on has no TLS: %v", got["autoscalerOptions"])
	}
	if back := mustCarry(t, got, off); !jsonpatch.Equal(back, injected) {
		t.Errorf("switched off again (-want +got):\n%s", cmp.Diff(injected, back))
	}
}

func TestCarryLosesAContainerThatIsTakenOut(t *testing.T) {
	base := change(plain(t), func(spec map[string]any) {
		pod := templatesOf(spec)[0].pod
		pod["containers"] = append(jsonpatch.List(pod["containers"]), map[string]any{"name": "sidecar", "image": jsonpatch.String(jsonpatch.Map(jsonpatch.List(pod["containers"])[0])["image"])})
	})
	p := Parameters{AdditionalContainers: []string{"sidecar"}}
	injected := mustApply(t, base, p, All())
	without := change(injected, func(spec map[string]any) {
		pod := templatesOf(spec)[0].pod
		pod["containers"] = slices.DeleteFunc(jsonpatch.List(pod["containers"]), func(c any) bool { return jsonpatch.Name(c) == "sidecar" })
	})
	if got := mustCarry(t, injected, without); !jsonpatch.Equal(got, without) {
		t.Errorf("a sidecar cannot be taken out (-want +got):\n%s", cmp.Diff(without, got))
	}
}

func TestCarryRefusesWhatCannotCarry(t *testing.T) {
	injected := mustApply(t, plain(t), Parameters{}, All())
	foreign := func(spec map[string]any) {
		ray := ray(spec)
		ray["env"] = append(jsonpatch.List(ray["env"]), map[string]any{"name": EnvCACert, "value": "/mine"})
	}
	_, err := Carry(injected, change(plain(t), foreign), CarryOptions{ClusterName: "sample"})
	var conflict *ConflictError
	if !errors.As(err, &conflict) {
		t.Fatalf("error %v", err)
	}
	if _, err := Carry(change(injected, foreign), change(change(injected, foreign), func(spec map[string]any) {
		group(spec, 0)["replicas"] = int64(9)
	}), CarryOptions{ClusterName: "sample"}); err != nil {
		t.Errorf("a conflict that was there before keeps the autoscaler from its work: %v", err)
	}
}

func TestCarryAndNewerRevisions(t *testing.T) {
	injected := mustApply(t, plain(t), Parameters{}, All())
	newer := change(injected, func(spec map[string]any) {
		for _, t := range templatesOf(spec) {
			for _, c := range jsonpatch.List(t.pod["initContainers"]) {
				if jsonpatch.Name(c) == InitContainerName {
					jsonpatch.Map(jsonpatch.List(jsonpatch.Map(c)["env"])[0])["value"] = `{"revision":99,"parameters":{}}`
				}
			}
		}
	})
	kept := change(newer, func(spec map[string]any) { ray(spec)["image"] = "other:2" })
	if got := mustCarry(t, newer, kept); !jsonpatch.Equal(got, kept) {
		t.Error("what a newer operator injected is changed by this one")
	}
	if _, err := Carry(newer, plain(t), CarryOptions{ClusterName: "sample"}); err == nil {
		t.Error("what a newer operator injected may be stripped")
	}
}

// Whatever is updated, no template changes sides: what was injected stays injected, what was plain stays plain.
func TestCarryKeepsEveryTemplateOnItsSide(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		spec := genSpec().Draw(t, "spec")
		old, _ := applied(t, spec, genScope().Draw(t, "before"))
		updated, _ := applied(t, spec, genScope().Draw(t, "update"))
		before, asked := jsonpatch.CopyMap(old), jsonpatch.CopyMap(updated)
		got, err := Carry(old, updated, CarryOptions{ClusterName: "sample"})
		if err != nil {
			t.Fatal(err)
		}
		same(t, "Carry changed its input", before, old)
		same(t, "Carry changed its input", asked, updated)
		if !jsonpatch.Equal(got.Spec, old) {
			t.Fatalf("(-want +got):\n%s", cmp.Diff(old, got.Spec))
		}
	})
}

func TestEditRoundTrip(t *testing.T) {
	for _, e := range []Edit{
		{}, {Remove: true, Scope: All()}, {Scope: Only(true, "a", "b"), Revision: 1, Parameters: everyParameter()},
	} {
		got, err := ParseEdit(e.String())
		if err != nil {
			t.Fatal(err)
		}
		if got.String() != e.String() || !got.Parameters.Equal(e.Parameters) {
			t.Errorf("%s became %s", e, got)
		}
	}
	for _, bad := range []string{"", "{", `{"everything":true}`, "[]"} {
		if _, err := ParseEdit(bad); err == nil {
			t.Errorf("%q is taken", bad)
		}
	}
}
