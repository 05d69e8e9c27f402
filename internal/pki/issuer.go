package pki

import (
	"bytes"
	"crypto"
	"crypto/x509"
	"fmt"
	"time"
)

// Issuer is the short-lived CA under an authority whose key signs leaves.
type Issuer struct {
	certificate *x509.Certificate
	key         crypto.Signer
}

// IssuerOptions says what issuer to make.
type IssuerOptions struct {
	KeyAlgorithm KeyAlgorithm
	// Validity from Now on; cut to the authority's end.
	Validity time.Duration
	// Now is the moment of issue; fractions of a second are dropped.
	Now time.Time
}

// NewIssuer makes a key and its certificate (pathlen 0) under the authority, valid from 24 hours before Now or the
// authority's own start. It fails with ReasonExpired or ReasonNotYetValid if the authority is not valid at Now.
func (a *Authority) NewIssuer(options IssuerOptions) (*Issuer, error) {
	key, err := GenerateKey(options.KeyAlgorithm)
	if err != nil {
		return nil, err
	}
	certificate, err := newCA(roleIssuer, a.certificate.Subject.CommonName, key, issuerPathLength, options.Now, options.Validity,
		a.certificate, a.key)
	if err != nil {
		return nil, err
	}
	return &Issuer{certificate: certificate, key: key}, nil
}

// ParseIssuer reads back what CertificatePEM and KeyPEM wrote. Anything that differs from that by a byte, or that is
// not an issuer's profile, is refused. Who signed it and the time are CheckIssuer's.
func ParseIssuer(certPEM, keyPEM []byte) (*Issuer, error) {
	certificate, key, err := parseCanonicalPair(certPEM, keyPEM)
	if err != nil {
		return nil, err
	}
	if err := checkCAProfile(roleIssuer, certificate, issuerPathLength); err != nil {
		return nil, err
	}
	return &Issuer{certificate: certificate, key: key}, nil
}

// CheckIssuer returns nil if the issuer is this authority's, lies within its life and is valid at now. Otherwise the
// reason is ReasonNoIssuer or ReasonSignature (another authority's), ReasonProfile, ReasonExpired or
// ReasonNotYetValid.
func (a *Authority) CheckIssuer(i *Issuer, now time.Time) error {
	certificate := i.certificate
	if !bytes.Equal(certificate.RawIssuer, a.certificate.RawSubject) || !bytes.Equal(certificate.AuthorityKeyId, a.certificate.SubjectKeyId) {
		return refuse(ReasonNoIssuer, "issuer %s was signed by another authority than %s", i.ID(), a.ID())
	}
	if err := checkCAProfile(roleIssuer, certificate, issuerPathLength); err != nil {
		return err
	}
	if err := checkSignature(certificate, a.certificate); err != nil {
		return err
	}
	if certificate.NotBefore.Before(a.certificate.NotBefore) || certificate.NotAfter.After(a.certificate.NotAfter) {
		return refuse(ReasonProfile, "issuer %s outlives authority %s", i.ID(), a.ID())
	}
	if err := checkTime(a.certificate, now, "authority "+a.ID()); err != nil {
		return err
	}
	return checkTime(certificate, now, "issuer "+i.ID())
}

// ID is 16 hex digits that stay with the issuer's key.
func (i *Issuer) ID() string { return shortID(i.certificate) }

// Certificate returns the issuer's certificate, which the caller must not change.
func (i *Issuer) Certificate() *x509.Certificate { return i.certificate }

// CertificatePEM returns the certificate as one PEM block.
func (i *Issuer) CertificatePEM() []byte { return encodeCertificate(i.certificate.Raw) }

// KeyPEM returns the private key as one PKCS#8 PEM block.
func (i *Issuer) KeyPEM() ([]byte, error) { return encodeKey(i.key) }

// NotBefore is where the certificate's validity starts.
func (i *Issuer) NotBefore() time.Time { return i.certificate.NotBefore }

// NotAfter is where the certificate's validity ends.
func (i *Issuer) NotAfter() time.Time { return i.certificate.NotAfter }

// IssuedAt is the moment of issue, to the second, with the backdating undone, also where notBefore was clipped.
func (i *Issuer) IssuedAt() time.Time {
	// Both constructors have made sure that it can be read.
	issuedAt, _ := issueTime(roleIssuer, i.certificate)
	return issuedAt
}

// Format keeps the private key out of whatever prints the value.
func (i Issuer) Format(state fmt.State, _ rune) {
	fmt.Fprintf(state, "issuer %s", shortID(i.certificate))
}
