//go:build ray

package ray

import (
	"context"
	"encoding/json"
	"fmt"
	"maps"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"time"

	. "github.com/onsi/ginkgo/v2"
	. "github.com/onsi/gomega"
	rayv1 "github.com/ray-project/kuberay/ray-operator/apis/ray/v1"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/raytls/raytls/api/v1alpha1"
	"github.com/raytls/raytls/test/live"
)

// scriptsFolder is where mounted scripts are in the Ray containers.
const scriptsFolder = "/opt/specs"

// mounted makes scripts of specs/ a ConfigMap, and is the option that mounts it in each Ray container.
func (n *namespace) mounted(ctx context.Context, scripts ...string) clusterOption {
	GinkgoHelper()
	files := &corev1.ConfigMap{ObjectMeta: metav1.ObjectMeta{Name: "specs"}, Data: map[string]string{}}
	for _, script := range scripts {
		text, err := os.ReadFile(filepath.Join("specs", script))
		Expect(err).NotTo(HaveOccurred())
		files.Data[script] = string(text)
	}
	n.create(ctx, files)
	return everyTemplate(func(t *corev1.PodTemplateSpec) {
		t.Spec.Volumes = append(t.Spec.Volumes, corev1.Volume{Name: files.Name, VolumeSource: corev1.VolumeSource{
			ConfigMap: &corev1.ConfigMapVolumeSource{LocalObjectReference: corev1.LocalObjectReference{Name: files.Name}},
		}})
		ray := &t.Spec.Containers[0]
		ray.VolumeMounts = append(ray.VolumeMounts, corev1.VolumeMount{Name: files.Name, MountPath: scriptsFolder})
		ray.Env = append(ray.Env, corev1.EnvVar{Name: "PYTHONPATH", Value: scriptsFolder})
	})
}

// everyTemplate changes the template of each pod that is there.
func everyTemplate(change func(*corev1.PodTemplateSpec)) clusterOption {
	return func(c *rayv1.RayCluster) {
		change(&c.Spec.HeadGroupSpec.Template)
		for i := range c.Spec.WorkerGroupSpecs {
			change(&c.Spec.WorkerGroupSpecs[i].Template)
		}
	}
}

// deleteOwner deletes a RayJob or a RayService, and waits until the namespace has no pod of Ray any more.
func (n *namespace) deleteOwner(ctx context.Context, owner client.Object) {
	GinkgoHelper()
	Expect(target.API.Delete(ctx, owner, client.PropagationPolicy(metav1.DeletePropagationBackground))).To(Succeed())
	Eventually(ctx, func(ctx context.Context) ([]corev1.Pod, error) {
		var pods corev1.PodList
		err := target.API.List(ctx, &pods, client.InNamespace(n.name), client.HasLabels{"ray.io/cluster"})
		return pods.Items, err
	}).Should(BeEmpty())
}

// ownerSpecs run RayJobs and RayServices. The census counts the clusters that go before a spec ends.
func ownerSpecs(seen *census) {
	jobSpecs(seen)
	serviceSpecs(seen)
}

