//go:build e2e

package e2e

import (
	"context"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"time"

	. "github.com/onsi/ginkgo/v2"
	. "github.com/onsi/gomega"
	rayv1 "github.com/ray-project/kuberay/ray-operator/apis/ray/v1"
	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/resource"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"
	"sigs.k8s.io/controller-runtime/pkg/client"
	"sigs.k8s.io/yaml"

	"github.com/raytls/raytls/api/v1alpha1"
	"github.com/raytls/raytls/internal/injection"
)

// admitted waits until clusters of the policy's namespace go through the operator's webhook.
func (n *namespace) admitted(ctx context.Context, policy string) {
	GinkgoHelper()
	n.condition(ctx, policy, v1alpha1.ConditionAdmissionActive, metav1.ConditionTrue, v1alpha1.ReasonAdmissionActive)
}

// startedOnce sees that each pod that the cluster ever had carries the injection, and was made once.
func (n *namespace) startedOnce(cluster string, pods map[string]int) {
	GinkgoHelper()
	Expect(n.pods.counts(cluster)).To(Equal(pods))
	for _, p := range n.pods.all(cluster) {
		Expect(p.pod.Spec.InitContainers).NotTo(BeEmpty(), p.pod.Name)
		Expect(p.pod.Spec.InitContainers[0].Name).To(Equal(injection.InitContainerName), p.pod.Name)
		Expect(p.restarts()).To(BeZero(), p.pod.Name)
	}
}

var _ = Describe("A cluster that is created under a policy", func() {
	It("is encrypted from its first pod on, each pod starting once", Label("core"), func(ctx SpecContext) {
		n := newNamespace(ctx)
		n.create(ctx, newPolicy("all", ""))
		n.admitted(ctx, "all")
		n.create(ctx, newCluster("born", workers("small", 2), autoscaled))
		Eventually(ctx, func(ctx context.Context) types.UID { return n.tls(ctx, "born").UID }).ShouldNot(BeEmpty())
		Expect(kubectl(ctx, "-n", n.name, "wait", "--for=condition=Encrypted", "rctls/born", "--timeout=90s")).To(ContainSubstring("condition met"))
		for _, p := range n.pods.there("born") {
			Expect(p.injected()).To(BeTrue(), p.pod.Name)
		}
		n.encrypted(ctx, "all", "born", 3)
		Expect(n.tls(ctx, "born").Status.Injection.Since).To(BeNil(), "it was created with TLS")
		n.startedOnce("born", map[string]int{"head": 1, "small": 2})
		for _, worker := range n.pods.live("born", isWorker) {
			n.joined(ctx, "born", worker)
		}
		c := n.rayCluster(ctx, "born")
		Expect(c.GetGeneration()).To(Equal(int64(1)), "nobody changed it after its creation")

		By("a tool that applies its own manifest, which strips nothing and restarts nobody")
		before, uids := n.spec(ctx, "born"), n.pods.uids("born")
		manifest := filepath.Join(GinkgoT().TempDir(), "born.yaml")
		text, err := yaml.Marshal(struct {
			metav1.TypeMeta   `json:",inline"`
			metav1.ObjectMeta `json:"metadata"`
			Spec              rayv1.RayClusterSpec `json:"spec"`
		}{
			metav1.TypeMeta{APIVersion: "ray.io/v1", Kind: "RayCluster"},
			metav1.ObjectMeta{Name: "born", Namespace: n.name},
			newCluster("born", workers("small", 2), autoscaled).Spec,
		})
		Expect(err).NotTo(HaveOccurred())
		Expect(os.WriteFile(manifest, text, 0o600)).To(Succeed())
		for range 3 {
			Expect(kubectl(ctx, "apply", "--server-side", "--force-conflicts", "-f", manifest)).To(ContainSubstring("serverside-applied"))
		}
		Expect(n.spec(ctx, "born")).To(MatchJSON(before))
		Expect(n.pods.uids("born")).To(Equal(uids))

		By("a worker group that comes later")
		n.patchJSON(ctx, "born", `[{"op":"add","path":"/spec/workerGroupSpecs/-","value":{"groupName":"late","replicas":1,"minReplicas":0,"maxReplicas":2,"rayStartParams":{},"template":`+plainTemplate()+`}}]`)
		n.encrypted(ctx, "all", "born", 4)
		n.startedOnce("born", map[string]int{"head": 1, "small": 2, "late": 1})
		Expect(n.pods.all("born", plaintext)).To(BeEmpty())
	}, SpecTimeout(3*time.Minute))

	for name, files := range map[string][]string{"policy first": {"1-policy", "2-cluster"}, "cluster first": {"2-policy", "1-cluster"}} {
		It("ends encrypted when one kubectl apply brings both, "+name, func(ctx SpecContext) {
			n := newNamespace(ctx)
			folder := GinkgoT().TempDir()
			policy, cluster := newPolicy("all", ""), newCluster("both", workers("small", 1))
			policy.TypeMeta = metav1.TypeMeta{APIVersion: v1alpha1.GroupVersion.String(), Kind: "RayTLSPolicy"}
			cluster.TypeMeta = metav1.TypeMeta{APIVersion: "ray.io/v1", Kind: "RayCluster"}
			for i, o := range []any{policy, cluster} {
				text, err := yaml.Marshal(o)
				Expect(err).NotTo(HaveOccurred())
				Expect(os.WriteFile(filepath.Join(folder, files[i]+".yaml"), text, 0o600)).To(Succeed())
			}
			Expect(kubectl(ctx, "-n", n.name, "apply", "-f", folder)).To(And(ContainSubstring("raytlspolicy.raytls.io/all created"), ContainSubstring("raycluster.ray.io/both created")))
			n.encrypted(ctx, "all", "both", 2)
			for group, count := range n.pods.counts("both") {
				Expect(count).To(BeNumerically("<=", 2), "pods of %s are replaced at most once", group)
			}
			for _, p := range n.pods.all("both", plaintext) {
				Expect(p.ready).To(BeZero(), "%s was never Ready", p.pod.Name)
			}
			n.joined(ctx, "both", n.only("both", isWorker))
		}, SpecTimeout(2*time.Minute))
	}
})

