package kuberay

import (
	"strconv"
	"strings"

	rayv1 "github.com/ray-project/kuberay/ray-operator/apis/ray/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"

	"github.com/raytls/raytls/api/v1alpha1"
	"github.com/raytls/raytls/internal/jsonpatch"
)

// Cluster is what KubeRay is asked for and says of one RayCluster. ReadCluster reads raw JSON, so fields of the wrong type and
// quantities that take seconds to parse do no harm.
type Cluster struct {
	// Suspended reports whether the cluster is meant to have no pods.
	Suspended bool
	// Provisioned reports whether all pods of the cluster were ready at one moment.
	Provisioned bool
	// FaultTolerant reports whether the GCS keeps its state outside of the head.
	FaultTolerant bool
	// Recreate reports whether KubeRay restarts all pods when the spec changes. Observed reports whether it has seen the newest spec.
	Recreate, Observed bool
	// Queued reports whether Kueue runs the cluster.
	Queued bool
	// NoHeadRestart reports whether KubeRay makes no new head once the cluster was ready.
	NoHeadRestart bool
	// ManagedBy names the controller that runs the RayCluster instead of KubeRay; empty for KubeRay.
	ManagedBy string
	// PodsMissing is why KubeRay cannot create pods, in its own words; empty while it says nothing.
	PodsMissing string
	// GCSPort is the port of the head's GCS; zero if rayStartParams names none that can be.
	GCSPort uint16
	// Replicas is how many replicas each worker group is meant to have. Hosts is how many pods make one, for groups where one pod does not.
	Replicas, Hosts map[string]int32
}

// ReadCluster reads a RayCluster.
func ReadCluster(object *unstructured.Unstructured) Cluster {
	spec, status := jsonpatch.Map(object.Object["spec"]), jsonpatch.Map(object.Object["status"])
	replicaFailure := condition(status, rayv1.RayClusterReplicaFailure)
	podsMissing := jsonpatch.String(status["reason"])
	if replicaFailure["status"] == string(metav1.ConditionTrue) {
		podsMissing = jsonpatch.String(replicaFailure["message"])
	}
	return Cluster{
		Suspended:     spec["suspend"] == true,
		Provisioned:   provisioned(status),
		FaultTolerant: spec["gcsFaultToleranceOptions"] != nil || object.GetAnnotations()[annotationFaultTolerant] == "true",
		Recreate:      jsonpatch.Map(spec["upgradeStrategy"])["type"] == string(rayv1.RayClusterRecreate),
		Observed:      integer(status["observedGeneration"]) >= object.GetGeneration(),
		Queued:        queued(object),
		NoHeadRestart: object.GetAnnotations()[AnnotationNoHeadRestart] == "true",
		ManagedBy:     ManagedBy(object),
		PodsMissing:   podsMissing,
		GCSPort:       gcsPort(spec),
		Replicas:      replicas(spec),
		Hosts:         hosts(spec),
	}
}

// defaultGCSPort is Ray's own.
const defaultGCSPort = 6379

func gcsPort(spec map[string]any) uint16 {
	parameters := jsonpatch.Map(jsonpatch.Map(spec["headGroupSpec"])["rayStartParams"])
	if parameters["port"] == nil {
		return defaultGCSPort
	}
	port, err := strconv.ParseUint(strings.TrimSpace(jsonpatch.String(parameters["port"])), 10, 16)
	if err != nil {
		return 0
	}
	return uint16(port)
}

// ManagedBy names the controller that runs the RayCluster or RayService instead of KubeRay; empty for KubeRay.
func ManagedBy(object *unstructured.Unstructured) string {
	by := jsonpatch.String(jsonpatch.Map(object.Object["spec"])["managedBy"])
	if by == managedByKubeRay {
		return ""
	}
	return by
}

// provisioned goes by the condition and, before KubeRay had that, by the state.
func provisioned(status map[string]any) bool {
	if found := condition(status, rayv1.RayClusterProvisioned); found != nil {
		return found["status"] == string(metav1.ConditionTrue)
	}
	// KubeRay 1.1 has the state alone.
	return jsonpatch.Map(status["stateTransitionTimes"])[string(rayv1.Ready)] != nil || status["state"] == string(rayv1.Ready)
}

// condition finds a condition of the status; nil if there is none.
func condition(status map[string]any, kind rayv1.RayClusterConditionType) map[string]any {
	for _, item := range jsonpatch.List(status["conditions"]) {
		if found := jsonpatch.Map(item); found["type"] == string(kind) {
			return found
		}
	}
	return nil
}

// queued goes by Kueue's label. KubeRay also copies it from a RayJob, which Kueue runs without regard to its cluster.
func queued(object metav1.Object) bool {
	owner, found := Owner(object)
	return object.GetLabels()[labelQueue] != "" && (!found || owner.Kind != v1alpha1.TargetRayJob)
}

// replicas goes by what KubeRay makes of each group's replicas: at least minReplicas, at most maxReplicas.
func replicas(spec map[string]any) map[string]int32 {
	out := map[string]int32{}
	for _, item := range jsonpatch.List(spec["workerGroupSpecs"]) {
		group := jsonpatch.Map(item)
		name := jsonpatch.String(group["groupName"])
		wanted, least := group["replicas"], group["minReplicas"]
		if wanted == nil {
			wanted = least
		}
		switch {
		case group["suspend"] == true:
			out[name] = 0
		case wanted != nil:
			count := max(0, integer(wanted), integer(least))
			if most := group["maxReplicas"]; most != nil {
				count = min(count, max(integer(most), integer(least), 0))
			}
			out[name] = int32(min(count, 1<<30))
		}
	}
	return out
}

// hosts goes by numOfHosts. KubeRay takes a missing one for 1.
func hosts(spec map[string]any) map[string]int32 {
	var out map[string]int32
	for _, item := range jsonpatch.List(spec["workerGroupSpecs"]) {
		group := jsonpatch.Map(item)
		if count := integer(group["numOfHosts"]); count > 1 {
			if out == nil {
				out = map[string]int32{}
			}
			out[jsonpatch.String(group["groupName"])] = int32(min(count, 1<<16))
		}
	}
	return out
}

// integer reads a whole number of any of the Go types that decoders make of one; zero for anything else.
func integer(v any) int64 {
	switch n := v.(type) {
	case int64:
		return n
	case float64:
		return int64(n)
	}
	return 0
}
