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
	"github.com/raytls/raytls/internal/kuberay"
)

// provideKeys sees to the authority and the CA Secret of a cluster that carries the injection or is about to.
func (a *application) provideKeys(ctx context.Context) error {
	if !a.decision.WantsKeys || a.beginsRevocation() {
		return nil
	}
	if a.facts.KeysError != nil {
		return a.facts.KeysError
	}
	if err := a.nameConflict(ctx); err != nil {
		return err
	}
	if a.facts.ClockSkew != "" {
		return a.withoutKeys(ctx)
	}
	settings, parent, pods, now := a.facts.KeySettings(), a.facts.Parent(), a.facts.KeyPods(), a.facts.Now
	pods.Settled = a.settled.since(a.facts.Key, a.facts.KeyState(), now)
	due, err := a.facts.Keys.Due(settings, parent, pods, now)
	if err != nil {
		return a.unlessStale(ctx, err)
	}
	if wait := a.issuers.wait(a.facts.Key, now); due.Makes() && wait > 0 {
		a.requeueAt(now.Add(wait))
		return a.waitsForIssuer(ctx, wait)
	}
	if due.Makes() {
		if settings.Slow() {
			end, ok := a.makers.begin(ctx, a.facts.Key.Namespace)
			if !ok {
				a.requeueAt(now.Add(makerRetry))
				return a.waitsForMaker(settings)
			}
			defer end()
		}
		if err := a.mayMakeKeys(ctx); err != nil {
			return err
		}
	}
	if len(due.Unused) > 0 {
		if err := a.knowsPods(ctx); err != nil {
			return err
		}
		log.FromContext(ctx).Info("Dropping bridges to earlier authorities", "generations", due.Unused)
	}
	next, made, renewAt, err := keys.Next(a.facts.Keys, settings, parent, pods, now)
	if err != nil {
		return err
	}
	if err := a.writeAuthority(ctx, next, made.Authority); err != nil {
		return err
	}
	a.requeueAt(renewAt)
	return a.publish(ctx, next, made.Issuer)
}

// withoutKeys is for the time in which the clocks of the operator and of an API server differ: a certificate that is made then begins
// or ends at a time that nobody meant. Nothing is written. It fails if new pods wait for keys.
func (a *application) withoutKeys(ctx context.Context) error {
	if err := a.freshAuthority(ctx); err != nil { // an answer of now shows whether the clocks differ still
		return err
	}
	if a.facts.Keys.Works(a.facts.Now) {
		return nil
	}
	return a.facts.ClocksDiffer()
}

// mayMakeKeys fails if the API server's answer of this moment shows that its clock and the operator's differ: none may have come for a
// while. The first authority is made of the newest RayCluster alone, since a cluster that was disabled meanwhile would keep it.
func (a *application) mayMakeKeys(ctx context.Context) error {
	if err := a.freshAuthority(ctx); err != nil {
		return err
	}
	if a.facts.AuthoritySecret == nil {
		if err := a.verifyCluster(ctx); err != nil {
			return err
		}
	}
	if a.Gatherer.ClockSkew != nil && a.Gatherer.ClockSkew() != "" {
		return kube.ErrStale // the facts show it next time
	}
	return nil
}

// logIssued writes the one line that tells of a certificate. The line that a pod's init container writes has the same keys.
func (a *application) logIssued(ctx context.Context, what string, store keys.Store, certificate *x509.Certificate, more ...any) {
	log.FromContext(ctx).WithValues(more...).Info(what,
		"cluster", a.facts.Key.String(), "serial", fmt.Sprintf("%032x", certificate.SerialNumber),
		"authority", store.Authority.ID(), "generation", store.Generation, "notAfter", kube.FormatTime(certificate.NotAfter))
}

// waitsForIssuer is for a cluster that got its last issuer a moment ago. It fails if new pods wait for the next one. A cache that has
// not seen the last one is not reported.
func (a *application) waitsForIssuer(ctx context.Context, wait time.Duration) error {
	if err := a.fresh(ctx); err != nil || a.facts.Keys.Works(a.facts.Now) {
		return err
	}
	if a.facts.Keys.RevokedBefore < a.facts.RevokedBefore() {
		return kube.Waitf(v1alpha1.ReasonRevoking, "the authority is revoked, and the next one is made in a moment; the operator makes one issuer in %s for a cluster", issueInterval).RetryAfter(wait)
	}
	return kube.Waitf(a.startsWithoutKeys(), "Secret %s was deleted or altered again at once; the operator makes one issuer in %s for a cluster, and new pods wait for it", a.issuerName(), issueInterval).RetryAfter(wait)
}

// waitsForMaker is for a cluster whose keys are made after others'. It fails if new pods wait for them.
func (a *application) waitsForMaker(settings keys.Settings) error {
	if a.facts.Keys.Works(a.facts.Now) {
		return nil
	}
	return kube.Waitf(a.startsWithoutKeys(), "the operator makes keys of the algorithm %s for one cluster of a namespace after another, and new pods wait for this cluster's",
		settings.AuthorityKey).RetryAfter(makerRetry)
}

// startsWithoutKeys is the reason of a cluster whose new pods wait for keys.
func (a *application) startsWithoutKeys() string {
	switch {
	case a.facts.Keys.RevokedBefore < a.facts.RevokedBefore():
		return v1alpha1.ReasonRevoking
	case a.decision.Edited != nil: // templates come after keys
		return v1alpha1.ReasonEnabling
	}
	return v1alpha1.ReasonPodsStarting
}

