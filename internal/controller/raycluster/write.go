package raycluster

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"strings"
	"time"

	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/types"
	"sigs.k8s.io/controller-runtime/pkg/client"
	"sigs.k8s.io/controller-runtime/pkg/log"

	"github.com/raytls/raytls/api/v1alpha1"
	"github.com/raytls/raytls/internal/jsonpatch"
	"github.com/raytls/raytls/internal/record"
	"github.com/raytls/raytls/internal/rollout"
)

// write changes the cluster's templates and what is on record on it, in one patch. Where admission is active, the patch
// asks the webhook to change the templates, so that they stay with whoever applies the cluster.
func (r *Reconciler) write(ctx context.Context, st *state) error {
	if st.decision.Policy == nil || st.planned.Reason == "" || st.paused() {
		return nil
	}
	want := st.record()
	want[v1alpha1.AnnotationEdit] = ""
	var operations []jsonpatch.Operation
	if st.edited != nil {
		operations = jsonpatch.Diff(st.spec, st.edited)
	}
	changes := len(operations) > 0
	admission, why := r.Admission.Active(st.key.Namespace)
	if end := r.admissionEnd(st); changes && why == v1alpha1.ReasonAdmissionPending && st.now.Before(end) {
		st.again(end)
		return st.awaitAdmission()
	}
	// An order that is stored already was not heard, and the same one would change nothing.
	asks := changes && admission && st.object.GetAnnotations()[v1alpha1.AnnotationEdit] == ""
	if asks {
		operations, want[v1alpha1.AnnotationEdit] = nil, st.edit.String()
	}
	operations = append(operations, record.Operations(st.object.GetAnnotations(), want)...)
	if len(operations) == 0 {
		return nil
	}
	log.FromContext(ctx).Info("Patching RayCluster", "edit", st.planned.Edit, "reason", st.planned.Reason, "message", st.planned.Message)
	stored, err := r.patch(ctx, st.object, operations)
	if err != nil || stored == nil {
		return err
	}
	if asks && stored.GetAnnotations()[v1alpha1.AnnotationEdit] == want[v1alpha1.AnnotationEdit] {
		if err := r.writeUnheard(ctx, st, stored); err != nil {
			return err
		}
	}
	st.written = true
	if event := st.planned.Event; event != nil {
		r.event(st, event.Warning, event.Reason, "Patch", event.Message)
	}
	return nil
}

// admissionPatience is how long admission may take to reach a namespace with a new policy, or an operator that has started.
const admissionPatience = 15 * time.Second

// admissionEnd is until when pending admission is worth waiting for.
func (r *Reconciler) admissionEnd(st *state) time.Time {
	since := st.decision.Policy.CreationTimestamp.Time
	if r.began.After(since) {
		since = r.began
	}
	return since.Add(admissionPatience)
}

// awaitAdmission puts a change of the templates off: made a moment before admission is active, it would take them from
// whoever applies the cluster.
func (st *state) awaitAdmission() error {
	reason := v1alpha1.ReasonEnabling
	if st.decision.Goal != rollout.Encrypted {
		reason = v1alpha1.ReasonDisabling
	}
	return problemf(reason, "first, the API server is to send the RayClusters of this namespace to the operator's webhook; see the policy's condition %s", v1alpha1.ConditionAdmissionActive)
}

// writeUnheard changes the templates itself, since the webhook was not asked: it may have been taken away a moment ago.
func (r *Reconciler) writeUnheard(ctx context.Context, st *state, stored *unstructured.Unstructured) error {
	log.FromContext(ctx).Info("Patching the templates, since admission did not")
	spec := jsonpatch.Map(stored.Object["spec"])
	edited, err := st.edit.Render(spec, st.key.Name)
	if err != nil {
		return applyProblem(err)
	}
	operations := append(jsonpatch.Diff(spec, edited),
		record.Operations(stored.GetAnnotations(), map[string]string{v1alpha1.AnnotationEdit: ""})...)
	_, err = r.patch(ctx, stored, operations)
	return err
}

// patch makes the operations on exactly that version of the RayCluster. It returns what was stored, nil if the cluster is
// gone.
func (r *Reconciler) patch(ctx context.Context, object *unstructured.Unstructured, operations []jsonpatch.Operation) (*unstructured.Unstructured, error) {
	patch, err := jsonpatch.Patch(operations, object.GetResourceVersion())
	if err != nil {
		return nil, fmt.Errorf("encoding the patch of the RayCluster: %w", err)
	}
	target := object.DeepCopy()
	err = r.Client.Patch(ctx, target, client.RawPatch(types.JSONPatchType, patch), client.FieldOwner(v1alpha1.ManagedBy))
	if apierrors.IsNotFound(err) {
		return nil, nil
	}
	return target, rejected(err)
}

