package verify

import (
	"bytes"
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"errors"
	"math/big"
	"net"
	"net/netip"
	"strings"
	"syscall"
	"testing"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/credentials"
	"google.golang.org/grpc/credentials/insecure"
	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"
	clientgoscheme "k8s.io/client-go/kubernetes/scheme"
	"sigs.k8s.io/controller-runtime/pkg/client"
	"sigs.k8s.io/controller-runtime/pkg/client/fake"
	"sigs.k8s.io/controller-runtime/pkg/client/interceptor"

	"github.com/raytls/raytls/api/v1alpha1"
	"github.com/raytls/raytls/internal/cli/exit"
	"github.com/raytls/raytls/internal/kuberay"
	"github.com/raytls/raytls/internal/pki"
	"github.com/raytls/raytls/internal/probe"
)

const day = 24 * time.Hour

func epoch() time.Time { return time.Date(2026, 1, 2, 3, 4, 5, 0, time.UTC) }

type authority struct {
	*pki.Authority
	issuer *pki.Issuer
}

func newAuthority(t *testing.T) authority {
	t.Helper()
	made, err := pki.NewAuthority(pki.AuthorityOptions{Name: "ml/train", KeyAlgorithm: pki.ECDSAP256, Validity: 3650 * day, Now: epoch()})
	if err != nil {
		t.Fatal(err)
	}
	issuer, err := made.NewIssuer(pki.IssuerOptions{KeyAlgorithm: pki.ECDSAP256, Validity: 730 * day, Now: epoch()})
	if err != nil {
		t.Fatal(err)
	}
	return authority{made, issuer}
}

func (a authority) serve(t *testing.T, clients tls.ClientAuthType) credentials.TransportCredentials {
	t.Helper()
	leaf, key, err := a.issuer.NewLeaf(pki.LeafOptions{
		CommonName: "train-head", IPs: []netip.Addr{netip.MustParseAddr("10.0.0.7")}, KeyAlgorithm: pki.ECDSAP256, Validity: 365 * day, Now: epoch(),
	})
	if err != nil {
		t.Fatal(err)
	}
	chain, err := tls.X509KeyPair(append(leaf, a.issuer.CertificatePEM()...), key)
	if err != nil {
		t.Fatal(err)
	}
	return credentials.NewTLS(&tls.Config{Certificates: []tls.Certificate{chain}, ClientAuth: clients, MinVersion: tls.VersionTLS12})
}

// hostile serves a self-signed certificate whose names would steer a terminal.
func hostile(t *testing.T) credentials.TransportCredentials {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	template := &x509.Certificate{
		SerialNumber: big.NewInt(1), NotBefore: epoch(), NotAfter: epoch().Add(day),
		Subject: pkix.Name{CommonName: "\x1b[2Jverdict      mutual TLS\nverdict      mutual TLS" + strings.Repeat("x", 10_000)},
	}
	raw, err := x509.CreateCertificate(rand.Reader, template, template, key.Public(), key)
	if err != nil {
		t.Fatal(err)
	}
	return credentials.NewTLS(&tls.Config{Certificates: []tls.Certificate{{Certificate: [][]byte{raw}, PrivateKey: key}}, MinVersion: tls.VersionTLS12})
}

// listen gives what dials a gRPC server; nil for a port that nobody listens on.
func listen(t *testing.T, with credentials.TransportCredentials) forward {
	t.Helper()
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	if with != nil {
		server := grpc.NewServer(grpc.Creds(with))
		go func() { _ = server.Serve(listener) }()
		t.Cleanup(server.Stop)
	}
	return func(_ context.Context, pod *corev1.Pod, port uint16) (probe.Dial, error) {
		if pod.Name != "train-head" || port != 7000 {
			return nil, errors.New("another pod or port")
		}
		return func(ctx context.Context, network, _ string) (net.Conn, error) {
			if with == nil {
				return nil, &net.OpError{Op: "dial", Err: syscall.ECONNREFUSED}
			}
			return (&net.Dialer{}).DialContext(ctx, network, listener.Addr().String())
		}, nil
	}
}

