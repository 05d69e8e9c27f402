package policy

import (
	"errors"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/apimachinery/pkg/util/validation"

	"github.com/raytls/raytls/api/v1alpha1"
	"github.com/raytls/raytls/internal/injection"
	"github.com/raytls/raytls/internal/kube"
)

// Candidate is a RayCluster that is to be injected.
type Candidate struct {
	Key types.NamespacedName
	// Spec is the RayCluster's, as raw JSON.
	Spec map[string]any
	// ManagedBy names the controller that runs it instead of KubeRay; empty for KubeRay.
	ManagedBy string
	// OperatorNamespace is the operator's own; empty where it is not known.
	OperatorNamespace string
}

// Untouchable is why the operator never writes to the RayCluster; nil if it may.
func (c Candidate) Untouchable() *kube.Outcome {
	if c.OperatorNamespace != "" && c.Key.Namespace == c.OperatorNamespace {
		// The cluster's Secret could have the name of another cluster's authority.
		return kube.UserMustActf(v1alpha1.ReasonInjectionConflict, "RayClusters in the operator's own namespace %s are not covered; create the cluster in another namespace", c.Key.Namespace)
	}
	if c.ManagedBy != "" {
		blocked := kube.UserMustActf(v1alpha1.ReasonBlocked, "spec.managedBy hands the RayCluster to %s, so the operator leaves it alone", c.ManagedBy)
		blocked.BlockedBy = c.ManagedBy
		return blocked
	}
	return nil
}

// Inject injects a RayCluster that carries no injection yet, for a policy of that spec and with those parameters. An obstacle is
// a *kube.Outcome.
func Inject(c Candidate, spec *v1alpha1.RayTLSPolicySpec, verdict Verdict, parameters injection.Parameters, envFrom EnvFrom) (map[string]any, error) {
	most := validation.DNS1123SubdomainMaxLength - len(injection.SecretName("")) - injection.MaxSecretSuffix
	switch untouchable := c.Untouchable(); {
	case untouchable != nil:
		return nil, untouchable
	case !verdict.Accepted:
		return nil, kube.UserMustActf(v1alpha1.ReasonNotAccepted, "%s", verdict.Message)
	case spec.Paused:
		return nil, kube.UserMustActf(v1alpha1.ReasonPaused, "spec.paused of the policy keeps the RayCluster in plaintext; set it to false to have the RayCluster encrypted")
	case len(c.Key.Name) > most:
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
	if envFrom.tooMany > 0 {
		return nil, kube.UserMustActf(v1alpha1.ReasonInjectionConflict, "spec: the containers that speak Ray name %d ConfigMaps in envFrom, of which at most %d can be read; name fewer", envFrom.tooMany, maxEnvFrom)
	}
	if foreign := injection.ForeignTLS(c.Spec, envFrom.lookup, parameters.AdditionalContainers...); len(foreign) > 0 {
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
		Image: init.Image, ImagePullPolicy: string(init.ImagePullPolicy), Resources: resources(init.Resources),
		ScriptsPath: init.ScriptsPath, AdditionalContainers: spec.AdditionalContainers,
	}
}

func resources(of *corev1.ResourceRequirements) *injection.Resources {
	if of == nil {
		return nil
	}
	texts := func(amounts corev1.ResourceList) map[string]string {
		out := make(map[string]string, len(amounts))
		for name, amount := range amounts {
			out[string(name)] = amount.String()
		}
		return out
	}
	return &injection.Resources{Requests: texts(of.Requests), Limits: texts(of.Limits)}
}
