package pki

import (
	"bytes"
	"crypto"
	"crypto/x509"
	"encoding/asn1"
	"fmt"
	"slices"
	"time"
)

const (
	caBackdating = 24 * time.Hour
	caKeyUsage   = x509.KeyUsageCertSign | x509.KeyUsageCRLSign
	idBytes      = 8
)

// ca is a CA certificate with its private key.
type ca struct {
	role        role
	certificate *x509.Certificate
	key         crypto.Signer
}

// newCA makes a CA certificate for key. The parent signs it; without one, key does.
func newCA(r role, name string, key crypto.Signer, now time.Time, length time.Duration, parent *ca) (ca, error) {
	notBefore, notAfter, err := validity(now, caBackdating, length, parent)
	if err != nil {
		return ca{}, err
	}
	keyID, err := subjectKeyID(key.Public())
	if err != nil {
		return ca{}, err
	}
	template := &x509.Certificate{
		Subject:               subject(r, name, keyID, now.UTC().Truncate(time.Second)),
		NotBefore:             notBefore,
		NotAfter:              notAfter,
		KeyUsage:              caKeyUsage,
		BasicConstraintsValid: true,
		IsCA:                  true,
		MaxPathLen:            r.pathLength(),
		MaxPathLenZero:        r.pathLength() == 0,
		SubjectKeyId:          keyID,
	}
	if parent == nil {
		parent = &ca{certificate: template, key: key}
	}
	certificate, err := parent.sign(template, key.Public())
	return ca{role: r, certificate: certificate, key: key}, err
}

// parseCA reads a certificate and a key that this package wrote for the role, and nothing that differs by a byte.
func parseCA(r role, certPEM, keyPEM []byte) (ca, error) {
	certificates, err := ParseBundle(certPEM)
	if err != nil {
		return ca{}, err
	}
	if len(certificates) != 1 {
		return ca{}, refuse(ReasonMalformed, "there are %d certificates where one is expected", len(certificates))
	}
	certificate := certificates[0]
	if err := checkPublicKey(certificate.PublicKey); err != nil {
		return ca{}, err
	}
	key, err := parseCanonicalKey(keyPEM)
	if err != nil {
		return ca{}, err
	}
	if !samePublicKey(certificate, key) {
		return ca{}, refuse(ReasonKeyMismatch, "the private key does not belong to the certificate")
	}
	return ca{role: r, certificate: certificate, key: key}, checkCAProfile(r, certificate)
}

// checkCAProfile refuses a CA certificate that newCA would not have made for the role.
func checkCAProfile(r role, certificate *x509.Certificate) error {
	wrong := func(what string) error {
		return refuse(ReasonProfile, "the %s certificate was not made by this operator: %s", r, what)
	}
	if !certificate.BasicConstraintsValid || !certificate.IsCA {
		return wrong("it is not a CA")
	}
	if certificate.MaxPathLen != r.pathLength() {
		return wrong("its path length differs")
	}
	if certificate.KeyUsage != caKeyUsage {
		return wrong("its key usage differs")
	}
	if err := checkExtensions(certificate); err != nil {
		return wrong(err.Error())
	}
	keyID, err := subjectKeyID(certificate.PublicKey)
	if err != nil {
		return err
	}
	if !bytes.Equal(keyID, certificate.SubjectKeyId) {
		return wrong("its subject key identifier is not its key's hash")
	}
	issuedAt, err := issueTime(r, certificate)
	if err != nil {
		return err
	}
	expected, err := asn1.Marshal(subject(r, certificate.Subject.CommonName, keyID, issuedAt).ToRDNSequence())
	if err != nil {
		return fmt.Errorf("encoding a distinguished name: %w", err)
	}
	if !bytes.Equal(expected, certificate.RawSubject) {
		return wrong("its name differs")
	}
	return nil
}

// checkExtensions accepts exactly the extensions of a CA: two critical ones and two key identifiers.
func checkExtensions(certificate *x509.Certificate) error {
	critical := []asn1.ObjectIdentifier{oidKeyUsage, oidBasicConstraints}
	plain := []asn1.ObjectIdentifier{oidSubjectKeyID, oidAuthorityKeyID}
	for _, extension := range certificate.Extensions {
		allowed := plain
		if extension.Critical {
			allowed = critical
		}
		if !slices.ContainsFunc(allowed, extension.Id.Equal) {
			return fmt.Errorf("extension %s is not expected", extension.Id)
		}
	}
	if len(certificate.Extensions) != len(critical)+len(plain) {
		return fmt.Errorf("it has %d extensions", len(certificate.Extensions))
	}
	return nil
}

// ID returns the first 64 bits of the key's hash, in hexadecimal. They tell the generations of one cluster apart.
func (c ca) ID() string { return IDOf(c.certificate) }

// Certificate returns the certificate, which the caller must not change.
func (c ca) Certificate() *x509.Certificate { return c.certificate }

// CertificatePEM returns the certificate as one PEM block.
func (c ca) CertificatePEM() []byte { return encodeCertificate(c.certificate.Raw) }

// KeyPEM returns the private key as one PKCS#8 PEM block.
func (c ca) KeyPEM() ([]byte, error) { return encodeKey(c.key) }

// NotBefore returns the start of the certificate's validity.
func (c ca) NotBefore() time.Time { return c.certificate.NotBefore }

// NotAfter returns the end of the certificate's validity.
func (c ca) NotAfter() time.Time { return c.certificate.NotAfter }

// IssuedAt returns the moment of issue to the second, which backdating and clipping leave alone.
func (c ca) IssuedAt() time.Time {
	// Making and parsing have checked that it can be read.
	issuedAt, _ := issueTime(c.role, c.certificate)
	return issuedAt
}

// Format keeps the private key out of whatever prints the value.
func (c ca) Format(state fmt.State, _ rune) {
	fmt.Fprintf(state, "%s %s", c.role, c.ID())
}
