package raytlspolicy

import (
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"k8s.io/apimachinery/pkg/api/meta"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/raytls/raytls/api/v1alpha1"
	"github.com/raytls/raytls/internal/policy"
)

func epoch() time.Time { return time.Date(2026, 1, 1, 0, 0, 0, 0, time.UTC) }

func newSummary(clusters ...covered) *summary {
	spec := v1alpha1.RayTLSPolicySpec{Selector: &metav1.LabelSelector{}}
	spec = spec.WithDefaults()
	return &summary{
		now: epoch(), spec: &spec, target: true, covered: clusters,
		admission: metav1.Condition{Type: v1alpha1.ConditionAdmissionActive, Status: metav1.ConditionTrue, Reason: v1alpha1.ReasonAdmissionActive},
		verdict:   policy.Verdict{Accepted: true, Reason: v1alpha1.ReasonAccepted, Message: "the policy is in force"},
	}
}

func found(name, reason, message string, pods v1alpha1.PodCounts) covered {
	return covered{name: name, encrypted: reason == v1alpha1.ReasonEncrypted, reason: reason, message: message, pods: pods}
}

func TestReady(t *testing.T) {
	good := found("a", v1alpha1.ReasonEncrypted, "", v1alpha1.PodCounts{Total: 2, Certified: 2})
	suspended := found("s", v1alpha1.ReasonSuspended, "suspended", v1alpha1.PodCounts{})
	for name, c := range map[string]struct {
		reason string
		change func(*summary)
		want   metav1.Condition
	}{
		"none": {
			"without a cluster nothing is in plaintext", func(s *summary) { s.covered = nil },
			metav1.Condition{Status: metav1.ConditionTrue, Reason: v1alpha1.ReasonNoClusters, Message: "the policy covers no RayCluster yet"},
		},
		"no target": {
			"a target that does not exist yet answers as no cluster does", func(s *summary) {
				s.covered, s.target = nil, false
				s.spec.TargetRef = &v1alpha1.TargetReference{Kind: v1alpha1.TargetRayJob, Name: "j"}
			},
			metav1.Condition{
				Status: metav1.ConditionTrue, Reason: v1alpha1.ReasonTargetNotFound,
				Message: "RayJob j does not exist in this namespace; the RayClusters that KubeRay creates for it are encrypted from their start",
			},
		},
		"target without clusters": {
			"a target that exists and has no cluster is not missing", func(s *summary) {
				s.covered = nil
				s.spec.TargetRef = &v1alpha1.TargetReference{Kind: v1alpha1.TargetRayJob, Name: "j"}
			},
			metav1.Condition{Status: metav1.ConditionTrue, Reason: v1alpha1.ReasonNoClusters, Message: "the policy covers no RayCluster yet"},
		},
		"all": {
			"all encrypted is ready", func(*summary) {},
			metav1.Condition{Status: metav1.ConditionTrue, Reason: v1alpha1.ReasonEncrypted, Message: "1 of 1 RayCluster is encrypted"},
		},
		"incomplete": {
			"a cluster that is not computed yet is not known to be encrypted", func(s *summary) { s.behind = []string{"z"} },
			metav1.Condition{Status: metav1.ConditionUnknown, Reason: v1alpha1.ReasonReconciling, Message: "the operator has not computed the present state of RayCluster z yet"},
		},
		"several incomplete": {
			"the first by name is named, so that the message is stable", func(s *summary) { s.behind = []string{"z", "b", "c"} },
			metav1.Condition{Status: metav1.ConditionUnknown, Reason: v1alpha1.ReasonReconciling, Message: "the operator has not computed the present state of RayCluster b and of 2 more yet"},
		},
		"not accepted": {
			"a policy that cannot be used is not ready", func(s *summary) { s.verdict.Accepted = false },
			metav1.Condition{
				Status: metav1.ConditionFalse, Reason: v1alpha1.ReasonNotAccepted,
				Message: "the policy is not accepted, as the condition Accepted says; clusters that are encrypted stay encrypted: 1 of 1 RayCluster is encrypted",
			},
		},
		"one suspended": {
			"a suspended cluster is no obstacle, and it is not encrypted either", func(s *summary) { s.covered = append(s.covered, suspended) },
			metav1.Condition{Status: metav1.ConditionTrue, Reason: v1alpha1.ReasonEncrypted, Message: "1 of 2 RayClusters are encrypted, 1 is suspended and starts with TLS"},
		},
		"all suspended": {
			"the reason Encrypted would be a lie", func(s *summary) { s.covered = []covered{suspended, suspended} },
			metav1.Condition{Status: metav1.ConditionTrue, Reason: v1alpha1.ReasonSuspended, Message: "0 of 2 RayClusters are encrypted, 2 are suspended and start with TLS"},
		},
		"conflict": {
			"a cluster that another policy covers is not encrypted as this one asks", func(s *summary) { s.covered = append(s.covered, lost("b", "other")) },
			metav1.Condition{
				Status: metav1.ConditionFalse, Reason: v1alpha1.ReasonPolicyConflict,
				Message: "1 of 2 RayClusters are encrypted. RayCluster b: RayTLSPolicy other covers this RayCluster already; narrow one of the two policies, or cover the RayCluster with a targetRef",
			},
		},
		"no pods": {
			"a cluster whose pods cannot be created is not encrypted", func(s *summary) {
				s.covered = append(s.covered, found("b", v1alpha1.ReasonNoPods, "exceeded quota", v1alpha1.PodCounts{}))
			},
			metav1.Condition{Status: metav1.ConditionFalse, Reason: v1alpha1.ReasonNoPods, Message: "1 of 2 RayClusters are encrypted. RayCluster b: exceeded quota"},
		},
		"one is not": {
			"one in plaintext is enough, and it is named", func(s *summary) {
				s.covered = append(s.covered, found("b", v1alpha1.ReasonAwaitingApproval, "approve", v1alpha1.PodCounts{Total: 1, Plaintext: 1}))
			},
			metav1.Condition{Status: metav1.ConditionFalse, Reason: v1alpha1.ReasonAwaitingApproval, Message: "1 of 2 RayClusters are encrypted. RayCluster b: approve"},
		},
		"many are not": {
			"the worst is the reason, three are named", func(s *summary) {
				for i := range 5 {
					s.covered = append(s.covered, found(fmt.Sprintf("w%d", i), v1alpha1.ReasonAwaitingApproval, "", v1alpha1.PodCounts{}))
				}
				s.covered = append(s.covered, found("z", v1alpha1.ReasonAuthorityLost, "restore", v1alpha1.PodCounts{}))
			},
			metav1.Condition{
				Status: metav1.ConditionFalse, Reason: v1alpha1.ReasonAuthorityLost,
				Message: "1 of 7 RayClusters are encrypted. RayCluster z: restore. RayCluster w0. RayCluster w1. And 3 more",
			},
		},
		"unknown reason": {
			"a reason of a newer version may be bad, so it comes first", func(s *summary) {
				s.covered = append(s.covered, found("b", v1alpha1.ReasonAuthorityLost, "", v1alpha1.PodCounts{}), found("c", "Unheard", "?", v1alpha1.PodCounts{}))
			},
			metav1.Condition{Status: metav1.ConditionFalse, Reason: "Unheard", Message: "1 of 3 RayClusters are encrypted. RayCluster c: ?. RayCluster b"},
		},
	} {
		t.Run(name, func(t *testing.T) {
			s := newSummary(good)
			c.change(s)
			status := s.status(&v1alpha1.RayTLSPolicyStatus{}, 3)
			got := meta.FindStatusCondition(status.Conditions, v1alpha1.ConditionReady)
			c.want.Type, c.want.ObservedGeneration, c.want.LastTransitionTime = v1alpha1.ConditionReady, 3, metav1.NewTime(epoch())
			if diff := cmp.Diff(&c.want, got); diff != "" {
				t.Errorf("%s (-want +got):\n%s", c.reason, diff)
			}
			for _, kind := range []string{
				v1alpha1.ConditionAccepted, v1alpha1.ConditionReady, v1alpha1.ConditionUpToDate, v1alpha1.ConditionAdmissionActive, v1alpha1.ConditionStalled,
			} {
				if condition := meta.FindStatusCondition(status.Conditions, kind); condition == nil || condition.ObservedGeneration != 3 {
					t.Errorf("the first status has every condition with its observedGeneration: %s is %v", kind, condition)
				}
			}
		})
	}
}

