package gencert

import (
	"fmt"
	"os"
	"strings"
	"testing"
)

func TestPermanentFailures(t *testing.T) {
	profile := func(from, to string) func(*testing.T, *pod, map[string]string) {
		return func(t *testing.T, _ *pod, secret map[string]string) {
			if !strings.Contains(secret["profile"], from) {
				t.Fatalf("the profile has no %q", from)
			}
			secret["profile"] = strings.Replace(secret["profile"], from, to, 1)
		}
	}
	cases := map[string]struct {
		reason string
		script string
		spoil  func(*testing.T, *pod, map[string]string)
		said   string
	}{
		"no openssl": {
			reason: "the image must be another", script: HeadScript, said: "this image has no openssl",
			spoil: func(_ *testing.T, p *pod, _ map[string]string) { p.path = p.tools("openssl") },
		},
		"neither openssl nor sha256sum": {
			reason: "the script cannot even be checked", script: HeadScript, said: "neither openssl nor sha256sum",
			spoil: func(_ *testing.T, p *pod, _ map[string]string) { p.path = p.tools("openssl", "sha256sum") },
		},
		"unsupported key": {
			reason: "another script is needed", script: WorkerScript, said: "key algorithm ED25519 is not supported",
			spoil: profile("keyAlgorithm=ECDSAP256", "keyAlgorithm=ED25519"),
		},
		"unsupported revision": {
			reason: "another script is needed", script: WorkerScript, said: "has revision 2 and this script reads revision 1",
			spoil: profile("revision=1", "revision=2"),
		},
		"no output directory": {
			reason: "the template must be another", script: WorkerScript, said: "is not writable",
			spoil: func(t *testing.T, p *pod, _ map[string]string) {
				if err := os.Remove(p.file("out")); err != nil {
					t.Fatal(err)
				}
			},
		},
		"output taken": {
			reason: "a directory of that name cannot be replaced by a file", script: WorkerScript, said: "cannot be replaced",
			spoil: func(t *testing.T, p *pod, _ map[string]string) {
				if err := os.MkdirAll(p.file("out/tls.crt/in"), 0o755); err != nil {
					t.Fatal(err)
				}
			},
		},
		"no head name": {
			reason: "KubeRay sets it in every init container", script: HeadScript, said: "FQ_RAY_IP is not set",
			spoil: func(_ *testing.T, p *pod, _ map[string]string) { delete(p.env, "FQ_RAY_IP") },
		},
		"bad head name": {
			reason: "nothing but a name goes into the configuration", script: HeadScript, said: "FQ_RAY_IP is not a DNS name",
			spoil: func(_ *testing.T, p *pod, _ map[string]string) { p.env["FQ_RAY_IP"] = "a\nDNS.9 = b" },
		},
		"address for a head name": {
			reason: "an address in the clothes of a name", script: HeadScript, said: "FQ_RAY_IP is not a DNS name",
			spoil: func(_ *testing.T, p *pod, _ map[string]string) { p.env["FQ_RAY_IP"] = "10.0.0.1" },
		},
		"bad addresses": {
			reason: "the kubelet writes nothing else", script: WorkerScript, said: "RAYTLS_POD_IPS is not a list of IP addresses",
			spoil: func(_ *testing.T, p *pod, _ map[string]string) { p.env["RAYTLS_POD_IPS"] = "10.0.0.1,head.example" },
		},
		"old openssl": {
			reason: "an openssl that makes no such key will never make it", script: WorkerScript, said: "openssl cannot make an ECDSAP256 key",
			spoil: func(_ *testing.T, p *pod, _ map[string]string) { p.stub("openssl", "echo no such thing >&2\nexit 1\n") },
		},
		"old date": {
			reason: "a date that cannot convert will never do", script: WorkerScript, said: "does not understand -d @SECONDS",
			spoil: func(_ *testing.T, p *pod, _ map[string]string) {
				p.stub("date", "case $* in *-d*) exit 1 ;; esac\nPATH="+os.Getenv("PATH")+" exec date \"$@\"\n")
			},
		},
	}
	for name, test := range cases {
		t.Run(name, func(t *testing.T) {
			eachShell(t, func(t *testing.T, shell []string) {
				a := year(t)
				p := newPod(t, shell, test.script)
				secret := a.secret(t, a.profile(nil))
				test.spoil(t, p, secret)
				p.publish("issuer", "..1", secret)
				o := p.run()
				if o.code != 1 || o.sleeps != 10 {
					t.Errorf("%s: exits %d after %d s, want 1 after 10; stderr:\n%s", test.reason, o.code, o.sleeps, o.stderr)
				}
				if !strings.Contains(o.stderr, test.said) || !strings.Contains(o.message, test.said) {
					t.Errorf("%s: %q must be said in both places; stderr:\n%s\ntermination log:\n%s", test.reason, test.said, o.stderr, o.message)
				}
				if strings.Contains(o.message, "\n") || len(o.message) > 512 {
					t.Errorf("the termination log must be one sentence of at most 512 bytes:\n%s", o.message)
				}
				if _, err := ParseReport(o.message); err == nil {
					t.Error("a failure reads as a report")
				}
				for _, file := range o.files {
					if strings.HasPrefix(file, ".raytls") {
						t.Errorf("%s is left behind", file)
					}
				}
			})
		})
	}
}

