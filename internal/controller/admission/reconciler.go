// Package admission keeps the registration of the admission webhook with the API server: which namespaces it reaches, and
// which certificate is trusted.
package admission

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"slices"
	"sync"
	"time"

	admissionregistrationv1 "k8s.io/api/admissionregistration/v1"
	corev1 "k8s.io/api/core/v1"
	apiequality "k8s.io/apimachinery/pkg/api/equality"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/utils/clock"
	ctrl "sigs.k8s.io/controller-runtime"
	"sigs.k8s.io/controller-runtime/pkg/client"
	"sigs.k8s.io/controller-runtime/pkg/log"

	"github.com/raytls/raytls/api/v1alpha1"
	"github.com/raytls/raytls/internal/controller/raycluster"
	"github.com/raytls/raytls/internal/jsonpatch"
	"github.com/raytls/raytls/internal/webhook/serving"
)

const (
	// Configuration is the name of the MutatingWebhookConfiguration, which is installed with the operator and never made here.
	Configuration = "raytls"
	// Secret is the name of the Secret in the operator's namespace that holds the serving certificate.
	Secret = "raytls-webhook"

	// soon is when to look again after the cache was found to lag behind the API server.
	soon = 500 * time.Millisecond
)

// Reconciler keeps the MutatingWebhookConfiguration and the serving certificate. Every replica reads and serves; the
// elected one writes.
type Reconciler struct {
	// Client reads from caches and writes. Live reads past them.
	Client client.Client
	Live   client.Reader
	// Namespace is the operator's own.
	Namespace string
	Clock     clock.PassiveClock
	// Certificates is what this replica serves.
	Certificates *serving.Certificates
	// Profile is of the certificates to be made. Nil: they come from elsewhere, and so does caBundle.
	Profile *serving.Profile
	// Off says that this operator answers no admission requests.
	Off bool
	// Elected is closed once this replica may write.
	Elected <-chan struct{}

	memory serving.Memory
	mu     sync.Mutex
	found  view
	wake   []func(namespace string)
}

// errStale says that the cache lags behind the API server.
var errStale = errors.New("the cache lags behind the API server")

// state is what one reconcile found and decided.
type state struct {
	now time.Time
	// configuration is nil if admission is not installed, secret if there is none of the operator's. Neither is ever changed.
	configuration *admissionregistrationv1.MutatingWebhookConfiguration
	secret        *corev1.Secret
	// namespaces are those that the webhook is to reach.
	namespaces []string

	stored   serving.Stored
	observed serving.Observed
	// bundle is what caBundle is to be; nil leaves it as it is.
	bundle []byte
	next   time.Time
}

// again asks for a further look, at that time at the latest.
func (st *state) again(at time.Time) {
	if !at.IsZero() && (st.next.IsZero() || at.Before(st.next)) {
		st.next = at
	}
}

// +kubebuilder:rbac:groups=admissionregistration.k8s.io,resources=mutatingwebhookconfigurations,resourceNames=raytls,verbs=get;list;watch;patch
// +kubebuilder:rbac:groups=raytls.io,resources=raytlspolicies,verbs=get;list;watch
// +kubebuilder:rbac:groups=ray.io,resources=rayclusters,verbs=get;list;watch
// +kubebuilder:rbac:groups="",resources=secrets,verbs=get;list;watch;create;update;delete,namespace=raytls-system

// Reconcile brings certificate and configuration up to date. There is one request: the configuration's.
func (r *Reconciler) Reconcile(ctx context.Context, _ ctrl.Request) (ctrl.Result, error) {
	st, err := r.gather(ctx)
	if err != nil {
		return ctrl.Result{}, err
	}
	r.adopt(ctx, st)
	if r.elected() {
		// Where the webhook reaches does not wait for its certificate.
		err = errors.Join(r.keepSecret(ctx, st), r.keepConfiguration(ctx, st))
	}
	r.observe(st)
	if errors.Is(err, errStale) || apierrors.IsConflict(err) {
		log.FromContext(ctx).V(1).Info("Reading again", "cause", err.Error())
		return ctrl.Result{RequeueAfter: soon}, nil
	}
	if err != nil || st.next.IsZero() {
		return ctrl.Result{}, err
	}
	return ctrl.Result{RequeueAfter: max(st.next.Sub(r.Clock.Now()), time.Second)}, nil
}

