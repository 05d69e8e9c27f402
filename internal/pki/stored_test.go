package pki

import (
	"bytes"
	"crypto/x509"
	"encoding/pem"
	"strings"
	"testing"
	"time"
)

// flip changes one bit of one byte.
func flip(text []byte, index int) []byte {
	altered := bytes.Clone(text)
	altered[index] ^= 1
	return altered
}

func TestEveryAlterationOfAStoredIssuerIsSeen(t *testing.T) {
	authority := newTestAuthority(t, AuthorityOptions{})
	issuer := newTestIssuer(t, authority, clock())
	certPEM, keyPEM := issuer.CertificatePEM(), mustKeyPEM(t, issuer)
	seen := func(certPEM, keyPEM []byte) bool {
		parsed, err := ParseIssuer(certPEM, keyPEM)
		return err != nil || authority.CheckIssuer(parsed, clock()) != nil
	}
	if seen(certPEM, keyPEM) {
		t.Fatal("the stored issuer itself is refused")
	}
	for index := range certPEM {
		if !seen(flip(certPEM, index), keyPEM) {
			t.Errorf("a changed byte %d of the certificate is not seen", index)
		}
	}
	for index := range keyPEM {
		if !seen(certPEM, flip(keyPEM, index)) {
			t.Errorf("a changed byte %d of the key is not seen", index)
		}
	}
	other := newTestIssuer(t, authority, clock())
	otherKey := mustKeyPEM(t, other)
	withCR := func(text []byte) []byte { return bytes.ReplaceAll(text, []byte("\n"), []byte("\r\n")) }
	for reason, pair := range map[string][2][]byte{
		"empty":                        {nil, nil},
		"no key":                       {certPEM, nil},
		"no certificate":               {nil, keyPEM},
		"another issuer's key":         {certPEM, otherKey},
		"a byte after the certificate": {append(bytes.Clone(certPEM), '\n'), keyPEM},
		"a byte before the key":        {certPEM, append([]byte("\n"), keyPEM...)},
		"a byte after the key":         {certPEM, append(bytes.Clone(keyPEM), ' ')},
		"carriage returns":             {withCR(certPEM), withCR(keyPEM)},
		"two certificates":             {append(bytes.Clone(certPEM), other.CertificatePEM()...), keyPEM},
		"two keys":                     {certPEM, append(bytes.Clone(keyPEM), otherKey...)},
		"swapped":                      {keyPEM, certPEM},
		"the authority in its place":   {authority.CertificatePEM(), mustKeyPEM(t, authority)},
		"a huge key":                   {certPEM, bytes.Repeat([]byte("A"), maxKeyBytes+1)},
	} {
		if _, err := ParseIssuer(pair[0], pair[1]); err == nil {
			t.Errorf("%s: accepted", reason)
		}
	}
}

func TestParseAuthorityRefusals(t *testing.T) {
	authority := newTestAuthority(t, AuthorityOptions{})
	keyPEM := mustKeyPEM(t, authority)
	issuer := newTestIssuer(t, authority, clock())
	foreign := forge{name: "foreign"}.make(t)
	foreignKey, err := encodeKey(foreign.key)
	if err != nil {
		t.Fatal(err)
	}
	// The last bytes are the signature's.
	der := bytes.Clone(authority.Certificate().Raw)
	der[len(der)-1] ^= 1
	cases := map[string]struct {
		reason    string
		cert, key []byte
		want      Reason
	}{
		"as stored":      {"what we wrote", authority.CertificatePEM(), keyPEM, ""},
		"issuer":         {"an issuer is not an authority", issuer.CertificatePEM(), mustKeyPEM(t, issuer), ReasonProfile},
		"foreign CA":     {"a CA that we did not make", encodeCertificate(foreign.certificate.Raw), foreignKey, ReasonProfile},
		"signature":      {"a self-signed authority with a broken signature", encodeCertificate(der), keyPEM, ReasonSignature},
		"mismatch":       {"another key", authority.CertificatePEM(), foreignKey, ReasonKeyMismatch},
		"not PEM":        {"garbage", []byte("garbage"), keyPEM, ReasonMalformed},
		"key not PEM":    {"garbage", authority.CertificatePEM(), []byte("garbage"), ReasonMalformed},
		"key not PKCS#8": {"a PKCS#8 block with garbage in it", authority.CertificatePEM(), pem.EncodeToMemory(&pem.Block{Type: blockPKCS8, Bytes: []byte("garbage")}), ReasonMalformed},
	}
	for name, test := range cases {
		t.Run(name, func(t *testing.T) {
			t.Log(test.reason)
			_, err := ParseAuthority(test.cert, test.key)
			wantReason(t, err, test.want)
		})
	}
}

