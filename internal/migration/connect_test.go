package migration

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/pem"
	"errors"
	"math/big"
	"net"
	"testing"
	"time"

	"github.com/raytls/raytls/internal/pki"
)

// peer is what a pod presents and trusts.
type peer struct {
	chain, bundle []*x509.Certificate
	key           any
}

// broughtCA makes a CA as the guide's openssl command does.
func broughtCA(t testing.TB, now time.Time) (certificate *x509.Certificate, key *ecdsa.PrivateKey, certPEM, keyPEM []byte) {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	certificate = signed(t, &x509.Certificate{
		Subject: pkix.Name{CommonName: "*.example.com"}, NotBefore: now.Add(-time.Hour), NotAfter: now.AddDate(10, 0, 0),
		BasicConstraintsValid: true, IsCA: true,
	}, nil, key, key)
	der, err := x509.MarshalPKCS8PrivateKey(key)
	if err != nil {
		t.Fatal(err)
	}
	return certificate, key,
		pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: certificate.Raw}),
		pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: der})
}

func signed(t testing.TB, template, parent *x509.Certificate, key, signer *ecdsa.PrivateKey) *x509.Certificate {
	t.Helper()
	template.SerialNumber = big.NewInt(time.Now().UnixNano())
	if parent == nil {
		parent = template
	}
	der, err := x509.CreateCertificate(rand.Reader, template, parent, key.Public(), signer)
	if err != nil {
		t.Fatal(err)
	}
	certificate, err := x509.ParseCertificate(der)
	if err != nil {
		t.Fatal(err)
	}
	return certificate
}

// oldPod has what the guide's scripts make: a certificate that the CA signed, which is all that is presented and all
// that is trusted.
func oldPod(t *testing.T, root *x509.Certificate, rootKey *ecdsa.PrivateKey, now time.Time) peer {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	leaf := signed(t, &x509.Certificate{
		Subject: pkix.Name{CommonName: "*.example.com"}, NotBefore: now.Add(-time.Hour), NotAfter: now.AddDate(1, 0, 0),
		BasicConstraintsValid: true, DNSNames: []string{"localhost"}, IPAddresses: []net.IP{net.IPv4(127, 0, 0, 1)},
		KeyUsage: x509.KeyUsageDigitalSignature | x509.KeyUsageContentCommitment | x509.KeyUsageKeyEncipherment | x509.KeyUsageDataEncipherment,
	}, root, key, rootKey)
	return peer{chain: []*x509.Certificate{leaf}, bundle: []*x509.Certificate{root}, key: key}
}

// authorityUnder is a cluster's authority that the brought CA signs, and its issuer.
func authorityUnder(t *testing.T, certPEM, keyPEM []byte, now time.Time) (*pki.Authority, *pki.Issuer) {
	t.Helper()
	parent, err := pki.ParseParent(certPEM, keyPEM, now)
	if err != nil {
		t.Fatal(err)
	}
	authority, err := pki.NewAuthority(pki.AuthorityOptions{
		Name: "ml/train", KeyAlgorithm: pki.ECDSAP256, Validity: 3650 * 24 * time.Hour, Now: now, Parent: parent,
	})
	if err != nil {
		t.Fatal(err)
	}
	issuer, err := authority.NewIssuer(pki.IssuerOptions{KeyAlgorithm: pki.ECDSAP256, Validity: 730 * 24 * time.Hour, Now: now})
	if err != nil {
		t.Fatal(err)
	}
	return authority, issuer
}

// newPod has what the operator's authority under the brought CA gives.
func newPod(t *testing.T, certPEM, keyPEM []byte, now time.Time) peer {
	t.Helper()
	authority, issuer := authorityUnder(t, certPEM, keyPEM, now)
	leafPEM, leafKey, err := issuer.NewLeaf(pki.LeafOptions{
		CommonName: "train", DNSNames: []string{"localhost"}, KeyAlgorithm: pki.ECDSAP256, Validity: 365 * 24 * time.Hour, Now: now,
	})
	if err != nil {
		t.Fatal(err)
	}
	leaf, err := pki.ParseBundle(leafPEM)
	if err != nil {
		t.Fatal(err)
	}
	block, _ := pem.Decode(leafKey)
	key, err := x509.ParsePKCS8PrivateKey(block.Bytes)
	if err != nil {
		t.Fatal(err)
	}
	return peer{
		chain: append(leaf, issuer.Certificate()), bundle: []*x509.Certificate{authority.Certificate()}, key: key,
	}
}

