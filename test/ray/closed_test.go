//go:build ray

package ray

import (
	"context"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"time"

	. "github.com/onsi/ginkgo/v2"
	. "github.com/onsi/gomega"
	rayv1 "github.com/ray-project/kuberay/ray-operator/apis/ray/v1"
	corev1 "k8s.io/api/core/v1"
	networkingv1 "k8s.io/api/networking/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/util/wait"

	"github.com/raytls/raytls/test/ray/expected"
)

// agentPort is where the dashboard agent of each pod takes jobs over HTTP.
const agentPort = 52365

// openSpecs prove which doors TLS leaves open.
func openSpecs(s *standing) {
	It("has its dashboard agents run code for a pod without a certificate", Label("ci"), func(ctx SpecContext) {
		for _, pod := range []*corev1.Pod{s.head(ctx), &s.n.workers(ctx, standingName)[0]} {
			Expect(s.n.passes(ctx, s.client, "agent_job.py", address(pod, agentPort), dashboardOf(s.head(ctx)))).
				To(ContainSubstring("who finds ca.crt tls.crt tls.key"), "the agent of %s", pod.Name)
		}
	}, SpecTimeout(3*time.Minute))

	It("has its runtime_env agents answer a pod without a certificate", func(ctx SpecContext) {
		for _, pod := range []*corev1.Pod{s.head(ctx), &s.n.workers(ctx, standingName)[0]} {
			Expect(s.n.runtimeEnvAgent(ctx, s.client, pod)).To(And(ContainSubstring("HTTP/1.1"), Not(ContainSubstring(" 401 "))), "the agent of %s", pod.Name)
		}
	}, SpecTimeout(time.Minute))
}

// runtimeEnvAgent is what the runtime_env agent of a pod answers to another pod that has no token.
func (n *namespace) runtimeEnvAgent(ctx context.Context, from, pod *corev1.Pod) string {
	GinkgoHelper()
	ports := slices.DeleteFunc(n.ports(ctx, pod), func(l listening) bool { return l.Process != "runtime_env agent" })
	Expect(ports).To(HaveLen(1))
	// A request that it does not take changes nothing.
	ended, err := n.sh(ctx, from, fmt.Sprintf("wget -S -O /dev/null http://%s/get_runtime_envs_info 2>&1", address(pod, ports[0].Port)))
	Expect(err).NotTo(HaveOccurred())
	return ended.Output()
}

// closedSpecs prove what closes them: tokens, and a NetworkPolicy.
func closedSpecs(seen *census) {
	It("asks for a token where authOptions say so", func(ctx SpecContext) {
		table, err := expected.Of(rayVersion)
		Expect(err).NotTo(HaveOccurred())
		n := newTLSNamespace(ctx)
		outsider := n.outsider(ctx, "outsider")
		n.create(ctx, newCluster("token", workers("small", 1, 1), func(c *rayv1.RayCluster) {
			c.Spec.AuthOptions = &rayv1.AuthOptions{Mode: rayv1.AuthModeToken}
		}))
		n.encrypted(ctx, "token", 2)
		seen.count(ctx)
		token := n.token(ctx, "token")
		head, worker := n.head(ctx, "token"), &n.workers(ctx, "token")[0]

		By("doing work inside of the cluster")
		n.passes(ctx, head, "tasks.py", marker("token-tasks"), "1")

		By("letting a pod in that has the token")
		n.passes(ctx, outsider, "job.py", dashboardOf(head), "the holder of the token", token)
		n.passes(ctx, outsider, "agent_job.py", address(head, agentPort), dashboardOf(head), token, token)

		By("refusing one that has none, or a wrong one")
		for _, wrong := range []string{"", strings.Repeat("x", len(token))} {
			n.refuses(ctx, outsider, "job.py", dashboardOf(head), "nobody", wrong)
			for _, pod := range []*corev1.Pod{head, worker} {
				args := []string{address(pod, agentPort), dashboardOf(head), wrong, token}
				if table.Fault("agent-token") == nil {
					n.refuses(ctx, outsider, "agent_job.py", args...)
					continue
				}
				ended, err := n.python(ctx, outsider, "agent_job.py", args...)
				Expect(err).NotTo(HaveOccurred())
				Expect(ended.Code).To(BeZero(), "the agents of Ray %s ask for the token now: take the fault out of the table. %s", rayVersion, ended.Output())
			}
		}
		for _, pod := range []*corev1.Pod{head, worker} {
			Expect(n.runtimeEnvAgent(ctx, outsider, pod)).To(ContainSubstring(" 401 "), "the runtime_env agent of %s", pod.Name)
		}
		n.remove(ctx, "token")
	}, SpecTimeout(8*time.Minute))

	It("runs the sample as it is", func(ctx SpecContext) {
		n := newNamespace(ctx)
		n.applySample(ctx)
		n.encrypted(ctx, sampleName, 3)
		seen.count(ctx)
		n.passes(ctx, n.head(ctx, sampleName), "tasks.py", marker("sample"))
		n.remove(ctx, sampleName)
	}, SpecTimeout(8*time.Minute))

	It("runs the closed sample as it is, with a token and a NetworkPolicy", func(ctx SpecContext) {
		n := newNamespace(ctx)
		enforced := n.enforcesPolicies(ctx)
		outsider := n.outsider(ctx, "outsider")
		n.applySample(ctx, "closed")
		n.encrypted(ctx, sampleName, 3) // which takes a handshake of raytls with the head
		seen.count(ctx)
		n.passes(ctx, n.head(ctx, sampleName), "tasks.py", marker("closed-sample"))

		By("refusing a request without the token")
		head := n.head(ctx, sampleName)
		if enforced {
			outsider = head // the policy keeps others out
		}
		n.refuses(ctx, outsider, "job.py", dashboardOf(head), "nobody", strings.Repeat("x", len(n.token(ctx, sampleName))))

		By("letting KubeRay submit a job, with the token")
		job := &rayv1.RayJob{
			ObjectMeta: metav1.ObjectMeta{Name: jobName},
			Spec: rayv1.RayJobSpec{
				SubmissionMode: rayv1.HTTPMode, ClusterSelector: map[string]string{"ray.io/cluster": sampleName},
				Entrypoint: `python -c "import ray; ray.init(); ray.get(ray.remote(lambda: 1).remote())"`,
			},
		}
		n.create(ctx, job)
		n.jobEnds(ctx)
		n.remove(ctx, sampleName)
	}, SpecTimeout(10*time.Minute))

	It("is closed to all but its own pods by the sample's NetworkPolicy", func(ctx SpecContext) {
		n := newNamespace(ctx)
		if !n.enforcesPolicies(ctx) {
			Skip("the cluster's network does not enforce NetworkPolicies")
		}
		outsider := n.outsider(ctx, "outsider")
		n.applySample(ctx, "closed")
		n.encrypted(ctx, sampleName, 3)
		seen.count(ctx)
		pods, err := n.find(ctx, sampleName, "")
		Expect(err).NotTo(HaveOccurred())
		for _, pod := range pods {
			var all []string
			for _, l := range n.ports(ctx, &pod) {
				all = append(all, address(&pod, l.Port))
			}
			Expect(all).To(ContainElement(address(&pod, agentPort)))
			answers := n.answers(ctx, outsider, "plaintext", all...)
			Expect(answers).To(HaveEach(BeElementOf("silent", "closed")), "%s: %v", pod.Name, answers)
		}
		n.remove(ctx, sampleName)
	}, SpecTimeout(10*time.Minute))
}

