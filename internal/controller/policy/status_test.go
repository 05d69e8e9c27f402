package policy

import (
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"k8s.io/apimachinery/pkg/api/meta"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/raytls/raytls/api/v1alpha1"
	"github.com/raytls/raytls/internal/controller/acceptance"
	"github.com/raytls/raytls/internal/controller/observed"
)

func epoch() time.Time { return time.Date(2026, 1, 1, 0, 0, 0, 0, time.UTC) }

func newSummary(covered ...observed.Cluster) *summary {
	spec := v1alpha1.RayTLSPolicySpec{Selector: &metav1.LabelSelector{}}
	spec = spec.WithDefaults()
	return &summary{
		now: epoch(), spec: &spec, target: true, complete: true, covered: covered,
		verdict: acceptance.Verdict{Accepted: true, Reason: v1alpha1.ReasonAccepted, Message: "the policy is in force"},
	}
}

func found(name, reason, message string, pods v1alpha1.PodCounts) observed.Cluster {
	return observed.Cluster{
		Policy: "p", Encrypted: reason == v1alpha1.ReasonEncrypted,
		Status: v1alpha1.ClusterStatus{Name: name, Reason: reason, Message: message, Pods: pods},
	}
}

func TestReady(t *testing.T) {
	good := found("a", v1alpha1.ReasonEncrypted, "", v1alpha1.PodCounts{Total: 2, UpToDate: 2})
	for name, c := range map[string]struct {
		reason string
		change func(*summary)
		want   metav1.Condition
	}{
		"none": {
			"nothing covered is nothing in plaintext", func(s *summary) { s.covered = nil },
			metav1.Condition{Status: metav1.ConditionTrue, Reason: v1alpha1.ReasonNoClusters, Message: "no RayCluster is covered yet"},
		},
		"all": {
			"all encrypted is ready", func(*summary) {},
			metav1.Condition{Status: metav1.ConditionTrue, Reason: v1alpha1.ReasonEncrypted, Message: "1 of 1 RayCluster is encrypted"},
		},
		"incomplete": {
			"what was not looked at is not known to be encrypted", func(s *summary) { s.complete = false },
			metav1.Condition{Status: metav1.ConditionUnknown, Reason: v1alpha1.ReasonReconciling, Message: "the RayClusters of the namespace are being looked at"},
		},
		"not accepted": {
			"a policy that makes no sense is not ready", func(s *summary) { s.verdict.Accepted = false },
			metav1.Condition{
				Status: metav1.ConditionFalse, Reason: v1alpha1.ReasonNotAccepted,
				Message: "see the condition Accepted; clusters that are encrypted already stay so: 1 of 1 RayCluster is encrypted",
			},
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
			if len(status.Conditions) != 3 {
				t.Errorf("all conditions are there from the first status on: %v", status.Conditions)
			}
		})
	}
}

func TestStatusCountsAllAndListsAHundred(t *testing.T) {
	s := newSummary()
	for i := range 150 {
		s.covered = append(s.covered, found(fmt.Sprintf("c%03d", i), v1alpha1.ReasonEncrypted, "", v1alpha1.PodCounts{Total: 2, UpToDate: 2}))
	}
	s.covered = append(s.covered, found("zz", v1alpha1.ReasonForeignTLS, strings.Repeat("x", 5000), v1alpha1.PodCounts{Total: 3, Plaintext: 2, Old: 1}))
	got := s.status(&v1alpha1.RayTLSPolicyStatus{}, 1)
	want := v1alpha1.Totals{Clusters: 151, ClustersEncrypted: 150, Pods: v1alpha1.PodCounts{Total: 303, UpToDate: 300, Plaintext: 2, Old: 1}}
	if diff := cmp.Diff(want, got.Totals); diff != "" {
		t.Errorf("totals count all (-want +got):\n%s", diff)
	}
	if got.Encrypted != "150/151" || len(got.Clusters) != 100 || got.Clusters[0].Name != "zz" || got.Clusters[1].Name != "c000" {
		t.Errorf("got %s, %d clusters, first %s", got.Encrypted, len(got.Clusters), got.Clusters[0].Name)
	}
	for _, c := range got.Conditions {
		if len(c.Message) > 32768 || len(c.Message) > maxMessage {
			t.Errorf("%s: a message of %d bytes", c.Type, len(c.Message))
		}
	}
}

func TestStatusTellsWhatEndsFirst(t *testing.T) {
	at := func(days int) *metav1.Time { return &metav1.Time{Time: epoch().AddDate(0, 0, days)} }
	a, b := found("a", v1alpha1.ReasonEncrypted, "", v1alpha1.PodCounts{}), found("b", v1alpha1.ReasonEncrypted, "", v1alpha1.PodCounts{})
	a.Status.IssuerNotAfter, a.Status.LeafNotAfter = at(20), at(10)
	b.Status.IssuerNotAfter = at(9)
	if got := newSummary(a, b).status(&v1alpha1.RayTLSPolicyStatus{}, 1).Expires; got != "2026-01-10T00:00:00Z" {
		t.Errorf("the first end of issuers and leaves counts: got %s", got)
	}
	if got := newSummary().status(&v1alpha1.RayTLSPolicyStatus{}, 1).Expires; got != "" {
		t.Errorf("without certificates nothing ends: got %s", got)
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
