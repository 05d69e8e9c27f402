package pki

import (
	"bytes"
	"crypto/x509"
	"encoding/pem"
	"slices"
)

const (
	// Eight generations of RSA 4096 with a bridge each stay under 40 KiB.
	maxBundleBytes        = 64 << 10
	maxBundleCertificates = 32
	// An RSA 4096 key in PKCS#8 is 3.3 KiB of PEM.
	maxKeyBytes = 16 << 10
)

// ParseBundle reads the PEM certificates of a bundle or chain that this package wrote, in order. It accepts only the
// encoder's exact output: gRPC stops silently at the first malformed block, so a lenient reader would see certificates
// that a pod never does. The input has 1 byte to 64 KiB and at most 32 certificates, all different.
func ParseBundle(bundlePEM []byte) ([]*x509.Certificate, error) {
	if len(bundlePEM) > maxBundleBytes {
		return nil, refuse(ReasonTooLarge, "the bundle is longer than %d bytes", maxBundleBytes)
	}
	var certificates []*x509.Certificate
	for rest := bundlePEM; len(rest) > 0; {
		if len(certificates) == maxBundleCertificates {
			return nil, refuse(ReasonTooLarge, "the bundle holds more than %d certificates", maxBundleCertificates)
		}
		block, after := pem.Decode(rest)
		if block == nil || block.Type != blockCertificate {
			return nil, refuse(ReasonMalformed, "PEM block %d is not a certificate, or something stands between the blocks", len(certificates)+1)
		}
		if !bytes.Equal(rest[:len(rest)-len(after)], encodeCertificate(block.Bytes)) {
			return nil, refuse(ReasonMalformed, "PEM block %d has stray data before, inside or after it", len(certificates)+1)
		}
		certificate, err := x509.ParseCertificate(block.Bytes)
		if err != nil {
			return nil, refuse(ReasonMalformed, "certificate %d cannot be read: %v", len(certificates)+1, err)
		}
		if slices.ContainsFunc(certificates, certificate.Equal) {
			return nil, refuse(ReasonMalformed, "certificate %d is in the bundle twice", len(certificates)+1)
		}
		certificates = append(certificates, certificate)
		rest = after
	}
	if len(certificates) == 0 {
		return nil, refuse(ReasonMalformed, "there is no certificate")
	}
	return certificates, nil
}

// EncodeBundle writes certificates as PEM, in order, for ParseBundle.
func EncodeBundle(certificates ...*x509.Certificate) []byte {
	var out []byte
	for _, certificate := range certificates {
		out = append(out, encodeCertificate(certificate.Raw)...)
	}
	return out
}
