//go:build e2e

package e2e

import (
	"context"
	"encoding/json"
	"fmt"
	"maps"
	"strings"
	"time"

	. "github.com/onsi/ginkgo/v2"
	. "github.com/onsi/gomega"
	rayv1 "github.com/ray-project/kuberay/ray-operator/apis/ray/v1"
	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/meta"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/apimachinery/pkg/util/rand"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/raytls/raytls/api/v1alpha1"
)

// namespace is what a spec works in.
type namespace struct {
	name string
	pods *recorder
}

// newNamespace makes a namespace that goes with the spec, or with the ordered container whose BeforeAll calls this.
func newNamespace(ctx context.Context, labels ...string) *namespace {
	GinkgoHelper()
	n := &namespace{name: "raytls-e2e-" + rand.String(6)}
	object := &corev1.Namespace{ObjectMeta: metav1.ObjectMeta{Name: n.name, Labels: map[string]string{specLabel: ""}}}
	for _, label := range labels {
		key, value, _ := strings.Cut(label, "=")
		object.Labels[key] = value
	}
	Expect(api.Create(ctx, object)).To(Succeed())
	DeferCleanup(func(ctx SpecContext) {
		if CurrentSpecReport().Failed() {
			n.dump(ctx)
		}
		// Policies first: the operator takes longest over those.
		Expect(client.IgnoreNotFound(api.DeleteAllOf(ctx, &rayv1.RayCluster{}, client.InNamespace(n.name)))).To(Succeed())
		Expect(client.IgnoreNotFound(api.Delete(ctx, object))).To(Succeed())
	}, NodeTimeout(time.Minute))
	watching, stop := context.WithCancel(context.Background())
	DeferCleanup(stop)
	n.pods = record(watching, n.name)
	// Pods are not made before the account that they use by default exists.
	Eventually(ctx, func(ctx context.Context) error {
		return api.Get(ctx, n.key("default"), &corev1.ServiceAccount{})
	}).Should(Succeed())
	return n
}

func (n *namespace) key(name string) types.NamespacedName {
	return types.NamespacedName{Namespace: n.name, Name: name}
}

// create makes an object in the namespace.
func (n *namespace) create(ctx context.Context, object client.Object) {
	GinkgoHelper()
	object.SetNamespace(n.name)
	Expect(api.Create(ctx, object)).To(Succeed())
}

// rayCluster reads a RayCluster as the API server has it, fields unknown to this program included.
func (n *namespace) rayCluster(ctx context.Context, name string) *unstructured.Unstructured {
	GinkgoHelper()
	object := &unstructured.Unstructured{}
	object.SetGroupVersionKind(rayv1.GroupVersion.WithKind("RayCluster"))
	Expect(api.Get(ctx, n.key(name), object)).To(Succeed())
	return object
}

// spec is the whole spec of a RayCluster, as JSON.
func (n *namespace) spec(ctx context.Context, name string) string {
	GinkgoHelper()
	text, err := json.Marshal(n.rayCluster(ctx, name).Object["spec"])
	Expect(err).NotTo(HaveOccurred())
	return string(text)
}

// tls reads the RayClusterTLS of a cluster; it is empty while there is none.
func (n *namespace) tls(ctx context.Context, cluster string) *v1alpha1.RayClusterTLS {
	GinkgoHelper()
	object := &v1alpha1.RayClusterTLS{}
	Expect(client.IgnoreNotFound(api.Get(ctx, n.key(cluster), object))).To(Succeed())
	return object
}

// pending waits until a restart of the cluster waits for this reason, and describes it.
func (n *namespace) pending(ctx context.Context, cluster, reason string) v1alpha1.PendingRestart {
	GinkgoHelper()
	var found v1alpha1.PendingRestart
	Eventually(ctx, func(g Gomega, ctx context.Context) {
		restart := n.tls(ctx, cluster).Status.PendingRestart
		g.Expect(restart).NotTo(BeNil())
		g.Expect(restart.Reason).To(Equal(reason), restart.Message)
		found = *restart
	}).Should(Succeed())
	return found
}

// approve runs the command that the message of a restart that waits ends with.
func (n *namespace) approve(ctx context.Context, cluster string) v1alpha1.PendingRestart {
	GinkgoHelper()
	restart := n.pending(ctx, cluster, v1alpha1.ReasonAwaitingApproval)
	_, command, found := strings.Cut(restart.Message, "run: ")
	Expect(found).To(BeTrue(), restart.Message)
	Expect(command).To(ContainSubstring(restart.ID))
	run(ctx, "sh", "-c", command)
	return restart
}

