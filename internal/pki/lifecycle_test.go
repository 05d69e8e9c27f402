package pki

import (
	"crypto/x509"
	"errors"
	"fmt"
	"net/netip"
	"strings"
	"testing"
	"time"
)

const day = 24 * time.Hour

func clock() time.Time { return time.Date(2026, 3, 1, 12, 30, 15, 999, time.UTC) }

func newTestAuthority(t testing.TB, options AuthorityOptions) *Authority {
	t.Helper()
	if options.Name == "" {
		options.Name = "ml/raycluster-sample"
	}
	if options.KeyAlgorithm == "" {
		options.KeyAlgorithm = ECDSAP256
	}
	if options.Validity == 0 {
		options.Validity = 3650 * day
	}
	if options.Now.IsZero() {
		options.Now = clock()
	}
	authority, err := NewAuthority(options)
	if err != nil {
		t.Fatalf("NewAuthority: %v", err)
	}
	return authority
}

func newTestIssuer(t testing.TB, authority *Authority, now time.Time) *Issuer {
	t.Helper()
	issuer, err := authority.NewIssuer(IssuerOptions{KeyAlgorithm: ECDSAP256, Validity: 730 * day, Now: now})
	if err != nil {
		t.Fatalf("NewIssuer: %v", err)
	}
	return issuer
}

func newTestLeaf(t testing.TB, issuer *Issuer, now time.Time) *x509.Certificate {
	t.Helper()
	certPEM, _, err := issuer.NewLeaf(LeafOptions{
		CommonName: "pod", DNSNames: []string{"localhost"}, IPs: []netip.Addr{netip.MustParseAddr("10.0.0.1")},
		KeyAlgorithm: ECDSAP256, Validity: 365 * day, Now: now,
	})
	if err != nil {
		t.Fatalf("NewLeaf: %v", err)
	}
	return mustBundle(t, certPEM)[0]
}

func mustBundle(t testing.TB, bundlePEM []byte) []*x509.Certificate {
	t.Helper()
	certificates, err := ParseBundle(bundlePEM)
	if err != nil {
		t.Fatalf("ParseBundle: %v", err)
	}
	return certificates
}

func mustKeyPEM(t testing.TB, holder interface{ KeyPEM() ([]byte, error) }) []byte {
	t.Helper()
	keyPEM, err := holder.KeyPEM()
	if err != nil {
		t.Fatalf("KeyPEM: %v", err)
	}
	return keyPEM
}

func wantReason(t *testing.T, err error, reason Reason) {
	t.Helper()
	if reason == "" {
		if err != nil {
			t.Fatalf("got %v, want no error", err)
		}
		return
	}
	if !errors.Is(err, reason) {
		t.Fatalf("got error %v, want reason %s", err, reason)
	}
	var refusal *Error
	if !errors.As(err, &refusal) {
		t.Fatalf("%T is not an *Error", err)
	}
}

