package kuberay

import (
	"testing"

	"github.com/google/go-cmp/cmp"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/types"
)

func TestReadCluster(t *testing.T) {
	for name, c := range map[string]struct {
		reason, object string
		want           Cluster
	}{
		"new":             {"a cluster without a status was never ready", `{}`, Cluster{}},
		"condition":       {"the condition says so", `{"status":{"conditions":[{"type":"RayClusterProvisioned","status":"True"}]}}`, Cluster{Provisioned: true}},
		"condition false": {"the condition has the last word", `{"status":{"state":"ready","conditions":[{"type":"RayClusterProvisioned","status":"False"}]}}`, Cluster{}},
		"old":             {"before the condition existed, the state said so", `{"status":{"state":"ready"}}`, Cluster{Provisioned: true}},
		"old, was once":   {"or that it was ready once", `{"status":{"stateTransitionTimes":{"ready":"2026-01-02T03:04:05Z"}}}`, Cluster{Provisioned: true}},
		"odd types":       {"what is of the wrong type is as good as missing", `{"spec":{"suspend":"yes","upgradeStrategy":[],"workerGroupSpecs":{},"managedBy":1},"status":[]}`, Cluster{}},
		"bounds": {
			"KubeRay keeps replicas between minReplicas and maxReplicas, or nobody could wait for all pods",
			`{"spec":{"workerGroupSpecs":[{"groupName":"more","replicas":20,"minReplicas":0,"maxReplicas":10},{"groupName":"less","replicas":1,"minReplicas":3,"maxReplicas":10},
			{"groupName":"odd","replicas":-1},{"groupName":"none","minReplicas":2,"maxReplicas":1}]}}`,
			Cluster{Replicas: map[string]int32{"more": 10, "less": 3, "odd": 0, "none": 2}},
		},
		"everything": {
			"what KubeRay is asked for is read from raw JSON, quantities that nobody can parse notwithstanding",
			`{"metadata":{"generation":3,"labels":{"kueue.x-k8s.io/queue-name":"q"},"annotations":{"ray.io/ft-enabled":"true","ray.io/disable-provisioned-head-restart":"true"}},
			"spec":{"suspend":true,"managedBy":"kueue.x-k8s.io/multikueue","upgradeStrategy":{"type":"Recreate"},"workerGroupSpecs":[
			{"groupName":"a","replicas":2,"minReplicas":1,"numOfHosts":4,"template":{"spec":{"containers":[{"resources":{"limits":{"cpu":"1e-9999999"}}}]}}},{"groupName":"b","minReplicas":1},{"groupName":"c","replicas":4,"suspend":true},{"groupName":"d"}]},
			"status":{"observedGeneration":3,"conditions":[{"type":"ReplicaFailure","status":"True","message":"exceeded quota"}]}}`,
			Cluster{
				Suspended: true, FaultTolerant: true, Recreate: true, Observed: true, Queued: true, NoHeadRestart: true,
				ManagedBy: "kueue.x-k8s.io/multikueue", PodsMissing: "exceeded quota", Replicas: map[string]int32{"a": 2, "b": 1, "c": 0}, Hosts: map[string]int32{"a": 4},
			},
		},
	} {
		t.Run(name, func(t *testing.T) {
			c.want.Observed = c.want.Observed || name != "everything"
			c.want.GCSPort = 6379
			if c.want.Replicas == nil {
				c.want.Replicas = map[string]int32{}
			}
			if diff := cmp.Diff(c.want, ReadCluster(object(t, c.object))); diff != "" {
				t.Errorf("%s (-want +got):\n%s", c.reason, diff)
			}
		})
	}
}

func TestHeadNames(t *testing.T) {
	owned := func(kind, name string) []metav1.OwnerReference {
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
		"service":   {"a RayService's Service", owned("RayService", "s"), nil, "", false, []string{"s-head-svc.ns", "s-head-svc.ns.svc", "s-head-svc.ns.svc.k8s.example"}},
		"short":     {"by its bare name too where that is asked for", owned("RayJob", "j"), nil, "u", true, []string{"j-head-svc.ns", "j-head-svc.ns.svc", "j-head-svc.ns.svc.k8s.example", "j-head-svc"}},
		"unseen":    {"also before the owner is in the cache, since the first pod needs it", owned("RayJob", "j"), nil, "", false, []string{"j-head-svc.ns", "j-head-svc.ns.svc", "j-head-svc.ns.svc.k8s.example"}},
		"another":   {"another object of the name is not the owner", owned("RayJob", "j"), nil, "v", true, nil},
		"label":     {"anybody can label", nil, map[string]string{"ray.io/originated-from-crd": "RayJob", "ray.io/originated-from-cr-name": "j"}, "", true, nil},
		"not a DNS": {"what no Service can be called is no name", owned("RayJob", "a,b\nrevision=2"), nil, "", true, nil},
		"too long":  {"nor is what is too long", owned("RayJob", "a23456789012345678901234567890123456789012345678901234567890"), nil, "", true, nil},
	} {
		t.Run(name, func(t *testing.T) {
			cluster := &metav1.ObjectMeta{Namespace: "ns", Name: "c", OwnerReferences: c.owners, Labels: c.labels}
			var existing *unstructured.Unstructured
			if c.jobUID != "" {
				existing = &unstructured.Unstructured{}
				existing.SetUID(c.jobUID)
			}
			if diff := cmp.Diff(c.want, HeadServiceNames(cluster, existing, "k8s.example", c.short)); diff != "" {
				t.Errorf("%s (-want +got):\n%s", c.reason, diff)
			}
		})
	}
}

func TestGCSPort(t *testing.T) {
	for parameters, want := range map[string]uint16{
		`{}`: 6379, `{"num-cpus":"0"}`: 6379, `{"port":"7000"}`: 7000, `{"port":"65535"}`: 65535,
		`{"port":"0"}`: 0, `{"port":"65536"}`: 0, `{"port":"72915"}`: 0, `{"port":"-1"}`: 0, `{"port":"22@example.com"}`: 0, `{"port":7000}`: 0, `{"port":[]}`: 0,
	} {
		cluster := ReadCluster(object(t, `{"spec":{"headGroupSpec":{"rayStartParams":`+parameters+`}}}`))
		if cluster.GCSPort != want {
			t.Errorf("rayStartParams %s give port %d, want %d", parameters, cluster.GCSPort, want)
		}
	}
}
