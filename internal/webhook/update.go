package webhook

import (
	"context"
	"fmt"
	"slices"
	"strings"

	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/types"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/raytls/raytls/api/v1alpha1"
	"github.com/raytls/raytls/internal/controller/coverage"
	"github.com/raytls/raytls/internal/controller/raycluster"
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
func (i *Injector) carry(ctx context.Context, namespace string, old, object *unstructured.Unstructured) (outcome, error) {
	out := outcome{annotations: carriedRecord(old)}
	ours, err := i.ours(ctx, namespace, old)
	if err != nil {
		return out, err
	}
	if !ours {
		out.annotations = removable(out.annotations, object)
	}
	switch pieces := injection.AnyPiece(specOf(old)); {
	case pieces && !ours:
		return out, nil // whoever put them there was not the operator, so that nobody is kept from taking them out
	case !pieces && old.GetAnnotations()[v1alpha1.AnnotationInjection] != "":
		return out, nil // it was stripped while admission was not there; the operator decides what becomes of it
	}
	return carrySpec(out, old, object)
}

// carrySpec carries the injection forward template by template.
func carrySpec(out outcome, old, object *unstructured.Unstructured) (outcome, error) {
	if !injection.AnyPiece(specOf(old)) && injection.TooLarge(specOf(object)) {
		return out, nil // it is plain, and could not be injected
	}
	suspended, _ := specOf(old)["suspend"].(bool)
	lenient := suspended || old.GetAnnotations()[v1alpha1.AnnotationInjection] != ""
	carried, err := injection.Carry(specOf(old), specOf(object), object.GetName(), lenient)
	if err != nil {
		return out, err
	}
	out.spec = carried.Spec
	if text := out.annotations[v1alpha1.AnnotationRestored]; text != "" {
		kept := record.ParseRestored(text)
		for _, group := range injection.Groups(carried.Spec) {
			if !slices.Contains(kept.Groups, group) {
				kept.Groups = append(kept.Groups, group)
			}
		}
		out.annotations[v1alpha1.AnnotationRestored] = kept.String()
	}
	if len(carried.Left) > 0 {
		out.warnings = []string{fmt.Sprintf(
			"raytls left out what was injected into %s: the cluster runs in plaintext, and would break by halves; a RayTLSPolicy that covers it encrypts it when it can be restarted, or suspend it first", strings.Join(carried.Left, ", "))}
	}
	return out, nil
}

// ours says whether what a cluster carries is the operator's doing, by what nobody in its namespace can write: it has an
// authority, or will have in a moment, since a policy of the namespace is on record.
func (i *Injector) ours(ctx context.Context, namespace string, old *unstructured.Unstructured) (bool, error) {
	key := types.NamespacedName{Namespace: i.Namespace, Name: raycluster.AuthorityName(client.ObjectKeyFromObject(old))}
	if err := i.Cached.Get(ctx, key, &corev1.Secret{}); !apierrors.IsNotFound(err) {
		return err == nil, err
	}
	name := old.GetAnnotations()[v1alpha1.AnnotationPolicy]
	if name == "" {
		return false, nil
	}
	policies, err := coverage.Policies(ctx, i.Cached, namespace)
	return slices.ContainsFunc(policies, func(p *v1alpha1.RayTLSPolicy) bool { return p.Name == name }), err
}

// removable lets the update take out what is on record, and change nothing of it.
func removable(carried map[string]string, object *unstructured.Unstructured) map[string]string {
	has := object.GetAnnotations()
	for key := range carried {
		if has[key] == "" {
			carried[key] = ""
		}
	}
	return carried
}

// carriedRecord is the operator's own, which nobody else changes. A broken record of a restart may be removed, and that of
// what was restored: the operator asks for it.
func carriedRecord(old *unstructured.Unstructured) map[string]string {
	out, had := withoutRecord(), old.GetAnnotations()
	for key := range out {
		out[key] = had[key]
	}
	out[v1alpha1.AnnotationEdit] = ""
	if _, err := rollout.ParseProgress(had[v1alpha1.AnnotationRollout]); err != nil {
		delete(out, v1alpha1.AnnotationRollout)
	}
	if len(record.ParseRestored(had[v1alpha1.AnnotationRestored]).Times) > 0 {
		delete(out, v1alpha1.AnnotationRestored)
	}
	return out
}
