// Package pki makes and checks the authorities, issuers, leaves and bundles of a Ray cluster's mutual TLS.
package pki

import (
	"bytes"
	"crypto"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/rsa"
	"crypto/sha256"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/asn1"
	"encoding/pem"
	"fmt"
)

// KeyAlgorithm names a key type and size. Its values are those of the RayTLSPolicy API.
type KeyAlgorithm string

// The algorithms that gRPC C-core accepts on both sides. It refuses Ed25519 and P-521 leaves (measured with grpcio 1.71).
const (
	ECDSAP256 KeyAlgorithm = "ECDSAP256"
	ECDSAP384 KeyAlgorithm = "ECDSAP384"
	RSA2048   KeyAlgorithm = "RSA2048"
	RSA3072   KeyAlgorithm = "RSA3072"
	RSA4096   KeyAlgorithm = "RSA4096"
)

const (
	minRSABits = 2048
	maxRSABits = 4096

	blockCertificate = "CERTIFICATE"
	blockPKCS8       = "PRIVATE KEY"
)

// KeyAlgorithms returns every supported algorithm.
func KeyAlgorithms() []KeyAlgorithm {
	return []KeyAlgorithm{ECDSAP256, ECDSAP384, RSA2048, RSA3072, RSA4096}
}

func generateKey(a KeyAlgorithm) (crypto.Signer, error) {
	switch a {
	case ECDSAP256:
		return ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	case ECDSAP384:
		return ecdsa.GenerateKey(elliptic.P384(), rand.Reader)
	case RSA2048:
		return rsa.GenerateKey(rand.Reader, 2048)
	case RSA3072:
		return rsa.GenerateKey(rand.Reader, 3072)
	case RSA4096:
		return rsa.GenerateKey(rand.Reader, 4096)
	default:
		return nil, refuse(ReasonUnsupportedKey, "key algorithm %q is not supported; use one of %v", string(a), KeyAlgorithms())
	}
}

// checkPublicKey refuses unsupported key types and sizes. It accepts RSA sizes between the named ones, because brought
// CAs have them.
func checkPublicKey(public any) error {
	switch key := public.(type) {
	case *ecdsa.PublicKey:
		if key.Curve == elliptic.P256() || key.Curve == elliptic.P384() {
			return nil
		}
		return refuse(ReasonUnsupportedKey, "the key is an elliptic curve key on %s; use P-256 or P-384", key.Curve.Params().Name)
	case *rsa.PublicKey:
		if bits := key.N.BitLen(); bits < minRSABits || bits > maxRSABits {
			return refuse(ReasonUnsupportedKey, "the RSA key has %d bits; use %d to %d", bits, minRSABits, maxRSABits)
		}
		if key.E < 65537 {
			return refuse(ReasonUnsupportedKey, "the RSA key's public exponent is %d; use 65537", key.E)
		}
		return nil
	default:
		return refuse(ReasonUnsupportedKey, "the key's type is not supported; use RSA (%d to %d bits) or ECDSA (P-256 or P-384)", minRSABits, maxRSABits)
	}
}

// subjectKeyID returns the leftmost 160 bits of the SHA-256 of the public key's bit string (RFC 7093, method 1).
func subjectKeyID(public crypto.PublicKey) ([]byte, error) {
	der, err := x509.MarshalPKIXPublicKey(public)
	if err != nil {
		return nil, fmt.Errorf("encoding a public key: %w", err)
	}
	var info struct {
		Algorithm pkix.AlgorithmIdentifier
		PublicKey asn1.BitString
	}
	if _, err := asn1.Unmarshal(der, &info); err != nil {
		return nil, fmt.Errorf("reading a public key back: %w", err)
	}
	sum := sha256.Sum256(info.PublicKey.RightAlign())
	return sum[:20], nil
}

func encodeCertificate(der []byte) []byte {
	return pem.EncodeToMemory(&pem.Block{Type: blockCertificate, Bytes: der})
}

func encodeKey(key crypto.Signer) ([]byte, error) {
	der, err := x509.MarshalPKCS8PrivateKey(key)
	if err != nil {
		return nil, fmt.Errorf("encoding a private key: %w", err)
	}
	return pem.EncodeToMemory(&pem.Block{Type: blockPKCS8, Bytes: der}), nil
}

// samePublicKey reports whether the private key belongs to the certificate.
func samePublicKey(certificate *x509.Certificate, key crypto.Signer) bool {
	public, ok := key.Public().(interface{ Equal(crypto.PublicKey) bool })
	return ok && public.Equal(certificate.PublicKey)
}

// parseCanonicalKey reads what encodeKey wrote, and nothing that differs by a byte.
func parseCanonicalKey(keyPEM []byte) (crypto.Signer, error) {
	if len(keyPEM) > maxKeyBytes {
		return nil, refuse(ReasonTooLarge, "the private key is longer than %d bytes", maxKeyBytes)
	}
	block, _ := pem.Decode(keyPEM)
	if block == nil || block.Type != blockPKCS8 {
		return nil, refuse(ReasonMalformed, "the private key is not a PKCS#8 PEM block")
	}
	key, err := parsePKCS8(block.Bytes)
	if err != nil {
		return nil, err
	}
	canonical, err := encodeKey(key)
	if err != nil {
		return nil, err
	}
	if !bytes.Equal(canonical, keyPEM) {
		return nil, refuse(ReasonMalformed, "the private key's encoding was altered")
	}
	return key, nil
}

// parsePKCS8 drops the standard library's error, which may quote the private key.
func parsePKCS8(der []byte) (crypto.Signer, error) {
	parsed, err := x509.ParsePKCS8PrivateKey(der)
	if err != nil {
		return nil, refuse(ReasonMalformed, "the private key cannot be read as PKCS#8")
	}
	return supportedSigner(parsed)
}

func supportedSigner(parsed any) (crypto.Signer, error) {
	key, ok := parsed.(crypto.Signer)
	if !ok {
		return nil, refuse(ReasonUnsupportedKey, "the private key cannot sign")
	}
	if err := checkPublicKey(key.Public()); err != nil {
		return nil, err
	}
	return key, nil
}
