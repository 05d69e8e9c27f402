package injection

import (
	"encoding/json"
	"fmt"
	"runtime"
	"strings"
	"testing"
	"time"

	corev1 "k8s.io/api/core/v1"

	"github.com/raytls/raytls/internal/jsonpatch"
)

// allocated is how many bytes a function allocates: a measure of its work that does not depend on the machine.
func allocated(work func()) uint64 {
	var before, after runtime.MemStats
	runtime.ReadMemStats(&before)
	work()
	runtime.ReadMemStats(&after)
	return after.TotalAlloc - before.TotalAlloc
}

// withRecord replaces the records in an injected spec.
func withRecord(t testing.TB, spec map[string]any, change func(r map[string]any)) map[string]any {
	t.Helper()
	out := jsonpatch.CopyMap(spec)
	for _, template := range templatesOf(out) {
		ours := jsonpatch.Map(jsonpatch.List(template.pod["initContainers"])[0])
		entry := jsonpatch.Map(jsonpatch.List(ours["env"])[0])
		var r map[string]any
		if err := json.Unmarshal([]byte(jsonpatch.String(entry["value"])), &r); err != nil {
			t.Fatal(err)
		}
		change(r)
		text, err := json.Marshal(r)
		if err != nil {
			t.Fatal(err)
		}
		entry["value"] = string(text)
	}
	return out
}

// Looking through the list for each of its entries would take minutes, and once through takes none. It allocates no more, so that
// bytes do not show it. The deadline is that of the fuzz targets' inputs.
func TestReferencesAreListedOnceThrough(t *testing.T) {
	defer time.AfterFunc(time.Minute, func() { panic("200000 references take longer than a minute") }).Stop()
	const count = 200_000
	from := make([]any, count)
	for n := range from {
		from[n] = map[string]any{"secretRef": map[string]any{"name": fmt.Sprint("s", n)}}
	}
	spec := plain(t)
	templatesOf(spec)[0].ray()["envFrom"] = from
	if refs := EnvFromRefs(spec); len(refs) != count {
		t.Errorf("%d references are listed, want %d", len(refs), count)
	}
}

// A quantity with a large exponent takes seconds to parse, and everyone who can write a RayCluster chooses its quantities.
func TestQuantitiesAreNotParsed(t *testing.T) {
	injected := mustApply(t, plain(t), Parameters{}, All())
	with := func(quantity string) map[string]any {
		amounts := map[string]any{"requests": map[string]any{"cpu": quantity}, "limits": map[string]any{"cpu": quantity}}
		spec := withRecord(t, injected, func(r map[string]any) { r["parameters"] = map[string]any{"resources": amounts} })
		for _, template := range templatesOf(spec) {
			for _, c := range template.containers() {
				jsonpatch.Map(c)["resources"] = jsonpatch.Copy(amounts)
			}
		}
		return spec
	}
	work := func(spec map[string]any) uint64 {
		changed := jsonpatch.CopyMap(spec)
		templatesOf(changed)[0].ray()["image"] = "another"
		pod, rayName := headPod(t, spec), jsonpatch.Name(templatesOf(spec)[0].ray())
		return allocated(func() {
			for _, found := range Inspect(spec, "sample") {
				if found.Parameters == nil {
					t.Error("the record is not read")
				}
			}
			carried, err := Carry(spec, changed, CarryOptions{ClusterName: "sample"})
			if err != nil {
				t.Error(err)
			}
			Hash(carried.Spec, Parameters{})
			if !InPod(pod, Head, rayName).TLS {
				t.Error("a pod of the template counts as plaintext")
			}
		})
	}
	small, large := work(with("1")), work(with("1e-99999"))
	if large > 2*small {
		t.Errorf("a large exponent takes %d bytes, a small number %d", large, small)
	}
}

// headPod is a pod of the head's template, as far as InPod reads it.
func headPod(t testing.TB, spec map[string]any) *corev1.PodSpec {
	t.Helper()
	head := jsonpatch.CopyMap(templatesOf(spec)[0].pod)
	for _, list := range containerLists() {
		for _, c := range jsonpatch.List(head[list]) {
			delete(jsonpatch.Map(c), "resources")
		}
	}
	text, err := json.Marshal(head)
	if err != nil {
		t.Fatal(err)
	}
	var pod corev1.PodSpec
	if err := json.Unmarshal(text, &pod); err != nil {
		t.Fatal(err)
	}
	return &pod
}

func TestARecordIsBounded(t *testing.T) {
	injected := mustApply(t, plain(t), Parameters{}, All())
	padded := func(size int) map[string]any {
		return withRecord(t, injected, func(r map[string]any) {
			r["padding"] = ""
			text, err := json.Marshal(r)
			if err != nil {
				t.Fatal(err)
			}
			r["padding"] = strings.Repeat("x", size-len(text))
		})
	}
	if found := Inspect(padded(MaxRecord), "sample")[0]; found.Parameters == nil {
		t.Errorf("the largest record is not read: %+v", found)
	}
	larger := padded(MaxRecord + 1)
	if found := Inspect(larger, "sample")[0]; found.Parameters != nil || found.Revision != 0 || found.State != Partial {
		t.Errorf("a larger record is read: %+v", found)
	}
	if InPod(headPod(t, larger), Head, jsonpatch.Name(templatesOf(larger)[0].ray())).TLS {
		t.Error("a pod with a larger record counts as encrypted")
	}
}

// What Apply writes, it must be able to read.
func TestAnInjectionWhoseRecordIsTooLargeIsRefused(t *testing.T) {
	spec := plain(t)
	var names []string
	sidecars := []any{}
	for n := range MaxAdditionalContainers {
		name := fmt.Sprintf("%s-%d", strings.Repeat("c", 55), n)
		names = append(names, name)
		sidecars = append(sidecars, map[string]any{"name": name, "env": []any{}, "volumeMounts": []any{}})
	}
	ray := templatesOf(spec)[0]
	ray.pod["containers"] = append(jsonpatch.List(ray.pod["containers"]), sidecars...)
	_, err := Apply(spec, options(Parameters{AdditionalContainers: names}), Only(false, templatesOf(spec)[1].group))
	if err == nil || !strings.Contains(err.Error(), "more than 4096 bytes") {
		t.Errorf("got %v", err)
	}
}