// annotations are the operator's on a RayCluster.
func (n *namespace) annotations(ctx context.Context, name string) map[string]string {
	GinkgoHelper()
	annotations := n.rayCluster(ctx, name).GetAnnotations()
	maps.DeleteFunc(annotations, func(key, _ string) bool { return !strings.HasPrefix(key, "raytls.io/") })
	return annotations
}

// phase is how far the operator is in restarting a cluster.
func (n *namespace) phase(ctx context.Context, name string) v1alpha1.RolloutPhase {
	GinkgoHelper()
	if rollout := n.tls(ctx, name).Status.Rollout; rollout != nil {
		return rollout.Phase
	}
	return ""
}

func (n *namespace) scale(ctx context.Context, name string, group, replicas int) {
	GinkgoHelper()
	n.patchJSON(ctx, name, fmt.Sprintf(`[{"op":"replace","path":"/spec/workerGroupSpecs/%d/replicas","value":%d}]`, group, replicas))
}

// patchJSON makes the operations of a JSON patch on a RayCluster.
func (n *namespace) patchJSON(ctx context.Context, name, patch string) {
	GinkgoHelper()
	cluster := &rayv1.RayCluster{ObjectMeta: metav1.ObjectMeta{Namespace: n.name, Name: name}}
	Expect(api.Patch(ctx, cluster, client.RawPatch(types.JSONPatchType, []byte(patch)))).To(Succeed())
}

func (n *namespace) policy(ctx context.Context, name string) *v1alpha1.RayTLSPolicy {
	GinkgoHelper()
	policy := &v1alpha1.RayTLSPolicy{}
	Expect(api.Get(ctx, n.key(name), policy)).To(Succeed())
	return policy
}

func (n *namespace) deletePolicy(ctx context.Context, name string) {
	GinkgoHelper()
	Expect(api.Delete(ctx, &v1alpha1.RayTLSPolicy{ObjectMeta: metav1.ObjectMeta{Namespace: n.name, Name: name}})).To(Succeed())
}

func (n *namespace) secret(ctx context.Context, name string) *corev1.Secret {
	GinkgoHelper()
	secret := &corev1.Secret{}
	Expect(api.Get(ctx, n.key(name), secret)).To(Succeed())
	return secret
}

// condition waits until a condition of the policy has this status and reason, and gives its message.
func (n *namespace) condition(ctx context.Context, policy, kind string, status metav1.ConditionStatus, reason string) string {
	GinkgoHelper()
	var message string
	Eventually(ctx, func(g Gomega, ctx context.Context) {
		p := &v1alpha1.RayTLSPolicy{}
		g.Expect(api.Get(ctx, n.key(policy), p)).To(Succeed())
		condition := meta.FindStatusCondition(p.Status.Conditions, kind)
		g.Expect(condition).NotTo(BeNil())
		g.Expect(condition.ObservedGeneration).To(Equal(p.Generation))
		g.Expect([]string{string(condition.Status), condition.Reason}).To(Equal([]string{string(status), reason}), condition.Message)
		message = condition.Message
	}).Should(Succeed())
	return message
}

// running waits until the cluster has so many pods, all of them Ready and none of them ending.
func (n *namespace) running(ctx context.Context, cluster string, pods int, keep ...func(podRecord) bool) {
	GinkgoHelper()
	Eventually(ctx, func(g Gomega) {
		there := n.pods.there(cluster)
		g.Expect(there).To(HaveLen(pods))
		for _, p := range there {
			g.Expect(p.live() && p.isReady()).To(BeTrue(), "%s is not ready, or ends", p.pod.Name)
			for _, k := range keep {
				g.Expect(k(p)).To(BeTrue(), "%s is not what it should be", p.pod.Name)
			}
		}
	}).WithTimeout(2 * time.Minute).Should(Succeed())
}

// ready waits until KubeRay calls the cluster ready. It then takes a restart for one.
func (n *namespace) ready(ctx context.Context, cluster string) {
	GinkgoHelper()
	Eventually(ctx, func(ctx context.Context) (string, error) {
		// The state is deprecated, and what `kubectl get` shows of every KubeRay.
		state, _, err := unstructured.NestedString(n.rayCluster(ctx, cluster).Object, "status", "state")
		return state, err
	}).Should(Equal(string(rayv1.Ready)))
}

