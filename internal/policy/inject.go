package policy

import (
	"errors"

	"k8s.io/apimachinery/pkg/types"
	"k8s.io/apimachinery/pkg/util/validation"

	"github.com/raytls/raytls/api/v1alpha1"
	"github.com/raytls/raytls/internal/injection"
	"github.com/raytls/raytls/internal/kube"
)

// Candidate is a RayCluster of which is asked whether it may be injected.
type Candidate struct {
	Key types.NamespacedName
	// Spec is the RayCluster's, as raw JSON.
	Spec map[string]any
	// ManagedBy names the controller that runs it instead of KubeRay; empty for KubeRay.
	ManagedBy string
	// OperatorNamespace is the operator's own; empty where it is not known.
	OperatorNamespace string
}

// Untouchable is why the operator writes nothing to the RayCluster whatever a policy asks; nil if it may.
func (c Candidate) Untouchable() *kube.Outcome {
	if c.OperatorNamespace != "" && c.Key.Namespace == c.OperatorNamespace {
		// A cluster's Secret could have the name of another cluster's authority here.
		return kube.UserMustActf(v1alpha1.ReasonInjectionConflict, "RayClusters in the operator's own namespace %s are not covered; create the cluster in another namespace", c.Key.Namespace)
	}
	if c.ManagedBy != "" {
		blocked := kube.UserMustActf(v1alpha1.ReasonBlocked, "spec.managedBy hands the RayCluster to %s, so the operator leaves it alone", c.ManagedBy)
		blocked.BlockedBy = c.ManagedBy
		return blocked
	}
	return nil
}

// Inject answers whether a RayCluster that carries no injection yet may be injected for a policy of that spec, and with those
// parameters, and gives its injected spec. The webhook, the reconciler and the command line tool ask it alike. An obstacle is a
// *kube.Outcome.
func Inject(c Candidate, spec *v1alpha1.RayTLSPolicySpec, verdict Verdict, parameters injection.Parameters, envFrom EnvFrom) (map[string]any, error) {
	if untouchable := c.Untouchable(); untouchable != nil {
		return nil, untouchable
	}
	if !verdict.Accepted {
		return nil, kube.UserMustActf(v1alpha1.ReasonNotAccepted, "%s", verdict.Message)
	}
	if spec.Paused {
		return nil, kube.UserMustActf(v1alpha1.ReasonPaused, "spec.paused of the policy keeps the RayCluster in plaintext; set it to false to have the RayCluster encrypted")
	}
	if most := validation.DNS1123SubdomainMaxLength - len(injection.SecretName("")); len(c.Key.Name) > most {
		return nil, kube.UserMustActf(v1alpha1.ReasonInjectionConflict, "metadata.name: longer than %d characters, which leaves no room for the name of the RayCluster's Secret; create the RayCluster under a shorter name", most)
	}
	if err := injection.CheckSize(c.Spec); err != nil {
		return nil, Conflict(err)
	}
	if foreign := injection.ForeignTLS(c.Spec, nil, parameters.AdditionalContainers...); len(foreign) > 0 {
		return nil, foreignTLS(foreign[0])
	}
	injected, err := injection.Edit{Scope: injection.All(), Revision: injection.Revision, Parameters: parameters}.Render(c.Spec, c.Key.Name)
	if err != nil {
		return nil, Conflict(err)
	}
	foreign, err := envFrom.foreign(c.Spec, parameters.AdditionalContainers)
	if err != nil {
		return nil, Conflict(err)
	}
	if len(foreign) > 0 {
		return nil, foreignTLS(foreign[0]).RetryAfter(kube.UnwatchedRetry) // ConfigMaps of users are not watched
	}
	return injected, nil
}

func foreignTLS(found injection.Finding) *kube.Outcome {
	return kube.UserMustActf(v1alpha1.ReasonForeignTLS, "%s %s", found.Field, found.Message)
}

// Conflict turns an *injection.ConflictError into an outcome, and leaves other errors as they are.
func Conflict(err error) error {
	var conflict *injection.ConflictError
	if errors.As(err, &conflict) {
		return kube.UserMustActf(v1alpha1.ReasonInjectionConflict, "%s: %s", conflict.Field, conflict.Message)
	}
	return err
}

// Parameters are those of the policy's spec, with its defaults, that reach the templates.
func Parameters(spec *v1alpha1.RayTLSPolicySpec) injection.Parameters {
	init := spec.Issuance.InitContainer
	return injection.Parameters{
		Image: init.Image, ImagePullPolicy: string(init.ImagePullPolicy), Resources: init.Resources.DeepCopy(),
		ScriptsPath: init.ScriptsPath, AdditionalContainers: spec.AdditionalContainers,
	}
}
