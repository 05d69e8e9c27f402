package raytlspolicy

import (
	"cmp"
	"fmt"
	"slices"
	"strings"
	"time"

	"k8s.io/apimachinery/pkg/api/meta"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/raytls/raytls/api/v1alpha1"
	"github.com/raytls/raytls/internal/kube"
)

const (
	// maxNamed is how many clusters a condition's message names.
	maxNamed   = 3
	maxMessage = 4096
)

// severities returns the reasons of clusters, the worst for a user first.
func severities() []string {
	return []string{
		v1alpha1.ReasonCertificateExpired, v1alpha1.ReasonAuthorityLost, v1alpha1.ReasonAuthorityRestored, v1alpha1.ReasonFormatUnknown,
		v1alpha1.ReasonNameConflict, v1alpha1.ReasonError, v1alpha1.ReasonFieldConflict,
		v1alpha1.ReasonCertificateFailed, v1alpha1.ReasonEnableFailed, v1alpha1.ReasonInjectionConflict, v1alpha1.ReasonForeignTLS,
		v1alpha1.ReasonNotAccepted, v1alpha1.ReasonPolicyConflict, v1alpha1.ReasonBlocked, v1alpha1.ReasonAwaitingApproval,
		v1alpha1.ReasonPaused, v1alpha1.ReasonNotCovered, v1alpha1.ReasonEnabling, v1alpha1.ReasonDisabling, v1alpha1.ReasonWaitingForSlot,
		v1alpha1.ReasonPodsStarting, v1alpha1.ReasonNoPods, v1alpha1.ReasonSuspended, v1alpha1.ReasonEncrypted,
	}
}

// rank is the smaller, the worse a reason is. A reason that is not listed is the worst.
func rank(reason string) int { return slices.Index(severities(), reason) }

// progressing reports whether the reason is a stage that passes, and no cause for a warning.
func progressing(reason string) bool {
	return slices.Contains([]string{
		v1alpha1.ReasonEnabling, v1alpha1.ReasonDisabling, v1alpha1.ReasonWaitingForSlot, v1alpha1.ReasonPodsStarting, v1alpha1.ReasonNoPods,
		v1alpha1.ReasonSuspended, v1alpha1.ReasonAwaitingApproval, v1alpha1.ReasonPaused, v1alpha1.ReasonPodsOutdated,
		v1alpha1.ReasonAuthorityChangePending, v1alpha1.ReasonTemplateChangePending,
		v1alpha1.ReasonAdmissionPending, v1alpha1.ReasonAdmissionNotInstalled, v1alpha1.ReasonAdmissionOff,
	}, reason)
}

// status makes the policy's status. It is the only place that does. Transition times of conditions that stay are those of before.
func (s *summary) status(before *v1alpha1.RayTLSPolicyStatus, generation int64) v1alpha1.RayTLSPolicyStatus {
	slices.SortFunc(s.covered, func(a, b covered) int {
		return cmp.Or(cmp.Compare(rank(a.reason), rank(b.reason)), cmp.Compare(a.name, b.name))
	})
	slices.Sort(s.behind)
	out := v1alpha1.RayTLSPolicyStatus{
		ObservedGeneration: generation, Conditions: slices.Clone(before.Conditions),
		Clusters: int32(min(len(s.covered)+len(s.behind), 1<<30)), EncryptedClusters: s.encrypted(),
	}
	for _, c := range s.covered {
		out.Pods += c.pods.Total
		out.PlaintextPods += c.pods.Plaintext
		out.OutdatedPods += c.pods.Outdated
		if c.expires != nil && (out.EarliestExpiryTime == nil || c.expires.Before(out.EarliestExpiryTime)) {
			out.EarliestExpiryTime = c.expires.DeepCopy()
		}
	}
	for _, condition := range []metav1.Condition{s.accepted(), s.ready(), s.upToDate(), s.admission, s.stalled()} {
		condition.ObservedGeneration = generation
		condition.LastTransitionTime = metav1.NewTime(s.now.Truncate(time.Second))
		condition.Message = kube.Truncate(condition.Message, maxMessage)
		meta.SetStatusCondition(&out.Conditions, condition)
	}
	return out
}

func (s *summary) accepted() metav1.Condition {
	status := metav1.ConditionFalse
	if s.verdict.Accepted {
		status = metav1.ConditionTrue
	}
	return metav1.Condition{Type: v1alpha1.ConditionAccepted, Status: status, Reason: s.verdict.Reason, Message: s.verdict.Message}
}

