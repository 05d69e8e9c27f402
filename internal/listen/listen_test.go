package listen

import (
	"bytes"
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"net/http/httptrace"
	"strings"
	"testing"
	"time"
)

// served is a server with a real listener, and clients of it.
type served struct {
	*Server
	t     *testing.T
	roots *x509.CertPool
	// stop has the server end, and ended gives what Start returned.
	stop  context.CancelFunc
	ended chan error
}

// serve starts a server. The handler reads the whole body, as one for admission does.
func serve(t *testing.T, limits Limits, handler http.HandlerFunc, change ...func(*Server)) *served {
	t.Helper()
	example := httptest.NewTLSServer(nil)
	example.Close()
	s := &served{
		Server: &Server{Address: "127.0.0.1:0", Handler: handler, TLS: &tls.Config{Certificates: example.TLS.Certificates, MinVersion: tls.VersionTLS13}, Limits: limits},
		t:      t, roots: x509.NewCertPool(), ended: make(chan error, 1),
	}
	s.roots.AddCert(example.Certificate())
	for _, c := range change {
		c(s.Server)
	}
	if s.Ready(nil) == nil {
		t.Error("it is ready before it listens")
	}
	ctx, stop := context.WithCancel(t.Context())
	s.stop = stop
	go func() { s.ended <- s.Start(ctx) }()
	for s.Ready(nil) != nil {
		select {
		case err := <-s.ended:
			t.Fatalf("it does not start: %v", err)
		case <-time.After(time.Millisecond):
		}
	}
	t.Cleanup(func() {
		stop()
		if err := <-s.ended; err != nil {
			t.Errorf("it ends with %v", err)
		}
		s.ended <- nil
	})
	return s
}

func generous() Limits {
	l := DefaultLimits()
	l.Header, l.Body, l.Answer = time.Minute, time.Minute, time.Minute
	return l
}

// client connects from an address of its own.
func (s *served) client(from string) *http.Client {
	dialer := &net.Dialer{LocalAddr: &net.TCPAddr{IP: net.ParseIP(from)}}
	transport := &http.Transport{
		DialContext:     dialer.DialContext,
		TLSClientConfig: &tls.Config{RootCAs: s.roots, ServerName: "example.com", MinVersion: tls.VersionTLS13, NextProtos: []string{"h2", "http/1.1"}},
	}
	s.t.Cleanup(transport.CloseIdleConnections)
	return &http.Client{Transport: transport}
}

type answer struct {
	code          int
	text          string
	reused, close bool
	protocol      int
}

func (s *served) post(client *http.Client, body io.Reader) (answer, error) {
	s.t.Helper()
	var out answer
	ctx := httptrace.WithClientTrace(s.t.Context(), &httptrace.ClientTrace{GotConn: func(i httptrace.GotConnInfo) { out.reused = i.Reused }})
	request, err := http.NewRequestWithContext(ctx, http.MethodPost, "https://"+s.listening.Load().String(), body)
	if err != nil {
		s.t.Fatal(err)
	}
	response, err := client.Do(request)
	if err != nil {
		return out, err
	}
	defer response.Body.Close()
	text, err := io.ReadAll(response.Body)
	out.code, out.text, out.close, out.protocol = response.StatusCode, string(text), response.Close, response.ProtoMajor
	return out, err
}

func (s *served) mustPost(client *http.Client, body io.Reader) answer {
	s.t.Helper()
	out, err := s.post(client, body)
	if err != nil {
		s.t.Fatal(err)
	}
	return out
}

// echo answers with the size of what it has read.
func echo(w http.ResponseWriter, r *http.Request) {
	body, err := io.ReadAll(r.Body)
	var tooLarge *http.MaxBytesError
	switch {
	case errors.As(err, &tooLarge):
		http.Error(w, "too large", http.StatusRequestEntityTooLarge)
	case err != nil:
		http.Error(w, err.Error(), http.StatusBadRequest)
	default:
		Received(r.Context())
		_, _ = io.WriteString(w, strings.Repeat("x", len(body)))
	}
}

func TestABodyIsBounded(t *testing.T) {
	limits := generous()
	limits.Bytes = 1000
	s := serve(t, limits, echo)
	client := s.client("127.0.0.1")
	if got := s.mustPost(client, bytes.NewReader(make([]byte, 1000))); got.code != http.StatusOK || len(got.text) != 1000 || got.protocol != 1 {
		t.Errorf("the largest: %+v", got)
	}
	if got := s.mustPost(client, bytes.NewReader(make([]byte, 1001))); got.code != http.StatusRequestEntityTooLarge || !got.close {
		t.Errorf("one that says it is larger: %+v", got)
	}
	if got := s.mustPost(client, io.MultiReader(bytes.NewReader(make([]byte, 1001)))); got.code != http.StatusRequestEntityTooLarge {
		t.Errorf("one that does not say so: %+v", got)
	}
}

