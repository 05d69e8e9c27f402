package suite_test

import (
	"context"

	. "github.com/onsi/ginkgo/v2"
	. "github.com/onsi/gomega"
	admissionregistrationv1 "k8s.io/api/admissionregistration/v1"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/types"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/raytls/raytls/api/v1alpha1"
)

// requireTLS installs what the value requireTLS.enabled adds until the spec's container ends.
func requireTLS() {
	GinkgoHelper()
	Expect(env.apply("charts/raytls/files/require-tls.yaml")).To(Succeed())
	DeferCleanup(func() {
		for _, name := range []string{"raytls-require-tls", "raytls-require-tls-exclude"} {
			object := metav1.ObjectMeta{Name: name}
			Expect(env.admin.Delete(context.Background(), &admissionregistrationv1.ValidatingAdmissionPolicyBinding{ObjectMeta: object})).To(Succeed())
			Expect(env.admin.Delete(context.Background(), &admissionregistrationv1.ValidatingAdmissionPolicy{ObjectMeta: object})).To(Succeed())
		}
	})
}

// require labels the namespace, and waits until the API server acts by it.
func (w *world) require() {
	GinkgoHelper()
	namespace := &corev1.Namespace{ObjectMeta: metav1.ObjectMeta{Name: w.ns}}
	Expect(w.admin.Patch(w.ctx, namespace, client.RawPatch(types.MergePatchType, []byte(`{"metadata":{"labels":{"raytls.io/require":"true"}}}`)))).To(Succeed())
	for _, probe := range []*unstructured.Unstructured{w.excludedJob("probe"), w.rayCluster("probe", label(v1alpha1.LabelExclude, "true"))} {
		Eventually(func() error { return w.admin.Create(w.ctx, probe.DeepCopy(), client.DryRunAll) }).Should(MatchError(ContainSubstring("requires TLS")))
	}
}

// excludedJob is a RayJob whose RayCluster would be excluded.
func (w *world) excludedJob(name string) *unstructured.Unstructured {
	job := w.rayCluster(name, label(v1alpha1.LabelExclude, "true"))
	job.SetKind("RayJob")
	job.Object["spec"] = map[string]any{"entrypoint": "x", "rayClusterSpec": job.Object["spec"]}
	return job
}

// handMade carries what the injection would add to the head, with that value of RAY_USE_TLS.
func handMade(use string) edit {
	variable := func(name, value string) map[string]any { return map[string]any{"name": name, "value": value} }
	return func(c *unstructured.Unstructured) {
		pod := podTemplate("ray-head", image)
		spec := pod["spec"].(map[string]any)
		spec["initContainers"] = []any{map[string]any{"name": "raytls-init", "image": image}}
		spec["containers"].([]any)[0].(map[string]any)["env"] = []any{
			variable("RAY_USE_TLS", use), variable("RAY_TLS_SERVER_CERT", "x"), variable("RAY_TLS_SERVER_KEY", "x"), variable("RAY_TLS_CA_CERT", "x"),
		}
		set(pod, "spec", "headGroupSpec", "template")(c)
		groups()(c)
	}
}

var _ = Describe("A namespace that requires TLS", Ordered, ContinueOnFailure, func() {
	BeforeAll(requireTLS)

	It("lets clusters in that are born with TLS", func() {
		installAdmission()
		w := admitting(selecting())
		w.require()
		w.create("born")
		w.bornEncrypted("born")
		w.encrypted("p", "born")
	})

	It("refuses plaintext, whatever it is called", func() {
		w := newWorld()
		w.require()
		refused := MatchError(And(ContainSubstring("requires TLS"), ContainSubstring("apply a RayTLSPolicy")))
		Expect(w.admin.Create(w.ctx, w.rayCluster("plain"))).To(refused, "no policy covers it")
		Expect(w.admin.Create(w.ctx, w.rayCluster("switched-off", handMade("0")))).To(refused, "Ray speaks plaintext")
		Expect(w.admin.Create(w.ctx, w.rayCluster("by-halves", handMade("1"), groups(workerGroup("small", 1, image))))).To(refused, "a group speaks plaintext")
		Expect(w.admin.Create(w.ctx, w.rayCluster("whole", handMade("1")), client.DryRunAll)).To(Succeed())
	})

	It("refuses the label that excludes, on a cluster and on what KubeRay copies it from", func() {
		w := newWorld()
		w.create("c")
		w.require()
		refused := MatchError(ContainSubstring("remove the label raytls.io/exclude"))
		Expect(w.admin.Create(w.ctx, w.excludedJob("j"))).To(refused)
		exclude := client.RawPatch(types.MergePatchType, []byte(`{"metadata":{"labels":{"raytls.io/exclude":"true"}}}`))
		Expect(w.admin.Patch(w.ctx, w.get("c"), exclude)).To(refused)
	})

	It("lets clusters that were there before change and be encrypted, and then not go back", func() {
		w := newWorld()
		w.create("old", set(true, "spec", "suspend"))
		w.require()
		w.update("old", groupsReplicas(3))
		w.policy("p", selecting())
		w.encrypted("p", "old")
		patch := client.RawPatch(types.JSONPatchType, []byte(`[{"op":"remove","path":"/spec/headGroupSpec/template/spec/initContainers"}]`))
		Expect(w.admin.Patch(w.ctx, w.get("old"), patch)).To(MatchError(ContainSubstring("requires TLS")))
	})
})
