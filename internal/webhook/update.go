package webhook

import (
	"fmt"
	"strings"

	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"

	"github.com/raytls/raytls/api/v1alpha1"
	"github.com/raytls/raytls/internal/injection"
	"github.com/raytls/raytls/internal/record"
	"github.com/raytls/raytls/internal/rollout"
)

// edit makes the change that the operator asks for. It asks by an annotation and has the webhook write the templates, so
// that these stay with whoever applies the cluster: a patch of the list of worker groups would make the operator its owner.
//
// What was stored before is nobody's order: whoever may write the cluster could have put it there.
func edit(old, object *unstructured.Unstructured) (outcome, error) {
	text, asked := object.GetAnnotations()[v1alpha1.AnnotationEdit]
	if !asked || text == old.GetAnnotations()[v1alpha1.AnnotationEdit] {
		return outcome{}, nil
	}
	e, err := injection.ParseEdit(text)
	if err != nil {
		return outcome{}, fmt.Errorf("annotation %s: %w", v1alpha1.AnnotationEdit, err)
	}
	spec, err := e.Render(specOf(object), object.GetName())
	return outcome{spec: spec, annotations: map[string]string{v1alpha1.AnnotationEdit: ""}}, err
}

// carry gives an update by anybody else what the cluster had: its injection and the operator's record of it.
func carry(old, object *unstructured.Unstructured) (outcome, error) {
	out := outcome{annotations: carriedRecord(old)}
	if old.GetAnnotations()[v1alpha1.AnnotationInjection] != "" && !injection.AnyPiece(specOf(old)) {
		// It was stripped while admission was not there. The operator decides what becomes of it.
		return out, nil
	}
	carried, err := injection.Carry(specOf(old), specOf(object), object.GetName())
	if err != nil {
		return out, err
	}
	out.spec = carried.Spec
	if kept := record.ParseRestored(out.annotations[v1alpha1.AnnotationRestored]); out.annotations[v1alpha1.AnnotationRestored] != "" {
		kept.Groups = injection.Groups(carried.Spec)
		out.annotations[v1alpha1.AnnotationRestored] = kept.String()
	}
	if len(carried.Left) > 0 {
		out.warnings = []string{fmt.Sprintf(
			"raytls left out what was injected into %s: the cluster is in plaintext, and a RayTLSPolicy encrypts it when it can be restarted", strings.Join(carried.Left, ", "))}
	}
	return out, nil
}

// carriedRecord is the operator's own, which nobody else changes. A broken record of a restart may be removed: the operator
// asks for it.
func carriedRecord(old *unstructured.Unstructured) map[string]string {
	out, had := withoutRecord(), old.GetAnnotations()
	for _, key := range record.Keys() {
		out[key] = had[key]
	}
	out[v1alpha1.AnnotationEdit] = ""
	if _, err := rollout.ParseProgress(had[v1alpha1.AnnotationRollout]); err != nil {
		delete(out, v1alpha1.AnnotationRollout)
	}
	return out
}
