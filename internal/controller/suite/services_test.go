package suite_test

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"maps"
	"strings"

	. "github.com/onsi/ginkgo/v2"
	. "github.com/onsi/gomega"
	rayv1 "github.com/ray-project/kuberay/ray-operator/apis/ray/v1"
	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/raytls/raytls/api/v1alpha1"
	"github.com/raytls/raytls/internal/gencert"
	"github.com/raytls/raytls/internal/gencert/gencerttest"
)

const clusterHash = "ray.io/hash-without-replicas-and-workers-to-delete"

// stepServices does what KubeRay does for RayServices: it makes a cluster, moves the traffic to it when it is ready, and
// makes another one when the hash of the spec is another.
func (k *kubeRay) stepServices(ctx context.Context) {
	GinkgoHelper()
	var services unstructured.UnstructuredList
	services.SetGroupVersionKind(rayv1.GroupVersion.WithKind("RayService"))
	k.must(k.admin.List(ctx, &services, client.InNamespace(k.namespace)))
	for i := range services.Items {
		k.stepService(ctx, &services.Items[i])
	}
}

func (k *kubeRay) stepService(ctx context.Context, service *unstructured.Unstructured) {
	GinkgoHelper()
	active, _, _ := unstructured.NestedString(service.Object, "status", "activeServiceStatus", "rayClusterName")
	pending, _, _ := unstructured.NestedString(service.Object, "status", "pendingServiceStatus", "rayClusterName")
	kind, _, _ := unstructured.NestedString(service.Object, "spec", "upgradeStrategy", "type")
	by, _, _ := unstructured.NestedString(service.Object, "spec", "managedBy")
	if k.frozen || by != "" && by != "ray.io/kuberay-operator" {
		return
	}
	hash := serviceHash(service)
	serving, next := k.child(ctx, active), k.child(ctx, pending)
	switch {
	case pending != "" && next == nil:
		k.makeChild(ctx, service, pending, hash)
		return
	case next != nil && !k.holdTraffic && k.up(ctx, next):
		active, pending = pending, ""
	case serving == nil && next == nil,
		next != nil && next.GetAnnotations()[clusterHash] != hash,
		next == nil && serving.GetAnnotations()[clusterHash] != hash && kind != "None":
		k.made++
		pending = fmt.Sprintf("%s-%d", service.GetName(), k.made)
	}
	before := service.DeepCopy()
	k.must(unstructured.SetNestedField(service.Object, active, "status", "activeServiceStatus", "rayClusterName"))
	k.must(unstructured.SetNestedField(service.Object, pending, "status", "pendingServiceStatus", "rayClusterName"))
	if !equalJSON(before.Object, service.Object) {
		k.must(k.admin.Status().Update(ctx, service))
	}
	if !k.keepOld {
		k.deleteOld(ctx, service, active, pending)
	}
}

func (k *kubeRay) child(ctx context.Context, name string) *unstructured.Unstructured {
	GinkgoHelper()
	if name == "" {
		return nil
	}
	c := &unstructured.Unstructured{}
	c.SetGroupVersionKind(rayv1.GroupVersion.WithKind("RayCluster"))
	err := k.admin.Get(ctx, client.ObjectKey{Namespace: k.namespace, Name: name}, c)
	if apierrors.IsNotFound(err) {
		return nil
	}
	k.must(err)
	return c
}

// up says whether the cluster's applications answer.
func (k *kubeRay) up(ctx context.Context, cluster *unstructured.Unstructured) bool {
	GinkgoHelper()
	pods := k.pods(ctx, &rayv1.RayCluster{ObjectMeta: metav1.ObjectMeta{Name: cluster.GetName()}})
	for i := range pods {
		if !ready(&pods[i]) {
			return false
		}
	}
	return len(pods) > 0 && !k.unready
}

func (k *kubeRay) makeChild(ctx context.Context, service *unstructured.Unstructured, name, hash string) {
	GinkgoHelper()
	spec, _, err := unstructured.NestedMap(service.Object, "spec", "rayClusterConfig")
	k.must(err)
	cluster := &unstructured.Unstructured{Object: map[string]any{"spec": spec}}
	cluster.SetGroupVersionKind(rayv1.GroupVersion.WithKind("RayCluster"))
	cluster.SetNamespace(k.namespace)
	cluster.SetName(name)
	labels := map[string]string{"ray.io/originated-from-cr-name": service.GetName(), "ray.io/originated-from-crd": "RayService"}
	maps.Copy(labels, service.GetLabels())
	cluster.SetLabels(labels)
	annotations := map[string]string{clusterHash: hash}
	maps.Copy(annotations, service.GetAnnotations())
	cluster.SetAnnotations(annotations)
	cluster.SetOwnerReferences([]metav1.OwnerReference{*metav1.NewControllerRef(service, service.GroupVersionKind())})
	if k.born != nil {
		k.born(cluster)
	}
	k.must(k.admin.Create(ctx, cluster))
}

// deleteOld deletes the clusters that nothing is sent to any more, and is the garbage collector too.
func (k *kubeRay) deleteOld(ctx context.Context, service *unstructured.Unstructured, keep ...string) {
	GinkgoHelper()
	var clusters unstructured.UnstructuredList
	clusters.SetGroupVersionKind(rayv1.GroupVersion.WithKind("RayCluster"))
	k.must(k.admin.List(ctx, &clusters, client.InNamespace(k.namespace)))
	for i := range clusters.Items {
		c := &clusters.Items[i]
		if !metav1.IsControlledBy(c, service) || c.GetName() == keep[0] || c.GetName() == keep[1] {
			continue
		}
		k.deleteCluster(ctx, c)
	}
}

