package injection

import (
	"encoding/json"
	"fmt"
	"reflect"
	"slices"
	"testing"

	rfc6902 "github.com/evanphx/json-patch/v5"
	"github.com/google/go-cmp/cmp"
	"pgregory.net/rapid"

	"github.com/raytls/raytls/internal/jsonpatch"
)

// same compares exactly: types of numbers, nil and empty, everything.
func same(t rapid.TB, what string, want, got any) {
	t.Helper()
	if !reflect.DeepEqual(want, got) {
		t.Fatalf("%s (-want +got):\n%s", what, cmp.Diff(want, got))
	}
}

func TestApplyThenRemoveGivesTheSpecBack(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		spec := genSpec().Draw(t, "spec")
		before := jsonpatch.CopyMap(spec)
		scope := genScope().Draw(t, "scope")

		out, _ := applied(t, spec, scope)
		same(t, "Apply changed its input", before, spec)

		injected := jsonpatch.CopyMap(out)
		for _, again := range []Scope{scope, All()} {
			back, err := Remove(out, again)
			if err != nil {
				t.Fatal(err)
			}
			same(t, "Remove changed its input", injected, out)
			same(t, "apply then remove is not exact", before, back)
		}
	})
}

func TestApplyIsIdempotentWhateverWasAppliedBefore(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		spec := genSpec().Draw(t, "spec")
		once, p := applied(t, spec, All())
		twice, err := Apply(once, options(p), All())
		if err != nil {
			t.Fatal(err)
		}
		same(t, "a second Apply changes something", once, twice)

		others, _ := applied(t, once, genScope().Draw(t, "scope"))
		over, err := Apply(others, options(p), All())
		if err != nil {
			t.Fatal(err)
		}
		same(t, "what was applied before shows through", once, over)
	})
}

func TestApplyTouchesItsScopeAlone(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		spec := genSpec().Draw(t, "spec")
		scope := genScope().Draw(t, "scope")
		out, _ := applied(t, spec, scope)
		for i, found := range Inspect(out, "sample") {
			if want := scope.has(templatesOf(spec)[i]); (found.State == Injected) != want {
				t.Fatalf("%s is %s, in the scope: %t", found.Path, found.State, want)
			}
		}
		if got, want := AnyPiece(out), slices.ContainsFunc(templatesOf(spec), scope.has); got != want {
			t.Fatalf("AnyPiece says %t, want %t", got, want)
		}
		if AnyPiece(spec) {
			t.Fatal("AnyPiece sees a piece in a plain spec")
		}
	})
}

func TestInspectAfterAJourneyThroughJSON(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		out, p := applied(t, genSpec().Draw(t, "spec"), All())
		text, err := json.Marshal(out)
		if err != nil {
			t.Fatal(err)
		}
		var stored map[string]any // every number is now a float64
		if err := json.Unmarshal(text, &stored); err != nil {
			t.Fatal(err)
		}
		for _, found := range Inspect(stored, "sample") {
			if found.State != Injected || found.Revision != 1 || found.Parameters == nil || !found.Parameters.Equal(p) {
				t.Fatalf("%s: %s, revision %d, parameters %v, want those applied: %v", found.Path, found.State, found.Revision, found.Parameters, p)
			}
		}
		for _, found := range Inspect(stored, "another") {
			if found.State != Partial {
				t.Fatalf("%s of a cluster with another name is %s: it mounts the wrong Secret", found.Path, found.State)
			}
		}
		if len(jsonpatch.Diff(out, stored)) != 0 {
			t.Fatal("Diff takes a number for another because of its Go type")
		}
	})
}

func TestHashIgnoresOurPiecesAndScale(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		spec := genSpec().Draw(t, "spec")
		out, p := applied(t, spec, genScope().Draw(t, "scope"))
		want := Hash(spec, p)
		out["suspend"] = true
		for i, item := range jsonpatch.List(out["workerGroupSpecs"]) {
			group := jsonpatch.Map(item)
			group["replicas"], group["minReplicas"], group["maxReplicas"], group["suspend"] = int64(i+7), int64(1), int64(99), true
		}
		if got := Hash(out, p); got != want {
			t.Fatalf("the hash changed from %s to %s", want, got)
		}
		ray := jsonpatch.Map(jsonpatch.List(templatesOf(out)[0].pod["containers"])[0])
		ray["image"] = "rayproject/ray:3"
		if Hash(out, p) == want {
			t.Fatal("another image has the same hash")
		}
		if p.RevokedBefore++; p.RevokedBefore > 0 && Hash(spec, p) != want {
			t.Fatal("a revocation lets a failed attempt be made again")
		}
		p.ScriptsPath += "/elsewhere"
		if Hash(spec, p) == want {
			t.Fatal("other parameters have the same hash")
		}
	})
}

// patched applies the operations to {"spec": old} as an API server would.
func patched(t rapid.TB, old map[string]any, operations []jsonpatch.Operation) any {
	t.Helper()
	document, err := json.Marshal(map[string]any{"spec": old})
	if err != nil {
		t.Fatal(err)
	}
	text, err := json.Marshal(operations)
	if err != nil {
		t.Fatal(err)
	}
	patch, err := rfc6902.DecodePatch(text)
	if err != nil {
		t.Fatal(err)
	}
	got, err := patch.Apply(document)
	if err != nil {
		t.Fatalf("%v\npatch: %s", err, text)
	}
	return decoded(t, got)
}

func decoded(t rapid.TB, text []byte) any {
	t.Helper()
	var object map[string]any
	if err := json.Unmarshal(text, &object); err != nil {
		t.Fatal(err)
	}
	return object["spec"]
}

func checkDiff(t rapid.TB, old, new map[string]any) {
	t.Helper()
	want, err := json.Marshal(map[string]any{"spec": new})
	if err != nil {
		t.Fatal(err)
	}
	operations := jsonpatch.Diff(old, new)
	if len(operations) == 0 {
		if !jsonpatch.Equal(any(old), any(new)) {
			t.Fatal("no operation between specs that differ")
		}
		return
	}
	same(t, "the patch does not give the new spec", decoded(t, want), patched(t, old, operations))
}

func TestDiffIsExact(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		spec := genSpec().Draw(t, "spec")
		out, _ := applied(t, spec, genScope().Draw(t, "scope"))
		checkDiff(t, spec, out)
		checkDiff(t, out, spec)
		checkDiff(t, out, genSpec().Draw(t, "another spec"))
	})
}

func TestDiffReplacesOnlyTheParentsThatDiffer(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		spec := genSpec().Draw(t, "spec")
		out, _ := applied(t, spec, All())
		allowed := map[string]bool{"/spec/headGroupSpec/template": true, "/spec/autoscalerOptions": true}
		for i := range jsonpatch.List(spec["workerGroupSpecs"]) {
			allowed[fmt.Sprintf("/spec/workerGroupSpecs/%d/template", i)] = true
		}
		for _, operation := range jsonpatch.Diff(spec, out) {
			if !allowed[operation.Path] {
				t.Fatalf("%s %s reaches beyond templates and autoscaler options", operation.Op, operation.Path)
			}
		}
	})
}
