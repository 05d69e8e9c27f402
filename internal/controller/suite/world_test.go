package suite_test

import (
	"context"
	"fmt"
	"os"
	"slices"
	"strings"
	"time"

	"github.com/google/go-cmp/cmp"
	. "github.com/onsi/ginkgo/v2"
	. "github.com/onsi/gomega"
	rayv1 "github.com/ray-project/kuberay/ray-operator/apis/ray/v1"
	corev1 "k8s.io/api/core/v1"
	eventsv1 "k8s.io/api/events/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	apimeta "k8s.io/apimachinery/pkg/api/meta"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/types"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/raytls/raytls/api/v1alpha1"
	"github.com/raytls/raytls/internal/gencert"
	"github.com/raytls/raytls/internal/injection"
	"github.com/raytls/raytls/internal/keys"
)

// world is what one spec sees: a namespace with KubeRay in it, and what the operator wrote since the spec began.
type world struct {
	ctx   context.Context
	ns    string
	admin client.WithWatch
	ray   *kubeRay
	from  int64
}

// newWorld makes a namespace, and empties it when the spec ends.
func newWorld() *world {
	GinkgoHelper()
	env.namespaces++
	w := &world{ctx: context.Background(), ns: fmt.Sprintf("ns-%d", env.namespaces), admin: env.admin}
	Expect(w.admin.Create(w.ctx, &corev1.Namespace{ObjectMeta: metav1.ObjectMeta{Name: w.ns}})).To(Succeed())
	w.ray = &kubeRay{admin: w.admin, namespace: w.ns}
	w.mark()
	DeferCleanup(w.empty)
	DeferCleanup(restoreOperator)
	return w
}

func (w *world) empty() {
	in := client.InNamespace(w.ns)
	var policies v1alpha1.RayTLSPolicyList
	Expect(w.admin.List(w.ctx, &policies, in)).To(Succeed())
	for i := range policies.Items {
		w.removeFinalizers(&policies.Items[i])
	}
	Expect(w.admin.DeleteAllOf(w.ctx, &v1alpha1.RayTLSPolicy{}, in)).To(Succeed())
	Expect(w.admin.DeleteAllOf(w.ctx, &rayv1.RayCluster{}, in)).To(Succeed())
	Expect(w.admin.DeleteAllOf(w.ctx, &rayv1.RayJob{}, in)).To(Succeed())
	Expect(w.admin.DeleteAllOf(w.ctx, &rayv1.RayService{}, in)).To(Succeed())
	Expect(w.admin.DeleteAllOf(w.ctx, &corev1.Pod{}, in, client.GracePeriodSeconds(0))).To(Succeed())
	Expect(w.admin.DeleteAllOf(w.ctx, &v1alpha1.RayClusterTLS{}, in)).To(Succeed())
	for i := range policies.Items {
		w.removeFinalizers(&policies.Items[i])
	}
}

func (w *world) removeFinalizers(policy *v1alpha1.RayTLSPolicy) {
	patch := client.RawPatch(types.MergePatchType, []byte(`{"metadata":{"finalizers":null}}`))
	Expect(client.IgnoreNotFound(w.admin.Patch(w.ctx, policy.DeepCopy(), patch))).To(Succeed())
}

// eventually moves KubeRay step by step until the assertions hold.
func (w *world) eventually(check func(g Gomega)) {
	GinkgoHelper()
	Eventually(func(g Gomega) {
		w.ray.step(w.ctx)
		check(g)
	}).Should(Succeed())
}

// consistently moves KubeRay step by step and sees the assertions hold for a while.
func (w *world) consistently(check func(g Gomega)) {
	GinkgoHelper()
	Consistently(func(g Gomega) {
		w.ray.step(w.ctx)
		check(g)
	}).Should(Succeed())
}

// mark forgets the writes so far.
func (w *world) mark() {
	GinkgoHelper()
	info, err := os.Stat(env.writes)
	if os.IsNotExist(err) {
		w.from = 0
		return
	}
	Expect(err).NotTo(HaveOccurred())
	w.from = info.Size()
}