func (k *kubeRay) deleteCluster(ctx context.Context, cluster *unstructured.Unstructured) {
	GinkgoHelper()
	k.must(k.admin.Delete(ctx, cluster))
	k.must(k.admin.DeleteAllOf(ctx, &corev1.Pod{}, client.InNamespace(k.namespace),
		client.MatchingLabels{"ray.io/cluster": cluster.GetName()}, client.GracePeriodSeconds(0)))
}

// serviceHash leaves out what KubeRay leaves out when it decides whether to make another cluster.
func serviceHash(service *unstructured.Unstructured) string {
	spec, _, _ := unstructured.NestedMap(service.Object, "spec", "rayClusterConfig")
	groups, _ := spec["workerGroupSpecs"].([]any)
	for _, g := range groups {
		delete(g.(map[string]any), "replicas")
	}
	delete(spec, "suspend")
	text, _ := json.Marshal(spec)
	sum := sha256.Sum256(text)
	return hex.EncodeToString(sum[:8])
}

// serve makes a RayService that is up, and returns the name of the RayCluster that serves it.
func (w *world) serve(name string, edits ...edit) string {
	GinkgoHelper()
	w.createService(name, edits...)
	w.eventually(func(g Gomega) {
		g.Expect(w.serving(name)).NotTo(BeEmpty())
		g.Expect(w.provisioned(w.serving(name))).To(BeTrue())
	})
	return w.serving(name)
}

func (w *world) createService(name string, edits ...edit) {
	GinkgoHelper()
	config := w.rayCluster("x").Object["spec"]
	service := &unstructured.Unstructured{Object: map[string]any{
		"metadata": map[string]any{"namespace": w.ns, "name": name},
		"spec":     map[string]any{"serveConfigV2": "applications: []", "rayClusterConfig": config},
	}}
	service.SetGroupVersionKind(rayv1.GroupVersion.WithKind("RayService"))
	for _, e := range edits {
		e(service)
	}
	Expect(w.admin.Create(w.ctx, service)).To(Succeed())
}

func (w *world) getService(name string) *unstructured.Unstructured {
	GinkgoHelper()
	service := &unstructured.Unstructured{}
	service.SetGroupVersionKind(rayv1.GroupVersion.WithKind("RayService"))
	Expect(w.admin.Get(w.ctx, client.ObjectKey{Namespace: w.ns, Name: name}, service)).To(Succeed())
	return service
}

// updateService changes a RayService, as a user would.
func (w *world) updateService(name string, edits ...edit) {
	GinkgoHelper()
	Eventually(func(g Gomega) {
		service := w.getService(name)
		for _, e := range edits {
			e(service)
		}
		g.Expect(w.admin.Update(w.ctx, service, client.FieldOwner("some-tool"))).To(Succeed())
	}).Should(Succeed())
}

// serving is the RayCluster that serves the RayService.
func (w *world) serving(name string) string {
	GinkgoHelper()
	active, _, _ := unstructured.NestedString(w.getService(name).Object, "status", "activeServiceStatus", "rayClusterName")
	return active
}

// upcoming is the RayCluster that is to take over.
func (w *world) upcoming(name string) string {
	GinkgoHelper()
	pending, _, _ := unstructured.NestedString(w.getService(name).Object, "status", "pendingServiceStatus", "rayClusterName")
	return pending
}

// takenOver waits until another RayCluster serves, and the old one is gone.
func (w *world) takenOver(service, old string) string {
	GinkgoHelper()
	w.eventually(func(g Gomega) {
		g.Expect(w.serving(service)).NotTo(Equal(old))
		g.Expect(w.ray.child(w.ctx, old)).To(BeNil())
	})
	return w.serving(service)
}

// asked are the changes that the operator made to RayServices since mark.
func (w *world) asked() []string {
	GinkgoHelper()
	var out []string
	for _, write := range w.writes() {
		if strings.Contains(write, " rayservices/") {
			out = append(out, write)
		}
	}
	return out
}

// forOwner is a policy for the RayClusters of that object.
func forOwner(kind v1alpha1.TargetKind, name string, more ...func(*v1alpha1.RayTLSPolicySpec)) v1alpha1.RayTLSPolicySpec {
	return with(v1alpha1.RayTLSPolicySpec{TargetRef: &v1alpha1.TargetReference{Kind: kind, Name: name}}, more...)
}

// groupsOf replaces a RayService's worker groups.
func groupsOf(groups ...any) edit { return set(groups, "spec", "rayClusterConfig", "workerGroupSpecs") }

// ownedByObject has the object be the cluster's controller, with KubeRay's labels.
func ownedByObject(c, owner *unstructured.Unstructured) {
	c.SetOwnerReferences([]metav1.OwnerReference{*metav1.NewControllerRef(owner, owner.GroupVersionKind())})
	c.SetLabels(map[string]string{"ray.io/originated-from-cr-name": owner.GetName(), "ray.io/originated-from-crd": owner.GetKind()})
}

// profile is what the cluster's pods make their certificates by.
func (w *world) profile(cluster string) gencert.Profile {
	GinkgoHelper()
	secret, err := w.caSecret(cluster)
	Expect(err).NotTo(HaveOccurred())
	profile, err := gencerttest.ParseProfile(secret.Data["profile"])
	Expect(err).NotTo(HaveOccurred())
	return profile
}
