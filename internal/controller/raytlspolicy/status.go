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
		v1alpha1.ReasonPlaintextOnWire, v1alpha1.ReasonForeignTLSOnWire,
		v1alpha1.ReasonCertificateExpired, v1alpha1.ReasonOutdatedAuthority, v1alpha1.ReasonAuthorityEnding,
		v1alpha1.ReasonAuthorityLost, v1alpha1.ReasonAuthorityRestored, v1alpha1.ReasonFormatUnknown,
		v1alpha1.ReasonClockSkew, v1alpha1.ReasonNameConflict, v1alpha1.ReasonError, v1alpha1.ReasonFieldConflict, v1alpha1.ReasonPodsAltered,
		v1alpha1.ReasonCertificateFailed, v1alpha1.ReasonEnableFailed, v1alpha1.ReasonInjectionConflict, v1alpha1.ReasonHazard, v1alpha1.ReasonForeignTLS,
		v1alpha1.ReasonNotAccepted, v1alpha1.ReasonPolicyConflict, v1alpha1.ReasonBlocked, v1alpha1.ReasonAwaitingApproval,
		v1alpha1.ReasonPaused, v1alpha1.ReasonNotCovered, v1alpha1.ReasonRevoking, v1alpha1.ReasonEnabling, v1alpha1.ReasonDisabling, v1alpha1.ReasonWaitingForSlot, v1alpha1.ReasonWaitingForWindow,
		v1alpha1.ReasonPodsStarting, v1alpha1.ReasonNoPods, v1alpha1.ReasonSuspended, v1alpha1.ReasonEncrypted,
	}
}

// rank is the smaller, the worse a reason is. A reason that is not listed is the worst.
func rank(reason string) int { return slices.Index(severities(), reason) }

// progressing reports whether the reason is a stage that passes, and no cause for a warning.
func progressing(reason string) bool {
	return slices.Contains([]string{
		v1alpha1.ReasonRevoking, v1alpha1.ReasonEnabling, v1alpha1.ReasonDisabling, v1alpha1.ReasonWaitingForSlot, v1alpha1.ReasonWaitingForWindow, v1alpha1.ReasonPodsStarting, v1alpha1.ReasonNoPods,
		v1alpha1.ReasonSuspended, v1alpha1.ReasonAwaitingApproval, v1alpha1.ReasonPaused, v1alpha1.ReasonPodsOutdated,
		v1alpha1.ReasonAuthorityEnding, v1alpha1.ReasonAuthorityChangePending, v1alpha1.ReasonTooManyGenerations, v1alpha1.ReasonTemplateChangePending,
		v1alpha1.ReasonAdmissionPending, v1alpha1.ReasonAdmissionNotInstalled, v1alpha1.ReasonAdmissionOff,
	}, reason)
}

