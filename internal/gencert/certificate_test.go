package gencert

import (
	"crypto/ecdsa"
	"crypto/rsa"
	"crypto/tls"
	"crypto/x509"
	"encoding/hex"
	"fmt"
	"net"
	"os"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
)

// result is what a pod is left with, read back the way Ray would.
type result struct {
	chain  []*x509.Certificate
	pair   tls.Certificate
	roots  *x509.CertPool
	report Report
}

func (p *pod) issued(o outcome) result {
	p.t.Helper()
	if o.code != 0 {
		p.t.Fatalf("script exits %d and says:\n%s", o.code, o.stderr)
	}
	if diff := cmp.Diff([]string{"ca.crt", "tls.crt", "tls.key"}, o.files); diff != "" {
		p.t.Fatalf("files in the output directory (-want +got):\n%s", diff)
	}
	pair, err := tls.LoadX509KeyPair(p.file("out/tls.crt"), p.file("out/tls.key"))
	if err != nil {
		p.t.Fatal(err)
	}
	r := result{pair: pair, roots: x509.NewCertPool()}
	for _, der := range pair.Certificate {
		certificate, err := x509.ParseCertificate(der)
		if err != nil {
			p.t.Fatal(err)
		}
		r.chain = append(r.chain, certificate)
	}
	bundle, err := os.ReadFile(p.file("out/ca.crt"))
	if err != nil {
		p.t.Fatal(err)
	}
	if !r.roots.AppendCertsFromPEM(bundle) {
		p.t.Fatal("ca.crt holds no certificate")
	}
	if r.report, err = ParseReport(o.message); err != nil {
		p.t.Fatalf("%v: %q", err, o.message)
	}
	return r
}

func (r result) addresses() []string {
	names := slices.Clone(r.chain[0].DNSNames)
	for _, ip := range r.chain[0].IPAddresses {
		names = append(names, ip.String())
	}
	slices.Sort(names)
	return names
}

func TestCertificateProfile(t *testing.T) {
	eachShell(t, func(t *testing.T, shell []string) {
		a := year(t)
		p := newPod(t, shell, HeadScript)
		p.publish("issuer", "..1", a.secret(t, a.profile(nil)))
		before := time.Now().Add(-time.Second)
		r := p.issued(p.run())
		leaf := r.chain[0]

		if leaf.IsCA || !leaf.BasicConstraintsValid {
			t.Error("the leaf must say that it is no CA")
		}
		if diff := cmp.Diff([]x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth, x509.ExtKeyUsageClientAuth}, leaf.ExtKeyUsage); diff != "" {
			t.Errorf("extended key usage (-want +got):\n%s", diff)
		}
		if leaf.KeyUsage != x509.KeyUsageDigitalSignature {
			t.Errorf("key usage is %b", leaf.KeyUsage)
		}
		if len(leaf.SubjectKeyId) == 0 || string(leaf.AuthorityKeyId) != string(a.issuer.SubjectKeyId) {
			t.Error("the leaf must carry its own key id and the issuer's")
		}
		keyIDOnly := append([]byte{0x30, byte(len(a.issuer.SubjectKeyId) + 2), 0x80, byte(len(a.issuer.SubjectKeyId))}, a.issuer.SubjectKeyId...)
		for _, extension := range leaf.Extensions {
			if extension.Id.String() == "2.5.29.35" && string(extension.Value) != string(keyIDOnly) {
				t.Errorf("the authority key identifier must be the key id alone: %x", extension.Value)
			}
		}
		if got, want := leaf.Subject.String(), "CN=rayc-abcde,OU=ray-head,O=raytls"; got != want {
			t.Errorf("subject is %s, want %s", got, want)
		}
		if diff := cmp.Diff(a.issuerPEM, readPEM(t, p.file("out/tls.crt"), 1)); diff != "" {
			t.Errorf("chain after the leaf (-want +got):\n%s", diff)
		}
		want := Report{
			Authority: "0a1b2c3d", Issuer: "4e5f6071", Serial: fmt.Sprintf("%032x", leaf.SerialNumber),
			NotAfter: leaf.NotAfter, IssuedAt: leaf.NotBefore.Add(5 * time.Minute),
		}
		if diff := cmp.Diff(want, r.report); diff != "" {
			t.Errorf("report (-want +got):\n%s", diff)
		}
		if r.report.IssuedAt.Before(before) || r.report.IssuedAt.After(time.Now()) {
			t.Errorf("issuedAt %s is not now", r.report.IssuedAt)
		}
		if got := leaf.NotAfter.Sub(r.report.IssuedAt); got != 30*24*time.Hour {
			t.Errorf("leaf lives %s, want 30 days", got)
		}
		for name, want := range map[string]os.FileMode{"tls.key": 0o600, "tls.crt": 0o644, "ca.crt": 0o644} {
			info, err := os.Stat(p.file("out/" + name))
			if err != nil {
				t.Fatal(err)
			}
			if info.Mode().Perm() != want {
				t.Errorf("%s has mode %o, want %o", name, info.Mode().Perm(), want)
			}
		}
	})
}

