//go:build e2e

package e2e

import (
	"context"
	"slices"
	"time"

	. "github.com/onsi/ginkgo/v2"
	. "github.com/onsi/gomega"
	rayv1 "github.com/ray-project/kuberay/ray-operator/apis/ray/v1"
	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/resource"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/raytls/raytls/api/v1alpha1"
)

// dashboardContainer answers KubeRay in place of Ray's dashboard and Serve's proxy.
const dashboardContainer = "dashboard"

// dashboardScript says of every job and of an application what the environment says, until there is a file that says
// something else.
const dashboardScript = `
import http.server, json, os, threading

def status():
    try: return open("/tmp/status").read().strip()
    except FileNotFoundError: return os.environ["STATUS"]

class Dashboard(http.server.BaseHTTPRequestHandler):
    def answer(self):
        self.rfile.read(int(self.headers.get("content-length") or 0))
        text = "success"
        if self.path.startswith("/api/serve/"):
            text = json.dumps({"applications": {"app": {"name": "app", "status": status(), "deployments": {}}}})
        elif self.path.startswith("/api/jobs/"):
            text = json.dumps({"submission_id": self.path.split("/")[3] or "new", "status": status()})
        self.send_response(200)
        self.end_headers()
        self.wfile.write(text.encode())
    do_GET = do_PUT = do_POST = do_DELETE = answer
    def log_message(self, *rest): pass

for port in (8266, 8000):
    threading.Thread(target=http.server.ThreadingHTTPServer(("", port), Dashboard).serve_forever).start()
`

// dashboard gives the head a dashboard with jobs or an application of this status, for a Ray that has none.
func dashboard(status string) clusterOption {
	return func(c *rayv1.RayCluster) {
		pod := &c.Spec.HeadGroupSpec.Template.Spec
		for name, port := range map[string]int32{"gcs-server": 6379, "client": 10001, "dashboard": 8266, "serve": 8000} {
			pod.Containers[0].Ports = append(pod.Containers[0].Ports, corev1.ContainerPort{Name: name, ContainerPort: port})
		}
		pod.Containers = append(pod.Containers, corev1.Container{
			Name: dashboardContainer, Image: rayImage, Command: []string{"python3", "-c", dashboardScript},
			Env:       []corev1.EnvVar{{Name: "STATUS", Value: status}},
			Resources: small(),
		})
	}
}

func small() corev1.ResourceRequirements {
	return corev1.ResourceRequirements{
		Requests: corev1.ResourceList{"cpu": resource.MustParse("20m"), "memory": resource.MustParse("64Mi")},
		Limits:   corev1.ResourceList{"memory": resource.MustParse("256Mi")},
	}
}

// newJob is a RayJob that ends with this status as soon as Ray is asked.
func newJob(name string, mode rayv1.JobSubmissionMode, status string) *rayv1.RayJob {
	job := &rayv1.RayJob{
		ObjectMeta: metav1.ObjectMeta{Name: name},
		Spec: rayv1.RayJobSpec{
			SubmissionMode: mode, RayClusterSpec: &newCluster("", workers("small", 1), dashboard(status)).Spec,
		},
	}
	if mode != rayv1.InteractiveMode {
		job.Spec.Entrypoint = "true"
	}
	if mode == rayv1.K8sJobMode {
		// What `ray job submit` does, over HTTP.
		job.Spec.SubmitterPodTemplate = &corev1.PodTemplateSpec{Spec: corev1.PodSpec{
			RestartPolicy: corev1.RestartPolicyNever,
			Containers: []corev1.Container{{
				Name: "submitter", Image: rayImage, Resources: small(),
				Command: []string{"python3", "-c", `import os, urllib.request as r; r.urlopen("http://" + os.environ["RAY_DASHBOARD_ADDRESS"] + "/api/jobs/", b"{}", 10)`},
			}},
		}}
	}
	return job
}

// newService is a RayService whose clusters serve once they are told to.
func newService(name string) *rayv1.RayService {
	return &rayv1.RayService{
		ObjectMeta: metav1.ObjectMeta{Name: name},
		Spec: rayv1.RayServiceSpec{
			ServeConfigV2:                  "applications: [{name: app, import_path: app}]",
			RayClusterSpec:                 newCluster("", workers("small", 1), dashboard("DEPLOYING")).Spec,
			RayClusterDeletionDelaySeconds: new(int32(0)),
		},
	}
}

// children are the names of the RayClusters that an owner has now.
func (n *namespace) children(ctx context.Context, kind v1alpha1.TargetKind, owner string) []string {
	GinkgoHelper()
	var list rayv1.RayClusterList
	Expect(api.List(ctx, &list, client.InNamespace(n.name), client.MatchingLabels{
		"ray.io/originated-from-crd": string(kind), "ray.io/originated-from-cr-name": owner,
	})).To(Succeed())
	names := []string{}
	for _, c := range list.Items {
		names = append(names, c.Name)
	}
	return names
}