func jobSpecs(seen *census) {
	for _, mode := range []rayv1.JobSubmissionMode{rayv1.K8sJobMode, rayv1.HTTPMode, rayv1.SidecarMode} {
		It("runs a RayJob in "+string(mode)+", and again after its first attempt failed", func(ctx SpecContext) {
			n := newTLSNamespace(ctx)
			job := n.newJob(ctx, mode)
			job.Spec.BackoffLimit = new(int32(1))
			n.create(ctx, job)

			first := n.attempt(ctx, seen, "", "fail")
			second := n.attempt(ctx, seen, first, "succeed")
			status := n.jobEnds(ctx)
			seen.count(ctx) // the submitter of K8sJobMode has its address by now
			Expect(status.RayClusterName).To(Equal(second))
			Expect([]*int32{status.Failed, status.Succeeded}).To(HaveEach(HaveValue(BeEquivalentTo(1))))
			n.deleteOwner(ctx, job)
		}, SpecTimeout(8*time.Minute))
	}

	// KubeRay allows no backoffLimit with this mode.
	It("runs a RayJob that a pod without a certificate submits, in InteractiveMode", func(ctx SpecContext) {
		n := newTLSNamespace(ctx)
		job := n.newJob(ctx, rayv1.InteractiveMode)
		job.Spec.Entrypoint = ""
		n.create(ctx, job)
		submitter := n.outsider(ctx, "submitter")
		cluster := n.jobCluster(ctx, "")
		n.encrypted(ctx, cluster, 2)
		said := n.passes(ctx, submitter, "job.py", dashboardOf(n.head(ctx, cluster)), "submitted by hand")
		id := regexp.MustCompile(`ok: job (\S+) succeeded`).FindStringSubmatch(said)
		Expect(id).To(HaveLen(2))
		patch := client.RawPatch(types.MergePatchType, fmt.Appendf(nil, `{"spec":{"jobId":%q}}`, id[1]))
		Expect(target.API.Patch(ctx, job, patch)).To(Succeed())
		Expect(n.jobEnds(ctx).JobId).To(Equal(id[1]))
		n.deleteOwner(ctx, job)
	}, SpecTimeout(6*time.Minute))
}

// The names of RayJobs and RayServices, of which a namespace has one.
const (
	jobName     = "job"
	serviceName = "serve"
)

// newJob is a RayJob with a head and a worker, whose attempts end as the spec tells them.
func (n *namespace) newJob(ctx context.Context, mode rayv1.JobSubmissionMode) *rayv1.RayJob {
	GinkgoHelper()
	spec := clusterSpec(workers("small", 1, 1), n.mounted(ctx, "attempt.py"), withEnv("MARKER", marker("rayjob")))
	return &rayv1.RayJob{
		ObjectMeta: metav1.ObjectMeta{Name: jobName},
		Spec: rayv1.RayJobSpec{
			SubmissionMode: mode, Entrypoint: "python " + scriptsFolder + "/attempt.py", RayClusterSpec: &spec,
		},
	}
}

// jobCluster waits for the RayCluster of the job that is another than the one before.
func (n *namespace) jobCluster(ctx context.Context, before string) string {
	GinkgoHelper()
	job := &rayv1.RayJob{}
	Eventually(ctx, func(ctx context.Context) (string, error) {
		err := target.API.Get(ctx, n.key(jobName), job)
		return job.Status.RayClusterName, err
	}).ShouldNot(BeElementOf("", before))
	return job.Status.RayClusterName
}

// attempt waits until an attempt of the job runs in an encrypted cluster of its own, whose name it gives, and tells it how to end.
func (n *namespace) attempt(ctx context.Context, seen *census, before, outcome string) string {
	GinkgoHelper()
	cluster := n.jobCluster(ctx, before)
	n.encrypted(ctx, cluster, 2)
	seen.count(ctx)
	ended, err := n.sh(ctx, n.head(ctx, cluster), "echo "+outcome+" >/tmp/outcome")
	Expect(err).NotTo(HaveOccurred())
	Expect(ended.Code).To(BeZero(), ended.Output())
	return cluster
}

// jobEnds waits until the job succeeded.
func (n *namespace) jobEnds(ctx context.Context) rayv1.RayJobStatus {
	GinkgoHelper()
	job := &rayv1.RayJob{}
	Eventually(ctx, func(g Gomega, ctx context.Context) {
		g.Expect(target.API.Get(ctx, n.key(jobName), job)).To(Succeed())
		g.Expect(job.Status.JobDeploymentStatus).To(Equal(rayv1.JobDeploymentStatusComplete), job.Status.Message)
	}).Should(Succeed())
	Expect(job.Status.JobStatus).To(Equal(rayv1.JobStatusSucceeded))
	return job.Status
}

