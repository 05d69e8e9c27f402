package gencert

import (
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
)

// provided is a configuration of openssl that activates those providers.
func provided(more string, names ...string) string {
	text := "openssl_conf = init\n[init]\nproviders = list\n" + more + "\n[list]\n"
	for _, name := range names {
		text += name + " = active\n"
	}
	return text + "[active]\nactivate = 1\n"
}

// TestImageConfiguration gives the image a configuration of openssl. Debian has the provider "legacy" and not the one for
// FIPS.
func TestImageConfiguration(t *testing.T) {
	requireTool(t, "openssl")
	if exec.Command("openssl", "list", "-providers", "-provider", "fips").Run() == nil {
		t.Skip("this openssl has a provider for FIPS, so it makes the keys that these cases want refused")
	}
	cases := map[string]struct {
		reason string
		config string
		// by OPENSSL_CONF; otherwise as the image's default.
		named bool
		// spoil prepares what a text cannot say.
		spoil func(t *testing.T, path string)
		// said is in the reason of the refusal; empty if there is a certificate.
		said string
	}{
		"none":    {reason: "the ordinary image", config: "", named: true},
		"default": {reason: "the default's own sections are for other commands", config: "[req]\nprompt = no\nencrypt_key = yes\nx509_extensions = x\n[ca]\ndefault_ca = x\n[names]\nDNS.1 = evil\n", named: true},
		"legacy":  {reason: "more providers forbid nothing", config: provided("", "default", "legacy"), named: true},
		"legacy alone": {
			reason: "the image allows a provider that makes no such keys", config: provided("", "legacy"), named: true,
			said: "cannot make an ECDSAP256 key",
		},
		"FIPS": {
			reason: "the provider is not installed, and another one must not take its place", config: provided("", "fips", "base"), named: true,
			said: "cannot make an ECDSAP256 key",
		},
		"FIPS by the default file": {
			reason: "an image's own file counts without a variable too", config: provided("", "fips", "base"),
			said: "cannot make an ECDSAP256 key",
		},
		"FIPS by properties": {
			reason: "algorithms of another provider are not allowed", config: provided("alg_section = algorithms\n[algorithms]\ndefault_properties = fips=yes", "default"), named: true,
			said: "cannot make an ECDSAP256 key",
		},
		"FIPS without diagnostics": {
			reason: "openssl would pass over its errors", config: "config_diagnostics = 0\nopenssl_conf = nowhere\n[default]\nconfig_diagnostics = 0\n", named: true,
			said: "openssl cannot use the configuration",
		},
		"broken": {
			reason: "it may have asked for certain providers", config: "openssl_conf = init\n[broken\n", named: true,
			said: "openssl cannot use the configuration",
		},
		"ends in a continued line": {
			reason: "what the script adds must not become part of the image's last line", config: "openssl_conf = nowhere\n[x]\ny = \\", named: true,
			said: "openssl cannot use the configuration",
		},
		"a directory": {
			reason: "it cannot be read", named: true, said: "cannot be read",
			spoil: func(t *testing.T, path string) {
				if err := os.Mkdir(path, 0o755); err != nil {
					t.Fatal(err)
				}
			},
		},
		"missing": {
			reason: "openssl would pass over it", named: true, said: "cannot be read",
			spoil: func(*testing.T, string) {},
		},
		"missing default": {
			reason: "an image without a file asks for nothing",
			spoil:  func(*testing.T, string) {},
		},
	}
	for name, test := range cases {
		t.Run(name, func(t *testing.T) {
			eachShell(t, func(t *testing.T, shell []string) {
				a := year(t)
				p := newPod(t, shell, WorkerScript)
				p.publish("issuer", "..1", a.secret(t, a.profile(nil)))
				config := p.file("openssl.cnf")
				if test.spoil != nil {
					test.spoil(t, config)
				} else {
					p.write("openssl.cnf", test.config, 0o644)
				}
				if test.named {
					p.env["OPENSSL_CONF"] = config
				} else {
					p.defaultConfig(filepath.Dir(config))
				}
				p.configured(p.run(), test.reason, test.said)
			})
		})
	}
}

// defaultConfig has openssl take its default file from that directory.
func (p *pod) defaultConfig(dir string) {
	p.stub("openssl", fmt.Sprintf(`if [ "$1 $2" = 'version -d' ]; then echo 'OPENSSLDIR: "%s"'; exit; fi
PATH=%s exec openssl "$@"
`, dir, os.Getenv("PATH")))
}

// configured judges a run by what it should say; by nothing, if there should be a certificate.
func (p *pod) configured(o outcome, reason, said string) {
	p.t.Helper()
	if said == "" {
		names := p.issued(o).addresses()
		for _, name := range names {
			if name == "evil" {
				p.t.Errorf("%s: the image's configuration chose a name of the certificate", reason)
			}
		}
		return
	}
	if o.code != 1 || o.sleeps != 10 || len(o.files) != 0 || o.stdout != "" {
		p.t.Errorf("%s: exits %d after %d s with %v, want 1 after 10 with no file", reason, o.code, o.sleeps, o.files)
	}
	if !strings.Contains(o.message, said) || !strings.Contains(o.message, p.file("openssl.cnf")) || !strings.Contains(o.stderr, said) {
		p.t.Errorf("%s: %q and the file must be named; termination log:\n%s\nstderr:\n%s", reason, said, o.message, o.stderr)
	}
}

// TestEmptyVariable has the image turn its own file off, as openssl understands an empty variable.
func TestEmptyVariable(t *testing.T) {
	eachShell(t, func(t *testing.T, shell []string) {
		a := year(t)
		p := newPod(t, shell, WorkerScript)
		p.publish("issuer", "..1", a.secret(t, a.profile(nil)))
		p.write("openssl.cnf", provided("", "fips", "base"), 0o644)
		p.defaultConfig(p.dir)
		p.env["OPENSSL_CONF"] = ""
		p.issued(p.run())
	})
}

func TestUnreadableConfiguration(t *testing.T) {
	if os.Getuid() != 0 {
		t.Skip("only root can become another user")
	}
	eachShell(t, func(t *testing.T, shell []string) {
		a := year(t)
		p := newPod(t, shell, WorkerScript)
		p.open(1000660000)
		p.publish("issuer", "..1", a.secret(t, a.profile(nil)))
		p.write("openssl.cnf", provided("", "fips", "base"), 0o600)
		p.defaultConfig(p.dir)
		p.configured(p.run(), "openssl would pass over a file that it cannot read", "cannot be read")
	})
}