// child waits for the one RayCluster of an owner that is none of those known.
func (n *namespace) child(ctx context.Context, kind v1alpha1.TargetKind, owner string, known ...string) string {
	GinkgoHelper()
	var found []string
	Eventually(ctx, func(ctx context.Context) []string {
		found = slices.DeleteFunc(n.children(ctx, kind, owner), func(name string) bool { return slices.Contains(known, name) })
		return found
	}).Should(HaveLen(1))
	return found[0]
}

// job waits until a RayJob is as far as this, and gives its status.
func (n *namespace) job(ctx context.Context, name string, phase rayv1.JobDeploymentStatus) rayv1.RayJobStatus {
	GinkgoHelper()
	var job rayv1.RayJob
	Eventually(ctx, func(ctx context.Context) (rayv1.JobDeploymentStatus, error) {
		err := api.Get(ctx, n.key(name), &job)
		return job.Status.JobDeploymentStatus, err
	}).Should(Equal(phase))
	return job.Status
}

// deleteOwner deletes a RayJob or RayService and waits until its clusters are gone.
func (n *namespace) deleteOwner(ctx context.Context, kind v1alpha1.TargetKind, owner client.Object) {
	GinkgoHelper()
	Expect(api.Delete(ctx, owner, client.PropagationPolicy(metav1.DeletePropagationBackground))).To(Succeed())
	Eventually(ctx, func(ctx context.Context) []string { return n.children(ctx, kind, owner.GetName()) }).Should(BeEmpty())
}

// names are the DNS names in the certificate of the cluster's head.
func (n *namespace) names(ctx context.Context, cluster string) []string {
	GinkgoHelper()
	head := n.only(cluster, isHead).pod.Name
	return parseCertificate([]byte(n.mustSh(ctx, head, headContainer, "cat "+leafFile, ""))).DNSNames
}

func targeting(kind v1alpha1.TargetKind, name string) policyOption {
	return func(p *v1alpha1.RayTLSPolicy) {
		p.Spec.Selector, p.Spec.TargetRef = nil, &v1alpha1.TargetReference{Kind: kind, Name: name}
	}
}

var _ = Describe("A RayJob", func() {
	for mode, end := range map[rayv1.JobSubmissionMode]rayv1.JobDeploymentStatus{
		rayv1.K8sJobMode: rayv1.JobDeploymentStatusComplete,
		rayv1.HTTPMode:   rayv1.JobDeploymentStatusComplete,
		// Its submitter needs what is in Ray's own image to get any further, whether there is TLS or not.
		rayv1.SidecarMode:     rayv1.JobDeploymentStatusRunning,
		rayv1.InteractiveMode: rayv1.JobDeploymentStatusWaiting,
	} {
		It("in "+string(mode)+" gets a cluster that is encrypted from its start, and leaves nothing", func(ctx SpecContext) {
			n := newNamespace(ctx)
			n.create(ctx, newPolicy("job", "", targeting(v1alpha1.TargetRayJob, "job")))
			n.admitted(ctx, "job")
			job := newJob("job", mode, "SUCCEEDED")
			n.create(ctx, job)
			child := n.child(ctx, v1alpha1.TargetRayJob, "job")
			n.encrypted(ctx, "job", child, 2)
			Expect(n.names(ctx, child)).To(ContainElement("job-head-svc." + n.name + ".svc"))
			n.joined(ctx, child, n.only(child, isWorker))
			status := n.job(ctx, "job", end)
			if mode == rayv1.InteractiveMode {
				n.patch(ctx, &rayv1.RayJob{}, "job", `{"spec":{"jobId":"by-hand"}}`)
				status = n.job(ctx, "job", rayv1.JobDeploymentStatusComplete)
			}
			measured("a RayJob in %s with TLS ends %s: %s %s", mode, status.JobDeploymentStatus, status.JobStatus, status.Message)
			Expect(status.RayClusterName).To(Equal(child))
			n.startedOnce(child, map[string]int{"head": 1, "small": 1})
			n.deleteOwner(ctx, v1alpha1.TargetRayJob, job)
			nothingLeft(ctx, n, child)
		}, SpecTimeout(3*time.Minute))
	}

	It("that is tried again gets a second cluster, which is encrypted from its start", func(ctx SpecContext) {
		n := newNamespace(ctx)
		n.create(ctx, newPolicy("all", ""))
		n.admitted(ctx, "all")
		job := newJob("job", rayv1.HTTPMode, "FAILED")
		job.Spec.BackoffLimit = new(int32(1))
		n.create(ctx, job)
		first := n.child(ctx, v1alpha1.TargetRayJob, "job")
		second := n.child(ctx, v1alpha1.TargetRayJob, "job", first)
		n.encrypted(ctx, "all", second, 2)
		n.startedOnce(second, map[string]int{"head": 1, "small": 1})
		Expect(n.pods.all(first, plaintext)).To(BeEmpty())
		Expect(n.job(ctx, "job", rayv1.JobDeploymentStatusFailed).RayClusterName).To(Equal(second))
		n.deleteOwner(ctx, v1alpha1.TargetRayJob, job)
		nothingLeft(ctx, n, first)
		nothingLeft(ctx, n, second)
	}, SpecTimeout(3*time.Minute))
})

