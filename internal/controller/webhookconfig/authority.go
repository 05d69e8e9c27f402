package webhookconfig

import (
	"context"
	"errors"
	"fmt"
	"maps"

	admissionregistrationv1 "k8s.io/api/admissionregistration/v1"
	corev1 "k8s.io/api/core/v1"
	apiequality "k8s.io/apimachinery/pkg/api/equality"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"sigs.k8s.io/controller-runtime/pkg/client"
	"sigs.k8s.io/controller-runtime/pkg/log"
	"sigs.k8s.io/controller-runtime/pkg/reconcile"

	"github.com/raytls/raytls/api/v1alpha1"
	"github.com/raytls/raytls/internal/kube"
	"github.com/raytls/raytls/internal/pki"
	"github.com/raytls/raytls/internal/servingcert"
)

// Secret is the name of the Secret in the operator's namespace that holds the webhook's authority. The webhook's pods mount it.
const Secret = "raytls-webhook-ca"

// bundleElsewhere reports whether cert-manager was told to keep caBundle.
func bundleElsewhere(configuration *admissionregistrationv1.MutatingWebhookConfiguration) bool {
	if configuration == nil {
		return false
	}
	for _, key := range []string{"inject-ca-from", "inject-ca-from-secret", "inject-apiserver-ca"} {
		if configuration.Annotations["cert-manager.io/"+key] != "" {
			return true
		}
	}
	return false
}

// keepAuthority makes the authority, replaces it where that is due, and decides on caBundle. A pod serves under a replaced
// authority until the kubelet has refreshed the Secret that it mounts, so the replaced one is trusted for a while.
func (r *Reconciler) keepAuthority(ctx context.Context, st *state) error {
	if bundleElsewhere(st.configuration) {
		return nil
	}
	authority, why, err := stored(st)
	if errors.Is(err, servingcert.ErrNewerFormat) {
		return reconcile.TerminalError(err) // the Secret is watched
	}
	if err != nil {
		return err
	}
	if err := r.writeSecret(ctx, st, authority, why); err != nil {
		return err
	}
	if r.current != authority.ID() {
		r.current, r.since = authority.ID(), st.now
	}
	st.authority = authority
	st.reconcileAt(servingcert.RenewAt(authority))
	has := bundles(st.configuration)
	alone := servingcert.Bundle(authority, st.now, false)
	end := r.since.Add(servingcert.Retiring)
	st.bundle = servingcert.Bundle(authority, st.now, st.now.Before(end), has...)
	if len(st.bundle) > len(alone) {
		st.reconcileAt(end)
	}
	return nil
}

// stored returns the authority that the Secret holds, or a new one and the reason why it is new.
func stored(st *state) (authority *pki.Authority, why string, err error) {
	why = "there is none"
	if st.secret != nil {
		authority, err = servingcert.Parse(st.secret.Data, st.now)
		switch {
		case errors.Is(err, servingcert.ErrNewerFormat):
			return nil, "", fmt.Errorf("the webhook's authority in Secret %s: %w", Secret, err)
		case err != nil:
			why = err.Error()
		case st.now.Before(servingcert.RenewAt(authority)):
			return authority, "", nil
		default:
			why = "it is in its last year"
		}
	}
	authority, err = servingcert.NewAuthority(st.now)
	return authority, why, err
}

// bundles are the caBundles that the operator keeps.
func bundles(configuration *admissionregistrationv1.MutatingWebhookConfiguration) [][]byte {
	if configuration == nil {
		return nil
	}
	var out [][]byte
	for i := range configuration.Webhooks {
		out = append(out, configuration.Webhooks[i].ClientConfig.CABundle)
	}
	return out
}

// writeSecret writes the authority where the Secret differs from it.
func (r *Reconciler) writeSecret(ctx context.Context, st *state, authority *pki.Authority, why string) error {
	data, err := servingcert.Data(authority)
	if err != nil {
		return err
	}
	labels := kube.Labels(v1alpha1.ComponentWebhook)
	logger := log.FromContext(ctx).WithValues("secret", Secret, "authority", authority.ID(), "because", why)
	if st.secret == nil {
		logger.Info("Creating the webhook's authority")
		return r.create(ctx, &corev1.Secret{
			ObjectMeta: metav1.ObjectMeta{Namespace: r.Namespace, Name: Secret, Labels: labels},
			Type:       corev1.SecretTypeOpaque, Data: data,
		})
	}
	want := st.secret.DeepCopy()
	if want.Labels == nil {
		want.Labels = map[string]string{}
	}
	maps.Copy(want.Labels, labels)
	want.Data = data
	if apiequality.Semantic.DeepEqual(want, st.secret) {
		return nil
	}
	if st.secret.Immutable != nil && *st.secret.Immutable || st.secret.Type != corev1.SecretTypeOpaque {
		logger.Info("Deleting the Secret of the webhook's authority, which cannot be updated")
		if err := kube.Delete(ctx, r.Client, st.secret.DeepCopy()); err != nil {
			return err
		}
		return kube.ErrStale
	}
	logger.Info("Updating the webhook's authority")
	if err := r.Client.Update(ctx, want, client.FieldOwner(v1alpha1.ManagedBy)); err != nil {
		return fmt.Errorf("updating Secret %s: %w", Secret, err)
	}
	return nil
}

// create creates the Secret that the cache does not have. One that exists all the same is the cache's lag if it is
// labelled as the operator's, and otherwise somebody else's, and left alone.
func (r *Reconciler) create(ctx context.Context, secret *corev1.Secret) error {
	err := r.Client.Create(ctx, secret, client.FieldOwner(v1alpha1.ManagedBy))
	if err == nil {
		return nil
	}
	if !apierrors.IsAlreadyExists(err) {
		return fmt.Errorf("creating Secret %s: %w", Secret, err)
	}
	existing, err := kube.ReadSecret(ctx, r.Live, client.ObjectKeyFromObject(secret))
	if err != nil {
		return err
	}
	if existing == nil || existing.Labels[v1alpha1.LabelManagedBy] == v1alpha1.ManagedBy {
		return kube.ErrStale
	}
	return fmt.Errorf("the webhook has no authority, because Secret %s in namespace %s is not labelled %s=%s and is left alone; delete or rename it",
		Secret, r.Namespace, v1alpha1.LabelManagedBy, v1alpha1.ManagedBy)
}
