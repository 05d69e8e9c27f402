// Package webhookconfig keeps the registration of the admission webhook with the API server: which namespaces it reaches, and
// which authority API servers trust.
package webhookconfig

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"sync"
	"time"

	admissionregistrationv1 "k8s.io/api/admissionregistration/v1"
	corev1 "k8s.io/api/core/v1"
	apiequality "k8s.io/apimachinery/pkg/api/equality"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/apimachinery/pkg/util/sets"
	"k8s.io/utils/clock"
	ctrl "sigs.k8s.io/controller-runtime"
	"sigs.k8s.io/controller-runtime/pkg/client"
	"sigs.k8s.io/controller-runtime/pkg/log"

	"github.com/raytls/raytls/api/v1alpha1"
	"github.com/raytls/raytls/internal/jsonpatch"
	"github.com/raytls/raytls/internal/kube"
	"github.com/raytls/raytls/internal/kuberay"
	"github.com/raytls/raytls/internal/pki"
)

// Configuration is the name of the MutatingWebhookConfiguration, which is installed with the operator and never made here.
const Configuration = "raytls"

// Reconciler keeps the MutatingWebhookConfiguration and the authority of the webhook's certificates.
type Reconciler struct {
	// Client reads from caches and writes. Live reads past them.
	Client client.Client
	Live   client.Reader
	// Namespace is the operator's own.
	Namespace string
	Clock     clock.PassiveClock

	// current is the ID of the authority that was seen last, since when this process has seen it.
	current string
	since   time.Time

	mu    sync.Mutex
	found view
	wake  []func(namespace string)
}

// state is what one reconcile found and decided.
type state struct {
	now time.Time
	// configuration is empty if admission is not installed. secret is nil if there is none of the operator's.
	// Both are read-only.
	configuration *admissionregistrationv1.MutatingWebhookConfiguration
	secret        *corev1.Secret
	// namespaces are those that the webhook has to reach.
	namespaces []string

	// authority is what API servers have to trust; nil if it is not known, or not the operator's.
	authority *pki.Authority
	// bundle is the caBundle to write; nil leaves it as it is.
	bundle []byte
	// next is when to reconcile if nothing happens before.
	next time.Time
}

// +kubebuilder:rbac:groups=admissionregistration.k8s.io,resources=mutatingwebhookconfigurations,resourceNames=raytls,verbs=get;list;watch;patch
// +kubebuilder:rbac:groups=raytls.io,resources=raytlspolicies,verbs=get;list;watch
// +kubebuilder:rbac:groups=ray.io,resources=rayclusters,verbs=get;list;watch
// +kubebuilder:rbac:groups="",resources=secrets,verbs=get;list;watch;create;update;delete,namespace=raytls-system

// Reconcile brings authority and configuration up to date. There is one request: the configuration's.
func (r *Reconciler) Reconcile(ctx context.Context, _ ctrl.Request) (ctrl.Result, error) {
	st, err := r.gather(ctx)
	if err != nil {
		return ctrl.Result{}, err
	}
	// Which namespaces the webhook reaches does not wait for its authority.
	err = errors.Join(r.keepAuthority(ctx, st), r.keepConfiguration(ctx, st))
	r.observe(st)
	if kube.IsStale(err) {
		log.FromContext(ctx).V(1).Info("Reading again", "cause", err.Error())
		return ctrl.Result{RequeueAfter: kube.StaleRequeue}, nil
	}
	if err != nil || st.next.IsZero() {
		return ctrl.Result{}, err
	}
	return ctrl.Result{RequeueAfter: max(st.next.Sub(r.Clock.Now()), time.Second)}, nil
}

// gather reads everything from the caches.
func (r *Reconciler) gather(ctx context.Context) (*state, error) {
	st := &state{now: r.Clock.Now(), configuration: &admissionregistrationv1.MutatingWebhookConfiguration{}}
	if err := r.Client.Get(ctx, types.NamespacedName{Name: Configuration}, st.configuration); client.IgnoreNotFound(err) != nil {
		return nil, fmt.Errorf("reading MutatingWebhookConfiguration %s: %w", Configuration, err)
	}
	var err error
	if st.secret, err = kube.ReadSecret(ctx, r.Client, types.NamespacedName{Namespace: r.Namespace, Name: Secret}); err != nil {
		return nil, err
	}
	var policies v1alpha1.RayTLSPolicyList
	if err := r.Client.List(ctx, &policies, client.UnsafeDisableDeepCopy); err != nil {
		return nil, fmt.Errorf("listing policies: %w", err)
	}
	clusters := kuberay.NewRayClusterList()
	if err := r.Client.List(ctx, clusters, client.UnsafeDisableDeepCopy); err != nil {
		return nil, fmt.Errorf("listing RayClusters: %w", err)
	}
	var authorities corev1.SecretList
	component := client.MatchingLabels{v1alpha1.LabelComponent: v1alpha1.ComponentAuthority}
	if err := r.Client.List(ctx, &authorities, client.InNamespace(r.Namespace), component, client.UnsafeDisableDeepCopy); err != nil {
		return nil, fmt.Errorf("listing authorities: %w", err)
	}
	exist := sets.New[string]()
	for i := range clusters.Items {
		exist.Insert(client.ObjectKeyFromObject(&clusters.Items[i]).String())
	}
	st.namespaces = reach(policies.Items, authorities.Items, exist, r.Namespace)
	return st, nil
}

// keepConfiguration patches caBundle of each webhook and namespaceSelector of the one for RayClusters where they differ, and adds the
// rules that this one is installed without.
func (r *Reconciler) keepConfiguration(ctx context.Context, st *state) error {
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

// patch returns the operations that make the configuration reach these namespaces and trust this bundle (nil: as it is). Rules
// come with the namespaces, for a webhook with rules and without a selector is asked about every namespace. Rules that are there
// are left alone: whoever changed them would change them again, and the condition AdmissionActive reports them.
func patch(configuration *admissionregistrationv1.MutatingWebhookConfiguration, namespaces []string, bundle []byte) []jsonpatch.Operation {
	var operations []jsonpatch.Operation
	for i := range configuration.Webhooks {
		webhook := &configuration.Webhooks[i]
		if bundle != nil && !slices.Equal(webhook.ClientConfig.CABundle, bundle) {
			operations = append(operations, jsonpatch.Operation{Op: "add", Path: fmt.Sprintf("/webhooks/%d/clientConfig/caBundle", i), Value: bundle})
		}
		if webhook.Name != webhookName {
			continue
		}
		if want := selector(webhook.NamespaceSelector, namespaces); !apiequality.Semantic.DeepEqual(webhook.NamespaceSelector, want) {
			operations = append(operations, jsonpatch.Operation{Op: "add", Path: fmt.Sprintf("/webhooks/%d/namespaceSelector", i), Value: want})
		}
		if len(webhook.Rules) == 0 {
			operations = append(operations, jsonpatch.Operation{Op: "add", Path: fmt.Sprintf("/webhooks/%d/rules", i), Value: rules()})
		}
	}
	return operations
}