// serve lets a cluster of a RayService say that its application runs, and waits until it serves.
func (n *namespace) serve(ctx context.Context, service, child string) {
	GinkgoHelper()
	Eventually(ctx, func(g Gomega, ctx context.Context) {
		heads := n.pods.live(child, isHead)
		g.Expect(heads).To(HaveLen(1))
		ended, err := n.sh(ctx, heads[0].pod.Name, dashboardContainer, "echo RUNNING >/tmp/status", "")
		g.Expect(err).NotTo(HaveOccurred())
		g.Expect(ended.Code).To(BeZero(), ended.Output())
	}).Should(Succeed())
	Eventually(ctx, func(ctx context.Context) string {
		return n.service(ctx, service).Status.ActiveServiceStatus.RayClusterName
	}).Should(Equal(child))
}

func (n *namespace) service(ctx context.Context, name string) *rayv1.RayService {
	GinkgoHelper()
	service := &rayv1.RayService{}
	Expect(api.Get(ctx, n.key(name), service)).To(Succeed())
	return service
}

// asked is what the operator asked a RayService for last.
func (n *namespace) asked(ctx context.Context, name string) string {
	GinkgoHelper()
	return n.service(ctx, name).Spec.RayClusterSpec.HeadGroupSpec.Template.Annotations[v1alpha1.AnnotationRestartedFor]
}

var _ = Describe("A RayService", func() {
	It("gets a cluster that is encrypted from its start, and leaves nothing", func(ctx SpecContext) {
		n := newNamespace(ctx)
		n.create(ctx, newPolicy("all", ""))
		n.admitted(ctx, "all")
		service := newService("serve")
		n.create(ctx, service)
		child := n.child(ctx, v1alpha1.TargetRayService, "serve")
		n.encrypted(ctx, "all", child, 2)
		Expect(n.names(ctx, child)).To(ContainElement("serve-head-svc." + n.name + ".svc"))
		n.serve(ctx, "serve", child)
		n.startedOnce(child, map[string]int{"head": 1, "small": 1})
		Expect(n.children(ctx, v1alpha1.TargetRayService, "serve")).To(Equal([]string{child}))
		Expect(n.asked(ctx, "serve")).To(BeEmpty())
		n.deleteOwner(ctx, v1alpha1.TargetRayService, service)
		nothingLeft(ctx, n, child)
	}, SpecTimeout(2*time.Minute))

	It("that serves in plaintext is asked once for an encrypted cluster, which takes over when it is ready", func(ctx SpecContext) {
		n := newNamespace(ctx)
		n.create(ctx, newService("serve"))
		old := n.child(ctx, v1alpha1.TargetRayService, "serve")
		n.running(ctx, old, 2, plaintext)
		n.serve(ctx, "serve", old)
		uids, spec := n.pods.uids(old), n.spec(ctx, old)

		n.create(ctx, newPolicy("serve", "", immediate, targeting(v1alpha1.TargetRayService, "serve")))
		next := n.child(ctx, v1alpha1.TargetRayService, "serve", old)
		asked := n.asked(ctx, "serve")
		Expect(asked).NotTo(BeEmpty())
		n.encrypted(ctx, "serve", next, 2)
		n.startedOnce(next, map[string]int{"head": 1, "small": 1})
		Expect(n.names(ctx, next)).To(ContainElement("serve-head-svc." + n.name + ".svc"))

		By("the new cluster not being ready to take over")
		message := n.condition(ctx, "serve", v1alpha1.ConditionReady, metav1.ConditionFalse, v1alpha1.ReasonEnabling)
		Expect(message).To(ContainSubstring(old))
		Consistently(ctx, func(g Gomega, ctx context.Context) {
			g.Expect(n.children(ctx, v1alpha1.TargetRayService, "serve")).To(ConsistOf(old, next))
			g.Expect(n.asked(ctx, "serve")).To(Equal(asked))
			g.Expect(n.spec(ctx, old)).To(MatchJSON(spec))
			g.Expect(n.pods.uids(old)).To(Equal(uids))
		}).WithTimeout(6 * time.Second).Should(Succeed())

		By("the new cluster taking over")
		n.serve(ctx, "serve", next)
		Eventually(ctx, func(ctx context.Context) []string { return n.children(ctx, v1alpha1.TargetRayService, "serve") }).Should(Equal([]string{next}))
		n.condition(ctx, "serve", v1alpha1.ConditionReady, metav1.ConditionTrue, v1alpha1.ReasonEncrypted)
		Expect(n.asked(ctx, "serve")).To(Equal(asked))
		n.startedOnce(next, map[string]int{"head": 1, "small": 1})
		Expect(n.pods.counts(old)).To(Equal(map[string]int{"head": 1, "small": 1}), "the old cluster lost no pod while it served")
	}, SpecTimeout(4*time.Minute))
})
