package raycluster

import (
	"context"
	"encoding/json"
	"fmt"
	"maps"
	"time"

	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/types"
	"sigs.k8s.io/controller-runtime/pkg/client"
	"sigs.k8s.io/controller-runtime/pkg/log"

	"github.com/raytls/raytls/api/v1alpha1"
	"github.com/raytls/raytls/internal/controller/acceptance"
	"github.com/raytls/raytls/internal/gencert"
	"github.com/raytls/raytls/internal/injection"
	"github.com/raytls/raytls/internal/jsonpatch"
	"github.com/raytls/raytls/internal/pki"
	"github.com/raytls/raytls/internal/rollout"
)

// provideKeys sees to authority, CA Secret and scripts of a cluster that carries the injection or is about to. It comes
// before the templates are written, so that no pod waits for its keys.
func (r *Reconciler) provideKeys(ctx context.Context, st *state) error {
	injects := st.planned.Edit == rollout.Inject || st.planned.Edit == rollout.InjectAll
	carries := injection.AnyPiece(st.spec) && !st.planned.Released
	adopts := st.policy != nil || st.authority != nil
	if !st.cluster.DeletionTimestamp.IsZero() || st.key.Namespace == r.Namespace || !adopts || !injects && !carries || st.paused() && !carries {
		return nil
	}
	if err := r.nameTaken(ctx, st); err != nil {
		return err
	}
	authority, by, err := r.provideAuthority(ctx, st)
	if err != nil {
		return err
	}
	if err := r.provideScripts(ctx, st); err != nil {
		return err
	}
	st.authorityID = authority.ID()
	if _, why := keep(authority, st.issuer, by, st.now); why != "" {
		if wait := r.issues.wait(st.key, st.now); wait > 0 {
			st.again(st.now.Add(wait))
			if injects {
				return errStale // templates come after keys
			}
			return nil
		}
		r.issues.made(st.key, st.now)
	}
	st.issued, err = issue(authority, st.issuer, by, !faultTolerant(st.cluster), st.now)
	if err != nil {
		return fmt.Errorf("RayCluster %s: %w", st.key, err)
	}
	st.again(st.issued.renew)
	st.status.IssuerNotAfter = &metav1.Time{Time: st.issued.issuer.NotAfter()}
	return r.publish(ctx, st)
}

// nameTaken says that the CA Secret's name is somebody else's, before anything is made for the cluster.
func (r *Reconciler) nameTaken(ctx context.Context, st *state) error {
	if st.issuer != nil {
		return nil
	}
	key := types.NamespacedName{Namespace: st.key.Namespace, Name: injection.SecretName(st.key.Name)}
	known := &metav1.PartialObjectMetadata{}
	known.SetGroupVersionKind(corev1.SchemeGroupVersion.WithKind("Secret"))
	if err := r.SecretNames.Get(ctx, key, known); err != nil {
		return client.IgnoreNotFound(err)
	}
	secret, err := ReadSecret(ctx, r.Live, key)
	if err != nil || secret == nil {
		return err
	}
	return taken(secret, labelsFor(v1alpha1.ComponentIssuer), st.cluster)
}

// taken says what it means that an object of a name of ours exists and the cache of ours does not have it: the cache lags
// behind (errStale), or it is somebody else's. Nil: it is ours by its owner (nil for none), and to be taken back.
func taken(existing client.Object, labels map[string]string, owner metav1.Object) error {
	kind := "Secret"
	if _, scripts := existing.(*corev1.ConfigMap); scripts {
		kind = "ConfigMap"
	}
	p := problemf(v1alpha1.ReasonNameConflict, "%s %s in namespace %s exists and is not the operator's; it is left alone, so delete or rename it", kind, existing.GetName(), existing.GetNamespace())
	switch {
	case !existing.GetDeletionTimestamp().IsZero():
		p = problemf(v1alpha1.ReasonNameConflict, "%s %s in namespace %s is being deleted and a finalizer holds it; it is made anew when it is gone", kind, existing.GetName(), existing.GetNamespace())
	case maps.Equal(existing.GetLabels(), labels):
		return errStale
	case owner != nil && ownedByUID(existing, owner.GetUID()):
		return nil
	}
	p.again = later // ConfigMaps that are not labelled as ours are not watched, nor is a finalizer's end
	return p
}

