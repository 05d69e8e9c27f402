package pki

import (
	"bytes"
	"crypto/x509"
	"encoding/hex"
	"time"
)

// BridgeOptions describe a new bridge.
type BridgeOptions struct {
	// To is the other authority's own certificate.
	To *x509.Certificate
	// Until is when the bridge ends at the latest; the zero time leaves that to the signer.
	Until time.Time
	// Through is the bridge to the signer that lies behind the new one in chains; nil for none. Peers that know the signer by it
	// alone accept the new bridge as long as it lasts, so the new one may end with it.
	Through *x509.Certificate
	// Now is the moment of issue, cut to whole seconds.
	Now time.Time
}

// Bridge makes a cross-certificate: the name and the key of another authority, signed by this one. A peer that trusts this
// authority, and finds the bridge in a chain or in its bundle, accepts what the other authority issued. The bridge is valid from
// 24 hours before Now, or from the signer's own start if that is later. It fails with ReasonExpired if it would have ended
// already, and with ReasonProfile if To is not another authority's certificate.
func (a *Authority) Bridge(options BridgeOptions) (*x509.Certificate, error) {
	to, now := options.To, options.Now.UTC().Truncate(time.Second)
	if err := checkCAProfile(roleAuthority, to); err != nil {
		return nil, err
	}
	if bytes.Equal(to.SubjectKeyId, a.certificate.SubjectKeyId) {
		return nil, refuse(ReasonProfile, "authority %s needs no bridge to itself", a.ID())
	}
	notBefore, notAfter := now.Add(-caBackdating), a.certificate.NotAfter
	if notBefore.Before(a.certificate.NotBefore) {
		notBefore = a.certificate.NotBefore
	}
	if through := options.Through; through != nil && through.NotAfter.After(notAfter) {
		notAfter = through.NotAfter
	}
	if until := options.Until.UTC().Truncate(time.Second); !options.Until.IsZero() && until.Before(notAfter) {
		notAfter = until
	}
	if !now.Before(notAfter) {
		return nil, refuse(ReasonExpired, "a bridge from authority %s would have expired at %s", a.ID(), notAfter.Format(time.RFC3339))
	}
	return a.sign(&x509.Certificate{
		RawSubject:            to.RawSubject,
		NotBefore:             notBefore,
		NotAfter:              notAfter,
		KeyUsage:              caKeyUsage,
		BasicConstraintsValid: true,
		IsCA:                  true,
		MaxPathLen:            roleAuthority.pathLength(),
		SubjectKeyId:          to.SubjectKeyId,
	}, to.PublicKey)
}

// CheckBridge returns nil if the certificate is a bridge from the authority with the certificate from to the one with the
// certificate to. It checks no time.
func CheckBridge(bridge, from, to *x509.Certificate) error {
	if err := checkCAProfile(roleAuthority, bridge); err != nil {
		return err
	}
	switch {
	case !bytes.Equal(bridge.RawSubject, to.RawSubject) || !bytes.Equal(bridge.RawSubjectPublicKeyInfo, to.RawSubjectPublicKeyInfo):
		return refuse(ReasonProfile, "the bridge leads to another authority than %s", IDOf(to))
	case !bytes.Equal(bridge.RawIssuer, from.RawSubject) || !bytes.Equal(bridge.AuthorityKeyId, from.SubjectKeyId):
		return refuse(ReasonNoIssuer, "the bridge was signed by another authority than %s", IDOf(from))
	}
	return checkSignature(bridge, from)
}

// ParseAuthorityCertificate reads the certificate of an authority, or a bridge to one, as one PEM block that this package wrote.
// It checks neither signature nor time.
func ParseAuthorityCertificate(certPEM []byte) (*x509.Certificate, error) {
	certificates, err := ParseBundle(certPEM)
	if err != nil {
		return nil, err
	}
	if len(certificates) != 1 {
		return nil, refuse(ReasonMalformed, "there are %d certificates where one is expected", len(certificates))
	}
	return certificates[0], checkCAProfile(roleAuthority, certificates[0])
}

// IDOf is the ID of the authority, issuer or bridge with that certificate: the first 64 bits of its key's hash, in hexadecimal.
func IDOf(certificate *x509.Certificate) string { return shortID(certificate.SubjectKeyId) }

// ProvenIDOf is that ID where the certificate's key has it. It is empty where the certificate only says so: whoever makes a certificate
// chooses its subject key ID.
func ProvenIDOf(certificate *x509.Certificate) string {
	keyID, err := subjectKeyID(certificate.PublicKey)
	if err != nil || !bytes.Equal(keyID, certificate.SubjectKeyId) {
		return ""
	}
	return shortID(keyID)
}

// SignerOf is the ID of the authority that signed the certificate.
func SignerOf(certificate *x509.Certificate) string { return shortID(certificate.AuthorityKeyId) }

func shortID(keyID []byte) string { return hex.EncodeToString(keyID[:min(idBytes, len(keyID))]) }

// Successor finds in a chain a bridge from this authority to one that was made later, and returns the other's ID; empty if there is
// none. Nobody but this authority can have signed it, so it proves that the authority was replaced.
func (a *Authority) Successor(chain []*x509.Certificate) string {
	for _, certificate := range chain {
		made, err := issueTime(roleAuthority, certificate)
		if err == nil && made.After(a.IssuedAt()) && CheckBridge(certificate, a.certificate, certificate) == nil {
			return IDOf(certificate)
		}
	}
	return ""
}

// SignedBy reports whether the parent signed the authority; nil stands for none, so that the authority signed itself.
func (a *Authority) SignedBy(parent *Parent) bool {
	by := a.certificate
	if parent != nil {
		by = parent.ca.certificate
	}
	return bytes.Equal(a.certificate.RawIssuer, by.RawSubject) && bytes.Equal(a.certificate.AuthorityKeyId, by.SubjectKeyId) &&
		checkSignature(a.certificate, by) == nil
}

// Specimen makes a leaf and its issuer under the authority, both valid until a time or until the authority ends, and forgets their
// keys: they show later what peers think of the authority's leaves, when its own key is gone.
func (a *Authority) Specimen(until, now time.Time) ([]*x509.Certificate, error) {
	now = now.Truncate(time.Second)
	issuer, err := a.NewIssuer(IssuerOptions{KeyAlgorithm: ECDSAP256, Validity: until.Sub(now), Now: now})
	if err != nil {
		return nil, err
	}
	leaf, err := issuer.specimen(now)
	if err != nil {
		return nil, err
	}
	return []*x509.Certificate{leaf, issuer.certificate}, nil
}

// specimen makes a leaf that is valid as long as the issuer, and forgets its key. The issuer must be valid now.
func (i *Issuer) specimen(now time.Time) (*x509.Certificate, error) {
	if err := checkTime(i.certificate, now, "issuer "+i.ID()); err != nil {
		return nil, err
	}
	leafPEM, _, err := i.NewLeaf(LeafOptions{
		CommonName: "specimen", DNSNames: []string{"localhost"}, KeyAlgorithm: ECDSAP256,
		Validity: i.NotAfter().Sub(i.NotBefore()), Now: i.NotBefore(),
	})
	if err != nil {
		return nil, err
	}
	leaf, err := ParseBundle(leafPEM)
	if err != nil {
		return nil, err
	}
	return leaf[0], nil
}
