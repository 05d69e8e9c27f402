package webhook

import (
	"context"
	"encoding/json"
	"fmt"
	"maps"
	"runtime"
	"slices"
	"sort"
	"strings"
	"syscall"
	"testing"
	"time"

	"sigs.k8s.io/controller-runtime/pkg/client"
	"sigs.k8s.io/controller-runtime/pkg/webhook/admission"

	"github.com/raytls/raytls/api/v1alpha1"
	"github.com/raytls/raytls/internal/injection"
	"github.com/raytls/raytls/internal/jsonpatch"
)

// worst are RayClusters that make much of few bytes. Each takes how many of its entries there are.
func worst() map[string]func(object, int) {
	head := func(c object) object {
		return c["spec"].(object)["headGroupSpec"].(object)["template"].(object)["spec"].(object)
	}
	ray := func(c object) object { return head(c)["containers"].([]any)[0].(object) }
	each := func(count int, entry func(n int) any) []any {
		out := make([]any, count)
		for n := range out {
			out[n] = entry(n)
		}
		return out
	}
	empty := func(int) any { return object{} }
	return map[string]func(object, int){
		"tolerations": func(c object, count int) { head(c)["tolerations"] = each(count, empty) },
		"containers":  func(c object, count int) { head(c)["initContainers"] = each(count, empty) },
		"same names": func(c object, count int) {
			head(c)["initContainers"] = each(count, func(int) any { return object{"name": "raytls-init"} })
		},
		"variables": func(c object, count int) {
			ray(c)["env"] = each(count, func(int) any { return object{"name": "RAY_USE_TLS"} })
		},
		"volumes": func(c object, count int) {
			head(c)["volumes"] = each(count, func(int) any { return object{"name": "raytls-certs"} })
		},
		"mounts": func(c object, count int) {
			ray(c)["volumeMounts"] = each(count, func(int) any { return object{"mountPath": "/etc"} })
		},
		"environments": func(c object, count int) {
			ray(c)["envFrom"] = each(count, func(n int) any { return object{"secretRef": object{"name": fmt.Sprint(n)}} })
		},
		"groups": func(c object, count int) { c["spec"].(object)["workerGroupSpecs"] = each(count, empty) },
		"unknown": func(c object, count int) {
			c["spec"].(object)["unknown"] = each(count, func(int) any { return []any{} })
		},
		"owners": func(c object, count int) { c["metadata"].(object)["ownerReferences"] = each(count, empty) },
		"labels": func(c object, count int) {
			labels := object{}
			for n := range count {
				labels[fmt.Sprint(n)] = ""
			}
			c["metadata"].(object)["labels"] = labels
		},
	}
}

// costly are more RayClusters that take long for their size, where what is too much of worst is refused early.
func costly() map[string]func(object, int) {
	sidecar := func(c object, command string) {
		pod := c["spec"].(object)["headGroupSpec"].(object)["template"].(object)["spec"].(object)
		pod["containers"] = append(pod["containers"].([]any), object{"name": "sidecar", "command": []any{command}})
	}
	groups := func(count int, containers ...any) []any {
		out := make([]any, count)
		for n := range out {
			out[n] = object{"groupName": fmt.Sprint("group-", n), "template": object{"spec": object{"containers": containers}}}
		}
		return out
	}
	return map[string]func(object, int){
		"words":         func(c object, count int) { sidecar(c, strings.Repeat("a ", count)) },
		"substitutions": func(c object, count int) { sidecar(c, strings.Repeat("$(", count)) },
		"groups": func(c object, count int) {
			c["spec"].(object)["workerGroupSpecs"] = groups(min(count, injection.MaxWorkerGroups), object{"name": "ray"})
		},
		"groups of additional containers": func(c object, count int) {
			var containers []any
			for n := range injection.MaxAdditionalContainers {
				containers = append(containers, object{"name": fmt.Sprint("c", n)})
			}
			c["spec"].(object)["workerGroupSpecs"] = groups(min(count, injection.MaxWorkerGroups), containers...)
		},
		"containers": func(c object, count int) {
			containers := make([]any, injection.MaxContainers)
			for n := range containers {
				containers[n] = object{"name": fmt.Sprint("c", n)}
			}
			c["spec"].(object)["workerGroupSpecs"] = groups(min(count, injection.MaxWorkerGroups), containers...)
		},
	}
}

// largest is the largest RayCluster of a kind that is worked on.
func largest(b *testing.B, change func(object, int)) object {
	b.Helper()
	count := sort.Search(2_000_000, func(count int) bool {
		text := raw(b, rayCluster(func(c object) { change(c, count) }))
		_, err := decode(text)
		return len(text) > maxBytes || err != nil
	}) - 1
	return rayCluster(func(c object) { change(c, count) })
}

