package gencert

import (
	"bytes"
	"context"
	"crypto"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/pem"
	"errors"
	"math/big"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"testing"
	"time"
)

const headService = "rayc-head-svc.ml.svc.cluster.local"

// shells are those that a Ray or a small image may have as /bin/sh, in the mode that they have under that name.
func shells() map[string][]string {
	return map[string][]string{"dash": {"dash"}, "bash": {"bash", "--posix"}, "ash": {"busybox", "ash"}}
}

// eachShell runs a test under every shell that this machine has.
func eachShell(t *testing.T, test func(t *testing.T, shell []string)) {
	t.Helper()
	for name, shell := range shells() {
		t.Run(name, func(t *testing.T) {
			requireTool(t, shell[0])
			requireTool(t, "openssl")
			requirePath(t, shell)
			t.Parallel()
			test(t, shell)
		})
	}
}

// anyShell is for tests whose subject is not the shell.
func anyShell(t *testing.T) []string {
	t.Helper()
	requireTool(t, "openssl")
	return []string{"/bin/sh"}
}

// requirePath skips shells that run their own tools before those in PATH, as static builds of busybox do: in tests, the
// tool that waits is another one.
func requirePath(t *testing.T, shell []string) {
	t.Helper()
	dir := t.TempDir()
	if err := os.WriteFile(filepath.Join(dir, "sleep"), []byte("#!/bin/sh\nexit 3\n"), 0o755); err != nil {
		t.Fatal(err)
	}
	command := exec.CommandContext(t.Context(), shell[0], append(shell[1:], "-c", "sleep 0")...)
	command.Env = []string{"PATH=" + dir}
	if err := command.Run(); err == nil {
		t.Skipf("%s runs its own tools before those in PATH: install a build that does not, to run this test", shell[0])
	}
}

func requireTool(t testing.TB, name string) {
	t.Helper()
	if _, err := exec.LookPath(name); err != nil {
		t.Skipf("%s is not installed on this machine: install it to run this test", name)
	}
}

// authority is what the operator would hold: an anchor, and the issuer's key and certificate.
type authority struct {
	root, issuer        *x509.Certificate
	rootKey, key        crypto.Signer
	rootPEM, issuerPEM  []byte
	notBefore, notAfter time.Time
}

func newAuthority(t testing.TB, notBefore, notAfter time.Time) *authority {
	t.Helper()
	a := &authority{notBefore: notBefore.UTC().Truncate(time.Second), notAfter: notAfter.UTC().Truncate(time.Second)}
	a.rootKey, a.key = newKey(t), newKey(t)
	root := &x509.Certificate{
		SerialNumber: big.NewInt(1), Subject: pkix.Name{CommonName: "authority"},
		NotBefore: time.Now().Add(-48 * time.Hour), NotAfter: time.Now().Add(40 * 365 * 24 * time.Hour),
		IsCA: true, BasicConstraintsValid: true, KeyUsage: x509.KeyUsageCertSign | x509.KeyUsageCRLSign,
	}
	a.root, a.rootPEM = sign(t, root, root, a.rootKey, a.rootKey)
	issuer := &x509.Certificate{
		SerialNumber: big.NewInt(2), Subject: pkix.Name{CommonName: "issuer"},
		NotBefore: a.notBefore, NotAfter: a.notAfter,
		IsCA: true, BasicConstraintsValid: true, MaxPathLenZero: true,
		KeyUsage: x509.KeyUsageCertSign | x509.KeyUsageCRLSign,
	}
	a.issuer, a.issuerPEM = sign(t, issuer, a.root, a.key, a.rootKey)
	return a
}

func newKey(t testing.TB) crypto.Signer {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	return key
}

func sign(t testing.TB, template, parent *x509.Certificate, key, parentKey crypto.Signer) (*x509.Certificate, []byte) {
	t.Helper()
	der, err := x509.CreateCertificate(rand.Reader, template, parent, key.Public(), parentKey)
	if err != nil {
		t.Fatal(err)
	}
	certificate, err := x509.ParseCertificate(der)
	if err != nil {
		t.Fatal(err)
	}
	return certificate, pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: der})
}

func year(t testing.TB) *authority {
	t.Helper()
	return newAuthority(t, time.Now().Add(-24*time.Hour), time.Now().Add(365*24*time.Hour))
}

