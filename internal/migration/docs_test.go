package migration

import (
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/raytls/raytls/internal/pki"
)

// TestDocs_clientCertificate runs the steps that docs/tasks/clients.md has for clients.
func TestDocs_clientCertificate(t *testing.T) {
	t.Parallel()
	if _, err := exec.LookPath("openssl"); err != nil {
		t.Skip("openssl is not installed")
	}
	page, err := os.ReadFile(filepath.Join("..", "..", "docs", "tasks", "clients.md"))
	if err != nil {
		t.Fatal(err)
	}
	_, after, found := strings.Cut(string(page), "```sh\ncd \"$TLS\"\n")
	steps, _, closed := strings.Cut(after, "```")
	if !found || !closed {
		t.Fatal("docs/tasks/clients.md has no steps for clients")
	}

	// openssl starts a certificate now, by the real clock.
	now := time.Now()
	_, _, certPEM, keyPEM := broughtCA(t, now)
	authority, issuer := authorityUnder(t, certPEM, keyPEM, now)
	issuerKey, err := issuer.KeyPEM()
	if err != nil {
		t.Fatal(err)
	}
	secret, dir := t.TempDir(), t.TempDir()
	for name, text := range map[string][]byte{
		"ca.key": issuerKey, "issuer.crt": issuer.CertificatePEM(), "chain.pem": issuer.CertificatePEM(), "ca.crt": authority.CertificatePEM(),
	} {
		if err := os.WriteFile(filepath.Join(secret, name), text, 0o600); err != nil {
			t.Fatal(err)
		}
	}
	command := exec.CommandContext(t.Context(), "/bin/sh", "-ec", "cd \"$TLS\"\n"+steps)
	command.Env = append(os.Environ(), "ISSUER="+secret, "TLS="+dir)
	if out, err := command.CombinedOutput(); err != nil {
		t.Fatalf("%v: %s", err, out)
	}
	chain, err := os.ReadFile(filepath.Join(dir, "tls.crt"))
	if err != nil {
		t.Fatal(err)
	}
	bundle, err := os.ReadFile(filepath.Join(dir, "ca.crt"))
	if err != nil {
		t.Fatal(err)
	}
	certificates, err := pki.ParseBundle(chain)
	if err != nil {
		t.Fatal(err)
	}
	trusted, err := pki.ParseBundle(bundle)
	if err != nil {
		t.Fatal(err)
	}
	if err := pki.VerifyPair(certificates, trusted, time.Now().Add(time.Minute)); err != nil {
		t.Error(err)
	}
}