func TestRedisCleanup(t *testing.T) {
	for name, run := range map[string]func(*pod) outcome{
		"with its ConfigMap gone": func(p *pod) outcome {
			if err := os.RemoveAll(p.file("scripts")); err != nil {
				p.t.Fatal(err)
			}
			return p.run()
		},
		"with the script alone": func(p *pod) outcome { return p.exec(append(p.shell, p.file("scripts/"+HeadScript))) },
	} {
		t.Run(name, func(t *testing.T) {
			eachShell(t, func(t *testing.T, shell []string) {
				p := newPod(t, shell, HeadScript)
				p.env["RAYTLS_NODE_TYPE"] = "redis-cleanup"
				delete(p.env, "FQ_RAY_IP")
				p.path = p.tools("openssl", "sha256sum")
				o := run(p)
				if o.code != 0 || o.sleeps != 0 || len(o.files) != 0 || o.message != "" {
					t.Errorf("cleaning up must not depend on anything: %+v", o)
				}
			})
		})
	}
}

// TestInjection puts shell and configuration syntax wherever text from outside comes in.
func TestInjection(t *testing.T) {
	eachShell(t, func(t *testing.T, shell []string) {
		a := year(t)
		good := a.secret(t, a.profile(nil))
		p := newPod(t, shell, HeadScript)
		marker := p.file("marker")
		attacks := []string{
			"$(touch %s)", "`touch %s`", "; touch %s", "x\ntouch %s", "'; touch %s; '", "\"; touch %s; \"", "a[$(touch %s)]", "* %s",
			"${x:=$(touch %s)}", "a\\\ntouch %s",
		}
		line := 1
		for _, attack := range attacks {
			attack = fmt.Sprintf(attack, marker)
			for _, field := range []string{
				"authority", "issuer", "issuerNotBefore", "issuerNotAfter", "keyAlgorithm", "validityDays", "headDNSNames",
				"headServiceShortName", "headUntilIssuerEnd", "revision",
			} {
				lines := strings.Split(good["profile"], "\n")
				for i := range lines {
					if strings.HasPrefix(lines[i], field+"=") {
						lines[i] = field + "=" + attack
					}
				}
				name := fmt.Sprintf("attack%d", line)
				p.write(name, strings.Join(lines, "\n"), 0o644)
				p.steps = append(p.steps, fmt.Sprintf("mv %s %s\n", p.file(name), p.file("issuer/..1/profile")))
				line++
			}
		}
		// The stub gives up after forty sleeps only where there is no step.
		p.steps = append(p.steps, p.prepare(good))
		p.publish("issuer", "..1", without(good, "profile"))
		p.env["HOSTNAME"] = "x\n[leaf]\nbasicConstraints = CA:TRUE $(touch " + marker + ")"
		o := p.run()
		r := p.issued(o)
		if o.sleeps != line {
			t.Errorf("%d of %d attacks were refused; stderr:\n%s", o.sleeps-1, line-1, o.stderr)
		}
		if exists(marker) {
			t.Error("text from outside was run")
		}
		if r.chain[0].IsCA || r.chain[0].Subject.CommonName != "unknown" {
			t.Errorf("the host name got into the certificate: %s", r.chain[0].Subject)
		}
	})
}

// TestSignals ends a pod while it waits.
func TestSignals(t *testing.T) {
	eachShell(t, func(t *testing.T, shell []string) {
		a := year(t)
		p := newPod(t, shell, WorkerScript)
		p.publish("issuer", "..1", with(a.secret(t, a.profile(nil)), "ca.key", "nonsense\n"))
		p.steps = []string{"", `kill -TERM "$PPID"`}
		o := p.run()
		if o.code != 143 || o.sleeps != 2 || len(o.files) != 0 {
			t.Errorf("a pod being deleted must go at once and leave nothing: %+v", o)
		}
	})
}

// TestRestart runs a container again in a volume where one was killed.
func TestRestart(t *testing.T) {
	eachShell(t, func(t *testing.T, shell []string) {
		a := year(t)
		p := newPod(t, shell, WorkerScript)
		p.publish("issuer", "..1", a.secret(t, a.profile(nil)))
		first := p.issued(p.run())
		if err := os.MkdirAll(p.file("out/.raytls/deep"), 0o700); err != nil {
			t.Fatal(err)
		}
		p.write("out/.raytls/tls.key", "half a key", 0o600)
		if second := p.issued(p.run()); second.report.Serial == first.report.Serial {
			t.Error("the second run made no certificate of its own")
		}
	})
}
