package pki

import (
	"crypto/x509"
	"time"
)

// VerifyPair returns nil if a peer that trusts bundle takes chain (leaf first) at a moment, by the greedy verifier and
// by Go's, as server and as client. Go's refusal has ReasonGoVerifier.
func VerifyPair(chain, bundle []*x509.Certificate, at time.Time) error {
	if err := VerifyGreedy(chain, bundle, at); err != nil {
		return err
	}
	if err := goVerify(chain, bundle, at); err != nil {
		return refuse(ReasonGoVerifier, "Go's verifier refuses the chain: %v", err)
	}
	return nil
}

// goVerify asks Go's verifier, which tries every path there is, for both usages.
func goVerify(chain, bundle []*x509.Certificate, at time.Time) error {
	roots, intermediates := x509.NewCertPool(), x509.NewCertPool()
	for _, certificate := range bundle {
		roots.AddCert(certificate)
	}
	for _, certificate := range chain[1:] {
		intermediates.AddCert(certificate)
	}
	for _, usage := range []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth, x509.ExtKeyUsageClientAuth} {
		_, err := chain[0].Verify(x509.VerifyOptions{
			Roots: roots, Intermediates: intermediates, CurrentTime: at, KeyUsages: []x509.ExtKeyUsage{usage},
		})
		if err != nil {
			return err
		}
	}
	return nil
}

// Publishable is what has to return nil before a chain and a bundle are published, for every chain and bundle that may
// meet: it signs a throw-away leaf with the issuer, puts the chain (PEM, issuer first) behind it and verifies it
// against the bundle (PEM) at that moment.
func Publishable(issuer *Issuer, chainPEM, bundlePEM []byte, at time.Time) error {
	chain, err := ParseBundle(chainPEM)
	if err != nil {
		return err
	}
	if !chain[0].Equal(issuer.certificate) {
		return refuse(ReasonProfile, "the chain does not start with issuer %s", issuer.ID())
	}
	bundle, err := ParseBundle(bundlePEM)
	if err != nil {
		return err
	}
	key, err := GenerateKey(ECDSAP256)
	if err != nil {
		return err
	}
	probe, err := issuer.signLeaf(key.Public(), LeafOptions{
		CommonName: "probe", DNSNames: []string{"localhost"}, Validity: time.Hour, Now: at,
	})
	if err != nil {
		return err
	}
	return VerifyPair(append([]*x509.Certificate{probe}, chain...), bundle, at)
}
