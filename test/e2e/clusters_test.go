//go:build e2e

package e2e

import (
	"context"
	"os"
	"os/exec"
	"path/filepath"

	. "github.com/onsi/ginkgo/v2"
	. "github.com/onsi/gomega"
	rayv1 "github.com/ray-project/kuberay/ray-operator/apis/ray/v1"
	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/resource"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/util/intstr"
	"sigs.k8s.io/controller-runtime/pkg/client"
	"sigs.k8s.io/yaml"

	"github.com/raytls/raytls/api/v1alpha1"
)

// clusterOption changes a RayCluster before it is created.
type clusterOption func(*rayv1.RayCluster)

// newCluster is a RayCluster of a head and the worker groups that options add. It is Ready seconds after its Ray
// processes are, and its pods end within two seconds.
func newCluster(name string, options ...clusterOption) *rayv1.RayCluster {
	cluster := &rayv1.RayCluster{
		ObjectMeta: metav1.ObjectMeta{Name: name},
		Spec: rayv1.RayClusterSpec{
			RayVersion: rayVersion,
			HeadGroupSpec: rayv1.HeadGroupSpec{
				RayStartParams: map[string]string{"dashboard-host": "0.0.0.0"},
				Template:       podTemplate("ray-head"),
			},
		},
	}
	for _, option := range options {
		option(cluster)
	}
	return cluster
}

func podTemplate(container string) corev1.PodTemplateSpec {
	// KubeRay's own probes wait for ten seconds before they look.
	probe := &corev1.Probe{
		ProbeHandler:  corev1.ProbeHandler{HTTPGet: &corev1.HTTPGetAction{Path: "/api/local_raylet_healthz", Port: intstr.FromInt32(52365)}},
		PeriodSeconds: 1, TimeoutSeconds: 2, FailureThreshold: 300,
	}
	return corev1.PodTemplateSpec{Spec: corev1.PodSpec{
		TerminationGracePeriodSeconds: new(int64(2)),
		Containers: []corev1.Container{{
			Name: container, Image: rayImage, ReadinessProbe: probe, LivenessProbe: probe.DeepCopy(),
			Resources: corev1.ResourceRequirements{
				Requests: corev1.ResourceList{"cpu": resource.MustParse("100m"), "memory": resource.MustParse("256Mi")},
				Limits:   corev1.ResourceList{"memory": resource.MustParse("1Gi")},
			},
		}},
	}}
}

// workers adds a worker group.
func workers(group string, replicas int32) clusterOption {
	return func(c *rayv1.RayCluster) {
		c.Spec.WorkerGroupSpecs = append(c.Spec.WorkerGroupSpecs, rayv1.WorkerGroupSpec{
			GroupName: group, Replicas: &replicas, MinReplicas: new(int32(0)), MaxReplicas: new(int32(10)),
			RayStartParams: map[string]string{}, Template: podTemplate("ray-worker"),
		})
	}
}

// suspended is for a cluster that is to have no pods before it is injected.
func suspended(c *rayv1.RayCluster) { c.Spec.Suspend = new(true) }

// everyPod changes the templates that are there already.
func everyPod(change func(*corev1.PodSpec)) clusterOption {
	return func(c *rayv1.RayCluster) {
		change(&c.Spec.HeadGroupSpec.Template.Spec)
		for i := range c.Spec.WorkerGroupSpecs {
			change(&c.Spec.WorkerGroupSpecs[i].Template.Spec)
		}
	}
}

// policyOption changes a policy before it is created.
type policyOption func(*v1alpha1.RayTLSPolicy)

// newPolicy is a policy for the named cluster, or with an empty name for all of the namespace.
func newPolicy(name, cluster string, options ...policyOption) *v1alpha1.RayTLSPolicy {
	policy := &v1alpha1.RayTLSPolicy{ObjectMeta: metav1.ObjectMeta{Name: name}}
	if cluster == "" {
		policy.Spec.Selector = &metav1.LabelSelector{}
	} else {
		policy.Spec.TargetRef = &v1alpha1.TargetReference{Kind: v1alpha1.TargetRayCluster, Name: cluster}
	}
	for _, option := range options {
		option(policy)
	}
	return policy
}

// immediate is for policies that restart clusters which run.
func immediate(p *v1alpha1.RayTLSPolicy) { p.Spec.Rollout.EnablePolicy = v1alpha1.EnableImmediate }

func shortName(p *v1alpha1.RayTLSPolicy) { p.Spec.PodCertificate.HeadServiceShortName = true }

// sample reads an object of config/samples.
func sample[T client.Object](file string, into T) T {
	GinkgoHelper()
	text, err := os.ReadFile(filepath.Join(root, "config/samples", file))
	Expect(err).NotTo(HaveOccurred())
	Expect(yaml.UnmarshalStrict(text, into)).To(Succeed())
	return into
}

// kubectl runs kubectl and gives what it printed, errors included.
func kubectl(ctx context.Context, args ...string) string {
	out, err := exec.CommandContext(ctx, "kubectl", args...).CombinedOutput()
	if err != nil {
		return string(out) + err.Error()
	}
	return string(out)
}
