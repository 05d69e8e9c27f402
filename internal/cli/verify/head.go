package verify

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"io"
	"os"
	"slices"
	"strconv"
	"time"

	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/raytls/raytls/api/v1alpha1"
	"github.com/raytls/raytls/internal/cli/exit"
	"github.com/raytls/raytls/internal/injection"
	"github.com/raytls/raytls/internal/keys"
	"github.com/raytls/raytls/internal/kuberay"
	"github.com/raytls/raytls/internal/pki"
	"github.com/raytls/raytls/internal/probe"
)

// maxText is how many characters of a served name are printed.
const maxText = 200

// verifier verifies one cluster.
type verifier struct {
	reader     client.Reader
	forward    forward
	now        func() time.Time
	out, notes io.Writer
}

// verify prints what the head serves. The error has an exit code of its own unless that is the cluster's mutual TLS. ca names a file with the trust
// bundle; empty for the CA Secret.
func (v verifier) verify(ctx context.Context, cluster client.ObjectKey, ca string) error {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	object := kuberay.NewRayCluster()
	if err := v.reader.Get(ctx, cluster, object); err != nil {
		return fmt.Errorf("reading RayCluster %s: %w", cluster, err)
	}
	port := kuberay.ReadCluster(object).GCSPort
	if port == 0 {
		return fmt.Errorf("RayCluster %s: headGroupSpec.rayStartParams.port is no port", cluster)
	}
	pod, err := v.head(ctx, object)
	if err != nil {
		return err
	}
	bundle, err := v.bundle(ctx, cluster, ca)
	if err != nil {
		return err
	}
	dial, err := v.forward(ctx, pod, port)
	if err != nil {
		return err
	}
	result := probe.Observe(ctx, dial, fmt.Sprintf("%s:%d", pod.Name, port)).Judge(bundle, v.now())
	if err := v.print(pod, port, result); err != nil {
		return err
	}
	return v.verdict(ctx, cluster, result, len(bundle) > 0)
}

// head finds the cluster's own head: anybody can write the labels.
func (v verifier) head(ctx context.Context, cluster metav1.Object) (*corev1.Pod, error) {
	var pods corev1.PodList
	labels := client.MatchingLabels{kuberay.LabelCluster: cluster.GetName(), kuberay.LabelNodeType: kuberay.NodeTypeHead}
	if err := v.reader.List(ctx, &pods, client.InNamespace(cluster.GetNamespace()), labels); err != nil {
		return nil, fmt.Errorf("listing pods: %w", err)
	}
	for i := range pods.Items {
		pod := &pods.Items[i]
		if metav1.IsControlledBy(pod, cluster) && pod.DeletionTimestamp == nil && pod.Status.Phase == corev1.PodRunning {
			return pod, nil
		}
	}
	return nil, fmt.Errorf("RayCluster %s has no running head pod; wait for it, or look at the RayCluster's events", cluster.GetName())
}

// bundle is what the cluster's pods trust; empty if the user may not read the CA Secret.
func (v verifier) bundle(ctx context.Context, cluster client.ObjectKey, file string) ([]*x509.Certificate, error) {
	if file != "" {
		text, err := os.ReadFile(file)
		if err != nil {
			return nil, fmt.Errorf("reading the trust bundle: %w", err)
		}
		return parse(file, text)
	}
	var secret corev1.Secret
	recorded, err := v.recorded(ctx, cluster)
	if err != nil {
		return nil, err
	}
	name := injection.SecretNameSince(cluster.Name, recorded.RevokedBeforeGeneration)
	switch err := v.reader.Get(ctx, client.ObjectKey{Namespace: cluster.Namespace, Name: name}, &secret); {
	case apierrors.IsForbidden(err) || apierrors.IsNotFound(err):
		_, err := fmt.Fprintf(v.notes, "The CA Secret %s cannot be read (%s), so the authority is compared by its ID alone. --ca-file gives a trust bundle.\n", name, apierrors.ReasonForError(err))
		return nil, err
	case err != nil:
		return nil, fmt.Errorf("reading Secret %s: %w", name, err)
	}
	bundle, err := parse("Secret "+name, secret.Data["ca.crt"])
	if err != nil {
		return nil, err
	}
	if recorded.ID == "" {
		_, err := fmt.Fprintf(v.notes, "No RayClusterTLS says which authority is the cluster's, so this believes the CA Secret %s. Anyone who may write that Secret can have put another authority there.\n", name)
		return bundle, err
	}
	if bundle = ofRecord(bundle, &recorded); len(bundle) == 0 {
		return nil, exit.With(exitFault, fmt.Errorf("the CA Secret %s holds no certificate of authority %s, which is the cluster's by its RayClusterTLS; the operator corrects an altered Secret within a minute", name, recorded.ID))
	}
	return bundle, nil
}

// ofRecord are the certificates of a bundle whose keys the RayClusterTLS has on record. Others may write the CA Secret too.
func ofRecord(bundle []*x509.Certificate, recorded *v1alpha1.AuthorityStatus) []*x509.Certificate {
	return slices.DeleteFunc(bundle, func(c *x509.Certificate) bool {
		id := pki.ProvenIDOf(c)
		return id == "" || id != recorded.ID && !slices.ContainsFunc(recorded.Earlier, func(e v1alpha1.EarlierAuthority) bool { return e.ID == id })
	})
}

