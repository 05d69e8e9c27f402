package pki

import (
	"crypto"
	"crypto/x509"
	"math/rand/v2"
	"testing"
)

// world is a few names and keys, from which certificates are drawn at random: mostly sound, so that many chains
// verify, with one fault here and there.
type world struct {
	names []string
	keys  []crypto.Signer
	leaf  crypto.Signer
}

func newWorld(t *testing.T) *world {
	t.Helper()
	w := &world{names: []string{"a", "b", "c"}, leaf: newTestKey(t, ECDSAP256)}
	for range w.names {
		w.keys = append(w.keys, newTestKey(t, ECDSAP256))
	}
	return w
}

// draw makes a leaf under "a", and up to four certificates each for its chain and for the bundle.
func (w *world) draw(t *testing.T, random *rand.Rand) (chain, bundle []*x509.Certificate) {
	t.Helper()
	leaf := w.certificate(t, random, forge{name: "leaf", key: w.leaf, leaf: true}, 0)
	chain = append(chain, leaf)
	for range random.IntN(4) {
		chain = append(chain, w.ca(t, random))
	}
	for range 1 + random.IntN(4) {
		bundle = append(bundle, w.ca(t, random))
	}
	return chain, bundle
}

func (w *world) ca(t *testing.T, random *rand.Rand) *x509.Certificate {
	t.Helper()
	subject, issuer := random.IntN(len(w.names)), random.IntN(len(w.names))
	f := forge{name: w.names[subject], key: w.keys[subject]}
	if rarely(random) {
		f.key = w.keys[random.IntN(len(w.keys))]
	}
	if rarely(random) {
		f.keyID = []byte{}
	}
	if rarely(random) {
		f.pathLength = pathLength(random.IntN(2))
	}
	if rarely(random) {
		f.keyUsage = []x509.KeyUsage{-1, x509.KeyUsageCRLSign, x509.KeyUsageCertSign}[random.IntN(3)]
	}
	if rarely(random) {
		f.extUsages = []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth}
	}
	return w.certificate(t, random, f, issuer)
}

// certificate signs with the issuer's name and key, which are faulty at times.
func (w *world) certificate(t *testing.T, random *rand.Rand, f forge, issuer int) *x509.Certificate {
	t.Helper()
	f.issuerName, f.signerKey = w.names[issuer], w.keys[issuer]
	if rarely(random) {
		f.issuerName = []string{"A", " a", "b"}[random.IntN(3)]
	}
	if rarely(random) {
		f.signerKey = w.keys[random.IntN(len(w.keys))]
	}
	keyID, err := subjectKeyID(f.signerKey.Public())
	if err != nil {
		t.Fatal(err)
	}
	f.authority = keyID
	if rarely(random) {
		f.authority = []byte{}
	}
	if rarely(random) {
		f.from, f.to = -9*day, -day
	}
	if rarely(random) {
		f.from = day
	}
	return f.make(t).certificate
}

func rarely(random *rand.Rand) bool { return random.IntN(16) == 0 }
