package pki

import (
	"bytes"
	"testing"
	"time"
)

func FuzzParseBundle(f *testing.F) {
	one := newTestAuthority(f, AuthorityOptions{}).CertificatePEM()
	two := newTestAuthority(f, AuthorityOptions{KeyAlgorithm: RSA2048}).CertificatePEM()
	f.Add(one)
	f.Add(append(bytes.Clone(one), two...))
	f.Add(append([]byte("# text\n"), one...))
	f.Add(bytes.ReplaceAll(one, []byte("\n"), []byte("\r\n")))
	f.Add([]byte("-----BEGIN CERTIFICATE-----\n-----END CERTIFICATE-----\n"))
	f.Fuzz(func(t *testing.T, input []byte) {
		defer time.AfterFunc(time.Minute, func() { panic("one input takes longer than a minute") }).Stop()
		certificates, err := ParseBundle(input)
		if err != nil {
			return
		}
		if len(certificates) == 0 || len(certificates) > maxBundleCertificates {
			t.Fatalf("%d certificates were accepted", len(certificates))
		}
		if !bytes.Equal(EncodeBundle(certificates...), input) {
			t.Fatal("accepted, but not the encoder's output")
		}
		// Whatever can be parsed must not upset the verifiers.
		_ = VerifyPair(certificates, certificates, clock())
	})
}

func FuzzParseParent(f *testing.F) {
	for _, algorithm := range []KeyAlgorithm{ECDSAP256, RSA2048} {
		certPEM, keyPEM := parentPair(f, forge{name: "brought", key: newTestKey(f, algorithm)})
		f.Add(certPEM, keyPEM)
		f.Add(append(bytes.Clone(certPEM), certPEM...), append([]byte("-----BEGIN EC PARAMETERS-----\nBggqhkjOPQMBBw==\n-----END EC PARAMETERS-----\n"), keyPEM...))
	}
	certPEM, _ := parentPair(f, forge{name: "brought"})
	f.Add(certPEM, []byte("-----BEGIN ENCRYPTED PRIVATE KEY-----\nAAAA\n-----END ENCRYPTED PRIVATE KEY-----\n"))
	f.Add(certPEM, []byte("-----BEGIN RSA PRIVATE KEY-----\nDEK-Info: AES-256-CBC,00\n\nAAAA\n-----END RSA PRIVATE KEY-----\n"))
	f.Add(certPEM, []byte("-----BEGIN EC PRIVATE KEY-----\nAAAA\n-----END EC PRIVATE KEY-----\n"))
	f.Fuzz(func(t *testing.T, certPEM, keyPEM []byte) {
		defer time.AfterFunc(time.Minute, func() { panic("one input takes longer than a minute") }).Stop()
		parent, err := ParseParent(certPEM, keyPEM, clock())
		if err != nil {
			return
		}
		authority, err := NewAuthority(AuthorityOptions{Name: "ml/fuzz", KeyAlgorithm: ECDSAP256, Validity: day, Now: clock(), Parent: parent})
		if err != nil {
			t.Fatalf("a parent that was accepted cannot sign: %v", err)
		}
		if authority.NotAfter().After(parent.NotAfter()) {
			t.Fatal("the authority outlives its parent")
		}
	})
}

func FuzzParseIssuer(f *testing.F) {
	authority := newTestAuthority(f, AuthorityOptions{})
	issuer := newTestIssuer(f, authority, clock())
	rsaIssuer, err := authority.NewIssuer(IssuerOptions{KeyAlgorithm: RSA2048, Validity: day, Now: clock()})
	if err != nil {
		f.Fatal(err)
	}
	f.Add(issuer.CertificatePEM(), mustKeyPEM(f, issuer))
	f.Add(rsaIssuer.CertificatePEM(), mustKeyPEM(f, rsaIssuer))
	f.Add(authority.CertificatePEM(), mustKeyPEM(f, authority))
	f.Add(issuer.CertificatePEM(), mustKeyPEM(f, rsaIssuer))
	f.Fuzz(func(t *testing.T, certPEM, keyPEM []byte) {
		defer time.AfterFunc(time.Minute, func() { panic("one input takes longer than a minute") }).Stop()
		parsed, err := ParseIssuer(certPEM, keyPEM)
		if err != nil {
			return
		}
		if !bytes.Equal(parsed.CertificatePEM(), certPEM) || !bytes.Equal(mustKeyPEM(t, parsed), keyPEM) {
			t.Fatal("accepted, but not what would be stored")
		}
		_ = authority.CheckIssuer(parsed, clock())
		_ = parsed.IssuedAt()
	})
}