func TestUpToDateAndStalled(t *testing.T) {
	outdated := found("b", v1alpha1.ReasonEncrypted, "", v1alpha1.PodCounts{})
	outdated.upToDate = &metav1.Condition{Status: metav1.ConditionFalse, Reason: v1alpha1.ReasonAuthorityChangePending, Message: "keyAlgorithm changed"}
	unsure := found("u", v1alpha1.ReasonEncrypted, "", v1alpha1.PodCounts{})
	unsure.upToDate = &metav1.Condition{Status: metav1.ConditionUnknown, Reason: v1alpha1.ReasonNotCovered}
	stuck := found("s", v1alpha1.ReasonForeignTLS, "m", v1alpha1.PodCounts{})
	stuck.stalled = &metav1.Condition{Status: metav1.ConditionTrue, Reason: v1alpha1.ReasonForeignTLS, Message: "remove RAY_USE_TLS"}
	refused := func(reason string) func(*summary) {
		return func(s *summary) { s.verdict = policy.Verdict{Reason: reason, Message: "mend it"} }
	}
	const yes, no, unknown = metav1.ConditionTrue, metav1.ConditionFalse, metav1.ConditionUnknown
	for name, c := range map[string]struct {
		reason            string
		change            func(*summary)
		upToDate, stalled metav1.Condition
	}{
		"rest": {
			"nothing to do", func(*summary) {},
			metav1.Condition{Status: yes, Reason: v1alpha1.ReasonUpToDate, Message: "every covered RayCluster runs with the present values of the policy's spec"},
			metav1.Condition{Status: no, Reason: v1alpha1.ReasonNothingToDo, Message: "no user needs to act"},
		},
		"outdated": {
			"the cluster says why, and nobody has to act", func(s *summary) { s.covered = []covered{outdated, unsure, outdated} },
			metav1.Condition{Status: no, Reason: v1alpha1.ReasonAuthorityChangePending, Message: "RayCluster b: keyAlgorithm changed. And 1 more"},
			metav1.Condition{Status: no, Reason: v1alpha1.ReasonNothingToDo, Message: "no user needs to act"},
		},
		"incomplete": {
			"the one that is missing may be outdated", func(s *summary) { s.covered, s.behind = []covered{outdated}, []string{"x"} },
			metav1.Condition{Status: unknown, Reason: v1alpha1.ReasonReconciling, Message: "the operator has not computed the present state of RayCluster x yet"},
			metav1.Condition{Status: no, Reason: v1alpha1.ReasonNothingToDo, Message: "no user needs to act"},
		},
		"stuck cluster": {
			"the user of the cluster must act", func(s *summary) { s.covered = []covered{outdated, stuck} },
			metav1.Condition{Status: no, Reason: v1alpha1.ReasonAuthorityChangePending, Message: "RayCluster b: keyAlgorithm changed"},
			metav1.Condition{Status: yes, Reason: v1alpha1.ReasonForeignTLS, Message: "RayCluster s: remove RAY_USE_TLS"},
		},
		"conflict": {
			"two policies do not sort themselves out", func(s *summary) { s.covered = []covered{lost("b", "other")} },
			metav1.Condition{Status: yes, Reason: v1alpha1.ReasonUpToDate, Message: "every covered RayCluster runs with the present values of the policy's spec"},
			metav1.Condition{
				Status: yes, Reason: v1alpha1.ReasonPolicyConflict,
				Message: "RayCluster b: RayTLSPolicy other covers this RayCluster already; narrow one of the two policies, or cover the RayCluster with a targetRef",
			},
		},
		"image": {
			"the policy or the administrator's list must change", refused(v1alpha1.ReasonImageNotAllowed),
			metav1.Condition{Status: yes, Reason: v1alpha1.ReasonUpToDate, Message: "every covered RayCluster runs with the present values of the policy's spec"},
			metav1.Condition{Status: yes, Reason: v1alpha1.ReasonImageNotAllowed, Message: "mend it"},
		},
		"no Secret": {
			"one apply may bring it a moment later", refused(v1alpha1.ReasonCASecretNotFound),
			metav1.Condition{Status: yes, Reason: v1alpha1.ReasonUpToDate, Message: "every covered RayCluster runs with the present values of the policy's spec"},
			metav1.Condition{Status: no, Reason: v1alpha1.ReasonNothingToDo, Message: "no user needs to act"},
		},
		"no kind": {
			"KubeRay's CRDs may come a moment later", refused(v1alpha1.ReasonTargetKindNotServed),
			metav1.Condition{Status: yes, Reason: v1alpha1.ReasonUpToDate, Message: "every covered RayCluster runs with the present values of the policy's spec"},
			metav1.Condition{Status: no, Reason: v1alpha1.ReasonNothingToDo, Message: "no user needs to act"},
		},
	} {
		t.Run(name, func(t *testing.T) {
			s := newSummary()
			c.change(s)
			status := s.status(&v1alpha1.RayTLSPolicyStatus{}, 1)
			for kind, want := range map[string]metav1.Condition{v1alpha1.ConditionUpToDate: c.upToDate, v1alpha1.ConditionStalled: c.stalled} {
				want.Type, want.ObservedGeneration, want.LastTransitionTime = kind, 1, metav1.NewTime(epoch())
				if diff := cmp.Diff(&want, meta.FindStatusCondition(status.Conditions, kind)); diff != "" {
					t.Errorf("%s: %s (-want +got):\n%s", kind, c.reason, diff)
				}
			}
		})
	}
}