var _ = Describe("Admission that is down", Serial, func() {
	It("refuses clusters where there is a policy and says why, and nobody else notices", func(ctx SpecContext) {
		n, other := newNamespace(ctx), newNamespace(ctx)
		n.create(ctx, newPolicy("all", ""))
		n.admitted(ctx, "all")
		n.create(ctx, newCluster("there", workers("small", 1)))
		n.encrypted(ctx, "all", "there", 2)
		scale(ctx, webhookName, 0)
		refused := newCluster("refused")
		refused.Namespace = n.name
		err := api.Create(ctx, refused)
		Expect(err).To(MatchError(And(
			ContainSubstring("rayclusters-in-namespaces-with-a-raytlspolicy.raytls.io"), ContainSubstring("refused-while-the-raytls-operator-is-down/see-its-pods"))))
		measured("refusal while the webhook is down: %v", err)
		other.create(ctx, newCluster("elsewhere"))
		other.running(ctx, "elsewhere", 1, plaintext)
		By("pods of the cluster that is there being replaced without the webhook")
		Expect(api.Delete(ctx, &n.pods.live("there", isWorker)[0].pod)).To(Succeed())
		n.running(ctx, "there", 2, podRecord.injected)
		n.create(ctx, newPolicy("later", "there"))
		run(ctx, "kubectl", "-n", operatorNamespace, "scale", "deployment/"+webhookName, "--replicas=2")
		awaitOperator(ctx)
		By("whoever tries again succeeding, as soon as the API server reaches the webhook")
		Eventually(ctx, func(ctx context.Context) error {
			accepted := newCluster("accepted")
			accepted.Namespace = n.name
			return api.Create(ctx, accepted)
		}).Should(Succeed())
		n.encrypted(ctx, "all", "accepted", 1)
		n.startedOnce("accepted", map[string]int{"head": 1})
	}, SpecTimeout(4*time.Minute))

	It("goes on while the controller is down: RayClusters are still created with TLS", func(ctx SpecContext) {
		n := newNamespace(ctx)
		n.create(ctx, newPolicy("all", ""))
		n.admitted(ctx, "all")
		scale(ctx, controllerName, 0)
		n.create(ctx, newCluster("born", workers("small", 1)))
		templates := injection.Inspect(n.rayCluster(ctx, "born").Object["spec"].(map[string]any), "born")
		Expect(templates).To(HaveLen(2))
		for _, template := range templates {
			Expect(template.State).To(Equal(injection.Injected), template.Path)
		}
		By("the controller coming back, which makes the keys that the pods wait for")
		run(ctx, "kubectl", "-n", operatorNamespace, "scale", "deployment/"+controllerName, "--replicas=2")
		awaitOperator(ctx)
		n.encrypted(ctx, "all", "born", 2)
		n.startedOnce("born", map[string]int{"head": 1, "small": 1})
	}, SpecTimeout(4*time.Minute))

	It("refuses nothing while one of its pods is left", func(ctx SpecContext) {
		n := newNamespace(ctx)
		n.create(ctx, newPolicy("all", ""))
		n.admitted(ctx, "all")
		ended, stop := make(chan struct{}), make(chan struct{})
		created, refusals := 0, []error{}
		go func() {
			defer close(ended)
			for {
				select {
				case <-stop:
					return
				case <-ctx.Done():
					return
				default:
				}
				cluster := newCluster(fmt.Sprintf("tried-%d", created))
				cluster.Namespace = n.name
				if err := api.Create(ctx, cluster, client.DryRunAll); err != nil {
					refusals = append(refusals, err)
				}
				created++
			}
		}()
		for _, pod := range operatorPods(ctx, webhookName) {
			Expect(api.Delete(ctx, &pod)).To(Succeed())
			Eventually(ctx, func(ctx context.Context) []string {
				names := []string{}
				for _, left := range operatorPods(ctx, webhookName) {
					names = append(names, left.Name)
				}
				return names
			}).ShouldNot(ContainElement(pod.Name))
			awaitOperator(ctx)
		}
		close(stop)
		<-ended
		measured("%d dry runs while both webhook pods were replaced, one after the other", created)
		Expect(created).To(BeNumerically(">", 10))
		Expect(refusals).To(BeEmpty())
	}, SpecTimeout(4*time.Minute))
})

// autoscaled switches on an autoscaler that a small node holds.
func autoscaled(c *rayv1.RayCluster) {
	c.Spec.EnableInTreeAutoscaling = new(true)
	c.Spec.AutoscalerOptions = &rayv1.AutoscalerOptions{Resources: &corev1.ResourceRequirements{
		Requests: corev1.ResourceList{"cpu": resource.MustParse("50m"), "memory": resource.MustParse("128Mi")},
		Limits:   corev1.ResourceList{"memory": resource.MustParse("256Mi")},
	}}
}

// plainTemplate is a worker's pod template as JSON.
func plainTemplate() string {
	GinkgoHelper()
	text, err := yaml.Marshal(podTemplate("ray-worker"))
	Expect(err).NotTo(HaveOccurred())
	text, err = yaml.YAMLToJSON(text)
	Expect(err).NotTo(HaveOccurred())
	return strings.TrimSpace(string(text))
}
