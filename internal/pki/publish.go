package pki

import (
	"crypto/x509"
	"time"
)

// VerifyPair returns nil if a peer that trusts bundle accepts chain (leaf first) at a moment, as server and as client.
// Both the greedy verifier and Go's must accept it. Go's refusal has ReasonGoVerifier.
func VerifyPair(chain, bundle []*x509.Certificate, at time.Time) error {
	if err := verifyGreedy(chain, bundle, at); err != nil {
		return err
	}
	if err := goVerify(chain, bundle, at); err != nil {
		return refuse(ReasonGoVerifier, "Go's verifier refuses the chain: %v", err)
	}
	return nil
}

// goVerify asks Go's verifier, which tries every path, once for each usage: it accepts any one of several usages.
func goVerify(chain, bundle []*x509.Certificate, at time.Time) error {
	options := x509.VerifyOptions{Roots: x509.NewCertPool(), Intermediates: x509.NewCertPool(), CurrentTime: at}
	for _, certificate := range bundle {
		options.Roots.AddCert(certificate)
	}
	for _, certificate := range chain[1:] {
		options.Intermediates.AddCert(certificate)
	}
	for _, usage := range []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth, x509.ExtKeyUsageClientAuth} {
		options.KeyUsages = []x509.ExtKeyUsage{usage}
		if _, err := chain[0].Verify(options); err != nil {
			return err
		}
	}
	return nil
}

// Publishable must return nil before the operator publishes a chain and a bundle, for every chain and bundle that may
// meet. It signs a probe leaf with the issuer, puts the chain (PEM, issuer first) behind it, and verifies it against the
// bundle (PEM) at that moment.
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
	probePEM, _, err := issuer.NewLeaf(LeafOptions{
		CommonName: "probe", DNSNames: []string{"localhost"}, KeyAlgorithm: ECDSAP256, Validity: time.Hour, Now: at,
	})
	if err != nil {
		return err
	}
	probe, err := ParseBundle(probePEM)
	if err != nil {
		return err
	}
	return VerifyPair(append(probe, chain...), bundle, at)
}