func serviceSpecs(seen *census) {
	It("answers all requests while a RayService is changed in place and is upgraded", func(ctx SpecContext) {
		n := newTLSNamespace(ctx)
		n.serves(ctx)
		service := n.newService(ctx, "first", marker("rayservice"))
		n.create(ctx, service)
		first := n.servedBy(ctx, "")
		n.encrypted(ctx, first, 2)
		asking := n.ask(ctx)

		By("changing the application in place")
		asking.answer(ctx, "first of "+first)
		n.changeService(ctx, func(s *rayv1.RayService) { s.Spec.ServeConfigV2 = serveConfig("second") })
		asking.answer(ctx, "second of "+first)
		seen.count(ctx)

		By("changing the cluster")
		n.changeService(ctx, func(s *rayv1.RayService) {
			changed := &rayv1.RayCluster{Spec: s.Spec.RayClusterSpec}
			withEnv("CHANGED", "yes")(changed)
			s.Spec.RayClusterSpec = changed.Spec
		})
		second := n.servedBy(ctx, first)
		n.encrypted(ctx, second, 2)
		asking.answer(ctx, "second of "+second)
		n.gone(ctx, first)

		asking.all(ctx, "first of "+first, "second of "+first, "second of "+second)
		n.deleteOwner(ctx, service)
	}, SpecTimeout(10*time.Minute))

	It("answers all requests while a policy has a RayService encrypted that serves", func(ctx SpecContext) {
		n := newNamespace(ctx)
		n.serves(ctx)
		// The audit judges what takes the place of the cluster in plaintext, which sends no marker.
		service := n.newService(ctx, "first", "no marker", outside)
		n.create(ctx, service)
		plain := n.servedBy(ctx, "")
		n.ready(ctx, plain, 2)
		asking := n.ask(ctx)
		asking.answer(ctx, "first of "+plain)

		policy := newPolicy()
		policy.Spec.Selector, policy.Spec.TargetRef = nil, &v1alpha1.TargetReference{Kind: v1alpha1.TargetRayService, Name: serviceName}
		n.create(ctx, policy)
		encrypted := n.servedBy(ctx, plain)
		n.encrypted(ctx, encrypted, 2)
		asking.answer(ctx, "first of "+encrypted)
		n.gone(ctx, plain)
		pods, err := n.find(ctx, encrypted, "")
		Expect(err).NotTo(HaveOccurred())
		for _, pod := range pods {
			seen.of[pod.Status.PodIP] = n.name + "/" + pod.Name
		}

		asking.all(ctx, "first of "+plain, "first of "+encrypted)
		n.deleteOwner(ctx, service)
	}, SpecTimeout(10*time.Minute))
}

// serves skips the spec where Ray Serve does not work with the rest of the image.
func (n *namespace) serves(ctx context.Context) {
	GinkgoHelper()
	probe := n.outsider(ctx, "serves")
	Eventually(ctx, func(g Gomega, ctx context.Context) {
		found := &corev1.Pod{}
		g.Expect(target.API.Get(ctx, n.key(probe.Name), found)).To(Succeed())
		g.Expect(isReady(found)).To(BeTrue())
	}).Should(Succeed())
	n.passes(ctx, probe, "serve_works.py")
}

// serveConfig is an application of two deployments, whose answers name the release.
func serveConfig(release string) string {
	return fmt.Sprintf(`
applications:
- name: chain
  import_path: chain:app
  route_prefix: /
  runtime_env:
    env_vars: {RELEASE: %s}
`, release)
}

// newService is a RayService with a head and a worker. After an upgrade KubeRay keeps the old cluster a little, for requests that
// are under way.
func (n *namespace) newService(ctx context.Context, release, text string, options ...clusterOption) *rayv1.RayService {
	GinkgoHelper()
	options = append([]clusterOption{workers("small", 1, 1), n.mounted(ctx, "chain.py"), withEnv("MARKER", text)}, options...)
	return &rayv1.RayService{
		ObjectMeta: metav1.ObjectMeta{Name: serviceName},
		Spec: rayv1.RayServiceSpec{
			ServeConfigV2: serveConfig(release), RayClusterSpec: clusterSpec(options...), RayClusterDeletionDelaySeconds: new(int32(20)),
		},
	}
}