// token is the one that KubeRay made for a cluster.
func (n *namespace) token(ctx context.Context, cluster string) string {
	GinkgoHelper()
	secret := &corev1.Secret{}
	Expect(target.API.Get(ctx, n.key(cluster), secret)).To(Succeed())
	return string(secret.Data["auth_token"])
}

// refuses runs a script whose request is answered that it lacks a token.
func (n *namespace) refuses(ctx context.Context, pod *corev1.Pod, script string, args ...string) {
	GinkgoHelper()
	ended, err := n.python(ctx, pod, script, args...)
	Expect(err).NotTo(HaveOccurred())
	Expect(ended.Code).NotTo(BeZero(), "%s passed: %s", script, ended.Output())
	Expect(ended.Stderr).To(MatchRegexp(`HTTP Error 40[13]`))
}

// sampleName is the name of the RayCluster in config/samples.
const sampleName = "sample"

// applySample applies the sample and components of it. It changes the image of Ray and the version, by which KubeRay chooses probes,
// and nothing else.
func (n *namespace) applySample(ctx context.Context, components ...string) {
	GinkgoHelper()
	folder := GinkgoT().TempDir()
	samples, err := filepath.Abs(filepath.Join(target.Root, "config", "samples"))
	Expect(err).NotTo(HaveOccurred())
	samples, err = filepath.Rel(folder, samples)
	Expect(err).NotTo(HaveOccurred())
	name, tag := rayImage[:strings.LastIndex(rayImage, ":")], rayImage[strings.LastIndex(rayImage, ":")+1:]
	text := fmt.Sprintf("resources: [%s]\nimages: [{name: rayproject/ray, newName: %s, newTag: %q}]\n", samples, name, tag)
	text += fmt.Sprintf(`patches: [{target: {kind: RayCluster}, patch: '[{"op": "replace", "path": "/spec/rayVersion", "value": %q}]'}]`+"\ncomponents:\n", rayVersion)
	for _, component := range components {
		text += fmt.Sprintf("- %s\n", filepath.Join(samples, component))
	}
	Expect(os.WriteFile(filepath.Join(folder, "kustomization.yaml"), []byte(text), 0o600)).To(Succeed())
	out, err := target.Run(ctx, "kubectl", "apply", "-n", n.name, "-k", folder)
	Expect(err).NotTo(HaveOccurred())
	GinkgoWriter.Println(out)
}

// enforcesPolicies reports whether the network enforces NetworkPolicies: a pod that a policy closes cannot be reached any more.
func (n *namespace) enforcesPolicies(ctx context.Context) bool {
	GinkgoHelper()
	asking, server := n.outsider(ctx, "asking"), n.outsider(ctx, "server", "python", "-m", "http.server", "8000")
	reached := func(ctx context.Context) (string, error) {
		if err := target.API.Get(ctx, n.key(server.Name), server); err != nil {
			return "", err
		}
		ended, err := n.python(ctx, asking, "doors.py", "plaintext", address(server, 8000))
		return ended.Stdout, err
	}
	Eventually(ctx, reached).Should(ContainSubstring("HTTP"))
	n.create(ctx, &networkingv1.NetworkPolicy{
		ObjectMeta: metav1.ObjectMeta{Name: "closed"},
		Spec: networkingv1.NetworkPolicySpec{
			PodSelector: metav1.LabelSelector{MatchLabels: map[string]string{outsiderLabel: server.Name}},
			PolicyTypes: []networkingv1.PolicyType{networkingv1.PolicyTypeIngress},
		},
	})
	// Networks need some seconds to follow a policy, and nothing says when they have.
	err := wait.PollUntilContextTimeout(ctx, 500*time.Millisecond, 15*time.Second, true, func(ctx context.Context) (bool, error) {
		answer, err := reached(ctx)
		return !strings.Contains(answer, "HTTP"), err
	})
	if wait.Interrupted(err) {
		return false
	}
	Expect(err).NotTo(HaveOccurred())
	return true
}
