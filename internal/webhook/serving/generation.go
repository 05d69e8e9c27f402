package serving

import (
	"bytes"
	"cmp"
	"crypto"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/sha256"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/hex"
	"encoding/pem"
	"fmt"
	"math/big"
	"slices"
	"time"
)

const (
	// backdating is for API servers whose clock is behind.
	backdating = time.Hour

	blockCertificate = "CERTIFICATE"
	blockKey         = "PRIVATE KEY"
	organization     = "raytls.io"
	// maxBundleBytes is more than any bundle of ours takes.
	maxBundleBytes = 256 << 10
)

// Generation is a serving certificate with its key and the authority that signed it. The authority has signed nothing
// else and never will: its key was not kept.
type Generation struct {
	authority, leaf *x509.Certificate
	key             crypto.Signer
}

// newGeneration makes an authority and the one certificate under it, valid from an hour before now.
func (p Profile) newGeneration(now time.Time) (*Generation, error) {
	now = now.UTC().Truncate(time.Second)
	authorityKey, err := newKey()
	if err != nil {
		return nil, err
	}
	template, err := p.template("webhook authority", authorityKey.Public(), now)
	if err != nil {
		return nil, err
	}
	template.KeyUsage, template.IsCA, template.MaxPathLenZero = x509.KeyUsageCertSign, true, true
	authority, err := sign(template, template, authorityKey.Public(), authorityKey)
	if err != nil {
		return nil, err
	}
	key, err := newKey()
	if err != nil {
		return nil, err
	}
	if template, err = p.template("webhook", key.Public(), now); err != nil {
		return nil, err
	}
	template.KeyUsage, template.ExtKeyUsage = x509.KeyUsageDigitalSignature, []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth}
	template.DNSNames = p.DNSNames
	for _, ip := range p.IPs {
		template.IPAddresses = append(template.IPAddresses, ip.Unmap().AsSlice())
	}
	leaf, err := sign(template, authority, key.Public(), authorityKey)
	if err != nil {
		return nil, err
	}
	return &Generation{authority: authority, leaf: leaf, key: key}, nil
}

func newKey() (crypto.Signer, error) { return ecdsa.GenerateKey(elliptic.P256(), rand.Reader) }

// template has a distinguished name of its own for every key, so that no verifier has two authorities to choose from.
func (p Profile) template(name string, public crypto.PublicKey, now time.Time) (*x509.Certificate, error) {
	random := make([]byte, 16)
	if _, err := rand.Read(random); err != nil {
		return nil, fmt.Errorf("reading random bytes for a serial number: %w", err)
	}
	random[0] |= 1 // RFC 5280 asks for a positive number
	der, err := x509.MarshalPKIXPublicKey(public)
	if err != nil {
		return nil, fmt.Errorf("encoding a public key: %w", err)
	}
	sum := sha256.Sum256(der)
	return &x509.Certificate{
		SerialNumber: new(big.Int).SetBytes(random),
		Subject:      pkix.Name{Organization: []string{organization}, CommonName: name, SerialNumber: hex.EncodeToString(sum[:16])},
		NotBefore:    now.Add(-backdating), NotAfter: now.Add(p.Validity),
		BasicConstraintsValid: true,
		SubjectKeyId:          sum[:20],
	}, nil
}

func sign(template, parent *x509.Certificate, public crypto.PublicKey, key crypto.Signer) (*x509.Certificate, error) {
	der, err := x509.CreateCertificate(rand.Reader, template, parent, public, key)
	if err != nil {
		return nil, fmt.Errorf("signing a serving certificate: %w", err)
	}
	certificate, err := x509.ParseCertificate(der)
	if err != nil {
		return nil, fmt.Errorf("reading back a serving certificate just signed: %w", err)
	}
	return certificate, nil
}

