package webhook

import (
	"context"
	"encoding/json"
	"fmt"
	"net/http"
	"slices"

	admissionv1 "k8s.io/api/admission/v1"
	apiequality "k8s.io/apimachinery/pkg/api/equality"
	"sigs.k8s.io/controller-runtime/pkg/client"
	"sigs.k8s.io/controller-runtime/pkg/log"
	"sigs.k8s.io/controller-runtime/pkg/webhook/admission"

	"github.com/raytls/raytls/api/v1alpha1"
	"github.com/raytls/raytls/internal/controller/acceptance"
	"github.com/raytls/raytls/internal/controller/coverage"
)

// PolicyPath is where the API server sends RayTLSPolicies.
const PolicyPath = "/raytlspolicies"

// Validator refuses policies that make no sense, as far as the schema cannot see it, and warns of overlaps. It refuses nothing
// that the policy's condition Accepted would not say too.
type Validator struct {
	// Cached reads policies. Secrets are not looked at: API servers are not alone in reaching the webhook, and others are not
	// to learn from it which Secrets there are.
	Cached client.Reader
	Images acceptance.Allowlist
}

var _ admission.Handler = &Validator{}

// Handle answers one admission request for a RayTLSPolicy.
func (v *Validator) Handle(ctx context.Context, request admission.Request) admission.Response {
	var policy, old v1alpha1.RayTLSPolicy
	if err := json.Unmarshal(request.Object.Raw, &policy); err != nil {
		return admission.Errored(http.StatusBadRequest, fmt.Errorf("reading the RayTLSPolicy: %w", err))
	}
	if request.Operation == admissionv1.Update {
		if err := json.Unmarshal(request.OldObject.Raw, &old); err != nil {
			return admission.Errored(http.StatusBadRequest, fmt.Errorf("reading the RayTLSPolicy: %w", err))
		}
		if apiequality.Semantic.DeepEqual(old.Spec, policy.Spec) {
			return admission.Allowed("") // whatever is wrong with it was so before
		}
	}
	policy.Namespace = request.Namespace
	spec := policy.Spec.WithDefaults()
	if verdict := acceptance.Spec(&spec, v.Images); !verdict.Accepted {
		return admission.Denied(fmt.Sprintf("RayTLSPolicy %s is not accepted: %s", policy.Name, verdict.Message))
	}
	warnings, err := v.warnings(ctx, &policy)
	if err != nil {
		// Only warnings are lost, and the policy's conditions say the same.
		log.FromContext(ctx).Error(err, "Looking for what to warn of", "policy", policy.Name)
	}
	return admission.Allowed("").WithWarnings(warnings...)
}

func (v *Validator) warnings(ctx context.Context, policy *v1alpha1.RayTLSPolicy) ([]string, error) {
	var out []string
	policies, err := coverage.Policies(ctx, v.Cached, policy.Namespace)
	if err != nil {
		return out, err
	}
	for _, other := range policies {
		if other.Name != policy.Name && other.DeletionTimestamp.IsZero() && covers(other) == covers(policy) {
			out = append(out, fmt.Sprintf("RayTLSPolicy %s covers %s too; the older of the two is followed", other.Name, covers(policy)))
		}
	}
	slices.Sort(out)
	return out, nil
}

// covers says what a policy covers, as far as two policies can be seen to cover the same without looking at clusters.
func covers(policy *v1alpha1.RayTLSPolicy) string {
	switch spec := policy.Spec; {
	case spec.TargetRef != nil:
		return fmt.Sprintf("%s %s", spec.TargetRef.Kind, spec.TargetRef.Name)
	case spec.Selector != nil && len(spec.Selector.MatchLabels)+len(spec.Selector.MatchExpressions) == 0:
		return "every RayCluster of the namespace"
	}
	return "what " + policy.Name + " selects"
}
