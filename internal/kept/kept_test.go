package kept

import (
	"encoding/json"
	"fmt"
	"runtime"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/types"
	utiljson "k8s.io/apimachinery/pkg/util/json"
	toolscache "k8s.io/client-go/tools/cache"

	"github.com/raytls/raytls/api/v1alpha1"
	"github.com/raytls/raytls/internal/injection"
	"github.com/raytls/raytls/internal/jsonpatch"
	"github.com/raytls/raytls/internal/kuberay"
)

func rayCluster(uid string, change ...func(map[string]any)) *unstructured.Unstructured {
	object := kuberay.NewRayCluster()
	object.SetNamespace("ml")
	object.SetName("c-" + uid)
	object.SetUID(types.UID(uid))
	object.SetLabels(map[string]string{"a": "b"})
	object.Object["spec"] = map[string]any{"headGroupSpec": map[string]any{"template": map[string]any{"spec": map[string]any{"containers": []any{map[string]any{"name": "ray-head"}}}}}}
	for _, c := range change {
		c(object.Object)
	}
	return object
}

// tolerating has that many tolerations.
func tolerating(count int) func(map[string]any) {
	return func(o map[string]any) {
		list := make([]any, count)
		for n := range list {
			list[n] = map[string]any{}
		}
		jsonpatch.Map(o["spec"])["tolerations"] = list
	}
}

func kept(t testing.TB, k *Keeper, object *unstructured.Unstructured) *unstructured.Unstructured {
	t.Helper()
	out, err := k.Slim(object)
	if err != nil {
		t.Fatal(err)
	}
	cluster, ok := out.(*unstructured.Unstructured)
	if !ok {
		t.Fatalf("got %T", out)
	}
	return cluster
}

func why(object *unstructured.Unstructured) string {
	return LeftOut(jsonpatch.Map(object.Object["spec"]))
}

func TestTheKeeperKeepsBySize(t *testing.T) {
	const perMiB = 1 << 20 / 73 // empty objects
	for name, c := range map[string]struct {
		object *unstructured.Unstructured
		want   string
	}{
		"small":    {rayCluster("1"), ""},
		"large":    {rayCluster("1", tolerating(perMiB*9/10)), ""},
		"larger":   {rayCluster("1", tolerating(perMiB*11/10)), ReadLive},
		"too much": {rayCluster("1", tolerating(perMiB*9)), TooLarge},
		"too many groups": {rayCluster("1", func(o map[string]any) {
			jsonpatch.Map(o["spec"])["workerGroupSpecs"] = make([]any, injection.MaxWorkerGroups+1)
		}), TooLarge},
	} {
		t.Run(name, func(t *testing.T) {
			k := New()
			whole := c.object.DeepCopy()
			got := kept(t, k, c.object)
			if why(got) != c.want {
				t.Fatalf("not kept: %q", why(got))
			}
			if c.want == "" {
				if diff := cmp.Diff(whole, got); diff != "" {
					t.Errorf("it changes (-want +got):\n%s", diff)
				}
				return
			}
			if k.Left() != 1 {
				t.Errorf("%d are left out", k.Left())
			}
			if got.GetUID() != "1" || got.GetName() != "c-1" || got.GetNamespace() != "ml" || got.GetLabels()["a"] != "b" || jsonpatch.Weigh(got.Object) > 4<<10 {
				t.Errorf("what stays: %v", got)
			}
			if again := kept(t, k, got); why(again) != c.want || k.Left() != 1 {
				t.Error("it is kept the second time")
			}
		})
	}
}

func TestANamespaceHasItsRoomAlone(t *testing.T) {
	k := New()
	large := func(uid, namespace string) *unstructured.Unstructured {
		object := rayCluster(uid, tolerating(13_000))
		object.SetNamespace(namespace)
		return object
	}
	var last *unstructured.Unstructured
	for n := range 30 {
		last = kept(t, k, large(fmt.Sprint(n), "greedy"))
	}
	left := k.Left()
	if left < 10 || left > 20 || why(last) != ReadLive {
		t.Errorf("%d of 30 are left out", left)
	}
	if other := kept(t, k, large("other", "ml")); why(other) != "" {
		t.Error("another namespace has no room")
	}
	if again := kept(t, k, large("0", "greedy")); why(again) != "" || k.Left() != left {
		t.Error("an update takes room twice")
	}
	k.Forget(large("0", "greedy"))
	k.Forget(toolscache.DeletedFinalStateUnknown{Obj: last})
	if k.Left() != left-1 {
		t.Errorf("%d are left out, want those that exist", k.Left())
	}
	if next := kept(t, k, large("next", "greedy")); why(next) != "" {
		t.Error("who leaves makes no room")
	}
	for n := range 30 {
		k.Forget(large(fmt.Sprint(n), "greedy"))
	}
	k.Forget(large("next", "greedy"))
	k.Forget(large("other", "ml"))
	if len(k.totals)+len(k.weights)+len(k.left) != 0 {
		t.Errorf("it remembers %+v", k)
	}
}

