package serving

import (
	"bytes"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"net/http"
	"path/filepath"
	"sync/atomic"
	"time"

	"sigs.k8s.io/controller-runtime/pkg/certwatcher"
)

var errNone = errors.New("there is no serving certificate for the admission webhook yet")

// Certificates is what this process serves. It is safe for concurrent use; the zero value serves nothing yet.
type Certificates struct {
	served  atomic.Pointer[served]
	onServe atomic.Pointer[func()]
}

type served struct {
	certificate *tls.Certificate
	chain       []*x509.Certificate
	// generation is nil for a certificate from files.
	generation *Generation
}

// Configure has a TLS server serve what there is at the time of each handshake.
func (c *Certificates) Configure(config *tls.Config) {
	config.MinVersion = tls.VersionTLS13
	config.GetCertificate = c.GetCertificate
}

// GetCertificate is for tls.Config.
func (c *Certificates) GetCertificate(*tls.ClientHelloInfo) (*tls.Certificate, error) {
	now := c.served.Load()
	if now == nil {
		return nil, errNone
	}
	return now.certificate, nil
}

// Ready is a readiness check: an error until there is something to serve.
func (c *Certificates) Ready(*http.Request) error {
	_, err := c.GetCertificate(nil)
	return err
}

// Trusted returns nil if an API server that trusts the bundle and calls the host takes what is served.
func (c *Certificates) Trusted(bundle []byte, host string, now time.Time) error {
	serves := c.served.Load()
	if serves == nil {
		return errNone
	}
	return verify(serves.chain, parseCertificates(bundle), host, now)
}

// Serve serves a generation from the next handshake on.
func (c *Certificates) Serve(g *Generation) {
	c.serve(&served{certificate: g.certificate(), chain: []*x509.Certificate{g.leaf}, generation: g})
}

// OnServe has a function called, and no other, each time another certificate is served.
func (c *Certificates) OnServe(call func()) { c.onServe.Store(&call) }

func (c *Certificates) serve(s *served) {
	c.served.Store(s)
	if call := c.onServe.Load(); call != nil {
		(*call)()
	}
}

// Serves says what generation is served; nil for none.
func (c *Certificates) Serves() *Generation {
	if now := c.served.Load(); now != nil {
		return now.generation
	}
	return nil
}

// Files has certificates serve tls.crt and tls.key of a directory, and what they are replaced by. The result is to be
// started. It is for certificates that somebody else makes, as cert-manager does; caBundle is theirs too then.
func Files(certificates *Certificates, directory string) (*certwatcher.CertWatcher, error) {
	watcher, err := certwatcher.New(filepath.Join(directory, keyCurrentCertificate), filepath.Join(directory, keyCurrentKey))
	if err != nil {
		return nil, fmt.Errorf("reading the admission webhook's serving certificate: %w", err)
	}
	watcher.RegisterCallback(func(certificate tls.Certificate) {
		var chain []*x509.Certificate
		for _, der := range certificate.Certificate {
			// The first was parsed when the pair was read; API servers pass over others that cannot be.
			if c, err := x509.ParseCertificate(der); err == nil {
				chain = append(chain, c)
			}
		}
		if len(chain) == 0 || !bytes.Equal(chain[0].Raw, certificate.Certificate[0]) {
			return
		}
		certificates.serve(&served{certificate: &certificate, chain: chain})
	})
	return watcher, nil
}
