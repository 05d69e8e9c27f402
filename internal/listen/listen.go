// Package listen serves HTTPS on a port that everybody in the Kubernetes cluster can reach: it bounds connections, sizes and
// times before anything of a request is looked at.
package listen

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"log"
	"math"
	"net"
	"net/http"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	ctrllog "sigs.k8s.io/controller-runtime/pkg/log"

	"github.com/raytls/raytls/internal/limit"
)

// Limits bound what peers can have the server keep.
type Limits struct {
	// Connections is how many may be open at a time.
	Connections int
	// Bytes is the size of the largest body that is read.
	Bytes int64
	// Readers is how many bodies are read at a time.
	Readers int
	// Header and Body are how long a peer may take to send each. Idle is how long it may keep a connection without a request.
	Header, Body, Idle time.Duration
	// Answer is how long a request may wait, be read and be worked on together. API servers wait no longer, as the webhook's
	// configuration says.
	Answer time.Duration
}

// DefaultLimits suit API servers: a request holds two objects, neither of which can be larger than 3 MiB, and together they
// are smaller, since one of them is stored.
func DefaultLimits() Limits {
	return Limits{
		Connections: 512, Bytes: 6 << 20, Readers: 6,
		Header: 5 * time.Second, Body: 3 * time.Second, Idle: 90 * time.Second, Answer: 10 * time.Second,
	}
}

// shutdownTimeout is how long requests that are being worked on may take when the server ends.
const shutdownTimeout = 15 * time.Second

// Server serves requests. It is a manager.Runnable that every replica runs.
type Server struct {
	// Address is where to listen, as host:port.
	Address string
	Handler http.Handler
	// TLS holds or gets the certificate. The server speaks HTTP/1.1 alone: one connection of HTTP/2 carries any number of requests.
	TLS    *tls.Config
	Limits Limits
	// Draining is closed when the process was told to stop and still answers for a while. From then on, each answer has its peer
	// open another connection for the next request, which goes to another replica.
	Draining <-chan struct{}

	listening atomic.Pointer[net.TCPAddr]
}

// NeedLeaderElection has every replica serve.
func (*Server) NeedLeaderElection() bool { return false }

// Ready is a readiness check: it returns an error while the server does not listen.
func (s *Server) Ready(*http.Request) error {
	if s.listening.Load() == nil {
		return errors.New("the server does not listen yet")
	}
	return nil
}

// Start serves until ctx ends, and then until the requests that have come are answered.
func (s *Server) Start(ctx context.Context) error {
	inner, err := (&net.ListenConfig{}).Listen(ctx, "tcp", s.Address)
	if err != nil {
		return fmt.Errorf("listening for admission requests: %w", err)
	}
	logger := ctrllog.FromContext(ctx)
	protocols := new(http.Protocols)
	protocols.SetHTTP1(true)
	server := &http.Server{
		Handler: s.bounded(), TLSConfig: s.TLS.Clone(), Protocols: protocols,
		BaseContext: func(net.Listener) context.Context { return context.WithoutCancel(ctx) }, ConnContext: withConn,
		ReadHeaderTimeout: s.Limits.Header, WriteTimeout: 2 * s.Limits.Answer, IdleTimeout: s.Limits.Idle, MaxHeaderBytes: 16 << 10,
		// Everyone who can reach the port can fail a handshake, as often as they like.
		ErrorLog: log.New(lines(func(line string) { logger.V(1).Info("Serving a connection", "error", strings.TrimSpace(line)) }), "", 0),
	}
	ended := make(chan error, 1)
	stop := context.AfterFunc(ctx, func() {
		shutdown, cancel := context.WithTimeout(context.WithoutCancel(ctx), shutdownTimeout)
		defer cancel()
		ended <- server.Shutdown(shutdown)
	})
	defer stop()
	if address, ok := inner.Addr().(*net.TCPAddr); ok {
		s.listening.Store(address)
	}
	logger.Info("Serving admission requests", "address", inner.Addr().String())
	if err := server.ServeTLS(&listener{Listener: inner, most: s.Limits.Connections}, "", ""); !errors.Is(err, http.ErrServerClosed) {
		return fmt.Errorf("serving admission requests: %w", err)
	}
	if err := <-ended; err != nil {
		return fmt.Errorf("waiting for admission requests that were not answered yet: %w", err)
	}
	return nil
}

// bounded hands requests over to the handler, a few at a time until they are read.
func (s *Server) bounded() http.Handler {
	// A quarter of the slots is left to others, so that one peer that sends slowly does not stop them. Connections bound who waits.
	readers := limit.New(limit.Options{
		Slots: s.Limits.Readers, Share: max(1, s.Limits.Readers*3/4), Waiting: math.MaxInt64, WaitingShare: math.MaxInt64,
	})
	handler := http.MaxBytesHandler(s.Handler, s.Limits.Bytes)
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		select {
		case <-s.Draining:
			w.Header().Set("Connection", "close")
		default:
		}
		if r.ContentLength > s.Limits.Bytes {
			w.Header().Set("Connection", "close")
			http.Error(w, fmt.Sprintf("the request has more than %d bytes", s.Limits.Bytes), http.StatusRequestEntityTooLarge)
			return
		}
		ctx, cancel := context.WithTimeout(r.Context(), s.Limits.Answer)
		defer cancel()
		release, err := readers.Acquire(ctx, limit.Key{Source: Peer(ctx)}, 0)
		if err != nil {
			http.Error(w, "raytls is busy with other requests, so try again", http.StatusServiceUnavailable)
			return
		}
		e := &exchange{release: sync.OnceFunc(release), deadline: http.NewResponseController(w).SetReadDeadline}
		e.conn, _ = ctx.Value(connKey{}).(*conn)
		defer e.end()
		if err := e.deadline(time.Now().Add(s.Limits.Body)); err != nil { //nolint:forbidigo // the kernel holds it against its own clock
			http.Error(w, "the connection cannot be bounded", http.StatusInternalServerError)
			return
		}
		handler.ServeHTTP(w, r.WithContext(context.WithValue(ctx, exchangeKey{}, e)))
	})
}

type exchangeKey struct{}

// exchange is a request and its answer.
type exchange struct {
	release  func()
	deadline func(time.Time) error
	conn     *conn
}

// Received says that the request of ctx was read and decoded. The next one is read, and the connection is no longer among those
// that make room for others. A ctx that is not of this package's server is left alone.
func Received(ctx context.Context) {
	e, ok := ctx.Value(exchangeKey{}).(*exchange)
	if !ok {
		return
	}
	if e.conn != nil {
		e.conn.work(true)
	}
	_ = e.deadline(time.Time{}) // the server goes on reading, to learn that the peer has gone
	e.release()
}

func (e *exchange) end() {
	e.release()
	if e.conn != nil {
		e.conn.work(false)
	}
}

// Peer is the address that the request of ctx came from; empty if ctx is not of this package's server.
func Peer(ctx context.Context) string {
	if c, ok := ctx.Value(connKey{}).(*conn); ok {
		return c.peer.String()
	}
	return ""
}

// lines is a writer of a log's lines.
type lines func(line string)

func (l lines) Write(line []byte) (int, error) {
	l(string(line))
	return len(line), nil
}
