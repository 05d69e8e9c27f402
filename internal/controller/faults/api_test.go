// Package faults_test plays the controllers against an API server in memory whose calls fail, one after another, and has two of them
// lead at a time. KubeRay, the kubelets and the clock are simulated.
package faults_test

import (
	"context"
	"encoding/json"
	"fmt"
	"slices"
	"testing"
	"time"

	corev1 "k8s.io/api/core/v1"
	policyv1 "k8s.io/api/policy/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"k8s.io/apimachinery/pkg/api/meta"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/apimachinery/pkg/runtime/serializer"
	"k8s.io/apimachinery/pkg/types"
	clienttesting "k8s.io/client-go/testing"
	clocktesting "k8s.io/utils/clock/testing"
	"sigs.k8s.io/controller-runtime/pkg/client"
	"sigs.k8s.io/controller-runtime/pkg/client/fake"
	"sigs.k8s.io/controller-runtime/pkg/client/interceptor"

	"github.com/raytls/raytls/api/v1alpha1"
	"github.com/raytls/raytls/internal/cluster"
	"github.com/raytls/raytls/internal/injection/injectiontest"
	"github.com/raytls/raytls/internal/kuberay"
)

const (
	namespace         = "ml"
	operatorNamespace = "raytls-system"
)

func epoch() time.Time { return time.Date(2026, 1, 2, 3, 4, 5, 0, time.UTC) }

// apiServer keeps objects. It does what the client in memory leaves out: names, times and generations of objects, and preconditions.
type apiServer struct {
	client.WithWatch
	clock *clocktesting.FakePassiveClock
	made  int
	// writes is how many writes had an effect.
	writes int
	// admits has the webhook edit RayClusters by the operator's orders.
	admits bool
}

// scheme knows the kinds that are kept, and no more: the client in memory looks through all of them at each write.
func scheme() *runtime.Scheme {
	out := runtime.NewScheme()
	if err := v1alpha1.AddToScheme(out); err != nil {
		panic(err)
	}
	out.AddKnownTypes(corev1.SchemeGroupVersion, &corev1.Pod{}, &corev1.PodList{}, &corev1.Secret{}, &corev1.SecretList{}, &corev1.ConfigMap{}, &corev1.ConfigMapList{})
	out.AddKnownTypes(policyv1.SchemeGroupVersion, &policyv1.PodDisruptionBudget{}, &policyv1.PodDisruptionBudgetList{})
	out.AddKnownTypeWithName(kuberay.RayClusterGVK(), &unstructured.Unstructured{})
	out.AddKnownTypeWithName(kuberay.RayClusterGVK().GroupVersion().WithKind("RayClusterList"), &unstructured.UnstructuredList{})
	for _, version := range []schema.GroupVersion{corev1.SchemeGroupVersion, policyv1.SchemeGroupVersion} {
		metav1.AddToGroupVersion(out, version)
	}
	return out
}

// lists are lists of all kinds that are kept.
func lists() []client.ObjectList {
	return []client.ObjectList{
		kuberay.NewRayClusterList(), &v1alpha1.RayClusterTLSList{}, &v1alpha1.RayTLSPolicyList{}, &corev1.PodList{}, &corev1.SecretList{},
		&corev1.ConfigMapList{}, &policyv1.PodDisruptionBudgetList{},
	}
}

// store is a client in memory with those objects.
func store(objects []client.Object) client.WithWatch {
	known := scheme()
	// This tracker keeps no managed fields, which take most of the time of the client's own.
	tracker := clienttesting.NewObjectTracker(known, serializer.NewCodecFactory(known).UniversalDecoder())
	for _, o := range objects {
		if err := tracker.Add(o); err != nil {
			panic(err)
		}
	}
	return fake.NewClientBuilder().WithScheme(known).WithObjectTracker(tracker).
		WithStatusSubresource(&v1alpha1.RayClusterTLS{}, &v1alpha1.RayTLSPolicy{}).
		WithIndex(&corev1.Pod{}, cluster.IndexPodCluster, func(o client.Object) []string { return []string{o.GetLabels()[kuberay.LabelCluster]} }).
		Build()
}

func newAPIServer(now time.Time, objects []client.Object) *apiServer {
	a := &apiServer{clock: clocktesting.NewFakePassiveClock(now), made: 1000 * len(objects)}
	a.WithWatch = interceptor.NewClient(store(objects), interceptor.Funcs{
		Create: a.create, Update: a.update, Patch: a.patch, Delete: a.remove,
		SubResourceCreate: func(ctx context.Context, c client.Client, _ string, pod, eviction client.Object, _ ...client.SubResourceCreateOption) error {
			options := eviction.(*policyv1.Eviction).DeleteOptions
			return a.removeUID(ctx, c, pod, options.Preconditions.UID)
		},
		SubResourceUpdate: func(ctx context.Context, c client.Client, name string, o client.Object, options ...client.SubResourceUpdateOption) error {
			return a.wrote(c.SubResource(name).Update(ctx, o, options...))
		},
		SubResourcePatch: func(ctx context.Context, c client.Client, name string, o client.Object, patch client.Patch, options ...client.SubResourcePatchOption) error {
			return a.wrote(c.SubResource(name).Patch(ctx, o, patch, options...))
		},
	})
	return a
}

