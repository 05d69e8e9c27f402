package raytlspolicy

import (
	"context"
	"fmt"
	"slices"
	"sync"
	"time"

	"k8s.io/apimachinery/pkg/api/meta"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/types"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/raytls/raytls/api/v1alpha1"
	"github.com/raytls/raytls/internal/cluster"
	"github.com/raytls/raytls/internal/kube"
	"github.com/raytls/raytls/internal/kuberay"
	"github.com/raytls/raytls/internal/policy"
)

// summary is everything that a policy's status is made of.
type summary struct {
	now     time.Time
	spec    *v1alpha1.RayTLSPolicySpec
	verdict policy.Verdict
	// admission is the condition AdmissionActive.
	admission metav1.Condition
	// target reports whether the object in spec.targetRef exists, or a cluster that was created for it. It is true without targetRef.
	target  bool
	covered []covered
	// behind are the covered clusters whose RayClusterTLS was not computed from the present RayCluster and policy.
	behind []string
}

// covered is a cluster that the policy covers, as its RayClusterTLS describes it.
type covered struct {
	name              string
	encrypted         bool
	reason, message   string
	upToDate, stalled *metav1.Condition
	pods              v1alpha1.PodCounts
	expires           *metav1.Time
}

// gather reads everything that the status is made of.
func (r *Reconciler) gather(ctx context.Context, p *v1alpha1.RayTLSPolicy) (*summary, error) {
	spec := p.Spec.WithDefaults()
	s := &summary{now: r.Clock.Now(), spec: &spec, admission: r.Admission.Condition(p.Namespace), target: true}
	for _, read := range []func(context.Context, *v1alpha1.RayTLSPolicy, *summary) error{r.judge, r.findTarget, r.sumUp} {
		if err := read(ctx, p, s); err != nil {
			return nil, err
		}
	}
	return s, nil
}

// judge decides whether the spec is accepted. A brought CA is read live: only its name is cached.
func (r *Reconciler) judge(ctx context.Context, p *v1alpha1.RayTLSPolicy, s *summary) error {
	question := policy.Acceptance{Spec: s.spec, Images: r.Images, Served: r.Kinds.Served, CAKnown: true, Now: s.now}
	if ref := s.spec.CertificateAuthority.SecretRef; ref != nil {
		var err error
		if question.CA, err = kube.ReadSecret(ctx, r.Live, types.NamespacedName{Namespace: p.Namespace, Name: ref.Name}); err != nil {
			return err
		}
	}
	s.verdict = policy.Accept(question)
	return nil
}

// findTarget looks for the object in spec.targetRef. sumUp finds RayClusters.
func (r *Reconciler) findTarget(ctx context.Context, p *v1alpha1.RayTLSPolicy, s *summary) error {
	if s.spec.TargetRef == nil {
		return nil
	}
	var err error
	s.target, err = r.Kinds.Exists(ctx, r.Client, p.Namespace, *s.spec.TargetRef)
	return err
}

// sumUp reads what the RayClusterTLSes of the policy's clusters hold.
func (r *Reconciler) sumUp(ctx context.Context, p *v1alpha1.RayTLSPolicy, s *summary) error {
	clusters := kuberay.NewRayClusterList()
	if err := r.Client.List(ctx, clusters, client.InNamespace(p.Namespace), client.UnsafeDisableDeepCopy); err != nil {
		return fmt.Errorf("listing RayClusters: %w", err)
	}
	policies, err := policy.List(ctx, r.Client, p.Namespace)
	if err != nil {
		return err
	}
	var list v1alpha1.RayClusterTLSList
	if err := r.Client.List(ctx, &list, client.InNamespace(p.Namespace), client.UnsafeDisableDeepCopy); err != nil {
		return fmt.Errorf("listing RayClusterTLSes: %w", err)
	}
	records := map[string]*v1alpha1.RayClusterTLS{}
	for i := range list.Items {
		records[list.Items[i].Name] = &list.Items[i]
	}
	for i := range clusters.Items {
		object := &clusters.Items[i]
		owners, err := kuberay.Owners(ctx, r.Client, object)
		if err != nil {
			return err
		}
		record := records[object.GetName()]
		if record != nil && !kube.OwnedBy(record, object.GetUID()) {
			record = nil // of an earlier cluster of the name
		}
		subject := cluster.Subject(object, owners, record)
		if p.Spec.TargetRef != nil && policy.Matches(p, subject) {
			s.target = true
		}
		s.add(p, object, record, policy.Decide(subject, policies))
	}
	return nil
}

