package pki

import (
	"bytes"
	"time"
)

// Issuer is the short-lived CA under an authority whose key signs leaves.
type Issuer struct{ ca }

// IssuerOptions describe a new issuer.
type IssuerOptions struct {
	KeyAlgorithm KeyAlgorithm
	// Validity counts from Now. The issuer ends with its authority at the latest.
	Validity time.Duration
	// Now is the moment of issue, cut to whole seconds.
	Now time.Time
}

// NewIssuer makes a key and its certificate with pathlen 0, signed by the authority. The certificate is valid from 24
// hours before Now, or from the authority's own start if that is later. It fails with ReasonExpired or
// ReasonNotYetValid if the authority is not valid at Now.
func (a *Authority) NewIssuer(options IssuerOptions) (*Issuer, error) {
	key, err := generateKey(options.KeyAlgorithm)
	if err != nil {
		return nil, err
	}
	made, err := newCA(roleIssuer, a.certificate.Subject.CommonName, key, options.Now, options.Validity, &a.ca)
	if err != nil {
		return nil, err
	}
	return &Issuer{made}, nil
}

// ParseIssuer reads what CertificatePEM and KeyPEM wrote. It refuses anything that differs by a byte, and any
// certificate without an issuer's profile. CheckIssuer checks the signature and the time.
func ParseIssuer(certPEM, keyPEM []byte) (*Issuer, error) {
	read, err := parseCA(roleIssuer, certPEM, keyPEM)
	if err != nil {
		return nil, err
	}
	return &Issuer{read}, nil
}

// CheckIssuer returns nil if this authority signed the issuer, and the issuer lies within its life and is valid at now.
// Another authority's issuer has ReasonNoIssuer or ReasonSignature. The other reasons are ReasonProfile, ReasonExpired
// and ReasonNotYetValid.
func (a *Authority) CheckIssuer(i *Issuer, now time.Time) error {
	certificate := i.certificate
	if !bytes.Equal(certificate.RawIssuer, a.certificate.RawSubject) || !bytes.Equal(certificate.AuthorityKeyId, a.certificate.SubjectKeyId) {
		return refuse(ReasonNoIssuer, "issuer %s was signed by another authority than %s", i.ID(), a.ID())
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