func (a *authority) profile(edit func(*Profile)) Profile {
	p := Profile{
		Revision: 1, Authority: "0a1b2c3d", Issuer: "4e5f6071", IssuerNotBefore: a.notBefore, IssuerNotAfter: a.notAfter,
		KeyAlgorithm: "ECDSAP256", ValidityDays: 30, CAKeyAlgorithm: "ECDSAP256",
	}
	if edit != nil {
		edit(&p)
	}
	return p
}

// secret returns the data of the CA Secret.
func (a *authority) secret(t testing.TB, profile Profile) map[string]string {
	t.Helper()
	text, err := profile.Marshal()
	if err != nil {
		t.Fatal(err)
	}
	der, err := x509.MarshalPKCS8PrivateKey(a.key)
	if err != nil {
		t.Fatal(err)
	}
	return map[string]string{
		"ca.key":     string(pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: der})),
		"issuer.crt": string(a.issuerPEM), "chain.pem": string(a.issuerPEM), "ca.crt": string(a.rootPEM),
		"profile": string(text), "generation": "3",
	}
}

// pod is an init container in a directory: what it is given, and what it does when it sleeps.
type pod struct {
	t          testing.TB
	shell      []string
	name       string // of the script
	dir        string
	env        map[string]string
	steps      []string // shell text that the nth sleep runs instead of sleeping
	path       string   // instead of the machine's PATH, after the stubs
	credential *syscall.Credential
	workDir    string
}

func newPod(t testing.TB, shell []string, name string) *pod {
	t.Helper()
	p := &pod{t: t, shell: shell, name: name, dir: t.TempDir(), path: os.Getenv("PATH"), workDir: "/"}
	for _, name := range []string{"issuer", "out", "scripts", "bin", "sleeps"} {
		if err := os.Mkdir(filepath.Join(p.dir, name), 0o755); err != nil {
			t.Fatal(err)
		}
	}
	scripts, err := Scripts(1)
	if err != nil {
		t.Fatal(err)
	}
	for name, text := range scripts {
		p.write(filepath.Join("scripts", name), text, 0o644)
	}
	p.write("termination-log", "", 0o666)
	p.write("hosts", "# Kubernetes-managed hosts file.\n127.0.0.1\tlocalhost\n", 0o644)
	p.stub("sleep", `n=0
while [ -e "$SLEEPS/$n" ]; do n=$((n + 1)); done
: >"$SLEEPS/$n"
if [ -e "$SLEEPS/step$n" ]; then . "$SLEEPS/step$n"; else [ "$n" -lt 40 ] || kill -TERM "$PPID"; fi
`)
	p.env = map[string]string{
		"RAYTLS_ISSUER_DIR": p.file("issuer"), "RAYTLS_OUTPUT_DIR": p.file("out"),
		"RAYTLS_TERMINATION_LOG": p.file("termination-log"), "RAYTLS_HOSTS_FILE": p.file("hosts"),
		"RAYTLS_CLUSTER": "rayc", "RAYTLS_NAMESPACE": "ml", "RAYTLS_POD": "rayc-abcde",
		"RAYTLS_POD_IPS": "10.1.2.3", "HOSTNAME": "rayc-abcde", "SLEEPS": p.file("sleeps"),
	}
	if shell[0] == "busybox" {
		p.path = p.tools()
	}
	if name == HeadScript {
		p.env["FQ_RAY_IP"] = headService
	}
	return p
}

func (p *pod) file(name string) string { return filepath.Join(p.dir, name) }

func (p *pod) write(name, text string, mode os.FileMode) {
	p.t.Helper()
	if err := os.WriteFile(p.file(name), []byte(text), mode); err != nil {
		p.t.Fatal(err)
	}
	if err := os.Chmod(p.file(name), mode); err != nil {
		p.t.Fatal(err)
	}
}

func (p *pod) stub(name, body string) { p.write(filepath.Join("bin", name), "#!/bin/sh\n"+body, 0o755) }

