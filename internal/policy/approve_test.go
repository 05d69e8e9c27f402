package policy

import (
	"strings"
	"testing"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/raytls/raytls/api/v1alpha1"
)

func TestApproveCommandKeepsOtherApprovals(t *testing.T) {
	p := &v1alpha1.RayTLSPolicy{ObjectMeta: metav1.ObjectMeta{Namespace: "ml", Name: "default"}}
	p.Spec.Rollout.Approvals = []v1alpha1.Approval{{Cluster: "a", Restart: "aaaaaa"}, {Cluster: "b", Restart: "bbbbbb"}}
	if got := ApproveCommand(p, "c", "cccccc"); !strings.Contains(got, `"op":"add","path":"/spec/rollout/approvals/-"`) {
		t.Errorf("another cluster's approval is added: %s", got)
	}
	if got := ApproveCommand(p, "b", "cccccc"); !strings.Contains(got, `"op":"replace","path":"/spec/rollout/approvals/1"`) {
		t.Errorf("the cluster's own is replaced, since the list holds one for each: %s", got)
	}
}

func TestApprovableMessageIsReadAsItWasWritten(t *testing.T) {
	p := &v1alpha1.RayTLSPolicy{ObjectMeta: metav1.ObjectMeta{Namespace: "ml", Name: "default"}}
	for _, c := range []struct {
		reason, message, obstacle string
		approvable                bool
	}{
		{"an approval helps", Approvable("the cluster runs", p, "a", "aaaaaa"), "the cluster runs", true},
		{"nothing but the end of the job helps", "RayJob x runs on the cluster", "RayJob x runs on the cluster", false},
	} {
		if obstacle, approvable := Obstacle(c.message); obstacle != c.obstacle || approvable != c.approvable {
			t.Errorf("%s: %q, %t", c.reason, obstacle, approvable)
		}
	}
}