// rejected turns an API server's or a webhook's refusal of the patch into something for people.
func rejected(err error) error {
	if apierrors.IsInvalid(err) || apierrors.IsForbidden(err) {
		p := problemf(v1alpha1.ReasonInjectionConflict, "the API server refuses the changed RayCluster: %v", err)
		p.again = later // a webhook or a permission may be in the way
		return p
	}
	return err
}

// deletePods deletes the pods of the plan. A plan that writes deletes nothing: pods go when the write is seen.
func (r *Reconciler) deletePods(ctx context.Context, st *state) error {
	if st.paused() || st.planned.Writes(&st.snapshot) {
		return nil
	}
	var names []string
	for _, pod := range st.planned.Delete {
		log.FromContext(ctx).Info("Deleting pod", "pod", pod.Name, "reason", st.planned.Message)
		uid := types.UID(pod.UID)
		target := &corev1.Pod{ObjectMeta: metav1.ObjectMeta{Namespace: st.key.Namespace, Name: pod.Name}}
		err := r.Client.Delete(ctx, target, client.Preconditions{UID: &uid})
		if apierrors.IsNotFound(err) || apierrors.IsConflict(err) {
			continue // a conflict is another pod of that name: the one that was meant is gone
		}
		if err != nil {
			return fmt.Errorf("deleting pod %s: %w", pod.Name, err)
		}
		names = append(names, pod.Name)
	}
	if len(names) > 0 {
		r.event(st, false, "RestartingPods", "Delete", fmt.Sprintf("%s: deleted %s", st.planned.Message, strings.Join(names, ", ")))
	}
	return nil
}

// wakePods has the kubelets of pods that wait for a Secret or ConfigMap look again now and not within a minute.
func (r *Reconciler) wakePods(ctx context.Context, st *state) error {
	if st.issued == nil || st.issuer == nil || st.paused() {
		return nil
	}
	since := st.issued.issuer.IssuedAt()
	if created := st.issuer.CreationTimestamp.Time; created.After(since) {
		since = created
	}
	sum := sha256.New()
	fmt.Fprint(sum, st.issued.issuer.ID(), st.issuer.UID)
	if st.scripts != nil {
		fmt.Fprint(sum, st.scripts.UID)
		if created := st.scripts.CreationTimestamp.Time; created.After(since) {
			since = created
		}
	}
	token := hex.EncodeToString(sum.Sum(nil)[:8])
	for i := range st.pods {
		pod := &st.pods[i]
		facts := podFacts(pod)
		if !facts.Injected || facts.Certified || facts.Terminating || facts.Created.After(since) || pod.Annotations[v1alpha1.AnnotationSync] == token {
			continue
		}
		if pod.Spec.NodeName == "" {
			continue // its kubelet will read what is there by then
		}
		log.FromContext(ctx).Info("Annotating pod, so that its kubelet mounts the keys now", "pod", pod.Name)
		// With the version, so that a cache which lags behind does not annotate a pod twice; its next event comes back here.
		patch := fmt.Sprintf(`{"metadata":{"uid":%q,"resourceVersion":%q,"annotations":{%q:%q}}}`, pod.UID, pod.ResourceVersion, v1alpha1.AnnotationSync, token)
		target := &corev1.Pod{ObjectMeta: metav1.ObjectMeta{Namespace: st.key.Namespace, Name: pod.Name}}
		err := r.Client.Patch(ctx, target, client.RawPatch(types.MergePatchType, []byte(patch)), client.FieldOwner(v1alpha1.ManagedBy))
		if err != nil && !apierrors.IsNotFound(err) && !apierrors.IsConflict(err) {
			return fmt.Errorf("annotating pod %s: %w", pod.Name, err)
		}
	}
	return nil
}

// event tells what happened to the cluster, and to its policy.
func (r *Reconciler) event(st *state, warning bool, reason, action, note string) {
	kind := corev1.EventTypeNormal
	if warning {
		kind = corev1.EventTypeWarning
	}
	note = cut(note, maxMessage)
	if st.decision.Policy == nil {
		r.Recorder.Eventf(st.object, nil, kind, reason, action, "%s", note)
		return
	}
	r.Recorder.Eventf(st.object, st.decision.Policy, kind, reason, action, "%s", note)
}
