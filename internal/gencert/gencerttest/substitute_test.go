package gencerttest

import (
	"os/exec"
	"strings"
	"testing"
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

func TestExpand(t *testing.T) {
	const text = `$(A) $(B) $$(A) $$ $A $(cat "$1")`
	if got, want := Expand(text, map[string]string{"A": "1"}), `1 $(B) $(A) $ $A $(cat "$1")`; got != want {
		t.Errorf("got %q, want %q", got, want)
	}
}
