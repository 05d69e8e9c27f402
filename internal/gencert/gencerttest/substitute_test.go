package gencerttest

import (
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
)

func TestSubstitutions(t *testing.T) {
	cases := []struct{ tool, text, want string }{
		{"envsubst", "a $HOME ${HOME} b", "a   b"},
		{"envsubst", `$1 "$?" $$ ${HOME-} ${1} $(cat "$1")`, `$1 "$?" $$ ${HOME-} ${1} $(cat "$1")`},
		{"Flux's postBuild", "a ${HOME} ${HOME:-x} ${#HOME} b", "a    b"},
		{"Flux's postBuild", `$HOME $1 $(cat "$1") \n`, `$HOME $1 $(cat "$1") \n`},
		{"Flux's postBuild", `$$ \\ \/ ${open`, `$ \ / `},
	}
	for _, c := range cases {
		if got := Substitutions()[c.tool](c.text); got != c.want {
			t.Errorf("%s makes %q of %q, want %q", c.tool, got, c.text, c.want)
		}
	}
}

// TestEnvsubst compares with the program where it is installed.
func TestEnvsubst(t *testing.T) {
	if _, err := exec.LookPath("envsubst"); err != nil {
		t.Skip("envsubst is not installed on this machine: install gettext to run this test")
	}
	const text = `$a ${a} ${a-} $1 $$ $$a ${1} $(a) "$?" \$a $_b1- $é ${a:-b} ${`
	command := exec.Command("envsubst")
	command.Stdin, command.Env = strings.NewReader(text), []string{}
	out, err := command.Output()
	if err != nil {
		t.Fatal(err)
	}
	if got := Substitutions()["envsubst"](text); got != string(out) {
		t.Errorf("envsubst makes %q of it, and the test's makes %q", out, got)
	}
}

// TestInstallationSurvives reads the manifests of the installation, which people apply with the same tools. One that has
// variables of its own tells Flux to leave it as it is.
func TestInstallationSurvives(t *testing.T) {
	for _, pattern := range []string{"dist/*.yaml", "charts/raytls/files/*.yaml", "charts/raytls/files/*/*.yaml", "config/samples/*.yaml", "config/samples/*/*.yaml"} {
		files, err := filepath.Glob(filepath.Join("..", "..", "..", filepath.FromSlash(pattern)))
		if err != nil || len(files) == 0 {
			t.Fatalf("there are no files %s: %v", pattern, err)
		}
		for _, file := range files {
			survives(t, file)
		}
	}
}

func survives(t *testing.T, file string) {
	t.Helper()
	text, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	if strings.Contains(string(text), "kustomize.toolkit.fluxcd.io/substitute: disabled") {
		return
	}
	for name, substitute := range Substitutions() {
		if diff := cmp.Diff(string(text), substitute(string(text))); diff != "" {
			t.Errorf("%s changes %s (-before +after):\n%s", name, file, diff)
		}
	}
}

func TestExpand(t *testing.T) {
	const text = `$(A) $(B) $$(A) $$ $A $(cat "$1")`
	if got, want := Expand(text, map[string]string{"A": "1"}), `1 $(B) $(A) $ $A $(cat "$1")`; got != want {
		t.Errorf("got %q, want %q", got, want)
	}
}
