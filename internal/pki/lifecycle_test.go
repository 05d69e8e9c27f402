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
				{"authority: no pathlen", root.IsCA && root.MaxPathLen == -1},
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
			wantReason(t, Publishable(issuer, issuer.CertificatePEM(), authority.CertificatePEM(), nil, clock()), "")

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

func TestClipping(t *testing.T) {
	second := clock().Truncate(time.Second)
	parentOf := func(from, to time.Duration) *Parent {
		return newTestParent(t, forge{name: "brought", from: from, to: to})
	}
	cases := map[string]struct {
		reason                 string
		parent                 *Parent
		authority, issuer      time.Duration // validities asked for
		later                  time.Duration // when the issuer is made
		notBefore, notAfter    time.Duration // of the authority, from the clock
		issuerBefore, issuerTo time.Duration
	}{
		"no parent": {
			reason: "nothing to clip", authority: 100 * day, issuer: 20 * day,
			notBefore: -day, notAfter: 100 * day, issuerBefore: -day, issuerTo: 20 * day,
		},
		"fresh parent": {
			reason: "the authority starts no earlier than what signed it", parent: parentOf(-time.Minute, 500*day), authority: 100 * day, issuer: 20 * day,
			notBefore: -time.Minute, notAfter: 100 * day, issuerBefore: -time.Minute, issuerTo: 20 * day,
		},
		"short parent": {
			reason: "authority and issuer end with the parent", parent: parentOf(-30*day, 10*day), authority: 100 * day, issuer: 20 * day,
			notBefore: -day, notAfter: 10 * day, issuerBefore: -day, issuerTo: 10 * day,
		},
		"late issuer": {
			reason: "an issuer near the authority's end is cut to it", authority: 100 * day, issuer: 20 * day, later: 90 * day,
			notBefore: -day, notAfter: 100 * day, issuerBefore: 89 * day, issuerTo: 100 * day,
		},
	}
	for name, test := range cases {
		t.Run(name, func(t *testing.T) {
			t.Log(test.reason)
			authority := newTestAuthority(t, AuthorityOptions{Parent: test.parent, Validity: test.authority})
			now := clock().Add(test.later)
			issuer, err := authority.NewIssuer(IssuerOptions{KeyAlgorithm: ECDSAP256, Validity: test.issuer, Now: now})
			if err != nil {
				t.Fatal(err)
			}
			want := func(what string, got time.Time, offset time.Duration) {
				t.Helper()
				// A forged parent's own times have no fraction left either.
				if expected := second.Add(offset); !got.Equal(expected) {
					t.Errorf("%s is %s, want %s", what, got, expected)
				}
			}
			want("the authority's notBefore", authority.NotBefore(), test.notBefore)
			want("the authority's notAfter", authority.NotAfter(), test.notAfter)
			want("the issuer's notBefore", issuer.NotBefore(), test.issuerBefore)
			want("the issuer's notAfter", issuer.NotAfter(), test.issuerTo)
			want("the authority's moment of issue", authority.IssuedAt(), 0)
			want("the issuer's moment of issue", issuer.IssuedAt(), test.later)
			wantReason(t, authority.CheckIssuer(issuer, now), "")
			leaf := newTestLeaf(t, issuer, now)
			if leaf.NotAfter.After(issuer.NotAfter()) || leaf.NotBefore.Before(issuer.NotBefore()) {
				t.Error("the leaf outlives its issuer")
			}
			wantReason(t, Publishable(issuer, issuer.CertificatePEM(), authority.CertificatePEM(), nil, now), "")
		})
	}
}

// Pods trust the authority alone: the brought CA is neither in a chain nor in a bundle.
func TestBroughtParentIsNotNeededToVerify(t *testing.T) {
	for _, algorithm := range []KeyAlgorithm{ECDSAP256, ECDSAP384, RSA2048} {
		parent := newTestParent(t, forge{name: "brought", key: newTestKey(t, algorithm)})
		authority := newTestAuthority(t, AuthorityOptions{Parent: parent})
		issuer := newTestIssuer(t, authority, clock())
		leaf := newTestLeaf(t, issuer, clock())
		wantReason(t, VerifyPair([]*x509.Certificate{leaf, issuer.Certificate()}, []*x509.Certificate{authority.Certificate()}, clock()), "")
		if checkSignature(authority.certificate, parent.ca.certificate) != nil {
			t.Error("the parent did not sign its authority")
		}
		again, err := ParseAuthority(authority.CertificatePEM(), mustKeyPEM(t, authority))
		if err != nil {
			t.Fatal(err)
		}
		if again.ID() != authority.ID() {
			t.Error("the ID changed when the authority was stored")
		}
	}
}

