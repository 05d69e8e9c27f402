package gencert

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/pem"
	"math/big"
	"testing"
	"time"

	"github.com/raytls/raytls/internal/pki"
)

// TestWithAuthorities signs with what the operator makes, and has the verifiers that peers use judge the leaf.
func TestWithAuthorities(t *testing.T) {
	for _, algorithm := range pki.KeyAlgorithms() {
		for _, brought := range []bool{false, true} {
			name := string(algorithm)
			if brought {
				name += " under a brought CA"
			}
			t.Run(name, func(t *testing.T) {
				shell := anyShell(t)
				t.Parallel()
				now := time.Now()
				options := pki.AuthorityOptions{Name: "ml/rayc", KeyAlgorithm: algorithm, Validity: 1000 * 24 * time.Hour, Now: now}
				if brought {
					options.Parent = newParent(t)
				}
				authority, err := pki.NewAuthority(options)
				if err != nil {
					t.Fatal(err)
				}
				issuer, err := authority.NewIssuer(pki.IssuerOptions{KeyAlgorithm: algorithm, Validity: 60 * 24 * time.Hour, Now: now})
				if err != nil {
					t.Fatal(err)
				}
				key, err := issuer.KeyPEM()
				if err != nil {
					t.Fatal(err)
				}
				profile := Profile{
					Revision: 1, Authority: authority.ID(), Issuer: issuer.ID(),
					IssuerNotBefore: issuer.NotBefore(), IssuerNotAfter: issuer.NotAfter(),
					KeyAlgorithm: "ECDSAP256", ValidityDays: 30, CAKeyAlgorithm: string(algorithm),
				}
				text, err := profile.Marshal()
				if err != nil {
					t.Fatal(err)
				}
				p := newPod(t, shell, HeadScript)
				const fqdn = "rayc-abcde.rayc-headless.ml.svc.cluster.local"
				p.write("hosts", "10.1.2.3\t"+fqdn+"\trayc-abcde\n", 0o644)
				p.publish("issuer", "..1", map[string]string{
					"ca.key": string(key), "issuer.crt": string(issuer.CertificatePEM()), "chain.pem": string(issuer.CertificatePEM()),
					"ca.crt": string(authority.CertificatePEM()), "profile": string(text),
				})
				r := p.issued(p.run())
				if err := pki.VerifyPair(r.chain, []*x509.Certificate{authority.Certificate()}, time.Now()); err != nil {
					t.Error(err)
				}
				if r.report.Authority != authority.ID() || r.report.Issuer != issuer.ID() {
					t.Errorf("report names %s and %s", r.report.Authority, r.report.Issuer)
				}
				for _, name := range []string{headService, fqdn, "10.1.2.3"} {
					handshake(t, r, r, name)
				}
			})
		}
	}
}

// TestWithBridges has pods of two generations of an authority make their files and dial each other, as a released script knows no
// bridges.
func TestWithBridges(t *testing.T) {
	const life = 1000 * 24 * time.Hour
	now := time.Now()
	var authorities []*pki.Authority
	for range 2 {
		made, err := pki.NewAuthority(pki.AuthorityOptions{Name: "ml/rayc", KeyAlgorithm: pki.ECDSAP256, Validity: life, Now: now})
		if err != nil {
			t.Fatal(err)
		}
		authorities = append(authorities, made)
	}
	bridge := func(from, to *pki.Authority) []byte {
		made, err := from.Bridge(pki.BridgeOptions{To: to.Certificate(), Now: now})
		if err != nil {
			t.Fatal(err)
		}
		return pki.EncodeBundle(made)
	}
	old, present := authorities[0], authorities[1]
	forward, reverse := bridge(old, present), bridge(present, old)
	eachShell(t, func(t *testing.T, shell []string) {
		made := func(authority *pki.Authority, chain, bundle []byte) result {
			t.Helper()
			issuer, err := authority.NewIssuer(pki.IssuerOptions{KeyAlgorithm: pki.ECDSAP256, Validity: life / 2, Now: now})
			if err != nil {
				t.Fatal(err)
			}
			key, err := issuer.KeyPEM()
			if err != nil {
				t.Fatal(err)
			}
			text, err := Profile{
				Revision: 1, Authority: authority.ID(), Issuer: issuer.ID(), IssuerNotBefore: issuer.NotBefore(), IssuerNotAfter: issuer.NotAfter(),
				KeyAlgorithm: "ECDSAP256", ValidityDays: 30, CAKeyAlgorithm: "ECDSAP256",
			}.Marshal()
			if err != nil {
				t.Fatal(err)
			}
			p := newPod(t, shell, HeadScript)
			p.publish("issuer", "..1", map[string]string{
				"ca.key": string(key), "issuer.crt": string(issuer.CertificatePEM()), "chain.pem": string(issuer.CertificatePEM()) + string(chain),
				"ca.crt": string(authority.CertificatePEM()) + string(bundle), "profile": string(text),
			})
			return p.issued(p.run())
		}
		earlier, later := made(old, nil, nil), made(present, forward, reverse)
		if len(later.chain) != 3 {
			t.Errorf("the pod presents %d certificates", len(later.chain))
		}
		for _, server := range []result{earlier, later} {
			for _, client := range []result{earlier, later} {
				handshake(t, server, client, headService)
			}
		}
		if dial(made(old, nil, nil), made(present, nil, reverse), headService) == nil || dial(made(present, forward, nil), earlier, headService) == nil {
			t.Error("without a bridge they refuse each other")
		}
	})
}

func newParent(t *testing.T) *pki.Parent {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	template := &x509.Certificate{
		SerialNumber: big.NewInt(1), Subject: pkix.Name{CommonName: "brought"},
		NotBefore: time.Now().Add(-time.Hour), NotAfter: time.Now().Add(2000 * 24 * time.Hour),
		IsCA: true, BasicConstraintsValid: true, KeyUsage: x509.KeyUsageCertSign | x509.KeyUsageCRLSign,
	}
	_, certificate := sign(t, template, template, key, key)
	der, err := x509.MarshalPKCS8PrivateKey(key)
	if err != nil {
		t.Fatal(err)
	}
	parent, err := pki.ParseParent(certificate, pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: der}), time.Now())
	if err != nil {
		t.Fatal(err)
	}
	return parent
}