func TestProfileOfEveryAlgorithm(t *testing.T) {
	for _, algorithm := range KeyAlgorithms() {
		t.Run(string(algorithm), func(t *testing.T) {
			authority := newTestAuthority(t, AuthorityOptions{KeyAlgorithm: algorithm})
			issuer, err := authority.NewIssuer(IssuerOptions{KeyAlgorithm: algorithm, Validity: 730 * day, Now: clock()})
			if err != nil {
				t.Fatal(err)
			}
			leafPEM, keyPEM, err := issuer.NewLeaf(LeafOptions{
				CommonName: "pod", IPs: []netip.Addr{netip.MustParseAddr("::ffff:10.0.0.1"), netip.MustParseAddr("fd00::1")},
				DNSNames: []string{"localhost"}, KeyAlgorithm: algorithm, Validity: 365 * day, Now: clock(),
			})
			if err != nil {
				t.Fatal(err)
			}
			leaf := mustBundle(t, leafPEM)[0]
			if !strings.HasPrefix(string(keyPEM), "-----BEGIN PRIVATE KEY-----\n") {
				t.Error("the leaf's key is not PKCS#8 PEM")
			}
			root, intermediate := authority.Certificate(), issuer.Certificate()
			second := clock().Truncate(time.Second)
			checks := []struct {
				reason string
				ok     bool
			}{
				{"authority: pathlen 1", root.IsCA && root.MaxPathLen == 1},
				{"issuer: pathlen 0", intermediate.IsCA && intermediate.MaxPathLen == 0 && intermediate.MaxPathLenZero},
				{"leaf: not a CA, said explicitly", leaf.BasicConstraintsValid && !leaf.IsCA},
				{"authority: certSign and crlSign only", root.KeyUsage == x509.KeyUsageCertSign|x509.KeyUsageCRLSign},
				{"issuer: certSign and crlSign only", intermediate.KeyUsage == x509.KeyUsageCertSign|x509.KeyUsageCRLSign},
				{"leaf: serverAuth and clientAuth", len(leaf.ExtKeyUsage) == 2 && leaf.ExtKeyUsage[0] == x509.ExtKeyUsageServerAuth && leaf.ExtKeyUsage[1] == x509.ExtKeyUsageClientAuth},
				{"leaf: keyEncipherment goes with RSA alone", (leaf.KeyUsage == x509.KeyUsageDigitalSignature|x509.KeyUsageKeyEncipherment) == strings.HasPrefix(string(algorithm), "RSA")},
				{"issuer's AKI is the authority's SKI", string(intermediate.AuthorityKeyId) == string(root.SubjectKeyId)},
				{"leaf's AKI is the issuer's SKI", string(leaf.AuthorityKeyId) == string(intermediate.SubjectKeyId)},
				{"AKIs hold the key id only", checkKeyIDs(root) == nil && checkKeyIDs(intermediate) == nil && checkKeyIDs(leaf) == nil},
				{"CAs start a day back", root.NotBefore.Equal(second.Add(-day)) && intermediate.NotBefore.Equal(second.Add(-day))},
				{"leaves start five minutes back", leaf.NotBefore.Equal(second.Add(-5 * time.Minute))},
				{"validity counts from now", root.NotAfter.Equal(second.Add(3650*day)) && intermediate.NotAfter.Equal(second.Add(730*day)) && leaf.NotAfter.Equal(second.Add(365*day))},
				{"the DN holds the key's hash", root.Subject.SerialNumber == fmt.Sprintf("%x", root.SubjectKeyId)},
				{"the IPv4-mapped address became IPv4", len(leaf.IPAddresses[0]) == 4 && len(leaf.IPAddresses[1]) == 16},
				{"the ID is the hash's start", authority.ID() == root.Subject.SerialNumber[:16] && issuer.ID() == intermediate.Subject.SerialNumber[:16]},
			}
			for _, check := range checks {
				if !check.ok {
					t.Errorf("%s: does not hold", check.reason)
				}
			}
			for _, certificate := range []*x509.Certificate{root, intermediate} {
				if err := checkExtensions(certificate); err != nil {
					t.Error(err)
				}
			}
			wantReason(t, VerifyPair([]*x509.Certificate{leaf, intermediate}, []*x509.Certificate{root}, clock()), "")
			wantReason(t, Publishable(issuer, issuer.CertificatePEM(), authority.CertificatePEM(), clock()), "")

			again, err := ParseAuthority(authority.CertificatePEM(), mustKeyPEM(t, authority))
			if err != nil {
				t.Fatal(err)
			}
			issuerAgain, err := ParseIssuer(issuer.CertificatePEM(), mustKeyPEM(t, issuer))
			if err != nil {
				t.Fatal(err)
			}
			wantReason(t, again.CheckIssuer(issuerAgain, clock()), "")
		})
	}
}

func TestSerialsAreRandom(t *testing.T) {
	authority := newTestAuthority(t, AuthorityOptions{})
	seen, longest := map[string]bool{}, 0
	for range 20 {
		serial := newTestIssuer(t, authority, clock()).Certificate().SerialNumber
		seen[serial.String()] = true
		longest = max(longest, serial.BitLen())
	}
	if len(seen) != 20 || longest < 118 || longest > 128 {
		t.Errorf("20 serials: %d differ, the longest has %d bits; want 20 and about 128", len(seen), longest)
	}
}
