package cli

import (
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/raytls/raytls/internal/injection"
	"github.com/raytls/raytls/internal/jsonpatch"
)

// outcome is what a command does with a manifest as people write it. Without wants it prints the input unchanged.
type outcome struct {
	// fails has parts of the error; nothing is printed then.
	fails []string
	// notes and out have parts of the notes and of what is printed, notNotes and notOut parts that must be missing.
	notes, notNotes, out, notOut []string
	// injected reports whether every RayCluster that is printed carries the injection.
	injected bool
	// same reports whether what is printed is the input.
	same bool
}

// TestCases runs both commands on manifests in the shapes that are found in public: charts, SDKs, platforms, exports.
func TestCases(t *testing.T) {
	t.Parallel()
	for name, c := range cases() {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			text, err := os.ReadFile(filepath.Join("testdata", "cases", name+".yaml"))
			if err != nil {
				t.Fatal(err)
			}
			for command, want := range map[string]outcome{"inject": c.inject, "migrate": c.migrate} {
				out, notes, err := run(t, string(text), command, "-f", "-")
				want.check(t, command+": "+c.reason, string(text), out, notes, err)
				if command == "inject" && want.injected {
					checkExact(t, c.reason, string(text), out)
				}
			}
		})
	}
}

func TestCases_complete(t *testing.T) {
	t.Parallel()
	files, err := filepath.Glob(filepath.Join("testdata", "cases", "*.yaml"))
	if err != nil || len(files) == 0 {
		t.Fatalf("%d files, %v", len(files), err)
	}
	for _, file := range files {
		name := strings.TrimSuffix(filepath.Base(file), ".yaml")
		if _, told := cases()[name]; !told {
			t.Errorf("no test says what is right for %s", file)
		}
	}
}

func (want outcome) check(t *testing.T, reason, in, out, notes string, err error) {
	t.Helper()
	if len(want.fails) > 0 {
		if err == nil || out != "" {
			t.Fatalf("%s: it succeeds, with the notes\n%s", reason, notes)
		}
		holds(t, reason, "error", err.Error(), want.fails, nil)
		return
	}
	if err != nil {
		t.Fatalf("%s: %v", reason, err)
	}
	holds(t, reason, "notes", notes, want.notes, want.notNotes)
	holds(t, reason, "output", out, want.out, want.notOut)
	if want.same && out != in {
		t.Errorf("%s: what is printed is not the input:\n%s", reason, out)
	}
	if !want.injected {
		return
	}
	for name, spec := range specs(t, out) {
		for _, template := range injection.Inspect(spec, name) {
			if template.State != injection.Injected {
				t.Errorf("%s: %s of %s is %s", reason, template.Path, name, template.State)
			}
		}
	}
}

func holds(t *testing.T, reason, what, text string, wanted, unwanted []string) {
	t.Helper()
	for _, part := range wanted {
		if !strings.Contains(text, part) {
			t.Errorf("%s: %q is missing in the %s\n%s", reason, part, what, text)
		}
	}
	for _, part := range unwanted {
		if strings.Contains(text, part) {
			t.Errorf("%s: %q is in the %s\n%s", reason, part, what, text)
		}
	}
}

// checkExact takes the injection out again, which gives what was there before.
func checkExact(t *testing.T, reason, in, out string) {
	t.Helper()
	back, _ := mustRun(t, out, "inject", "--remove", "-f", "-")
	before, after := contents(t, in), contents(t, back)
	if len(before) != len(after) {
		t.Fatalf("%s: %d objects became %d", reason, len(before), len(after))
	}
	for i := range before {
		if !jsonpatch.Equal(before[i], after[i]) {
			t.Errorf("%s: inject and inject --remove are not exact: %v", reason, jsonpatch.Diff(before[i], after[i]))
		}
	}
}
