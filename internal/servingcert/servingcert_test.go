package servingcert

import (
	"bytes"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"maps"
	"net"
	"net/netip"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	testingclock "k8s.io/utils/clock/testing"

	"github.com/raytls/raytls/internal/pki"
)

const host = "raytls-webhook.raytls-system.svc"

var start = time.Date(2026, 3, 1, 12, 0, 0, 0, time.UTC)

func newAuthority(t *testing.T, now time.Time) *pki.Authority {
	t.Helper()
	authority, err := NewAuthority(now)
	if err != nil {
		t.Fatal(err)
	}
	return authority
}

func dataOf(t *testing.T, authority *pki.Authority) map[string][]byte {
	t.Helper()
	data, err := Data(authority)
	if err != nil {
		t.Fatal(err)
	}
	return data
}

func TestParse(t *testing.T) {
	authority := newAuthority(t, start)
	other := dataOf(t, newAuthority(t, start))
	foreign, err := pki.NewAuthority(pki.AuthorityOptions{Name: "ml/train", KeyAlgorithm: pki.ECDSAP256, Validity: authorityValidity, Now: start})
	if err != nil {
		t.Fatal(err)
	}
	for name, c := range map[string]struct {
		reason string
		change func(data map[string][]byte)
		at     time.Duration
		want   string
		newer  bool
	}{
		"as written":     {reason: "it is read back"},
		"old":            {reason: "it lasts ten years", at: authorityValidity - time.Second},
		"empty":          {reason: "there is nothing", change: func(d map[string][]byte) { clear(d) }, want: "formatVersion"},
		"no key":         {reason: "it cannot sign", change: func(d map[string][]byte) { delete(d, keyPrivateKey) }, want: "tls.key"},
		"another's key":  {reason: "it signs for somebody else", change: func(d map[string][]byte) { d[keyPrivateKey] = other[keyPrivateKey] }, want: "tls.key"},
		"altered":        {reason: "one byte is enough", change: func(d map[string][]byte) { d[keyCertificate] = append(d[keyCertificate], '\n') }, want: "tls.crt"},
		"a cluster's":    {reason: "an authority of something else is not ours", change: func(d map[string][]byte) { maps.Copy(d, dataOf(t, foreign)) }, want: "not an authority of the admission webhook"},
		"expired":        {reason: "nobody trusts it", at: authorityValidity, want: "valid from"},
		"not yet":        {reason: "nobody trusts it yet", at: -48 * time.Hour, want: "valid from"},
		"no version":     {reason: "somebody removed it", change: func(d map[string][]byte) { delete(d, keyFormatVersion) }, want: "not a version"},
		"version zero":   {reason: "there never was one", change: func(d map[string][]byte) { d[keyFormatVersion] = []byte("0") }, want: "not a version"},
		"newer":          {reason: "a newer operator knows what it means", change: func(d map[string][]byte) { d[keyFormatVersion] = []byte("2") }, want: "newer version", newer: true},
		"newer, changed": {reason: "its keys may differ too", change: func(d map[string][]byte) { clear(d); d[keyFormatVersion] = []byte("2") }, want: "newer version", newer: true},
	} {
		t.Run(name, func(t *testing.T) {
			data := dataOf(t, authority)
			if c.change != nil {
				c.change(data)
			}
			got, err := Parse(data, start.Add(c.at))
			switch {
			case c.want == "" && (err != nil || !got.Certificate().Equal(authority.Certificate())):
				t.Errorf("%s: got %v, %v", c.reason, got, err)
			case c.want != "" && (err == nil || !strings.Contains(err.Error(), c.want)):
				t.Errorf("%s: got %v, want an error with %q", c.reason, err, c.want)
			case errors.Is(err, ErrNewerFormat) != c.newer:
				t.Errorf("%s: got %v", c.reason, err)
			}
		})
	}
	if got, want := RenewAt(authority), start.AddDate(0, 0, 3650-365); !got.Equal(want) {
		t.Errorf("it is replaced in its last year: got %s, want %s", got, want)
	}
}

