package suite_test

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"time"

	. "github.com/onsi/ginkgo/v2"
	. "github.com/onsi/gomega"
	corev1 "k8s.io/api/core/v1"
	policyv1 "k8s.io/api/policy/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/client-go/tools/clientcmd"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/raytls/raytls/api/v1alpha1"
)

// installGuards applies the policies that hold the controller's account, so that every spec proves that they leave it what it needs.
func (e *environment) installGuards() error {
	return e.apply(installation, "ValidatingAdmissionPolicy", "ValidatingAdmissionPolicyBinding")
}

// controller is a client with the controller's account.
func (e *environment) controller() (client.Client, error) {
	config, err := clientcmd.BuildConfigFromFlags("", e.kubeconfig)
	if err != nil {
		return nil, err
	}
	config.QPS = -1
	return client.New(config, client.Options{Scheme: e.admin.Scheme()})
}

// guarded reports whether the API server holds the controller's account yet: it reads new policies within some seconds.
func (e *environment) guarded() error {
	c, err := e.controller()
	if err != nil {
		return err
	}
	secret := &corev1.Secret{ObjectMeta: metav1.ObjectMeta{Namespace: operatorNamespace, Name: "of-another-name"}}
	if err := c.Create(context.Background(), secret, client.DryRunAll); err == nil || !strings.Contains(err.Error(), "raytls-controller-secrets") {
		return errors.Join(errors.New("the guards are not in force"), err)
	}
	return nil
}

// act is a request of the controller's account.
type act func(w *world, c client.Client) error

func patching(object func(w *world) client.Object, format string, args ...any) act {
	return func(w *world, c client.Client) error {
		patch := client.RawPatch(types.JSONPatchType, fmt.Appendf(nil, format, args...))
		return c.Patch(w.ctx, object(w), patch, client.DryRunAll)
	}
}

func creating(object client.Object) act {
	return func(w *world, c client.Client) error {
		copied, _ := object.DeepCopyObject().(client.Object)
		copied.SetNamespace(w.ns)
		return c.Create(w.ctx, copied, client.DryRunAll)
	}
}

func deleting(object func(w *world) client.Object) act {
	return func(w *world, c client.Client) error { return c.Delete(w.ctx, object(w), client.DryRunAll) }
}

// evicting evicts a pod; uid is what its UID is said to be.
func evicting(object func(w *world) client.Object, uid func(client.Object) types.UID) act {
	return func(w *world, c client.Client) error {
		pod := object(w)
		eviction := &policyv1.Eviction{ObjectMeta: metav1.ObjectMeta{Namespace: pod.GetNamespace(), Name: pod.GetName()}}
		if of := uid(pod); of != "" {
			eviction.DeleteOptions = &metav1.DeleteOptions{Preconditions: &metav1.Preconditions{UID: &of}}
		}
		return c.SubResource("eviction").Create(w.ctx, pod, eviction, client.DryRunAll)
	}
}

func meta(name string, labels map[string]string) metav1.ObjectMeta {
	return metav1.ObjectMeta{Name: name, Labels: labels}
}