func TestTrimKeepsWhatIsRead(t *testing.T) {
	text := make([]byte, maxAnnotation+1)
	object := rayCluster("1", func(o map[string]any) {
		metadata := jsonpatch.Map(o["metadata"])
		metadata["annotations"] = map[string]any{"kubectl.kubernetes.io/last-applied-configuration": string(text), v1alpha1.AnnotationEdit: string(text)}
		metadata["managedFields"] = []any{
			map[string]any{"manager": "kubectl", "fieldsV1": map[string]any{"f:spec": map[string]any{"f:headGroupSpec": map[string]any{}}, "f:metadata": map[string]any{}}},
			map[string]any{"manager": "kuberay", "fieldsV1": map[string]any{"f:status": map[string]any{}}},
		}
	})
	metadata := jsonpatch.Map(kept(t, New(), object).Object["metadata"])
	want := []any{
		map[string]any{"manager": "kubectl", "fieldsV1": map[string]any{"f:spec": map[string]any{}}},
		map[string]any{"manager": "kuberay", "fieldsV1": map[string]any{}},
	}
	if diff := cmp.Diff(want, metadata["managedFields"]); diff != "" {
		t.Errorf("(-want +got):\n%s", diff)
	}
	if diff := cmp.Diff(map[string]any{v1alpha1.AnnotationEdit: string(text)}, metadata["annotations"]); diff != "" {
		t.Errorf("(-want +got):\n%s", diff)
	}
	object = rayCluster("1", func(o map[string]any) {
		jsonpatch.Map(o["metadata"])["annotations"] = map[string]any{"a": string(text)}
	})
	if got := jsonpatch.Map(kept(t, New(), object).Object["metadata"]); got["annotations"] == nil {
		t.Error("a patch that adds an annotation would replace all")
	}
}

// BenchmarkCache prints how much of the heap a cached RayCluster takes.
func BenchmarkCache(b *testing.B) {
	container := func(n int) map[string]any {
		env, mounts := []any{}, []any{}
		for v := range 15 {
			env = append(env, map[string]any{"name": fmt.Sprint("NAME_", v), "value": fmt.Sprint("value-", n, v)})
		}
		for v := range 5 {
			mounts = append(mounts, map[string]any{"name": fmt.Sprint("volume-", v), "mountPath": fmt.Sprint("/mnt/", v)})
		}
		return map[string]any{
			"name": fmt.Sprint("ray-", n), "image": "rayproject/ray:2.52.0", "env": env, "volumeMounts": mounts,
			"resources": map[string]any{"requests": map[string]any{"cpu": "4", "memory": "16Gi"}, "limits": map[string]any{"cpu": "4", "memory": "16Gi"}},
		}
	}
	groups := func(count int) func(map[string]any) {
		return func(o map[string]any) {
			list := make([]any, count)
			for n := range list {
				list[n] = map[string]any{"groupName": fmt.Sprint("group-", n), "replicas": int64(1), "template": map[string]any{"spec": map[string]any{"containers": []any{container(n)}}}}
			}
			jsonpatch.Map(o["spec"])["workerGroupSpecs"] = list
		}
	}
	for _, c := range []struct {
		name   string
		change func(map[string]any)
	}{{"small", groups(1)}, {"typical", groups(5)}, {"256 groups", groups(256)}, {"hostile", tolerating(110_000)}} {
		b.Run(c.name, func(b *testing.B) {
			text, err := rayCluster("1", c.change).MarshalJSON()
			if err != nil {
				b.Fatal(err)
			}
			cached, k := []*unstructured.Unstructured{}, New()
			var before, after runtime.MemStats
			runtime.GC()
			runtime.GC() // pools let go of what they hold with the second
			runtime.ReadMemStats(&before)
			for b.Loop() {
				object := kuberay.NewRayCluster()
				if err := utiljson.Unmarshal(text, &object.Object); err != nil {
					b.Fatal(err)
				}
				object.SetUID(types.UID(fmt.Sprint(len(cached))))
				object.SetNamespace(fmt.Sprint("ns-", len(cached)))
				cached = append(cached, kept(b, k, object))
			}
			runtime.GC()
			runtime.ReadMemStats(&after)
			b.ReportMetric(float64(int64(after.HeapAlloc)-int64(before.HeapAlloc))/float64(len(cached)), "heap-B/cluster")
			b.ReportMetric(float64(len(text)), "text-B")
			b.ReportMetric(float64(k.Left())/float64(len(cached)), "left-out")
			runtime.KeepAlive(cached)
		})
	}
}

