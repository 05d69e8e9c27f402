package raycluster

import (
	"context"
	"fmt"

	corev1 "k8s.io/api/core/v1"
	apiequality "k8s.io/apimachinery/pkg/api/equality"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"k8s.io/apimachinery/pkg/api/meta"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/types"
	"sigs.k8s.io/controller-runtime/pkg/client"
	"sigs.k8s.io/controller-runtime/pkg/log"

	"github.com/raytls/raytls/api/v1alpha1"
	"github.com/raytls/raytls/internal/cluster"
	"github.com/raytls/raytls/internal/kube"
	"github.com/raytls/raytls/internal/kuberay"
)

// ensureTLS makes the cluster's RayClusterTLS from the moment a policy covers the cluster, or the operator takes the injection out. One that belongs to an earlier
// RayCluster of the name is deleted first.
func (a *application) ensureTLS(ctx context.Context) error {
	if a.facts.Foreign != nil {
		if !a.facts.Foreign.DeletionTimestamp.IsZero() {
			return kube.Waitf(v1alpha1.ReasonNameConflict, "RayClusterTLS %s of an earlier RayCluster is being deleted and a finalizer holds it", a.facts.Key).RetryAfter(kube.UnwatchedRetry)
		}
		log.FromContext(ctx).Info("Deleting the RayClusterTLS of an earlier RayCluster of this name")
		if err := kube.Delete(ctx, a.Client, a.facts.Foreign.DeepCopy()); err != nil {
			return err
		}
		return kube.ErrStale
	}
	if a.tls != nil || a.facts.Deleting() || a.facts.Policy == nil && a.facts.AuthoritySecret == nil && !a.decision.Writes() {
		return nil
	}
	tls := &v1alpha1.RayClusterTLS{ObjectMeta: metav1.ObjectMeta{
		Namespace: a.facts.Key.Namespace, Name: a.facts.Key.Name,
		Labels:          map[string]string{v1alpha1.LabelManagedBy: v1alpha1.ManagedBy},
		OwnerReferences: []metav1.OwnerReference{ownerReference(a.facts.Object)},
	}}
	err := a.Client.Create(ctx, tls, client.FieldOwner(v1alpha1.ManagedBy))
	if apierrors.IsAlreadyExists(err) {
		return kube.ErrStale
	}
	if err != nil {
		return fmt.Errorf("creating RayClusterTLS %s: %w", a.facts.Key, err)
	}
	a.tls = tls
	return nil
}

// record writes what the plan puts on record, before anything else is done by it: any replica can go on from there. The beginning
// of a restart also takes one of the policy's slots.
func (a *application) record(ctx context.Context) error {
	before, plan := a.facts.Record(), &a.decision.Plan
	if plan.Record.Equal(&before) {
		a.recorded = true
		return nil
	}
	if a.tls == nil {
		return kube.ErrStale // there is nowhere to write it
	}
	if err := a.verifyCluster(ctx); err != nil {
		return err
	}
	if before.Progress == nil && plan.Progress != nil {
		a.restarts.Lock()
		defer a.restarts.Unlock()
		if err := a.claimSlot(ctx); err != nil {
			return err
		}
	}
	a.recorded = true
	if err := a.writeStatus(ctx, nil); err != nil {
		a.recorded = false
		return err
	}
	a.tellEvent()
	return nil
}

// tellEvent tells what the plan did, once it is written.
func (a *application) tellEvent() {
	if event := a.decision.Plan.Event; event != nil {
		a.event(event.Warning, event.Reason, "Patch", event.Message)
	}
}

// verifyCluster keeps a record from being made of a RayCluster whose spec is not the newest.
func (a *application) verifyCluster(ctx context.Context) error {
	stored := &metav1.PartialObjectMetadata{}
	stored.SetGroupVersionKind(kuberay.RayClusterGVK())
	if err := a.readLive(ctx, a.facts.Key.Name, stored); err != nil {
		return err
	}
	if stored.UID != a.facts.Object.GetUID() || stored.Generation != a.facts.Object.GetGeneration() {
		return kube.ErrStale
	}
	return nil
}

