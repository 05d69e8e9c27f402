package raycluster

import (
	"encoding/json"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	rayv1 "github.com/ray-project/kuberay/ray-operator/apis/ray/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/types"
	utiljson "k8s.io/apimachinery/pkg/util/json"

	"github.com/raytls/raytls/api/v1alpha1"
	"github.com/raytls/raytls/internal/controller/coverage"
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

func TestAnnotateHead(t *testing.T) {
	for name, c := range map[string]struct{ reason, template, want string }{
		"first": {
			"missing parents are added", `{"spec":{}}`,
			`[{"op":"add","path":"/spec/rayClusterConfig/headGroupSpec/template/metadata","value":{"annotations":{"raytls.io/restarted-for":"v"}}}]`,
		},
		"metadata": {
			"and what is there stays", `{"metadata":{"labels":{"a":"b"}}}`,
			`[{"op":"add","path":"/spec/rayClusterConfig/headGroupSpec/template/metadata/annotations","value":{"raytls.io/restarted-for":"v"}}]`,
		},
		"annotations": {
			"beside others", `{"metadata":{"annotations":{"a":"b"}}}`,
			`[{"op":"add","path":"/spec/rayClusterConfig/headGroupSpec/template/metadata/annotations/raytls.io~1restarted-for","value":"v"}]`,
		},
		"again": {
			"or instead of the last", `{"metadata":{"annotations":{"raytls.io/restarted-for":"u"}}}`,
			`[{"op":"replace","path":"/spec/rayClusterConfig/headGroupSpec/template/metadata/annotations/raytls.io~1restarted-for","value":"v"}]`,
		},
		"null": {
			"null is as good as missing", `{"metadata":null}`,
			`[{"op":"add","path":"/spec/rayClusterConfig/headGroupSpec/template/metadata","value":{"annotations":{"raytls.io/restarted-for":"v"}}}]`,
		},
	} {
		t.Run(name, func(t *testing.T) {
			service := object(t, `{"spec":{"rayClusterConfig":{"headGroupSpec":{"template":`+c.template+`}}}}`)
			got, err := json.Marshal(annotateHead(service, "v"))
			if err != nil {
				t.Fatal(err)
			}
			if diff := cmp.Diff(c.want, string(got)); diff != "" {
				t.Errorf("%s (-want +got):\n%s", c.reason, diff)
			}
		})
	}
}

func TestAsk(t *testing.T) {
	q := ask{For: askFor(rollout.Encrypted, "u"), Goal: rollout.Encrypted, At: epoch(), Approved: digest("one")}
	if diff := cmp.Diff(q, parseAsk(q.String())); diff != "" {
		t.Errorf("what is written is what is read (-want +got):\n%s", diff)
	}
	for _, text := range []string{"", "x", "{}", `{"for":"a"}`, `{"at":"2026-01-01T00:00:00Z"}`} {
		if got := parseAsk(text); got != (ask{}) {
			t.Errorf("%q asks for nothing: got %v", text, got)
		}
	}
	seen := map[string]bool{}
	for _, goal := range []rollout.Goal{rollout.Encrypted, rollout.Plaintext} {
		for _, uid := range []types.UID{"a", "b"} {
			seen[askFor(goal, uid)] = true
		}
	}
	if len(seen) != 4 || !seen[askFor(rollout.Encrypted, "a")] {
		t.Error("each cluster and goal is asked for in one way of its own")
	}
}

func TestDescribeService(t *testing.T) {
	const base = `{"metadata":{"name":"s","uid":"u"},"status":{"activeServiceStatus":{"rayClusterName":"now"},"pendingServiceStatus":{"rayClusterName":"next"}}}`
	policies := []*v1alpha1.RayTLSPolicy{{ObjectMeta: metav1.ObjectMeta{Name: "p"}, Spec: v1alpha1.RayTLSPolicySpec{Selector: &metav1.LabelSelector{}}}}
	describe := func(cluster, service string, change func(*state)) *rollout.Service {
		st := &state{
			key: types.NamespacedName{Namespace: "ns", Name: cluster}, cluster: &rayv1.RayCluster{}, service: readService(object(t, service)),
			policies: policies, decision: coverage.Decision{Policy: policies[0], Goal: rollout.Encrypted},
		}
		if change != nil {
			change(st)
		}
		return st.describeService()
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
	text := ask{For: "x", Goal: rollout.Encrypted, At: epoch()}.String()
	made := func(st *state) {
		st.spec = map[string]any{"headGroupSpec": map[string]any{"template": map[string]any{"metadata": map[string]any{"annotations": map[string]any{v1alpha1.AnnotationRestartedFor: text}}}}}
		st.service.asked = parseAsk(text)
	}
	if !describe("now", base, made).Missed {
		t.Error("a cluster that was made for what is still asked missed it")
	}
	if describe("now", base, func(st *state) { made(st); st.decision.Goal = rollout.Plaintext }).Missed {
		t.Error("but not something else that is asked now")
	}
	if describe("now", base, func(st *state) { made(st); st.spec = nil }).Missed {
		t.Error("nor did a cluster that was made before")
	}
}

func TestHeadNames(t *testing.T) {
	controlled := func(kind, name string) []metav1.OwnerReference {
		yes := true
		return []metav1.OwnerReference{{APIVersion: "ray.io/v1", Kind: kind, Name: name, UID: "u", Controller: &yes}}
	}
	for name, c := range map[string]struct {
		reason string
		owners []metav1.OwnerReference
		labels map[string]string
		jobUID types.UID
		short  bool
		want   []string
	}{
		"none":      {"a cluster of its own has no other names", nil, nil, "", true, nil},
		"service":   {"a RayService's Service", controlled("RayService", "s"), nil, "", false, []string{"s-head-svc.ns", "s-head-svc.ns.svc", "s-head-svc.ns.svc.k8s.example"}},
		"short":     {"by its bare name too where that is asked for", controlled("RayJob", "j"), nil, "u", true, []string{"j-head-svc.ns", "j-head-svc.ns.svc", "j-head-svc.ns.svc.k8s.example", "j-head-svc"}},
		"unseen":    {"also before the owner is in the cache, since the first pod needs it", controlled("RayJob", "j"), nil, "", false, []string{"j-head-svc.ns", "j-head-svc.ns.svc", "j-head-svc.ns.svc.k8s.example"}},
		"another":   {"another object of the name is not the owner", controlled("RayJob", "j"), nil, "v", true, nil},
		"label":     {"anybody can label", nil, map[string]string{"ray.io/originated-from-crd": "RayJob", "ray.io/originated-from-cr-name": "j"}, "", true, nil},
		"not a DNS": {"what no Service can be called is no name", controlled("RayJob", "a,b\nrevision=2"), nil, "", true, nil},
		"too long":  {"nor is what is too long", controlled("RayJob", "a23456789012345678901234567890123456789012345678901234567890"), nil, "", true, nil},
	} {
		t.Run(name, func(t *testing.T) {
			st := &state{key: types.NamespacedName{Namespace: "ns", Name: "c"}, object: &unstructured.Unstructured{Object: map[string]any{}}}
			st.object.SetOwnerReferences(c.owners)
			st.object.SetLabels(c.labels)
			if c.jobUID != "" {
				job := ownerObject(v1alpha1.TargetRayJob)
				job.SetName("j")
				job.SetUID(c.jobUID)
				st.jobs = append(st.jobs, *job)
			}
			if diff := cmp.Diff(c.want, st.headNames("k8s.example", c.short)); diff != "" {
				t.Errorf("%s (-want +got):\n%s", c.reason, diff)
			}
		})
	}
}

func TestSlimOwner(t *testing.T) {
	now := time.Now().UTC().Format(time.RFC3339)
	service := object(t, `{"apiVersion":"ray.io/v1","kind":"RayService","metadata":{"namespace":"ns","name":"s","uid":"u","resourceVersion":"1","labels":{"a":"b"},
		"annotations":{"big":"text","raytls.io/policy":"p"}},
		"spec":{"serveConfigV2":"big","upgradeStrategy":{"type":"None"},"rayClusterConfig":{"headGroupSpec":{"template":{"metadata":{"annotations":{"raytls.io/restarted-for":"v","other":"w"}},"spec":{"containers":[{"resources":{"limits":{"cpu":"not a quantity"}}}]}}}}},
		"status":{"lastUpdateTime":"`+now+`","activeServiceStatus":{"rayClusterName":"c","applicationStatuses":{}},"pendingServiceStatus":{"trafficRoutedPercent":5}}}`)
	want := object(t, `{"apiVersion":"ray.io/v1","kind":"RayService","metadata":{"namespace":"ns","name":"s","uid":"u","resourceVersion":"1","labels":{"a":"b"},
		"annotations":{"raytls.io/policy":"p"}},
		"spec":{"upgradeStrategy":{"type":"None"},"rayClusterConfig":{"headGroupSpec":{"template":{"metadata":{"annotations":{"raytls.io/restarted-for":"v"}}}}}},
		"status":{"activeServiceStatus":{"rayClusterName":"c"},"pendingServiceStatus":{"trafficRoutedPercent":5}}}`)
	slim, err := SlimOwner(service)
	if err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(want, slim); diff != "" {
		t.Errorf("only what is looked at is kept (-want +got):\n%s", diff)
	}
	later := want.DeepCopy()
	later.SetResourceVersion("2")
	if !sameOwner(want, later) {
		t.Error("a new version of the same is no change")
	}
	later.SetLabels(nil)
	if sameOwner(want, later) {
		t.Error("labels are looked at")
	}
	cluster := &unstructured.Unstructured{Object: map[string]any{"apiVersion": "ray.io/v1", "kind": "RayCluster", "spec": map[string]any{"a": "b"}}}
	if same, err := SlimOwner(cluster); err != nil || !cmp.Equal(same, cluster) {
		t.Errorf("a RayCluster is kept whole: got %v, %v", same, err)
	}
}

func TestEarlier(t *testing.T) {
	for reason, c := range map[string]struct{ at, want time.Time }{
		"what was asked is as old as it says":       {epoch().Add(-time.Hour), epoch().Add(-time.Hour)},
		"nothing was asked after now, whoever says": {epoch().AddDate(9, 0, 0), epoch()},
	} {
		if got := earlier(c.at, epoch()); !got.Equal(c.want) {
			t.Errorf("%s: got %s", reason, got)
		}
	}
}