// TestSlimPodKeepsWhatHoldsIt: PodDisruptionBudgets select by any label, and some annotations hold a pod.
// A pod that claims to be Ray's is kept in every namespace, with a policy or without one.
func TestNoPodIsLargeInTheCache(t *testing.T) {
	long := strings.Repeat("x", 1<<20)
	many := func(of corev1.Container) []corev1.Container {
		out := make([]corev1.Container, 30)
		for i := range out {
			out[i] = of
			out[i].Name = fmt.Sprint("c-", i)
		}
		return out
	}
	var variables []corev1.EnvVar
	for _, name := range append(injection.TLSVariables(), injection.EnvInjection) {
		variables = append(variables, corev1.EnvVar{Name: name, Value: "first"}, corev1.EnvVar{Name: name, Value: long})
	}
	mounts := make([]corev1.VolumeMount, 1000)
	for i := range mounts {
		mounts[i] = corev1.VolumeMount{Name: injection.CertsVolume, MountPath: long, SubPath: long}
	}
	whole := corev1.Container{Name: "ray-head", Image: long, Env: variables, VolumeMounts: mounts}
	ours := whole
	ours.Name, ours.Command, ours.Args = injection.InitContainerName, []string{long}, make([]string, 100_000)
	owners := make([]metav1.OwnerReference, 10_000)
	owners[7].Controller = new(true)
	for name, pod := range map[string]*corev1.Pod{
		"long texts":      {Spec: corev1.PodSpec{InitContainers: []corev1.Container{ours}, Containers: []corev1.Container{whole}}},
		"many containers": {Spec: corev1.PodSpec{InitContainers: many(whole), Containers: many(whole)}},
		"more containers": {Spec: corev1.PodSpec{Containers: make([]corev1.Container, 20_000)}},
		"metadata": {ObjectMeta: metav1.ObjectMeta{
			Finalizers: make([]string, 10_000), OwnerReferences: owners,
			Annotations: map[string]string{AnnotationDoNotDisrupt: long, v1alpha1.AnnotationSync: long},
		}},
	} {
		out, err := SlimPod(pod)
		if err != nil {
			t.Fatal(err)
		}
		text, err := json.Marshal(out)
		if err != nil {
			t.Fatal(err)
		}
		if len(text) > 256<<10 {
			t.Errorf("%s: %d bytes are kept", name, len(text))
		}
		if slim, _ := out.(*corev1.Pod); name == "metadata" && metav1.GetControllerOf(slim) == nil {
			t.Error("whose pod it is is lost")
		}
		if slim, _ := out.(*corev1.Pod); injection.InPod(&slim.Spec, injection.Head, "ray-head").TLS {
			t.Errorf("%s: it counts as encrypted", name)
		}
	}
}

func TestSlimPodKeepsWhatHoldsIt(t *testing.T) {
	slim := func(labels, annotations map[string]string) *corev1.Pod {
		out, err := SlimPod(&corev1.Pod{ObjectMeta: metav1.ObjectMeta{Labels: labels, Annotations: annotations}})
		if err != nil {
			t.Fatal(err)
		}
		pod, ok := out.(*corev1.Pod)
		if !ok {
			t.Fatalf("got %T", out)
		}
		return pod
	}
	few := map[string]string{"app": "x", kuberay.LabelCluster: "c"}
	pod := slim(few, map[string]string{AnnotationSafeToEvict: "false", AnnotationDoNotDisrupt: "true", "large": "text"})
	if diff := cmp.Diff(few, pod.Labels); diff != "" {
		t.Error(diff)
	}
	if diff := cmp.Diff(map[string]string{AnnotationSafeToEvict: "false", AnnotationDoNotDisrupt: "true"}, pod.Annotations); diff != "" {
		t.Error(diff)
	}
	many := map[string]string{kuberay.LabelCluster: "c", kuberay.LabelReplica: "r"}
	for i := range maxLabels {
		many[fmt.Sprint("label-", i)] = "x"
	}
	if diff := cmp.Diff(map[string]string{kuberay.LabelCluster: "c", kuberay.LabelReplica: "r"}, slim(many, nil).Labels); diff != "" {
		t.Errorf("whoever makes pods must not fill the memory: %s", diff)
	}
}
