package pki

import (
	"crypto"
	"crypto/rand"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/asn1"
	"encoding/hex"
	"fmt"
	"math/big"
	"strings"
	"time"
)

const (
	organization = "raytls.io"
	// RFC 5280's upper bound for a common name, in characters.
	maxCommonName = 64
)

var (
	oidSubjectKeyID     = asn1.ObjectIdentifier{2, 5, 29, 14}
	oidKeyUsage         = asn1.ObjectIdentifier{2, 5, 29, 15}
	oidSubjectAltName   = asn1.ObjectIdentifier{2, 5, 29, 17}
	oidBasicConstraints = asn1.ObjectIdentifier{2, 5, 29, 19}
	oidAuthorityKeyID   = asn1.ObjectIdentifier{2, 5, 29, 35}
	oidExtKeyUsage      = asn1.ObjectIdentifier{2, 5, 29, 37}
)

// role is a certificate's place in the chain.
type role string

const (
	roleAuthority role = "authority"
	roleIssuer    role = "issuer"
	roleLeaf      role = "leaf"
)

// pathLength returns the pathlen of a CA of the role; -1 stands for none. An authority has none, because cross-signing
// its successor puts two CA certificates under it. Issuers have no room for a CA, so only its own key can do that.
func (r role) pathLength() int {
	if r == roleIssuer {
		return 0
	}
	return -1
}

// subject builds a distinguished name that no other key has: a verifier that picks an issuer by name must never
// have two to choose from. The serialNumber attribute is the key's hash; the common name is for people and may be cut.
// A CA's OU holds the moment of issue, which a clipped notBefore no longer tells.
func subject(r role, name string, keyID []byte, issuedAt time.Time) pkix.Name {
	unit := string(r)
	if r != roleLeaf {
		unit += " " + issuedAt.Format(time.RFC3339)
	}
	if characters := []rune(name); len(characters) > maxCommonName {
		name = string(characters[:maxCommonName])
	}
	return pkix.Name{
		Organization:       []string{organization},
		OrganizationalUnit: []string{unit},
		CommonName:         name,
		SerialNumber:       hex.EncodeToString(keyID),
	}
}

// issueTime reads the moment of issue that subject wrote.
func issueTime(r role, certificate *x509.Certificate) (time.Time, error) {
	text, found := strings.CutPrefix(strings.Join(certificate.Subject.OrganizationalUnit, "\n"), string(r)+" ")
	issuedAt, err := time.Parse(time.RFC3339, text)
	if !found || err != nil {
		return time.Time{}, refuse(ReasonProfile, "the %s certificate's name has no moment of issue", r)
	}
	return issuedAt.UTC(), nil
}

func newSerial() *big.Int {
	random := make([]byte, 16)
	rand.Read(random) // never fails
	serial := new(big.Int).SetBytes(random)
	if serial.Sign() == 0 {
		serial.SetInt64(1) // RFC 5280 asks for a positive number
	}
	return serial
}

// validity returns [now-back, now+length], clipped to the parent's interval: nothing may outlive the certificate that
// signed it.
func validity(now time.Time, back, length time.Duration, parent *ca) (notBefore, notAfter time.Time, err error) {
	now = now.UTC().Truncate(time.Second)
	if length < time.Second {
		return notBefore, notAfter, refuse(ReasonOptions, "a validity of %s is not possible", length)
	}
	notBefore, notAfter = now.Add(-back), now.Add(length)
	if parent == nil {
		return notBefore, notAfter, nil
	}
	above := parent.certificate
	if err := checkTime(above, now, "the certificate that would sign"); err != nil {
		return notBefore, notAfter, err
	}
	if notBefore.Before(above.NotBefore) {
		notBefore = above.NotBefore
	}
	if notAfter.After(above.NotAfter) {
		notAfter = above.NotAfter
	}
	return notBefore, notAfter, nil
}

// checkTime compares whole seconds and treats notAfter itself as expired, as BoringSSL does.
func checkTime(certificate *x509.Certificate, at time.Time, what string) error {
	if at.Unix() < certificate.NotBefore.Unix() {
		return refuse(ReasonNotYetValid, "%s is not valid before %s", what, certificate.NotBefore.UTC().Format(time.RFC3339))
	}
	if at.Unix() >= certificate.NotAfter.Unix() {
		return refuse(ReasonExpired, "%s expired at %s", what, certificate.NotAfter.UTC().Format(time.RFC3339))
	}
	return nil
}

// sign gives the template a serial number and the signer's key identifier, and signs it.
func (c ca) sign(template *x509.Certificate, public crypto.PublicKey) (*x509.Certificate, error) {
	template.SerialNumber = newSerial()
	template.AuthorityKeyId = c.certificate.SubjectKeyId
	der, err := x509.CreateCertificate(rand.Reader, template, c.certificate, public, c.key)
	if err != nil {
		return nil, fmt.Errorf("signing a certificate: %w", err)
	}
	certificate, err := x509.ParseCertificate(der)
	if err != nil {
		return nil, fmt.Errorf("reading a certificate that was just signed: %w", err)
	}
	return certificate, nil
}
