package probe

import (
	"bytes"
	"crypto/sha256"
	"crypto/x509"
	"encoding/hex"
	"errors"
	"net/url"
	"slices"
	"time"

	"github.com/raytls/raytls/internal/pki"
)

// idBytes is how many bytes of a key identifier make an authority's ID.
const idBytes = 8

// Judge completes the result as a peer that trusts bundle judges it at that time. Without a chain, or without a certificate in the
// bundle, there is nothing to judge.
func (r Result) Judge(bundle []*x509.Certificate, at time.Time) Result {
	if len(r.Chain) == 0 || len(bundle) == 0 {
		return r
	}
	r.Validity = validity(r.Chain, bundle, at)
	switch {
	case r.Validity == "" && hasSPIFFEID(r.Chain[0]):
		r.Answer, r.Cause = Unknown, ServiceMesh
	case r.Validity == "":
		r.Answer, r.Cause = ForeignTLS, ForeignCertificate
	case r.anyClient:
		r.Answer, r.Cause = ForeignTLS, AnyClient
	}
	return r
}

// validity is empty if the chain does not lead to the bundle.
func validity(chain, bundle []*x509.Certificate, at time.Time) Validity {
	leaf := chain[0]
	err := pki.VerifyPair(chain, bundle, at)
	switch {
	case err == nil:
		return Valid
	// A forged leaf can have ended too, so the rest is verified at a time when the leaf was valid.
	case errors.Is(err, pki.ReasonExpired) && pki.VerifyPair(chain, bundle, leaf.NotAfter.Add(-time.Second)) == nil:
		return Expired
	case errors.Is(err, pki.ReasonNotYetValid) && pki.VerifyPair(chain, bundle, leaf.NotBefore) == nil:
		return NotYetValid
	}
	return ""
}

// hasSPIFFEID reports whether a certificate is one of a mesh's. The operator's certificates have no URI.
func hasSPIFFEID(leaf *x509.Certificate) bool {
	return slices.ContainsFunc(leaf.URIs, func(u *url.URL) bool { return u.Scheme == "spiffe" })
}

// AuthorityID is the ID of the authority that signed the leaf's issuer; empty where the certificates do not say. It is proven only
// where Validity is set.
func (r Result) AuthorityID() string {
	if len(r.Chain) == 0 {
		return ""
	}
	keyID := r.Chain[0].AuthorityKeyId
	i := slices.IndexFunc(r.Chain, func(c *x509.Certificate) bool {
		return len(keyID) > 0 && bytes.Equal(c.SubjectKeyId, keyID)
	})
	if i < 0 || len(r.Chain[i].AuthorityKeyId) < idBytes {
		return ""
	}
	return pki.SignerOf(r.Chain[i])
}

// Fingerprint is the beginning of the leaf's SHA-256, in hex: all that is repeated of a certificate that strangers made.
func (r Result) Fingerprint() string {
	if len(r.Chain) == 0 {
		return ""
	}
	sum := sha256.Sum256(r.Chain[0].Raw)
	return hex.EncodeToString(sum[:idBytes])
}
