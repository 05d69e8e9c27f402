//go:build e2e

package e2e

import (
	"context"
	"fmt"
	"time"

	. "github.com/onsi/ginkgo/v2"
	. "github.com/onsi/gomega"
	admissionregistrationv1 "k8s.io/api/admissionregistration/v1"
	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/meta"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/raytls/raytls/api/v1alpha1"
)

// proxyContainer is what a mesh adds to pods, in CEL.
var proxyContainer = fmt.Sprintf(`Object.spec.containers{name: "proxy", image: %q, imagePullPolicy: "IfNotPresent", command: ["/bin/sh", "-c", "while :; do sleep 5; done"]}`, rayImage)

const (
	// proxyFirst puts a container before all others.
	proxyFirst = `[JSONPatch{op: "add", path: "/spec/containers/0", value: %s}]`
	// untls appends another value to the first container's environment.
	untls = `[JSONPatch{op: "add", path: "/spec/containers/0/env/-", value: Object.spec.containers.env{name: "RAY_USE_TLS", value: "0"}}]`
)

// admit has the API server change Ray's pods in the namespace from now on, until the returned function is called. The spec is
// skipped where the API server knows no MutatingAdmissionPolicy.
func (n *namespace) admit(ctx context.Context, expression string, changed func(*corev1.Pod) bool) (undo func(context.Context)) {
	GinkgoHelper()
	name := "raytls-e2e-" + n.name
	fail, never := admissionregistrationv1.Fail, admissionregistrationv1.NeverReinvocationPolicy
	policy := &admissionregistrationv1.MutatingAdmissionPolicy{
		ObjectMeta: metav1.ObjectMeta{Name: name},
		Spec: admissionregistrationv1.MutatingAdmissionPolicySpec{
			FailurePolicy: &fail, ReinvocationPolicy: never,
			MatchConstraints: &admissionregistrationv1.MatchResources{
				NamespaceSelector: &metav1.LabelSelector{MatchLabels: map[string]string{corev1.LabelMetadataName: n.name}},
				ObjectSelector:    &metav1.LabelSelector{MatchExpressions: []metav1.LabelSelectorRequirement{{Key: "ray.io/cluster", Operator: metav1.LabelSelectorOpExists}}},
				ResourceRules: []admissionregistrationv1.NamedRuleWithOperations{{RuleWithOperations: admissionregistrationv1.RuleWithOperations{
					Operations: []admissionregistrationv1.OperationType{admissionregistrationv1.Create},
					Rule:       admissionregistrationv1.Rule{APIGroups: []string{""}, APIVersions: []string{"v1"}, Resources: []string{"pods"}},
				}}},
			},
			Mutations: []admissionregistrationv1.Mutation{{
				PatchType: admissionregistrationv1.PatchTypeJSONPatch, JSONPatch: &admissionregistrationv1.JSONPatch{Expression: expression},
			}},
		},
	}
	binding := &admissionregistrationv1.MutatingAdmissionPolicyBinding{
		ObjectMeta: metav1.ObjectMeta{Name: name}, Spec: admissionregistrationv1.MutatingAdmissionPolicyBindingSpec{PolicyName: name},
	}
	undo = func(ctx context.Context) {
		GinkgoHelper()
		for _, object := range []client.Object{binding, policy} {
			Expect(client.IgnoreNotFound(api.Delete(ctx, object))).To(Succeed())
		}
		n.awaitAdmission(ctx, func(pod *corev1.Pod) bool { return !changed(pod) })
	}
	err := api.Create(ctx, policy)
	if meta.IsNoMatchError(err) {
		Skip("the API server knows no MutatingAdmissionPolicy of v1")
	}
	Expect(err).NotTo(HaveOccurred())
	DeferCleanup(func(ctx SpecContext) {
		for _, object := range []client.Object{binding, policy} {
			Expect(client.IgnoreNotFound(api.Delete(ctx, object))).To(Succeed())
		}
	}, NodeTimeout(time.Minute))
	Expect(api.Create(ctx, binding)).To(Succeed())
	n.awaitAdmission(ctx, changed)
	return undo
}

