package gencert

import (
	"fmt"
	"os"
	"os/exec"
	"regexp"
	"strings"
	"testing"
)

func TestBootstrapRefusesAnotherScript(t *testing.T) {
	cases := map[string]struct {
		reason string
		spoil  func(p *pod, script string)
		said   string
	}{
		"tampered": {
			reason: "who can edit the ConfigMap must not get code to run beside a key",
			spoil: func(p *pod, script string) {
				p.write("scripts/"+WorkerScript, script+"touch "+p.file("marker")+"\n", 0o644)
			},
			said: "is not the script that this pod was made for",
		},
		"tampered in front": {
			reason: "who can edit the ConfigMap must not get code to run beside a key",
			spoil: func(p *pod, script string) {
				p.write("scripts/"+WorkerScript, "touch "+p.file("marker")+"\n"+script, 0o644)
			},
			said: "is not the script that this pod was made for",
		},
		"the other role's": {
			reason: "a worker must not run the head's script",
			spoil: func(p *pod, _ string) {
				scripts, err := Scripts(1)
				if err != nil {
					p.t.Fatal(err)
				}
				p.write("scripts/"+WorkerScript, scripts[HeadScript], 0o644)
			},
			said: "is not the script that this pod was made for",
		},
		"empty": {
			reason: "nothing is not what was asked for",
			spoil:  func(p *pod, _ string) { p.write("scripts/"+WorkerScript, "", 0o644) },
			said:   "is not the script that this pod was made for",
		},
		"missing": {
			reason: "the volume is optional and the pod may be faster than the operator",
			spoil: func(p *pod, _ string) {
				if err := os.Remove(p.file("scripts/" + WorkerScript)); err != nil {
					p.t.Fatal(err)
				}
			},
			said: "is not there yet",
		},
	}
	for name, test := range cases {
		for _, digest := range []string{"sha256sum", "openssl"} {
			t.Run(name+" by "+digest, func(t *testing.T) {
				eachShell(t, func(t *testing.T, shell []string) {
					a := year(t)
					p := newPod(t, shell, WorkerScript)
					p.publish("issuer", "..1", a.secret(t, a.profile(nil)))
					scripts, err := Scripts(1)
					if err != nil {
						t.Fatal(err)
					}
					if p.path = p.tools(); digest == "openssl" {
						p.path = p.tools("sha256sum")
					}
					test.spoil(p, scripts[WorkerScript])
					p.write("good", scripts[WorkerScript], 0o644)
					p.steps = []string{"", fmt.Sprintf("mv -f %s %s", p.file("good"), p.file("scripts/"+WorkerScript))}
					o := p.run()
					p.issued(o)
					if exists(p.file("marker")) {
						t.Error(test.reason)
					}
					if o.sleeps != 2 || strings.Count(o.stderr, test.said) != 1 {
						t.Errorf("%s: slept %d times and said:\n%s", test.reason, o.sleeps, o.stderr)
					}
				})
			})
		}
	}
}

// TestBootstrapReadsOnce changes the file right after it is read.
func TestBootstrapReadsOnce(t *testing.T) {
	eachShell(t, func(t *testing.T, shell []string) {
		a := year(t)
		p := newPod(t, shell, WorkerScript)
		p.publish("issuer", "..1", a.secret(t, a.profile(nil)))
		p.stub("cat", fmt.Sprintf("PATH=%s cat \"$@\" || exit\necho 'touch %s' >%s\n",
			os.Getenv("PATH"), p.file("marker"), p.file("scripts/"+WorkerScript)))
		p.issued(p.run())
		if exists(p.file("marker")) {
			t.Error("a file that was changed after its check was run")
		}
	})
}

func TestBootstrapStopsWhenToldTo(t *testing.T) {
	eachShell(t, func(t *testing.T, shell []string) {
		p := newPod(t, shell, WorkerScript)
		p.write("scripts/"+WorkerScript, "exit 0\n", 0o644)
		p.steps = []string{"", "", `kill -TERM "$PPID"`}
		if o := p.run(); o.code != 143 || o.sleeps != 3 {
			t.Errorf("a pod being deleted must not wait for its script: %+v", o)
		}
	})
}

// TestBootstrapSurvivesSubstitution holds the text to what no tool that fills in manifests, nor the kubelet, changes: a
// dollar sign before a digit or a parenthesis that holds more than a name, and no backslash.
func TestBootstrapSurvivesSubstitution(t *testing.T) {
	text := Bootstrap()
	if found := regexp.MustCompile(`\\|\$[^0-9(]|\$\([-._a-zA-Z0-9]*\)|\{\{|%\{`).FindString(text); found != "" {
		t.Errorf("some tool would replace %q", found)
	}
	if strings.HasSuffix(text, "\n") {
		t.Error("a closing newline would be lost in some YAML styles")
	}
}

func TestScripts(t *testing.T) {
	scripts, err := Scripts(1)
	if err != nil {
		t.Fatal(err)
	}
	if len(scripts) != 2 {
		t.Errorf("%d scripts, want 2", len(scripts))
	}
	for name, text := range scripts {
		if !strings.HasPrefix(text, "#!/bin/sh\n") || !strings.HasSuffix(text, "exit 0\n") || strings.Contains(text, "\r") {
			t.Errorf("%s must start with its interpreter, be whole and end in one newline", name)
		}
		if i := strings.IndexFunc(text, func(r rune) bool { return r > '~' || r == 0 }); i >= 0 {
			t.Errorf("%s must be ASCII, so that every shell hashes the same bytes: %q", name, text[i])
		}
	}
	for _, revision := range []int{-1, 0, 2} {
		if _, err := Scripts(revision); err == nil {
			t.Errorf("revision %d does not exist", revision)
		}
		if _, err := ConfigMapName(revision); err == nil {
			t.Errorf("revision %d does not exist", revision)
		}
	}
	if _, err := SHA256(1, "other.sh"); err == nil {
		t.Error("there is no such script")
	}
	name, err := ConfigMapName(1)
	if err != nil {
		t.Fatal(err)
	}
	if !regexp.MustCompile(`^raytls-gencert-r1-[0-9a-f]{10}$`).MatchString(name) {
		t.Errorf("ConfigMap name is %s", name)
	}
}

func TestShellcheck(t *testing.T) {
	requireTool(t, "shellcheck")
	texts := map[string]string{"boot": Bootstrap()}
	scripts, err := Scripts(1)
	if err != nil {
		t.Fatal(err)
	}
	for name, text := range scripts {
		texts[name] = text
	}
	for name, text := range texts {
		command := exec.Command("shellcheck", "--shell=sh", "--severity=style", "-")
		command.Stdin = strings.NewReader(text + "\n")
		if output, err := command.CombinedOutput(); err != nil {
			t.Errorf("%s: %v\n%s", name, err, output)
		}
	}
}
