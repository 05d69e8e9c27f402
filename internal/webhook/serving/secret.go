package serving

import (
	"bytes"
	"crypto/sha256"
	"crypto/x509"
	"encoding/hex"
	"fmt"
	"time"
)

// Keys of the Secret.
const (
	keyCurrentCertificate = "tls.crt"
	keyCurrentKey         = "tls.key"
	keyNextCertificate    = "next.crt"
	keyNextKey            = "next.key"
	keyBundle             = "ca.crt"
)

// Stored is what the Secret holds. The zero value is that of no Secret, or of one that cannot be used at all.
type Stored struct {
	// Current is what replicas serve, Next what they will serve once API servers trust it. Each may be nil.
	Current, Next *Generation
	// Authorities are those of every generation that a replica may serve.
	Authorities []*x509.Certificate
}

// Parse reads the Secret's data. What was altered is as if it were not there. An authority that the Secret lost is looked
// for in what API servers trust.
func Parse(data map[string][]byte, observed Observed) Stored {
	stored := Stored{Authorities: parseBundle(data[keyBundle])}
	candidates := append(observed.all(), stored.Authorities...)
	stored.Current = readGeneration(data[keyCurrentCertificate], data[keyCurrentKey], candidates)
	stored.Next = readGeneration(data[keyNextCertificate], data[keyNextKey], candidates)
	return stored
}

// Data is what the Secret is to hold.
func (s Stored) Data() (map[string][]byte, error) {
	data := map[string][]byte{keyBundle: s.Bundle()}
	for _, part := range []struct {
		generation       *Generation
		certificate, key string
	}{{s.Current, keyCurrentCertificate, keyCurrentKey}, {s.Next, keyNextCertificate, keyNextKey}} {
		if part.generation == nil {
			continue
		}
		certificate, key, err := part.generation.pem()
		if err != nil {
			return nil, err
		}
		data[part.certificate], data[part.key] = certificate, key
	}
	return data, nil
}

// Bundle is what API servers are to trust.
func (s Stored) Bundle() []byte { return encode(s.Authorities...) }

// Format keeps keys out of whatever prints the value.
func (s Stored) Format(state fmt.State, _ rune) {
	fmt.Fprintf(state, "current %s, next %s, %d authorities", s.Current.ID(), s.Next.ID(), len(s.Authorities))
}

// Observed is what API servers trust, as far as the webhook configuration tells.
type Observed struct {
	// bundles has one entry for each webhook; none: there is no caBundle that the operator keeps, and so nobody to wait for.
	bundles [][]*x509.Certificate
}

// Observe reads the caBundle of each webhook.
func Observe(bundles ...[]byte) Observed {
	var out Observed
	for _, bundle := range bundles {
		out.bundles = append(out.bundles, parseBundle(bundle))
	}
	return out
}

// kept says whether there is anything to keep in step with.
func (o Observed) kept() bool { return len(o.bundles) > 0 }

// all are the authorities that any webhook names.
func (o Observed) all() []*x509.Certificate {
	var out []*x509.Certificate
	for _, bundle := range o.bundles {
		out = append(out, bundle...)
	}
	return unique(out)
}

// holds says whether every webhook names the authority.
func (o Observed) holds(authority *x509.Certificate) bool {
	for _, bundle := range o.bundles {
		if !contains(bundle, authority) {
			return false
		}
	}
	return o.kept()
}

func contains(bundle []*x509.Certificate, certificate *x509.Certificate) bool {
	for _, c := range bundle {
		if bytes.Equal(c.Raw, certificate.Raw) {
			return true
		}
	}
	return false
}

func valid(certificates []*x509.Certificate, now time.Time) []*x509.Certificate {
	var out []*x509.Certificate
	for _, c := range certificates {
		if !now.Before(c.NotBefore) && now.Before(c.NotAfter) {
			out = append(out, c)
		}
	}
	return out
}

func id(authority *x509.Certificate) string {
	sum := sha256.Sum256(authority.Raw)
	return hex.EncodeToString(sum[:8])
}