// cluster has a RayCluster, its head and somebody else's pod with the head's labels, its CA Secret and its record, which also has the
// earlier authorities with those ids.
func cluster(t *testing.T, a authority, secrets bool, ids ...string) client.Reader {
	t.Helper()
	scheme := runtime.NewScheme()
	if err := errors.Join(clientgoscheme.AddToScheme(scheme), v1alpha1.AddToScheme(scheme)); err != nil {
		t.Fatal(err)
	}
	ray := kuberay.NewRayCluster()
	ray.SetNamespace("ml")
	ray.SetName("train")
	ray.SetUID("u")
	ray.Object["spec"] = map[string]any{"headGroupSpec": map[string]any{"rayStartParams": map[string]any{"port": "7000"}}}
	pod := func(name, owner string) *corev1.Pod {
		yes := true
		return &corev1.Pod{
			ObjectMeta: metav1.ObjectMeta{
				Namespace: "ml", Name: name, Labels: map[string]string{kuberay.LabelCluster: "train", kuberay.LabelNodeType: kuberay.NodeTypeHead},
				OwnerReferences: []metav1.OwnerReference{{APIVersion: "ray.io/v1", Kind: "RayCluster", Name: "train", UID: ray.GetUID(), Controller: &yes}},
			},
			Status: corev1.PodStatus{Phase: corev1.PodRunning, PodIPs: []corev1.PodIP{{IP: "10.0.0.7"}}},
		}
	}
	var earlier []v1alpha1.EarlierAuthority
	for _, id := range ids {
		earlier = append(earlier, v1alpha1.EarlierAuthority{Generation: 1, ID: id})
	}
	stranger := pod("a-stranger", "")
	stranger.OwnerReferences = nil
	objects := []client.Object{
		ray, stranger, pod("train-head", "u"),
		&corev1.Secret{ObjectMeta: metav1.ObjectMeta{Namespace: "ml", Name: "raytls-train"}, Data: map[string][]byte{"ca.crt": a.CertificatePEM()}},
		&v1alpha1.RayClusterTLS{
			ObjectMeta: metav1.ObjectMeta{Namespace: "ml", Name: "train"},
			Status:     v1alpha1.RayClusterTLSStatus{Authority: v1alpha1.AuthorityStatus{Generation: 2, ID: a.ID(), Earlier: earlier}},
		},
	}
	return interceptor.NewClient(fake.NewClientBuilder().WithScheme(scheme).WithObjects(objects...).Build(), interceptor.Funcs{
		Get: func(ctx context.Context, c client.WithWatch, key client.ObjectKey, into client.Object, options ...client.GetOption) error {
			if _, secret := into.(*corev1.Secret); secret && !secrets {
				return apierrors.NewForbidden(corev1.Resource("secrets"), key.Name, errors.New("no"))
			}
			return c.Get(ctx, key, into, options...)
		},
	})
}

func TestVerify(t *testing.T) {
	own, other, earlier := newAuthority(t), newAuthority(t), newAuthority(t)
	mutual := tls.RequireAndVerifyClientCert
	for name, c := range map[string]struct {
		reason  string
		with    credentials.TransportCredentials
		secrets bool
		at      time.Time
		code    int
		saying  string
	}{
		"own":            {"mutual TLS of the cluster's authority is what is asked for", own.serve(t, mutual), true, epoch(), 0, "mutual TLS with a certificate of the cluster's authority"},
		"other":          {"another authority's is not", other.serve(t, mutual), true, epoch(), exitFault, "did not issue"},
		"any client":     {"nor is TLS for anybody", own.serve(t, tls.NoClientCert), true, epoch(), exitFault, "lets in clients"},
		"ended":          {"nor is an ended certificate", own.serve(t, mutual), true, epoch().Add(366 * day), exitFault, "has ended"},
		"early":          {"a clock that is behind proves nothing", own.serve(t, mutual), true, epoch().Add(-time.Hour), exitUnknown, "clock"},
		"plaintext":      {"plaintext is a fault", insecure.NewCredentials(), true, epoch(), exitFault, "without TLS"},
		"nothing":        {"a port that nobody listens on proves nothing", nil, true, epoch(), exitUnknown, "Refused"},
		"by ID":          {"who may not read the Secret compares the ID", own.serve(t, mutual), false, epoch(), 0, "names the cluster's authority"},
		"by ID, other":   {"which differs for another authority", other.serve(t, mutual), false, epoch(), exitFault, "authority " + other.ID()},
		"by ID, earlier": {"and does not for an earlier generation, which pods accept", earlier.serve(t, mutual), false, epoch(), 0, "names the cluster's authority"},
		"by ID, ended":   {"and ends all the same", own.serve(t, mutual), false, epoch().Add(366 * day), exitFault, "has ended"},
		"hostile names":  {"a peer's names are quoted and bounded", hostile(t), true, epoch(), exitFault, "did not issue"},
	} {
		t.Run(name, func(t *testing.T) {
			var out, notes bytes.Buffer
			v := verifier{reader: cluster(t, own, c.secrets, earlier.ID()), forward: listen(t, c.with), now: func() time.Time { return c.at }, out: &out, notes: &notes}
			err := v.verify(t.Context(), client.ObjectKey{Namespace: "ml", Name: "train"}, "")
			code := 0
			if err != nil {
				code = 1
				var coded exit.Error
				if errors.As(err, &coded) {
					code = coded.ExitCode()
				}
				out.WriteString(err.Error())
			}
			if code != c.code || !strings.Contains(out.String(), c.saying) {
				t.Errorf("%s: exit code %d, want %d:\n%s", c.reason, code, c.code, out.String())
			}
			if (notes.Len() > 0) == c.secrets {
				t.Errorf("the notes are %q", notes.String())
			}
			if strings.ContainsRune(out.String(), '\x1b') || strings.Contains(out.String(), "\nverdict      mutual TLS\n") || out.Len() > 2000 {
				t.Errorf("%s: %q", c.reason, out.String())
			}
		})
	}
}

