// Package policy sums up what was found of a policy's clusters, and holds a deleted policy until it is carried out.
package policy

import (
	"context"
	"fmt"
	"slices"
	"strings"
	"time"

	corev1 "k8s.io/api/core/v1"
	apiequality "k8s.io/apimachinery/pkg/api/equality"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/utils/clock"
	ctrl "sigs.k8s.io/controller-runtime"
	"sigs.k8s.io/controller-runtime/pkg/cache"
	"sigs.k8s.io/controller-runtime/pkg/client"
	"sigs.k8s.io/controller-runtime/pkg/controller/controllerutil"
	"sigs.k8s.io/controller-runtime/pkg/event"
	"sigs.k8s.io/controller-runtime/pkg/handler"
	"sigs.k8s.io/controller-runtime/pkg/log"
	"sigs.k8s.io/controller-runtime/pkg/predicate"
	"sigs.k8s.io/controller-runtime/pkg/reconcile"
	"sigs.k8s.io/controller-runtime/pkg/recorder"
	"sigs.k8s.io/controller-runtime/pkg/source"

	"github.com/raytls/raytls/api/v1alpha1"
	"github.com/raytls/raytls/internal/controller/acceptance"
	"github.com/raytls/raytls/internal/controller/admission"
	"github.com/raytls/raytls/internal/controller/coverage"
	"github.com/raytls/raytls/internal/controller/observed"
	"github.com/raytls/raytls/internal/controller/raycluster"
)

const (
	indexSecretRef = "raytls.secretRef"
	// maxNote is how long an event's note may be.
	maxNote = 1024
)

// Reconciler reconciles RayTLSPolicies.
type Reconciler struct {
	// Client reads from caches and writes. Live reads past them.
	Client client.Client
	Live   client.Reader
	// SecretNames caches the metadata of all Secrets, since brought CAs carry no label of ours.
	SecretNames cache.Cache
	// Kinds has the kinds watched that RayClusters are made for.
	Kinds    *raycluster.Kinds
	Images   acceptance.Allowlist
	Clock    clock.PassiveClock
	Recorder recorder.EventRecorder
	Observed *observed.Clusters
	// Admission says where RayClusters are admitted by the operator.
	Admission *admission.Reconciler
}

// +kubebuilder:rbac:groups=raytls.io,resources=raytlspolicies,verbs=get;list;watch;patch
// +kubebuilder:rbac:groups=raytls.io,resources=raytlspolicies/status,verbs=update
// +kubebuilder:rbac:groups="",resources=secrets,verbs=get;list;watch
// +kubebuilder:rbac:groups=ray.io,resources=rayclusters,verbs=get;list;watch

// Reconcile brings a policy's finalizer and status up to date.
func (r *Reconciler) Reconcile(ctx context.Context, request ctrl.Request) (ctrl.Result, error) {
	policy := &v1alpha1.RayTLSPolicy{}
	if err := r.Client.Get(ctx, request.NamespacedName, policy); err != nil {
		r.Observed.Await(request.NamespacedName, false)
		return ctrl.Result{}, client.IgnoreNotFound(err)
	}
	if policy.DeletionTimestamp.IsZero() && !controllerutil.ContainsFinalizer(policy, v1alpha1.Finalizer) {
		log.FromContext(ctx).Info("Adding finalizer")
		return ctrl.Result{}, r.patchFinalizer(ctx, policy, controllerutil.AddFinalizer)
	}
	r.Observed.Await(request.NamespacedName, true)
	summary, err := r.gather(ctx, policy)
	if err != nil {
		return ctrl.Result{}, err
	}
	r.Observed.Await(request.NamespacedName, !summary.complete)
	if !policy.DeletionTimestamp.IsZero() {
		done, err := r.finish(ctx, policy)
		if done || err != nil {
			return ctrl.Result{}, err
		}
	}
	if !summary.complete && policy.Status.ObservedGeneration == policy.Generation {
		return ctrl.Result{}, nil // what was said last still holds, until the clusters have been looked at
	}
	return r.report(ctx, policy, summary)
}