// readGeneration reads a certificate and its key back and finds its authority among those given. Nil: it cannot be served.
func readGeneration(certPEM, keyPEM []byte, authorities []*x509.Certificate) *Generation {
	pair, err := tls.X509KeyPair(certPEM, keyPEM)
	if err != nil || len(pair.Certificate) != 1 {
		return nil
	}
	leaf, err := x509.ParseCertificate(pair.Certificate[0])
	key, ok := pair.PrivateKey.(crypto.Signer)
	if err != nil || !ok {
		return nil
	}
	for _, authority := range authorities {
		if bytes.Equal(leaf.RawIssuer, authority.RawSubject) && leaf.CheckSignatureFrom(authority) == nil {
			return &Generation{authority: authority, leaf: leaf, key: key}
		}
	}
	return nil
}

// pem gives the certificate and its key.
func (g *Generation) pem() (certificate, key []byte, err error) {
	der, err := x509.MarshalPKCS8PrivateKey(g.key)
	if err != nil {
		return nil, nil, fmt.Errorf("encoding a serving certificate's key: %w", err)
	}
	return encode(g.leaf), pem.EncodeToMemory(&pem.Block{Type: blockKey, Bytes: der}), nil
}

// ID is 16 hex digits that stand for the generation in logs.
func (g *Generation) ID() string {
	if g == nil {
		return ""
	}
	return id(g.authority)
}

// Format keeps the key out of whatever prints the value.
func (g Generation) Format(state fmt.State, _ rune) {
	fmt.Fprintf(state, "generation %s", id(g.authority))
}

func (g *Generation) certificate() *tls.Certificate {
	return &tls.Certificate{Certificate: [][]byte{g.leaf.Raw}, PrivateKey: g.key, Leaf: g.leaf}
}

// usable says whether an API server that trusts the authority takes the certificate now.
func (g *Generation) usable(now time.Time) bool {
	return g != nil && verify([]*x509.Certificate{g.leaf}, []*x509.Certificate{g.authority}, "", now) == nil
}

// verify checks a chain as an API server does. An empty host stands for any.
func verify(chain, roots []*x509.Certificate, host string, now time.Time) error {
	trusted, intermediates := x509.NewCertPool(), x509.NewCertPool()
	for _, root := range roots {
		trusted.AddCert(root)
	}
	for _, c := range chain[1:] {
		intermediates.AddCert(c)
	}
	_, err := chain[0].Verify(x509.VerifyOptions{
		DNSName: host, Roots: trusted, Intermediates: intermediates, CurrentTime: now,
		KeyUsages: []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth},
	})
	return err
}

// parseBundle reads the CA certificates of a PEM bundle and passes over everything else.
func parseBundle(bundle []byte) []*x509.Certificate {
	return slices.DeleteFunc(parseCertificates(bundle), func(c *x509.Certificate) bool { return !c.IsCA })
}

// parseCertificates reads all certificates of a PEM bundle. API servers trust each, also one that is no CA's.
func parseCertificates(bundle []byte) []*x509.Certificate {
	if len(bundle) > maxBundleBytes {
		return nil
	}
	var out []*x509.Certificate
	for {
		var block *pem.Block
		if block, bundle = pem.Decode(bundle); block == nil {
			return unique(out)
		}
		if certificate, err := x509.ParseCertificate(block.Bytes); err == nil && block.Type == blockCertificate {
			out = append(out, certificate)
		}
	}
}

// unique sorts certificates, the newest first, and drops repeated ones.
func unique(certificates []*x509.Certificate) []*x509.Certificate {
	out := slices.Clone(certificates)
	slices.SortFunc(out, func(a, b *x509.Certificate) int {
		return cmp.Or(b.NotBefore.Compare(a.NotBefore), bytes.Compare(a.Raw, b.Raw))
	})
	return slices.CompactFunc(out, (*x509.Certificate).Equal)
}

func encode(certificates ...*x509.Certificate) []byte {
	var out []byte
	for _, c := range certificates {
		out = append(out, pem.EncodeToMemory(&pem.Block{Type: blockCertificate, Bytes: c.Raw})...)
	}
	return out
}
