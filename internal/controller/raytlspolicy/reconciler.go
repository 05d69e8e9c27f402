// Package raytlspolicy sums up the RayClusterTLSes of a policy's clusters in the policy's status, and holds a deleted policy until
// its deletionPolicy is carried out.
package raytlspolicy

import (
	"context"
	"fmt"
	"slices"
	"time"

	corev1 "k8s.io/api/core/v1"
	apiequality "k8s.io/apimachinery/pkg/api/equality"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"k8s.io/apimachinery/pkg/api/meta"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/utils/clock"
	ctrl "sigs.k8s.io/controller-runtime"
	"sigs.k8s.io/controller-runtime/pkg/cache"
	"sigs.k8s.io/controller-runtime/pkg/client"
	"sigs.k8s.io/controller-runtime/pkg/controller/controllerutil"
	"sigs.k8s.io/controller-runtime/pkg/log"
	"sigs.k8s.io/controller-runtime/pkg/reconcile"
	"sigs.k8s.io/controller-runtime/pkg/recorder"
	"sigs.k8s.io/controller-runtime/pkg/source"

	"github.com/raytls/raytls/api/v1alpha1"
	"github.com/raytls/raytls/internal/cluster"
	"github.com/raytls/raytls/internal/kube"
	"github.com/raytls/raytls/internal/kuberay"
	"github.com/raytls/raytls/internal/policy"
)

const (
	// conflictRequeue is when to read again after the API server had a newer policy than the cache.
	conflictRequeue = time.Second
	// maxNote is how long an event's note may be.
	maxNote = 1024
)

// Admission knows the condition AdmissionActive of each namespace.
type Admission interface {
	// Condition is the condition AdmissionActive of a namespace, without observedGeneration and times. Its status is Unknown
	// with the reason AdmissionPending while the webhook's configuration has not been read.
	Condition(namespace string) metav1.Condition
	// Source requests reconciles when the condition of their namespace changes.
	Source(requests func(ctx context.Context, namespace string) []reconcile.Request) source.Source
}

// Reconciler reconciles RayTLSPolicies.
type Reconciler struct {
	// Client reads from caches and writes. Live reads past them.
	Client client.Client
	Live   client.Reader
	// SecretNames caches the metadata of all Secrets, since brought CAs do not carry the operator's labels.
	SecretNames cache.Cache
	// Kinds has the kinds watched that RayClusters are created for.
	Kinds     *kuberay.Kinds
	Images    policy.Allowlist
	Clock     clock.PassiveClock
	Recorder  recorder.EventRecorder
	Admission Admission

	waits waits
}

// +kubebuilder:rbac:groups=raytls.io,resources=raytlspolicies,verbs=get;list;watch;patch
// +kubebuilder:rbac:groups=raytls.io,resources=raytlspolicies/status,verbs=patch
// +kubebuilder:rbac:groups=raytls.io,resources=rayclustertlses,verbs=get;list;watch
// +kubebuilder:rbac:groups=ray.io,resources=rayclusters;rayjobs;rayservices;raycronjobs,verbs=get;list;watch
// +kubebuilder:rbac:groups="",resources=secrets,verbs=get;list;watch
// +kubebuilder:rbac:groups=events.k8s.io,resources=events,verbs=create;patch

// Reconcile brings a policy's finalizer and status up to date.
func (r *Reconciler) Reconcile(ctx context.Context, request ctrl.Request) (ctrl.Result, error) {
	p := &v1alpha1.RayTLSPolicy{}
	if err := r.Client.Get(ctx, request.NamespacedName, p); err != nil {
		r.waits.end(request.NamespacedName)
		return ctrl.Result{}, client.IgnoreNotFound(err)
	}
	if p.DeletionTimestamp.IsZero() && !controllerutil.ContainsFinalizer(p, v1alpha1.Finalizer) {
		log.FromContext(ctx).Info("Adding finalizer")
		return patient(r.patchFinalizer(ctx, p, controllerutil.AddFinalizer))
	}
	if !p.DeletionTimestamp.IsZero() {
		if finished, err := r.finish(ctx, p); finished || err != nil {
			return patient(err)
		}
	}
	s, err := r.gather(ctx, p)
	if err != nil {
		return ctrl.Result{}, err
	}
	if left := r.waits.left(request.NamespacedName, s); left > 0 && p.Status.ObservedGeneration == p.Generation {
		return ctrl.Result{RequeueAfter: left}, nil // the last status still holds
	}
	return r.report(ctx, p, s)
}

// patient reads again where the API server had a newer policy than the cache.
func patient(err error) (ctrl.Result, error) {
	if apierrors.IsConflict(err) {
		return ctrl.Result{RequeueAfter: conflictRequeue}, nil
	}
	return ctrl.Result{}, err
}