// awaitAdmission waits until a pod would be admitted like that.
func (n *namespace) awaitAdmission(ctx context.Context, like func(*corev1.Pod) bool) {
	GinkgoHelper()
	Eventually(ctx, func(g Gomega, ctx context.Context) {
		pod := &corev1.Pod{
			ObjectMeta: metav1.ObjectMeta{Namespace: n.name, GenerateName: "admitted-", Labels: map[string]string{"ray.io/cluster": "none"}},
			Spec:       corev1.PodSpec{Containers: []corev1.Container{{Name: "ray", Image: rayImage, Env: []corev1.EnvVar{{Name: "A", Value: "a"}}}}},
		}
		g.Expect(api.Create(ctx, pod, client.DryRunAll)).To(Succeed())
		g.Expect(like(pod)).To(BeTrue())
	}).Should(Succeed())
}

func hasProxyFirst(pod *corev1.Pod) bool { return pod.Spec.Containers[0].Name == "proxy" }

func hasNoTLS(pod *corev1.Pod) bool {
	env := pod.Spec.Containers[0].Env
	return len(env) > 0 && env[len(env)-1] == corev1.EnvVar{Name: "RAY_USE_TLS", Value: "0"}
}

// keeps sees that the cluster's pods stay for a while.
func (n *namespace) keeps(ctx context.Context, cluster string) {
	GinkgoHelper()
	before := n.pods.uids(cluster)
	Consistently(ctx, func() []types.UID { return n.pods.uids(cluster) }).WithTimeout(20 * time.Second).Should(ConsistOf(before))
}

var _ = Describe("Admission that changes pods", func() {
	It("may put a proxy before Ray's container: the cluster is encrypted, and each pod starts once", func(ctx SpecContext) {
		n := newNamespace(ctx)
		n.create(ctx, newPolicy("meshed", "meshed", immediate))
		n.admit(ctx, fmt.Sprintf(proxyFirst, proxyContainer), hasProxyFirst)
		n.createEncrypted(ctx, "meshed", newCluster("meshed", workers("small", 2)), 3)
		for _, p := range n.pods.live("meshed") {
			Expect(hasProxyFirst(&p.pod)).To(BeTrue(), p.pod.Name)
		}
		for _, worker := range n.pods.live("meshed", isWorker) {
			n.joined(ctx, "meshed", worker)
		}
		n.keeps(ctx, "meshed")
		n.startedOnce("meshed", map[string]int{"head": 1, "small": 2})
	}, SpecTimeout(4*time.Minute))

	It("and turns TLS off is named, deletes no pod, and is over when somebody corrects it", func(ctx SpecContext) {
		n := newNamespace(ctx)
		n.create(ctx, newPolicy("altered", "altered", immediate))
		undo := n.admit(ctx, untls, hasNoTLS)
		n.createInjected(ctx, newCluster("altered", workers("small", 1)))
		message := n.condition(ctx, "altered", v1alpha1.ConditionReady, metav1.ConditionFalse, v1alpha1.ReasonPodsAltered)
		Expect(message).To(And(ContainSubstring("RAY_USE_TLS"), ContainSubstring("container ray-")))
		n.condition(ctx, "altered", v1alpha1.ConditionStalled, metav1.ConditionTrue, v1alpha1.ReasonPodsAltered)
		// The worker is not Ready: KubeRay's own init container in it keeps TLS, and waits for a head with TLS.
		Eventually(ctx, func() int { return len(n.pods.live("altered")) }).Should(Equal(2))
		n.keeps(ctx, "altered")
		Expect(n.pods.counts("altered")).To(Equal(map[string]int{"head": 1, "small": 1}))

		undo(ctx)
		Expect(api.DeleteAllOf(ctx, &corev1.Pod{}, client.InNamespace(n.name), client.MatchingLabels{"ray.io/cluster": "altered"})).To(Succeed())
		n.encrypted(ctx, "altered", "altered", 2)
	}, SpecTimeout(4*time.Minute))

	It("ends an attempt to enable a running cluster at its canary", func(ctx SpecContext) {
		n := newNamespace(ctx)
		n.create(ctx, newCluster("running", workers("small", 2)))
		n.running(ctx, "running", 3, plaintext)
		n.ready(ctx, "running")
		head := n.only("running", isHead).pod.UID
		n.admit(ctx, untls, hasNoTLS)
		n.create(ctx, newPolicy("running", "running", immediate))
		message := n.condition(ctx, "running", v1alpha1.ConditionReady, metav1.ConditionFalse, v1alpha1.ReasonEnableFailed)
		Expect(message).To(ContainSubstring("container ray-worker has another value of RAY_USE_TLS"))
		n.running(ctx, "running", 3)
		n.keeps(ctx, "running")
		Expect(n.only("running", isHead).pod.UID).To(Equal(head))
	}, SpecTimeout(4*time.Minute))
})
