package webhook

import (
	"context"
	"fmt"
	"slices"
	"strings"

	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"sigs.k8s.io/controller-runtime/pkg/client"
	"sigs.k8s.io/controller-runtime/pkg/webhook/admission"

	"github.com/raytls/raytls/api/v1alpha1"
	"github.com/raytls/raytls/internal/hazard"
	"github.com/raytls/raytls/internal/injection"
	"github.com/raytls/raytls/internal/kube"
)

// update gives an update the injection that the cluster is meant to have. large is why object was not decoded whole; nil if it was.
func (i *Injector) update(ctx context.Context, request admission.Request, object *unstructured.Unstructured, large *injection.ConflictError) (answer, error) {
	old, err := decode(request.OldObject.Raw)
	oldLarge := tooLarge(err)
	if err != nil && oldLarge == nil {
		return answer{}, err
	}
	if err := ctx.Err(); err != nil {
		return answer{}, err
	}
	old.SetNamespace(request.Namespace)
	switch {
	case oldLarge != nil:
		// Only the operator's record tells what it carries. A plain cluster may become anything.
		record, err := i.record(ctx, old)
		if err != nil || record == nil || record.Status.Injection.Revision == 0 {
			return answer{}, err
		}
		return answer{}, oldLarge
	case request.UserInfo.Username == i.Username && large != nil:
		return answer{}, large
	case request.UserInfo.Username == i.Username:
		return edit(old, object)
	}
	return i.carry(ctx, old, object, large)
}

// edit makes the change that the operator asks for. It asks by an annotation and has the webhook write the templates, so
// that these stay with whoever applies the cluster: a patch of the list of worker groups would make the operator its owner.
//
// What was stored before is nobody's order: whoever may write the cluster could have put it there.
func edit(old, object *unstructured.Unstructured) (answer, error) {
	text, asked := object.GetAnnotations()[v1alpha1.AnnotationEdit]
	if !asked || text == old.GetAnnotations()[v1alpha1.AnnotationEdit] {
		return answer{}, nil
	}
	e, err := injection.ParseEdit(text)
	if err != nil {
		return answer{}, fmt.Errorf("annotation %s: %w", v1alpha1.AnnotationEdit, err)
	}
	spec, err := e.Render(specOf(object), object.GetName())
	return answer{spec: spec}, err
}

// carry gives an update by anybody else the injection that the cluster had, template by template. large is as for update.
func (i *Injector) carry(ctx context.Context, old, object *unstructured.Unstructured, large *injection.ConflictError) (answer, error) {
	record, err := i.record(ctx, old)
	if err != nil {
		return answer{}, err
	}
	injected := record != nil && record.Status.Injection.Revision > 0
	switch {
	case injection.AnyPiece(specOf(old)):
		ours, err := i.ours(ctx, old, record)
		if err != nil || !ours {
			return answer{}, err // whoever put them there was not the operator, so that nobody is kept from taking them out
		}
	case injected:
		return answer{}, nil // it was stripped while admission was not there; the operator decides what becomes of it
	case large != nil:
		return answer{}, nil //nolint:nilerr // it is plain, and could not be injected
	}
	if large != nil {
		return answer{}, large
	}
	suspended, _ := specOf(old)["suspend"].(bool)
	options := injection.CarryOptions{ClusterName: object.GetName(), Lenient: suspended || injected}
	if record != nil {
		stored, err := i.authority(ctx, old)
		if err != nil {
			return answer{}, err
		}
		options.RevokedBefore = &stored.RevokedBeforeGeneration
	}
	carried, err := injection.Carry(specOf(old), specOf(object), options)
	if err != nil {
		return answer{}, err
	}
	out := answer{spec: carried.Spec}
	out.warnOfRenamed(carried.Renamed)
	if injection.AnyPiece(carried.Spec) {
		if err := i.warnOfChange(ctx, old, object, record, &out); err != nil {
			return answer{}, err
		}
	}
	if len(carried.Left) > 0 {
		out.warn("raytls left out what was injected into %s: the cluster runs in plaintext, and would break by halves; a RayTLSPolicy that covers it encrypts it when it can be restarted, or suspend it first", strings.Join(carried.Left, ", "))
	}
	return out, nil
}

// warnOfChange tells what TLS breaks in an encrypted cluster's templates since this change.
func (i *Injector) warnOfChange(ctx context.Context, old, object *unstructured.Unstructured, record *v1alpha1.RayClusterTLS, out *answer) error {
	if err := ctx.Err(); err != nil {
		return err
	}
	if len(hazard.Find(specOf(object), hazard.Options{})) == 0 {
		return nil // a policy only heals more
	}
	decision, err := i.decide(ctx, old, record)
	if err != nil {
		return err
	}
	var options hazard.Options
	if decision.Policy != nil {
		asked := decision.Policy.Spec.WithDefaults()
		options = hazard.OptionsOf(&asked)
	}
	before := hazard.Find(specOf(old), options)
	out.warnOf(slices.DeleteFunc(hazard.Find(specOf(object), options), func(h hazard.Hazard) bool { return slices.Contains(before, h) }))
	return nil
}

// record reads the RayClusterTLS of this very RayCluster; nil if there is none.
func (i *Injector) record(ctx context.Context, old *unstructured.Unstructured) (*v1alpha1.RayClusterTLS, error) {
	record := &v1alpha1.RayClusterTLS{}
	err := i.Cached.Get(ctx, client.ObjectKeyFromObject(old), record)
	if apierrors.IsNotFound(err) {
		return nil, nil
	}
	if err != nil {
		return nil, fmt.Errorf("reading RayClusterTLS %s: %w", old.GetName(), err)
	}
	if !kube.OwnedBy(record, old.GetUID()) {
		return nil, nil // it is of an earlier cluster of the name
	}
	return record, nil
}

// authority is what the operator has on record of the authority of the cluster of that name, past the cache: a template with the CA
// Secret of a revoked authority must not be stored. A cluster that is created again under its name may keep its authority.
func (i *Injector) authority(ctx context.Context, object *unstructured.Unstructured) (v1alpha1.AuthorityStatus, error) {
	var record v1alpha1.RayClusterTLS
	err := i.Live.Get(ctx, client.ObjectKeyFromObject(object), &record)
	if client.IgnoreNotFound(err) != nil {
		return v1alpha1.AuthorityStatus{}, fmt.Errorf("reading RayClusterTLS %s past the cache: %w", object.GetName(), err)
	}
	return record.Status.Authority, nil
}

// warnOfRenamed tells of templates of a manifest that name another CA Secret than the cluster's.
func (a *answer) warnOfRenamed(paths []string) {
	if len(paths) > 0 {
		a.warn("raytls put the cluster's present CA Secret into %s, since the manifest names one of a revoked authority or of another cluster; take what raytls injected out of the manifest", strings.Join(paths, ", "))
	}
}

// ours reports whether what a cluster carries is the operator's doing, by what nobody in its namespace can write, or is what
// the operator would do in a moment. A cluster whose policy is gone has its record still.
func (i *Injector) ours(ctx context.Context, old *unstructured.Unstructured, record *v1alpha1.RayClusterTLS) (bool, error) {
	if record != nil && (record.Status.Injection.Revision > 0 || record.Status.Rollout != nil) {
		return true, nil
	}
	// A cluster that was just created has no record yet.
	decision, err := i.decide(ctx, old, record)
	return decision.Policy != nil && decision.Goal == v1alpha1.GoalEncrypted, err
}
