//go:build ray

package ray

import (
	rayv1 "github.com/ray-project/kuberay/ray-operator/apis/ray/v1"
	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/resource"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/raytls/raytls/api/v1alpha1"
)

// clusterOption changes a RayCluster before it is created.
type clusterOption func(*rayv1.RayCluster)

// newCluster is a RayCluster of a head that takes no work, and of the worker groups that options add.
func newCluster(name string, options ...clusterOption) *rayv1.RayCluster {
	cluster := &rayv1.RayCluster{
		ObjectMeta: metav1.ObjectMeta{Name: name},
		Spec:       clusterSpec(),
	}
	for _, option := range options {
		option(cluster)
	}
	return cluster
}

func clusterSpec(options ...clusterOption) rayv1.RayClusterSpec {
	cluster := &rayv1.RayCluster{Spec: rayv1.RayClusterSpec{
		RayVersion: rayVersion,
		HeadGroupSpec: rayv1.HeadGroupSpec{
			RayStartParams: map[string]string{"num-cpus": "0", "object-store-memory": "200000000", "disable-usage-stats": "true", "dashboard-host": "0.0.0.0"},
			Template:       podTemplate("ray-head", "1Gi", "4Gi"),
		},
	}}
	for _, option := range options {
		option(cluster)
	}
	return cluster.Spec
}

// workers adds a group of workers of one CPU each.
func workers(group string, replicas, most int32) clusterOption {
	return func(c *rayv1.RayCluster) {
		c.Spec.WorkerGroupSpecs = append(c.Spec.WorkerGroupSpecs, rayv1.WorkerGroupSpec{
			GroupName: group, Replicas: &replicas, MinReplicas: new(int32(0)), MaxReplicas: &most,
			RayStartParams: map[string]string{"num-cpus": "1", "object-store-memory": "200000000"},
			Template:       podTemplate("ray-worker", "512Mi", "2Gi"),
		})
	}
}

func podTemplate(container, memory, limit string) corev1.PodTemplateSpec {
	return corev1.PodTemplateSpec{Spec: corev1.PodSpec{
		TerminationGracePeriodSeconds: new(int64(5)),
		Containers: []corev1.Container{{
			Name: container, Image: rayImage,
			// Machines with few cores are slow at starting processes, and memory is not what is tested.
			Env: []corev1.EnvVar{
				{Name: "RAY_memory_monitor_refresh_ms", Value: "0"},
				{Name: "OMP_NUM_THREADS", Value: "1"},
				{Name: "RAY_worker_register_timeout_seconds", Value: "180"},
			},
			Resources: corev1.ResourceRequirements{
				Requests: corev1.ResourceList{"cpu": resource.MustParse("100m"), "memory": resource.MustParse(memory)},
				Limits:   corev1.ResourceList{"memory": resource.MustParse(limit)},
			},
		}},
	}}
}

// everyRayContainer changes the Ray container of each template that is there.
func everyRayContainer(change func(*corev1.Container)) clusterOption {
	return func(c *rayv1.RayCluster) {
		change(&c.Spec.HeadGroupSpec.Template.Spec.Containers[0])
		for i := range c.Spec.WorkerGroupSpecs {
			change(&c.Spec.WorkerGroupSpecs[i].Template.Spec.Containers[0])
		}
	}
}

// withEnv sets a variable in each Ray container.
func withEnv(name, value string) clusterOption {
	return everyRayContainer(func(c *corev1.Container) { c.Env = append(c.Env, corev1.EnvVar{Name: name, Value: value}) })
}

// newPolicy covers all clusters of its namespace, and restarts running ones at once.
func newPolicy() *v1alpha1.RayTLSPolicy {
	policy := &v1alpha1.RayTLSPolicy{ObjectMeta: metav1.ObjectMeta{Name: "default"}}
	policy.Spec.Selector = &metav1.LabelSelector{}
	policy.Spec.Rollout.EnablePolicy = v1alpha1.EnableImmediate
	return policy
}
