package cluster

import (
	"testing"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	utiljson "k8s.io/apimachinery/pkg/util/json"

	"github.com/google/go-cmp/cmp"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/types"

	"github.com/raytls/raytls/api/v1alpha1"
	"github.com/raytls/raytls/internal/kuberay"
	"github.com/raytls/raytls/internal/policy"
	"github.com/raytls/raytls/internal/rollout"
)

func object(t *testing.T, text string) *unstructured.Unstructured {
	t.Helper()
	o := &unstructured.Unstructured{}
	if err := utiljson.Unmarshal([]byte(text), &o.Object); err != nil {
		t.Fatal(err)
	}
	return o
}

func TestRequestIDHoldsForOneClusterAndGoal(t *testing.T) {
	seen := map[string]bool{}
	for _, goal := range []v1alpha1.RolloutGoal{v1alpha1.GoalEncrypted, v1alpha1.GoalPlaintext} {
		for _, uid := range []types.UID{"a", "b"} {
			seen[requestID(goal, false, uid)] = true
			seen[requestID(goal, true, uid)] = true
		}
	}
	if len(seen) != 6 || !seen[requestID(v1alpha1.GoalEncrypted, false, "a")] {
		t.Error("each cluster and goal is asked for in one way of its own, and so are new certificates of an encrypted one")
	}
}

func TestDescribeService(t *testing.T) {
	const base = `{"metadata":{"name":"s","uid":"u"},"status":{"activeServiceStatus":{"rayClusterName":"now"},"pendingServiceStatus":{"rayClusterName":"next"}}}`
	policies := []*v1alpha1.RayTLSPolicy{{ObjectMeta: metav1.ObjectMeta{Name: "p"}, Spec: v1alpha1.RayTLSPolicySpec{Selector: &metav1.LabelSelector{}}}}
	describe := func(cluster, service string, change func(*Facts)) *rollout.Service {
		read := kuberay.ReadService(object(t, service))
		st := &Facts{
			Key: types.NamespacedName{Namespace: "ns", Name: cluster}, Now: epoch(), Object: object(t, `{"metadata":{"uid":"u"}}`), Service: &read,
			Policies: policies, Decision: policy.Decision{Policy: policies[0], Goal: v1alpha1.GoalEncrypted},
		}
		if change != nil {
			change(st)
		}
		return st.serviceFor()
	}
	for name, c := range map[string]struct {
		reason, cluster, service string
		want                     rollout.Service
	}{
		"active":   {"the active cluster serves, and the pending one takes over", "now", base, rollout.Service{Serving: true, Next: "next"}},
		"pending":  {"the pending one does not serve", "next", base, rollout.Service{}},
		"old":      {"one that was active does not serve any more", "before", base, rollout.Service{Next: "now"}},
		"shifting": {"in an incremental upgrade both serve", "next", `{"status":{"activeServiceStatus":{"rayClusterName":"now"},"pendingServiceStatus":{"rayClusterName":"next","trafficRoutedPercent":5}}}`, rollout.Service{Serving: true}},
		"new":      {"a new RayService's first cluster is not active yet", "next", `{"status":{"pendingServiceStatus":{"rayClusterName":"next"}}}`, rollout.Service{}},
		"none":     {"without a status nobody serves", "next", `{}`, rollout.Service{}},
	} {
		t.Run(name, func(t *testing.T) {
			got := describe(c.cluster, c.service, nil)
			if diff := cmp.Diff(c.want, rollout.Service{Serving: got.Serving, Next: got.Next, Refuses: got.Refuses}); diff != "" {
				t.Errorf("%s (-want +got):\n%s", c.reason, diff)
			}
		})
	}
	text := kuberay.Request{For: "x", Goal: v1alpha1.GoalEncrypted, At: epoch()}.String()
	made := func(st *Facts) {
		st.Spec = map[string]any{"headGroupSpec": map[string]any{"template": map[string]any{"metadata": map[string]any{"annotations": map[string]any{v1alpha1.AnnotationRestartedFor: text}}}}}
		st.Service.RestartedFor = text
	}
	if !describe("now", base, made).Missed {
		t.Error("a cluster that was made for what is still asked missed it")
	}
	if describe("now", base, func(st *Facts) { made(st); st.Decision.Goal = v1alpha1.GoalPlaintext }).Missed {
		t.Error("but not something else that is asked now")
	}
	if describe("now", base, func(st *Facts) { made(st); st.Spec = nil }).Missed {
		t.Error("nor did a cluster that was made before")
	}
}
