package webhook

import (
	"context"
	"fmt"

	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/apimachinery/pkg/util/rand"
	"k8s.io/apimachinery/pkg/util/validation"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/raytls/raytls/internal/controller/acceptance"
	"github.com/raytls/raytls/internal/controller/coverage"
	"github.com/raytls/raytls/internal/controller/raycluster"
	"github.com/raytls/raytls/internal/injection"
	"github.com/raytls/raytls/internal/record"
	"github.com/raytls/raytls/internal/rollout"
)

// create injects a new RayCluster that a policy covers. One that cannot be injected is let through with a warning, as the
// policy reports it: a policy does not forbid clusters that set up TLS by themselves.
func (i *Injector) create(ctx context.Context, namespace string, object *unstructured.Unstructured) (outcome, error) {
	out := outcome{annotations: withoutRecord()}
	if namespace == i.Namespace || object.GetName() == "" && object.GetGenerateName() == "" {
		return out, nil
	}
	object.SetNamespace(namespace)
	decision, err := i.decide(ctx, namespace, object)
	if err != nil {
		return out, err
	}
	policy := decision.Policy
	if policy == nil || decision.Goal != rollout.Encrypted || policy.Spec.Paused || raycluster.ManagedElsewhere(object) != "" {
		return out, nil
	}
	name := object.GetName()
	if name == "" {
		name = generated(object.GetGenerateName())
	}
	asked := policy.Spec.WithDefaults()
	key := types.NamespacedName{Namespace: namespace, Name: name}
	spec, err := raycluster.Inject(ctx, i.Live, acceptance.Spec(&asked, i.Images), key, specOf(object), raycluster.Parameters(&asked))
	if raycluster.UserError(err) {
		out.warnings = []string{fmt.Sprintf("RayTLSPolicy %s covers this RayCluster, which starts in plaintext all the same: %v", policy.Name, err)}
		return out, nil
	}
	if err != nil {
		return out, err
	}
	if object.GetName() == "" {
		out.name = name
	}
	out.spec = spec
	for key, value := range record.Enabled(policy.Name, injection.Groups(spec)) {
		out.annotations[key] = value
	}
	return out, nil
}

// decide finds the policy. The namespace is known to have one, or had: where the cache knows none that covers the cluster,
// it may be too new for it.
func (i *Injector) decide(ctx context.Context, namespace string, object *unstructured.Unstructured) (coverage.Decision, error) {
	cluster := coverage.Subject{Object: unrecorded(object)}
	for _, reader := range []client.Reader{i.Cached, i.Live} {
		policies, err := coverage.Policies(ctx, reader, namespace)
		if err != nil {
			return coverage.Decision{}, err
		}
		if cluster.Owners, err = coverage.Owners(ctx, reader, cluster); err != nil {
			return coverage.Decision{}, err
		}
		if found := coverage.Decide(cluster, policies); found.Policy != nil {
			return found, nil
		}
	}
	return coverage.Decision{}, nil
}

// generated names an object as the API server would, which does so only after admission: what is injected holds the name.
func generated(prefix string) string {
	const suffix = 5
	return prefix[:min(len(prefix), validation.DNS1123LabelMaxLength-suffix)] + rand.String(suffix)
}
