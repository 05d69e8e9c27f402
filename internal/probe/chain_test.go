package probe

import (
	"crypto/ecdsa"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"math/big"
	"testing"
	"time"
)

func TestJudge(t *testing.T) {
	own, other := newAuthority(t), newAuthority(t)
	chain := certificates(t, own.chain(t))
	for name, c := range map[string]struct {
		reason        string
		chain, bundle []*x509.Certificate
		at            time.Time
		want          string
	}{
		"own":              {"a pod's chain leads to its authority", chain, own.bundle, epoch(), "TLS Valid"},
		"several":          {"a bundle can hold more than one authority", chain, append(other.bundle, own.bundle...), epoch(), "TLS Valid"},
		"partial":          {"an anchor need not be self-signed", chain, []*x509.Certificate{own.issuer.Certificate()}, epoch(), "TLS Valid"},
		"other":            {"another authority's chain leads elsewhere", certificates(t, other.chain(t)), own.bundle, epoch(), "ForeignTLS ForeignCertificate"},
		"without issuer":   {"clients do not know the issuer", chain[:1], own.bundle, epoch(), "ForeignTLS ForeignCertificate"},
		"self-signed":      {"a stranger's leaf leads nowhere", certificates(t, selfSigned(t, &x509.Certificate{})), own.bundle, epoch(), "ForeignTLS ForeignCertificate"},
		"ended":            {"clients refuse a leaf that has ended", chain, own.bundle, epoch().Add(366 * day), "TLS Expired"},
		"all ended":        {"and so they do when its issuer has ended too", chain, own.bundle, epoch().Add(3000 * day), "TLS Expired"},
		"early":            {"a clock that is behind is told from a wrong chain", chain, own.bundle, epoch().Add(-time.Hour), "TLS NotYetValid"},
		"forged and ended": {"a leaf that only claims the issuer is foreign, ended or not", append(forged(t, own), chain[1]), own.bundle, epoch().Add(2 * day), "ForeignTLS ForeignCertificate"},
		"mesh":             {"a mesh's proxy stands before Ray", certificates(t, spiffe(t)), own.bundle, epoch(), "Unknown ServiceMesh"},
		"no bundle":        {"without a bundle there is no verdict", chain, nil, epoch(), "TLS"},
	} {
		t.Run(name, func(t *testing.T) {
			result := Result{Answer: TLS, Chain: c.chain}.Judge(c.bundle, c.at)
			if got := text(result); got != c.want {
				t.Errorf("%s: got %q, want %q", c.reason, got, c.want)
			}
		})
	}
}

// forged is a leaf with the issuer's name and key identifier, signed by somebody else, that has ended after a day.
func forged(t *testing.T, of authority) []*x509.Certificate {
	t.Helper()
	strange := selfSigned(t, &x509.Certificate{})
	key, ok := strange.PrivateKey.(*ecdsa.PrivateKey)
	if !ok {
		t.Fatal("no ECDSA key")
	}
	parent := *of.issuer.Certificate()
	parent.PublicKey = key.Public()
	template := &x509.Certificate{
		SerialNumber: big.NewInt(2), Subject: pkix.Name{CommonName: "forged"}, NotBefore: epoch().Add(-day), NotAfter: epoch().Add(day),
		KeyUsage: x509.KeyUsageDigitalSignature, BasicConstraintsValid: true,
		ExtKeyUsage: []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth, x509.ExtKeyUsageClientAuth},
	}
	raw, err := x509.CreateCertificate(rand.Reader, template, &parent, key.Public(), key)
	if err != nil {
		t.Fatal(err)
	}
	return certificates(t, tls.Certificate{Certificate: [][]byte{raw}})
}

func TestAuthorityID(t *testing.T) {
	own, other := newAuthority(t), newAuthority(t)
	chain := certificates(t, own.chain(t))
	for name, c := range map[string]struct {
		reason string
		chain  []*x509.Certificate
		want   string
	}{
		"chain":         {"the issuer names the authority", chain, own.ID()},
		"another first": {"only the leaf's own issuer counts", []*x509.Certificate{chain[0], other.issuer.Certificate(), chain[1]}, own.ID()},
		"leaf":          {"a leaf alone names only its issuer", chain[:1], ""},
		"none":          {"no chain names nothing", nil, ""},
	} {
		t.Run(name, func(t *testing.T) {
			if got := (Result{Chain: c.chain}).AuthorityID(); got != c.want {
				t.Errorf("%s: got %q, want %q", c.reason, got, c.want)
			}
		})
	}
}