func TestCheckCAProfileRefusals(t *testing.T) {
	good := newTestIssuer(t, newTestAuthority(t, AuthorityOptions{}), clock()).Certificate()
	for reason, alter := range map[string]func(*x509.Certificate){
		"not a CA":                   func(c *x509.Certificate) { c.IsCA = false },
		"no basic constraints":       func(c *x509.Certificate) { c.BasicConstraintsValid = false },
		"another path length":        func(c *x509.Certificate) { c.MaxPathLen = 1 },
		"another key usage":          func(c *x509.Certificate) { c.KeyUsage |= x509.KeyUsageDigitalSignature },
		"an extension is missing":    func(c *x509.Certificate) { c.Extensions = c.Extensions[1:] },
		"an extension is critical":   func(c *x509.Certificate) { c.Extensions[2].Critical = true; c.Extensions[3].Critical = true },
		"another key identifier":     func(c *x509.Certificate) { c.SubjectKeyId = []byte("another") },
		"another moment's format":    func(c *x509.Certificate) { c.Subject.OrganizationalUnit = []string{"issuer yesterday"} },
		"another role":               func(c *x509.Certificate) { c.Subject.OrganizationalUnit = []string{"authority 2026-03-01T12:30:15Z"} },
		"no moment of issue":         func(c *x509.Certificate) { c.Subject.OrganizationalUnit = nil },
		"a name that is not rebuilt": func(c *x509.Certificate) { c.RawSubject = flip(c.RawSubject, len(c.RawSubject)-1) },
	} {
		altered, err := x509.ParseCertificate(good.Raw)
		if err != nil {
			t.Fatal(err)
		}
		alter(altered)
		if err := checkCAProfile(roleIssuer, altered); err == nil {
			t.Errorf("%s: accepted", reason)
		} else {
			wantReason(t, err, ReasonProfile)
		}
	}
	wantReason(t, checkCAProfile(roleIssuer, good), "")
}

func TestCheckIssuer(t *testing.T) {
	authority := newTestAuthority(t, AuthorityOptions{Validity: 100 * day})
	issuer, err := authority.NewIssuer(IssuerOptions{KeyAlgorithm: ECDSAP256, Validity: 20 * day, Now: clock()})
	if err != nil {
		t.Fatal(err)
	}
	other := newTestAuthority(t, AuthorityOptions{})
	// The same key and name with a shorter life: what the authority would be after somebody edited its Secret.
	short := &Authority{resigned(t, authority, authority.certificate.Subject.CommonName, 10*day)}
	renamed := &Authority{resigned(t, authority, "another/name", 100*day)}
	impersonated := &Authority{ca{key: other.key, certificate: authority.certificate}}
	forged := newTestIssuer(t, impersonatedSigner(t, impersonated), clock())
	cases := map[string]struct {
		reason    string
		authority *Authority
		issuer    *Issuer
		at        time.Time
		want      Reason
	}{
		"fresh":           {"as made", authority, issuer, clock(), ""},
		"last second":     {"still valid", authority, issuer, issuer.NotAfter().Add(-time.Second), ""},
		"expired":         {"at notAfter", authority, issuer, issuer.NotAfter(), ReasonExpired},
		"not yet valid":   {"before notBefore", authority, issuer, issuer.NotBefore().Add(-time.Second), ReasonNotYetValid},
		"other authority": {"another cluster's issuer", other, issuer, clock(), ReasonNoIssuer},
		"forged":          {"right names, wrong signature", authority, forged, clock(), ReasonSignature},
		"renamed":         {"the right key under another name: verifiers look for the name", renamed, issuer, clock(), ReasonNoIssuer},
		"outlives":        {"it would end after the authority", short, issuer, clock(), ReasonProfile},
	}
	for name, test := range cases {
		t.Run(name, func(t *testing.T) {
			t.Log(test.reason)
			wantReason(t, test.authority.CheckIssuer(test.issuer, test.at), test.want)
		})
	}
}

func resigned(t *testing.T, authority *Authority, name string, validity time.Duration) ca {
	t.Helper()
	made, err := newCA(roleAuthority, name, authority.key, clock(), validity, nil)
	if err != nil {
		t.Fatal(err)
	}
	return made
}

// impersonatedSigner gives another key the authority's name and key identifier: the standard library checks what it
// signs, so the certificate's public key has to be the other one's.
func impersonatedSigner(t *testing.T, impersonated *Authority) *Authority {
	t.Helper()
	certificate := *impersonated.certificate
	certificate.PublicKey = impersonated.key.Public()
	return &Authority{ca{key: impersonated.key, certificate: &certificate}}
}

