package pki

import (
	"bytes"
	"crypto"
	"crypto/rand"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/asn1"
	"encoding/hex"
	"fmt"
	"math/big"
	"slices"
	"strings"
	"time"
	"unicode/utf8"
)

const (
	caBackdating   = 24 * time.Hour
	leafBackdating = 5 * time.Minute

	// No limit: a successor's authority signed by this one puts two CA certificates under it. Only the authority's own
	// key signs under it anyway, since issuers have no room for a CA.
	authorityPathLength = -1
	issuerPathLength    = 0

	caKeyUsage = x509.KeyUsageCertSign | x509.KeyUsageCRLSign

	organization  = "raytls.io"
	roleAuthority = "authority"
	roleIssuer    = "issuer"
	roleLeaf      = "leaf"

	// RFC 5280's upper bound for a common name, in characters.
	maxCommonName = 64
	idBytes       = 8
)

var (
	oidSubjectKeyID     = asn1.ObjectIdentifier{2, 5, 29, 14}
	oidKeyUsage         = asn1.ObjectIdentifier{2, 5, 29, 15}
	oidSubjectAltName   = asn1.ObjectIdentifier{2, 5, 29, 17}
	oidBasicConstraints = asn1.ObjectIdentifier{2, 5, 29, 19}
	oidAuthorityKeyID   = asn1.ObjectIdentifier{2, 5, 29, 35}
	oidExtKeyUsage      = asn1.ObjectIdentifier{2, 5, 29, 37}
)

// subject builds a distinguished name of its own for every key: verifiers that pick an issuer by name must never
// have two to choose from. The common name is for people and may be cut; the serialNumber attribute is the key's
// hash. A CA's OU holds the moment of issue, which notBefore cannot tell once it was clipped to the parent's.
func subject(role, name string, keyID []byte, issuedAt time.Time) pkix.Name {
	unit := role
	if role != roleLeaf {
		unit += " " + issuedAt.Format(time.RFC3339)
	}
	return pkix.Name{
		Organization:       []string{organization},
		OrganizationalUnit: []string{unit},
		CommonName:         truncate(name, maxCommonName),
		SerialNumber:       hex.EncodeToString(keyID),
	}
}

func truncate(name string, limit int) string {
	if utf8.RuneCountInString(name) <= limit {
		return name
	}
	return string([]rune(name)[:limit])
}

// issueTime reads back the moment of issue that subject wrote.
func issueTime(role string, certificate *x509.Certificate) (time.Time, error) {
	units := certificate.Subject.OrganizationalUnit
	if len(units) != 1 {
		return time.Time{}, refuse(ReasonProfile, "the %s certificate's name has no moment of issue", role)
	}
	text, found := strings.CutPrefix(units[0], role+" ")
	issuedAt, err := time.Parse(time.RFC3339, text)
	if !found || err != nil {
		return time.Time{}, refuse(ReasonProfile, "the %s certificate's name has no moment of issue", role)
	}
	return issuedAt.UTC(), nil
}

func newSerial() (*big.Int, error) {
	random := make([]byte, 16)
	if _, err := rand.Read(random); err != nil {
		return nil, fmt.Errorf("reading random bytes for a serial number: %w", err)
	}
	serial := new(big.Int).SetBytes(random)
	if serial.Sign() == 0 {
		// RFC 5280 asks for a positive number.
		serial.SetInt64(1)
	}
	return serial, nil
}

// validity gives [now-back, now+length], clipped to the parent's interval if there is one: nothing outlives what
// signed it.
func validity(now time.Time, back, length time.Duration, parent *x509.Certificate) (notBefore, notAfter time.Time, err error) {
	now = now.UTC().Truncate(time.Second)
	if length < time.Second {
		return notBefore, notAfter, refuse(ReasonOptions, "a validity of %s is not possible", length)
	}
	notBefore, notAfter = now.Add(-back), now.Add(length)
	if parent != nil {
		if err := checkTime(parent, now, "the certificate that would sign"); err != nil {
			return notBefore, notAfter, err
		}
		if notBefore.Before(parent.NotBefore) {
			notBefore = parent.NotBefore
		}
		if notAfter.After(parent.NotAfter) {
			notAfter = parent.NotAfter
		}
	}
	return notBefore, notAfter, nil
}