// writes are what the operator wrote to the namespace since mark, in order, events aside.
func (w *world) writes() []string {
	GinkgoHelper()
	text, err := os.ReadFile(env.writes)
	if os.IsNotExist(err) {
		return nil
	}
	Expect(err).NotTo(HaveOccurred())
	var out []string
	for line := range strings.Lines(string(text[w.from:])) {
		_, path, found := strings.Cut(line, "/namespaces/"+w.ns+"/")
		if found && !strings.HasPrefix(path, "events") {
			out = append(out, strings.Fields(line)[0]+" "+strings.TrimSpace(path))
		}
	}
	return out
}

// deleted are the pods that the operator deleted since mark, in order. A pod is named once: asking again for the end of a
// pod that is ending changes nothing.
func (w *world) deleted() []string {
	GinkgoHelper()
	var out []string
	for _, write := range w.writes() {
		if name, found := strings.CutPrefix(write, "DELETE pods/"); found {
			if name, _, _ = strings.Cut(name, " "); !slices.Contains(out, name) {
				out = append(out, name)
			}
		}
	}
	return out
}

// quiet sees that the operator writes nothing to the namespace for a while. The status is allowed to settle first.
func (w *world) quiet() {
	GinkgoHelper()
	w.settle()
	w.mark()
	w.consistently(func(g Gomega) { g.Expect(w.writes()).To(BeEmpty()) })
}

// settle waits until the operator has written nothing for the time in which it coalesces. Each look talks with the API
// server: on a machine that is busy, where the operator takes its time too, ten take longer than that.
func (w *world) settle() {
	GinkgoHelper()
	var count, looks int
	var since time.Time
	w.eventually(func(g Gomega) {
		if now := len(w.writes()); now != count || since.IsZero() {
			count, looks, since = now, 0, time.Now()
		}
		looks++
		g.Expect(time.Since(since)).To(BeNumerically(">", 500*time.Millisecond))
		g.Expect(looks).To(BeNumerically(">", 10))
	})
}

// edit changes a RayCluster that is about to be made.
type edit func(*unstructured.Unstructured)

const image = "rayproject/ray:2.52.0"

func podTemplate(container, image string) map[string]any {
	return map[string]any{"spec": map[string]any{"containers": []any{map[string]any{"name": container, "image": image}}}}
}

func workerGroup(name string, replicas int64, image string) map[string]any {
	return map[string]any{
		"groupName": name, "replicas": replicas, "minReplicas": int64(0), "maxReplicas": int64(10),
		"rayStartParams": map[string]any{}, "template": podTemplate("ray-worker", image),
	}
}

// rayCluster is a head and a worker group "small" of two.
func (w *world) rayCluster(name string, edits ...edit) *unstructured.Unstructured {
	c := &unstructured.Unstructured{Object: map[string]any{
		"metadata": map[string]any{"name": name, "namespace": w.ns},
		"spec": map[string]any{
			"rayVersion":       "2.52.0",
			"headGroupSpec":    map[string]any{"rayStartParams": map[string]any{}, "template": podTemplate("ray-head", image)},
			"workerGroupSpecs": []any{workerGroup("small", 2, image)},
		},
	}}
	c.SetGroupVersionKind(rayv1.GroupVersion.WithKind("RayCluster"))
	for _, e := range edits {
		e(c)
	}
	return c
}

func set(value any, path ...string) edit {
	return func(c *unstructured.Unstructured) {
		GinkgoHelper()
		Expect(unstructured.SetNestedField(c.Object, value, path...)).To(Succeed())
	}
}

func groups(groups ...any) edit { return set(groups, "spec", "workerGroupSpecs") }

func label(key, value string) edit { return set(value, "metadata", "labels", key) }

func annotation(key, value string) edit { return set(value, "metadata", "annotations", key) }

func owned(kind, name string) edit {
	return func(c *unstructured.Unstructured) {
		yes := true
		c.SetOwnerReferences([]metav1.OwnerReference{{APIVersion: "ray.io/v1", Kind: kind, Name: name, UID: types.UID(name), Controller: &yes}})
	}
}

