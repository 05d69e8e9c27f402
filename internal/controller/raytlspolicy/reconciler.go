// Package raytlspolicy sums up the RayClusterTLSes of a policy's clusters in the policy's status, and holds a deleted policy until
// its deletionPolicy is carried out.
package raytlspolicy

import (
	"context"
	"fmt"
	"sync"
	"time"

	corev1 "k8s.io/api/core/v1"
	apiequality "k8s.io/apimachinery/pkg/api/equality"
	"k8s.io/apimachinery/pkg/api/meta"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
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
	"github.com/raytls/raytls/internal/kube"
	"github.com/raytls/raytls/internal/kuberay"
	"github.com/raytls/raytls/internal/policy"
	"github.com/raytls/raytls/internal/timescale"
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
	// Scale is how long days are.
	Scale timescale.Scale

	// incomplete holds since when the status of each policy has been incomplete, and unreadable since when its parts cannot be read.
	incomplete, unreadable kube.Lasting
	// broughtCAs holds when the CA of each policy that names one ends.
	broughtCAs sync.Map
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
		r.incomplete.End(request.NamespacedName)
		r.unreadable.End(request.NamespacedName)
		r.broughtCAs.Delete(request.NamespacedName)
		return ctrl.Result{}, client.IgnoreNotFound(err)
	}
	if policy.LeftOut(p) {
		p = &v1alpha1.RayTLSPolicy{}
		if err := r.Live.Get(ctx, request.NamespacedName, p); err != nil {
			return ctrl.Result{}, client.IgnoreNotFound(err)
		}
	}
	after, err := r.advance(ctx, p)
	if kube.IsStale(err) {
		after, err = kube.StaleRequeue, nil
	}
	if err != nil {
		return ctrl.Result{}, err
	}
	return ctrl.Result{RequeueAfter: after}, nil
}

// advance takes one step for the policy. It returns when to take the next though nothing changes; zero for never.
func (r *Reconciler) advance(ctx context.Context, p *v1alpha1.RayTLSPolicy) (after time.Duration, err error) {
	deleting, finalized := !p.DeletionTimestamp.IsZero(), controllerutil.ContainsFinalizer(p, v1alpha1.Finalizer)
	if deleting && !finalized {
		return 0, nil
	}
	if !finalized {
		log.FromContext(ctx).Info("Adding finalizer")
		return 0, r.patchFinalizer(ctx, p, controllerutil.AddFinalizer)
	}
	if deleting {
		held, err := r.held(ctx, p)
		if err != nil {
			return 0, err
		}
		if !held {
			log.FromContext(ctx).Info("Removing finalizer", "deletionPolicy", p.Spec.DeletionPolicy)
			return 0, r.patchFinalizer(ctx, p, controllerutil.RemoveFinalizer)
		}
	}
	began := r.Clock.Now()
	bounded, cancel := context.WithTimeout(ctx, kube.GatherTimeout)
	defer cancel()
	s, err := r.gather(bounded, p)
	if err != nil {
		return r.unread(ctx, p, began, err)
	}
	r.unreadable.End(client.ObjectKeyFromObject(p))
	if left := r.patienceLeft(p, s); left > 0 && p.Status.ObservedGeneration == p.Generation {
		return left, nil // the last status still holds
	}
	if ends := s.verdict.RequeueAt.Sub(s.now); ends > 0 {
		after = ends + time.Second
	}
	return after, r.report(ctx, p, s)
}

// held reports whether a cluster still needs the policy. It reads past the cache, which may lack a cluster that was bound a
// moment ago.
func (r *Reconciler) held(ctx context.Context, p *v1alpha1.RayTLSPolicy) (bool, error) {
	var records v1alpha1.RayClusterTLSList
	if err := r.Live.List(ctx, &records, client.InNamespace(p.Namespace)); err != nil {
		return false, fmt.Errorf("listing RayClusterTLSes: %w", err)
	}
	for i := range records.Items {
		record := &records.Items[i]
		if !holds(&record.Status, p) {
			continue
		}
		cluster := &metav1.PartialObjectMetadata{}
		cluster.SetGroupVersionKind(kuberay.RayClusterGVK())
		err := r.Live.Get(ctx, client.ObjectKeyFromObject(record), cluster)
		if client.IgnoreNotFound(err) != nil {
			return false, fmt.Errorf("reading RayCluster %s: %w", record.Name, err)
		}
		if err == nil && cluster.DeletionTimestamp.IsZero() && kube.OwnedBy(record, cluster.UID) {
			return true, nil
		}
	}
	return false, nil
}

// holds reports whether a cluster of that status needs the policy until it is disabled, or until its restart has ended.
func holds(status *v1alpha1.RayClusterTLSStatus, p *v1alpha1.RayTLSPolicy) bool {
	disable := p.Spec.DeletionPolicy == v1alpha1.DeletionDisable && policy.Bound(status) == p.Name
	return status.PolicyRef.Name == p.Name && (policy.UnderWay(status) || disable)
}

// patchFinalizer patches only the finalizers, so that fields of a newer version of the API survive.
func (r *Reconciler) patchFinalizer(ctx context.Context, p *v1alpha1.RayTLSPolicy, change func(client.Object, string) bool) error {
	changed := p.DeepCopy()
	change(changed, v1alpha1.Finalizer)
	patch := client.MergeFromWithOptions(p, client.MergeFromWithOptimisticLock{})
	return client.IgnoreNotFound(r.Client.Patch(ctx, changed, patch, client.FieldOwner(v1alpha1.ManagedBy)))
}

// report patches the status where it differs, so that fields of a newer version of the API survive. Events follow.
func (r *Reconciler) report(ctx context.Context, p *v1alpha1.RayTLSPolicy, s *summary) error {
	return r.patchStatus(ctx, p, s.status(&p.Status, p.Generation))
}

func (r *Reconciler) patchStatus(ctx context.Context, p *v1alpha1.RayTLSPolicy, status v1alpha1.RayTLSPolicyStatus) error {
	changed := p.DeepCopy()
	changed.Status = status
	if apiequality.Semantic.DeepEqual(p.Status, changed.Status) {
		return nil
	}
	patch := client.MergeFromWithOptions(p, client.MergeFromWithOptimisticLock{})
	if err := r.Client.Status().Patch(ctx, changed, patch, client.FieldOwner(v1alpha1.ManagedBy)); err != nil {
		return client.IgnoreNotFound(err)
	}
	r.announce(changed, p.Status.Conditions)
	return nil
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
		r.Recorder.Eventf(p, nil, kind, condition.Reason, condition.Type, "%s", kube.Truncate(condition.Message, kube.MaxNote))
	}
}