// verifyRecord keeps a plan that acts from acting on a record that is not the newest: the cache may lag behind what this or
// another replica wrote.
func (a *application) verifyRecord(ctx context.Context) error {
	plan := &a.decision.Plan
	if a.decision.Edited == nil && plan.Upgrade == "" && len(plan.Delete) == 0 && len(plan.Evict) == 0 {
		return nil
	}
	var stored v1alpha1.RayClusterTLS
	if err := a.readLive(ctx, a.facts.Key.Name, &stored); err != nil {
		return err
	}
	if stored.UID != a.tls.UID || stored.ResourceVersion != a.tls.ResourceVersion {
		return kube.ErrStale
	}
	return nil
}

// readLive reads an object of the cluster's namespace past the cache, which lags behind if the object is gone.
func (a *application) readLive(ctx context.Context, name string, into client.Object) error {
	err := a.Live.Get(ctx, types.NamespacedName{Namespace: a.facts.Key.Namespace, Name: name}, into)
	if apierrors.IsNotFound(err) {
		return kube.ErrStale
	}
	if err != nil {
		return fmt.Errorf("reading %s in namespace %s: %w", name, a.facts.Key.Namespace, err)
	}
	return nil
}

// writeStatus writes the status where it differs from what is stored. A merge patch keeps fields of a newer version of the API.
func (a *application) writeStatus(ctx context.Context, err error) error {
	if a.tls == nil {
		return nil
	}
	status := cluster.Status(a.facts, a.decision, cluster.Done{Keys: a.keys, Recorded: a.recorded, Refused: a.refused, Err: err})
	if apiequality.Semantic.DeepEqual(a.tls.Status, status) {
		return nil
	}
	changed := a.tls.DeepCopy()
	changed.Status = status
	patch := client.MergeFromWithOptions(a.tls.DeepCopy(), client.MergeFromWithOptimisticLock{})
	if err := a.Client.Status().Patch(ctx, changed, patch, client.FieldOwner(v1alpha1.ManagedBy)); err != nil {
		if apierrors.IsNotFound(err) {
			return kube.ErrStale
		}
		return fmt.Errorf("writing the status of RayClusterTLS %s: %w", a.facts.Key, err)
	}
	before := a.tls.Status
	a.tls = changed
	a.tellChanges(&before, &status)
	return nil
}

// tellChanges emits an event in three cases: a user must act, a certificate enters a later part of its life, or the restart for a new
// one begins to wait.
func (a *application) tellChanges(before, after *v1alpha1.RayClusterTLSStatus) {
	// The step that puts a cluster back after a failure has told its own event.
	if c := turned(before.Conditions, after.Conditions, v1alpha1.ConditionStalled); c != nil && c.Status == metav1.ConditionTrue && c.Reason != v1alpha1.ReasonEnableFailed {
		a.event(true, c.Reason, "Refuse", c.Message)
	}
	if warning := cluster.Warning(a.facts, before, after, a.keys); warning != "" {
		a.event(true, v1alpha1.ReasonCertificateEnding, "Judge", warning)
	}
	was, is := before.PendingRestart, after.PendingRestart
	waits := is != nil && (is.Action == v1alpha1.ActionRoll || is.Action == v1alpha1.ActionRevoke) && (was == nil || was.Reason != is.Reason || was.BlockedBy != is.BlockedBy)
	if waits && a.decision.Plan.Event == nil { // the step that pauses a roll tells its own
		a.event(is.Reason == v1alpha1.ReasonWindowTooLate, is.Reason, "Wait", is.Message)
	}
}

// turned returns a condition if its status or its reason is another one than before; nil otherwise.
func turned(before, after []metav1.Condition, kind string) *metav1.Condition {
	was, is := meta.FindStatusCondition(before, kind), meta.FindStatusCondition(after, kind)
	if is == nil || was != nil && was.Status == is.Status && was.Reason == is.Reason {
		return nil
	}
	return is
}

// ownerReference has the garbage collector delete what the cluster owns with it. It does not block the cluster's
// deletion, which would take a permission on its finalizers.
func ownerReference(of *unstructured.Unstructured) metav1.OwnerReference {
	return metav1.OwnerReference{APIVersion: of.GetAPIVersion(), Kind: of.GetKind(), Name: of.GetName(), UID: of.GetUID()}
}

// event tells what happened to the cluster, and to its policy.
func (a *application) event(warning bool, reason, action, note string) {
	kind := corev1.EventTypeNormal
	if warning {
		kind = corev1.EventTypeWarning
	}
	var related runtime.Object
	if p := a.facts.Decision.Policy; p != nil {
		related = p
	}
	a.Recorder.Eventf(a.facts.Object, related, kind, reason, action, "%s", kube.Truncate(note, kube.MaxNote))
}
