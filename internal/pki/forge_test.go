package pki

import (
	"crypto"
	"crypto/rand"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/asn1"
	"math/big"
	"net"
	"testing"
	"time"
)

// forgery is a certificate that no constructor of the package would make, for verifiers to judge.
type forgery struct {
	certificate *x509.Certificate
	key         crypto.Signer
}

// forge describes one. The zero value of each field is what a well-formed CA would have.
type forge struct {
	name       string // subject, a common name
	issuerName string // overrides the issuer's own
	rawName    []byte // overrides name
	key        crypto.Signer
	signer     *forgery // nil: signs itself
	signerKey  crypto.Signer
	from, to   time.Duration // from the clock; default one day back to one year on
	leaf       bool
	pathLength *int
	keyUsage   x509.KeyUsage // -1: no extension
	extUsages  []x509.ExtKeyUsage
	keyID      []byte // nil: the key's hash; empty: none
	authority  []byte // AKI; nil: the signer's SKI; empty: none
	extra      []pkix.Extension
	address    net.IP // of a leaf
}

func pathLength(n int) *int { return &n }

func newTestKey(t testing.TB, algorithm KeyAlgorithm) crypto.Signer {
	t.Helper()
	key, err := generateKey(algorithm)
	if err != nil {
		t.Fatal(err)
	}
	return key
}

func (f forge) make(t testing.TB) *forgery {
	t.Helper()
	if f.key == nil {
		f.key = newTestKey(t, ECDSAP256)
	}
	if f.from == 0 {
		f.from = -day
	}
	if f.to == 0 {
		f.to = 365 * day
	}
	if f.keyID == nil {
		keyID, err := subjectKeyID(f.key.Public())
		if err != nil {
			t.Fatal(err)
		}
		f.keyID = keyID
	}
	template := &x509.Certificate{
		SerialNumber:          newSerial(),
		Subject:               pkix.Name{CommonName: f.name}, // without a name: empty
		RawSubject:            f.rawName,
		NotBefore:             clock().Add(f.from),
		NotAfter:              clock().Add(f.to),
		SubjectKeyId:          f.keyID,
		BasicConstraintsValid: true,
		IsCA:                  !f.leaf,
		MaxPathLen:            -1,
		KeyUsage:              caKeyUsage,
		ExtKeyUsage:           f.extUsages,
		ExtraExtensions:       f.extra,
	}
	if f.pathLength != nil {
		template.MaxPathLen, template.MaxPathLenZero = *f.pathLength, *f.pathLength == 0
	}
	if f.leaf {
		template.KeyUsage = x509.KeyUsageDigitalSignature
		template.DNSNames = []string{"localhost"}
		if f.address != nil {
			template.IPAddresses = []net.IP{f.address}
		}
		if f.extUsages == nil {
			template.ExtKeyUsage = []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth, x509.ExtKeyUsageClientAuth}
		}
	}
	switch f.keyUsage {
	case 0:
	case -1:
		template.KeyUsage = 0
	default:
		template.KeyUsage = f.keyUsage
	}
	return &forgery{certificate: f.sign(t, template), key: f.key}
}

func (f forge) sign(t testing.TB, template *x509.Certificate) *x509.Certificate {
	t.Helper()
	issuer := &x509.Certificate{RawSubject: template.RawSubject, Subject: template.Subject, SubjectKeyId: template.SubjectKeyId}
	signerKey := f.key
	if f.signer != nil {
		issuer.RawSubject, issuer.SubjectKeyId = f.signer.certificate.RawSubject, f.signer.certificate.SubjectKeyId
		signerKey = f.signer.key
	}
	if f.issuerName != "" {
		issuer.RawSubject, issuer.Subject = nil, pkix.Name{CommonName: f.issuerName}
	}
	if f.signerKey != nil {
		signerKey = f.signerKey
	}
	if f.authority != nil {
		issuer.SubjectKeyId = f.authority
	}
	if len(issuer.SubjectKeyId) == 0 {
		template.AuthorityKeyId = nil
	} else {
		template.AuthorityKeyId = issuer.SubjectKeyId
	}
	// Otherwise the standard library derives one for CAs.
	noKeyID := len(template.SubjectKeyId) == 0
	if noKeyID {
		template.SubjectKeyId = nil
	}
	der, err := x509.CreateCertificate(rand.Reader, template, issuer, f.key.Public(), signerKey)
	if err != nil {
		t.Fatalf("forging %q: %v", f.name, err)
	}
	if noKeyID && template.IsCA {
		der = withoutExtension(t, der, oidSubjectKeyID, signerKey)
	}
	certificate, err := x509.ParseCertificate(der)
	if err != nil {
		t.Fatalf("forging %q: %v", f.name, err)
	}
	return certificate
}

// withoutExtension takes an extension out of a certificate and signs it again; ECDSA with SHA-256 only.
func withoutExtension(t testing.TB, der []byte, id asn1.ObjectIdentifier, signerKey crypto.Signer) []byte {
	t.Helper()
	type tbs struct {
		Version      int `asn1:"explicit,tag:0"`
		SerialNumber *big.Int
		Algorithm    pkix.AlgorithmIdentifier
		Issuer       asn1.RawValue
		Validity     asn1.RawValue
		Subject      asn1.RawValue
		PublicKey    asn1.RawValue
		Extensions   []pkix.Extension `asn1:"explicit,tag:3"`
	}
	var whole struct {
		TBS       tbs
		Algorithm pkix.AlgorithmIdentifier
		Signature asn1.BitString
	}
	if _, err := asn1.Unmarshal(der, &whole); err != nil {
		t.Fatal(err)
	}
	var kept []pkix.Extension
	for _, extension := range whole.TBS.Extensions {
		if !extension.Id.Equal(id) {
			kept = append(kept, extension)
		}
	}
	whole.TBS.Extensions = kept
	signed, err := asn1.Marshal(whole.TBS)
	if err != nil {
		t.Fatal(err)
	}
	digest := crypto.SHA256.New()
	digest.Write(signed)
	signature, err := signerKey.Sign(rand.Reader, digest.Sum(nil), crypto.SHA256)
	if err != nil {
		t.Fatal(err)
	}
	whole.Signature = asn1.BitString{Bytes: signature, BitLength: len(signature) * 8}
	out, err := asn1.Marshal(whole)
	if err != nil {
		t.Fatal(err)
	}
	return out
}
