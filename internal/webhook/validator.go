package webhook

import (
	"context"
	"encoding/json"
	"fmt"
	"net/http"
	"regexp"
	"slices"
	"strconv"

	admissionv1 "k8s.io/api/admission/v1"
	apiequality "k8s.io/apimachinery/pkg/api/equality"
	"sigs.k8s.io/controller-runtime/pkg/client"
	"sigs.k8s.io/controller-runtime/pkg/log"
	"sigs.k8s.io/controller-runtime/pkg/webhook/admission"

	"github.com/raytls/raytls/api/v1alpha1"
	"github.com/raytls/raytls/internal/jsonpatch"
	"github.com/raytls/raytls/internal/policy"
)

// PolicyPath is where the API server sends RayTLSPolicies.
const PolicyPath = "/raytlspolicies"

// Validator refuses policies that make no sense, as far as the schema cannot see it, and warns of overlaps. It refuses nothing
// that the policy's condition Accepted would not say too.
type Validator struct {
	// Cached reads policies. Secrets are not looked at: API servers are not alone in reaching the webhook, and others are not
	// to learn from it which Secrets there are.
	Cached client.Reader
	Images policy.Allowlist
}

// Handle answers one admission request for a RayTLSPolicy.
func (v *Validator) Handle(ctx context.Context, request admission.Request) admission.Response {
	asked, err := decodePolicy(request.Object.Raw)
	if err != nil {
		return admission.Errored(http.StatusBadRequest, err)
	}
	if request.Operation == admissionv1.Update {
		old, err := decodePolicy(request.OldObject.Raw)
		if err != nil {
			return admission.Errored(http.StatusBadRequest, err)
		}
		if apiequality.Semantic.DeepEqual(old.Spec, asked.Spec) {
			return admission.Allowed("") // whatever is wrong with it was so before
		}
	}
	asked.Namespace = request.Namespace
	spec := asked.Spec.WithDefaults()
	if verdict := policy.Accept(policy.Acceptance{Spec: &spec, Images: v.Images}); !verdict.Accepted {
		return admission.Denied(fmt.Sprintf("RayTLSPolicy %s is not accepted: %s", asked.Name, verdict.Message))
	}
	warnings, err := v.warnings(ctx, &asked)
	if err != nil {
		// Only warnings are lost, and the policy's conditions say the same.
		log.FromContext(ctx).Error(err, "Looking for what to warn of", "policy", asked.Name)
	}
	return admission.Allowed("").WithWarnings(warnings...)
}

// quantity is the form that the schema demands of amounts.
var quantity = regexp.MustCompile(`^[0-9]{1,15}(\.[0-9]{1,9})?(m|k|[KMGTPE]i?)?$`)

// decodePolicy leaves out the init container's resources if the schema refuses an amount of them. Requests come before the schema is
// checked, and a quantity with a large exponent takes minutes to parse.
func decodePolicy(raw []byte) (v1alpha1.RayTLSPolicy, error) {
	var out v1alpha1.RayTLSPolicy
	var object map[string]any
	if err := json.Unmarshal(raw, &object); err != nil {
		return out, fmt.Errorf("reading the RayTLSPolicy: %w", err)
	}
	container := jsonpatch.Map(jsonpatch.Map(jsonpatch.Map(object["spec"])["issuance"])["initContainer"])
	if asked := jsonpatch.Map(container["resources"]); !areQuantities(asked["requests"]) || !areQuantities(asked["limits"]) {
		delete(container, "resources")
	}
	text, err := json.Marshal(object)
	if err != nil {
		return out, fmt.Errorf("reading the RayTLSPolicy: %w", err)
	}
	if err := json.Unmarshal(text, &out); err != nil {
		return out, fmt.Errorf("reading the RayTLSPolicy: %w", err)
	}
	return out, nil
}

// areQuantities reports whether every amount of a list has the form of the schema.
func areQuantities(amounts any) bool {
	for _, amount := range jsonpatch.Map(amounts) {
		if number, ok := amount.(float64); ok {
			amount = strconv.FormatFloat(number, 'f', -1, 64)
		}
		if !quantity.MatchString(jsonpatch.String(amount)) {
			return false
		}
	}
	return true
}

func (v *Validator) warnings(ctx context.Context, asked *v1alpha1.RayTLSPolicy) ([]string, error) {
	var out []string
	policies, err := policy.List(ctx, v.Cached, asked.Namespace)
	if err != nil {
		return out, err
	}
	for _, other := range policies {
		if other.Name != asked.Name && other.DeletionTimestamp.IsZero() && covers(other) == covers(asked) {
			out = append(out, fmt.Sprintf("RayTLSPolicy %s covers %s too; the older of the two is followed", other.Name, covers(asked)))
		}
	}
	slices.Sort(out)
	return out, nil
}

// covers says what a policy covers, as far as two policies can be seen to cover the same without looking at clusters.
func covers(asked *v1alpha1.RayTLSPolicy) string {
	switch spec := asked.Spec; {
	case spec.TargetRef != nil:
		return fmt.Sprintf("%s %s", spec.TargetRef.Kind, spec.TargetRef.Name)
	case spec.Selector != nil && len(spec.Selector.MatchLabels)+len(spec.Selector.MatchExpressions) == 0:
		return "every RayCluster of the namespace"
	}
	return "what " + asked.Name + " selects"
}