// checkTime compares whole seconds and takes notAfter itself as expired, as BoringSSL does.
func checkTime(certificate *x509.Certificate, at time.Time, what string) error {
	if at.Unix() < certificate.NotBefore.Unix() {
		return refuse(ReasonNotYetValid, "%s is not valid before %s", what, certificate.NotBefore.UTC().Format(time.RFC3339))
	}
	if at.Unix() >= certificate.NotAfter.Unix() {
		return refuse(ReasonExpired, "%s expired at %s", what, certificate.NotAfter.UTC().Format(time.RFC3339))
	}
	return nil
}

// newCA makes a CA certificate for key, signed by parent with parentKey, or by itself if parent is nil.
func newCA(role, name string, key crypto.Signer, pathLength int, now time.Time, length time.Duration,
	parent *x509.Certificate, parentKey crypto.Signer,
) (*x509.Certificate, error) {
	notBefore, notAfter, err := validity(now, caBackdating, length, parent)
	if err != nil {
		return nil, err
	}
	keyID, err := subjectKeyID(key.Public())
	if err != nil {
		return nil, err
	}
	template := &x509.Certificate{
		Subject:               subject(role, name, keyID, now.UTC().Truncate(time.Second)),
		NotBefore:             notBefore,
		NotAfter:              notAfter,
		KeyUsage:              caKeyUsage,
		BasicConstraintsValid: true,
		IsCA:                  true,
		MaxPathLen:            pathLength,
		MaxPathLenZero:        pathLength == 0,
		SubjectKeyId:          keyID,
	}
	if parent == nil {
		parent, parentKey = template, key
	}
	return sign(template, parent, key.Public(), parentKey)
}

// sign gives the template its serial number and the parent's key identifier, byte for byte, and signs it.
func sign(template, parent *x509.Certificate, public crypto.PublicKey, parentKey crypto.Signer) (*x509.Certificate, error) {
	serial, err := newSerial()
	if err != nil {
		return nil, err
	}
	template.SerialNumber = serial
	template.AuthorityKeyId = parent.SubjectKeyId
	der, err := x509.CreateCertificate(rand.Reader, template, parent, public, parentKey)
	if err != nil {
		return nil, fmt.Errorf("signing a certificate: %w", err)
	}
	certificate, err := x509.ParseCertificate(der)
	if err != nil {
		return nil, fmt.Errorf("reading back a certificate just signed: %w", err)
	}
	return certificate, nil
}

// checkCAProfile refuses a CA certificate that newCA would not have made with this role and path length.
func checkCAProfile(role string, certificate *x509.Certificate, pathLength int) error {
	wrong := func(what string) error {
		return refuse(ReasonProfile, "the %s certificate was not made by this operator: %s", role, what)
	}
	if !certificate.BasicConstraintsValid || !certificate.IsCA {
		return wrong("it is not a CA")
	}
	if certificate.MaxPathLen != pathLength {
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
	issuedAt, err := issueTime(role, certificate)
	if err != nil {
		return err
	}
	expected, err := asn1.Marshal(subject(role, certificate.Subject.CommonName, keyID, issuedAt).ToRDNSequence())
	if err != nil {
		return fmt.Errorf("encoding a distinguished name: %w", err)
	}
	if !bytes.Equal(expected, certificate.RawSubject) {
		return wrong("its name differs")
	}
	return nil
}

// checkExtensions wants exactly the extensions of a CA: two critical, two key identifiers.
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

// shortID is the first 64 bits of the key's hash, in hex: enough to tell the generations of one cluster apart.
func shortID(certificate *x509.Certificate) string {
	return hex.EncodeToString(certificate.SubjectKeyId[:idBytes])
}
