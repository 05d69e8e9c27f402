package pki

import (
	"bytes"
	"time"
)

// Authority is a cluster's trust anchor with its private key. Pods trust its certificate alone.
type Authority struct{ ca }

// AuthorityOptions describe a new authority.
type AuthorityOptions struct {
	// Name is "namespace/cluster". It becomes the common name, cut to 64 characters.
	Name string
	// KeyAlgorithm of the authority's own key.
	KeyAlgorithm KeyAlgorithm
	// Validity counts from Now. The authority ends with its parent at the latest.
	Validity time.Duration
	// Now is the moment of issue, cut to whole seconds.
	Now time.Time
	// Parent is the brought CA that signs. Without one, the authority signs itself.
	Parent *Parent
}

// NewAuthority makes a key and its certificate without pathlen, valid from 24 hours before Now. The parent signs the
// certificate if there is one. It fails with ReasonExpired or ReasonNotYetValid if the parent is not valid at Now.
func NewAuthority(options AuthorityOptions) (*Authority, error) {
	key, err := generateKey(options.KeyAlgorithm)
	if err != nil {
		return nil, err
	}
	var parent *ca
	if options.Parent != nil {
		parent = &options.Parent.ca
	}
	made, err := newCA(roleAuthority, options.Name, key, options.Now, options.Validity, parent)
	if err != nil {
		return nil, err
	}
	return &Authority{made}, nil
}

// ParseAuthority reads what CertificatePEM and KeyPEM wrote. It refuses anything that differs by a byte, and any
// certificate that NewAuthority would not have made. It does not check the time.
func ParseAuthority(certPEM, keyPEM []byte) (*Authority, error) {
	read, err := parseCA(roleAuthority, certPEM, keyPEM)
	if err != nil {
		return nil, err
	}
	if bytes.Equal(read.certificate.RawIssuer, read.certificate.RawSubject) {
		if err := checkSignature(read.certificate, read.certificate); err != nil {
			return nil, err
		}
	}
	return &Authority{read}, nil
}
