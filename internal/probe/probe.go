// Package probe finds out what a head's GCS port serves on the wire. It needs no key: a server presents its certificate before
// it asks for the client's.
package probe

import (
	"context"
	"crypto/x509"
	"net"
	"slices"
	"time"
)

const (
	// Timeout bounds one observation, both of its connections together.
	Timeout = 5 * time.Second
	// maxBytes bounds what is read from the peer per connection. Eight generations of RSA 4096 take less than 40 KiB.
	maxBytes = 64 << 10
)

// Answer is what a port serves.
type Answer string

// The answers. Each but Unknown is proven by what the peer sent.
const (
	// TLS: the port serves TLS, and the peer proved that it holds the key of its certificate.
	TLS Answer = "TLS"
	// Plaintext: the port serves HTTP/2, on which gRPC is built, without TLS.
	Plaintext Answer = "Plaintext"
	// ForeignTLS: the port serves TLS, but not the cluster's mutual TLS. Only Judge tells that.
	ForeignTLS Answer = "ForeignTLS"
	// Unknown: none of the others is proven.
	Unknown Answer = "Unknown"
)

// Cause is why an answer is Unknown or ForeignTLS.
type Cause string

// The causes of ForeignTLS.
const (
	// ForeignCertificate: the chain does not lead to the cluster's authority.
	ForeignCertificate Cause = "ForeignCertificate"
	// AnyClient: the peer lets in clients without a certificate.
	AnyClient Cause = "AnyClient"
)

// The causes of Unknown.
const (
	// Refused: nothing listens on the port.
	Refused Cause = "Refused"
	// Unreachable: the network does not deliver to the address.
	Unreachable Cause = "Unreachable"
	// TimedOut: the peer, or the network, does not answer in time. A NetworkPolicy looks like this.
	TimedOut Cause = "TimedOut"
	// Closed: the peer closes the connection without an answer.
	Closed Cause = "Closed"
	// NotGRPC: the peer answers with neither TLS nor HTTP/2.
	NotGRPC Cause = "NotGRPC"
	// HandshakeFailed: the peer speaks TLS, and the handshake ends before the peer has proven that it holds a key.
	HandshakeFailed Cause = "HandshakeFailed"
	// TooLarge: the peer sends more than a certificate chain can need.
	TooLarge Cause = "TooLarge"
	// Moved: by the time of the answer the pod was gone, or had another address.
	Moved Cause = "Moved"
	// ServiceMesh: a certificate with a SPIFFE ID of another authority answers, as a mesh's proxy in front of Ray does.
	ServiceMesh Cause = "ServiceMesh"
)

// Validity is how the time relates to a chain.
type Validity string

// The validities of a chain.
const (
	// Valid: all of the chain is valid.
	Valid Validity = "Valid"
	// Expired: a certificate of the chain has ended.
	Expired Validity = "Expired"
	// NotYetValid: a certificate of the chain is not valid yet by the observer's clock.
	NotYetValid Validity = "NotYetValid"
)

// Result is what an observation of a port found. The peer controls all that Chain holds.
type Result struct {
	Answer Answer
	// Cause is empty unless Answer is Unknown or ForeignTLS.
	Cause Cause
	// Chain is what the peer presented, leaf first; empty where no certificate was seen.
	Chain []*x509.Certificate
	// Version is the TLS version, as crypto/tls numbers it.
	Version uint16
	// Validity is empty unless Judge found that the chain leads to the bundle.
	Validity Validity

	anyClient bool
}

// Dial connects to an address, as net.Dialer's DialContext does.
type Dial func(ctx context.Context, network, address string) (net.Conn, error)

// Observe connects to host:port and reports what answers there. It takes Timeout at most.
func Observe(ctx context.Context, dial Dial, address string) Result {
	ctx, cancel := context.WithTimeout(ctx, Timeout)
	defer cancel()
	result := observeTLS(ctx, dial, address)
	// A peer without TLS may react to a handshake in any way. How it treats HTTP/2 is decisive.
	reacted := slices.Contains([]Cause{Closed, NotGRPC, HandshakeFailed, TooLarge}, result.Cause)
	switch {
	case !reacted:
		return result
	case ctx.Err() != nil:
		return Result{Answer: Unknown, Cause: TimedOut} // the end of the time closed the connection
	case servesHTTP2(ctx, dial, address):
		return Result{Answer: Plaintext}
	}
	return result
}