// finish removes the finalizer once the deletionPolicy is carried out.
func (r *Reconciler) finish(ctx context.Context, p *v1alpha1.RayTLSPolicy) (finished bool, err error) {
	if !controllerutil.ContainsFinalizer(p, v1alpha1.Finalizer) {
		return true, nil
	}
	held, err := r.held(ctx, p)
	if held || err != nil {
		return false, err
	}
	log.FromContext(ctx).Info("Removing finalizer", "deletionPolicy", p.Spec.DeletionPolicy)
	return true, r.patchFinalizer(ctx, p, controllerutil.RemoveFinalizer)
}

// held reports whether a cluster still needs the policy. It reads past the cache, which may lack a cluster that was bound a
// moment ago.
func (r *Reconciler) held(ctx context.Context, p *v1alpha1.RayTLSPolicy) (bool, error) {
	var records v1alpha1.RayClusterTLSList
	if err := r.Live.List(ctx, &records, client.InNamespace(p.Namespace)); err != nil {
		return false, fmt.Errorf("listing RayClusterTLSes: %w", err)
	}
	records.Items = slices.DeleteFunc(records.Items, func(c v1alpha1.RayClusterTLS) bool { return !holds(&c.Status, p) })
	if len(records.Items) == 0 {
		return false, nil
	}
	clusters := kuberay.NewRayClusterList()
	if err := r.Live.List(ctx, clusters, client.InNamespace(p.Namespace)); err != nil {
		return false, fmt.Errorf("listing RayClusters: %w", err)
	}
	alive := map[types.UID]bool{}
	for i := range clusters.Items {
		alive[clusters.Items[i].GetUID()] = clusters.Items[i].GetDeletionTimestamp().IsZero()
	}
	return slices.ContainsFunc(records.Items, func(c v1alpha1.RayClusterTLS) bool {
		return slices.ContainsFunc(c.OwnerReferences, func(o metav1.OwnerReference) bool { return alive[o.UID] })
	}), nil
}

// holds reports whether a cluster of that status needs the policy until it is disabled, or until its restart has ended.
func holds(status *v1alpha1.RayClusterTLSStatus, p *v1alpha1.RayTLSPolicy) bool {
	if status.PolicyRef.Name != p.Name {
		return false
	}
	return cluster.UnderWay(status) || p.Spec.DeletionPolicy == v1alpha1.DeletionDisable && cluster.Bound(status) == p.Name
}

// patchFinalizer patches only the finalizers, so that fields of a newer version of the API survive.
func (r *Reconciler) patchFinalizer(ctx context.Context, p *v1alpha1.RayTLSPolicy, change func(client.Object, string) bool) error {
	changed := p.DeepCopy()
	change(changed, v1alpha1.Finalizer)
	patch := client.MergeFromWithOptions(p, client.MergeFromWithOptimisticLock{})
	return client.IgnoreNotFound(r.Client.Patch(ctx, changed, patch, client.FieldOwner(v1alpha1.ManagedBy)))
}

// report writes the status where it differs.
func (r *Reconciler) report(ctx context.Context, p *v1alpha1.RayTLSPolicy, s *summary) (ctrl.Result, error) {
	before := p.DeepCopy()
	p.Status = s.status(&before.Status, p.Generation)
	result := ctrl.Result{}
	if after := s.verdict.RequeueAt.Sub(s.now); !s.verdict.RequeueAt.IsZero() && after > 0 {
		result.RequeueAfter = after + time.Second
	}
	if apiequality.Semantic.DeepEqual(before.Status, p.Status) {
		return result, nil
	}
	err := r.writeStatus(ctx, p, before)
	if err != nil {
		return patient(client.IgnoreNotFound(err))
	}
	r.announce(p, before.Status.Conditions)
	return result, nil
}

// writeStatus patches what differs, so that fields of a newer version of the API survive.
func (r *Reconciler) writeStatus(ctx context.Context, p, before *v1alpha1.RayTLSPolicy) error {
	patch := client.MergeFromWithOptions(before, client.MergeFromWithOptimisticLock{})
	return r.Client.Status().Patch(ctx, p.DeepCopy(), patch, client.FieldOwner(v1alpha1.ManagedBy))
}

// announce emits an event for each condition that changed. Stalled gets none: another condition has its reason.
func (r *Reconciler) announce(p *v1alpha1.RayTLSPolicy, before []metav1.Condition) {
	for _, condition := range p.Status.Conditions {
		was := meta.FindStatusCondition(before, condition.Type)
		if was != nil && was.Reason == condition.Reason && was.Status == condition.Status || condition.Type == v1alpha1.ConditionStalled {
			continue
		}
		kind := corev1.EventTypeNormal
		if condition.Status == metav1.ConditionFalse && !progressing(condition.Reason) {
			kind = corev1.EventTypeWarning
		}
		r.Recorder.Eventf(p, nil, kind, condition.Reason, condition.Type, "%s", kube.Truncate(condition.Message, maxNote))
	}
}