// provideAuthority reads the cluster's authority, or makes it. The settings are the policy's, or those that were kept.
func (r *Reconciler) provideAuthority(ctx context.Context, st *state) (*pki.Authority, settings, error) {
	if st.authority == nil {
		return r.makeAuthority(ctx, st)
	}
	authority, by, err := parseAuthority(st.key, st.authority)
	if err != nil {
		return nil, by, problemf(v1alpha1.ReasonAuthorityLost, "Secret %s in the operator's namespace cannot be used: %v; restore it from a backup, or suspend the cluster and delete the Secret to have a new authority made", st.authority.Name, err)
	}
	if st.policy == nil {
		return authority, by, nil
	}
	want := r.settingsFor(st)
	text, err := json.Marshal(want)
	if err != nil {
		return nil, by, fmt.Errorf("keeping the authority's settings: %w", err)
	}
	if string(text) == string(st.authority.Data[keyAuthoritySettings]) {
		return authority, want, nil
	}
	log.FromContext(ctx).Info("Updating the settings kept beside the authority", "secret", st.authority.Name)
	changed := st.authority.DeepCopy()
	changed.Data[keyAuthoritySettings] = text
	if err := r.Client.Update(ctx, changed, client.FieldOwner(v1alpha1.ManagedBy)); err != nil {
		return nil, by, fmt.Errorf("updating Secret %s: %w", changed.Name, err)
	}
	return authority, want, nil
}

func (r *Reconciler) settingsFor(st *state) settings {
	return settingsOf(st.policy, st.headNames(r.ClusterDomain, st.policy.PodCertificate.HeadServiceShortName)...)
}

func (r *Reconciler) makeAuthority(ctx context.Context, st *state) (*pki.Authority, settings, error) {
	by := r.settingsFor(st)
	for i := range st.pods {
		if podFacts(&st.pods[i]).Certified {
			return nil, by, problemf(v1alpha1.ReasonAuthorityLost,
				"Secret %s with the cluster's authority is gone from the operator's namespace while pods that trust it run, and pods of a new authority could not talk to them; restore it from a backup, or suspend the cluster until its pods are gone", AuthorityName(st.key))
		}
	}
	var parent *pki.Parent
	if ref := st.policy.CertificateAuthority.SecretRef; ref != nil {
		brought, err := ReadSecret(ctx, r.Live, types.NamespacedName{Namespace: st.key.Namespace, Name: ref.Name})
		if err != nil {
			return nil, by, err
		}
		var verdict acceptance.Verdict
		if parent, verdict = acceptance.BroughtCA(st.policy, brought, st.now); !verdict.Accepted {
			return nil, by, problemf(v1alpha1.ReasonNotAccepted, "%s", verdict.Message)
		}
	}
	secret, err := newAuthority(st.key, r.Namespace, by, parent, st.now)
	if err != nil {
		return nil, by, err
	}
	log.FromContext(ctx).Info("Creating authority", "secret", secret.Name)
	if err := r.create(ctx, secret, nil); err != nil {
		return nil, by, err
	}
	r.event(st, false, "AuthorityCreated", "Create", "created the cluster's authority in the operator's namespace")
	st.authority = secret
	authority, by, err := parseAuthority(st.key, secret)
	return authority, by, err
}

