package cluster

import (
	"testing"
	"time"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/types"
	clientgoscheme "k8s.io/client-go/kubernetes/scheme"
	"sigs.k8s.io/controller-runtime/pkg/client"
	"sigs.k8s.io/controller-runtime/pkg/client/fake"

	"github.com/raytls/raytls/api/v1alpha1"
	"github.com/raytls/raytls/internal/keys"
	"github.com/raytls/raytls/internal/kuberay"
	"github.com/raytls/raytls/internal/probe"
)

// Anybody can create RayClusters, in every namespace. Only those that the operator has to do with cost it work.
func TestOnlyClustersOfTheOperatorsAreDescribed(t *testing.T) {
	scheme := runtime.NewScheme()
	for _, add := range []func(*runtime.Scheme) error{clientgoscheme.AddToScheme, v1alpha1.AddToScheme} {
		if err := add(scheme); err != nil {
			t.Fatal(err)
		}
	}
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
		"a policy's":   {reason: "it is to be injected", objects: []client.Object{&v1alpha1.RayTLSPolicy{ObjectMeta: metav1.ObjectMeta{Namespace: key.Namespace, Name: "p"}, Spec: v1alpha1.RayTLSPolicySpec{Selector: &metav1.LabelSelector{}}}}, want: 1},
		"on record":    {reason: "it may be injected", objects: []client.Object{&v1alpha1.RayClusterTLS{ObjectMeta: owned}}, want: 1},
		"an authority": {reason: "its record may be lost", objects: []client.Object{&corev1.Secret{ObjectMeta: metav1.ObjectMeta{Namespace: "raytls-system", Name: keys.AuthoritySecretName(key), Labels: map[string]string{v1alpha1.LabelManagedBy: v1alpha1.ManagedBy}}}}, want: 1},
	} {
		t.Run(name, func(t *testing.T) {
			reader := fake.NewClientBuilder().WithScheme(scheme).WithObjects(object.DeepCopy()).WithObjects(c.objects...).
				WithIndex(&corev1.Pod{}, IndexPodCluster, func(o client.Object) []string { return []string{o.GetLabels()[kuberay.LabelCluster]} }).Build()
			g := Gatherer{
				Cached: reader, Live: reader, Namespace: "raytls-system",
				Served:    func(v1alpha1.TargetKind) bool { return false },
				Admission: func(string) string { return "" },
				Finding:   func(probe.Target) *probe.Finding { return nil },
			}
			f, err := g.Gather(t.Context(), key, time.Unix(1, 0))
			if err != nil {
				t.Fatal(err)
			}
			if len(f.Templates) != c.want {
				t.Errorf("%s: %d templates are described, want %d", c.reason, len(f.Templates), c.want)
			}
		})
	}
}
