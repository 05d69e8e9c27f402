package pki

import (
	"crypto"
	"crypto/x509"
	"fmt"
	"time"
)

// Authority is a cluster's trust anchor with its private key. Pods trust its certificate alone.
type Authority struct {
	certificate *x509.Certificate
	key         crypto.Signer
}

// AuthorityOptions says what authority to make.
type AuthorityOptions struct {
	// Name is "namespace/cluster". It goes into the common name, cut to 64 characters.
	Name string
	// KeyAlgorithm of the authority's own key.
	KeyAlgorithm KeyAlgorithm
	// Validity from Now on; cut to the parent's end.
	Validity time.Duration
	// Now is the moment of issue; fractions of a second are dropped.
	Now time.Time
	// Parent is the brought CA that signs. Nil: the authority signs itself.
	Parent *Parent
}

// NewAuthority makes a key and its certificate (no pathlen), valid from 24 hours before Now, self-signed or signed by
// the parent. It fails with ReasonExpired or ReasonNotYetValid if the parent is not valid at Now.
func NewAuthority(options AuthorityOptions) (*Authority, error) {
	key, err := GenerateKey(options.KeyAlgorithm)
	if err != nil {
		return nil, err
	}
	var (
		parent    *x509.Certificate
		parentKey crypto.Signer
	)
	if options.Parent != nil {
		parent, parentKey = options.Parent.certificate, options.Parent.key
	}
	certificate, err := newCA(roleAuthority, options.Name, key, authorityPathLength, options.Now, options.Validity, parent, parentKey)
	if err != nil {
		return nil, err
	}
	return &Authority{certificate: certificate, key: key}, nil
}

// ParseAuthority reads back what CertificatePEM and KeyPEM wrote. Anything that differs from that by a byte, or that
// NewAuthority would not have made, is refused. It does not look at the time.
func ParseAuthority(certPEM, keyPEM []byte) (*Authority, error) {
	certificate, key, err := parseCanonicalPair(certPEM, keyPEM)
	if err != nil {
		return nil, err
	}
	if err := checkCAProfile(roleAuthority, certificate, authorityPathLength); err != nil {
		return nil, err
	}
	authority := &Authority{certificate: certificate, key: key}
	if !authority.selfSigned() {
		return authority, nil
	}
	if err := checkSignature(certificate, certificate); err != nil {
		return nil, err
	}
	return authority, nil
}

func (a *Authority) selfSigned() bool {
	return string(a.certificate.RawIssuer) == string(a.certificate.RawSubject)
}

// ID is 16 hex digits that stay with the authority's key.
func (a *Authority) ID() string { return shortID(a.certificate) }

// Certificate returns the authority's certificate, which the caller must not change.
func (a *Authority) Certificate() *x509.Certificate { return a.certificate }

// CertificatePEM returns the certificate as one PEM block.
func (a *Authority) CertificatePEM() []byte { return encodeCertificate(a.certificate.Raw) }

// KeyPEM returns the private key as one PKCS#8 PEM block.
func (a *Authority) KeyPEM() ([]byte, error) { return encodeKey(a.key) }

// NotBefore is where the certificate's validity starts.
func (a *Authority) NotBefore() time.Time { return a.certificate.NotBefore }

// NotAfter is where the certificate's validity ends.
func (a *Authority) NotAfter() time.Time { return a.certificate.NotAfter }

// IssuedAt is the moment of issue, to the second, with the backdating undone.
func (a *Authority) IssuedAt() time.Time {
	// Both constructors have made sure that it can be read.
	issuedAt, _ := issueTime(roleAuthority, a.certificate)
	return issuedAt
}

// Format keeps the private key out of whatever prints the value.
func (a Authority) Format(state fmt.State, _ rune) {
	fmt.Fprintf(state, "authority %s", shortID(a.certificate))
}