// inHead changes the head's Ray container.
func inHead(change func(container map[string]any)) edit {
	return func(c *unstructured.Unstructured) {
		spec := c.Object["spec"].(map[string]any)
		pod := spec["headGroupSpec"].(map[string]any)["template"].(map[string]any)["spec"].(map[string]any)
		change(pod["containers"].([]any)[0].(map[string]any))
	}
}

// create makes a RayCluster and returns it as the API server has it.
func (w *world) create(name string, edits ...edit) *unstructured.Unstructured {
	GinkgoHelper()
	c := w.rayCluster(name, edits...)
	Expect(w.admin.Create(w.ctx, c)).To(Succeed())
	return w.get(name)
}

// run makes a RayCluster that is up: all pods ready, in plaintext unless a policy covers it.
func (w *world) run(name string, edits ...edit) *unstructured.Unstructured {
	GinkgoHelper()
	w.create(name, edits...)
	w.eventually(func(g Gomega) {
		g.Expect(w.provisioned(name)).To(BeTrue())
		for _, p := range w.pods(name) {
			g.Expect(time.Since(p.CreationTimestamp.Time)).To(BeNumerically(">", 1100*time.Millisecond),
				"a pod of this very second could be taken for one that is made from now on")
		}
	})
	return w.get(name)
}

// start makes a RayCluster that the policy encrypts before KubeRay makes its pods, and waits until it is up.
func (w *world) start(policy, name string, edits ...edit) {
	GinkgoHelper()
	frozen := w.ray.frozen
	w.ray.frozen = true
	w.create(name, edits...)
	w.encrypted(policy, name)
	if w.ray.frozen = frozen; frozen {
		return
	}
	w.eventually(func(g Gomega) { g.Expect(w.provisioned(name)).To(BeTrue()) })
	w.encrypted(policy, name)
}

func (w *world) get(name string) *unstructured.Unstructured {
	GinkgoHelper()
	c := &unstructured.Unstructured{}
	c.SetGroupVersionKind(rayv1.GroupVersion.WithKind("RayCluster"))
	Expect(w.admin.Get(w.ctx, client.ObjectKey{Namespace: w.ns, Name: name}, c)).To(Succeed())
	return c
}

// update changes a RayCluster in the API server, as a user would.
func (w *world) update(name string, edits ...edit) {
	GinkgoHelper()
	Eventually(func(g Gomega) {
		c := w.get(name)
		for _, e := range edits {
			e(c)
		}
		g.Expect(w.admin.Update(w.ctx, c, client.FieldOwner("some-tool"))).To(Succeed())
	}).Should(Succeed())
}

func (w *world) provisioned(name string) bool {
	var c rayv1.RayCluster
	Expect(w.admin.Get(w.ctx, client.ObjectKey{Namespace: w.ns, Name: name}, &c)).To(Succeed())
	if !env.knows("status", "conditions") {
		return c.Status.State == rayv1.Ready //nolint:staticcheck // this version has nothing else
	}
	return apimeta.IsStatusConditionTrue(c.Status.Conditions, string(rayv1.RayClusterProvisioned))
}

func (w *world) pods(cluster string) []corev1.Pod {
	var list corev1.PodList
	if len(cluster) > 63 {
		return nil // no label holds it
	}
	Expect(w.admin.List(w.ctx, &list, client.InNamespace(w.ns), client.MatchingLabels{"ray.io/cluster": cluster})).To(Succeed())
	return list.Items
}

func names(pods []corev1.Pod) []string {
	var out []string
	for i := range pods {
		out = append(out, pods[i].Name)
	}
	return out
}

func uids(pods []corev1.Pod) map[string]types.UID {
	out := map[string]types.UID{}
	for i := range pods {
		out[pods[i].Name] = pods[i].UID
	}
	return out
}

// targeting is a policy for that cluster.
func targeting(cluster string, more ...func(*v1alpha1.RayTLSPolicySpec)) v1alpha1.RayTLSPolicySpec {
	return with(v1alpha1.RayTLSPolicySpec{TargetRef: &v1alpha1.TargetReference{Kind: v1alpha1.TargetRayCluster, Name: cluster}}, more...)
}

// selecting is a policy for all clusters of the namespace.
func selecting(more ...func(*v1alpha1.RayTLSPolicySpec)) v1alpha1.RayTLSPolicySpec {
	return with(v1alpha1.RayTLSPolicySpec{Selector: &metav1.LabelSelector{}}, more...)
}

