package servingcert

import (
	"bytes"
	"crypto/x509"
	"encoding/pem"
	"slices"
	"time"

	"github.com/raytls/raytls/internal/pki"
)

const (
	// Retiring is how long an authority is trusted after it was replaced. Kubelets refresh a mounted Secret within about a
	// minute; until then a pod serves under the authority that it has.
	Retiring = time.Hour
	// maxRetired bounds the bundle, however often the authority is replaced.
	maxRetired = 2
	// maxBundleBytes is far above the size of every bundle that Bundle returns.
	maxBundleBytes = 64 << 10
)

// Bundle returns the PEM certificates that API servers trust: the authority and, if retired is true, at most two other
// authorities of the webhook that the bundles has name and that are still valid, the newest first.
func Bundle(authority *pki.Authority, now time.Time, retired bool, has ...[]byte) []byte {
	trusted := []*x509.Certificate{authority.Certificate()}
	if !retired {
		return pki.EncodeBundle(trusted...)
	}
	var others []*x509.Certificate
	for _, bundle := range has {
		for _, c := range certificates(bundle) {
			if ours(c) && !c.Equal(authority.Certificate()) && !now.Before(c.NotBefore) && now.Before(c.NotAfter) {
				others = append(others, c)
			}
		}
	}
	slices.SortFunc(others, func(a, b *x509.Certificate) int {
		if order := b.NotBefore.Compare(a.NotBefore); order != 0 {
			return order
		}
		return bytes.Compare(a.Raw, b.Raw)
	})
	others = slices.CompactFunc(others, (*x509.Certificate).Equal)
	return pki.EncodeBundle(append(trusted, others[:min(len(others), maxRetired)]...)...)
}

// Holds reports whether a bundle holds the authority's certificate.
func Holds(bundle []byte, authority *pki.Authority) bool {
	return slices.ContainsFunc(certificates(bundle), authority.Certificate().Equal)
}

// ours reports whether a certificate is an authority that NewAuthority made, or one that cannot be told from it.
func ours(c *x509.Certificate) bool {
	return c.IsCA && c.Subject.CommonName == authorityName && c.CheckSignatureFrom(c) == nil
}

// certificates reads the certificates of a bundle, which anybody may have edited, and skips everything else.
func certificates(bundle []byte) []*x509.Certificate {
	if len(bundle) > maxBundleBytes {
		return nil
	}
	var out []*x509.Certificate
	for {
		var block *pem.Block
		if block, bundle = pem.Decode(bundle); block == nil {
			return out
		}
		if c, err := x509.ParseCertificate(block.Bytes); err == nil && block.Type == "CERTIFICATE" {
			out = append(out, c)
		}
	}
}