// BenchmarkWorst prints how long a processor works on one request with the most that the bounds let through, collection of garbage
// included.
func BenchmarkWorst(b *testing.B) {
	kinds := costly()
	for name, change := range worst() {
		if _, ok := kinds[name]; !ok {
			kinds[name] = change
		}
	}
	var additional []string
	for n := range injection.MaxAdditionalContainers {
		additional = append(additional, fmt.Sprint("c", n))
	}
	i := injector(b, []client.Object{covering(), record()})
	naming := injector(b, []client.Object{covering(func(p *v1alpha1.RayTLSPolicy) { p.Spec.AdditionalContainers = additional })})
	worked := func() float64 {
		var usage syscall.Rusage
		if err := syscall.Getrusage(syscall.RUSAGE_SELF, &usage); err != nil {
			b.Fatal(err)
		}
		return float64(usage.Utime.Nano()+usage.Stime.Nano()) / 1e6
	}
	run := func(name string, i *Injector, r admission.Request) {
		b.Run(name, func(b *testing.B) {
			before := worked()
			for b.Loop() {
				i.Handle(b.Context(), r)
			}
			b.ReportMetric((worked()-before)/float64(b.N), "cpu-ms/op")
		})
	}
	old, updated := various(b)
	run("update of various injections", i, request(b, someone, old, updated))
	run("create with additional containers", naming, request(b, someone, nil, largest(b, kinds["groups of additional containers"])))
	for _, name := range slices.Sorted(maps.Keys(kinds)) {
		heavy := largest(b, kinds[name])
		run(name+"/create", i, request(b, someone, nil, heavy))
		run(name+"/update", i, request(b, someone, heavy, heavy))
		run(name+"/update of an injected", i, request(b, someone, born(b), heavy))
	}
}

// various has as many groups and different injections as an update may carry, and the same with a change of each template.
func various(b *testing.B) (old, updated object) {
	b.Helper()
	cluster := rayCluster(func(c object) { costly()["groups"](c, injection.MaxWorkerGroups) })
	spec := cluster["spec"].(object)
	for kind := range 8 {
		var groups []string
		for n := kind; n < injection.MaxWorkerGroups; n += 8 {
			groups = append(groups, fmt.Sprint("group-", n))
		}
		o := injection.Options{ClusterName: "train", Revision: injection.Revision, Parameters: injection.Parameters{ScriptsPath: fmt.Sprint("/scripts-", kind)}}
		var err error
		if spec, err = injection.Apply(spec, o, injection.Only(kind == 0, groups...)); err != nil {
			b.Fatal(err)
		}
	}
	old = rayCluster(func(c object) { c["spec"] = spec })
	changed := jsonpatch.CopyMap(spec)
	for _, group := range changed["workerGroupSpecs"].([]any) {
		group.(object)["template"].(object)["spec"].(object)["subdomain"] = "x"
	}
	return old, rayCluster(func(c object) { c["spec"] = changed })
}

// requests are the ways in which a cluster reaches the webhook.
func requests(t testing.TB, change func(object)) map[string]admission.Request {
	t.Helper()
	large, injected := rayCluster(change), born(t)
	return map[string]admission.Request{
		"a creation":               request(t, someone, nil, large),
		"an update of a plain":     request(t, someone, rayCluster(), large),
		"an update of an injected": request(t, someone, injected, large),
		"an update to smaller":     request(t, someone, large, rayCluster()),
	}
}

// Twice the entries may take twice the memory, and beyond some size nothing more: work that grows faster than its input, and
// input that grows without bound, have one tenant stop all others.
func TestWorkGrowsNoFasterThanItsInput(t *testing.T) {
	i := injector(t, []client.Object{covering(), record(notInjected)})
	allocated := func(r admission.Request) float64 {
		var before, after runtime.MemStats
		runtime.ReadMemStats(&before)
		i.Handle(t.Context(), r)
		runtime.ReadMemStats(&after)
		return float64(after.TotalAlloc - before.TotalAlloc)
	}
	for name, change := range worst() {
		t.Run(name, func(t *testing.T) {
			small := requests(t, func(c object) { change(c, 500) })
			twice := requests(t, func(c object) { change(c, 1000) })
			for kind, r := range small {
				one, two := allocated(r), allocated(twice[kind])
				if two > 3*one {
					t.Errorf("%s: 500 entries take %.0f bytes, 1000 take %.0f", kind, one, two)
				}
			}
			heaviest := rayCluster(func(c object) { change(c, 100_000) })
			for kind, huge := range map[string]admission.Request{
				"a creation": request(t, someone, nil, heaviest), "an update of an injected": request(t, someone, born(t), heaviest),
			} {
				if most := allocated(huge); most > 10*injection.MaxWeight {
					t.Errorf("%s: 100000 entries take %.0f MiB", kind, most/(1<<20))
				}
			}
		})
	}
}