func with(spec v1alpha1.RayTLSPolicySpec, more ...func(*v1alpha1.RayTLSPolicySpec)) v1alpha1.RayTLSPolicySpec {
	for _, m := range more {
		m(&spec)
	}
	return spec
}

func immediately(s *v1alpha1.RayTLSPolicySpec) { s.Rollout.EnablePolicy = v1alpha1.EnableImmediate }
func disabling(s *v1alpha1.RayTLSPolicySpec)   { s.DeletionPolicy = v1alpha1.DeletionDisable }
func paused(s *v1alpha1.RayTLSPolicySpec)      { s.Paused = true }

func (w *world) policy(name string, spec v1alpha1.RayTLSPolicySpec) {
	GinkgoHelper()
	Expect(w.admin.Create(w.ctx, w.newPolicy(name, spec))).To(Succeed())
}

func (w *world) newPolicy(name string, spec v1alpha1.RayTLSPolicySpec) *v1alpha1.RayTLSPolicy {
	return &v1alpha1.RayTLSPolicy{ObjectMeta: metav1.ObjectMeta{Namespace: w.ns, Name: name}, Spec: spec}
}

func (w *world) getPolicy(name string) *v1alpha1.RayTLSPolicy {
	GinkgoHelper()
	p := &v1alpha1.RayTLSPolicy{}
	Expect(w.admin.Get(w.ctx, client.ObjectKey{Namespace: w.ns, Name: name}, p)).To(Succeed())
	return p
}

func (w *world) updatePolicy(name string, change func(*v1alpha1.RayTLSPolicy)) {
	GinkgoHelper()
	Eventually(func(g Gomega) {
		p := w.getPolicy(name)
		change(p)
		g.Expect(w.admin.Update(w.ctx, p)).To(Succeed())
	}).Should(Succeed())
}

// approve approves the restart that the cluster waits for, and returns its id.
func (w *world) approve(policy, cluster string) string {
	GinkgoHelper()
	id := ""
	w.eventually(func(g Gomega) {
		pending := w.status(cluster).PendingRestart
		g.Expect(pending).NotTo(BeNil())
		id = pending.ID
	})
	w.approveID(policy, cluster, id)
	return id
}

// approveID approves the restart of that id, in place of what was approved for the cluster before.
func (w *world) approveID(policy, cluster, id string) {
	GinkgoHelper()
	w.updatePolicy(policy, func(p *v1alpha1.RayTLSPolicy) {
		others := slices.DeleteFunc(p.Spec.Rollout.Approvals, func(a v1alpha1.Approval) bool { return a.Cluster == cluster })
		p.Spec.Rollout.Approvals = append(others, v1alpha1.Approval{Cluster: cluster, Restart: id})
	})
}

func (w *world) deletePolicy(name string) {
	GinkgoHelper()
	Expect(w.admin.Delete(w.ctx, w.newPolicy(name, v1alpha1.RayTLSPolicySpec{}))).To(Succeed())
}

func (w *world) policyGone(g Gomega, name string) {
	err := w.admin.Get(w.ctx, client.ObjectKey{Namespace: w.ns, Name: name}, &v1alpha1.RayTLSPolicy{})
	g.Expect(apierrors.IsNotFound(err)).To(BeTrue(), "the policy is gone, not held by its finalizer")
}

// injectedTemplates counts them.
func injectedTemplates(c *unstructured.Unstructured) int {
	n := 0
	for _, t := range injection.Inspect(c.Object["spec"].(map[string]any), c.GetName()) {
		if t.State == injection.Injected {
			n++
		}
	}
	return n
}

// same expects that nobody changed anything of the cluster but its status.
func same(g Gomega, before, after *unstructured.Unstructured) {
	g.Expect(cmp.Diff(essence(before), essence(after))).To(BeEmpty(), "the RayCluster is as it was (-before +after)")
}