func TestStatusCounts(t *testing.T) {
	at := func(days int) *metav1.Time { return &metav1.Time{Time: epoch().AddDate(0, 0, days)} }
	s := newSummary()
	for i := range 150 {
		c := found(fmt.Sprintf("c%03d", i), v1alpha1.ReasonEncrypted, "", v1alpha1.PodCounts{Total: 2, Certified: 2})
		c.expires = at(400 - i)
		s.covered = append(s.covered, c)
	}
	s.covered = append(s.covered, found("zz", v1alpha1.ReasonForeignTLS, strings.Repeat("x", 5000), v1alpha1.PodCounts{Total: 3, Plaintext: 2, Outdated: 1}))
	s.behind = []string{"y"}
	got := s.status(&v1alpha1.RayTLSPolicyStatus{}, 1)
	for _, c := range got.Conditions {
		if len(c.Message) > maxMessage {
			t.Errorf("%s: a message of %d bytes", c.Type, len(c.Message))
		}
	}
	got.Conditions = nil
	want := v1alpha1.RayTLSPolicyStatus{
		ObservedGeneration: 1, Clusters: 152, EncryptedClusters: 150, Pods: 303, PlaintextPods: 2, OutdatedPods: 1, EarliestExpiryTime: at(251),
	}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("every covered cluster counts, and the first certificate that ends (-want +got):\n%s", diff)
	}
	if end := newSummary().status(&v1alpha1.RayTLSPolicyStatus{}, 1).EarliestExpiryTime; end != nil {
		t.Errorf("without certificates nothing ends: got %s", end)
	}
}

