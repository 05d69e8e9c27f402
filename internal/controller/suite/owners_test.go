package suite_test

import (
	"slices"
	"time"

	. "github.com/onsi/ginkgo/v2"
	. "github.com/onsi/gomega"
	rayv1 "github.com/ray-project/kuberay/ray-operator/apis/ray/v1"
	apiextensionsv1 "k8s.io/apiextensions-apiserver/pkg/apis/apiextensions/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	apimeta "k8s.io/apimachinery/pkg/api/meta"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"sigs.k8s.io/controller-runtime/pkg/client"
	"sigs.k8s.io/controller-runtime/pkg/envtest"

	"github.com/raytls/raytls/api/v1alpha1"
)

// rayJob makes a RayJob, and returns it as the API server has it.
func (w *world) rayJob(name string, edits ...edit) *unstructured.Unstructured {
	GinkgoHelper()
	job := &unstructured.Unstructured{Object: map[string]any{
		"metadata": map[string]any{"namespace": w.ns, "name": name},
		"spec":     map[string]any{"entrypoint": "true", "rayClusterSpec": w.rayCluster("x").Object["spec"]},
	}}
	job.SetGroupVersionKind(rayv1.GroupVersion.WithKind("RayJob"))
	for _, e := range edits {
		e(job)
	}
	Expect(w.admin.Create(w.ctx, job)).To(Succeed())
	return job
}

// runOn has the RayJob be in that status on that cluster.
func (w *world) runOn(job *unstructured.Unstructured, cluster string, status rayv1.JobDeploymentStatus) {
	GinkgoHelper()
	Eventually(func(g Gomega) {
		g.Expect(w.admin.Get(w.ctx, client.ObjectKeyFromObject(job), job)).To(Succeed())
		g.Expect(unstructured.SetNestedField(job.Object, cluster, "status", "rayClusterName")).To(Succeed())
		g.Expect(unstructured.SetNestedField(job.Object, string(status), "status", "jobDeploymentStatus")).To(Succeed())
		g.Expect(w.admin.Status().Update(w.ctx, job)).To(Succeed())
	}).Should(Succeed())
}

// childOf makes the RayCluster of an owner as KubeRay does: with the owner's labels, its own, and a controller reference.
func childOf(owner *unstructured.Unstructured) edit {
	return func(c *unstructured.Unstructured) {
		labels := c.GetLabels()
		ownedByObject(c, owner)
		for _, from := range []map[string]string{labels, owner.GetLabels(), c.GetLabels()} {
			for key, value := range from {
				label(key, value)(c)
			}
		}
	}
}

var _ = Describe("A policy for a RayJob", func() {
	var w *world
	BeforeEach(func() { w = newWorld() })

	It("covers its cluster and that of a retry, with the RayJob's own name in the heads' certificates, and nothing is left when it ends", func() {
		w.policy("p", forOwner(v1alpha1.TargetRayJob, "train", func(s *v1alpha1.RayTLSPolicySpec) {
			s.PodCertificate.HeadDNSNames, s.PodCertificate.HeadServiceShortName = []string{"ray.example.com"}, true
		}))
		w.eventually(func(g Gomega) {
			condition := w.condition("p", v1alpha1.ConditionReady)
			g.Expect(condition.Reason).To(Equal(v1alpha1.ReasonTargetNotFound))
			g.Expect(condition.Message).To(ContainSubstring("RayJob train does not exist in this namespace; the RayClusters that KubeRay creates for it are encrypted from their start"))
		})
		job := w.rayJob("train")
		w.eventually(func(g Gomega) {
			g.Expect(w.condition("p", v1alpha1.ConditionReady).Reason).To(Equal(v1alpha1.ReasonNoClusters))
		})
		w.runOn(job, "train-1", rayv1.JobDeploymentStatusInitializing)
		w.create("other")
		w.start("p", "train-1", childOf(job))
		service := "train-head-svc." + w.ns
		Expect(w.profile("train-1").HeadDNSNames).To(Equal([]string{"ray.example.com", "train-head-svc", service, service + ".svc", service + ".svc." + clusterDomain}))
		w.runOn(job, "train-1", rayv1.JobDeploymentStatusRunning)

		// A retry.
		w.ray.deleteCluster(w.ctx, w.get("train-1"))
		w.runOn(job, "train-2", rayv1.JobDeploymentStatusInitializing)
		w.start("p", "train-2", childOf(job))
		w.eventually(func(g Gomega) { g.Expect(gone(w.authority("train-1"))).To(BeTrue()) })
		w.runOn(job, "train-2", rayv1.JobDeploymentStatusComplete)
		secret, err := w.caSecret("train-2")
		Expect(err).NotTo(HaveOccurred())
		Expect(secret.OwnerReferences).To(ConsistOf(HaveField("UID", w.get("train-2").GetUID())), "the garbage collector deletes it with the cluster")
		w.quiet()

		// shutdownAfterJobFinishes.
		w.ray.deleteCluster(w.ctx, w.get("train-2"))
		w.eventually(func(g Gomega) {
			g.Expect(gone(w.authority("train-2"))).To(BeTrue())
			g.Expect(gone(w.scripts())).To(BeTrue())
			g.Expect(w.condition("p", v1alpha1.ConditionReady).Reason).To(Equal(v1alpha1.ReasonNoClusters))
		})
		Expect(injectedTemplates(w.get("other"))).To(BeZero(), "clusters of others are not covered")
		Expect(w.admin.Delete(w.ctx, job)).To(Succeed())
		w.eventually(func(g Gomega) {
			g.Expect(w.condition("p", v1alpha1.ConditionReady).Reason).To(Equal(v1alpha1.ReasonTargetNotFound))
		})
	})

	It("gives way to one that names the cluster, and takes over from a selector", func() {
		job := w.rayJob("train")
		w.policy("all", selecting())
		w.start("all", "train-1", childOf(job))
		w.policy("job", forOwner(v1alpha1.TargetRayJob, "train"))
		w.encrypted("job", "train-1")
		w.policy("one", targeting("train-1"))
		w.encrypted("one", "train-1")
		w.eventually(func(g Gomega) {
			for _, policy := range []string{"all", "job"} {
				g.Expect(w.condition(policy, v1alpha1.ConditionReady).Reason).To(Equal(v1alpha1.ReasonNoClusters), policy)
			}
		})
	})

	It("covers what labels alone say was made for it, but vouches for no name by them", func() {
		w.policy("p", forOwner(v1alpha1.TargetRayJob, "train"))
		w.start("p", "orphan", label("ray.io/originated-from-crd", "RayJob"), label("ray.io/originated-from-cr-name", "train"))
		Expect(w.profile("orphan").HeadDNSNames).To(BeEmpty())
	})

	It("vouches for no name of another object of the owner's name", func() {
		w.rayJob("train")
		w.policy("p", forOwner(v1alpha1.TargetRayJob, "train"))
		w.start("p", "forged", owned("RayJob", "train"))
		Expect(w.profile("forged").HeadDNSNames).To(BeEmpty())
	})
})

