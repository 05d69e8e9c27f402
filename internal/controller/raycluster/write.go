package raycluster

import (
	"context"
	"fmt"
	"strings"

	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/types"
	"sigs.k8s.io/controller-runtime/pkg/client"
	"sigs.k8s.io/controller-runtime/pkg/log"

	"github.com/raytls/raytls/api/v1alpha1"
	"github.com/raytls/raytls/internal/jsonpatch"
	"github.com/raytls/raytls/internal/kube"
	"github.com/raytls/raytls/internal/kuberay"
	"github.com/raytls/raytls/internal/policy"
)

// edit changes the cluster's templates. Where admission is active, the patch orders the webhook to change them, so that they
// stay with whoever applies the cluster.
func (a *application) edit(ctx context.Context) error {
	plan := &a.decision.Plan
	if a.decision.Edited == nil {
		return nil
	}
	operations := jsonpatch.Diff(a.facts.Spec, a.decision.Edited)
	if len(operations) == 0 {
		return nil
	}
	stored := a.facts.Object.GetAnnotations()[v1alpha1.AnnotationEdit]
	// An order that is stored already was not heard, and the same one would change nothing.
	order := ""
	if a.Gatherer.Admission(a.facts.Key.Namespace) == v1alpha1.ReasonAdmissionActive && stored == "" {
		order = a.decision.Edit.String()
		operations = jsonpatch.Set(a.facts.Object.Object, order, editPath()...)
	} else {
		operations = append(operations, jsonpatch.Unset(a.facts.Object.Object, editPath()...)...)
	}
	log.FromContext(ctx).Info("Patching RayCluster", "edit", plan.Edit, "reason", plan.Reason, "message", plan.Message)
	patched := a.facts.Object.DeepCopy()
	if err := a.patchCluster(ctx, patched, operations); err != nil {
		return err
	}
	if order != "" && patched.GetAnnotations()[v1alpha1.AnnotationEdit] == order {
		if err := a.editUnheard(ctx, patched); err != nil {
			return err
		}
	}
	if plan.Record.Equal(&a.decision.Snapshot.Record) {
		a.tellEvent()
	}
	return nil
}

func editPath() []string { return []string{"metadata", "annotations", v1alpha1.AnnotationEdit} }

// editUnheard changes the templates itself, since the webhook did not: it may have been removed a moment ago.
func (a *application) editUnheard(ctx context.Context, stored *unstructured.Unstructured) error {
	log.FromContext(ctx).Info("Patching the templates, since admission did not")
	spec := jsonpatch.Map(stored.Object["spec"])
	edited, err := a.decision.Edit.Render(spec, a.facts.Key.Name)
	if err != nil {
		return policy.Conflict(err)
	}
	operations := append(jsonpatch.Diff(spec, edited), jsonpatch.Unset(stored.Object, editPath()...)...)
	return a.patchCluster(ctx, stored, operations)
}

func (a *application) patchCluster(ctx context.Context, object *unstructured.Unstructured, operations []jsonpatch.Operation) error {
	return a.patch(ctx, object, operations, "RayCluster", v1alpha1.ReasonInjectionConflict)
}

// patch makes the operations on exactly that version of the object, which becomes what is stored. Where a webhook or a permission
// refuses, the outcome has that reason.
func (a *application) patch(ctx context.Context, object *unstructured.Unstructured, operations []jsonpatch.Operation, what, reason string) error {
	patch, err := jsonpatch.Patch(operations, object.GetResourceVersion())
	if err != nil {
		return fmt.Errorf("encoding the patch of the %s: %w", what, err)
	}
	err = a.Client.Patch(ctx, object, client.RawPatch(types.JSONPatchType, patch), client.FieldOwner(v1alpha1.ManagedBy))
	switch {
	case apierrors.IsNotFound(err):
		return kube.ErrStale
	case apierrors.IsInvalid(err) || apierrors.IsForbidden(err):
		return kube.UserMustActf(reason, "the API server refuses the changed %s: %s", what, kube.Steady(err.Error())).RetryAfter(kube.UnwatchedRetry)
	case err != nil:
		return fmt.Errorf("patching the %s: %w", what, err)
	}
	return nil
}

// upgradeService asks the RayService for a new cluster, once: it is read past the cache, and what it was asked for already is
// not asked for again.
func (a *application) upgradeService(ctx context.Context) error {
	plan := &a.decision.Plan
	if plan.Upgrade == "" {
		return nil
	}
	seen, object := a.facts.Service, kuberay.NewObject(v1alpha1.TargetRayService)
	if err := a.readLive(ctx, seen.Name, object); err != nil {
		return err
	}
	now := kuberay.ReadService(object)
	asked := kuberay.ParseRequest(now.RestartedFor)
	if asked.For == plan.Upgrade && asked.At.Equal(plan.Progress.Since) {
		return nil
	}
	if now.UID != seen.UID || now.Active != seen.Active || now.Pending != seen.Pending {
		return kube.ErrStale // the cluster may not be the one that serves any more
	}
	request := kuberay.Request{For: plan.Upgrade, Goal: a.facts.Decision.Goal, At: plan.Progress.Since}
	log.FromContext(ctx).Info("Patching RayService", "rayService", now.Name, "goal", request.Goal, "message", plan.Message)
	return a.patch(ctx, object, kuberay.RestartFor(object, request.String()), "RayService "+now.Name, v1alpha1.ReasonBlocked)
}

// deletePods deletes the pods of the plan. A plan that writes deletes none: pods go when the write is seen.
func (a *application) deletePods(ctx context.Context) error {
	plan := &a.decision.Plan
	if plan.Changes(&a.decision.Snapshot) {
		return nil
	}
	var names []string
	for _, pod := range plan.Delete {
		log.FromContext(ctx).Info("Deleting pod", "pod", pod.Name, "reason", plan.Message)
		target := &corev1.Pod{ObjectMeta: metav1.ObjectMeta{Namespace: a.facts.Key.Namespace, Name: pod.Name, UID: types.UID(pod.UID)}}
		if err := kube.Delete(ctx, a.Client, target); err != nil {
			return err
		}
		names = append(names, pod.Name)
	}
	if len(names) > 0 {
		a.event(false, "RestartingPods", "Delete", fmt.Sprintf("%s: deleted %s", plan.Message, strings.Join(names, ", ")))
	}
	return nil
}
