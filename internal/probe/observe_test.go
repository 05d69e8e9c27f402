package probe

import (
	"bytes"
	"context"
	"crypto/tls"
	"fmt"
	"io"
	"net"
	"net/http"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"testing/synctest"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/credentials"
	"google.golang.org/grpc/credentials/insecure"
)

// serveGRPC runs a gRPC server until the test ends.
func serveGRPC(t *testing.T, credentials credentials.TransportCredentials) string {
	t.Helper()
	listener := listen(t)
	server := grpc.NewServer(grpc.Creds(credentials))
	go func() { _ = server.Serve(listener) }()
	t.Cleanup(server.Stop)
	return listener.Addr().String()
}

func listen(t *testing.T) net.Listener {
	t.Helper()
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = listener.Close() })
	return listener
}

// serve plays the peer on each connection and closes it then.
func serve(t *testing.T, play peer) string {
	t.Helper()
	listener := listen(t)
	go func() {
		for {
			conn, err := listener.Accept()
			if err != nil {
				return
			}
			go func() {
				defer func() { _ = conn.Close() }()
				play(conn)
			}()
		}
	}()
	return listener.Addr().String()
}

func dialer() Dial { return (&net.Dialer{}).DialContext }

func TestObserveGRPC(t *testing.T) {
	own, stranger := newAuthority(t), newAuthority(t)
	for name, version := range map[string]uint16{"TLS 1.2": tls.VersionTLS12, "TLS 1.3": tls.VersionTLS13} {
		for _, c := range []struct {
			name, reason string
			clients      tls.ClientAuthType
			chain        tls.Certificate
			want         string
		}{
			{"required", "Ray's servers present their chain before they refuse the client", tls.RequireAndVerifyClientCert, own.chain(t), "TLS Valid"},
			{"foreign", "another authority's chain is seen as such", tls.RequireAndVerifyClientCert, stranger.chain(t), "ForeignTLS ForeignCertificate"},
			{"requested", "a server that only asks lets anybody in", tls.RequestClientCert, own.chain(t), "ForeignTLS AnyClient Valid"},
			{"not requested", "so does one that does not ask", tls.NoClientCert, own.chain(t), "ForeignTLS AnyClient Valid"},
			{"mesh", "a mesh's proxy tells nothing of the Ray behind it", tls.RequireAndVerifyClientCert, spiffe(t), "Unknown ServiceMesh"},
			{"without the key", "a chain is public, so the peer must sign with its key", tls.RequireAndVerifyClientCert, tls.Certificate{
				Certificate: own.chain(t).Certificate, PrivateKey: stranger.chain(t).PrivateKey,
			}, "Unknown HandshakeFailed"},
		} {
			t.Run(name+" "+c.name, func(t *testing.T) {
				address := serveGRPC(t, credentials.NewTLS(&tls.Config{
					MinVersion: version, MaxVersion: version, Certificates: []tls.Certificate{c.chain}, ClientAuth: c.clients,
				}))
				result := Observe(t.Context(), dialer(), address).Judge(own.bundle, epoch())
				if got := text(result); got != c.want {
					t.Errorf("%s: got %q, want %q", c.reason, got, c.want)
				}
				if result.Answer != Unknown && result.Version != version {
					t.Errorf("the version is %s", tls.VersionName(result.Version))
				}
			})
		}
	}
}

func TestObservePlaintextGRPC(t *testing.T) {
	if got := text(Observe(t.Context(), dialer(), serveGRPC(t, insecure.NewCredentials()))); got != "Plaintext" {
		t.Errorf("a gRPC server without TLS is %q", got)
	}
}

func TestObserveWhatIsNoGRPC(t *testing.T) {
	listener := listen(t)
	server := &http.Server{Handler: http.NotFoundHandler(), ReadHeaderTimeout: time.Minute}
	go func() { _ = server.Serve(listener) }()
	t.Cleanup(func() { _ = server.Close() })
	if got := text(Observe(t.Context(), dialer(), listener.Addr().String())); got != "Unknown NotGRPC" {
		t.Errorf("a plain HTTP server is %q", got)
	}
	address := listen(t)
	_ = address.Close()
	if got := text(Observe(t.Context(), dialer(), address.Addr().String())); got != "Unknown Refused" {
		t.Errorf("a port that nobody listens on is %q", got)
	}
}

// TestObserveAPeerThatCloses also covers a peer that resets the connection, as one does that has not read everything.
func TestObserveAPeerThatCloses(t *testing.T) {
	for name, read := range map[string]int{"at once": 0, "after some bytes": 5, "after twenty": 20} {
		t.Run(name, func(t *testing.T) {
			address := serve(t, func(conn net.Conn) { _, _ = io.CopyN(io.Discard, conn, int64(read)) })
			if got := text(Observe(t.Context(), dialer(), address)); got != "Unknown Closed" {
				t.Errorf("got %q: a closed connection is neither TLS nor plaintext", got)
			}
		})
	}
}

func TestObserveBoundsCertificates(t *testing.T) {
	own := newAuthority(t)
	huge, giant := own.chain(t), own.chain(t)
	for range 200 {
		huge.Certificate = append(huge.Certificate, own.bundle[0].Raw)
	}
	giant.Certificate = append(giant.Certificate, giantKey(t))
	for name, c := range map[string]struct {
		reason, want string
		chain        tls.Certificate
	}{
		"huge chain": {"a chain is bounded before it is stored", "Unknown TooLarge", huge},
		"giant key":  {"a key is bounded before anything is verified by it", "Unknown HandshakeFailed", giant},
	} {
		t.Run(name, func(t *testing.T) {
			if got := text(Observe(t.Context(), dialer(), serve(t, serveTLS(c.chain)))); got != c.want {
				t.Errorf("%s: got %q, want %q", c.reason, got, c.want)
			}
		})
	}
}

