package main

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"math/big"
	"net"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
)

// authority signs in tests.
type authority struct {
	certificate *x509.Certificate
	key         *ecdsa.PrivateKey
	pool        *x509.CertPool
}

func newKey(t *testing.T) *ecdsa.PrivateKey {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	return key
}

func signed(t *testing.T, template, parent *x509.Certificate, public any, key *ecdsa.PrivateKey) *x509.Certificate {
	t.Helper()
	template.SerialNumber = big.NewInt(1)
	template.NotBefore, template.NotAfter = time.Now().Add(-time.Hour), time.Now().Add(time.Hour)
	der, err := x509.CreateCertificate(rand.Reader, template, parent, public, key)
	if err != nil {
		t.Fatal(err)
	}
	certificate, err := x509.ParseCertificate(der)
	if err != nil {
		t.Fatal(err)
	}
	return certificate
}

func newAuthority(t *testing.T, name string) *authority {
	t.Helper()
	a := &authority{key: newKey(t), pool: x509.NewCertPool()}
	template := &x509.Certificate{
		Subject: pkix.Name{CommonName: name}, IsCA: true, BasicConstraintsValid: true, KeyUsage: x509.KeyUsageCertSign,
	}
	a.certificate = signed(t, template, template, a.key.Public(), a.key)
	a.pool.AddCert(a.certificate)
	return a
}

func (a *authority) member(t *testing.T, ip string, names ...string) member {
	t.Helper()
	key := newKey(t)
	leaf := signed(t, &x509.Certificate{
		DNSNames: append([]string{"localhost"}, names...), IPAddresses: []net.IP{net.ParseIP(ip)},
		ExtKeyUsage: []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth, x509.ExtKeyUsageClientAuth},
	}, a.certificate, key.Public(), a.key)
	certificate := tls.Certificate{Certificate: [][]byte{leaf.Raw}, PrivateKey: key, Leaf: leaf}
	return member{
		identity: &identity{certificate: certificate, authorities: a.pool}, ip: ip,
		fqdn: "head.ns.svc.cluster.local", short: "head",
	}
}

func TestCast_play(t *testing.T) {
	t.Parallel()
	const fqdn = "head.ns.svc.cluster.local"
	for name, c := range map[string]struct {
		reason string
		edit   func(c *cast, ours *authority)
		want   []string // the checks that fail
	}{
		"good": {"what the operator's certificates do", func(*cast, *authority) {}, nil},
		"bare name": {
			"a head with the bare name is reached by it", func(c *cast, ours *authority) { c.head = ours.member(t, "10.0.0.1", fqdn, "head") },
			[]string{"worker → head, $RAY_IP"},
		},
		"impersonation": {
			"a worker's certificate with the head's name is one for an impostor",
			func(c *cast, ours *authority) { c.worker = ours.member(t, "10.0.0.2", fqdn) },
			[]string{"worker → a worker that poses as the head"},
		},
		"head's address": {
			"the autoscaler dials the address", func(c *cast, ours *authority) { c.head = ours.member(t, "10.0.0.9", fqdn); c.head.ip = "10.0.0.1" },
			[]string{"worker → head, pod IP"},
		},
		"worker's address": {
			"each node dials the others", func(c *cast, ours *authority) { c.worker = ours.member(t, "10.0.0.9"); c.worker.ip = "10.0.0.2" },
			[]string{"head → worker, pod IP"},
		},
		"one authority": {
			"clusters that share an authority are one", func(c *cast, ours *authority) { c.stranger = ours.member(t, "10.1.0.2") },
			[]string{"other cluster's worker → head", "the same, trusting this head on purpose", "head → other cluster's worker"},
		},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			ours, theirs := newAuthority(t, "ours"), newAuthority(t, "theirs")
			people := &cast{
				head: ours.member(t, "10.0.0.1", fqdn), worker: ours.member(t, "10.0.0.2"), colleague: ours.member(t, "10.0.0.3"),
				stranger: theirs.member(t, "10.1.0.2"),
			}
			c.edit(people, ours)
			checks, err := people.play(t.Context())
			if err != nil {
				t.Fatal(err)
			}
			var failed []string
			for _, check := range checks {
				if !check.ok {
					failed = append(failed, check.what)
				}
			}
			if diff := cmp.Diff(c.want, failed); diff != "" {
				t.Errorf("%s (-want +got):\n%s\n%s", c.reason, diff, formatChecks(checks))
			}
		})
	}
}