// publish writes the cluster's CA Secret where it differs from what it is to be.
func (r *Reconciler) publish(ctx context.Context, st *state) error {
	want := issuerSecret(st.cluster, st.issuer, st.issued.data)
	switch {
	case sameSecret(st.issuer, want):
		return nil
	case st.issuer != nil && (st.issuer.Type != corev1.SecretTypeOpaque || st.issuer.Immutable != nil):
		// It cannot be updated, so it is made anew.
		log.FromContext(ctx).Info("Deleting CA Secret that cannot be updated", "secret", want.Name)
		if err := r.delete(ctx, st.issuer); err != nil {
			return err
		}
		st.issued = nil
		return errStale
	case st.issuer == nil:
		log.FromContext(ctx).Info("Creating CA Secret", "secret", want.Name, "issuer", st.issued.issuer.ID())
		if err := r.create(ctx, want, st.cluster); err != nil {
			return err
		}
	default:
		log.FromContext(ctx).Info("Updating CA Secret", "secret", want.Name, "issuer", st.issued.issuer.ID())
		if err := r.Client.Update(ctx, want, client.FieldOwner(v1alpha1.ManagedBy)); err != nil {
			return fmt.Errorf("updating Secret %s: %w", want.Name, err)
		}
	}
	st.issuer = want
	if st.issued.why != "" {
		r.event(st, false, "IssuerCreated", "Issue", fmt.Sprintf("made issuer %s, valid until %s: %s", st.issued.issuer.ID(), st.issued.issuer.NotAfter().UTC().Format(time.RFC3339), st.issued.why))
	}
	return nil
}

// provideScripts sees to the ConfigMap with the scripts. It is immutable and named by its content, so one that differs
// is somebody else's doing.
func (r *Reconciler) provideScripts(ctx context.Context, st *state) error {
	if st.parameters.ScriptsPath != "" {
		return nil
	}
	content, err := gencert.Scripts(injection.Revision)
	if err != nil {
		return err
	}
	name, err := gencert.ConfigMapName(injection.Revision)
	if err != nil {
		return err
	}
	if st.scripts != nil && maps.Equal(st.scripts.Data, content) {
		return nil
	}
	if st.scripts != nil {
		log.FromContext(ctx).Info("Deleting altered scripts", "configMap", name)
		if err := r.delete(ctx, st.scripts); err != nil {
			return err
		}
		st.scripts = nil
	}
	immutable := true
	scripts := &corev1.ConfigMap{
		ObjectMeta: metav1.ObjectMeta{Namespace: st.key.Namespace, Name: name, Labels: labelsFor(v1alpha1.ComponentScripts)},
		Data:       content, Immutable: &immutable,
	}
	log.FromContext(ctx).Info("Creating scripts", "configMap", name)
	if err := r.create(ctx, scripts, nil); err != nil {
		return err
	}
	st.scripts = scripts
	return nil
}

// create creates an object that the cache does not have. One that exists all the same is the cache's lag if it is ours, is
// taken back if the owner (nil for none) owns it, and otherwise a conflict for the user.
func (r *Reconciler) create(ctx context.Context, object client.Object, owner metav1.Object) error {
	err := r.Client.Create(ctx, object, client.FieldOwner(v1alpha1.ManagedBy))
	if !apierrors.IsAlreadyExists(err) {
		return err
	}
	existing := client.Object(&corev1.Secret{})
	if _, scripts := object.(*corev1.ConfigMap); scripts {
		existing = &corev1.ConfigMap{}
	}
	if err := r.Live.Get(ctx, client.ObjectKeyFromObject(object), existing); err != nil {
		if apierrors.IsNotFound(err) {
			return errStale
		}
		return fmt.Errorf("reading %s: %w", client.ObjectKeyFromObject(object), err)
	}
	if err := taken(existing, object.GetLabels(), owner); err != nil {
		return err
	}
	object.SetResourceVersion(existing.GetResourceVersion())
	object.SetUID(existing.GetUID())
	return r.Client.Update(ctx, object, client.FieldOwner(v1alpha1.ManagedBy))
}