// gather collects what the status is made of.
func (r *Reconciler) gather(ctx context.Context, policy *v1alpha1.RayTLSPolicy) (*summary, error) {
	_, admitted := r.Admission.Active(policy.Namespace)
	s := &summary{now: r.Clock.Now(), admission: admitted, complete: true, target: true}
	spec := policy.Spec.WithDefaults()
	s.spec = &spec
	s.verdict = acceptance.Installed(&spec, r.Images, r.Kinds.Served, s.now)
	if ref := spec.TargetRef; ref != nil {
		var err error
		if s.target, err = r.Kinds.Exists(ctx, r.Client, policy.Namespace, *ref); err != nil {
			return nil, err
		}
	}
	if ref := spec.CertificateAuthority.SecretRef; ref != nil && s.verdict.Accepted {
		brought, err := raycluster.ReadSecret(ctx, r.Live, types.NamespacedName{Namespace: policy.Namespace, Name: ref.Name})
		if err != nil {
			return nil, err
		}
		_, s.verdict = acceptance.BroughtCA(&spec, brought, s.now)
	}
	found := r.Observed.Namespace(policy.Namespace)
	clusters, err := r.clusters(ctx, r.Client, policy.Namespace)
	if err != nil {
		return nil, err
	}
	policies, err := coverage.Policies(ctx, r.Client, policy.Namespace)
	if err != nil {
		return nil, err
	}
	for i := range clusters {
		cluster := &clusters[i]
		owners, err := coverage.Owners(ctx, r.Client, cluster)
		if err != nil {
			return nil, err
		}
		subject := coverage.Subject{Object: cluster, Owners: owners}
		if policy.Spec.TargetRef != nil && coverage.Matches(policy, subject) {
			s.target = true
		}
		c, known := found[cluster.GetName()]
		if !known || c.UID != cluster.GetUID() || c.Decision != observed.DecisionOf(coverage.Decide(subject, policies)) {
			s.complete = false
			continue
		}
		if c.Policy == policy.Name {
			s.covered = append(s.covered, c)
		} else if status, lost := c.Conflicts[policy.Name]; lost {
			s.covered = append(s.covered, observed.Cluster{Status: status})
		}
	}
	return s, nil
}

func (r *Reconciler) clusters(ctx context.Context, reader client.Reader, namespace string) ([]unstructured.Unstructured, error) {
	var clusters unstructured.UnstructuredList
	clusters.SetGroupVersionKind(raycluster.RayClusterKind())
	options := []client.ListOption{client.InNamespace(namespace)}
	if reader == client.Reader(r.Client) {
		options = append(options, client.UnsafeDisableDeepCopy)
	}
	if err := reader.List(ctx, &clusters, options...); err != nil {
		return nil, fmt.Errorf("listing RayClusters: %w", err)
	}
	return clusters.Items, nil
}

// finish removes the finalizer once the deletion policy is carried out.
func (r *Reconciler) finish(ctx context.Context, policy *v1alpha1.RayTLSPolicy) (done bool, err error) {
	if !controllerutil.ContainsFinalizer(policy, v1alpha1.Finalizer) {
		return true, nil
	}
	// Past the cache, which may not have what was bound a moment ago.
	clusters, err := r.clusters(ctx, r.Live, policy.Namespace)
	if err != nil {
		return false, err
	}
	if slices.ContainsFunc(clusters, func(c unstructured.Unstructured) bool {
		return c.GetAnnotations()[v1alpha1.AnnotationPolicy] == policy.Name && c.GetDeletionTimestamp().IsZero() &&
			(policy.Spec.DeletionPolicy == v1alpha1.DeletionRemove || coverage.UnderWay(&c))
	}) {
		return false, nil
	}
	log.FromContext(ctx).Info("Removing finalizer", "deletionPolicy", policy.Spec.DeletionPolicy)
	return true, r.patchFinalizer(ctx, policy, controllerutil.RemoveFinalizer)
}

// patchFinalizer patches nothing but the finalizers, so that fields of a newer version of the API survive.
func (r *Reconciler) patchFinalizer(ctx context.Context, policy *v1alpha1.RayTLSPolicy, change func(client.Object, string) bool) error {
	changed := policy.DeepCopy()
	change(changed, v1alpha1.Finalizer)
	patch := client.MergeFromWithOptions(policy, client.MergeFromWithOptimisticLock{})
	return client.IgnoreNotFound(r.Client.Patch(ctx, changed, patch, client.FieldOwner(v1alpha1.ManagedBy)))
}

// report writes the status where it differs.
func (r *Reconciler) report(ctx context.Context, policy *v1alpha1.RayTLSPolicy, s *summary) (ctrl.Result, error) {
	before := policy.Status.DeepCopy()
	policy.Status = s.status(before, policy.Generation)
	result := ctrl.Result{}
	if after := s.verdict.Again.Sub(s.now); !s.verdict.Again.IsZero() && after > 0 {
		result.RequeueAfter = after + time.Second
	}
	if apiequality.Semantic.DeepEqual(before, &policy.Status) {
		return result, nil
	}
	if err := r.Client.Status().Update(ctx, policy, client.FieldOwner(v1alpha1.ManagedBy)); err != nil {
		if apierrors.IsConflict(err) {
			return ctrl.Result{RequeueAfter: time.Second}, nil // the cache lags behind
		}
		return ctrl.Result{}, client.IgnoreNotFound(err)
	}
	r.announce(policy, before)
	return result, nil
}