func (a *apiServer) wrote(err error) error {
	if err == nil {
		a.writes++
	}
	return err
}

func (a *apiServer) create(ctx context.Context, c client.WithWatch, o client.Object, options ...client.CreateOption) error {
	a.made++
	o.SetUID(types.UID(fmt.Sprintf("uid-%d", a.made)))
	o.SetCreationTimestamp(metav1.NewTime(a.clock.Now().Truncate(time.Second)))
	o.SetGeneration(1)
	return a.wrote(c.Create(ctx, o, options...))
}

func (a *apiServer) update(ctx context.Context, c client.WithWatch, o client.Object, options ...client.UpdateOption) error {
	return a.changed(ctx, c, o, func() error { return c.Update(ctx, o, options...) })
}

func (a *apiServer) patch(ctx context.Context, c client.WithWatch, o client.Object, patch client.Patch, options ...client.PatchOption) error {
	return a.changed(ctx, c, o, func() error { return c.Patch(ctx, o, patch, options...) })
}

// changed counts the generations of an object whose spec changes.
func (a *apiServer) changed(ctx context.Context, c client.WithWatch, o client.Object, change func() error) error {
	before, key := specOf(ctx, c, o), client.ObjectKeyFromObject(o)
	if err := a.wrote(change()); err != nil {
		return err
	}
	if err := a.admit(ctx, c, o); err != nil {
		return err
	}
	if before == "" || specOf(ctx, c, o) == before {
		return nil
	}
	if err := c.Get(ctx, key, o); err != nil {
		return client.IgnoreNotFound(err)
	}
	o.SetGeneration(o.GetGeneration() + 1)
	return c.Update(ctx, o)
}

// admit does what the webhook does in the request that orders an edit.
func (a *apiServer) admit(ctx context.Context, c client.WithWatch, o client.Object) error {
	object, ok := o.(*unstructured.Unstructured)
	if !ok || !a.admits {
		return nil
	}
	if edited, err := injectiontest.Admit(object); err != nil || !edited {
		return err
	}
	return c.Update(ctx, object)
}

// specOf is the stored spec of a RayCluster or a policy.
func specOf(ctx context.Context, c client.Client, o client.Object) string {
	var stored client.Object
	switch o.(type) {
	case *unstructured.Unstructured:
		stored = kuberay.NewRayCluster()
	case *v1alpha1.RayTLSPolicy:
		stored = &v1alpha1.RayTLSPolicy{}
	default:
		return ""
	}
	if err := c.Get(ctx, client.ObjectKeyFromObject(o), stored); err != nil {
		return ""
	}
	text, err := json.Marshal(stored)
	if err != nil {
		panic(err)
	}
	var object struct{ Spec json.RawMessage }
	if err := json.Unmarshal(text, &object); err != nil {
		panic(err)
	}
	return string(object.Spec)
}

func (a *apiServer) remove(ctx context.Context, c client.WithWatch, o client.Object, options ...client.DeleteOption) error {
	asked := client.DeleteOptions{}
	asked.ApplyOptions(options)
	if asked.Preconditions == nil {
		return a.wrote(c.Delete(ctx, o))
	}
	return a.removeUID(ctx, c, o, asked.Preconditions.UID)
}

// removeUID deletes an object unless another one has its name.
func (a *apiServer) removeUID(ctx context.Context, c client.Client, o client.Object, uid *types.UID) error {
	stored, ok := o.DeepCopyObject().(client.Object)
	if !ok {
		panic(o)
	}
	if err := c.Get(ctx, client.ObjectKeyFromObject(o), stored); err != nil {
		return err
	}
	if uid != nil && stored.GetUID() != *uid {
		return apierrors.NewConflict(schema.GroupResource{Resource: "objects"}, o.GetName(), fmt.Errorf("the UID is %s", stored.GetUID()))
	}
	return a.wrote(c.Delete(ctx, stored))
}

// objects are all that is kept.
func (a *apiServer) objects() []client.Object {
	var out []client.Object
	for _, list := range lists() {
		if err := a.List(context.Background(), list); err != nil {
			panic(err)
		}
		out = append(out, items(list)...)
	}
	return out
}

func items(list client.ObjectList) []client.Object {
	var out []client.Object
	err := meta.EachListItem(list, func(o runtime.Object) error {
		object, ok := o.(client.Object)
		if !ok {
			return fmt.Errorf("%T is no object", o)
		}
		out = append(out, object)
		return nil
	})
	if err != nil {
		panic(err)
	}
	return out
}

// list are the objects of one kind, by name.
func list[T client.Object](t testing.TB, a *apiServer, of client.ObjectList) []T {
	t.Helper()
	if err := a.List(t.Context(), of); err != nil {
		t.Fatal(err)
	}
	var out []T
	for _, o := range items(of) {
		one, ok := o.(T)
		if !ok {
			t.Fatalf("%T is in a list of others", o)
		}
		out = append(out, one)
	}
	slices.SortFunc(out, func(a, b T) int { return compare(a, b) })
	return out
}

func compare(a, b client.Object) int {
	if a.GetName() < b.GetName() {
		return -1
	}
	return 1
}