func (r *Reconciler) elected() bool {
	select {
	case <-r.Elected:
		return true
	default:
		return false
	}
}

// gather reads everything from the caches.
func (r *Reconciler) gather(ctx context.Context) (*state, error) {
	st := &state{now: r.Clock.Now()}
	configuration, secret := &admissionregistrationv1.MutatingWebhookConfiguration{}, &corev1.Secret{}
	for _, read := range []struct {
		key  types.NamespacedName
		into client.Object
		set  func()
	}{
		{types.NamespacedName{Name: Configuration}, configuration, func() { st.configuration = configuration }},
		{types.NamespacedName{Namespace: r.Namespace, Name: Secret}, secret, func() { st.secret = secret }},
	} {
		err := r.Client.Get(ctx, read.key, read.into)
		if apierrors.IsNotFound(err) {
			continue
		}
		if err != nil {
			return nil, fmt.Errorf("reading %s: %w", read.key, err)
		}
		read.set()
	}
	var policies v1alpha1.RayTLSPolicyList
	if err := r.Client.List(ctx, &policies, client.UnsafeDisableDeepCopy); err != nil {
		return nil, fmt.Errorf("listing policies: %w", err)
	}
	clusters := unstructured.UnstructuredList{}
	clusters.SetGroupVersionKind(raycluster.RayClusterKind())
	if err := r.Client.List(ctx, &clusters, client.UnsafeDisableDeepCopy); err != nil {
		return nil, fmt.Errorf("listing RayClusters: %w", err)
	}
	var authorities corev1.SecretList
	component := client.MatchingLabels{v1alpha1.LabelComponent: v1alpha1.ComponentAuthority}
	if err := r.Client.List(ctx, &authorities, client.InNamespace(r.Namespace), component, client.UnsafeDisableDeepCopy); err != nil {
		return nil, fmt.Errorf("listing authorities: %w", err)
	}
	exist := map[string]bool{}
	for i := range clusters.Items {
		exist[client.ObjectKeyFromObject(&clusters.Items[i]).String()] = true
	}
	st.namespaces = reach(policies.Items, authorities.Items, exist, r.Namespace)
	return st, nil
}

// adopt has this replica serve what is stored once that is trusted.
func (r *Reconciler) adopt(ctx context.Context, st *state) {
	if r.Profile == nil {
		return
	}
	st.observed = serving.Observe(bundles(st.configuration)...)
	if st.secret != nil {
		st.stored = serving.Parse(st.secret.Data, st.observed)
	}
	r.memory = r.memory.See(st.now, st.stored, st.observed)
	adopts, again := r.Profile.Adopt(st.now, r.Certificates.Serves(), st.stored, st.observed, r.memory)
	if adopts {
		log.FromContext(ctx).Info("Serving another certificate to API servers", "generation", st.stored.Current.ID())
		r.Certificates.Serve(st.stored.Current)
		return
	}
	st.again(again)
}

// bundles are the caBundles that the operator keeps.
func bundles(configuration *admissionregistrationv1.MutatingWebhookConfiguration) [][]byte {
	if configuration == nil || bundleElsewhere(configuration) {
		return nil
	}
	var out [][]byte
	for i := range configuration.Webhooks {
		out = append(out, configuration.Webhooks[i].ClientConfig.CABundle)
	}
	return out
}

// bundleElsewhere says whether cert-manager was told to keep caBundle.
func bundleElsewhere(configuration metav1.Object) bool {
	for _, key := range []string{"inject-ca-from", "inject-ca-from-secret", "inject-apiserver-ca"} {
		if configuration.GetAnnotations()["cert-manager.io/"+key] != "" {
			return true
		}
	}
	return false
}

// keepSecret makes and replaces the certificate.
func (r *Reconciler) keepSecret(ctx context.Context, st *state) error {
	if r.Profile == nil {
		return nil
	}
	decision, err := r.Profile.Decide(st.now, st.stored, st.observed, r.memory)
	if err != nil {
		return err
	}
	r.memory = decision.Memory
	st.again(decision.Again)
	data, err := decision.Stored.Data()
	if err != nil {
		return err
	}
	if err := r.writeSecret(ctx, st, data, decision); err != nil {
		return err
	}
	bundle := decision.Stored.Bundle()
	if !slices.ContainsFunc(bundles(st.configuration), func(has []byte) bool { return !slices.Equal(has, bundle) }) {
		return nil
	}
	// The cache of Secrets may lag behind that of configurations, and with them what was decided: an authority that replicas
	// need by now would be dropped.
	stored, err := raycluster.ReadSecret(ctx, r.Live, types.NamespacedName{Namespace: r.Namespace, Name: Secret})
	if err != nil {
		return err
	}
	if stored == nil || !apiequality.Semantic.DeepEqual(stored.Data, data) {
		return errStale
	}
	st.bundle = bundle
	return nil
}

