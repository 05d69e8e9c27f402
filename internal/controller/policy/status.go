package policy

import (
	"cmp"
	"fmt"
	"slices"
	"strings"
	"time"

	"k8s.io/apimachinery/pkg/api/meta"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/raytls/raytls/api/v1alpha1"
	"github.com/raytls/raytls/internal/controller/acceptance"
	"github.com/raytls/raytls/internal/controller/admission"
	"github.com/raytls/raytls/internal/controller/observed"
)

const (
	maxClusters = 100
	// maxNamed is how many clusters a condition's message names.
	maxNamed   = 3
	maxMessage = 4096
)

// summary is what a policy's status is made of.
type summary struct {
	now     time.Time
	spec    *v1alpha1.RayTLSPolicySpec
	verdict acceptance.Verdict
	// admission is the reason of the condition AdmissionActive.
	admission string
	// target says that what targetRef names exists, or a cluster that was made for it, or that there is no targetRef.
	target  bool
	covered []observed.Cluster
	// complete says that every cluster of the namespace was looked at since the operator started.
	complete bool
}

// rank orders the reasons of clusters: what is worst for a user comes first in the list and in the condition.
func rank(reason string) int {
	return max(0, slices.Index([]string{
		v1alpha1.ReasonAuthorityLost, v1alpha1.ReasonNameConflict, v1alpha1.ReasonError, v1alpha1.ReasonFieldConflict,
		v1alpha1.ReasonCertificateFailed, v1alpha1.ReasonEnableFailed, v1alpha1.ReasonInjectionConflict, v1alpha1.ReasonForeignTLS,
		v1alpha1.ReasonNotAccepted, v1alpha1.ReasonPolicyConflict, v1alpha1.ReasonBlocked, v1alpha1.ReasonAwaitingApproval,
		v1alpha1.ReasonPaused, v1alpha1.ReasonEnabling, v1alpha1.ReasonDisabling, v1alpha1.ReasonWaitingForSlot,
		v1alpha1.ReasonPodsStarting, v1alpha1.ReasonEncrypted,
	}, reason))
}

// progressing says that the reason is a stage, and nothing to warn of.
func progressing(reason string) bool {
	return slices.Contains([]string{
		v1alpha1.ReasonEnabling, v1alpha1.ReasonDisabling, v1alpha1.ReasonWaitingForSlot, v1alpha1.ReasonPodsStarting,
		v1alpha1.ReasonAwaitingApproval, v1alpha1.ReasonPaused, v1alpha1.ReasonTargetNotFound,
		v1alpha1.ReasonAdmissionPending, v1alpha1.ReasonAdmissionNotInstalled, v1alpha1.ReasonAdmissionOff,
	}, reason)
}

// status makes the policy's status. Transition times of conditions that stay are those of before.
func (s *summary) status(before *v1alpha1.RayTLSPolicyStatus, generation int64) v1alpha1.RayTLSPolicyStatus {
	covered := slices.Clone(s.covered)
	slices.SortFunc(covered, func(a, b observed.Cluster) int {
		return cmp.Or(cmp.Compare(rank(a.Status.Reason), rank(b.Status.Reason)), cmp.Compare(a.Status.Name, b.Status.Name))
	})
	out := v1alpha1.RayTLSPolicyStatus{
		ObservedGeneration: generation, Mode: s.spec.Issuance.Mode, Conditions: slices.Clone(before.Conditions),
	}
	var first time.Time
	for _, c := range covered {
		out.Totals.Clusters++
		if c.Encrypted {
			out.Totals.ClustersEncrypted++
		}
		add(&out.Totals.Pods, c.Status.Pods)
		for _, end := range []*metav1.Time{c.Status.IssuerNotAfter, c.Status.LeafNotAfter} {
			if end != nil && (first.IsZero() || end.Time.Before(first)) {
				first = end.Time
			}
		}
		if len(out.Clusters) < maxClusters {
			out.Clusters = append(out.Clusters, c.Status)
		}
	}
	out.Encrypted = fmt.Sprintf("%d/%d", out.Totals.ClustersEncrypted, out.Totals.Clusters)
	if !first.IsZero() {
		out.Expires = first.UTC().Format(time.RFC3339)
	}
	for _, condition := range []metav1.Condition{s.accepted(), s.ready(covered), s.admissionActive()} {
		condition.ObservedGeneration = generation
		condition.LastTransitionTime = metav1.NewTime(s.now.Truncate(time.Second))
		if len(condition.Message) > maxMessage {
			condition.Message = strings.ToValidUTF8(condition.Message[:maxMessage], "")
		}
		meta.SetStatusCondition(&out.Conditions, condition)
	}
	return out
}