// Otherwise a policy at rest would be written again and again.
func TestStatusOfTheSameIsTheSame(t *testing.T) {
	s := newSummary(found("b", v1alpha1.ReasonEncrypted, "", v1alpha1.PodCounts{}), found("a", v1alpha1.ReasonEnabling, "x", v1alpha1.PodCounts{}))
	first := s.status(&v1alpha1.RayTLSPolicyStatus{}, 1)
	s.now = epoch().Add(time.Hour)
	s.covered[0], s.covered[1] = s.covered[1], s.covered[0]
	second := s.status(first.DeepCopy(), 1)
	if diff := cmp.Diff(first, second); diff != "" {
		t.Errorf("neither time nor order alone change it (-first +second):\n%s", diff)
	}
	s.covered = s.covered[:0]
	third := s.status(second.DeepCopy(), 1)
	if c := meta.FindStatusCondition(third.Conditions, v1alpha1.ConditionReady); !c.LastTransitionTime.Equal(&metav1.Time{Time: s.now}) {
		t.Errorf("a transition has its time: got %s", c.LastTransitionTime)
	}
	if c := meta.FindStatusCondition(third.Conditions, v1alpha1.ConditionAccepted); !c.LastTransitionTime.Equal(&metav1.Time{Time: epoch()}) {
		t.Errorf("a condition that stays keeps its time: got %s", c.LastTransitionTime)
	}
}