func ownedByUID(object metav1.Object, uid types.UID) bool {
	for _, reference := range object.GetOwnerReferences() {
		if reference.UID == uid {
			return true
		}
	}
	return false
}

// removeKeys deletes the keys of a cluster that is plaintext again, before the record of it goes.
func (r *Reconciler) removeKeys(ctx context.Context, st *state) error {
	if !st.planned.Released || st.paused() {
		return nil
	}
	for _, secret := range []*corev1.Secret{st.issuer, st.authority} {
		if secret == nil {
			continue
		}
		log.FromContext(ctx).Info("Deleting keys", "secret", client.ObjectKeyFromObject(secret))
		if err := r.delete(ctx, secret); err != nil {
			return err
		}
	}
	return r.removeScripts(ctx, st.key)
}

// removeScripts deletes the namespace's scripts once no cluster but the named one can need them.
func (r *Reconciler) removeScripts(ctx context.Context, but types.NamespacedName) error {
	var clusters unstructured.UnstructuredList
	clusters.SetGroupVersionKind(RayClusterKind())
	if err := r.Client.List(ctx, &clusters, client.InNamespace(but.Namespace), client.UnsafeDisableDeepCopy); err != nil {
		return fmt.Errorf("listing RayClusters: %w", err)
	}
	for i := range clusters.Items {
		if clusters.Items[i].GetName() != but.Name && injection.AnyPiece(jsonpatch.Map(clusters.Items[i].Object["spec"])) {
			return nil
		}
	}
	var scripts corev1.ConfigMapList
	if err := r.Client.List(ctx, &scripts, client.InNamespace(but.Namespace), client.MatchingLabels(labelsFor(v1alpha1.ComponentScripts))); err != nil {
		return fmt.Errorf("listing scripts: %w", err)
	}
	for i := range scripts.Items {
		log.FromContext(ctx).Info("Deleting scripts", "configMap", client.ObjectKeyFromObject(&scripts.Items[i]))
		if err := r.delete(ctx, &scripts.Items[i]); err != nil {
			return err
		}
	}
	return nil
}

// forget deletes what is left of a cluster that is gone; its CA Secret goes with it by its owner reference.
func (r *Reconciler) forget(ctx context.Context, key types.NamespacedName) error {
	if err := r.removeScripts(ctx, key); err != nil {
		return err
	}
	var authority corev1.Secret
	err := r.Client.Get(ctx, types.NamespacedName{Namespace: r.Namespace, Name: AuthorityName(key)}, &authority)
	if err != nil {
		return client.IgnoreNotFound(err)
	}
	// The cache may not know yet of a cluster that was created anew under the name, and keeps the authority.
	cluster := &metav1.PartialObjectMetadata{}
	cluster.SetGroupVersionKind(RayClusterKind())
	if err := r.Live.Get(ctx, key, cluster); !apierrors.IsNotFound(err) {
		return err
	}
	log.FromContext(ctx).Info("Deleting the authority of a RayCluster that is gone", "secret", authority.Name)
	return r.delete(ctx, &authority)
}

// delete deletes this very object, and not another that was made under its name meanwhile.
func (r *Reconciler) delete(ctx context.Context, object client.Object) error {
	uid := object.GetUID()
	if err := r.Client.Delete(ctx, object, client.Preconditions{UID: &uid}); client.IgnoreNotFound(err) != nil {
		return fmt.Errorf("deleting %s: %w", client.ObjectKeyFromObject(object), err)
	}
	return nil
}

// ReadSecret reads a Secret past the cache; nil if it does not exist.
func ReadSecret(ctx context.Context, reader client.Reader, key types.NamespacedName) (*corev1.Secret, error) {
	var secret corev1.Secret
	if err := reader.Get(ctx, key, &secret); err != nil {
		if apierrors.IsNotFound(err) {
			return nil, nil
		}
		return nil, fmt.Errorf("reading Secret %s: %w", key, err)
	}
	return &secret, nil
}
