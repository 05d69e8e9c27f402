package gencert

import (
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"testing"

	"github.com/google/go-cmp/cmp"
)

// open lets another user reach a test's directory and write what a pod's user may write.
func (p *pod) open(uid int) {
	p.t.Helper()
	for dir := p.dir; dir != os.TempDir() && dir != "/"; dir = filepath.Dir(dir) {
		if err := os.Chmod(dir, 0o755); err != nil {
			p.t.Fatal(err)
		}
	}
	for _, name := range []string{"out", "sleeps"} {
		if err := os.Chown(p.file(name), uid, uid); err != nil {
			p.t.Fatal(err)
		}
	}
	p.credential = &syscall.Credential{Uid: uint32(uid), Gid: uint32(uid)}
}

// TestAnyUser runs as a user that the image does not know, who owns nothing but the volume and has no home. Whatever
// the scripts tried to write elsewhere would fail.
func TestAnyUser(t *testing.T) {
	if os.Getuid() != 0 {
		t.Skip("only root can become another user")
	}
	eachShell(t, func(t *testing.T, shell []string) {
		for _, script := range []string{HeadScript, WorkerScript} {
			a := year(t)
			p := newPod(t, shell, script)
			p.open(1000660000)
			p.publish("issuer", "..1", a.secret(t, a.profile(nil)))
			o := p.run()
			p.issued(o)
			for _, name := range o.files {
				info, err := os.Stat(p.file("out/" + name))
				if err != nil {
					t.Fatal(err)
				}
				if owner := info.Sys().(*syscall.Stat_t).Uid; owner != 1000660000 {
					t.Errorf("%s is owned by %d", name, owner)
				}
			}
		}
	})
}

func TestOutputOfAnotherUser(t *testing.T) {
	if os.Getuid() != 0 {
		t.Skip("only root can become another user")
	}
	eachShell(t, func(t *testing.T, shell []string) {
		a := year(t)
		p := newPod(t, shell, WorkerScript)
		p.open(1000)
		if err := os.Chown(p.file("out"), 0, 0); err != nil {
			t.Fatal(err)
		}
		p.publish("issuer", "..1", a.secret(t, a.profile(nil)))
		if o := p.run(); o.code != 1 || !strings.Contains(o.message, "is not writable for the user") || len(o.files) != 0 {
			t.Errorf("a volume that cannot be written is told, not waited for: %+v", o)
		}
	})
}

// TestWhereItRuns starts the script where a shell may find nothing it is used to.
func TestWhereItRuns(t *testing.T) {
	eachShell(t, func(t *testing.T, shell []string) {
		a := year(t)
		p := newPod(t, shell, WorkerScript)
		p.publish("issuer", "..1", a.secret(t, a.profile(nil)))
		p.workDir = t.TempDir()
		if err := os.Chmod(p.workDir, 0o555); err != nil {
			t.Fatal(err)
		}
		p.env["HOME"], p.env["TMPDIR"] = "/nonexistent", "/nonexistent"
		p.env["CDPATH"], p.env["LC_ALL"] = "/etc:/usr", "tr_TR.UTF-8"
		p.issued(p.run())
		if left := list(t, p.workDir); len(left) != 0 {
			t.Errorf("the working directory was written: %v", left)
		}
	})
}

// TestImageTrustDoesNotCount gives the image an authority of its own, which the cluster's bundle does not hold.
func TestImageTrustDoesNotCount(t *testing.T) {
	shell := anyShell(t)
	a, other := year(t), year(t)
	good := a.secret(t, a.profile(nil))
	p := newPod(t, shell, WorkerScript)
	if err := os.Mkdir(p.file("trust"), 0o755); err != nil {
		t.Fatal(err)
	}
	p.write("trust/root.pem", string(a.rootPEM), 0o644)
	if output, err := exec.Command("openssl", "rehash", p.file("trust")).CombinedOutput(); err != nil {
		t.Fatalf("%v: %s", err, output)
	}
	// Another name than the right authority's: openssl looks no further than the first of a name.
	p.env["SSL_CERT_DIR"], p.env["SSL_CERT_FILE"] = p.file("trust"), p.file("trust/root.pem")
	p.publish("issuer", "..1", with(good, "ca.crt", string(other.issuerPEM)))
	p.steps = []string{p.prepare(good)}
	o := p.run()
	p.issued(o)
	if o.sleeps != 1 {
		t.Error("a certificate was published that only the image trusts, not the cluster's bundle")
	}
}