// add adds a cluster of the namespace, if it is one that the policy covers.
func (s *summary) add(p *v1alpha1.RayTLSPolicy, object *unstructured.Unstructured, record *v1alpha1.RayClusterTLS, decision policy.Decision) {
	switch {
	case slices.ContainsFunc(decision.Losers, func(l *v1alpha1.RayTLSPolicy) bool { return l.Name == p.Name }):
		s.covered = append(s.covered, lost(object.GetName(), decision.Policy.Name))
	case decision.Policy == nil || decision.Policy.Name != p.Name:
	case !object.GetDeletionTimestamp().IsZero():
		// Nothing is computed for a cluster that is being deleted, which can take long. Its last state counts while its pods run.
		if record != nil && meta.FindStatusCondition(record.Status.Conditions, v1alpha1.ConditionEncrypted) != nil {
			s.covered = append(s.covered, read(record))
		}
	case record == nil || !current(&record.Status, object, p):
		s.behind = append(s.behind, object.GetName())
	default:
		s.covered = append(s.covered, read(record))
	}
}

// current reports whether the status was computed from the present RayCluster and policy.
func current(status *v1alpha1.RayClusterTLSStatus, object metav1.Object, p *v1alpha1.RayTLSPolicy) bool {
	return status.ObservedGeneration == object.GetGeneration() &&
		status.PolicyRef == v1alpha1.PolicyReference{Name: p.Name, Generation: p.Generation} &&
		meta.FindStatusCondition(status.Conditions, v1alpha1.ConditionEncrypted) != nil
}

// read takes from a RayClusterTLS, whose status has the condition Encrypted, what the policy's status is made of.
func read(record *v1alpha1.RayClusterTLS) covered {
	status := &record.Status
	encrypted := meta.FindStatusCondition(status.Conditions, v1alpha1.ConditionEncrypted)
	return covered{
		name: record.Name, encrypted: encrypted.Status == metav1.ConditionTrue, reason: encrypted.Reason, message: encrypted.Message,
		upToDate: meta.FindStatusCondition(status.Conditions, v1alpha1.ConditionUpToDate),
		stalled:  meta.FindStatusCondition(status.Conditions, v1alpha1.ConditionStalled),
		pods:     status.Pods, expires: status.EarliestExpiryTime,
	}
}

// lost is a cluster that the policy would cover too, and that another policy covers.
func lost(name, winner string) covered {
	message := fmt.Sprintf("RayTLSPolicy %s covers this RayCluster already; narrow one of the two policies, or cover the RayCluster with a targetRef", winner)
	return covered{
		name: name, reason: v1alpha1.ReasonPolicyConflict, message: message,
		stalled: &metav1.Condition{Status: metav1.ConditionTrue, Reason: v1alpha1.ReasonPolicyConflict, Message: message},
	}
}

// complete reports whether everything that the status is made of is known. An operator that has just started has not read the
// webhook's configuration.
func (s *summary) complete() bool {
	unread := s.admission.Status == metav1.ConditionUnknown && s.admission.Reason == v1alpha1.ReasonAdmissionPending
	return len(s.behind) == 0 && !unread
}

// patience is how long the last status holds while the new one is incomplete.
const patience = 30 * time.Second

// waits knows since when the status of each policy has been incomplete.
type waits struct {
	mu    sync.Mutex
	since map[types.NamespacedName]time.Time
}

// left is how long the policy's last status still holds; zero if a new one is to be written.
func (w *waits) left(key types.NamespacedName, s *summary) time.Duration {
	w.mu.Lock()
	defer w.mu.Unlock()
	if s.complete() {
		delete(w.since, key)
		return 0
	}
	since, known := w.since[key]
	if !known {
		if w.since == nil {
			w.since = map[types.NamespacedName]time.Time{}
		}
		since = s.now
		w.since[key] = since
	}
	return max(0, patience-s.now.Sub(since))
}

// end forgets a policy that is gone.
func (w *waits) end(key types.NamespacedName) {
	w.mu.Lock()
	defer w.mu.Unlock()
	delete(w.since, key)
}
