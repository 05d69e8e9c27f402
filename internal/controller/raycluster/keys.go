package raycluster

import (
	"context"
	"crypto/x509"
	"fmt"
	"slices"
	"time"

	corev1 "k8s.io/api/core/v1"
	apiequality "k8s.io/apimachinery/pkg/api/equality"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/labels"
	"k8s.io/apimachinery/pkg/types"
	"sigs.k8s.io/controller-runtime/pkg/client"
	"sigs.k8s.io/controller-runtime/pkg/log"

	"github.com/raytls/raytls/api/v1alpha1"
	"github.com/raytls/raytls/internal/keys"
	"github.com/raytls/raytls/internal/kube"
	"github.com/raytls/raytls/internal/pki"
	"github.com/raytls/raytls/internal/policy"
)

// provideKeys sees to the authority and the CA Secret of a cluster that carries the injection or is about to.
func (a *application) provideKeys(ctx context.Context) error {
	if !a.decision.WantsKeys {
		return nil
	}
	if a.facts.KeysError != nil {
		return a.facts.KeysError
	}
	if err := a.nameConflict(ctx); err != nil {
		return err
	}
	parent, err := a.parent()
	if err != nil {
		return err
	}
	now := a.facts.Now
	if a.facts.Keys.IssuerDue(a.facts.KeySettings(), now) {
		if wait := a.issuers.wait(a.facts.Key, now); wait > 0 {
			a.requeueAt(now.Add(wait))
			if a.decision.Edited != nil { // templates come after keys
				return kube.Waitf(v1alpha1.ReasonEnabling, "waiting %s before the cluster gets another issuer", wait.Round(time.Second)).RetryAfter(wait)
			}
			return nil
		}
	}
	next, why, renewAt, err := keys.Next(a.facts.Keys, a.facts.KeySettings(), parent, a.facts.KeyPods(), now)
	if err != nil {
		return err
	}
	if err := a.writeAuthority(ctx, next); err != nil {
		return err
	}
	a.requeueAt(renewAt)
	return a.publish(ctx, next, why)
}

// logIssued writes the one line that tells of a certificate. The line that a pod's init container writes has the same keys.
func (a *application) logIssued(ctx context.Context, what string, store keys.Store, certificate *x509.Certificate, more ...any) {
	log.FromContext(ctx).WithValues(more...).Info(what,
		"cluster", a.facts.Key.String(), "serial", fmt.Sprintf("%032x", certificate.SerialNumber),
		"authority", store.Authority.ID(), "generation", store.Generation, "notAfter", certificate.NotAfter.UTC().Format(time.RFC3339))
}

// nameConflict finds a Secret of somebody else under the name of the CA Secret, before anything is made for the cluster.
func (a *application) nameConflict(ctx context.Context) error {
	if a.facts.IssuerSecret != nil {
		return nil
	}
	key := types.NamespacedName{Namespace: a.facts.Key.Namespace, Name: keys.IssuerSecretName(a.facts.Key)}
	secret, err := kube.ReadSecret(ctx, a.Live, key)
	if err != nil || secret == nil {
		return err
	}
	return kube.NameConflict(secret, kube.Labels(v1alpha1.ComponentIssuer), a.facts.Object)
}

// parent is the brought CA for a new authority; nil for a self-signed one.
func (a *application) parent() (*pki.Parent, error) {
	if a.facts.AuthoritySecret != nil || a.facts.Policy == nil || a.facts.Policy.CertificateAuthority.SecretRef == nil {
		return nil, nil
	}
	parent, verdict := policy.BroughtCA(a.facts.Policy, a.facts.BroughtCA, a.facts.Now)
	if !verdict.Accepted {
		return nil, kube.UserMustActf(v1alpha1.ReasonNotAccepted, "%s", verdict.Message)
	}
	return parent, nil
}

// writeAuthority writes the authority's Secret where it differs.
func (a *application) writeAuthority(ctx context.Context, next keys.Store) error {
	data, err := next.AuthorityData()
	if err != nil {
		return err
	}
	existing := a.facts.AuthoritySecret
	want := existing.DeepCopy()
	if existing == nil {
		want = &corev1.Secret{ObjectMeta: metav1.ObjectMeta{
			Namespace: a.Settings.Namespace, Name: keys.AuthoritySecretName(a.facts.Key), Labels: kube.Labels(v1alpha1.ComponentAuthority),
			Annotations: map[string]string{v1alpha1.AnnotationCluster: a.facts.Key.String()},
		}, Type: corev1.SecretTypeOpaque}
	}
	want.Data = data
	if err := a.writeSecret(ctx, existing, want, nil); err != nil {
		return err
	}
	if existing == nil {
		a.logIssued(ctx, "Issued authority", next, next.Authority.Certificate())
		a.event(false, "AuthorityCreated", "Create", "created the cluster's authority in the operator's namespace")
	}
	return nil
}