// encrypted waits until all pods of the cluster have certificates and are Ready, and policy and cluster say so.
func (n *namespace) encrypted(ctx context.Context, policy, cluster string, pods int) {
	GinkgoHelper()
	n.running(ctx, cluster, pods, podRecord.injected)
	n.ready(ctx, cluster)
	Eventually(ctx, func(g Gomega, ctx context.Context) {
		status := n.tls(ctx, cluster).Status
		g.Expect(status.PolicyRef.Name).To(Equal(policy))
		for _, kind := range []string{v1alpha1.ConditionEncrypted, v1alpha1.ConditionCertified, v1alpha1.ConditionUpToDate} {
			condition := meta.FindStatusCondition(status.Conditions, kind)
			g.Expect(condition).NotTo(BeNil())
			g.Expect(condition.Status).To(Equal(metav1.ConditionTrue), "%s: %s: %s", kind, condition.Reason, condition.Message)
		}
		g.Expect(status.Pods).To(Equal(v1alpha1.PodCounts{Total: int32(pods), Certified: int32(pods)}))
		g.Expect(status.Rollout).To(BeNil())
		g.Expect(status.PendingRestart).To(BeNil())
	}).Should(Succeed())
}

// createEncrypted makes a cluster that the policy encrypts before it has any pods, and waits until it has so many.
func (n *namespace) createEncrypted(ctx context.Context, policy string, cluster *rayv1.RayCluster, pods int) {
	GinkgoHelper()
	n.createInjected(ctx, cluster)
	n.encrypted(ctx, policy, cluster.Name, pods)
}

// createInjected makes a cluster that starts once it is injected.
func (n *namespace) createInjected(ctx context.Context, cluster *rayv1.RayCluster) {
	GinkgoHelper()
	suspended(cluster)
	n.create(ctx, cluster)
	Eventually(ctx, func(g Gomega, ctx context.Context) {
		status := n.tls(ctx, cluster.Name).Status
		g.Expect(status.Injection.Revision).NotTo(BeZero())
		condition := meta.FindStatusCondition(status.Conditions, v1alpha1.ConditionEncrypted)
		g.Expect(condition).NotTo(BeNil())
		g.Expect([]string{string(condition.Status), condition.Reason}).To(Equal([]string{string(metav1.ConditionFalse), v1alpha1.ReasonSuspended}), condition.Message)
	}).Should(Succeed())
	n.patch(ctx, &rayv1.RayCluster{}, cluster.Name, `{"spec":{"suspend":false}}`)
}

// patch merges JSON into an object.
func (n *namespace) patch(ctx context.Context, object client.Object, name, patch string) {
	GinkgoHelper()
	object.SetNamespace(n.name)
	object.SetName(name)
	Expect(api.Patch(ctx, object, client.RawPatch(types.MergePatchType, []byte(patch)))).To(Succeed())
}

// only is the one pod that is meant.
func (n *namespace) only(cluster string, keep ...func(podRecord) bool) podRecord {
	GinkgoHelper()
	pods := n.pods.live(cluster, keep...)
	Expect(pods).To(HaveLen(1))
	return pods[0]
}

// dump prints what one wants to see of a spec that failed.
func (n *namespace) dump(ctx context.Context) {
	for _, args := range [][]string{
		{"-n", n.name, "get", "raytlspolicies,rayclustertlses,secrets,configmaps", "-o", "wide"},
		{"-n", n.name, "get", "raytlspolicies", "-o", "jsonpath={range .items[*]}{.metadata.name}{\": \"}{.status}{\"\\n\"}{end}"},
		{"-n", n.name, "get", "rayclustertlses", "-o", "jsonpath={range .items[*]}{.metadata.name}{\": \"}{.status}{\"\\n\"}{end}"},
		{"-n", n.name, "get", "rayclusters", "-o", "jsonpath={range .items[*]}{.metadata.name}{\": \"}{.status}{\"\\n\"}{end}"},
		{"-n", n.name, "get", "pods", "-o", "wide"},
		{"-n", n.name, "get", "events", "--sort-by=.lastTimestamp"},
		{"-n", operatorNamespace, "logs", "-l", "app.kubernetes.io/component=controller", "--tail=60"},
		{"-n", operatorNamespace, "logs", "-l", "app.kubernetes.io/component=webhook", "--tail=60"},
	} {
		GinkgoWriter.Printf("-- kubectl %s\n%s\n", strings.Join(args, " "), kubectl(ctx, args...))
	}
}
