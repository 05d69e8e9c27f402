// Package servingcert makes the admission webhook's authority and serves certificates under it.
//
// API servers trust one authority that lasts ten years. The controller keeps it in a Secret. The webhook's pods mount that
// Secret, and each pod signs its own short-lived certificate in memory, so that replacing a certificate writes nothing.
package servingcert

import (
	"bytes"
	"cmp"
	"crypto/x509"
	"encoding/pem"
	"errors"
	"fmt"
	"slices"
	"strconv"
	"time"

	"github.com/raytls/raytls/internal/pki"
)

// Keys of the Secret, which are the names of the files where it is mounted.
const (
	keyCertificate   = "tls.crt"
	keyPrivateKey    = "tls.key"
	keyFormatVersion = "formatVersion"
)

const (
	// formatVersion is the newest version of the Secret's format that this package knows.
	formatVersion = 1
	// authorityName is the common name of every authority of this package.
	authorityName = "raytls-webhook"

	day               = 24 * time.Hour
	authorityValidity = 3650 * day
	// lastYear is how long before its end an authority is replaced.
	lastYear = 365 * day

	// Retiring is how long an authority is trusted after it was replaced. Kubelets refresh a mounted Secret within about a
	// minute; until then a pod serves under the authority that it has.
	Retiring = time.Hour
	// maxRetired bounds the bundle, however often the authority is replaced.
	maxRetired = 2
	// maxBundleBytes is far above the size of every bundle that Bundle returns.
	maxBundleBytes = 64 << 10
)

// ErrNewerFormat says that a newer operator wrote the Secret. Whoever gets it leaves the Secret alone.
var ErrNewerFormat = errors.New("it has a newer format than this version of raytls knows; run the newer version, or delete it to have the authority replaced")

// NewAuthority makes an authority that is valid for ten years from now.
func NewAuthority(now time.Time) (*pki.Authority, error) {
	authority, err := pki.NewAuthority(pki.AuthorityOptions{
		Name: authorityName, KeyAlgorithm: pki.ECDSAP256, Validity: authorityValidity, Now: now,
	})
	if err != nil {
		return nil, fmt.Errorf("making the admission webhook's authority: %w", err)
	}
	return authority, nil
}

// Parse reads what Data returned. It refuses data that was altered, an authority that is not valid now, and, with
// ErrNewerFormat, what a newer operator wrote.
func Parse(data map[string][]byte, now time.Time) (*pki.Authority, error) {
	version, err := strconv.Atoi(string(data[keyFormatVersion]))
	if err != nil || version < 1 {
		return nil, fmt.Errorf("its %s is not a version", keyFormatVersion)
	}
	if version > formatVersion {
		return nil, fmt.Errorf("%s %d: %w", keyFormatVersion, version, ErrNewerFormat)
	}
	authority, err := pki.ParseAuthority(data[keyCertificate], data[keyPrivateKey])
	if err != nil {
		return nil, fmt.Errorf("%s and %s: %w", keyCertificate, keyPrivateKey, err)
	}
	if authority.Certificate().Subject.CommonName != authorityName {
		return nil, fmt.Errorf("%s is not an authority of the admission webhook", keyCertificate)
	}
	if now.Before(authority.NotBefore()) || !now.Before(authority.NotAfter()) {
		return nil, fmt.Errorf("%s is valid from %s to %s", keyCertificate, authority.NotBefore().Format(time.RFC3339), authority.NotAfter().Format(time.RFC3339))
	}
	return authority, nil
}

// Data returns what the Secret holds for an authority.
func Data(authority *pki.Authority) (map[string][]byte, error) {
	key, err := authority.KeyPEM()
	if err != nil {
		return nil, fmt.Errorf("encoding the key of the admission webhook's authority: %w", err)
	}
	return map[string][]byte{
		keyCertificate: authority.CertificatePEM(), keyPrivateKey: key, keyFormatVersion: []byte(strconv.Itoa(formatVersion)),
	}, nil
}

// RenewAt returns when an authority is due to be replaced.
func RenewAt(authority *pki.Authority) time.Time { return authority.NotAfter().Add(-lastYear) }

// Bundle returns the PEM certificates that API servers trust: the authority and, the newest first, at most two other
// authorities of the webhook that the bundles in has name and that are still valid.
func Bundle(authority *pki.Authority, now time.Time, has ...[]byte) []byte {
	var others []*x509.Certificate
	for _, bundle := range has {
		for _, c := range certificates(bundle) {
			if ours(c) && !c.Equal(authority.Certificate()) && !now.Before(c.NotBefore) && now.Before(c.NotAfter) {
				others = append(others, c)
			}
		}
	}
	slices.SortFunc(others, func(a, b *x509.Certificate) int {
		return cmp.Or(b.NotBefore.Compare(a.NotBefore), bytes.Compare(a.Raw, b.Raw))
	})
	others = slices.CompactFunc(others, (*x509.Certificate).Equal)
	return append(authority.CertificatePEM(), pki.EncodeBundle(others[:min(len(others), maxRetired)]...)...)
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
