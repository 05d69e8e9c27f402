package gencert

import (
	"fmt"
	"maps"
	"os"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
)

const swap = "mv -T %[1]s/issuer/..data_new %[1]s/issuer/..data\n"

// prepare lays out a second version of the Secret that a step can switch to as the kubelet does.
func (p *pod) prepare(data map[string]string) string {
	p.t.Helper()
	p.publish("issuer/later", "..2", data)
	if err := os.Symlink("later/..2", p.file("issuer/..data_new")); err != nil {
		p.t.Fatal(err)
	}
	return fmt.Sprintf(swap, p.dir)
}

func with(data map[string]string, name, text string) map[string]string {
	data = maps.Clone(data)
	data[name] = text
	return data
}

func without(data map[string]string, name string) map[string]string {
	data = maps.Clone(data)
	delete(data, name)
	return data
}

// TestWaits gives a pod something that can pass, and mends it at its third sleep.
func TestWaits(t *testing.T) {
	a := year(t)
	good := a.secret(t, a.profile(nil))
	profile := func(from, to string) map[string]string {
		if !strings.Contains(good["profile"], from) {
			t.Fatalf("the profile has no %q", from)
		}
		return with(good, "profile", strings.Replace(good["profile"], from, to, 1))
	}
	expired := newAuthority(t, time.Now().Add(-48*time.Hour), time.Now().Add(-time.Hour))
	ending := newAuthority(t, time.Now().Add(-48*time.Hour), time.Now().Add(4*time.Minute))
	future := newAuthority(t, time.Now().Add(time.Hour), time.Now().Add(48*time.Hour))
	cases := map[string]struct {
		reason string
		first  map[string]string // nil: no Secret at all
		said   string
	}{
		"no Secret":          {"the volume is optional and the pod may be faster than the operator", nil, "missing or incomplete"},
		"no issuer key":      {"a half-written Secret is not used", without(good, "ca.key"), "no ca.key"},
		"no issuer":          {"a half-written Secret is not used", without(good, "issuer.crt"), "no issuer.crt"},
		"no chain":           {"a half-written Secret is not used", without(good, "chain.pem"), "no chain.pem"},
		"no bundle":          {"a half-written Secret is not used", without(good, "ca.crt"), "no ca.crt"},
		"no profile":         {"a half-written Secret is not used", without(good, "profile"), "no profile"},
		"empty bundle":       {"an empty file is as good as none", with(good, "ca.crt", ""), "no ca.crt"},
		"issuer expired":     {"the operator replaces it", expired.secret(t, expired.profile(nil)), "has expired or is about to"},
		"issuer about to":    {"a certificate of four minutes helps nobody", ending.secret(t, ending.profile(nil)), "has expired or is about to"},
		"issuer not yet":     {"the node's clock may be behind", future.secret(t, future.profile(nil)), "not valid yet"},
		"foreign key":        {"key and certificate of different issuers", with(good, "ca.key", expired.secret(t, a.profile(nil))["ca.key"]), "does not sign"},
		"garbage key":        {"the Secret was altered", with(good, "ca.key", "nonsense\n"), "does not sign"},
		"garbage issuer":     {"the Secret was altered", with(good, "issuer.crt", "nonsense\n"), "does not sign"},
		"foreign bundle":     {"what peers would refuse is not published", with(good, "ca.crt", string(expired.rootPEM)), "is refused by the trust bundle"},
		"foreign chain":      {"what peers would refuse is not published", with(good, "chain.pem", string(expired.issuerPEM)), "is refused by the trust bundle"},
		"malformed line":     {"no line is guessed at", profile("validityDays=30", "validityDays"), "malformed"},
		"unknown key":        {"a parameter this script does not honour must not be passed over", profile("authority", "more=1\nauthority"), "malformed"},
		"repeated key":       {"one of the two would be ignored", profile("validityDays=30", "validityDays=30\nvalidityDays=31"), "malformed"},
		"missing key":        {"no default is guessed at", profile("headDNSNames=\n", ""), "malformed"},
		"no revision first":  {"what the lines mean depends on it", profile("revision=1\n", ""), "malformed"},
		"octal number":       {"a shell may read a leading zero as octal", profile("validityDays=30", "validityDays=030"), "malformed"},
		"huge number":        {"sums must not overflow", profile("validityDays=30", "validityDays=99999999999999999999"), "malformed"},
		"too many days":      {"beyond what Profile allows", profile("validityDays=30", "validityDays=36501"), "malformed"},
		"arithmetic":         {"a value must not be evaluated in a sum", profile("validityDays=30", "validityDays=now"), "malformed"},
		"name with a number": {"an address in the clothes of a name", profile("headDNSNames=", "headDNSNames=10.9.9.9"), "malformed"},
		"wildcard":           {"it would cover names the pod does not hold", profile("headDNSNames=", "headDNSNames=*.example.com"), "malformed"},
	}
	for name, test := range cases {
		t.Run(name, func(t *testing.T) {
			eachShell(t, func(t *testing.T, shell []string) {
				p := newPod(t, shell, HeadScript)
				if test.first != nil {
					p.publish("issuer", "..1", test.first)
				}
				p.steps = []string{"", "", p.prepare(good)}
				o := p.run()
				p.issued(o)
				if o.sleeps != 3 {
					t.Errorf("%s: slept %d times, want 3", test.reason, o.sleeps)
				}
				if strings.Count(o.stderr, "waiting: ") != 1 || !strings.Contains(o.stderr, test.said) {
					t.Errorf("%s: must be said once, as %q; got:\n%s", test.reason, test.said, o.stderr)
				}
				if strings.Contains(o.stderr, "PRIVATE KEY") {
					t.Errorf("key material on stderr:\n%s", o.stderr)
				}
			})
		})
	}
}