// TestWorkIsPrivate looks at the files of a run that is under way, in its second try.
func TestWorkIsPrivate(t *testing.T) {
	eachShell(t, func(t *testing.T, shell []string) {
		a, other := year(t), year(t)
		good := a.secret(t, a.profile(nil))
		p := newPod(t, shell, WorkerScript)
		p.publish("issuer", "..1", with(good, "ca.crt", string(other.rootPEM)))
		p.steps = []string{"", fmt.Sprintf("PATH=%s find %s -perm /077 >%s\n", os.Getenv("PATH"), p.file("out/.raytls"), p.file("seen")), p.prepare(good)}
		p.issued(p.run())
		seen, err := os.ReadFile(p.file("seen"))
		if err != nil {
			t.Fatal(err)
		}
		want := []string{p.file("out/.raytls/ca.crt"), p.file("out/.raytls/tls.crt")}
		if diff := cmp.Diff(want, slices.Sorted(strings.Lines(string(seen))), cmp.Transformer("trim", strings.TrimSpace)); diff != "" {
			t.Errorf("files that others can read (-want +got):\n%s", diff)
		}
	})
}

// TestIssuerKeyStays looks for the issuer's key in the output volume whenever openssl runs.
func TestIssuerKeyStays(t *testing.T) {
	eachShell(t, func(t *testing.T, shell []string) {
		a := year(t)
		p := newPod(t, shell, HeadScript)
		secret := a.secret(t, a.profile(nil))
		p.publish("issuer", "..1", secret)
		line := strings.Split(secret["ca.key"], "\n")[1]
		// The search sees the whole volume: the same search finds the pod's own key there.
		p.stub("openssl", "PATH="+os.Getenv("PATH")+`
grep -rqsF `+"'"+line+"'"+` "$RAYTLS_OUTPUT_DIR" && touch "$SLEEPS/leak"
grep -rqsF 'PRIVATE KEY' "$RAYTLS_OUTPUT_DIR" && touch "$SLEEPS/searched"
exec openssl "$@"
`)
		p.issued(p.run())
		if exists(p.file("sleeps/leak")) {
			t.Error("the issuer's key was in the volume that Ray containers mount")
		}
		if !exists(p.file("sleeps/searched")) {
			t.Error("the search does not see keys in the volume")
		}
	})
}

// BenchmarkScript reports the processor time of one init container, everything it starts included.
func BenchmarkScript(b *testing.B) {
	for name, shell := range shells() {
		b.Run(name, func(b *testing.B) {
			requireTool(b, shell[0])
			requireTool(b, "openssl")
			a := year(b)
			p := newPod(b, shell, HeadScript)
			p.publish("issuer", "..1", a.secret(b, a.profile(nil)))
			var before, after syscall.Rusage
			if err := syscall.Getrusage(syscall.RUSAGE_CHILDREN, &before); err != nil {
				b.Fatal(err)
			}
			b.ResetTimer()
			for range b.N {
				if o := p.run(); o.code != 0 {
					b.Fatal(o.stderr)
				}
			}
			b.StopTimer()
			if err := syscall.Getrusage(syscall.RUSAGE_CHILDREN, &after); err != nil {
				b.Fatal(err)
			}
			used := after.Utime.Nano() + after.Stime.Nano() - before.Utime.Nano() - before.Stime.Nano()
			b.ReportMetric(float64(used)/1e6/float64(b.N), "cpu-ms/op")
		})
	}
}