func (n *namespace) changeService(ctx context.Context, change func(*rayv1.RayService)) {
	GinkgoHelper()
	service := &rayv1.RayService{}
	Expect(target.API.Get(ctx, n.key(serviceName), service)).To(Succeed())
	before := service.DeepCopy()
	change(service)
	Expect(target.API.Patch(ctx, service, client.MergeFrom(before))).To(Succeed())
}

// servedBy waits until another RayCluster than the one before is the one that serves.
func (n *namespace) servedBy(ctx context.Context, before string) string {
	GinkgoHelper()
	service := &rayv1.RayService{}
	Eventually(ctx, func(ctx context.Context) (string, error) {
		err := target.API.Get(ctx, n.key(serviceName), service)
		return service.Status.ActiveServiceStatus.RayClusterName, err
	}).WithTimeout(4 * time.Minute).ShouldNot(BeElementOf("", before))
	return service.Status.ActiveServiceStatus.RayClusterName
}

// gone waits until a cluster has no pods.
func (n *namespace) gone(ctx context.Context, cluster string) {
	GinkgoHelper()
	Eventually(ctx, func(ctx context.Context) ([]corev1.Pod, error) { return n.find(ctx, cluster, "") }).Should(BeEmpty())
}

// asking is a client that sends the RayService requests without a pause.
type asking struct {
	n     *namespace
	pod   *corev1.Pod
	ended chan asked
}

// asked is how a client ended.
type asked struct {
	live.Result
	err error
}

// serveURL is where a RayService answers.
const serveURL = "http://" + serviceName + "-serve-svc:8000/"

// ask starts a client once the RayService gives an answer.
func (n *namespace) ask(ctx context.Context) *asking {
	GinkgoHelper()
	a := &asking{n: n, pod: n.outsider(ctx, "client"), ended: make(chan asked, 1)}
	a.answer(ctx, " of ")
	go func() {
		result, err := n.python(ctx, a.pod, "ask.py", serveURL, "/tmp/enough")
		a.ended <- asked{result, err}
	}()
	return a
}

// answer waits until a request has an answer with this text.
func (a *asking) answer(ctx context.Context, text string) {
	GinkgoHelper()
	Eventually(ctx, func(g Gomega, ctx context.Context) {
		ended, err := a.n.sh(ctx, a.pod, "wget -q -O - -T 30 -t 1 "+serveURL)
		g.Expect(err).NotTo(HaveOccurred())
		g.Expect(ended.Code).To(BeZero(), ended.Output())
		g.Expect(ended.Stdout).To(ContainSubstring(text))
	}).Should(Succeed())
}

// all ends the client. It got these answers, each at least once, and one to each request.
func (a *asking) all(ctx context.Context, answers ...string) {
	GinkgoHelper()
	ended, err := a.n.sh(ctx, a.pod, "touch /tmp/enough")
	Expect(err).NotTo(HaveOccurred())
	Expect(ended.Code).To(BeZero(), ended.Output())
	var got asked
	Eventually(ctx, a.ended).Should(Receive(&got))
	Expect(got.err).NotTo(HaveOccurred())
	Expect(got.Code).To(BeZero(), got.Output())
	AddReportEntry("requests", got.Stdout)
	var told struct {
		Answers        map[string]int
		Failures       []string
		LongestSeconds float64
	}
	Expect(json.Unmarshal([]byte(got.Stdout), &told)).To(Succeed())
	Expect(told.Failures).To(BeEmpty())
	Expect(slices.Collect(maps.Keys(told.Answers))).To(ConsistOf(answers), "the answers: %v", told.Answers)
}