func TestWaitsForAddress(t *testing.T) {
	eachShell(t, func(t *testing.T, shell []string) {
		a := year(t)
		p := newPod(t, shell, WorkerScript)
		p.env["RAYTLS_POD_IPS"] = ""
		p.publish("issuer", "..1", a.secret(t, a.profile(nil)))
		p.steps = []string{"", fmt.Sprintf("printf '10.5.5.5\\trayc-abcde\\n' >>%s", p.file("hosts"))}
		o := p.run()
		if diff := cmp.Diff([]string{"10.5.5.5", "127.0.0.1", "::1", "localhost"}, p.issued(o).addresses()); diff != "" {
			t.Errorf("names (-want +got):\n%s", diff)
		}
		if o.sleeps != 2 || !strings.Contains(o.stderr, "no IP address yet") {
			t.Errorf("slept %d times and said:\n%s", o.sleeps, o.stderr)
		}
	})
}

func TestSaysEachReasonOnce(t *testing.T) {
	a := year(t)
	good := a.secret(t, a.profile(nil))
	p := newPod(t, anyShell(t), WorkerScript)
	p.publish("issuer", "..1", without(good, "profile"))
	p.steps = []string{
		"", fmt.Sprintf("printf 'revision=x\\n' >%s", p.file("issuer/..1/profile")), "",
		fmt.Sprintf("rm %s", p.file("issuer/..1/profile")), "", p.prepare(good),
	}
	o := p.run()
	p.issued(o)
	if got := strings.Count(o.stderr, "waiting: "); got != 3 {
		t.Errorf("three changes of the reason were told in %d messages:\n%s", got, o.stderr)
	}
}

func TestKeyIsMadeOnce(t *testing.T) {
	a := year(t)
	good := a.secret(t, a.profile(nil))
	p := newPod(t, anyShell(t), WorkerScript)
	p.publish("issuer", "..1", with(good, "ca.key", "nonsense\n"))
	key := p.file("out/.raytls/tls.key")
	p.steps = []string{fmt.Sprintf("cat %s >%s", key, p.file("first")), "", p.prepare(good)}
	p.issued(p.run())
	first, err := os.ReadFile(p.file("first"))
	if err != nil {
		t.Fatal(err)
	}
	last, err := os.ReadFile(p.file("out/tls.key"))
	if err != nil {
		t.Fatal(err)
	}
	if len(first) == 0 || string(first) != string(last) {
		t.Error("another key was made for each try, which costs seconds where it is RSA")
	}
}

// TestSwapDuringAttempt has the kubelet replace the Secret between two reads.
func TestSwapDuringAttempt(t *testing.T) {
	eachShell(t, func(t *testing.T, shell []string) {
		old, current := year(t), year(t)
		p := newPod(t, shell, WorkerScript)
		p.publish("issuer", "..1", old.secret(t, old.profile(nil)))
		step := p.prepare(current.secret(t, current.profile(nil)))
		p.stub("openssl", fmt.Sprintf(`if [ "$1" = req ]; then
%srm -r %s
fi
PATH=%s exec openssl "$@"
`, step, p.file("issuer/..1"), os.Getenv("PATH")))
		r := p.issued(p.run())
		if err := r.chain[0].CheckSignatureFrom(current.issuer); err != nil {
			t.Errorf("the certificate is not of the Secret that there is now: %v", err)
		}
	})
}

// TestImageBaked reads a plain directory, as where files are part of an image.
func TestImageBaked(t *testing.T) {
	eachShell(t, func(t *testing.T, shell []string) {
		a := year(t)
		p := newPod(t, shell, HeadScript)
		for name, text := range a.secret(t, a.profile(nil)) {
			p.write("issuer/"+name, text, 0o644)
		}
		p.issued(p.exec(append(shell, p.file("scripts/"+HeadScript))))
	})
}