// handshake gives each side's verdict; in TLS 1.3 a client is done before the server has judged it.
func handshake(client, server peer) (clientErr, serverErr error) {
	config := func(p peer) *tls.Config {
		c := &tls.Config{MinVersion: tls.VersionTLS12, ServerName: "localhost", ClientAuth: tls.RequireAndVerifyClientCert}
		raw := make([][]byte, 0, len(p.chain))
		for _, certificate := range p.chain {
			raw = append(raw, certificate.Raw)
		}
		c.Certificates = []tls.Certificate{{Certificate: raw, PrivateKey: p.key}}
		c.RootCAs = x509.NewCertPool()
		for _, certificate := range p.bundle {
			c.RootCAs.AddCert(certificate)
		}
		c.ClientCAs = c.RootCAs
		return c
	}
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return err, err
	}
	defer listener.Close()
	done := make(chan error, 1)
	go func() {
		accepted, err := listener.Accept()
		if err == nil {
			defer accepted.Close()
			err = errors.Join(accepted.SetDeadline(time.Now().Add(time.Minute)), tls.Server(accepted, config(server)).Handshake())
		}
		done <- err
	}()
	dialled, err := net.Dial("tcp", listener.Addr().String())
	if err != nil {
		return err, err
	}
	defer dialled.Close()
	connection := tls.Client(dialled, config(client))
	clientErr = errors.Join(dialled.SetDeadline(time.Now().Add(time.Minute)), connection.Handshake())
	return clientErr, <-done
}

// TestOldAndNewPods is what the notes and the docs say about a rollout.
func TestOldAndNewPods(t *testing.T) {
	t.Parallel()
	now := time.Now()
	root, rootKey, certPEM, keyPEM := broughtCA(t, now)
	old, another := oldPod(t, root, rootKey, now), oldPod(t, root, rootKey, now)
	fresh := newPod(t, certPEM, keyPEM, now)
	// What the operator does not do: to present the authority too, up to the brought CA.
	longer := fresh
	longer.chain = append(append([]*x509.Certificate{}, fresh.chain...), fresh.bundle...)

	for name, c := range map[string]struct {
		reason         string
		client, server peer
		// trusted by the client, and by the server
		server2client, client2server bool
	}{
		"old to old":    {"the cluster works until it is restarted", old, another, true, true},
		"new to new":    {"and after it", fresh, fresh, true, true},
		"old to new":    {"the chain ends at an authority that the old pod does not know; the new one trusts no certificate of the brought CA's", old, fresh, false, false},
		"new to old":    {"the same the other way round", fresh, old, false, false},
		"old to longer": {"a longer chain would satisfy old pods, but the new one still refuses them, and TLS is mutual", old, longer, true, false},
		"longer to old": {"the same the other way round", longer, old, false, true},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			for _, side := range []struct {
				who       string
				presented peer
				judge     peer
				want      bool
			}{{"the client", c.server, c.client, c.server2client}, {"the server", c.client, c.server, c.client2server}} {
				err := pki.VerifyPair(side.presented.chain, side.judge.bundle, now)
				if (err == nil) != side.want {
					t.Errorf("%s: to both verifiers, %s says %v", c.reason, side.who, err)
				}
				if err != nil && !errors.Is(err, pki.ReasonNoIssuer) {
					t.Errorf("%s: %s refuses for another reason: %v", c.reason, side.who, err)
				}
				if goErr := goVerify(side.presented, side.judge, now); (goErr == nil) != side.want {
					t.Errorf("%s: to Go's verifier, %s says %v", c.reason, side.who, goErr)
				}
			}
			clientErr, serverErr := handshake(c.client, c.server)
			connected := clientErr == nil && serverErr == nil
			if want := c.server2client && c.client2server; connected != want {
				t.Errorf("%s: the client says %v, the server %v", c.reason, clientErr, serverErr)
			}
		})
	}
}

// goVerify tries every path there is.
func goVerify(presented, judge peer, now time.Time) error {
	options := x509.VerifyOptions{
		Roots: x509.NewCertPool(), Intermediates: x509.NewCertPool(), CurrentTime: now, KeyUsages: []x509.ExtKeyUsage{x509.ExtKeyUsageAny},
	}
	for _, certificate := range judge.bundle {
		options.Roots.AddCert(certificate)
	}
	for _, certificate := range presented.chain[1:] {
		options.Intermediates.AddCert(certificate)
	}
	_, err := presented.chain[0].Verify(options)
	return err
}