// recorded is what the RayClusterTLS says of the authority; nothing if the user may not read it.
func (v verifier) recorded(ctx context.Context, cluster client.ObjectKey) (v1alpha1.AuthorityStatus, error) {
	var record v1alpha1.RayClusterTLS
	if err := v.reader.Get(ctx, cluster, &record); err != nil && !apierrors.IsForbidden(err) && !apierrors.IsNotFound(err) {
		return v1alpha1.AuthorityStatus{}, fmt.Errorf("reading RayClusterTLS %s: %w", cluster, err)
	}
	return record.Status.Authority, nil
}

func parse(of string, text []byte) ([]*x509.Certificate, error) {
	bundle, err := pki.ParseBundle(text)
	if err != nil {
		return nil, fmt.Errorf("the trust bundle in %s: %w", of, err)
	}
	return bundle, nil
}

// print shows what is served. The peer chose every text in its certificates.
func (v verifier) print(pod *corev1.Pod, port uint16, result probe.Result) error {
	lines := fmt.Sprintf("head         pod %s, port %d\nserves       %s\n", pod.Name, port, serves(result))
	if len(result.Chain) > 0 {
		leaf := result.Chain[0]
		lines += fmt.Sprintf("certificate  SHA-256 %s…, %s to %s\nsubject      %s\nissuer       %s\nauthority    %s\n",
			result.Fingerprint(), leaf.NotBefore.UTC().Format(time.RFC3339), leaf.NotAfter.UTC().Format(time.RFC3339),
			quote(leaf.Subject.String()), quote(leaf.Issuer.String()), orNone(result.AuthorityID()))
		for _, ip := range pod.Status.PodIPs {
			if leaf.VerifyHostname(ip.IP) != nil {
				lines += fmt.Sprintf("             does not contain the pod's address %s\n", ip.IP)
			}
		}
	}
	_, err := io.WriteString(v.out, lines)
	return err
}

func serves(result probe.Result) string {
	switch {
	case len(result.Chain) > 0:
		return tls.VersionName(result.Version)
	case result.Answer == probe.Plaintext:
		return "gRPC without TLS"
	}
	return "nothing that could be read"
}

func quote(text string) string {
	if runes := []rune(text); len(runes) > maxText {
		text = string(runes[:maxText]) + "…"
	}
	return strconv.QuoteToGraphic(text)
}

func orNone(text string) string {
	if text == "" {
		return "not named"
	}
	return text
}

// verdict is nil for mutual TLS with a certificate of the cluster's authority.
func (v verifier) verdict(ctx context.Context, cluster client.ObjectKey, result probe.Result, bundled bool) error {
	switch {
	case result.Answer == probe.Plaintext:
		return exit.With(exitFault, errors.New("the head serves gRPC without TLS"))
	case result.Cause == probe.AnyClient:
		return exit.With(exitFault, errors.New("the head serves TLS but lets in clients without a certificate"))
	case result.Answer == probe.ForeignTLS:
		return exit.With(exitFault, errors.New("the head serves a certificate that the cluster's authority did not issue"))
	case result.Answer == probe.Unknown:
		return exit.With(exitUnknown, fmt.Errorf("the head does not show what it serves: %s", result.Cause))
	case result.Validity == probe.Expired:
		return ended()
	case result.Validity == probe.NotYetValid:
		return exit.With(exitUnknown, errors.New("the served certificate is not valid yet by this machine's clock; compare the clocks"))
	case !bundled:
		return v.verdictByID(ctx, cluster, result)
	}
	return v.conclude("mutual TLS with a certificate of the cluster's authority")
}

// verdictByID compares the named authority with those on record.
func (v verifier) verdictByID(ctx context.Context, cluster client.ObjectKey, result probe.Result) error {
	var record v1alpha1.RayClusterTLS
	if err := v.reader.Get(ctx, cluster, &record); err != nil {
		return fmt.Errorf("reading RayClusterTLS %s, since there is no trust bundle to compare with: %w", cluster, err)
	}
	current, served := &record.Status.Authority, result.AuthorityID()
	earlier := slices.ContainsFunc(current.Earlier, func(e v1alpha1.EarlierAuthority) bool { return e.ID == served })
	if served == "" || served != current.ID && !earlier {
		return exit.With(exitFault, fmt.Errorf("the head serves a certificate of authority %s, and the cluster's is %s", orNone(served), orNone(current.ID)))
	}
	if keys.Judge(keys.Leaf{NotAfter: result.Chain[0].NotAfter}, keys.Signers{}, v.now()).Reason == v1alpha1.ReasonCertificateExpired {
		return ended()
	}
	return v.conclude("TLS with a certificate that names the cluster's authority, which its signature was not checked against")
}

func ended() error {
	return exit.With(exitFault, errors.New("the served certificate has ended; delete the head pod"))
}

func (v verifier) conclude(verdict string) error {
	_, err := fmt.Fprintf(v.out, "verdict      %s\n", verdict)
	return err
}
