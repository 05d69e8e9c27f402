package raycluster

import (
	"context"
	"errors"
	"fmt"
	"time"

	apiequality "k8s.io/apimachinery/pkg/api/equality"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"k8s.io/apimachinery/pkg/types"
	ctrl "sigs.k8s.io/controller-runtime"
	"sigs.k8s.io/controller-runtime/pkg/client"
	"sigs.k8s.io/controller-runtime/pkg/log"

	"github.com/raytls/raytls/api/v1alpha1"
	"github.com/raytls/raytls/internal/cluster"
	"github.com/raytls/raytls/internal/kube"
)

// gather reads the cluster's facts within bounded time, and remembers since when it cannot.
func (r *Reconciler) gather(ctx context.Context, key types.NamespacedName) (*cluster.Facts, error) {
	now := r.Clock.Now()
	timeout := kube.GatherTimeout
	if left := r.unreadable.Left(key, kube.UnknownAfter, now); left > 0 {
		timeout = min(timeout, left)
	}
	ctx, cancel := context.WithTimeout(ctx, timeout)
	defer cancel()
	facts, err := r.Gatherer.Gather(ctx, key, now)
	if err == nil || apierrors.IsNotFound(err) || kube.IsStale(err) {
		r.unreadable.End(key)
		return facts, err
	}
	r.unreadable.For(key, now)
	return nil, err
}

// unread answers a reconcile whose facts could not be read. The status holds for a while, and says from then on that it is unknown.
func (r *Reconciler) unread(ctx context.Context, key types.NamespacedName, cause error) (ctrl.Result, error) {
	if left := r.unreadable.Left(key, kube.UnknownAfter, r.Clock.Now()); left > 0 {
		log.FromContext(ctx).Error(cause, "Gathering facts")
		return ctrl.Result{RequeueAfter: min(left, kube.GatherRetry)}, nil
	}
	ctx, cancel := context.WithTimeout(ctx, kube.GatherTimeout)
	defer cancel()
	return ctrl.Result{}, errors.Join(fmt.Errorf("RayCluster %s: %w", key, cause), r.writeUnknown(ctx, key, cause))
}

// writeUnknown reads past the cache, which may be what cannot be read.
func (r *Reconciler) writeUnknown(ctx context.Context, key types.NamespacedName, cause error) error {
	var tls v1alpha1.RayClusterTLS
	if err := r.Live.Get(ctx, key, &tls); err != nil {
		return client.IgnoreNotFound(err)
	}
	changed := tls.DeepCopy()
	changed.Status = unknown(&tls.Status, cause, r.Clock.Now())
	if apiequality.Semantic.DeepEqual(tls.Status, changed.Status) {
		return nil
	}
	patch := client.MergeFromWithOptions(&tls, client.MergeFromWithOptimisticLock{})
	if err := r.Client.Status().Patch(ctx, changed, patch, client.FieldOwner(v1alpha1.ManagedBy)); err != nil {
		return fmt.Errorf("writing the status of RayClusterTLS %s: %w", key, err)
	}
	return nil
}

// maxMessage is how many bytes of a message a condition repeats.
const maxMessage = 1024

// unknown is the status of a cluster whose present state cannot be read: that of before, which no longer holds.
func unknown(before *v1alpha1.RayClusterTLSStatus, cause error, now time.Time) v1alpha1.RayClusterTLSStatus {
	out := *before.DeepCopy()
	kube.SetUnknown(&out.Conditions, kube.UnreadCondition(v1alpha1.ReasonError, cause, maxMessage, out.ObservedGeneration, now),
		v1alpha1.ConditionEncrypted, v1alpha1.ConditionCertified, v1alpha1.ConditionUpToDate)
	return out
}