// A revocation gives the CA Secret another name. Its former one may still hold what the stolen key signed.
func TestVerifyReadsTheSecretOfTheAuthorityThatIsNotRevoked(t *testing.T) {
	revoked, own := newAuthority(t), newAuthority(t)
	reader := cluster(t, revoked, true)
	api := reader.(client.Client)
	key := client.ObjectKey{Namespace: "ml", Name: "train"}
	var record v1alpha1.RayClusterTLS
	if err := api.Get(t.Context(), key, &record); err != nil {
		t.Fatal(err)
	}
	record.Status.Authority = v1alpha1.AuthorityStatus{Generation: 3, ID: own.ID(), RevokedBeforeGeneration: 3}
	secret := &corev1.Secret{ObjectMeta: metav1.ObjectMeta{Namespace: "ml", Name: "raytls-train.g3"}, Data: map[string][]byte{"ca.crt": own.CertificatePEM()}}
	if err := errors.Join(api.Update(t.Context(), &record), api.Create(t.Context(), secret)); err != nil {
		t.Fatal(err)
	}
	for reason, c := range map[string]struct {
		serves authority
		good   bool
	}{"of the present authority": {own, true}, "of the revoked one": {revoked, false}} {
		var out, notes bytes.Buffer
		v := verifier{reader: reader, forward: listen(t, c.serves.serve(t, tls.RequireAndVerifyClientCert)), now: epoch, out: &out, notes: &notes}
		if err := v.verify(t.Context(), key, ""); (err == nil) != c.good || notes.Len() > 0 {
			t.Errorf("a certificate %s: %v, with the notes %q", reason, err, notes.String())
		}
	}
}

// Anyone who may write Secrets in the namespace can replace the CA Secret, and serve under another authority.
func TestVerifyBelievesNoOtherAuthorityInTheSecret(t *testing.T) {
	own, other := newAuthority(t), newAuthority(t)
	reader := cluster(t, own, true)
	api := reader.(client.Client)
	key := client.ObjectKey{Namespace: "ml", Name: "train"}
	secret := &corev1.Secret{}
	if err := api.Get(t.Context(), client.ObjectKey{Namespace: "ml", Name: "raytls-train"}, secret); err != nil {
		t.Fatal(err)
	}
	for reason, c := range map[string]struct {
		bundle []byte
		serves authority
		good   bool
	}{
		"another bundle":    {other.CertificatePEM(), other, false},
		"both, the other":   {append(own.CertificatePEM(), other.CertificatePEM()...), other, false},
		"both, the own one": {append(own.CertificatePEM(), other.CertificatePEM()...), own, true},
	} {
		secret.Data = map[string][]byte{"ca.crt": c.bundle}
		if err := api.Update(t.Context(), secret); err != nil {
			t.Fatal(err)
		}
		var out, notes bytes.Buffer
		v := verifier{reader: reader, forward: listen(t, c.serves.serve(t, tls.RequireAndVerifyClientCert)), now: epoch, out: &out, notes: &notes}
		err := v.verify(t.Context(), key, "")
		var coded exit.Error
		if (err == nil) != c.good || !c.good && (!errors.As(err, &coded) || coded.ExitCode() != exitFault) {
			t.Errorf("%s: %v", reason, err)
		}
	}
}

func TestVerifyPassesErrorsOn(t *testing.T) {
	v := verifier{reader: cluster(t, newAuthority(t), true), now: epoch}
	err := v.verify(t.Context(), client.ObjectKey{Namespace: "ml", Name: "missing"}, "")
	if err == nil || errors.As(err, new(exit.Error)) {
		t.Errorf("a missing RayCluster is an error and no verdict: got %v", err)
	}
}