// A peer that holds every connection open must not keep others from connecting.
func TestWhoOpensManyConnectionsClosesTheirOwn(t *testing.T) {
	limits := generous()
	limits.Connections = 4
	s := serve(t, limits, echo)
	honest := s.client("127.0.0.1")
	if got := s.mustPost(honest, strings.NewReader("a")); got.code != http.StatusOK {
		t.Fatalf("%+v", got)
	}
	greedy := &net.Dialer{LocalAddr: &net.TCPAddr{IP: net.ParseIP("127.0.0.2")}}
	var conns []net.Conn
	for range 20 {
		c, err := greedy.DialContext(t.Context(), "tcp", s.listening.Load().String())
		if err != nil {
			t.Fatal(err)
		}
		defer c.Close()
		conns = append(conns, c)
	}
	for n, c := range conns[:17] {
		if _, err := c.Read(make([]byte, 1)); !errors.Is(err, io.EOF) && !strings.Contains(err.Error(), "reset") {
			t.Errorf("connection %d: %v", n, err)
		}
	}
	if got := s.mustPost(honest, strings.NewReader("a")); got.code != http.StatusOK || !got.reused {
		t.Errorf("who was there first is closed too: %+v", got)
	}
	if got := s.mustPost(s.client("127.0.0.3"), strings.NewReader("a")); got.code != http.StatusOK {
		t.Errorf("a further peer finds no room: %+v", got)
	}
}

// A request that is worked on is answered, however many connect.
func TestWorkIsNotInterrupted(t *testing.T) {
	limits := generous()
	limits.Connections = 1
	working, finish := make(chan struct{}), make(chan struct{})
	s := serve(t, limits, func(w http.ResponseWriter, r *http.Request) {
		_, _ = io.Copy(io.Discard, r.Body)
		Received(r.Context())
		close(working)
		<-finish
		if r.Context().Err() != nil {
			http.Error(w, "interrupted", http.StatusInternalServerError)
		}
	})
	got := make(chan answer, 1)
	go func() {
		a, err := s.post(s.client("127.0.0.1"), strings.NewReader("a"))
		if err != nil {
			a.text = err.Error()
		}
		got <- a
	}()
	<-working
	c, err := net.Dial("tcp", s.listening.Load().String())
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	if _, err := c.Read(make([]byte, 1)); err == nil {
		t.Error("a second connection is not closed")
	}
	close(finish)
	if a := <-got; a.code != http.StatusOK {
		t.Errorf("got %+v", a)
	}
}

// Peers that send slowly must not keep others from being read, and do not wait for ever.
func TestWhoSendsSlowlyLeavesRoomToOthers(t *testing.T) {
	limits := generous()
	limits.Readers = 4
	s := serve(t, limits, echo)
	slow := s.client("127.0.0.2")
	var writers []*io.PipeWriter
	answers := make(chan error, 10)
	for range 10 {
		reader, writer := io.Pipe()
		writers = append(writers, writer)
		go func() {
			_, err := s.post(slow, reader)
			answers <- err
		}()
		if _, err := writer.Write([]byte("a")); err != nil {
			t.Fatal(err)
		}
	}
	if got := s.mustPost(s.client("127.0.0.1"), strings.NewReader("a")); got.code != http.StatusOK {
		t.Errorf("another peer waits for them: %+v", got)
	}
	for _, w := range writers {
		_ = w.Close()
	}
	for range writers {
		if err := <-answers; err != nil {
			t.Errorf("who sends slowly is not answered: %v", err)
		}
	}
}

func TestAPeerThatSendsNothingMoreIsNotWaitedFor(t *testing.T) {
	limits := generous()
	limits.Body = time.Millisecond
	s := serve(t, limits, echo)
	reader, writer := io.Pipe()
	defer writer.Close()
	if got, err := s.post(s.client("127.0.0.1"), reader); err == nil && got.code == http.StatusOK {
		t.Errorf("got %+v", got)
	}
	limits = generous()
	limits.Header = time.Millisecond
	s = serve(t, limits, echo)
	c, err := net.Dial("tcp", s.listening.Load().String())
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	if _, err := c.Read(make([]byte, 1)); err == nil {
		t.Error("a connection without a handshake stays open")
	}
}

// A connection that the server closes while its peer sends a request is a failed request. So the peer is told beforehand.
func TestWhileDrainingPeersAreSentElsewhere(t *testing.T) {
	draining := make(chan struct{})
	s := serve(t, generous(), echo, func(s *Server) { s.Draining = draining })
	client := s.client("127.0.0.1")
	s.mustPost(client, strings.NewReader("a"))
	if got := s.mustPost(client, strings.NewReader("a")); !got.reused || got.close {
		t.Errorf("before: %+v", got)
	}
	close(draining)
	if got := s.mustPost(client, strings.NewReader("a")); got.code != http.StatusOK || !got.reused || !got.close {
		t.Errorf("a connection in use is answered on, and ends with the answer: %+v", got)
	}
	if got := s.mustPost(client, strings.NewReader("a")); got.code != http.StatusOK || got.reused || !got.close {
		t.Errorf("a peer that does not know yet is answered: %+v", got)
	}
}

func TestTheEndWaitsForAnswers(t *testing.T) {
	working, finish := make(chan struct{}), make(chan struct{})
	s := serve(t, generous(), func(_ http.ResponseWriter, r *http.Request) {
		_, _ = io.Copy(io.Discard, r.Body)
		Received(r.Context())
		close(working)
		<-finish
	})
	got := make(chan error, 1)
	go func() {
		_, err := s.post(s.client("127.0.0.1"), strings.NewReader("a"))
		got <- err
	}()
	<-working
	s.stop()
	select {
	case err := <-s.ended:
		t.Fatalf("it ends before: %v", err)
	case <-time.After(time.Millisecond):
	}
	close(finish)
	if err := <-got; err != nil {
		t.Errorf("a request that was worked on has no answer: %v", err)
	}
}

func TestReceivedElsewhereDoesNothing(t *testing.T) {
	Received(t.Context())
	if Peer(t.Context()) != "" {
		t.Error("there is no peer")
	}
}