// publish writes the cluster's CA Secret if it differs. why is the cause of a new issuer; it is empty if there is no new issuer.
func (a *application) publish(ctx context.Context, next keys.Store, why string) error {
	data, err := next.IssuerData()
	if err != nil {
		return err
	}
	existing := a.facts.IssuerSecret
	want := issuerSecret(a.facts.Object, existing, data)
	a.keys = next
	if existing != nil && !apiequality.Semantic.DeepEqual(existing, want) && (existing.Type != corev1.SecretTypeOpaque || existing.Immutable != nil) {
		log.FromContext(ctx).Info("Deleting CA Secret that cannot be updated", "secret", existing.Name)
		if err := kube.Delete(ctx, a.Client, existing.DeepCopy()); err != nil {
			return err
		}
		return kube.ErrStale
	}
	if err := a.writeSecret(ctx, existing, want, a.facts.Object); err != nil {
		return err
	}
	a.issuerSecret = want
	if why != "" {
		a.issuers.made(a.facts.Key, a.facts.Now)
		a.logIssued(ctx, "Issued issuer", next, next.Issuer.Certificate(), "issuer", next.Issuer.ID(), "cause", why)
		a.event(false, "IssuerCreated", "Issue", fmt.Sprintf("made issuer %s, valid until %s: %s", next.Issuer.ID(), next.Issuer.NotAfter().UTC().Format(time.RFC3339), why))
	}
	return nil
}

// writeSecret creates a Secret, or updates the one that exists where it differs.
func (a *application) writeSecret(ctx context.Context, existing, want *corev1.Secret, owner metav1.Object) error {
	logger := log.FromContext(ctx).WithValues("secret", client.ObjectKeyFromObject(want))
	if existing == nil {
		logger.Info("Creating Secret")
		return kube.Create(ctx, a.Client, a.Live, want, owner)
	}
	if apiequality.Semantic.DeepEqual(existing, want) {
		return nil
	}
	logger.Info("Updating Secret")
	if err := a.Client.Update(ctx, want, client.FieldOwner(v1alpha1.ManagedBy)); err != nil {
		return fmt.Errorf("updating Secret %s: %w", want.Name, err)
	}
	return nil
}

// issuerSecret is the cluster's CA Secret with that data: a new one, or a changed copy of the one that exists.
func issuerSecret(of *unstructured.Unstructured, existing *corev1.Secret, data map[string][]byte) *corev1.Secret {
	secret := &corev1.Secret{Type: corev1.SecretTypeOpaque}
	if existing != nil {
		secret = existing.DeepCopy()
	}
	secret.Namespace, secret.Name = of.GetNamespace(), keys.IssuerSecretName(client.ObjectKeyFromObject(of))
	secret.Labels = labels.Merge(secret.Labels, kube.Labels(v1alpha1.ComponentIssuer))
	secret.OwnerReferences = slices.DeleteFunc(secret.OwnerReferences, func(o metav1.OwnerReference) bool {
		return o.Kind == of.GetKind() && o.UID != of.GetUID() // of an earlier cluster of the name
	})
	if !kube.OwnedBy(secret, of.GetUID()) {
		secret.OwnerReferences = append(secret.OwnerReferences, ownerReference(of))
	}
	secret.Data = data
	return secret
}

// removeKeys deletes the keys of a cluster that is plaintext again, before the record of it goes.
func (a *application) removeKeys(ctx context.Context) error {
	if !a.decision.Plan.Release {
		return nil
	}
	for _, secret := range []*corev1.Secret{a.facts.IssuerSecret, a.facts.AuthoritySecret} {
		if secret == nil {
			continue
		}
		log.FromContext(ctx).Info("Deleting keys", "secret", client.ObjectKeyFromObject(secret))
		if err := kube.Delete(ctx, a.Client, secret.DeepCopy()); err != nil {
			return err
		}
	}
	a.keys, a.issuerSecret = keys.Store{}, nil
	return a.removeScripts(ctx, a.facts.Key)
}
