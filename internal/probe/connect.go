package probe

import (
	"context"
	"crypto/tls"
	"errors"
	"io"
	"net"
	"os"
	"syscall"

	"golang.org/x/net/http2"
)

// observeTLS makes a handshake without a client certificate.
func observeTLS(ctx context.Context, dial Dial, address string) Result {
	conn, err := connect(ctx, dial, address)
	if err != nil {
		return Result{Answer: Unknown, Cause: dialCause(err)}
	}
	// Not through tls.Conn, which would wait for the peer to read an alert.
	defer func() { _ = conn.Close() }()
	requested := false
	session := tls.Client(conn, &tls.Config{
		MinVersion: tls.VersionTLS12,
		NextProtos: []string{http2.NextProtoTLS},
		// The chain is seen, not relied on: Judge verifies it afterwards.
		InsecureSkipVerify: true, //nolint:gosec // see above
		// A peer asks for it after it has signed with its own key.
		GetClientCertificate: func(*tls.CertificateRequestInfo) (*tls.Certificate, error) {
			requested = true
			return &tls.Certificate{}, nil
		},
	})
	err = session.HandshakeContext(ctx)
	if err != nil && !requested {
		return Result{Answer: Unknown, Cause: handshakeCause(err)}
	}
	state := session.ConnectionState()
	return Result{Answer: TLS, Chain: state.PeerCertificates, Version: state.Version, anyClient: err == nil && letIn(session, requested)}
}

// letIn reports whether the peer takes a client without a certificate. One that refuses the client in TLS 1.3 does so after the
// client's side of the handshake is complete.
func letIn(session *tls.Conn, requested bool) bool {
	if !requested {
		return true
	}
	n, _ := session.Read(make([]byte, 1))
	return n > 0
}

// servesHTTP2 reports whether the peer answers HTTP/2's client preface with the server's: a SETTINGS frame.
func servesHTTP2(ctx context.Context, dial Dial, address string) bool {
	conn, err := connect(ctx, dial, address)
	if err != nil {
		return false
	}
	defer func() { _ = conn.Close() }()
	framer := http2.NewFramer(conn, conn)
	framer.SetMaxReadFrameSize(maxBytes) // a frame is stored whole
	// The peer's frame counts also where it does not read ours.
	_, _ = io.WriteString(conn, http2.ClientPreface)
	_ = framer.WriteSettings()
	frame, err := framer.ReadFrame()
	settings, ok := frame.(*http2.SettingsFrame)
	return err == nil && ok && !settings.IsAck()
}

// connect gives a connection that ends with ctx and gives up a peer that sends too much.
func connect(ctx context.Context, dial Dial, address string) (net.Conn, error) {
	conn, err := dial(ctx, "tcp", address)
	if err != nil {
		return nil, err
	}
	stop := context.AfterFunc(ctx, func() { _ = conn.Close() })
	return &boundedConn{Conn: conn, left: maxBytes, stop: stop}, nil
}

var errTooLarge = errors.New("the peer sends too much")

// boundedConn fails once the peer has sent more than is left.
type boundedConn struct {
	net.Conn
	left int
	stop func() bool
}

func (c *boundedConn) Read(p []byte) (int, error) {
	if c.left == 0 {
		return 0, errTooLarge
	}
	n, err := c.Conn.Read(p[:min(len(p), c.left)])
	c.left -= n
	return n, err
}

func (c *boundedConn) Close() error {
	c.stop()
	return c.Conn.Close()
}

func dialCause(err error) Cause {
	switch {
	case timedOut(err):
		return TimedOut
	case errors.Is(err, syscall.ECONNREFUSED):
		return Refused
	}
	return Unreachable
}

func handshakeCause(err error) Cause {
	var header tls.RecordHeaderError
	switch {
	case timedOut(err):
		return TimedOut
	case errors.Is(err, errTooLarge):
		return TooLarge
	case errors.As(err, &header):
		return NotGRPC
	case errors.Is(err, io.EOF), errors.Is(err, io.ErrUnexpectedEOF), errors.Is(err, syscall.ECONNRESET), errors.Is(err, syscall.EPIPE):
		return Closed
	}
	return HandshakeFailed
}

func timedOut(err error) bool {
	var network net.Error
	return errors.Is(err, context.DeadlineExceeded) || errors.Is(err, context.Canceled) || errors.Is(err, os.ErrDeadlineExceeded) ||
		errors.As(err, &network) && network.Timeout()
}
