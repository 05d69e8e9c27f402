package servingcert

import (
	"crypto/tls"
	"fmt"
	"net/http"
	"net/netip"
	"os"
	"path/filepath"
	"sync"
	"time"

	"k8s.io/utils/clock"

	"github.com/raytls/raytls/internal/pki"
)

const (
	// leafValidity is the life of a certificate. It is replaced when two thirds of it have passed.
	leafValidity = 90 * day
	// reading is how long the files are trusted to be as they were read.
	reading = 10 * time.Second
)

// Server serves a certificate that it signs itself with the authority that a directory holds. It reads the files and signs
// while it answers a handshake, so nothing runs in between. It is safe for concurrent use.
type Server struct {
	// Directory is where the authority's Secret is mounted.
	Directory string
	// DNSNames and IPs are the names that API servers call the webhook by.
	DNSNames []string
	IPs      []netip.Addr
	Clock    clock.PassiveClock
	// Report is called with an error that left an older certificate in service.
	Report func(error)

	mu sync.Mutex
	// read is when the files were read.
	read      time.Time
	authority *pki.Authority
	// leaf is served, signedBy its authority.
	leaf     *tls.Certificate
	signedBy *pki.Authority
}

// Configure makes a TLS server serve the certificate by TLS 1.3.
func (s *Server) Configure(config *tls.Config) {
	config.MinVersion = tls.VersionTLS13
	config.GetCertificate = s.GetCertificate
}

// Ready is a readiness check: it returns an error while there is no certificate to serve.
func (s *Server) Ready(*http.Request) error {
	_, err := s.GetCertificate(nil)
	return err
}

// GetCertificate returns the certificate to serve now. It is for tls.Config.
func (s *Server) GetCertificate(*tls.ClientHelloInfo) (*tls.Certificate, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	now := s.Clock.Now()
	err := s.refresh(now)
	if err == nil {
		return s.leaf, nil
	}
	if s.leaf == nil || !now.Before(s.leaf.Leaf.NotAfter) {
		return nil, err
	}
	if s.Report != nil {
		s.Report(err)
	}
	return s.leaf, nil
}

// Format keeps the keys out of whatever prints the value.
func (s *Server) Format(state fmt.State, _ rune) {
	fmt.Fprintf(state, "certificates under %s", s.Directory)
}

// refresh reads the authority where it may have changed, and signs a certificate where one is due.
func (s *Server) refresh(now time.Time) error {
	if age := now.Sub(s.read); s.authority == nil || age >= reading || age < 0 {
		if err := s.readAuthority(now); err != nil {
			return err
		}
	}
	if s.signedBy == s.authority {
		notBefore, notAfter := s.leaf.Leaf.NotBefore, s.leaf.Leaf.NotAfter
		if !now.Before(notBefore) && now.Before(notBefore.Add(notAfter.Sub(notBefore)*2/3)) {
			return nil
		}
	}
	leaf, err := sign(s.authority, s.DNSNames, s.IPs, now)
	if err != nil {
		return err
	}
	s.leaf, s.signedBy = leaf, s.authority
	return nil
}

// readAuthority reads the files and replaces the authority if they hold another.
func (s *Server) readAuthority(now time.Time) error {
	s.read = now
	data := map[string][]byte{}
	for _, key := range []string{keyCertificate, keyPrivateKey, keyFormatVersion} {
		content, err := os.ReadFile(filepath.Join(s.Directory, key))
		if err != nil {
			return fmt.Errorf("reading the admission webhook's authority: %w", err)
		}
		data[key] = content
	}
	authority, err := Parse(data, now)
	if err != nil {
		return fmt.Errorf("the admission webhook's authority in %s cannot be used: %w", s.Directory, err)
	}
	if s.authority == nil || !s.authority.Certificate().Equal(authority.Certificate()) {
		s.authority = authority
	}
	return nil
}

// sign makes a key and a certificate for the names, with the issuer that signed it as its chain.
func sign(authority *pki.Authority, names []string, ips []netip.Addr, now time.Time) (*tls.Certificate, error) {
	issuer, err := authority.NewIssuer(pki.IssuerOptions{KeyAlgorithm: pki.ECDSAP256, Validity: leafValidity, Now: now})
	if err != nil {
		return nil, fmt.Errorf("making the issuer of the admission webhook's certificate: %w", err)
	}
	certificate, key, err := issuer.NewLeaf(pki.LeafOptions{
		CommonName: authorityName, DNSNames: names, IPs: ips, KeyAlgorithm: pki.ECDSAP256, Validity: leafValidity, Now: now,
	})
	if err != nil {
		return nil, fmt.Errorf("making the admission webhook's certificate: %w", err)
	}
	pair, err := tls.X509KeyPair(append(certificate, issuer.CertificatePEM()...), key)
	if err != nil {
		return nil, fmt.Errorf("reading back the admission webhook's certificate: %w", err)
	}
	return &pair, nil
}