func (r *Reconciler) writeSecret(ctx context.Context, st *state, data map[string][]byte, decision serving.Decision) error {
	labels := map[string]string{v1alpha1.LabelManagedBy: v1alpha1.ManagedBy, v1alpha1.LabelComponent: v1alpha1.ComponentWebhook}
	logger := log.FromContext(ctx).WithValues("secret", Secret, "because", decision.Why, "current", decision.Stored.Current.ID(), "next", decision.Stored.Next.ID())
	if st.secret == nil {
		secret := &corev1.Secret{
			ObjectMeta: metav1.ObjectMeta{Namespace: r.Namespace, Name: Secret, Labels: labels},
			Type:       corev1.SecretTypeOpaque, Data: data,
		}
		logger.Info("Creating the webhook's certificate")
		return r.create(ctx, secret)
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
		// It cannot be updated, so it is made anew, when it is seen to be gone.
		logger.Info("Deleting the Secret of the webhook's certificate, which cannot be updated")
		uid := st.secret.UID
		if err := r.Client.Delete(ctx, st.secret.DeepCopy(), client.Preconditions{UID: &uid}); client.IgnoreNotFound(err) != nil {
			return fmt.Errorf("deleting Secret %s: %w", Secret, err)
		}
		return errStale
	}
	logger.Info("Updating the webhook's certificate")
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
	existing, err := raycluster.ReadSecret(ctx, r.Live, client.ObjectKeyFromObject(secret))
	if err != nil {
		return err
	}
	if existing == nil || existing.Labels[v1alpha1.LabelManagedBy] == v1alpha1.ManagedBy {
		return errStale
	}
	return fmt.Errorf("the webhook has no certificate: Secret %s in the operator's namespace exists and is not labelled %s=%s; it is left alone, so delete or rename it", Secret, v1alpha1.LabelManagedBy, v1alpha1.ManagedBy)
}

// keepConfiguration patches caBundle and namespaceSelector of each webhook where they differ, and nothing else.
func (r *Reconciler) keepConfiguration(ctx context.Context, st *state) error {
	if st.configuration == nil {
		return nil
	}
	operations := patch(st.configuration, st.namespaces, st.bundle)
	if len(operations) == 0 {
		return nil
	}
	body, err := jsonpatch.Patch(operations, st.configuration.ResourceVersion)
	if err != nil {
		return fmt.Errorf("encoding the patch of the webhook configuration: %w", err)
	}
	log.FromContext(ctx).Info("Patching the webhook configuration", "namespaces", len(st.namespaces), "operations", len(operations))
	err = r.Client.Patch(ctx, st.configuration.DeepCopy(), client.RawPatch(types.JSONPatchType, body), client.FieldOwner(v1alpha1.ManagedBy))
	if client.IgnoreNotFound(err) != nil {
		return fmt.Errorf("patching MutatingWebhookConfiguration %s: %w", Configuration, err)
	}
	return nil
}

// patch gives the operations that make the configuration reach these namespaces and trust this bundle (nil: as it is).
func patch(configuration *admissionregistrationv1.MutatingWebhookConfiguration, namespaces []string, bundle []byte) []jsonpatch.Operation {
	var operations []jsonpatch.Operation
	for i := range configuration.Webhooks {
		webhook := &configuration.Webhooks[i]
		if bundle != nil && !slices.Equal(webhook.ClientConfig.CABundle, bundle) {
			operations = append(operations, jsonpatch.Operation{Op: "add", Path: fmt.Sprintf("/webhooks/%d/clientConfig/caBundle", i), Value: bundle})
		}
		want := selector(webhook.NamespaceSelector, namespaces)
		if narrowed(webhook) && !apiequality.Semantic.DeepEqual(webhook.NamespaceSelector, want) {
			operations = append(operations, jsonpatch.Operation{Op: "add", Path: fmt.Sprintf("/webhooks/%d/namespaceSelector", i), Value: want})
		}
	}
	return operations
}
