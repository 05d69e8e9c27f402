package main

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"net"
	"os"
	"path/filepath"
	"strings"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/credentials"
	"google.golang.org/grpc/credentials/insecure"
	"google.golang.org/grpc/health"
	"google.golang.org/grpc/health/grpc_health_v1"
)

// gcsPort is where a head's GCS listens. Only its place in the address matters here.
const gcsPort = "6379"

// identity is what a Ray process reads from its pod's files.
type identity struct {
	certificate tls.Certificate
	authorities *x509.CertPool
}

func readIdentity(dir string) (*identity, error) {
	certificate, err := tls.LoadX509KeyPair(filepath.Join(dir, "tls.crt"), filepath.Join(dir, "tls.key"))
	if err != nil {
		return nil, fmt.Errorf("reading a pod's certificate: %w", err)
	}
	bundle, err := os.ReadFile(filepath.Join(dir, "ca.crt"))
	if err != nil {
		return nil, fmt.Errorf("reading a pod's trust bundle: %w", err)
	}
	id := &identity{certificate: certificate, authorities: x509.NewCertPool()}
	if !id.authorities.AppendCertsFromPEM(bundle) {
		return nil, errors.New("a pod's trust bundle holds no certificate")
	}
	return id, nil
}

// server gives credentials as Ray's servers have them: a client must present a certificate of the bundle.
func (id *identity) server() credentials.TransportCredentials {
	return credentials.NewTLS(&tls.Config{
		MinVersion: tls.VersionTLS12, Certificates: []tls.Certificate{id.certificate},
		ClientAuth: tls.RequireAndVerifyClientCert, ClientCAs: id.authorities,
	})
}

// client gives credentials as Ray's clients have them. The certificate is presented whatever authorities the server
// names, as gRPC's C core does; Go would leave out one that the server will not take.
func (id *identity) client() credentials.TransportCredentials {
	return id.trustingClient(id.authorities)
}

// trustingClient is a client with the certificate of one and the trust of another cluster.
func (id *identity) trustingClient(authorities *x509.CertPool) credentials.TransportCredentials {
	return credentials.NewTLS(&tls.Config{
		MinVersion: tls.VersionTLS12, RootCAs: authorities,
		GetClientCertificate: func(*tls.CertificateRequestInfo) (*tls.Certificate, error) { return &id.certificate, nil },
	})
}

// anonymousClient trusts the cluster and has no certificate.
func (id *identity) anonymousClient() credentials.TransportCredentials {
	return credentials.NewTLS(&tls.Config{MinVersion: tls.VersionTLS12, RootCAs: id.authorities})
}

func plaintextClient() credentials.TransportCredentials { return insecure.NewCredentials() }

// witness passes on how the handshakes of its side ended.
type witness struct {
	credentials.TransportCredentials
	ended chan ending
}

type ending struct{ err error }

func newWitness(of credentials.TransportCredentials) *witness {
	return &witness{TransportCredentials: of, ended: make(chan ending, 16)}
}

func (w *witness) saw(err error) {
	select {
	case w.ended <- ending{err}:
	default:
	}
}

// forget leaves out what belongs to an earlier call, whose client may have tried again.
func (w *witness) forget() {
	for {
		select {
		case <-w.ended:
		default:
			return
		}
	}
}

func (w *witness) ClientHandshake(ctx context.Context, authority string, conn net.Conn) (net.Conn, credentials.AuthInfo, error) {
	secured, info, err := w.TransportCredentials.ClientHandshake(ctx, authority, conn)
	w.saw(err)
	return secured, info, err
}

func (w *witness) ServerHandshake(conn net.Conn) (net.Conn, credentials.AuthInfo, error) {
	secured, info, err := w.TransportCredentials.ServerHandshake(conn)
	w.saw(err)
	return secured, info, err
}

func (w *witness) Clone() credentials.TransportCredentials {
	return &witness{TransportCredentials: w.TransportCredentials.Clone(), ended: w.ended}
}

// network leads the names and addresses of pods to servers on this machine. What is verified are the names and
// addresses as they were dialled.
type network struct {
	servers []*grpc.Server
	hosts   map[string]*host
}

