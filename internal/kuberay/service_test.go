package kuberay

import (
	"encoding/json"
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	utiljson "k8s.io/apimachinery/pkg/util/json"

	"github.com/raytls/raytls/api/v1alpha1"
)

func object(t *testing.T, text string) *unstructured.Unstructured {
	t.Helper()
	o := &unstructured.Unstructured{}
	if err := utiljson.Unmarshal([]byte(text), &o.Object); err != nil {
		t.Fatal(err)
	}
	return o
}

func TestRestartFor(t *testing.T) {
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
		"replaced": {
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
			got, err := json.Marshal(RestartFor(service, "v"))
			if err != nil {
				t.Fatal(err)
			}
			if diff := cmp.Diff(c.want, string(got)); diff != "" {
				t.Errorf("%s (-want +got):\n%s", c.reason, diff)
			}
		})
	}
}

func TestNoOwnerIsLargeInTheCache(t *testing.T) {
	labels := map[string]string{labelCronJob: "nightly"}
	for i := range 20_000 {
		labels[fmt.Sprint("label-", i)] = "x"
	}
	owners := make([]metav1.OwnerReference, 10_000)
	owners[7] = metav1.OwnerReference{Name: "nightly", Controller: new(true)}
	job := NewObject(v1alpha1.TargetRayJob)
	job.SetLabels(labels)
	job.SetOwnerReferences(owners)
	job.Object["spec"] = map[string]any{"managedBy": strings.Repeat("x", 1<<20)}
	out, err := SlimOwner(job)
	if err != nil {
		t.Fatal(err)
	}
	slim := out.(*unstructured.Unstructured)
	if text, err := slim.MarshalJSON(); err != nil || len(text) > 4<<10 {
		t.Errorf("%d bytes are kept: %v", len(text), err)
	}
	if by := metav1.GetControllerOf(slim); by == nil || by.Name != "nightly" || slim.GetLabels()[labelCronJob] != "nightly" {
		t.Errorf("what is read is lost: %v, %v", by, slim.GetLabels())
	}
}

func TestSlimOwner(t *testing.T) {
	now := time.Now().UTC().Format(time.RFC3339)
	service := object(t, `{"apiVersion":"ray.io/v1","kind":"RayService","metadata":{"namespace":"ns","name":"s","uid":"u","resourceVersion":"1","labels":{"a":"b"},
		"annotations":{"big":"text"}},
		"spec":{"serveConfigV2":"big","upgradeStrategy":{"type":"None"},"rayClusterConfig":{"headGroupSpec":{"template":{"metadata":{"annotations":{"raytls.io/restarted-for":"v","other":"w"}},"spec":{"containers":[{"resources":{"limits":{"cpu":"not a quantity"}}}]}}}}},
		"status":{"lastUpdateTime":"`+now+`","activeServiceStatus":{"rayClusterName":"c","applicationStatuses":{}},"pendingServiceStatus":{"trafficRoutedPercent":5}}}`)
	want := object(t, `{"apiVersion":"ray.io/v1","kind":"RayService","metadata":{"namespace":"ns","name":"s","uid":"u","resourceVersion":"1","labels":{"a":"b"}},
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
