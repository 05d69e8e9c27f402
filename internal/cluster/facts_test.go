package cluster

import (
	"testing"
	"time"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/types"
	clientgoscheme "k8s.io/client-go/kubernetes/scheme"
	"sigs.k8s.io/controller-runtime/pkg/client"
	"sigs.k8s.io/controller-runtime/pkg/client/fake"

	"github.com/raytls/raytls/api/v1alpha1"
	"github.com/raytls/raytls/internal/kept"
	"github.com/raytls/raytls/internal/keys"
	"github.com/raytls/raytls/internal/kuberay"
	"github.com/raytls/raytls/internal/probe"
)

// gatherer reads a RayCluster as it is cached, and as it is past the cache.
func gatherer(t *testing.T, cached, live *unstructured.Unstructured, objects ...client.Object) *Gatherer {
	t.Helper()
	scheme := runtime.NewScheme()
	for _, add := range []func(*runtime.Scheme) error{clientgoscheme.AddToScheme, v1alpha1.AddToScheme} {
		if err := add(scheme); err != nil {
			t.Fatal(err)
		}
	}
	reader := func(object *unstructured.Unstructured) client.Reader {
		return fake.NewClientBuilder().WithScheme(scheme).WithObjects(object.DeepCopy()).WithObjects(objects...).
			WithIndex(&corev1.Pod{}, IndexPodCluster, func(o client.Object) []string { return []string{o.GetLabels()[kuberay.LabelCluster]} }).Build()
	}
	return &Gatherer{
		Cached: reader(cached), Live: reader(live), Namespace: "raytls-system",
		Served:    func(v1alpha1.TargetKind) bool { return false },
		Admission: func(string) string { return "" },
		Finding:   func(probe.Target) *probe.Finding { return nil },
	}
}

// Anybody can create RayClusters, in every namespace. Only those that the operator has to do with cost it work.
func TestOnlyClustersOfTheOperatorsAreDescribed(t *testing.T) {
	key := types.NamespacedName{Namespace: "ml", Name: "train"}
	object := kuberay.NewRayCluster()
	object.SetNamespace(key.Namespace)
	object.SetName(key.Name)
	object.SetUID("u")
	object.Object["spec"] = map[string]any{"headGroupSpec": map[string]any{"template": map[string]any{"spec": map[string]any{"containers": []any{map[string]any{"name": "ray"}}}}}}
	owned := metav1.ObjectMeta{Namespace: key.Namespace, Name: key.Name, OwnerReferences: []metav1.OwnerReference{{APIVersion: "ray.io/v1", Kind: "RayCluster", Name: key.Name, UID: "u"}}}
	for name, c := range map[string]struct {
		reason  string
		objects []client.Object
		want    int
	}{
		"nobody's":     {reason: "it is not looked at"},
		"a policy's":   {reason: "the operator injects it", objects: []client.Object{&v1alpha1.RayTLSPolicy{ObjectMeta: metav1.ObjectMeta{Namespace: key.Namespace, Name: "p"}, Spec: v1alpha1.RayTLSPolicySpec{Selector: &metav1.LabelSelector{}}}}, want: 1},
		"on record":    {reason: "it may be injected", objects: []client.Object{&v1alpha1.RayClusterTLS{ObjectMeta: owned}}, want: 1},
		"an authority": {reason: "its record may be lost", objects: []client.Object{&corev1.Secret{ObjectMeta: metav1.ObjectMeta{Namespace: "raytls-system", Name: keys.AuthoritySecretName(key), Labels: map[string]string{v1alpha1.LabelManagedBy: v1alpha1.ManagedBy}}}}, want: 1},
	} {
		t.Run(name, func(t *testing.T) {
			f, err := gatherer(t, object, object, c.objects...).Gather(t.Context(), key, time.Unix(1, 0))
			if err != nil {
				t.Fatal(err)
			}
			if len(f.Templates) != c.want {
				t.Errorf("%s: %d templates are described, want %d", c.reason, len(f.Templates), c.want)
			}
		})
	}
}

// tolerating is a RayCluster with that many tolerations.
func tolerating(uid types.UID, count int) *unstructured.Unstructured {
	object := kuberay.NewRayCluster()
	object.SetNamespace("ml")
	object.SetName("train")
	object.SetUID(uid)
	list := make([]any, count)
	for n := range list {
		list[n] = map[string]any{}
	}
	object.Object["spec"] = map[string]any{"headGroupSpec": map[string]any{"template": map[string]any{"spec": map[string]any{"containers": []any{map[string]any{"name": "ray-head"}}, "tolerations": list}}}}
	return object
}

// leftOut is what a cache has of a RayCluster that it does not keep, for that reason.
func leftOut(object *unstructured.Unstructured, why string) *unstructured.Unstructured {
	out := object.DeepCopy()
	out.Object["spec"] = map[string]any{"raytls.io/not-kept": why}
	return out
}

// The operator reads clusters past the cache that the cache has no room for, if they have a policy, a record or an authority.
func TestWhatIsNotCachedIsReadLive(t *testing.T) {
	policy := &v1alpha1.RayTLSPolicy{ObjectMeta: metav1.ObjectMeta{Namespace: "ml", Name: "p"}, Spec: v1alpha1.RayTLSPolicySpec{Selector: &metav1.LabelSelector{}}}
	large := tolerating("u", 20_000)
	key := client.ObjectKeyFromObject(large)
	for name, c := range map[string]struct {
		reason       string
		cached, live *unstructured.Unstructured
		objects      []client.Object
		templates    int
		why          string
		failed       bool
	}{
		"nobody's":         {reason: "it is not read", cached: leftOut(large, kept.ReadLive), live: large, why: kept.ReadLive},
		"a policy's":       {reason: "the operator injects it", cached: leftOut(large, kept.ReadLive), live: large, objects: []client.Object{policy}, templates: 1},
		"larger meanwhile": {reason: "it is too large to be worked on", cached: leftOut(large, kept.ReadLive), live: tolerating("u", 200_000), objects: []client.Object{policy}, why: kept.TooLarge},
		"another":          {reason: "it is not the one in the cache", cached: leftOut(large, kept.ReadLive), live: tolerating("another", 0), objects: []client.Object{policy}, failed: true},
		"too large":        {reason: "it is not read", cached: leftOut(large, kept.TooLarge), live: large, objects: []client.Object{policy}, why: kept.TooLarge},
	} {
		t.Run(name, func(t *testing.T) {
			f, err := gatherer(t, c.cached, c.live, c.objects...).Gather(t.Context(), key, time.Unix(1, 0))
			if (err != nil) != c.failed {
				t.Fatalf("%s: %v", c.reason, err)
			}
			if err != nil {
				return
			}
			if len(f.Templates) != c.templates || kept.LeftOut(f.Spec) != c.why {
				t.Errorf("%s: %d templates, left out: %q", c.reason, len(f.Templates), kept.LeftOut(f.Spec))
			}
			if !kept.MayBeInjected(f.Spec) && c.why != "" {
				t.Error("nobody knows whether it needs the scripts")
			}
			if obstacle := Decide(f, Settings{}).Obstacle; c.why == kept.TooLarge && (obstacle == nil || obstacle.Reason != v1alpha1.ReasonInjectionConflict) {
				t.Errorf("nothing is said: %+v", obstacle)
			}
		})
	}
}