func TestBundle(t *testing.T) {
	var made []*pki.Authority
	for years := range 4 {
		made = append(made, newAuthority(t, start.Add(time.Duration(years)*365*day)))
	}
	now, current := start.Add(4*365*day), newAuthority(t, start.Add(4*365*day))
	foreign, err := pki.NewAuthority(pki.AuthorityOptions{Name: "ml/train", KeyAlgorithm: pki.ECDSAP256, Validity: authorityValidity, Now: start})
	if err != nil {
		t.Fatal(err)
	}
	pem := func(of ...*pki.Authority) []byte {
		var out []byte
		for _, a := range of {
			out = append(out, a.CertificatePEM()...)
		}
		return out
	}
	for name, c := range map[string]struct {
		reason string
		now    time.Time
		has    [][]byte
		want   []byte
	}{
		"nothing there":  {reason: "the authority alone", now: now, has: [][]byte{nil}, want: pem(current)},
		"no webhook":     {reason: "the authority alone", now: now, want: pem(current)},
		"at rest":        {reason: "nothing changes", now: now, has: [][]byte{pem(current)}, want: pem(current)},
		"replaced":       {reason: "pods serve under the old one for a moment", now: now, has: [][]byte{pem(made[3]), pem(made[3])}, want: pem(current, made[3])},
		"many":           {reason: "the newest two stay", now: now, has: [][]byte{pem(made[0], made[2]), pem(made[1], made[3])}, want: pem(current, made[3], made[2])},
		"expired":        {reason: "nobody serves under it", now: start.Add(authorityValidity), has: [][]byte{pem(made[0], made[1])}, want: pem(current, made[1])},
		"somebody's":     {reason: "only ours are kept", now: now, has: [][]byte{pem(foreign)}, want: pem(current)},
		"garbage around": {reason: "what cannot be read is dropped", now: now, has: [][]byte{append([]byte("-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n"), pem(made[3])...)}, want: pem(current, made[3])},
		"huge":           {reason: "it is not read", now: now, has: [][]byte{append(pem(made[3]), bytes.Repeat([]byte{'\n'}, maxBundleBytes)...)}, want: pem(current)},
	} {
		t.Run(name, func(t *testing.T) {
			got := Bundle(current, c.now, c.has...)
			if diff := cmp.Diff(string(c.want), string(got)); diff != "" {
				t.Errorf("%s (-want +got):\n%s", c.reason, diff)
			}
			if !Holds(got, current) {
				t.Error("it does not hold the authority")
			}
		})
	}
	if Holds(pem(made[0]), current) || Holds(nil, current) {
		t.Error("a bundle holds an authority that is not in it")
	}
}

// store writes the files as the kubelet does, but for the symbolic links.
func store(t *testing.T, directory string, data map[string][]byte) {
	t.Helper()
	for key, content := range data {
		if err := os.WriteFile(filepath.Join(directory, key), content, 0o600); err != nil {
			t.Fatal(err)
		}
	}
}

func newServer(t *testing.T) (*Server, *testingclock.FakePassiveClock, *pki.Authority) {
	t.Helper()
	clock := testingclock.NewFakePassiveClock(start)
	authority := newAuthority(t, start)
	s := &Server{Directory: t.TempDir(), DNSNames: []string{host}, IPs: []netip.Addr{netip.MustParseAddr("127.0.0.1")}, Clock: clock}
	store(t, s.Directory, dataOf(t, authority))
	return s, clock, authority
}

// trusted reports whether an API server that trusts the bundle accepts a certificate for a name.
func trusted(bundle []byte, certificate *tls.Certificate, name string, at time.Time) error {
	roots, intermediates := x509.NewCertPool(), x509.NewCertPool()
	roots.AppendCertsFromPEM(bundle)
	for _, der := range certificate.Certificate[1:] {
		c, err := x509.ParseCertificate(der)
		if err != nil {
			return err
		}
		intermediates.AddCert(c)
	}
	_, err := certificate.Leaf.Verify(x509.VerifyOptions{
		DNSName: name, Roots: roots, Intermediates: intermediates, CurrentTime: at, KeyUsages: []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth},
	})
	return err
}

func TestServerRenews(t *testing.T) {
	s, clock, authority := newServer(t)
	serve := func() *tls.Certificate {
		t.Helper()
		certificate, err := s.GetCertificate(nil)
		if err != nil {
			t.Fatal(err)
		}
		if err := trusted(authority.CertificatePEM(), certificate, host, clock.Now()); err != nil {
			t.Fatal(err)
		}
		if err := trusted(authority.CertificatePEM(), certificate, "127.0.0.1", clock.Now()); err != nil {
			t.Fatal(err)
		}
		return certificate
	}
	last := serve()
	if err := trusted(authority.CertificatePEM(), last, "elsewhere.svc", start); err == nil {
		t.Error("it is for every name")
	}
	for name, c := range map[string]struct {
		reason string
		passed time.Duration
		renews bool
	}{
		"young": {"most of its life is left", 59 * day, false},
		"old":   {"two thirds of its life have passed", 61 * day, true},
		"ended": {"a pod that slept serves at once", 200 * day, true},
		"ahead": {"a clock that is put back makes it not valid yet", -time.Hour, true},
	} {
		t.Run(name, func(t *testing.T) {
			clock.SetTime(start)
			s.leaf, s.signedBy = nil, nil
			first := serve()
			clock.SetTime(start.Add(c.passed))
			if renewed := serve() != first; renewed != c.renews {
				t.Errorf("%s: renewed is %t", c.reason, renewed)
			}
		})
	}
	clock.SetTime(RenewAt(authority).Add(364 * day))
	if certificate := serve(); certificate.Leaf.NotAfter.After(authority.NotAfter()) {
		t.Error("it outlives its authority")
	}
}

