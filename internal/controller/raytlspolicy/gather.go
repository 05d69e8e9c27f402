package raytlspolicy

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"time"

	"k8s.io/apimachinery/pkg/api/meta"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/types"
	"sigs.k8s.io/controller-runtime/pkg/client"
	"sigs.k8s.io/controller-runtime/pkg/log"

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
	name      string
	encrypted bool
	// unknown reports whether the cluster's present state cannot be read.
	unknown           bool
	reason, message   string
	upToDate, stalled *metav1.Condition
	pods              v1alpha1.PodCounts
	expires           *metav1.Time
}

// gather reads everything that the status is made of. It reads a brought CA live: only the Secret's name is cached.
func (r *Reconciler) gather(ctx context.Context, p *v1alpha1.RayTLSPolicy) (*summary, error) {
	spec := p.Spec.WithDefaults()
	s := &summary{now: r.Clock.Now(), spec: &spec, admission: r.Admission.Condition(p.Namespace), target: true}
	acceptance := policy.Acceptance{Spec: s.spec, Images: r.Images, Served: r.Kinds.Served, CAKnown: true, Now: s.now, Scale: r.Scale}
	var err error
	if ref := spec.CertificateAuthority.SecretRef; ref != nil {
		if acceptance.CA, err = kube.ReadSecret(ctx, r.Live, types.NamespacedName{Namespace: p.Namespace, Name: ref.Name}); err != nil {
			return nil, err
		}
	}
	s.verdict = policy.Accept(acceptance)
	refused, err := policy.OutOfBounds(ctx, r.Client, p)
	if err != nil {
		return nil, err
	}
	if refused != nil {
		s.verdict = *refused
		s.verdict.RequeueAt = s.now.Add(kube.UnwatchedRetry) // others of the namespace may go meanwhile
	}
	r.noteBroughtCA(client.ObjectKeyFromObject(p), s.verdict.CAEnds)
	if spec.TargetRef != nil {
		target, err := kuberay.Read(ctx, r.Client, p.Namespace, *spec.TargetRef)
		if err != nil {
			return nil, err
		}
		s.target = target != nil
	}
	return s, r.sumUp(ctx, p, s)
}

// sumUp reads what the RayClusterTLSes of the policy's clusters hold. A RayCluster in spec.targetRef is found here.
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
	set, records := policy.Parse(policies), map[string]*v1alpha1.RayClusterTLS{}
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
		if policy.Names(p, subject) {
			s.target = true
		}
		s.add(p, object, record, set.Decide(subject))
	}
	return nil
}

// add adds a cluster of the namespace, if it is one that the policy covers.
func (s *summary) add(p *v1alpha1.RayTLSPolicy, object *unstructured.Unstructured, record *v1alpha1.RayClusterTLS, decision policy.Decision) {
	deleting := !object.GetDeletionTimestamp().IsZero()
	answered := record != nil && meta.FindStatusCondition(record.Status.Conditions, v1alpha1.ConditionEncrypted) != nil
	switch {
	case slices.ContainsFunc(decision.Losers, func(l *v1alpha1.RayTLSPolicy) bool { return l.Name == p.Name }):
		s.covered = append(s.covered, lost(object.GetName(), decision.Policy.Name))
	case decision.Policy == nil || decision.Policy.Name != p.Name:
	// Nothing is computed for a cluster that is being deleted, which can take long. Its last state counts while its pods run.
	case answered && (deleting || current(&record.Status, object, p)):
		s.covered = append(s.covered, read(record))
	case !deleting:
		s.behind = append(s.behind, object.GetName())
	}
}

// current reports whether the status was computed from the present RayCluster and policy.
func current(status *v1alpha1.RayClusterTLSStatus, object metav1.Object, p *v1alpha1.RayTLSPolicy) bool {
	return status.ObservedGeneration == object.GetGeneration() &&
		status.PolicyRef == v1alpha1.PolicyReference{Name: p.Name, Generation: p.Generation}
}

// read takes from a RayClusterTLS, whose status has the condition Encrypted, what the policy's status is made of.
func read(record *v1alpha1.RayClusterTLS) covered {
	status := &record.Status
	encrypted := meta.FindStatusCondition(status.Conditions, v1alpha1.ConditionEncrypted)
	return covered{
		name: record.Name, encrypted: encrypted.Status == metav1.ConditionTrue, unknown: encrypted.Status == metav1.ConditionUnknown,
		reason: encrypted.Reason, message: encrypted.Message,
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

// patienceLeft returns how long the policy's last status still holds; zero if a new one is due. An operator that has just
// started has not read the webhook's configuration, so its status is as incomplete as one that lacks clusters.
func (r *Reconciler) patienceLeft(p *v1alpha1.RayTLSPolicy, s *summary) time.Duration {
	key := client.ObjectKeyFromObject(p)
	unread := s.admission.Status == metav1.ConditionUnknown && s.admission.Reason == v1alpha1.ReasonAdmissionPending
	if len(s.behind) == 0 && !unread {
		r.incomplete.End(key)
		return 0
	}
	return max(0, kube.UnknownAfter-r.incomplete.For(key, s.now))
}

// unread answers a round whose reads failed. The status holds for a while, and says from then on that it is unknown.
func (r *Reconciler) unread(ctx context.Context, p *v1alpha1.RayTLSPolicy, began time.Time, cause error) (after time.Duration, err error) {
	key := client.ObjectKeyFromObject(p)
	r.unreadable.For(key, began)
	if left := r.unreadable.Left(key, kube.UnknownAfter, r.Clock.Now()); left > 0 {
		log.FromContext(ctx).Error(cause, "Gathering facts")
		return min(left, kube.GatherRetry), nil
	}
	return 0, errors.Join(cause, r.patchStatus(ctx, p, unknown(&p.Status, cause, r.Clock.Now())))
}