// status makes the policy's status. Transition times of conditions that stay are those of before.
func (s *summary) status(before *v1alpha1.RayTLSPolicyStatus, generation int64) v1alpha1.RayTLSPolicyStatus {
	slices.SortFunc(s.covered, func(a, b covered) int {
		return cmp.Or(cmp.Compare(rank(a.reason), rank(b.reason)), cmp.Compare(a.name, b.name))
	})
	slices.Sort(s.behind)
	out := v1alpha1.RayTLSPolicyStatus{
		ObservedGeneration: generation, Conditions: slices.Clone(before.Conditions),
		Clusters: int32(min(s.clusters(), 1<<30)), EncryptedClusters: int32(min(s.encrypted(), 1<<30)),
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

// unknown is the status of a policy whose clusters' state cannot be read: that of before, which no longer holds.
func unknown(before *v1alpha1.RayTLSPolicyStatus, cause error, now time.Time) v1alpha1.RayTLSPolicyStatus {
	out := *before.DeepCopy()
	kube.SetUnknown(&out.Conditions, kube.UnreadCondition(v1alpha1.ReasonError, cause, maxMessage, out.ObservedGeneration, now),
		v1alpha1.ConditionReady, v1alpha1.ConditionUpToDate)
	return out
}

func condition(kind string, status metav1.ConditionStatus, reason, message string) metav1.Condition {
	return metav1.Condition{Type: kind, Status: status, Reason: reason, Message: message}
}

func (s *summary) accepted() metav1.Condition {
	status := metav1.ConditionFalse
	if s.verdict.Accepted {
		status = metav1.ConditionTrue
	}
	return condition(v1alpha1.ConditionAccepted, status, s.verdict.Reason, s.verdict.Message)
}

// ready answers whether every covered cluster is encrypted. Without a running cluster nothing is in plaintext, so it is True then.
func (s *summary) ready() metav1.Condition {
	const kind = v1alpha1.ConditionReady
	open := s.those(func(c covered) bool { return !c.encrypted && !c.unknown && c.reason != v1alpha1.ReasonSuspended })
	unread := s.those(func(c covered) bool { return c.unknown })
	text := func(c covered) string { return c.message }
	switch target := s.spec.TargetRef; {
	case !s.verdict.Accepted:
		return condition(kind, metav1.ConditionFalse, v1alpha1.ReasonNotAccepted,
			"the policy is not accepted, as the condition Accepted says; clusters that are encrypted stay encrypted: "+s.count())
	case len(s.behind) > 0:
		return s.reconciling(kind)
	case len(s.covered) == 0 && !s.target:
		return condition(kind, metav1.ConditionTrue, v1alpha1.ReasonTargetNotFound,
			fmt.Sprintf("%s %s does not exist in this namespace; %s", target.Kind, target.Name, promise(target.Kind)))
	case len(s.covered) == 0:
		return condition(kind, metav1.ConditionTrue, v1alpha1.ReasonNoClusters, "the policy covers no RayCluster yet")
	case len(open) > 0:
		return condition(kind, metav1.ConditionFalse, open[0].reason, s.count()+". "+name(open, maxNamed, text))
	case len(unread) > 0:
		return condition(kind, metav1.ConditionUnknown, unread[0].reason, s.count()+". "+name(unread, maxNamed, text))
	case s.encrypted() == 0:
		return condition(kind, metav1.ConditionTrue, v1alpha1.ReasonSuspended, s.count())
	}
	return condition(kind, metav1.ConditionTrue, v1alpha1.ReasonEncrypted, s.count())
}

// upToDate answers whether every covered cluster runs with the present values of the spec.
func (s *summary) upToDate() metav1.Condition {
	const kind = v1alpha1.ConditionUpToDate
	if len(s.behind) > 0 {
		return s.reconciling(kind)
	}
	old := s.those(func(c covered) bool { return c.upToDate != nil && c.upToDate.Status == metav1.ConditionFalse })
	if len(old) == 0 {
		return condition(kind, metav1.ConditionTrue, v1alpha1.ReasonUpToDate, "every covered RayCluster runs with the present values of the policy's spec")
	}
	// A cluster that trusts a stolen authority matters more than one that is merely old.
	slices.SortStableFunc(old, func(a, b covered) int {
		pending := func(c covered) int {
			if c.upToDate.Reason == v1alpha1.ReasonRevocationPending {
				return 0
			}
			return 1
		}
		return cmp.Compare(pending(a), pending(b))
	})
	message := func(c covered) string { return c.upToDate.Message }
	return condition(kind, metav1.ConditionFalse, old[0].upToDate.Reason, name(old, 1, message))
}

// stalled answers whether a user must act. A Secret or a kind that is missing may come a moment later, so neither counts.
func (s *summary) stalled() metav1.Condition {
	const kind = v1alpha1.ConditionStalled
	if !s.verdict.Accepted && s.verdict.Reason != v1alpha1.ReasonCASecretNotFound && s.verdict.Reason != v1alpha1.ReasonTargetKindNotServed {
		return condition(kind, metav1.ConditionTrue, s.verdict.Reason, s.verdict.Message)
	}
	for _, c := range s.covered {
		if c.stalled != nil && c.stalled.Status == metav1.ConditionTrue {
			return condition(kind, metav1.ConditionTrue, c.stalled.Reason, fmt.Sprintf("RayCluster %s: %s", c.name, c.stalled.Message))
		}
	}
	return condition(kind, metav1.ConditionFalse, v1alpha1.ReasonNothingToDo, "no user needs to act")
}

// reconciling is the answer while clusters are behind.
func (s *summary) reconciling(kind string) metav1.Condition {
	more := ""
	if others := len(s.behind) - 1; others > 0 {
		more = fmt.Sprintf(" and of %d more", others)
	}
	return condition(kind, metav1.ConditionUnknown, v1alpha1.ReasonReconciling,
		fmt.Sprintf("the operator has not computed the present state of RayCluster %s%s yet", s.behind[0], more))
}

func (s *summary) those(wanted func(covered) bool) []covered {
	return slices.DeleteFunc(slices.Clone(s.covered), func(c covered) bool { return !wanted(c) })
}

func (s *summary) clusters() int { return len(s.covered) + len(s.behind) }

func (s *summary) encrypted() int { return len(s.those(func(c covered) bool { return c.encrypted })) }

// count says how many clusters are encrypted, and how many are suspended.
func (s *summary) count() string {
	out := fmt.Sprintf("%d of %d RayClusters are encrypted", s.encrypted(), s.clusters())
	if s.clusters() == 1 {
		out = fmt.Sprintf("%d of 1 RayCluster is encrypted", s.encrypted())
	}
	switch suspended := len(s.those(func(c covered) bool { return !c.encrypted && c.reason == v1alpha1.ReasonSuspended })); suspended {
	case 0:
		return out
	case 1:
		return out + ", 1 is suspended and starts with TLS"
	default:
		return fmt.Sprintf("%s, %d are suspended and start with TLS", out, suspended)
	}
}

// name names so many of the clusters at most, with their messages.
func name(clusters []covered, most int, message func(covered) string) string {
	var named []string
	for _, c := range clusters[:min(most, len(clusters))] {
		text := "RayCluster " + c.name
		if m := message(c); m != "" {
			text += ": " + m
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