func TestServerFollowsTheFiles(t *testing.T) {
	next := newAuthority(t, start.Add(time.Hour))
	newer := dataOf(t, next)
	newer[keyFormatVersion] = []byte("2")
	halves := dataOf(t, next)
	delete(halves, keyPrivateKey)
	for name, c := range map[string]struct {
		reason string
		data   map[string][]byte
		passed time.Duration
		follow bool
		report string
	}{
		"same":       {reason: "nothing is signed", passed: time.Hour},
		"replaced":   {reason: "the next handshake is under the new authority", data: dataOf(t, next), passed: time.Hour, follow: true},
		"clock back": {reason: "how old the reading is cannot be known", data: dataOf(t, next), passed: -time.Minute, follow: true},
		"in between": {reason: "the files are read every few seconds", data: dataOf(t, next), passed: reading - 1},
		"halves":     {reason: "the old certificate is served until both are there", data: halves, passed: time.Hour, report: "cannot be used"},
		"newer":      {reason: "the old certificate is served while a newer version is installed", data: newer, passed: time.Hour, report: "newer version"},
	} {
		t.Run(name, func(t *testing.T) {
			s, clock, authority := newServer(t)
			var reported error
			s.Report = func(err error) { reported = err }
			first, err := s.GetCertificate(nil)
			if err != nil {
				t.Fatal(err)
			}
			store(t, s.Directory, c.data)
			clock.SetTime(start.Add(c.passed))
			second, err := s.GetCertificate(nil)
			if err != nil {
				t.Fatal(err)
			}
			want := authority
			if c.follow {
				want = next
			}
			if err := trusted(want.CertificatePEM(), second, host, start.Add(time.Hour)); err != nil || (first != second) != c.follow {
				t.Errorf("%s: %v", c.reason, err)
			}
			if c.report == "" && reported != nil || c.report != "" && (reported == nil || !strings.Contains(reported.Error(), c.report)) {
				t.Errorf("%s: reported %v", c.reason, reported)
			}
		})
	}
}

func TestServerIsReadyOnceThereIsAnAuthority(t *testing.T) {
	s, clock, authority := newServer(t)
	s.Directory = filepath.Join(s.Directory, "mounted")
	if err := s.Ready(nil); err == nil {
		t.Error("it is ready without files")
	}
	if err := os.Mkdir(s.Directory, 0o700); err != nil {
		t.Fatal(err)
	}
	store(t, s.Directory, dataOf(t, authority))
	if err := s.Ready(nil); err != nil {
		t.Error(err)
	}
	clock.SetTime(authority.NotAfter())
	if err := s.Ready(nil); err == nil {
		t.Error("it is ready under an authority that ended")
	}
}

func TestServerSpeaksTLS13(t *testing.T) {
	s, _, _ := newServer(t)
	s.Clock = testingclock.NewFakePassiveClock(time.Now())
	authority := newAuthority(t, time.Now())
	store(t, s.Directory, dataOf(t, authority))
	config := &tls.Config{}
	s.Configure(config)
	listener, err := tls.Listen("tcp", "127.0.0.1:0", config)
	if err != nil {
		t.Fatal(err)
	}
	defer listener.Close()
	go func() {
		for {
			connection, err := listener.Accept()
			if err != nil {
				return
			}
			go func() {
				_ = connection.(*tls.Conn).Handshake()
				connection.Close()
			}()
		}
	}()
	roots := x509.NewCertPool()
	roots.AppendCertsFromPEM(authority.CertificatePEM())
	dial := func(limit uint16) error {
		dialer := &net.Dialer{Timeout: 10 * time.Second}
		connection, err := tls.DialWithDialer(dialer, "tcp", listener.Addr().String(), &tls.Config{RootCAs: roots, ServerName: host, MaxVersion: limit})
		if err != nil {
			return err
		}
		return connection.Close()
	}
	if err := dial(tls.VersionTLS13); err != nil {
		t.Error(err)
	}
	if err := dial(tls.VersionTLS12); err == nil {
		t.Error("it speaks TLS 1.2")
	}
	var wait sync.WaitGroup
	for range 16 {
		wait.Go(func() {
			if err := dial(tls.VersionTLS13); err != nil {
				t.Error(err)
			}
		})
	}
	wait.Wait()
}

func TestKeysAreNotPrinted(t *testing.T) {
	s, _, authority := newServer(t)
	if err := s.Ready(nil); err != nil {
		t.Fatal(err)
	}
	_, err := Parse(map[string][]byte{keyFormatVersion: []byte("1"), keyCertificate: authority.CertificatePEM(), keyPrivateKey: []byte("secret-bytes")}, start)
	for _, verb := range []string{"%v", "%+v", "%#v", "%s"} {
		if text := fmt.Sprintf(verb, s); len(text) > 200 || strings.Contains(text, "PRIVATE") {
			t.Errorf("%s prints %q", verb, text)
		}
		if text := fmt.Sprintf(verb, err); strings.Contains(text, "secret-bytes") {
			t.Errorf("%s prints %q", verb, text)
		}
	}
}
