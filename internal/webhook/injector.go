// Package webhook gives RayClusters their injection in the very request that creates or changes them.
package webhook

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"

	admissionv1 "k8s.io/api/admission/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"sigs.k8s.io/controller-runtime/pkg/client"
	"sigs.k8s.io/controller-runtime/pkg/log"
	"sigs.k8s.io/controller-runtime/pkg/webhook/admission"

	"github.com/raytls/raytls/api/v1alpha1"
	"github.com/raytls/raytls/internal/injection"
	"github.com/raytls/raytls/internal/jsonpatch"
	"github.com/raytls/raytls/internal/policy"
)

// Path is where the API server sends RayClusters. It is part of the error that users see while nobody answers there.
const Path = "/rayclusters/refused-while-the-raytls-operator-is-down/see-its-pods"

// Injector is the mutating admission of RayClusters: on creation it injects what a policy covers, on update it carries
// forward what the cluster had. Only the operator itself can ask for more.
type Injector struct {
	// Cached reads policies and RayClusterTLSes from the cache. Live reads past it: what the cache does not have yet, and what
	// it never has.
	Cached, Live client.Reader
	// Namespace is the operator's own, whose clusters are not covered.
	Namespace string
	// Username is the controller's, as the API server knows it.
	Username string
	// Images are the init images that policies may name.
	Images policy.Allowlist
}

// There is no rule for Secrets, and none is needed: policy.ReadEnvFrom says why Secrets in envFrom do not matter. ConfigMaps
// are read one by one, by the names in a template.
//
// +kubebuilder:rbac:groups=raytls.io,resources=raytlspolicies;rayclustertlses,verbs=get;list;watch
// +kubebuilder:rbac:groups=ray.io,resources=rayjobs,verbs=get;list;watch
// +kubebuilder:rbac:groups="",resources=configmaps,verbs=get
// Whoever reads the metrics is authenticated and authorized by the API server.
// +kubebuilder:rbac:groups=authentication.k8s.io,resources=tokenreviews,verbs=create
// +kubebuilder:rbac:groups=authorization.k8s.io,resources=subjectaccessreviews,verbs=create

// Handle answers one admission request for a RayCluster.
func (i *Injector) Handle(ctx context.Context, request admission.Request) admission.Response {
	if len(request.Object.Raw) > maxBytes {
		return admission.Allowed("") // it cannot be stored
	}
	object, err := decode(request.Object.Raw)
	large := tooLarge(err)
	if err != nil && large == nil {
		return admission.Errored(http.StatusBadRequest, err)
	}
	if object.GetDeletionTimestamp() != nil {
		return admission.Allowed("")
	}
	if err := ctx.Err(); err != nil {
		return i.refuse(ctx, object, err) // nobody waits for the answer any more
	}
	var out answer
	switch request.Operation {
	case admissionv1.Create:
		if large != nil {
			out.warn("RayCluster %s is not encrypted, whatever covers it: %s %s", object.GetName(), large.Field, large.Message)
			return out.response(object)
		}
		out, err = i.create(ctx, request.Namespace, object)
	case admissionv1.Update:
		out, err = i.update(ctx, request, object, large)
	case admissionv1.Delete, admissionv1.Connect:
	}
	if err != nil {
		return i.refuse(ctx, object, err)
	}
	if wrong := policy.InvalidExclude(object); wrong != "" {
		out.warn("%s", wrong)
	}
	return out.response(object)
}

// refuse answers with what the user can do about it, or has the client try again.
func (i *Injector) refuse(ctx context.Context, object *unstructured.Unstructured, err error) admission.Response {
	var conflict *injection.ConflictError
	if errors.As(err, &conflict) {
		return admission.Denied(fmt.Sprintf(
			"RayCluster %s is encrypted by a RayTLSPolicy, and cannot stay so with this change: %s: %s", object.GetName(), conflict.Field, conflict.Message))
	}
	log.FromContext(ctx).Error(err, "Refusing RayCluster", "name", object.GetName())
	return admission.Errored(http.StatusInternalServerError, fmt.Errorf("raytls could not look at RayCluster %s, so try again: %w", object.GetName(), err))
}

// answer is what is to become of the object of a request.
type answer struct {
	// name is the object's, where the API server has yet to give it one.
	name string
	// spec is nil to leave it alone.
	spec     map[string]any
	warnings []string
}

func (a *answer) response(object *unstructured.Unstructured) admission.Response {
	var operations []jsonpatch.Operation
	if a.name != "" {
		operations = append(operations, jsonpatch.Operation{Op: "add", Path: "/metadata/name", Value: a.name})
	}
	if a.spec != nil {
		operations = append(operations, jsonpatch.Diff(specOf(object), a.spec)...)
	}
	// An order is carried out in its own request or never, and is not stored.
	operations = append(operations, jsonpatch.Unset(object.Object, "metadata", "annotations", v1alpha1.AnnotationEdit)...)
	response := admission.Allowed("").WithWarnings(a.warnings...)
	if len(operations) == 0 {
		return response
	}
	patch, err := json.Marshal(operations)
	if err != nil {
		return admission.Errored(http.StatusInternalServerError, fmt.Errorf("encoding the patch: %w", err))
	}
	kind := admissionv1.PatchTypeJSONPatch
	response.Patch, response.PatchType = patch, &kind
	return response
}