// readPEM returns the nth block of a PEM file, from zero, as text.
func readPEM(t *testing.T, path string, n int) []byte {
	t.Helper()
	text, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	const end = "-----END CERTIFICATE-----\n"
	blocks := strings.SplitAfter(string(text), end)
	return []byte(blocks[n])
}

func TestSerialsDiffer(t *testing.T) {
	a := year(t)
	seen := map[string]bool{}
	for range 4 {
		p := newPod(t, anyShell(t), WorkerScript)
		p.publish("issuer", "..1", a.secret(t, a.profile(nil)))
		serial := p.issued(p.run()).report.Serial
		if raw, err := hex.DecodeString(serial); err != nil || len(raw) != 16 || seen[serial] {
			t.Errorf("serial %s is not 128 new random bits", serial)
		}
		seen[serial] = true
	}
}

func TestValidity(t *testing.T) {
	now := time.Now()
	cases := map[string]struct {
		reason     string
		start, end time.Duration // of the issuer, from now
		script     string
		untilEnd   bool
		wantEnd    bool // the issuer's end
		wantStart  bool // the issuer's start
	}{
		"ordinary":            {"a leaf lives as long as the profile says", -24 * time.Hour, 365 * 24 * time.Hour, HeadScript, false, false, false},
		"cut to the issuer":   {"nothing outlives its issuer", -24 * time.Hour, 29 * 24 * time.Hour, HeadScript, false, true, false},
		"head that stays":     {"a head that will not be restarted lives to the issuer's end", -24 * time.Hour, 365 * 24 * time.Hour, HeadScript, true, true, false},
		"worker beside it":    {"workers are restarted all the same", -24 * time.Hour, 365 * 24 * time.Hour, WorkerScript, true, false, false},
		"young issuer":        {"nothing starts before its issuer", -time.Minute, 365 * 24 * time.Hour, WorkerScript, false, false, true},
		"beyond 2050":         {"times change their encoding in 2050", -time.Hour, 30 * 365 * 24 * time.Hour, HeadScript, true, true, false},
		"issuer ends shortly": {"some minutes are still worth a certificate", -time.Hour, 10 * time.Minute, WorkerScript, false, true, false},
	}
	for name, test := range cases {
		t.Run(name, func(t *testing.T) {
			shell := anyShell(t)
			t.Parallel()
			a := newAuthority(t, now.Add(test.start), now.Add(test.end))
			p := newPod(t, shell, test.script)
			p.publish("issuer", "..1", a.secret(t, a.profile(func(p *Profile) { p.HeadUntilIssuerEnd = test.untilEnd })))
			r := p.issued(p.run())
			if got := r.chain[0].NotAfter.Equal(a.notAfter); got != test.wantEnd {
				t.Errorf("%s: leaf ends %s, issuer %s", test.reason, r.chain[0].NotAfter, a.notAfter)
			}
			if got := r.chain[0].NotBefore.Equal(a.notBefore); got != test.wantStart {
				t.Errorf("%s: leaf starts %s, issuer %s", test.reason, r.chain[0].NotBefore, a.notBefore)
			}
			if !r.report.NotAfter.Equal(r.chain[0].NotAfter) {
				t.Errorf("report says %s, leaf %s", r.report.NotAfter, r.chain[0].NotAfter)
			}
		})
	}
}