func TestWhatIsTooLargeToRead(t *testing.T) {
	i := injector(t, []client.Object{covering(), record()})
	tolerations := worst()["tolerations"]
	large := rayCluster(func(c object) { tolerations(c, 150_000) })
	_, response := admitted(t, i, someone, nil, large)
	if !response.Allowed || response.Patch != nil || !strings.Contains(strings.Join(response.Warnings, ""), "RayCluster train is not encrypted, whatever covers it: the RayCluster takes more than 8 MiB") {
		t.Errorf("created: %v %v", response.Result, response.Warnings)
	}
	if _, response = admitted(t, i, someone, nil, rayCluster(func(c object) { worst()["labels"](c, 20_000) })); !response.Allowed || response.Patch != nil || len(response.Warnings) == 0 {
		t.Errorf("created with many labels: %v %v", response.Result, response.Warnings)
	}
	if _, response = admitted(t, i, someone, normal(t, rayCluster()), large); !response.Allowed || response.Patch != nil {
		t.Errorf("a plain cluster may grow: %v", response.Result)
	}
	if _, response = admitted(t, i, someone, born(t), large); response.Allowed || !strings.Contains(response.Result.Message, "shorten its lists") {
		t.Errorf("an encrypted cluster loses its injection: %v", response.Result)
	}
	if _, response = admitted(t, i, someone, large, rayCluster()); response.Allowed {
		t.Error("a cluster that is injected on record loses its injection unseen")
	}
	if _, response = admitted(t, injector(t, []client.Object{covering(), record(notInjected)}), someone, large, rayCluster()); !response.Allowed {
		t.Errorf("a plain cluster cannot shrink: %v", response.Result)
	}
	if _, response = admitted(t, i, operator, rayCluster(), large); response.Allowed {
		t.Error("an order is taken for carried out")
	}
	ending := rayCluster(func(c object) { tolerations(c, 150_000) }, meta("deletionTimestamp", "2026-01-01T00:00:00Z"))
	if _, response = admitted(t, i, someone, born(t), ending); !response.Allowed {
		t.Errorf("a cluster cannot end: %v", response.Result)
	}
}

func TestManagedFieldsAndStatusDoNotWeigh(t *testing.T) {
	many := make([]any, 150_000)
	for n := range many {
		many[n] = object{}
	}
	i := injector(t, []client.Object{covering()})
	written := rayCluster(meta("managedFields", many), func(c object) { c["status"] = object{"many": many} })
	if _, response := admitted(t, i, someone, nil, written); response.Patch == nil {
		t.Errorf("it is not injected: %v", response.Warnings)
	}
}

func TestNobodyWaitsForAnAnswer(t *testing.T) {
	i := injector(t, []client.Object{covering()})
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if response := i.Handle(ctx, request(t, someone, nil, rayCluster())); response.Allowed {
		t.Error("work goes on after its API server gave up")
	}
}

// leaving is a context that ends after it was asked that many times.
type leaving struct {
	context.Context
	asked *int
}

func (l leaving) Err() error {
	if *l.asked--; *l.asked < 0 {
		return context.Canceled
	}
	return nil
}

// An update takes several steps, each of which is long for a large object.
func TestAnUpdateStopsBetweenItsSteps(t *testing.T) {
	i := injector(t, []client.Object{covering(), record()})
	changed := born(t)
	changed["metadata"].(object)["labels"] = object{"a": "b"}
	r := request(t, someone, born(t), changed)
	for asked := range 3 {
		if response := i.Handle(leaving{t.Context(), &asked}, r); response.Allowed {
			t.Error("work goes on after its API server gave up")
		}
	}
	enough := 1000
	if response := i.Handle(leaving{t.Context(), &enough}, r); !response.Allowed {
		t.Errorf("it is refused: %v", response.Result)
	}
}

// FuzzAdmission feeds whatever parses as an object: nothing panics, and an answer comes.
func FuzzAdmission(f *testing.F) {
	for _, o := range []object{rayCluster(), born(f), rayCluster(meta("labels", 1), spec("headGroupSpec", nil))} {
		text, err := json.Marshal(o)
		if err != nil {
			f.Fatal(err)
		}
		f.Add(text)
	}
	i := injector(f, []client.Object{covering(func(p *v1alpha1.RayTLSPolicy) { p.Spec.AdditionalContainers = []string{"a"} }), record()})
	f.Fuzz(func(t *testing.T, text []byte) {
		defer time.AfterFunc(time.Minute, func() { panic("one input takes longer than a minute") }).Stop()
		created, updated := request(t, someone, nil, rayCluster()), request(t, someone, rayCluster(), rayCluster())
		created.Object.Raw, updated.OldObject.Raw = text, text
		i.Handle(t.Context(), created)
		i.Handle(t.Context(), updated)
	})
}