// announce tells of conditions that changed.
func (r *Reconciler) announce(policy *v1alpha1.RayTLSPolicy, before *v1alpha1.RayTLSPolicyStatus) {
	for _, condition := range policy.Status.Conditions {
		i := slices.IndexFunc(before.Conditions, func(c metav1.Condition) bool { return c.Type == condition.Type })
		if i >= 0 && before.Conditions[i].Reason == condition.Reason && before.Conditions[i].Status == condition.Status {
			continue
		}
		kind := corev1.EventTypeNormal
		if condition.Status == metav1.ConditionFalse && !progressing(condition.Reason) {
			kind = corev1.EventTypeWarning
		}
		note := condition.Message
		if len(note) > maxNote {
			note = strings.ToValidUTF8(note[:maxNote], "")
		}
		r.Recorder.Eventf(policy, nil, kind, condition.Reason, condition.Type, "%s", note)
	}
}

// SetupWithManager registers the reconciler and its watches.
func (r *Reconciler) SetupWithManager(ctx context.Context, mgr ctrl.Manager) error {
	err := mgr.GetFieldIndexer().IndexField(ctx, &v1alpha1.RayTLSPolicy{}, indexSecretRef, func(o client.Object) []string {
		policy, ok := o.(*v1alpha1.RayTLSPolicy)
		if !ok || policy.Spec.CertificateAuthority.SecretRef == nil {
			return nil
		}
		return []string{policy.Spec.CertificateAuthority.SecretRef.Name}
	})
	if err != nil {
		return fmt.Errorf("indexing policies: %w", err)
	}
	secrets := &metav1.PartialObjectMetadata{}
	secrets.SetGroupVersionKind(corev1.SchemeGroupVersion.WithKind("Secret"))
	c, err := ctrl.NewControllerManagedBy(mgr).
		Named("raytlspolicy").
		For(&v1alpha1.RayTLSPolicy{}).
		WatchesRawSource(r.Observed).
		WatchesRawSource(r.Admission.Source(r.allIn)).
		WatchesRawSource(source.Kind(r.SecretNames, secrets, handler.TypedEnqueueRequestsFromMapFunc(r.bySecret))).
		Build(r)
	if err != nil {
		return fmt.Errorf("setting up the RayTLSPolicy controller: %w", err)
	}
	r.Kinds.Register(func(_ context.Context, _ v1alpha1.TargetKind, object *unstructured.Unstructured) error {
		return c.Watch(source.Kind(mgr.GetCache(), object, handler.TypedEnqueueRequestsFromMapFunc(r.byTarget), appearance()))
	})
	return nil
}

// appearance leaves updates out: it matters whether a target is there, and no more.
func appearance() predicate.TypedPredicate[*unstructured.Unstructured] {
	return predicate.TypedFuncs[*unstructured.Unstructured]{UpdateFunc: func(event.TypedUpdateEvent[*unstructured.Unstructured]) bool { return false }}
}

// byTarget maps to the policies whose targetRef names the object.
func (r *Reconciler) byTarget(ctx context.Context, o *unstructured.Unstructured) []reconcile.Request {
	return r.requests(ctx, o.GetNamespace(), func(p *v1alpha1.RayTLSPolicy) bool {
		ref := p.Spec.TargetRef
		return ref != nil && string(ref.Kind) == o.GetKind() && ref.Name == o.GetName()
	})
}

// bySecret maps to the policies whose secretRef names the Secret.
func (r *Reconciler) bySecret(ctx context.Context, o *metav1.PartialObjectMetadata) []reconcile.Request {
	return r.requests(ctx, o.GetNamespace(), func(*v1alpha1.RayTLSPolicy) bool { return true }, client.MatchingFields{indexSecretRef: o.GetName()})
}

// allIn maps to every policy of the namespace.
func (r *Reconciler) allIn(ctx context.Context, namespace string) []reconcile.Request {
	return r.requests(ctx, namespace, func(*v1alpha1.RayTLSPolicy) bool { return true })
}

// requests are for the namespace's policies that are to be looked at again.
func (r *Reconciler) requests(ctx context.Context, namespace string, keep func(*v1alpha1.RayTLSPolicy) bool, narrowed ...client.ListOption) []reconcile.Request {
	policies, err := coverage.Policies(ctx, r.Client, namespace, narrowed...)
	if err != nil {
		log.FromContext(ctx).Error(err, "Listing policies", "namespace", namespace)
		return nil
	}
	var out []reconcile.Request
	for _, p := range policies {
		if keep(p) {
			out = append(out, reconcile.Request{NamespacedName: client.ObjectKeyFromObject(p)})
		}
	}
	return out
}
