package pki

import (
	"bytes"
	"crypto/x509"
	"slices"
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

// Peer is what pods present and trust whose files were written before.
type Peer struct {
	// Chain begins with a leaf, and Bundle holds what it trusts.
	Chain, Bundle []*x509.Certificate
}

// Publishable must return nil before the operator publishes a chain and a bundle (both PEM, the chain with the issuer first). It
// signs a leaf with the issuer, and verifies it with that chain against that bundle. It does so for each peer that may meet such
// a pod, in both directions. Every pair must hold at that moment, and in the last second in which both leaves are valid. No file
// may hold a subject twice, or a certificate that is not valid at that moment.
func Publishable(issuer *Issuer, chainPEM, bundlePEM []byte, peers []Peer, at time.Time) error {
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
	leaf, err := issuer.specimen(at)
	if err != nil {
		return err
	}
	own := Peer{Chain: append([]*x509.Certificate{leaf}, chain...), Bundle: bundle}
	for _, file := range [][]*x509.Certificate{own.Chain, own.Bundle} {
		if err := checkFile(file, at); err != nil {
			return err
		}
	}
	for _, peer := range append([]Peer{own}, peers...) {
		if err := meet(own, peer, at); err != nil {
			return err
		}
	}
	return nil
}

// meet verifies two peers, now and in the last second in which both their leaves are valid.
func meet(a, b Peer, at time.Time) error {
	last := slices.MinFunc([]time.Time{a.Chain[0].NotAfter, b.Chain[0].NotAfter}, time.Time.Compare).Add(-time.Second)
	for _, moment := range []time.Time{at, last} {
		if err := VerifyPair(a.Chain, b.Bundle, moment); err != nil {
			return err
		}
		if err := VerifyPair(b.Chain, a.Bundle, moment); err != nil {
			return err
		}
	}
	return nil
}

// checkFile refuses a file from which verifiers would have to choose, or that holds what they would refuse.
func checkFile(file []*x509.Certificate, at time.Time) error {
	for index, certificate := range file {
		if slices.ContainsFunc(file[:index], func(c *x509.Certificate) bool { return bytes.Equal(c.RawSubject, certificate.RawSubject) }) {
			return refuse(ReasonProfile, "subject %q is in one file twice", certificate.Subject)
		}
		if err := checkTime(certificate, at, "a certificate"); err != nil {
			return err
		}
	}
	return nil
}