type host struct {
	address string
	witness *witness
}

func newNetwork() *network { return &network{hosts: map[string]*host{}} }

// serve starts a gRPC server with these credentials and leads names to it.
func (n *network) serve(ctx context.Context, creds credentials.TransportCredentials, names ...string) error {
	listener, err := (&net.ListenConfig{}).Listen(ctx, "tcp", "127.0.0.1:0")
	if err != nil {
		return fmt.Errorf("listening on this machine: %w", err)
	}
	h := &host{address: listener.Addr().String(), witness: newWitness(creds)}
	server := grpc.NewServer(grpc.Creds(h.witness))
	grpc_health_v1.RegisterHealthServer(server, health.NewServer())
	n.servers = append(n.servers, server)
	for _, name := range names {
		n.hosts[name] = h
	}
	go server.Serve(listener) //nolint:errcheck // a server that does not serve fails what dials it
	return nil
}

func (n *network) stop() {
	for _, server := range n.servers {
		server.Stop()
	}
}

// outcome is how a call ended, and how each side's handshake did.
type outcome struct {
	call, client, server error
}

// call asks the server at a name whether it is healthy, as `ray health-check` does.
func (n *network) call(ctx context.Context, name string, creds credentials.TransportCredentials) (outcome, error) {
	h, ok := n.hosts[name]
	if !ok {
		return outcome{}, fmt.Errorf("nothing serves %s", name)
	}
	client := newWitness(creds)
	h.witness.forget()
	conn, err := grpc.NewClient("passthrough:///"+net.JoinHostPort(name, gcsPort), grpc.WithTransportCredentials(client),
		grpc.WithContextDialer(func(ctx context.Context, _ string) (net.Conn, error) {
			return (&net.Dialer{}).DialContext(ctx, "tcp", h.address)
		}))
	if err != nil {
		return outcome{}, fmt.Errorf("making a gRPC client: %w", err)
	}
	ctx, cancel := context.WithTimeout(ctx, 10*time.Second)
	defer cancel()
	var o outcome
	_, o.call = grpc_health_v1.NewHealthClient(conn).Check(ctx, &grpc_health_v1.HealthCheckRequest{})
	if err := conn.Close(); err != nil {
		return outcome{}, fmt.Errorf("closing a gRPC client: %w", err)
	}
	o.client, o.server = seen(ctx, client), seen(ctx, h.witness)
	return o, nil
}

// seen waits for a handshake of the witness and says how it ended.
func seen(ctx context.Context, w *witness) error {
	select {
	case handshake := <-w.ended:
		return handshake.err
	case <-ctx.Done():
		return errors.New("no handshake was tried")
	}
}

// expectation is how a call has to end. In a refusal, exactly the named side refuses, for a reason with this text.
type expectation struct {
	want            string
	refuser, reason string
}

const (
	byClient = "client"
	byServer = "server"
)

func works() expectation { return expectation{want: "works"} }

func refused(by, reason, why string) expectation {
	return expectation{want: "the " + by + " refuses: " + why, refuser: by, reason: reason}
}

// judge compares how a call ended with how it had to.
func judge(what string, e expectation, o outcome) check {
	c := check{what: what, want: e.want}
	refusal := o.client
	if e.refuser == byServer {
		refusal = o.server
	}
	switch {
	case e.refuser == "":
		c.ok = o.call == nil
		c.got = "works"
		if !c.ok {
			c.got = shorten(o.call)
		}
	case o.call == nil:
		c.got = "works"
	case refusal == nil:
		c.got = "the other side refuses: " + shorten(o.call)
	default:
		c.ok = strings.Contains(refusal.Error(), e.reason)
		c.got = shorten(refusal)
	}
	return c
}

// shorten leaves out what says where an error was met rather than what it is.
func shorten(err error) string {
	text := err.Error()
	for _, marker := range []string{"tls: failed to verify certificate: ", "desc = ", "tls: "} {
		if _, rest, found := strings.Cut(text, marker); found {
			text = rest
		}
	}
	return text
}
