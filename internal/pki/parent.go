package pki

import (
	"crypto"
	"crypto/x509"
	"encoding/pem"
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"
)

const (
	maxParentCertBytes  = 64 << 10
	minParentPathLength = 2 // authority and issuer stand between the parent and a leaf
	maxKeyIDBytes       = 64
)

// Parent is a CA that a user brought, with its private key. It signs authorities only, and pods never trust it.
type Parent struct {
	ca ca // not embedded: a brought CA's key must not come out, and it has no moment of issue
}

// ParseParent reads a brought CA. certPEM is a certificate, or a chain whose first certificate is the CA; the others are
// ignored. Text around the blocks is allowed, as `openssl ca` writes it. keyPEM is a key in PKCS#8, PKCS#1 or SEC 1, and
// openssl's EC PARAMETERS block may precede it. Every refusal is an *Error whose sentence continues the Secret's name.
// The certificate's own signature and issuer are not checked, because no pod verifies beyond the authority.
func ParseParent(certPEM, keyPEM []byte, now time.Time) (*Parent, error) {
	certificate, err := parseParentCertificate(certPEM)
	if err != nil {
		return nil, err
	}
	if err := checkPublicKey(certificate.PublicKey); err != nil {
		return nil, err
	}
	key, err := parseParentKey(keyPEM)
	if err != nil {
		return nil, err
	}
	if !samePublicKey(certificate, key) {
		return nil, refuse(ReasonKeyMismatch, "the CA's private key does not belong to the first certificate; give the pair that belongs together, the CA's own certificate first")
	}
	if err := checkParent(certificate, now); err != nil {
		return nil, err
	}
	return &Parent{ca{certificate: certificate, key: key}}, nil
}

// NotAfter returns the end of the brought certificate's validity. No certificate under it lasts longer.
func (p *Parent) NotAfter() time.Time { return p.ca.NotAfter() }

// Format keeps the private key out of whatever prints the value.
func (p Parent) Format(state fmt.State, _ rune) {
	fmt.Fprintf(state, "brought CA %q", p.ca.certificate.Subject.String())
}

func checkParent(certificate *x509.Certificate, now time.Time) error {
	if !certificate.BasicConstraintsValid || !certificate.IsCA {
		return refuse(ReasonNotCA, "the certificate is not a CA (basicConstraints does not say CA:TRUE); give a CA certificate")
	}
	if hasExtension(certificate, oidKeyUsage) && certificate.KeyUsage&x509.KeyUsageCertSign == 0 {
		return refuse(ReasonKeyUsage, "the CA certificate may not sign certificates (keyUsage lacks keyCertSign); give one that may")
	}
	if length := len(certificate.SubjectKeyId); length == 0 || length > maxKeyIDBytes {
		return refuse(ReasonNoSubjectKeyID, "the CA certificate has no usable subject key identifier; make it again with subjectKeyIdentifier=hash")
	}
	if len(certificate.Subject.Names) == 0 {
		return refuse(ReasonNoSubject, "the CA certificate has an empty subject, which strict verifiers refuse; make it again with a common name")
	}
	if certificate.MaxPathLen >= 0 && certificate.MaxPathLen < minParentPathLength {
		return refuse(ReasonPathLength, "the CA certificate has pathlen:%d, but the authority and the issuer stand under it; give one without pathlen or with pathlen:%d", certificate.MaxPathLen, minParentPathLength)
	}
	switch err := checkTime(certificate, now, "the CA certificate"); {
	case errors.Is(err, ReasonExpired):
		return refuse(ReasonExpired, "%v; give a current one", err)
	case err != nil:
		return refuse(ReasonNotYetValid, "%v; give a current one, or check the clocks", err)
	}
	return nil
}

func parseParentCertificate(certPEM []byte) (*x509.Certificate, error) {
	blocks, err := decodeBlocks("CA certificate", certPEM, maxParentCertBytes)
	if err != nil {
		return nil, err
	}
	for _, block := range blocks {
		if block.Type != blockCertificate {
			return nil, refuse(ReasonMalformed, "among the CA's certificates is a PEM block that is none; leave only CERTIFICATE blocks there")
		}
	}
	certificate, err := x509.ParseCertificate(blocks[0].Bytes)
	if err != nil {
		return nil, refuse(ReasonMalformed, "the CA certificate cannot be read (%v); check it with openssl x509 -noout -text", err)
	}
	return certificate, nil
}

func parseParentKey(keyPEM []byte) (crypto.Signer, error) {
	blocks, err := decodeBlocks("CA's private key", keyPEM, maxKeyBytes)
	if err != nil {
		return nil, err
	}
	// In EC PARAMETERS, openssl writes the curve's name, which the key repeats.
	keys := slices.DeleteFunc(blocks, func(block *pem.Block) bool { return block.Type == "EC PARAMETERS" })
	if len(keys) != 1 {
		return nil, refuse(ReasonMalformed, "there are %d PEM blocks where the CA's one private key is expected", len(keys))
	}
	return parseKeyBlock(keys[0])
}

func parseKeyBlock(block *pem.Block) (crypto.Signer, error) {
	_, legacyEncryption := block.Headers["DEK-Info"]
	if block.Type == "ENCRYPTED PRIVATE KEY" || legacyEncryption {
		return nil, refuse(ReasonEncryptedKey, "the CA's private key is encrypted; give it without a passphrase: openssl pkey -in ca.key -out plain.key")
	}
	var key any
	var err error
	switch block.Type {
	case blockPKCS8:
		return parsePKCS8(block.Bytes)
	case "RSA PRIVATE KEY":
		key, err = x509.ParsePKCS1PrivateKey(block.Bytes)
	case "EC PRIVATE KEY":
		key, err = x509.ParseECPrivateKey(block.Bytes)
	default:
		return nil, refuse(ReasonMalformed, "the PEM block is not a private key in PKCS#8, PKCS#1 or SEC 1")
	}
	if err != nil {
		return nil, refuse(ReasonMalformed, "the CA's private key cannot be read; check it with openssl pkey -noout -check")
	}
	return supportedSigner(key)
}

// decodeBlocks returns at least one PEM block. It refuses a broken block, which the decoder alone would skip.
func decodeBlocks(what string, text []byte, limit int) ([]*pem.Block, error) {
	if len(text) > limit {
		return nil, refuse(ReasonTooLarge, "the %s is longer than %d bytes", what, limit)
	}
	var blocks []*pem.Block
	for rest := text; ; {
		var block *pem.Block
		block, rest = pem.Decode(rest)
		if block == nil {
			break
		}
		blocks = append(blocks, block)
	}
	if len(blocks) == 0 {
		return nil, refuse(ReasonMalformed, "the %s is not PEM; give the text that starts with -----BEGIN", what)
	}
	if strings.Count(string(text), "-----BEGIN ") != len(blocks) {
		return nil, refuse(ReasonMalformed, "the %s has a damaged PEM block", what)
	}
	return blocks, nil
}
