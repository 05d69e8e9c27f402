package probe

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/rsa"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/pem"
	"math/big"
	"net/netip"
	"net/url"
	"testing"
	"time"

	"github.com/raytls/raytls/internal/pki"
)

const day = 24 * time.Hour

func epoch() time.Time { return time.Date(2026, 1, 2, 3, 4, 5, 0, time.UTC) }

// authority is a cluster's, with what its pods trust.
type authority struct {
	*pki.Authority
	issuer *pki.Issuer
	bundle []*x509.Certificate
}

func newAuthority(t *testing.T) authority {
	t.Helper()
	made, err := pki.NewAuthority(pki.AuthorityOptions{Name: "ml/train", KeyAlgorithm: pki.ECDSAP256, Validity: 3650 * day, Now: epoch()})
	if err != nil {
		t.Fatal(err)
	}
	issuer, err := made.NewIssuer(pki.IssuerOptions{KeyAlgorithm: pki.ECDSAP256, Validity: 730 * day, Now: epoch()})
	if err != nil {
		t.Fatal(err)
	}
	return authority{made, issuer, []*x509.Certificate{made.Certificate()}}
}

// chain is a head's leaf and its issuer, with the leaf's key.
func (a authority) chain(t *testing.T) tls.Certificate {
	t.Helper()
	leafPEM, keyPEM, err := a.issuer.NewLeaf(pki.LeafOptions{
		CommonName: "train-head", IPs: []netip.Addr{netip.MustParseAddr("192.0.2.1")}, KeyAlgorithm: pki.ECDSAP256, Validity: 365 * day, Now: epoch(),
	})
	if err != nil {
		t.Fatal(err)
	}
	chain, err := tls.X509KeyPair(append(leafPEM, a.issuer.CertificatePEM()...), keyPEM)
	if err != nil {
		t.Fatal(err)
	}
	return chain
}

func certificates(t *testing.T, chain tls.Certificate) []*x509.Certificate {
	t.Helper()
	var out []*x509.Certificate
	for _, raw := range chain.Certificate {
		certificate, err := x509.ParseCertificate(raw)
		if err != nil {
			t.Fatal(err)
		}
		out = append(out, certificate)
	}
	return out
}

// selfSigned is a stranger's certificate of that template.
func selfSigned(t *testing.T, template *x509.Certificate) tls.Certificate {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	template.SerialNumber, template.NotBefore, template.NotAfter = big.NewInt(1), epoch().Add(-day), epoch().Add(day)
	raw, err := x509.CreateCertificate(rand.Reader, template, template, key.Public(), key)
	if err != nil {
		t.Fatal(err)
	}
	return tls.Certificate{Certificate: [][]byte{raw}, PrivateKey: key}
}

// spiffe is a certificate as Istio's proxies present it.
func spiffe(t *testing.T) tls.Certificate {
	t.Helper()
	return selfSigned(t, &x509.Certificate{URIs: []*url.URL{{Scheme: "spiffe", Host: "cluster.local", Path: "/ns/ml/sa/default"}}})
}

// giantKey is a certificate with an RSA key of 65,536 bits.
func giantKey(t *testing.T) []byte {
	t.Helper()
	signer, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	modulus := new(big.Int).Lsh(big.NewInt(1), 1<<16)
	template := &x509.Certificate{SerialNumber: big.NewInt(1), Subject: pkix.Name{CommonName: "giant"}, NotAfter: epoch().Add(day)}
	raw, err := x509.CreateCertificate(rand.Reader, template, template, &rsa.PublicKey{N: modulus.Add(modulus, big.NewInt(1)), E: 65537}, signer)
	if err != nil {
		t.Fatal(err)
	}
	return raw
}

func bundlePEM(certificates ...*x509.Certificate) []byte {
	var out []byte
	for _, certificate := range certificates {
		out = append(out, pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: certificate.Raw})...)
	}
	return out
}
