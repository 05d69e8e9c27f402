package pki

import "testing"

// What a new cluster costs: an authority and its first issuer.
func BenchmarkNewCluster(b *testing.B) {
	for _, algorithm := range KeyAlgorithms() {
		b.Run(string(algorithm), func(b *testing.B) {
			for b.Loop() {
				authority, err := NewAuthority(AuthorityOptions{Name: "ml/sample", KeyAlgorithm: algorithm, Validity: 3650 * day, Now: clock()})
				if err != nil {
					b.Fatal(err)
				}
				if _, err := authority.NewIssuer(IssuerOptions{KeyAlgorithm: algorithm, Validity: 730 * day, Now: clock()}); err != nil {
					b.Fatal(err)
				}
			}
		})
	}
}

// What every publication costs: a probe leaf and both verifiers.
func BenchmarkPublishable(b *testing.B) {
	authority := newTestAuthority(b, AuthorityOptions{})
	issuer := newTestIssuer(b, authority, clock())
	chain, bundle := issuer.CertificatePEM(), authority.CertificatePEM()
	for b.Loop() {
		if err := Publishable(issuer, chain, bundle, nil, clock()); err != nil {
			b.Fatal(err)
		}
	}
}

// What a stored pair costs to read and check at every reconcile.
func BenchmarkParseAndCheck(b *testing.B) {
	authority := newTestAuthority(b, AuthorityOptions{})
	issuer := newTestIssuer(b, authority, clock())
	certPEM, keyPEM := issuer.CertificatePEM(), mustKeyPEM(b, issuer)
	for b.Loop() {
		parsed, err := ParseIssuer(certPEM, keyPEM)
		if err != nil {
			b.Fatal(err)
		}
		if err := authority.CheckIssuer(parsed, clock()); err != nil {
			b.Fatal(err)
		}
	}
}
