package webhookconfig

import (
	"cmp"
	"context"
	"errors"
	"fmt"

	admissionregistrationv1 "k8s.io/api/admissionregistration/v1"
	corev1 "k8s.io/api/core/v1"
	apiequality "k8s.io/apimachinery/pkg/api/equality"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/labels"
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
	a := configuration.Annotations
	return cmp.Or(a["cert-manager.io/inject-ca-from"], a["cert-manager.io/inject-ca-from-secret"], a["cert-manager.io/inject-apiserver-ca"]) != ""
}

// keepAuthority makes the authority, replaces it where that is due, and decides on caBundle. A pod serves under a replaced
// authority until the kubelet has refreshed the Secret that it mounts, so the replaced one is trusted for a while.
func (r *Reconciler) keepAuthority(ctx context.Context, st *state) error {
	if bundleElsewhere(st.configuration) {
		return nil
	}
	authority, why, err := stored(st)
	if err != nil {
		return err
	}
	if err := r.writeSecret(ctx, st, authority, why); err != nil {
		return err
	}
	if r.current != authority.ID() {
		r.current, r.since = authority.ID(), st.now
	}
	var has [][]byte
	retired := r.since.Add(servingcert.Retiring)
	if st.now.Before(retired) {
		for i := range st.configuration.Webhooks {
			has = append(has, st.configuration.Webhooks[i].ClientConfig.CABundle)
		}
	}
	st.authority, st.bundle, st.next = authority, servingcert.Bundle(authority, st.now, has...), servingcert.RenewAt(authority)
	if len(st.bundle) > len(authority.CertificatePEM()) {
		st.next = retired
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
			return nil, "", reconcile.TerminalError(fmt.Errorf("the webhook's authority in Secret %s: %w", Secret, err)) // the Secret is watched
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

// writeSecret writes the authority where the Secret differs from it.
func (r *Reconciler) writeSecret(ctx context.Context, st *state, authority *pki.Authority, why string) error {
	data, err := servingcert.Data(authority)
	if err != nil {
		return err
	}
	logger := log.FromContext(ctx).WithValues("secret", Secret, "authority", authority.ID(), "because", why)
	if st.secret == nil {
		logger.Info("Creating the webhook's authority")
		return kube.Create(ctx, r.Client, r.Live, &corev1.Secret{
			ObjectMeta: metav1.ObjectMeta{Namespace: r.Namespace, Name: Secret, Labels: kube.Labels(v1alpha1.ComponentWebhook)},
			Type:       corev1.SecretTypeOpaque, Data: data,
		}, nil)
	}
	want := st.secret.DeepCopy()
	want.Labels = labels.Merge(want.Labels, kube.Labels(v1alpha1.ComponentWebhook))
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