func TestPublishable(t *testing.T) {
	authority := newTestAuthority(t, AuthorityOptions{})
	issuer := newTestIssuer(t, authority, clock())
	other := newTestIssuer(t, authority, clock())
	chain, bundle := issuer.CertificatePEM(), authority.CertificatePEM()
	cases := map[string]struct {
		reason        string
		chain, bundle []byte
		at            time.Time
		want          Reason
	}{
		"good":           {"what gets published", chain, bundle, clock(), ""},
		"other issuer":   {"leaves would carry the wrong issuer", other.CertificatePEM(), bundle, clock(), ReasonProfile},
		"no chain":       {"nothing to publish", nil, bundle, clock(), ReasonMalformed},
		"no bundle":      {"nothing to trust", chain, nil, clock(), ReasonMalformed},
		"damaged bundle": {"gRPC would stop there in silence", chain, append([]byte("x"), bundle...), clock(), ReasonMalformed},
		"too late":       {"an expired issuer", chain, bundle, issuer.NotAfter(), ReasonExpired},
	}
	for name, test := range cases {
		t.Run(name, func(t *testing.T) {
			t.Log(test.reason)
			wantReason(t, Publishable(issuer, test.chain, test.bundle, nil, test.at), test.want)
		})
	}
}

func TestParseBundle(t *testing.T) {
	one, two := newTestAuthority(t, AuthorityOptions{}).CertificatePEM(), newTestAuthority(t, AuthorityOptions{}).CertificatePEM()
	join := func(parts ...[]byte) []byte { return bytes.Join(parts, nil) }
	var many [][]byte
	for range maxBundleCertificates + 1 {
		many = append(many, forge{name: "one of many"}.make(t).certificate.Raw)
	}
	encode := func(ders [][]byte) (out []byte) {
		for _, der := range ders {
			out = append(out, encodeCertificate(der)...)
		}
		return out
	}
	cases := map[string]struct {
		reason string
		input  []byte
		count  int
		want   Reason
	}{
		"one":             {"a root", one, 1, ""},
		"two":             {"two generations", join(one, two), 2, ""},
		"full":            {"as many as allowed", encode(many[1:]), maxBundleCertificates, ""},
		"one too many":    {"over the cap", encode(many), 0, ReasonTooLarge},
		"too long":        {"over the cap, not parsed at all", bytes.Repeat([]byte("A"), maxBundleBytes+1), 0, ReasonTooLarge},
		"empty":           {"no certificate", nil, 0, ReasonMalformed},
		"newline":         {"only white space", []byte("\n"), 0, ReasonMalformed},
		"twice":           {"a copy", join(one, two, one), 0, ReasonMalformed},
		"text before":     {"gRPC would skip it; we never write it", join([]byte("# CA\n"), one), 0, ReasonMalformed},
		"text between":    {"stray data", join(one, []byte("x\n"), two), 0, ReasonMalformed},
		"text after":      {"stray data", join(one, []byte("x")), 0, ReasonMalformed},
		"empty line":      {"stray white space", join(one, []byte("\n"), two), 0, ReasonMalformed},
		"malformed first": {"gRPC would stop here and trust nothing", join(bytes.Replace(one, []byte("MII"), []byte("!!!"), 1), two), 0, ReasonMalformed},
		"malformed last":  {"gRPC would not see the second", join(one, bytes.Replace(two, []byte("MII"), []byte("!!!"), 1)), 0, ReasonMalformed},
		"cut off":         {"a half-written bundle", join(one, two[:len(two)-30]), 0, ReasonMalformed},
		"private key":     {"a key must never be in a bundle", pem.EncodeToMemory(&pem.Block{Type: blockPKCS8, Bytes: []byte("x")}), 0, ReasonMalformed},
		"header":          {"PEM headers", pem.EncodeToMemory(&pem.Block{Type: blockCertificate, Headers: map[string]string{"a": "b"}, Bytes: []byte("x")}), 0, ReasonMalformed},
		"not X.509":       {"a block without a certificate in it", encodeCertificate([]byte("x")), 0, ReasonMalformed},
		"trailing DER":    {"bytes after the certificate inside the block", encodeCertificate(append(bytes.Clone(many[0]), 0)), 0, ReasonMalformed},
	}
	for name, test := range cases {
		t.Run(name, func(t *testing.T) {
			t.Log(test.reason)
			certificates, err := ParseBundle(test.input)
			wantReason(t, err, test.want)
			if len(certificates) != test.count {
				t.Errorf("got %d certificates, want %d", len(certificates), test.count)
			}
			if err == nil && !bytes.Equal(EncodeBundle(certificates...), test.input) {
				t.Error("writing it again gives other bytes")
			}
			if err != nil && strings.Contains(err.Error(), "BEGIN") {
				t.Error("the error quotes the input")
			}
		})
	}
}

func TestChecksOfKeysAndSignatures(t *testing.T) {
	root := forge{name: "root"}.make(t).certificate
	for _, algorithm := range []x509.SignatureAlgorithm{x509.SHA1WithRSA, x509.ECDSAWithSHA1, x509.PureEd25519, x509.SHA256WithRSAPSS, x509.MD5WithRSA} {
		child := *root
		child.SignatureAlgorithm = algorithm
		wantReason(t, checkSignature(&child, root), ReasonSignature)
	}
	wantReason(t, checkSignature(root, root), "")
}