func add(to *v1alpha1.PodCounts, more v1alpha1.PodCounts) {
	to.Total += more.Total
	to.UpToDate += more.UpToDate
	to.Plaintext += more.Plaintext
	to.Old += more.Old
}

func (s *summary) accepted() metav1.Condition {
	status := metav1.ConditionFalse
	if s.verdict.Accepted {
		status = metav1.ConditionTrue
	}
	return metav1.Condition{Type: v1alpha1.ConditionAccepted, Status: status, Reason: s.verdict.Reason, Message: s.verdict.Message}
}

func (s *summary) admissionActive() metav1.Condition {
	status := metav1.ConditionFalse
	switch s.admission {
	case v1alpha1.ReasonAdmissionActive:
		status = metav1.ConditionTrue
	case v1alpha1.ReasonAdmissionNarrowed:
		status = metav1.ConditionUnknown
	}
	return metav1.Condition{Type: v1alpha1.ConditionAdmissionActive, Status: status, Reason: s.admission, Message: admission.Message(s.admission)}
}

// ready sums the covered clusters up; they are sorted, worst first.
func (s *summary) ready(covered []observed.Cluster) metav1.Condition {
	condition := metav1.Condition{Type: v1alpha1.ConditionReady, Status: metav1.ConditionFalse}
	open := slices.DeleteFunc(slices.Clone(covered), func(c observed.Cluster) bool { return c.Encrypted })
	switch {
	case !s.verdict.Accepted:
		condition.Reason = v1alpha1.ReasonNotAccepted
		condition.Message = "see the condition Accepted; clusters that are encrypted already stay so: " + s.count(covered)
	case !s.complete:
		condition.Status, condition.Reason = metav1.ConditionUnknown, v1alpha1.ReasonReconciling
		condition.Message = "the RayClusters of the namespace are being looked at"
	case !s.target:
		condition.Reason = v1alpha1.ReasonTargetNotFound
		condition.Message = fmt.Sprintf("%s %s does not exist in this namespace; %s", s.spec.TargetRef.Kind, s.spec.TargetRef.Name, start(s.spec.TargetRef.Kind))
	case len(covered) == 0:
		condition.Status, condition.Reason = metav1.ConditionTrue, v1alpha1.ReasonNoClusters
		condition.Message = "no RayCluster is covered yet"
	case len(open) == 0:
		condition.Status, condition.Reason = metav1.ConditionTrue, v1alpha1.ReasonEncrypted
		condition.Message = s.count(covered)
	default:
		condition.Reason = open[0].Status.Reason
		var named []string
		for _, c := range open[:min(maxNamed, len(open))] {
			text := "RayCluster " + c.Status.Name
			if c.Status.Message != "" {
				text += ": " + c.Status.Message
			}
			named = append(named, text)
		}
		condition.Message = s.count(covered) + ". " + strings.Join(named, ". ")
		if more := len(open) - len(named); more > 0 {
			condition.Message += fmt.Sprintf(". And %d more", more)
		}
	}
	return condition
}

// start says what becomes of a target that is created later.
func start(kind v1alpha1.TargetKind) string {
	if kind == v1alpha1.TargetRayCluster {
		return "it is encrypted from its start when it is created"
	}
	return "the RayClusters that are made for it are encrypted from their start"
}

func (s *summary) count(covered []observed.Cluster) string {
	encrypted := 0
	for _, c := range covered {
		if c.Encrypted {
			encrypted++
		}
	}
	if len(covered) == 1 {
		return fmt.Sprintf("%d of 1 RayCluster is encrypted", encrypted)
	}
	return fmt.Sprintf("%d of %d RayClusters are encrypted", encrypted, len(covered))
}
