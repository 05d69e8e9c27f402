//go:build ray

package ray

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
	"k8s.io/apimachinery/pkg/api/meta"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/apimachinery/pkg/util/rand"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/raytls/raytls/api/v1alpha1"
	"github.com/raytls/raytls/test/live"
)

// The names of the Ray containers.
const (
	headContainer   = "ray-head"
	workerContainer = "ray-worker"
)

// namespace is what specs work in.
type namespace struct{ name string }

// newNamespace makes a namespace that goes with the spec, or with the container whose BeforeAll calls this.
func newNamespace(ctx context.Context) *namespace {
	GinkgoHelper()
	n := &namespace{name: suiteLabel + "-" + rand.String(5)}
	object := &corev1.Namespace{ObjectMeta: metav1.ObjectMeta{Name: n.name, Labels: map[string]string{suiteLabel: run}}}
	Expect(target.API.Create(ctx, object)).To(Succeed())
	DeferCleanup(func(ctx SpecContext) {
		if CurrentSpecReport().Failed() {
			n.dump(ctx)
		}
		for _, kind := range []client.Object{&rayv1.RayJob{}, &rayv1.RayService{}, &rayv1.RayCluster{}} {
			Expect(client.IgnoreNotFound(target.API.DeleteAllOf(ctx, kind, client.InNamespace(n.name)))).To(Succeed())
		}
		Expect(client.IgnoreNotFound(target.API.Delete(ctx, object))).To(Succeed())
	}, NodeTimeout(time.Minute))
	// Pods are not made before the account that they use by default exists.
	Eventually(ctx, func(ctx context.Context) error {
		return target.API.Get(ctx, n.key("default"), &corev1.ServiceAccount{})
	}).Should(Succeed())
	return n
}

// newTLSNamespace is a namespace whose clusters are encrypted from their first pod on.
func newTLSNamespace(ctx context.Context) *namespace {
	GinkgoHelper()
	n := newNamespace(ctx)
	n.encrypt(ctx)
	return n
}

// encrypt makes a policy for the whole namespace, and waits until the webhook is asked about it.
func (n *namespace) encrypt(ctx context.Context, options ...func(*v1alpha1.RayTLSPolicy)) {
	GinkgoHelper()
	made := newPolicy()
	for _, option := range options {
		option(made)
	}
	n.create(ctx, made)
	Eventually(ctx, func(g Gomega, ctx context.Context) {
		policy := &v1alpha1.RayTLSPolicy{}
		g.Expect(target.API.Get(ctx, n.key("default"), policy)).To(Succeed())
		g.Expect(meta.IsStatusConditionTrue(policy.Status.Conditions, v1alpha1.ConditionAdmissionActive)).To(BeTrue())
	}).Should(Succeed())
}

func (n *namespace) key(name string) types.NamespacedName {
	return types.NamespacedName{Namespace: n.name, Name: name}
}

// create makes an object in the namespace.
func (n *namespace) create(ctx context.Context, object client.Object) {
	GinkgoHelper()
	object.SetNamespace(n.name)
	Expect(target.API.Create(ctx, object)).To(Succeed())
}

// remove deletes a cluster, and waits until its pods are gone, so that they take nothing from the next spec.
func (n *namespace) remove(ctx context.Context, cluster string) {
	GinkgoHelper()
	Expect(target.API.Delete(ctx, &rayv1.RayCluster{ObjectMeta: metav1.ObjectMeta{Namespace: n.name, Name: cluster}})).To(Succeed())
	Eventually(ctx, func(ctx context.Context) ([]corev1.Pod, error) { return n.find(ctx, cluster, "") }).Should(BeEmpty())
}

// find are the pods of a cluster, of one node type unless that is empty.
func (n *namespace) find(ctx context.Context, cluster, nodeType string) ([]corev1.Pod, error) {
	labels := client.MatchingLabels{"ray.io/cluster": cluster}
	if nodeType != "" {
		labels["ray.io/node-type"] = nodeType
	}
	var list corev1.PodList
	err := target.API.List(ctx, &list, client.InNamespace(n.name), labels)
	return list.Items, err
}

// head is the one head of a cluster.
func (n *namespace) head(ctx context.Context, cluster string) *corev1.Pod {
	GinkgoHelper()
	pods, err := n.find(ctx, cluster, "head")
	Expect(err).NotTo(HaveOccurred())
	Expect(pods).To(HaveLen(1))
	return &pods[0]
}

// workers are the workers of a cluster.
func (n *namespace) workers(ctx context.Context, cluster string) []corev1.Pod {
	GinkgoHelper()
	pods, err := n.find(ctx, cluster, "worker")
	Expect(err).NotTo(HaveOccurred())
	return pods
}

