//go:build e2e

package e2e

import (
	"bytes"
	"context"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"time"

	. "github.com/onsi/ginkgo/v2"
	. "github.com/onsi/gomega"
	rayv1 "github.com/ray-project/kuberay/ray-operator/apis/ray/v1"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"sigs.k8s.io/yaml"

	"github.com/raytls/raytls/api/v1alpha1"
	"github.com/raytls/raytls/internal/injection"
)

// handMade is KubeRay's own sample of TLS by hand, sized for a small node, one manifest after the other.
func handMade(ctx context.Context) []byte {
	GinkgoHelper()
	module := strings.TrimSpace(run(ctx, "go", "list", "-m", "-f", "{{.Dir}}", "github.com/ray-project/kuberay/ray-operator"))
	text, err := os.ReadFile(filepath.Join(module, "config", "samples", "ray-cluster.tls.yaml"))
	Expect(err).NotTo(HaveOccurred())
	var out [][]byte
	for _, document := range bytes.Split(text, []byte("\n---\n")) {
		if !bytes.Contains(document, []byte("kind: RayCluster")) {
			out = append(out, document)
			continue
		}
		c := &rayv1.RayCluster{}
		Expect(yaml.Unmarshal(document, c)).To(Succeed())
		like := podTemplate("").Spec
		everyPod(func(p *corev1.PodSpec) {
			p.TerminationGracePeriodSeconds = like.TerminationGracePeriodSeconds
			ray := &p.Containers[0]
			ray.Image, ray.Resources = rayImage, like.Containers[0].Resources
			ray.ReadinessProbe, ray.LivenessProbe = like.Containers[0].ReadinessProbe, like.Containers[0].LivenessProbe
			for i := range p.InitContainers {
				p.InitContainers[i].Image = rayImage
			}
		})(c)
		document, err := yaml.Marshal(c)
		Expect(err).NotTo(HaveOccurred())
		out = append(out, document)
	}
	return bytes.Join(out, []byte("\n---\n"))
}

// raytls runs the command line tool and gives what it printed, and what it said about it.
func raytls(ctx context.Context, stdin []byte, args ...string) (printed []byte, said string) {
	GinkgoHelper()
	var out, notes bytes.Buffer
	command := exec.CommandContext(ctx, "go", append([]string{"run", "./cmd/raytls"}, args...)...)
	command.Dir, command.Stdin, command.Stdout, command.Stderr = root, bytes.NewReader(stdin), &out, &notes
	Expect(command.Run()).To(Succeed(), notes.String())
	return out.Bytes(), notes.String()
}

// apply has kubectl apply manifests.
func (n *namespace) apply(ctx context.Context, manifests []byte) string {
	GinkgoHelper()
	command := exec.CommandContext(ctx, "kubectl", "-n", n.name, "apply", "-f", "-")
	command.Stdin = bytes.NewReader(manifests)
	out, err := command.CombinedOutput()
	Expect(err).NotTo(HaveOccurred(), string(out))
	return string(out)
}

var _ = Describe("TLS by hand", func() {
	It("is migrated: the brought CA signs the cluster's authority, and all pods restart once", func(ctx SpecContext) {
		const cluster = "raycluster-tls"
		n := newNamespace(ctx)
		manifests := handMade(ctx)
		n.apply(ctx, manifests)
		n.running(ctx, cluster, 2, plaintext)
		n.ready(ctx, cluster)
		n.joined(ctx, cluster, n.only(cluster, isWorker))
		old := n.pods.uids(cluster)

		migrated, said := raytls(ctx, manifests, "migrate", "-f", "-")
		Expect(said).To(And(ContainSubstring("Nothing restarts when you apply this"), ContainSubstring("get rctls "+cluster)))
		n.apply(ctx, migrated)
		message := n.condition(ctx, cluster, v1alpha1.ConditionReady, metav1.ConditionFalse, v1alpha1.ReasonAwaitingApproval)
		Expect(message).To(ContainSubstring(cluster))
		Expect(n.pods.uids(cluster)).To(Equal(old), "nothing restarts yet")
		n.joined(ctx, cluster, n.only(cluster, isWorker))

		began := time.Now()
		n.approve(ctx, cluster)
		n.encrypted(ctx, cluster, cluster, 2)
		measured("migration of TLS by hand: %.1f s from the approval until all pods are Ready", time.Since(began).Seconds())
		n.joined(ctx, cluster, n.only(cluster, isWorker))
		brought := parseCertificate(n.secret(ctx, "ca-tls").Data["ca.crt"])
		Expect(parseCertificate(n.secret(ctx, injection.SecretName(cluster)).Data["ca.crt"]).CheckSignatureFrom(brought)).To(Succeed())
		Expect(n.pods.counts(cluster)["head"]).To(Equal(2))

		By("what raytls inject prints of the migrated manifest being what is there")
		injected, _ := raytls(ctx, migrated, "inject", "-f", "-")
		before := n.rayCluster(ctx, cluster).GetGeneration()
		n.apply(ctx, injected)
		Expect(n.rayCluster(ctx, cluster).GetGeneration()).To(Equal(before))
	}, SpecTimeout(4*time.Minute))
})