// peer plays the other end of a connection.
type peer func(net.Conn)

// sends has a peer send something, whatever it is sent, and wait for the other side to close.
func sends(bytes ...byte) peer {
	return func(c net.Conn) {
		var reading sync.WaitGroup
		reading.Go(func() { drain(c) })
		_, _ = c.Write(bytes)
		reading.Wait()
	}
}

func drain(c net.Conn) { _, _ = io.Copy(io.Discard, c) }

// crumbs sends one handshake message of 64 KiB in records of a byte.
func crumbs(pause time.Duration) peer {
	return func(c net.Conn) {
		go drain(c)
		for _, b := range append([]byte{2, 0, 255, 255}, make([]byte, 1<<16)...) {
			if _, err := c.Write([]byte{22, 3, 3, 0, 1, b}); err != nil {
				return
			}
			time.Sleep(pause)
		}
	}
}

func serveTLS(chain tls.Certificate) peer {
	return func(c net.Conn) {
		_ = tls.Server(c, &tls.Config{Certificates: []tls.Certificate{chain}, ClientAuth: tls.RequireAnyClientCert, MinVersion: tls.VersionTLS12}).Handshake()
	}
}

// counted counts what is read.
type counted struct {
	net.Conn
	bytes *atomic.Int64
}

func (c *counted) Read(p []byte) (int, error) {
	n, err := c.Conn.Read(p)
	c.bytes.Add(int64(n))
	return n, err
}

// TestObserveHostilePeers has each peer answer on both connections. In a bubble, time passes only while everybody waits.
func TestObserveHostilePeers(t *testing.T) {
	for name, c := range map[string]struct {
		reason, want string
		play         peer
	}{
		"silent":               {"a peer that says nothing proves nothing", "Unknown TimedOut", drain},
		"deaf":                 {"nor does one that does not even read", "Unknown TimedOut", func(net.Conn) {}},
		"garbage":              {"what is neither TLS nor HTTP/2 proves neither", "Unknown NotGRPC", sends(bytes.Repeat([]byte{0xa5, 0x5a, 0x17}, 1<<20)...)},
		"an alert":             {"an alert is no certificate", "Unknown HandshakeFailed", sends(21, 3, 3, 0, 2, 2, 40)},
		"alerts":               {"warnings without end are given up", "Unknown HandshakeFailed", sends(bytes.Repeat([]byte{21, 3, 3, 0, 2, 1, 90}, 1<<20)...)},
		"endless":              {"a message that comes in crumbs is given up", "Unknown TooLarge", crumbs(0)},
		"endless, slow":        {"and so is one that takes its time", "Unknown TimedOut", crumbs(time.Second)},
		"huge message":         {"a message is bounded before it is stored", "Unknown HandshakeFailed", sends(22, 3, 3, 0, 4, 2, 255, 255, 255)},
		"settings":             {"gRPC servers send their first frame unasked", "Plaintext", sends(0, 0, 0, 4, 0, 0, 0, 0, 0)},
		"an acknowledgement":   {"another frame is not what a server begins with", "Unknown NotGRPC", sends(0, 0, 0, 4, 1, 0, 0, 0, 0)},
		"settings of a stream": {"nor is a frame that no server may send", "Unknown NotGRPC", sends(0, 0, 0, 4, 0, 0, 0, 0, 1)},
		"huge frame":           {"a frame is bounded before it is stored", "Unknown NotGRPC", sends(255, 255, 255, 4, 0, 0, 0, 0, 0)},
		"half a frame":         {"half a frame is none", "Unknown TimedOut", sends(0, 0, 0, 4)},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				var (
					far   []net.Conn
					peers sync.WaitGroup
				)
				received := new(atomic.Int64)
				dial := func(context.Context, string, string) (net.Conn, error) {
					near, end := net.Pipe()
					far = append(far, end)
					peers.Go(func() { c.play(end) })
					return &counted{near, received}, nil
				}
				begin := time.Now()
				if got := text(Observe(t.Context(), dial, "192.0.2.1:6379")); got != c.want {
					t.Errorf("%s: got %q, want %q", c.reason, got, c.want)
				}
				if took := time.Since(begin); took > Timeout {
					t.Errorf("it took %s", took)
				}
				if received.Load() > 2*maxBytes {
					t.Errorf("it read %d bytes", received.Load())
				}
				for _, end := range far {
					_ = end.Close()
				}
				peers.Wait()
			})
		})
	}
}

func TestObserveWithoutConnection(t *testing.T) {
	for name, c := range map[string]struct {
		want string
		dial func(context.Context) error
	}{
		"refused":  {"Unknown Refused", func(context.Context) error { return &net.OpError{Op: "dial", Err: syscall.ECONNREFUSED} }},
		"no route": {"Unknown Unreachable", func(context.Context) error { return &net.OpError{Op: "dial", Err: syscall.EHOSTUNREACH} }},
		"dropped": {"Unknown TimedOut", func(ctx context.Context) error {
			<-ctx.Done()
			return ctx.Err()
		}},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				begin := time.Now()
				dial := func(ctx context.Context, _, _ string) (net.Conn, error) { return nil, c.dial(ctx) }
				if got := text(Observe(t.Context(), dial, "192.0.2.1:6379")); got != c.want {
					t.Errorf("got %q, want %q", got, c.want)
				}
				if took := time.Since(begin); took > Timeout {
					t.Errorf("it took %s", took)
				}
			})
		})
	}
}

// text is what a result says, in a line.
func text(r Result) string {
	return strings.Join(strings.Fields(fmt.Sprint(r.Answer, " ", r.Cause, " ", r.Validity)), " ")
}