func TestNothingIsMadeOutsideOfTheSignersLife(t *testing.T) {
	authority := newTestAuthority(t, AuthorityOptions{Validity: 10 * day})
	issuer, err := authority.NewIssuer(IssuerOptions{KeyAlgorithm: ECDSAP256, Validity: 5 * day, Now: clock()})
	if err != nil {
		t.Fatal(err)
	}
	parent := newTestParent(t, forge{name: "brought", to: 5 * day})
	newIssuer := func(algorithm KeyAlgorithm, validity, later time.Duration) error {
		_, err := authority.NewIssuer(IssuerOptions{KeyAlgorithm: algorithm, Validity: validity, Now: clock().Add(later)})
		return err
	}
	newLeaf := func(options LeafOptions, later time.Duration) error {
		options.Now, options.KeyAlgorithm = clock().Add(later), ECDSAP256
		_, _, err := issuer.NewLeaf(options)
		return err
	}
	newAuthority := func(options AuthorityOptions) error {
		_, err := NewAuthority(options)
		return err
	}
	name := []string{"localhost"}
	cases := map[string]struct {
		reason string
		err    error
		want   Reason
	}{
		"issuer at the end":         {"an expired authority signs nothing", newIssuer(ECDSAP256, day, 10*day), ReasonExpired},
		"issuer too early":          {"clocks that went back", newIssuer(ECDSAP256, day, -2*day), ReasonNotYetValid},
		"issuer without validity":   {"zero is a mistake of the caller", newIssuer(ECDSAP256, 0, 0), ReasonOptions},
		"issuer's algorithm":        {"a word that is not one of ours", newIssuer("Ed25519", day, 0), ReasonUnsupportedKey},
		"leaf at the end":           {"an expired issuer signs nothing", newLeaf(LeafOptions{DNSNames: name, Validity: day}, 5*day), ReasonExpired},
		"leaf too early":            {"clocks that went back", newLeaf(LeafOptions{DNSNames: name, Validity: day}, -2*day), ReasonNotYetValid},
		"leaf without validity":     {"a negative validity", newLeaf(LeafOptions{DNSNames: name, Validity: -day}, 0), ReasonOptions},
		"leaf without a name":       {"no peer could check it", newLeaf(LeafOptions{Validity: day}, 0), ReasonOptions},
		"leaf with a zone":          {"certificates hold no zones", newLeaf(LeafOptions{IPs: []netip.Addr{netip.MustParseAddr("fe80::1%eth0")}, Validity: day}, 0), ReasonOptions},
		"leaf with no address":      {"the zero address", newLeaf(LeafOptions{IPs: []netip.Addr{{}}, Validity: day}, 0), ReasonOptions},
		"authority, parent ended":   {"the brought CA expired since it was read", newAuthority(AuthorityOptions{KeyAlgorithm: ECDSAP256, Validity: day, Now: clock().Add(5 * day), Parent: parent}), ReasonExpired},
		"authority's algorithm":     {"no algorithm", newAuthority(AuthorityOptions{Validity: day, Now: clock()}), ReasonUnsupportedKey},
		"authority, parent's start": {"the brought CA is not valid yet", newAuthority(AuthorityOptions{KeyAlgorithm: ECDSAP256, Validity: day, Now: clock().Add(-2 * day), Parent: parent}), ReasonNotYetValid},
	}
	for name, test := range cases {
		t.Run(name, func(t *testing.T) {
			t.Log(test.reason)
			wantReason(t, test.err, test.want)
		})
	}
	_, err = generateKey("P256")
	wantReason(t, err, ReasonUnsupportedKey)
}

func TestNames(t *testing.T) {
	longest := strings.Repeat("n", 63) + "/" + strings.Repeat("c", 63)
	for name, want := range map[string]string{
		"ml/sample":              "ml/sample",
		longest:                  longest[:64],
		strings.Repeat("é", 100): strings.Repeat("é", 64),
		"":                       "",
	} {
		first, second := newTestAuthorityNamed(t, name), newTestAuthorityNamed(t, name)
		if got := first.Certificate().Subject.CommonName; got != want {
			t.Errorf("the common name is %q, want %q", got, want)
		}
		if string(first.Certificate().RawSubject) == string(second.Certificate().RawSubject) || first.ID() == second.ID() {
			t.Errorf("two generations of %q share a name or an ID", name)
		}
		issuer := newTestIssuer(t, first, clock())
		if _, err := ParseAuthority(first.CertificatePEM(), mustKeyPEM(t, first)); err != nil {
			t.Errorf("%q: %v", name, err)
		}
		if _, err := ParseIssuer(issuer.CertificatePEM(), mustKeyPEM(t, issuer)); err != nil {
			t.Errorf("%q: %v", name, err)
		}
		wantReason(t, Publishable(issuer, issuer.CertificatePEM(), first.CertificatePEM(), nil, clock()), "")
		wantReason(t, Publishable(issuer, issuer.CertificatePEM(), second.CertificatePEM(), nil, clock()), ReasonNoIssuer)
	}
}

func newTestAuthorityNamed(t *testing.T, name string) *Authority {
	t.Helper()
	authority, err := NewAuthority(AuthorityOptions{Name: name, KeyAlgorithm: ECDSAP256, Validity: 10 * day, Now: clock()})
	if err != nil {
		t.Fatal(err)
	}
	return authority
}

func TestPrintingShowsNoKey(t *testing.T) {
	authority := newTestAuthority(t, AuthorityOptions{Parent: newTestParent(t, forge{name: "brought"})})
	issuer := newTestIssuer(t, authority, clock())
	parent := newTestParent(t, forge{name: "brought"})
	for _, verb := range []string{"%v", "%+v", "%#v", "%s", "%d", "%x"} {
		for _, value := range []any{authority, *authority, issuer, *issuer, parent, *parent} {
			if text := fmt.Sprintf(verb, value); len(text) > 100 {
				t.Errorf("%s of %T prints its inside", verb, value)
			}
		}
	}
}