// tools makes a PATH of what the scripts may need and nothing else, without the named ones. Beside busybox's shell they
// are busybox's, except for openssl.
func (p *pod) tools(without ...string) string {
	p.t.Helper()
	dir, err := os.MkdirTemp(p.dir, "tools")
	if err != nil {
		p.t.Fatal(err)
	}
	if err := os.Chmod(dir, 0o755); err != nil {
		p.t.Fatal(err)
	}
next:
	for _, name := range []string{"cat", "date", "mkdir", "mv", "rm", "sha256sum", "openssl"} {
		for _, missing := range without {
			if name == missing {
				continue next
			}
		}
		target := name
		if p.shell[0] == "busybox" && name != "openssl" {
			target = "busybox"
		}
		path, err := exec.LookPath(target)
		if err != nil {
			p.t.Skipf("%s is not installed on this machine: install it to run this test", target)
		}
		if err := os.Symlink(path, filepath.Join(dir, name)); err != nil {
			p.t.Fatal(err)
		}
	}
	return dir
}

// publish lays a Secret out under a directory of the pod as the kubelet does: files of one version, and a link to it.
func (p *pod) publish(dir, version string, data map[string]string) {
	p.t.Helper()
	if err := os.MkdirAll(p.file(filepath.Join(dir, version)), 0o755); err != nil {
		p.t.Fatal(err)
	}
	for name, text := range data {
		p.write(filepath.Join(dir, version, name), text, 0o644)
	}
	link := p.file(filepath.Join(dir, "..data"))
	if err := os.Symlink(version, link+"_tmp"); err != nil {
		p.t.Fatal(err)
	}
	if err := os.Rename(link+"_tmp", link); err != nil {
		p.t.Fatal(err)
	}
}

type outcome struct {
	code    int
	stdout  string
	stderr  string
	message string // termination message
	sleeps  int
	files   []string // in the output directory
}

// run does what the kubelet does with the injected init container.
func (p *pod) run() outcome {
	p.t.Helper()
	sum, err := SHA256(1, p.name)
	if err != nil {
		p.t.Fatal(err)
	}
	boot := strings.ReplaceAll(Bootstrap(), "/dev/termination-log", p.file("termination-log"))
	return p.exec(append(slices.Clone(p.shell), "-c", boot, "raytls-init", p.file("scripts/"+p.name), sum, p.env["RAYTLS_NODE_TYPE"]))
}

func (p *pod) exec(argv []string) outcome {
	p.t.Helper()
	for n, step := range p.steps {
		p.write("sleeps/step"+big.NewInt(int64(n)).String(), step, 0o644)
	}
	binary, err := exec.LookPath(argv[0])
	if err != nil {
		p.t.Fatal(err)
	}
	// Only a bound on a hanging script: no test waits for it.
	ctx, cancel := context.WithTimeout(context.Background(), 2*time.Minute)
	defer cancel()
	command := exec.CommandContext(ctx, binary, argv[1:]...)
	command.Dir = p.workDir
	command.Env = []string{"PATH=" + p.file("bin") + ":" + p.path}
	for name, value := range p.env {
		command.Env = append(command.Env, name+"="+value)
	}
	if p.credential != nil {
		command.SysProcAttr = &syscall.SysProcAttr{Credential: p.credential}
	}
	var stdout, stderr bytes.Buffer
	command.Stdout, command.Stderr = &stdout, &stderr
	err = command.Run()
	var exit *exec.ExitError
	if err != nil && !errors.As(err, &exit) {
		p.t.Fatalf("running %s: %v", argv[0], err)
	}
	if ctx.Err() != nil {
		p.t.Fatalf("script hangs; it said:\n%s", stderr.String())
	}
	message, err := os.ReadFile(p.file("termination-log"))
	if err != nil {
		p.t.Fatal(err)
	}
	result := outcome{code: command.ProcessState.ExitCode(), stdout: stdout.String(), stderr: stderr.String(), message: string(message)}
	for ; exists(p.file("sleeps/" + big.NewInt(int64(result.sleeps)).String())); result.sleeps++ {
	}
	result.files = list(p.t, p.file("out"))
	return result
}

// list names everything below a directory, whatever its name starts with.
func list(t testing.TB, dir string) []string {
	t.Helper()
	var names []string
	err := filepath.WalkDir(dir, func(path string, _ os.DirEntry, err error) error {
		if err == nil && path != dir {
			names = append(names, strings.TrimPrefix(path, dir+"/"))
		}
		return err
	})
	if err != nil && !errors.Is(err, os.ErrNotExist) {
		t.Fatal(err)
	}
	return names
}

func exists(path string) bool {
	_, err := os.Lstat(path)
	return err == nil
}