// ready answers whether every covered cluster is encrypted. Without a running cluster nothing is in plaintext, so it is True then.
func (s *summary) ready() metav1.Condition {
	condition := metav1.Condition{Type: v1alpha1.ConditionReady, Status: metav1.ConditionFalse}
	open := slices.DeleteFunc(slices.Clone(s.covered), func(c covered) bool { return c.encrypted || c.reason == v1alpha1.ReasonSuspended })
	switch {
	case !s.verdict.Accepted:
		condition.Reason = v1alpha1.ReasonNotAccepted
		condition.Message = "the policy is not accepted, as the condition Accepted says; clusters that are encrypted stay encrypted: " + s.count()
	case len(s.behind) > 0:
		condition.Status, condition.Reason, condition.Message = metav1.ConditionUnknown, v1alpha1.ReasonReconciling, s.reconciling()
	case len(s.covered) == 0:
		condition.Status, condition.Reason, condition.Message = metav1.ConditionTrue, v1alpha1.ReasonNoClusters, "the policy covers no RayCluster yet"
		if !s.target {
			condition.Reason = v1alpha1.ReasonTargetNotFound
			condition.Message = fmt.Sprintf("%s %s does not exist in this namespace; %s", s.spec.TargetRef.Kind, s.spec.TargetRef.Name, promise(s.spec.TargetRef.Kind))
		}
	case len(open) > 0:
		condition.Reason = open[0].reason
		condition.Message = s.count() + ". " + name(open)
	default:
		condition.Status, condition.Reason, condition.Message = metav1.ConditionTrue, v1alpha1.ReasonEncrypted, s.count()
		if s.encrypted() == 0 {
			condition.Reason = v1alpha1.ReasonSuspended
		}
	}
	return condition
}

// upToDate answers whether every covered cluster runs with the present values of the spec.
func (s *summary) upToDate() metav1.Condition {
	condition := metav1.Condition{Type: v1alpha1.ConditionUpToDate, Status: metav1.ConditionTrue, Reason: v1alpha1.ReasonUpToDate}
	old := slices.DeleteFunc(slices.Clone(s.covered), func(c covered) bool {
		return c.upToDate == nil || c.upToDate.Status != metav1.ConditionFalse
	})
	switch {
	case len(s.behind) > 0:
		condition.Status, condition.Reason, condition.Message = metav1.ConditionUnknown, v1alpha1.ReasonReconciling, s.reconciling()
	case len(old) > 0:
		condition.Status, condition.Reason = metav1.ConditionFalse, old[0].upToDate.Reason
		condition.Message = fmt.Sprintf("RayCluster %s: %s", old[0].name, old[0].upToDate.Message)
		if more := len(old) - 1; more > 0 {
			condition.Message += fmt.Sprintf(". And %d more", more)
		}
	default:
		condition.Message = "every covered RayCluster runs with the present values of the policy's spec"
	}
	return condition
}

// stalled answers whether a user must act. A Secret or a kind that is missing may come a moment later, so neither counts.
func (s *summary) stalled() metav1.Condition {
	condition := metav1.Condition{
		Type: v1alpha1.ConditionStalled, Status: metav1.ConditionFalse, Reason: v1alpha1.ReasonNothingToDo, Message: "no user needs to act",
	}
	if !s.verdict.Accepted && s.verdict.Reason != v1alpha1.ReasonCASecretNotFound && s.verdict.Reason != v1alpha1.ReasonTargetKindNotServed {
		condition.Status, condition.Reason, condition.Message = metav1.ConditionTrue, s.verdict.Reason, s.verdict.Message
		return condition
	}
	for _, c := range s.covered {
		if c.stalled != nil && c.stalled.Status == metav1.ConditionTrue {
			condition.Status, condition.Reason = metav1.ConditionTrue, c.stalled.Reason
			condition.Message = fmt.Sprintf("RayCluster %s: %s", c.name, c.stalled.Message)
			return condition
		}
	}
	return condition
}

func (s *summary) reconciling() string {
	if len(s.behind) == 1 {
		return fmt.Sprintf("the operator has not computed the present state of RayCluster %s yet", s.behind[0])
	}
	return fmt.Sprintf("the operator has not computed the present state of RayCluster %s and of %d more yet", s.behind[0], len(s.behind)-1)
}

func (s *summary) encrypted() int32 {
	var encrypted int32
	for _, c := range s.covered {
		if c.encrypted {
			encrypted++
		}
	}
	return encrypted
}

// count says how many clusters are encrypted, and how many are suspended.
func (s *summary) count() string {
	out := fmt.Sprintf("%d of %d RayClusters are encrypted", s.encrypted(), len(s.covered)+len(s.behind))
	if len(s.covered)+len(s.behind) == 1 {
		out = fmt.Sprintf("%d of 1 RayCluster is encrypted", s.encrypted())
	}
	suspended := 0
	for _, c := range s.covered {
		if !c.encrypted && c.reason == v1alpha1.ReasonSuspended {
			suspended++
		}
	}
	switch suspended {
	case 0:
		return out
	case 1:
		return out + ", 1 is suspended and starts with TLS"
	}
	return fmt.Sprintf("%s, %d are suspended and start with TLS", out, suspended)
}

// name names the first clusters with their messages.
func name(clusters []covered) string {
	var named []string
	for _, c := range clusters[:min(maxNamed, len(clusters))] {
		text := "RayCluster " + c.name
		if c.message != "" {
			text += ": " + c.message
		}
		named = append(named, text)
	}
	if more := len(clusters) - len(named); more > 0 {
		named = append(named, fmt.Sprintf("And %d more", more))
	}
	return strings.Join(named, ". ")
}

// promise says what becomes of a target that is created later.
func promise(kind v1alpha1.TargetKind) string {
	if kind == v1alpha1.TargetRayCluster {
		return "the RayCluster is encrypted from its start when you create it"
	}
	return "the RayClusters that KubeRay creates for it are encrypted from their start"
}
