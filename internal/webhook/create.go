package webhook

import (
	"context"
	"fmt"

	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/apimachinery/pkg/util/rand"
	"k8s.io/apimachinery/pkg/util/validation"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/raytls/raytls/api/v1alpha1"
	"github.com/raytls/raytls/internal/cluster"
	"github.com/raytls/raytls/internal/hazard"
	"github.com/raytls/raytls/internal/injection"
	"github.com/raytls/raytls/internal/kube"
	"github.com/raytls/raytls/internal/kuberay"
	"github.com/raytls/raytls/internal/policy"
)

// create injects a new RayCluster that a policy covers. One that cannot be injected is let through with a warning, as the
// RayClusterTLS reports it: a policy does not forbid clusters that set up TLS by themselves.
func (i *Injector) create(ctx context.Context, namespace string, object *unstructured.Unstructured) (answer, error) {
	var out answer
	if object.GetName() == "" && object.GetGenerateName() == "" {
		return out, nil // the API server refuses it
	}
	object.SetNamespace(namespace)
	candidate := policy.Candidate{
		Key: types.NamespacedName{Namespace: namespace, Name: object.GetName()}, Spec: specOf(object),
		ManagedBy: kuberay.ManagedBy(object), OperatorNamespace: i.Namespace,
	}
	if candidate.Untouchable() != nil {
		return out, nil //nolint:nilerr // it is no error: nobody expects TLS of the operator there
	}
	if candidate.Key.Name == "" {
		candidate.Key.Name = generated(object.GetGenerateName())
	}
	decision, err := i.decide(ctx, object, nil)
	if err != nil || decision.Policy == nil || decision.Goal != v1alpha1.GoalEncrypted {
		return out, err
	}
	asked := decision.Policy.Spec.WithDefaults()
	parameters := policy.Parameters(&asked)
	if object.GetName() != "" {
		stored, err := i.authority(ctx, object)
		if err != nil {
			return out, err
		}
		parameters.RevokedBefore = stored.RevokedBeforeGeneration
	}
	envFrom, err := policy.ReadEnvFrom(ctx, i.Live, namespace, candidate.Spec, parameters.AdditionalContainers)
	if err == nil {
		verdict := policy.Accept(policy.Acceptance{Spec: &asked, Images: i.Images})
		out.spec, err = policy.Inject(candidate, &asked, verdict, parameters, envFrom)
	}
	if outcome := kube.AsOutcome(err); outcome != nil {
		out.warn("RayTLSPolicy %s covers this RayCluster, which starts in plaintext all the same: %s", decision.Policy.Name, outcome.Message)
		return out, nil //nolint:nilerr // the warning says it
	}
	if err == nil {
		out.warnOfRenamed(injection.Renamed(candidate.Spec, out.spec))
		out.warnOf(hazard.Find(candidate.Spec, hazard.OptionsOf(&asked)))
	}
	if err == nil && object.GetName() == "" {
		out.name = candidate.Key.Name
	}
	return out, err
}

// decide finds the policy. The namespace is known to have one, or had: where the cache knows none that covers the cluster,
// it may be too new for it. record is the cluster's RayClusterTLS; nil for none.
func (i *Injector) decide(ctx context.Context, object *unstructured.Unstructured, record *v1alpha1.RayClusterTLS) (policy.Decision, error) {
	for _, reader := range []client.Reader{i.Cached, i.Live} {
		policies, err := policy.List(ctx, reader, object.GetNamespace())
		if err != nil {
			return policy.Decision{}, err
		}
		owners, err := kuberay.Owners(ctx, reader, object)
		if err != nil {
			return policy.Decision{}, err
		}
		found := policy.Decide(cluster.Subject(object, owners, record), policies)
		if found.Policy == nil {
			continue
		}
		current, err := i.current(ctx, found.Policy)
		if err != nil || current {
			return found, err
		}
	}
	return policy.Decision{}, nil
}

// current reports whether the policy is stored as it was read. Injected for a policy that is gone, a cluster would wait for keys
// that nobody makes.
func (i *Injector) current(ctx context.Context, read *v1alpha1.RayTLSPolicy) (bool, error) {
	var stored v1alpha1.RayTLSPolicy
	if err := i.Live.Get(ctx, client.ObjectKeyFromObject(read), &stored); err != nil {
		if apierrors.IsNotFound(err) {
			return false, nil
		}
		return false, fmt.Errorf("reading RayTLSPolicy %s: %w", read.Name, err)
	}
	return stored.UID == read.UID && stored.Generation == read.Generation && stored.DeletionTimestamp.IsZero() == read.DeletionTimestamp.IsZero(), nil
}

// generated names an object as the API server would, which does so only after admission: what is injected holds the name.
func generated(prefix string) string {
	const suffix = 5
	return prefix[:min(len(prefix), validation.DNS1123LabelMaxLength-suffix)] + rand.String(suffix)
}

// maxHazards is how many hazards one answer tells. Clients print each on a line.
const maxHazards = 4

// warnOf tells what TLS breaks in the templates. It is no reason to refuse: whoever applies them may know better.
func (a *answer) warnOf(found []hazard.Hazard) {
	for _, h := range found[:min(len(found), maxHazards)] {
		a.warn("raytls: %s", h)
	}
}

func (a *answer) warn(format string, args ...any) {
	a.warnings = append(a.warnings, fmt.Sprintf(format, args...))
}