// ready waits until a cluster has so many pods, all of them Ready.
func (n *namespace) ready(ctx context.Context, cluster string, pods int) {
	GinkgoHelper()
	Eventually(ctx, func(g Gomega, ctx context.Context) {
		found, err := n.find(ctx, cluster, "")
		g.Expect(err).NotTo(HaveOccurred())
		g.Expect(found).To(HaveLen(pods))
		for _, pod := range found {
			g.Expect(isReady(&pod)).To(BeTrue(), "%s is not ready, or ends", pod.Name)
		}
	}).WithTimeout(4 * time.Minute).Should(Succeed())
}

// encrypted waits until a cluster has so many pods, all of them Ready, and the operator calls it encrypted.
func (n *namespace) encrypted(ctx context.Context, cluster string, pods int) {
	GinkgoHelper()
	n.ready(ctx, cluster, pods)
	Eventually(ctx, func(g Gomega, ctx context.Context) {
		status := n.status(ctx, g, cluster)
		isTrue(g, status, v1alpha1.ConditionEncrypted)
		g.Expect(status.ObservedOnWire.Head).To(Equal(v1alpha1.WireTLS))
	}).Should(Succeed())
}

// status is what the operator says of a cluster.
func (n *namespace) status(ctx context.Context, g Gomega, cluster string) *v1alpha1.RayClusterTLSStatus {
	tls := &v1alpha1.RayClusterTLS{}
	g.Expect(target.API.Get(ctx, n.key(cluster), tls)).To(Succeed())
	return &tls.Status
}

// isTrue asserts that a condition of a cluster is True.
func isTrue(g Gomega, status *v1alpha1.RayClusterTLSStatus, kind string) {
	condition := meta.FindStatusCondition(status.Conditions, kind)
	g.Expect(condition).NotTo(BeNil())
	g.Expect(condition.Status).To(Equal(metav1.ConditionTrue), "%s: %s", condition.Reason, condition.Message)
}

// python runs a script of specs/ in the Ray container of a pod.
func (n *namespace) python(ctx context.Context, pod *corev1.Pod, script string, args ...string) (live.Result, error) {
	return n.pythonIn(ctx, pod, nil, script, args...)
}

// pythonIn runs a script of specs/ with further variables, each as NAME=value.
func (n *namespace) pythonIn(ctx context.Context, pod *corev1.Pod, variables []string, script string, args ...string) (live.Result, error) {
	text, err := os.ReadFile(filepath.Join("specs", script))
	if err != nil {
		return live.Result{}, err
	}
	command := append([]string{"env"}, variables...)
	command = append(append(command, "python", "-"), args...)
	return target.Exec(ctx, n.key(pod.Name), pod.Spec.Containers[0].Name, string(text), command...)
}

// skipped is how a script ends that cannot run with this image, as automake's tests do.
const skipped = 77

// passes runs a script that ends well, and gives what it printed.
func (n *namespace) passes(ctx context.Context, pod *corev1.Pod, script string, args ...string) string {
	GinkgoHelper()
	began := time.Now()
	ended, err := n.python(ctx, pod, script, args...)
	Expect(err).NotTo(HaveOccurred())
	if ended.Code == skipped {
		Skip(ended.Stdout)
	}
	Expect(ended.Code).To(BeZero(), "%s %s in %s: %s", script, strings.Join(args, " "), pod.Name, ended.Output())
	GinkgoWriter.Printf("%s took %s: %s\n", script, time.Since(began).Round(100*time.Millisecond), ended.Stdout)
	return ended.Stdout
}

// sh runs a shell script in the first container of a pod.
func (n *namespace) sh(ctx context.Context, pod *corev1.Pod, script string) (live.Result, error) {
	return target.Exec(ctx, n.key(pod.Name), pod.Spec.Containers[0].Name, "", "/bin/sh", "-c", script)
}

// dashboardOf is the address of a head's dashboard.
func dashboardOf(head *corev1.Pod) string { return address(head, 8265) }

// address is that of a port of a pod.
func address(pod *corev1.Pod, port int) string { return fmt.Sprintf("%s:%d", pod.Status.PodIP, port) }

// dump prints what one wants to see of a spec that failed.
func (n *namespace) dump(ctx context.Context) {
	for _, args := range [][]string{
		{"-n", n.name, "get", "rayclusters,rayjobs,rayservices,raytlspolicies,rayclustertlses,pods", "-o", "wide"},
		{"-n", n.name, "get", "rayclustertlses", "-o", "jsonpath={range .items[*]}{.metadata.name}{\": \"}{.status}{\"\\n\"}{end}"},
		{"-n", n.name, "get", "events", "--sort-by=.lastTimestamp"},
		{"-n", live.OperatorNamespace, "logs", "-l", "app.kubernetes.io/component=controller", "--tail=60"},
	} {
		out, err := target.Run(ctx, "kubectl", args...)
		GinkgoWriter.Printf("-- kubectl %s\n%s\n", strings.Join(args, " "), out)
		if err != nil {
			GinkgoWriter.Println(err)
		}
	}
}
