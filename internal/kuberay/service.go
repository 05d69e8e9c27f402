package kuberay

import (
	rayv1 "github.com/ray-project/kuberay/ray-operator/apis/ray/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/types"

	"github.com/raytls/raytls/api/v1alpha1"
	"github.com/raytls/raytls/internal/jsonpatch"
)

// Service is what a RayService is asked for and says of its clusters.
type Service struct {
	Name string
	UID  types.UID
	// Labels are what its next RayCluster has as labels.
	Labels map[string]string
	// Active serves and Pending is about to take over; each names a RayCluster or is empty.
	Active, Pending string
	// Shifting reports whether requests go to both clusters, and Deleting whether the RayService is being deleted.
	Shifting, Deleting bool
	// NeverUpgrades reports whether a change of the RayService makes no new cluster.
	NeverUpgrades bool
	// ManagedBy names the controller that runs the RayService instead of KubeRay; empty for KubeRay.
	ManagedBy string
	// RestartedFor is the annotation of the head's template whose change makes a new cluster.
	RestartedFor string
}

// ReadService reads a RayService.
func ReadService(object *unstructured.Unstructured) Service {
	text := func(path ...string) string {
		value, _, _ := unstructured.NestedString(object.Object, path...)
		return value
	}
	status := jsonpatch.Map(object.Object["status"])
	return Service{
		Name: object.GetName(), UID: object.GetUID(), Labels: object.GetLabels(),
		Active:        text("status", "activeServiceStatus", "rayClusterName"),
		Pending:       text("status", "pendingServiceStatus", "rayClusterName"),
		Shifting:      integer(jsonpatch.Map(status["pendingServiceStatus"])["trafficRoutedPercent"]) > 0,
		Deleting:      !object.GetDeletionTimestamp().IsZero(),
		NeverUpgrades: text("spec", "upgradeStrategy", "type") == string(rayv1.RayServiceUpgradeNone),
		ManagedBy:     ManagedBy(object),
		RestartedFor:  text(restartedForPath()...),
	}
}

// ClusterRestartedFor is the annotation with which a RayService's RayCluster was made.
func ClusterRestartedFor(spec map[string]any) string {
	value, _, _ := unstructured.NestedString(spec, restartedForPath()[2:]...)
	return value
}

// RestartFor gives the operations that have a RayService replace its cluster: they change nothing but the annotation of the
// head's template, which KubeRay compares.
func RestartFor(object *unstructured.Unstructured, value string) []jsonpatch.Operation {
	return jsonpatch.Set(object.Object, value, restartedForPath()...)
}

func restartedForPath() []string {
	return []string{"spec", "rayClusterConfig", "headGroupSpec", "template", "metadata", "annotations", v1alpha1.AnnotationRestartedFor}
}