func TestKeyAlgorithms(t *testing.T) {
	for _, algorithm := range keyAlgorithms() {
		t.Run(algorithm, func(t *testing.T) {
			a := year(t)
			p := newPod(t, anyShell(t), HeadScript)
			p.publish("issuer", "..1", a.secret(t, a.profile(func(p *Profile) { p.KeyAlgorithm = algorithm })))
			r := p.issued(p.run())
			var got string
			switch key := r.chain[0].PublicKey.(type) {
			case *ecdsa.PublicKey:
				got = fmt.Sprintf("ECDSAP%d", key.Params().BitSize)
			case *rsa.PublicKey:
				got = fmt.Sprintf("RSA%d", key.N.BitLen())
			}
			if got != algorithm {
				t.Errorf("key is %s, want %s", got, algorithm)
			}
			wantUsage := x509.KeyUsageDigitalSignature
			if strings.HasPrefix(algorithm, "RSA") {
				wantUsage |= x509.KeyUsageKeyEncipherment
			}
			if r.chain[0].KeyUsage != wantUsage {
				t.Errorf("key usage is %b, want %b", r.chain[0].KeyUsage, wantUsage)
			}
			handshake(t, r, r, headService)
		})
	}
}

// TestHandshakes has head and worker dial each other as Ray's processes do.
func TestHandshakes(t *testing.T) {
	eachShell(t, func(t *testing.T, shell []string) {
		a := year(t)
		secret := a.secret(t, a.profile(nil))
		run := func(script, ips string) result {
			p := newPod(t, shell, script)
			p.env["RAYTLS_POD_IPS"] = ips
			p.publish("issuer", "..1", secret)
			return p.issued(p.run())
		}
		head, worker := run(HeadScript, "10.0.0.1,fd00::1"), run(WorkerScript, "10.0.0.2,fd00::2")
		for _, name := range []string{headService, "10.0.0.1", "fd00::1", "localhost", "127.0.0.1", "::1"} {
			handshake(t, head, worker, name)
		}
		for _, name := range []string{"10.0.0.2", "fd00::2", "localhost"} {
			handshake(t, worker, head, name)
		}
		for _, name := range []string{headService, "rayc-head-svc", "10.0.0.1"} {
			if err := dial(worker, head, name); err == nil {
				t.Errorf("a worker passes for %s", name)
			}
		}
		other := year(t)
		p := newPod(t, shell, WorkerScript)
		p.publish("issuer", "..1", other.secret(t, other.profile(nil)))
		if err := dial(head, p.issued(p.run()), headService); err == nil {
			t.Error("another cluster's certificate is accepted")
		}
	})
}

func handshake(t *testing.T, server, client result, name string) {
	t.Helper()
	if err := dial(server, client, name); err != nil {
		t.Errorf("dialling %s: %v", name, err)
	}
}

// dial makes a mutual TLS connection in memory and returns the first error of either side.
func dial(server, client result, name string) error {
	near, far := net.Pipe()
	defer near.Close()
	defer far.Close()
	deadline := time.Now().Add(10 * time.Second)
	_, _ = near.SetDeadline(deadline), far.SetDeadline(deadline)
	served := make(chan error, 1)
	go func() {
		config := &tls.Config{
			Certificates: []tls.Certificate{server.pair}, ClientAuth: tls.RequireAndVerifyClientCert, ClientCAs: server.roots,
			MinVersion: tls.VersionTLS12,
		}
		connection := tls.Server(far, config)
		err := connection.Handshake()
		if err == nil {
			_, err = connection.Write([]byte("x"))
		}
		served <- err
		far.Close()
	}()
	connection := tls.Client(near, &tls.Config{
		Certificates: []tls.Certificate{client.pair}, RootCAs: client.roots, ServerName: name, MinVersion: tls.VersionTLS12,
	})
	if _, err := connection.Read(make([]byte, 1)); err != nil {
		return err
	}
	return <-served
}