var _ = Describe("A policy for a RayCronJob", func() {
	It("says that there are none where KubeRay has none, and covers their clusters as soon as it has", func() {
		w := newWorld()
		if !newestKubeRay() {
			Skip("this KubeRay has no RayCronJob")
		}
		crds := slices.DeleteFunc(slices.Clone(env.rays), func(c *apiextensionsv1.CustomResourceDefinition) bool { return c.Spec.Names.Kind != "RayCronJob" })
		Expect(crds).To(HaveLen(1))
		Expect(envtest.UninstallCRDs(env.server.Config, envtest.CRDInstallOptions{CRDs: crds})).To(Succeed())
		Eventually(func() bool {
			list := &unstructured.UnstructuredList{}
			list.SetGroupVersionKind(schema.GroupVersionKind{Group: "ray.io", Version: "v1", Kind: "RayCronJobList"})
			err := w.admin.List(w.ctx, list)
			return apierrors.IsNotFound(err) || apimeta.IsNoMatchError(err)
		}).Should(BeTrue())
		restartOperator()
		w.policy("p", forOwner(v1alpha1.TargetRayCronJob, "nightly"))
		w.eventually(func(g Gomega) {
			condition := w.condition("p", v1alpha1.ConditionAccepted)
			g.Expect(condition.Reason).To(Equal(v1alpha1.ReasonTargetKindNotServed))
			g.Expect(condition.Status).To(Equal(metav1.ConditionFalse))
			g.Expect(condition.Message).To(ContainSubstring("does not serve RayCronJob of ray.io/v1"))
		})
		_, err := envtest.InstallCRDs(env.server.Config, envtest.CRDInstallOptions{CRDs: crds, MaxTime: time.Minute})
		Expect(err).NotTo(HaveOccurred())
		Eventually(func() string { return w.condition("p", v1alpha1.ConditionAccepted).Reason }).
			WithTimeout(150*time.Second).WithPolling(time.Second).Should(Equal(v1alpha1.ReasonAccepted), "without a restart of the operator")
		w.eventually(func(g Gomega) {
			g.Expect(w.condition("p", v1alpha1.ConditionReady).Reason).To(Equal(v1alpha1.ReasonTargetNotFound))
		})

		cron := &unstructured.Unstructured{Object: map[string]any{
			"metadata": map[string]any{"namespace": w.ns, "name": "nightly"},
			"spec": map[string]any{"schedule": "0 3 * * *", "jobTemplate": map[string]any{
				"entrypoint": "true", "rayClusterSpec": w.rayCluster("x").Object["spec"],
			}},
		}}
		cron.SetGroupVersionKind(schema.GroupVersionKind{Group: "ray.io", Version: "v1", Kind: "RayCronJob"})
		Expect(w.admin.Create(w.ctx, cron)).To(Succeed())
		DeferCleanup(func() { Expect(client.IgnoreNotFound(w.admin.Delete(w.ctx, cron))).To(Succeed()) })
		w.eventually(func(g Gomega) {
			g.Expect(w.condition("p", v1alpha1.ConditionReady).Reason).To(Equal(v1alpha1.ReasonNoClusters))
		})
		job := w.rayJob("nightly-x", label("ray.io/cronjob-name", "nightly"), func(o *unstructured.Unstructured) {
			o.SetOwnerReferences([]metav1.OwnerReference{*metav1.NewControllerRef(cron, cron.GroupVersionKind())})
		})
		w.runOn(job, "nightly-x-1", rayv1.JobDeploymentStatusInitializing)
		w.start("p", "nightly-x-1", childOf(job))
		Expect(w.profile("nightly-x-1").HeadDNSNames).To(ContainElement("nightly-x-head-svc." + w.ns + ".svc"))
		w.quiet()
	})
})