// unlessStale is the error, unless it may come of a cache that lags behind the authority's Secret: the record in another cache can be
// ahead of it.
func (a *application) unlessStale(ctx context.Context, err error) error {
	if a.facts.AuthoritySecret == nil {
		return err
	}
	if lag := a.freshAuthority(ctx); lag != nil {
		return lag
	}
	return err
}

// fresh fails if the cache lags behind one of the cluster's Secrets.
func (a *application) fresh(ctx context.Context) error {
	if err := a.freshAuthority(ctx); err != nil {
		return err
	}
	stored, err := kube.ReadSecret(ctx, a.Live, types.NamespacedName{Namespace: a.facts.Key.Namespace, Name: a.issuerName()})
	return stale(a.facts.IssuerSecret, stored, err)
}

// freshAuthority fails if the cache lags behind the authority's Secret, or if somebody else's Secret has its name.
func (a *application) freshAuthority(ctx context.Context) error {
	key := types.NamespacedName{Namespace: a.Settings.Namespace, Name: keys.AuthoritySecretName(a.facts.Key)}
	stored, err := kube.ReadSecret(ctx, a.Live, key)
	if err == nil && stored != nil && a.facts.AuthoritySecret == nil {
		return kube.NameConflict(stored, kube.Labels(v1alpha1.ComponentAuthority), nil)
	}
	return stale(a.facts.AuthoritySecret, stored, err)
}

// stale fails if the Secret is another than the cache shows; nil stands for one that does not exist. err is that of reading it.
func stale(seen, stored *corev1.Secret, err error) error {
	if err != nil {
		return err
	}
	if (stored == nil) != (seen == nil) || stored != nil && stored.ResourceVersion != seen.ResourceVersion {
		return kube.ErrStale
	}
	return nil
}

// knowsPods fails if the cluster has a pod that the cache does not show. Such a pod may have a certificate of an authority that
// seems unused.
func (a *application) knowsPods(ctx context.Context) error {
	known := map[types.UID]bool{}
	for _, pod := range slices.Concat(a.facts.Pods, a.facts.Ended) {
		known[types.UID(pod.UID)] = true
	}
	labels := client.MatchingLabels{kuberay.LabelCluster: a.facts.Key.Name}
	err := kube.EachMetadata(ctx, a.Live, corev1.SchemeGroupVersion.WithKind("Pod"), a.facts.Key.Namespace, labels, func(pod *metav1.PartialObjectMetadata) error {
		if metav1.IsControlledBy(pod, a.facts.Object) && !known[pod.UID] {
			return kube.ErrStale
		}
		return nil
	})
	if err != nil {
		return fmt.Errorf("listing pods: %w", err)
	}
	return nil
}

// nameConflict finds a Secret of somebody else under the name of the CA Secret, before anything is made for the cluster.
func (a *application) nameConflict(ctx context.Context) error {
	if a.facts.IssuerSecret != nil {
		return nil
	}
	key := types.NamespacedName{Namespace: a.facts.Key.Namespace, Name: a.issuerName()}
	secret, err := kube.ReadSecret(ctx, a.Live, key)
	if err != nil || secret == nil {
		return err
	}
	if secret.Labels[v1alpha1.LabelComponent] == v1alpha1.ComponentIssuer && !a.facts.OwnIssuer(secret) {
		return kube.UserMustActf(v1alpha1.ReasonNameConflict, "Secret %s in namespace %s is that of another RayCluster; delete that RayCluster, or this one", secret.Name, secret.Namespace).
			RetryAfter(kube.UnwatchedRetry)
	}
	return kube.NameConflict(secret, kube.Labels(v1alpha1.ComponentIssuer), a.facts.Object)
}

// writeAuthority writes the authority's Secret where it differs. why is the cause of a new authority.
func (a *application) writeAuthority(ctx context.Context, next keys.Store, why string) error {
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
	before := a.facts.Keys.Authority
	replaced := before != nil && before.ID() != next.Authority.ID()
	if existing == nil || replaced {
		a.logIssued(ctx, "Issued authority", next, next.Authority.Certificate())
	}
	switch {
	case existing == nil:
		a.event(false, "AuthorityCreated", "Create", "created the cluster's authority in the operator's namespace")
	case replaced && next.RevokedBefore == next.Generation:
		a.event(false, "AuthorityRevoked", "Create", fmt.Sprintf("made authority %s as generation %d, which has nothing to do with those before: %s", next.Authority.ID(), next.Generation, why))
	case replaced:
		a.event(false, "AuthorityReplaced", "Create", fmt.Sprintf("made authority %s as generation %d: %s", next.Authority.ID(), next.Generation, why))
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
	want := issuerSecret(a.facts.Object, existing, keys.IssuerSecretName(a.facts.Key, next.RevokedBefore), data)
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
		a.event(false, "IssuerCreated", "Issue", fmt.Sprintf("made issuer %s, valid until %s: %s", next.Issuer.ID(), kube.FormatTime(next.Issuer.NotAfter()), why))
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

// issuerSecret is the cluster's CA Secret of that name with that data: a new one, or a changed copy of the one that exists.
func issuerSecret(of *unstructured.Unstructured, existing *corev1.Secret, name string, data map[string][]byte) *corev1.Secret {
	secret := &corev1.Secret{Type: corev1.SecretTypeOpaque}
	if existing != nil {
		secret = existing.DeepCopy()
	}
	secret.Namespace, secret.Name = of.GetNamespace(), name
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
	gone := []*corev1.Secret{a.facts.IssuerSecret, a.facts.AuthoritySecret}
	for i := range a.facts.Revoked {
		gone = append(gone, &a.facts.Revoked[i])
	}
	for _, secret := range gone {
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