// essence is an object without its status and what the API server keeps of its history.
func essence(o *unstructured.Unstructured) map[string]any {
	c := o.DeepCopy()
	delete(c.Object, "status")
	for _, key := range []string{"resourceVersion", "managedFields", "generation"} {
		unstructured.RemoveNestedField(c.Object, "metadata", key)
	}
	return c.Object
}

// untouched expects that the operator wrote neither to the cluster nor to its pods nor made keys for it.
func (w *world) untouched(before *unstructured.Unstructured, pods map[string]types.UID) {
	GinkgoHelper()
	w.settle()
	w.consistently(func(g Gomega) {
		same(g, before, w.get(before.GetName()))
		g.Expect(uids(w.pods(before.GetName()))).To(Equal(pods))
		for _, write := range w.writes() {
			g.Expect(write).To(Or(ContainSubstring(" raytlspolicies/"), ContainSubstring(" rayclustertlses")), "only the operator's own objects are written")
		}
	})
}

func (w *world) caSecret(cluster string) (*corev1.Secret, error) {
	s := &corev1.Secret{}
	return s, w.admin.Get(w.ctx, client.ObjectKey{Namespace: w.ns, Name: injection.SecretName(cluster)}, s)
}

func (w *world) authorityKey(cluster string) client.ObjectKey {
	return client.ObjectKey{
		Namespace: operatorNamespace, Name: keys.AuthoritySecretName(types.NamespacedName{Namespace: w.ns, Name: cluster}),
	}
}

func (w *world) authority(cluster string) (*corev1.Secret, error) {
	s := &corev1.Secret{}
	return s, w.admin.Get(w.ctx, w.authorityKey(cluster), s)
}

func (w *world) scripts() (*corev1.ConfigMap, error) {
	GinkgoHelper()
	name, err := gencert.ConfigMapName(injection.Revision)
	Expect(err).NotTo(HaveOccurred())
	c := &corev1.ConfigMap{}
	return c, w.admin.Get(w.ctx, client.ObjectKey{Namespace: w.ns, Name: name}, c)
}

// hasKeys expects authority, CA Secret and scripts.
func (w *world) hasKeys(cluster string) {
	GinkgoHelper()
	_, err := w.caSecret(cluster)
	Expect(err).NotTo(HaveOccurred())
	_, err = w.authority(cluster)
	Expect(err).NotTo(HaveOccurred())
	_, err = w.scripts()
	Expect(err).NotTo(HaveOccurred())
}

// gone says that an object is not there.
func gone[T any](_ T, err error) bool { return apierrors.IsNotFound(err) }

func keyOf(o metav1.ObjectMeta) client.ObjectKey {
	return client.ObjectKey{Namespace: o.Namespace, Name: o.Name}
}

// events are the namespace's, as "reason: note".
func (w *world) events() []string {
	GinkgoHelper()
	var list eventsv1.EventList
	Expect(w.admin.List(w.ctx, &list, client.InNamespace(w.ns))).To(Succeed())
	var out []string
	for _, e := range list.Items {
		out = append(out, e.Type+" "+e.Reason+": "+e.Note)
	}
	return out
}

// lookedAt waits until the policy was looked at.
func (w *world) lookedAt(policy string) {
	GinkgoHelper()
	w.eventually(func(g Gomega) { g.Expect(w.condition(policy, v1alpha1.ConditionReady).Reason).NotTo(BeEmpty()) })
}

// deletedIn says whether exactly these pods were deleted.
func (w *world) deletedIn(pods []string) bool {
	return slices.Equal(slices.Sorted(slices.Values(w.deleted())), slices.Sorted(slices.Values(pods)))
}

func canaryHangs(*corev1.Pod) outcome { return hangs }

func canaryFails(*corev1.Pod) outcome { return "raytls-init: no openssl in this image" }

func inNamespace(name string) client.DeleteAllOfOption { return client.InNamespace(name) }

const gracePeriod0 = client.GracePeriodSeconds(0)

// podsAsTheyAre are a cluster's pods without what the kubelet writes.
func (w *world) podsAsTheyAre(cluster string) map[string]any {
	out := map[string]any{}
	for _, p := range w.pods(cluster) {
		out[p.Name] = []any{p.UID, p.Annotations, p.Labels, p.DeletionTimestamp}
	}
	return out
}