var _ = Describe("The controller's account", Ordered, ContinueOnFailure, func() {
	var w *world
	var c client.Client
	ours := map[string]string{v1alpha1.LabelManagedBy: v1alpha1.ManagedBy}
	token := &corev1.Secret{ObjectMeta: meta("raytls-token", ours), Type: corev1.SecretTypeServiceAccountToken}
	token.Annotations = map[string]string{corev1.ServiceAccountNameKey: "default"}

	cluster := func(w *world) client.Object { return w.get("c") }
	service := func(w *world) client.Object { return w.getService("s") }
	pod := func(w *world) client.Object { return &w.pods("c")[0] }
	policy := func(w *world) client.Object { return w.getPolicy("p") }
	webhooks := func(*world) client.Object { return configuration() }
	secret := func(name string) func(w *world) client.Object {
		return func(w *world) client.Object {
			return &corev1.Secret{ObjectMeta: metav1.ObjectMeta{Namespace: w.ns, Name: name}}
		}
	}

	BeforeAll(func() {
		installAdmission()
		w = newWorld()
		var err error
		c, err = env.controller()
		Expect(err).NotTo(HaveOccurred())
		w.run("c", inHead(func(container map[string]any) { container["args"] = []any{"a"} }), annotation("mine", "1"))
		w.policy("p", targeting("nobody"))
		w.ray.frozen = true
		w.createService("s")
		for _, o := range []client.Object{
			&corev1.Secret{ObjectMeta: meta("somebodys", ours)},
			&corev1.Secret{ObjectMeta: meta("raytls-somebodys", nil)},
			&corev1.ConfigMap{ObjectMeta: meta("somebodys", ours)},
			&corev1.Pod{ObjectMeta: meta("plain", nil), Spec: corev1.PodSpec{Containers: []corev1.Container{{Name: "c", Image: "i"}}}},
			&corev1.Pod{ObjectMeta: meta("labelled", map[string]string{"ray.io/cluster": "c"}), Spec: corev1.PodSpec{Containers: []corev1.Container{{Name: "c", Image: "i"}}}},
		} {
			o.SetNamespace(w.ns)
			Expect(w.admin.Create(w.ctx, o)).To(Succeed())
		}
	})

	named := func(name string) func(w *world) client.Object {
		return func(w *world) client.Object {
			return &corev1.Pod{ObjectMeta: metav1.ObjectMeta{Namespace: w.ns, Name: name}}
		}
	}
	const head, worker = "/spec/headGroupSpec/template/spec", "/spec/workerGroupSpecs/0/template/spec"
	DescribeTable("is refused", func(message string, do act) {
		Eventually(func() error { return do(w, c) }).WithTimeout(20 * time.Second).Should(MatchError(And(ContainSubstring("ValidatingAdmissionPolicy"), ContainSubstring(message))))
	},
		Entry("a Secret of another name", "named raytls-*", creating(&corev1.Secret{ObjectMeta: meta("mine", ours)})),
		Entry("a Secret of a name that the server makes", "named raytls-*", creating(&corev1.Secret{ObjectMeta: metav1.ObjectMeta{GenerateName: "x-", Labels: ours}})),
		Entry("a token", "type Opaque", creating(token)),
		Entry("a Secret without the label", "with the label", creating(&corev1.Secret{ObjectMeta: meta("raytls-mine", nil)})),
		Entry("another's Secret, deleted", "named raytls-*", deleting(secret("somebodys"))),
		Entry("another's Secret of such a name, deleted", "with the label", deleting(secret("raytls-somebodys"))),
		Entry("another's Secret, updated", "named raytls-*", func(w *world, c client.Client) error {
			o := &corev1.Secret{}
			Expect(w.admin.Get(w.ctx, client.ObjectKey{Namespace: w.ns, Name: "somebodys"}, o)).To(Succeed())
			o.StringData = map[string]string{"a": "b"}
			return c.Update(w.ctx, o, client.DryRunAll)
		}),
		Entry("a ConfigMap of another name", "named raytls-gencert-*", creating(&corev1.ConfigMap{ObjectMeta: meta("mine", ours)})),
		Entry("a ConfigMap without the label", "with the label", creating(&corev1.ConfigMap{ObjectMeta: meta("raytls-gencert-x", nil)})),
		Entry("another's ConfigMap, deleted", "named raytls-gencert-*", deleting(func(w *world) client.Object {
			return &corev1.ConfigMap{ObjectMeta: metav1.ObjectMeta{Namespace: w.ns, Name: "somebodys"}}
		})),

		Entry("a pod without the label, deleted", "pods of RayClusters", deleting(named("plain"))),
		Entry("a pod that carries no more than the label, deleted", "pods of RayClusters", deleting(named("labelled"))),
		Entry("a pod, evicted by its name", "by its UID", evicting(pod, func(client.Object) types.UID { return "" })),
		Entry("a pod of the operator's namespace, evicted", "nor of the operator's", evicting(func(*world) client.Object {
			return &corev1.Pod{ObjectMeta: metav1.ObjectMeta{Namespace: operatorNamespace, Name: "x"}}
		}, func(client.Object) types.UID { return "x" })),
		Entry("a pod of the cluster's own, evicted", "the cluster's own namespaces", evicting(func(*world) client.Object {
			return &corev1.Pod{ObjectMeta: metav1.ObjectMeta{Namespace: "kube-system", Name: "x"}}
		}, func(client.Object) types.UID { return "x" })),
		Entry("a pod without the label, annotated", "pods of RayClusters", patching(named("plain"), `[{"op":"add","path":"/metadata/annotations","value":{"raytls.io/sync":"1"}}]`)),
		Entry("a pod's image", "raytls.io/sync", patching(pod, `[{"op":"replace","path":"/spec/containers/0/image","value":"evil"}]`)),
		Entry("a pod's label", "raytls.io/sync", patching(pod, `[{"op":"add","path":"/metadata/labels/a","value":"b"}]`)),
		Entry("a pod's other annotation", "raytls.io/sync", patching(pod, `[{"op":"add","path":"/metadata/annotations","value":{"a":"b"}}]`)),

		Entry("a RayCluster, suspended", "pod templates", patching(cluster, `[{"op":"add","path":"/spec/suspend","value":true}]`)),
		Entry("a RayCluster, scaled", "pod templates", patching(cluster, `[{"op":"replace","path":"/spec/workerGroupSpecs/0/replicas","value":7}]`)),
		Entry("a RayCluster's group, added", "pod templates", patching(cluster, `[{"op":"copy","from":"/spec/workerGroupSpecs/0","path":"/spec/workerGroupSpecs/-"}]`)),
		Entry("a RayCluster's parameters", "pod templates", patching(cluster, `[{"op":"add","path":"/spec/headGroupSpec/rayStartParams/a","value":"b"}]`)),
		Entry("a RayCluster's field, removed", "pod templates", patching(cluster, `[{"op":"remove","path":"/spec/rayVersion"}]`)),
		Entry("a RayCluster's autoscaler image", "pod templates", patching(cluster, `[{"op":"add","path":"/spec/autoscalerOptions","value":{"image":"evil"}}]`)),
		Entry("a RayCluster's label", "raytls.io/edit", patching(cluster, `[{"op":"add","path":"/metadata/labels","value":{"a":"b"}}]`)),
		Entry("a RayCluster's other annotation", "raytls.io/edit", patching(cluster, `[{"op":"add","path":"/metadata/annotations/a","value":"b"}]`)),
		Entry("a RayCluster's other annotation, removed", "raytls.io/edit", patching(cluster, `[{"op":"remove","path":"/metadata/annotations/mine"}]`)),
		Entry("a RayCluster's finalizer", "raytls.io/edit", patching(cluster, `[{"op":"add","path":"/metadata/finalizers","value":["a.b/c"]}]`)),
		Entry("a head's image", "image, command", patching(cluster, `[{"op":"replace","path":"%s/containers/0/image","value":"evil"}]`, head)),
		Entry("a worker's image", "image, command", patching(cluster, `[{"op":"replace","path":"%s/containers/0/image","value":"evil"}]`, worker)),
		Entry("a worker's command", "image, command", patching(cluster, `[{"op":"add","path":"%s/containers/0/command","value":["evil"]}]`, worker)),
		Entry("a head's args, removed", "image, command", patching(cluster, `[{"op":"remove","path":"%s/containers/0/args"}]`, head)),
		Entry("a container more", "image, command", patching(cluster, `[{"op":"add","path":"%s/containers/-","value":{"name":"x","image":"evil"}}]`, worker)),
		Entry("another init container", "image, command", patching(cluster, `[{"op":"add","path":"%s/initContainers","value":[{"name":"x","image":"evil"}]}]`, worker)),
		Entry("a privileged container", "image, command", patching(cluster, `[{"op":"add","path":"%s/containers/0/securityContext","value":{"privileged":true}}]`, worker)),
		Entry("a volume of the node's", "no volumes", patching(cluster, `[{"op":"add","path":"%s/volumes","value":[{"name":"x","hostPath":{"path":"/"}}]}]`, worker)),
		Entry("a volume of the node's under a name of ours", "no volumes", patching(cluster, `[{"op":"add","path":"%s/volumes","value":[{"name":"raytls-certs","hostPath":{"path":"/"}}]}]`, worker)),
		Entry("another's Secret under a name of ours", "no volumes", patching(cluster, `[{"op":"add","path":"%s/volumes","value":[{"name":"raytls-issuer","secret":{"secretName":"x"}}]}]`, worker)),
		Entry("another service account", "service account", patching(cluster, `[{"op":"add","path":"%s/serviceAccountName","value":"x"}]`, head)),
		Entry("the node's network", "service account", patching(cluster, `[{"op":"add","path":"%s/hostNetwork","value":true}]`, worker)),

		Entry("a RayService's image", "raytls.io/restarted-for", patching(service, `[{"op":"replace","path":"/spec/rayClusterConfig/headGroupSpec/template/spec/containers/0/image","value":"evil"}]`)),
		Entry("a RayService's application", "raytls.io/restarted-for", patching(service, `[{"op":"add","path":"/spec/serveConfigV2","value":"evil"}]`)),
		Entry("a RayService's label", "raytls.io/restarted-for", patching(service, `[{"op":"add","path":"/metadata/labels","value":{"a":"b"}}]`)),
		Entry("another annotation of a RayService's head", "raytls.io/restarted-for", patching(service, `[{"op":"add","path":"/spec/rayClusterConfig/headGroupSpec/template/metadata","value":{"annotations":{"a":"b"}}}]`)),

		Entry("a policy's spec", "the finalizers", patching(policy, `[{"op":"replace","path":"/spec/paused","value":true}]`)),
		Entry("a policy's label", "the finalizers", patching(policy, `[{"op":"add","path":"/metadata/labels","value":{"a":"b"}}]`)),

		Entry("the webhook's server", "caBundle, namespaceSelector", patching(webhooks, `[{"op":"replace","path":"/webhooks/0/clientConfig/url","value":"https://evil.example/"}]`)),
		Entry("the webhook's rules", "caBundle, namespaceSelector", patching(webhooks, `[{"op":"replace","path":"/webhooks/0/rules/0/resources","value":["*"]}]`)),
		Entry("the webhook's rules, one more", "caBundle, namespaceSelector", patching(webhooks, `[{"op":"add","path":"/webhooks/0/rules/-",
			"value":{"apiGroups":["ray.io"],"apiVersions":["v1"],"operations":["*"],"resources":["rayclusters","rayjobs"]}}]`)),
		Entry("the rules of policies", "caBundle, namespaceSelector", patching(webhooks, `[{"op":"replace","path":"/webhooks/1/rules/0/apiGroups","value":[""]}]`)),
		Entry("the webhook's failurePolicy", "caBundle, namespaceSelector", patching(webhooks, `[{"op":"replace","path":"/webhooks/0/failurePolicy","value":"Ignore"}]`)),
		Entry("the webhook's conditions, removed", "caBundle, namespaceSelector", patching(webhooks, `[{"op":"remove","path":"/webhooks/0/matchConditions"}]`)),
		Entry("a webhook less", "caBundle, namespaceSelector", patching(webhooks, `[{"op":"remove","path":"/webhooks/1"}]`)),
		Entry("the configuration's annotation", "metadata", patching(webhooks, `[{"op":"add","path":"/metadata/annotations","value":{"cert-manager.io/inject-ca-from":"a/b"}}]`)),
	)

	DescribeTable("is allowed", func(do act) {
		Consistently(func() error { return do(w, c) }).Should(Succeed())
	},
		Entry("a Secret of its own", creating(&corev1.Secret{ObjectMeta: meta("raytls-mine", ours)})),
		Entry("scripts", creating(&corev1.ConfigMap{ObjectMeta: meta("raytls-gencert-r1-x", ours)})),
		Entry("a RayCluster's pod, deleted", deleting(pod)),
		Entry("a RayCluster's pod, evicted", evicting(pod, client.Object.GetUID)),
		Entry("a RayCluster's pod, woken", patching(pod, `[{"op":"add","path":"/metadata/annotations/raytls.io~1sync","value":"1"}]`)),
		Entry("variables and mounts", patching(cluster, `[{"op":"add","path":"%s/containers/0/env","value":[{"name":"RAY_USE_TLS","value":"1"}]},
			{"op":"add","path":"%s/volumes","value":[{"name":"raytls-certs","emptyDir":{"medium":"Memory"}}]},
			{"op":"add","path":"%s/initContainers","value":[{"name":"raytls-init","image":"i"}]}]`, worker, worker, worker)),
		Entry("a RayService's restart", patching(service, `[{"op":"add","path":"/spec/rayClusterConfig/headGroupSpec/template/metadata","value":{"annotations":{"raytls.io/restarted-for":"x"}}}]`)),
		Entry("the webhook's CA and namespaces", patching(webhooks, `[{"op":"remove","path":"/webhooks/0/clientConfig/caBundle"},
			{"op":"replace","path":"/webhooks/0/namespaceSelector","value":{}}]`)),
		Entry("the webhook's rules for RayClusters", patching(webhooks, `[{"op":"add","path":"/webhooks/0/rules",
			"value":[{"apiGroups":["ray.io"],"apiVersions":["v1"],"operations":["CREATE"],"resources":["rayclusters"]}]}]`)),
	)

	It("alone is held: an administrator does what it may not", func() {
		for _, do := range []act{
			creating(&corev1.Secret{ObjectMeta: meta("mine", nil)}), deleting(named("plain")),
			patching(cluster, `[{"op":"replace","path":"%s/containers/0/image","value":"other"}]`, head),
			patching(webhooks, `[{"op":"replace","path":"/webhooks/0/timeoutSeconds","value":9}]`),
		} {
			Expect(do(w, w.admin)).To(Succeed())
		}
	})
})
