// Package servingcert makes the admission webhook's authority and serves certificates under it.
//
// API servers trust one authority that lasts ten years. The controller keeps it in a Secret. The webhook's pods mount that
// Secret, and each pod signs its own short-lived certificate in memory, so that replacing a certificate writes nothing.
package servingcert

import (
	"errors"
	"fmt"
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
