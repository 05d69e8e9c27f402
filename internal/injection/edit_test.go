package injection

import (
	"errors"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/raytls/raytls/internal/jsonpatch"
)

func insertFirst(parent map[string]any, key string, items ...any) {
	parent[key] = slices.Concat(items, jsonpatch.List(parent[key]))
}

// What a user changes on an injected cluster has to survive, as if it had been changed on the plain one.
func TestUserEditsSurvive(t *testing.T) {
	cases := map[string]struct {
		reason string
		edit   func(spec map[string]any)
		state  State // of the head afterwards
	}{
		"nothing":    {"the injection is whole", func(map[string]any) {}, Injected},
		"new image":  {"the init container still runs the old image", func(s map[string]any) { ray(s)["image"] = "rayproject/ray:3" }, Partial},
		"new user":   {"the init container would make a key for the old user", func(s map[string]any) { ray(s)["securityContext"] = map[string]any{"runAsNonRoot": true} }, Partial},
		"new memory": {"the init container still asks for the old amount", func(s map[string]any) { ray(s)["resources"] = nil }, Partial},
		"new variable": {"where a variable stands means nothing", func(s map[string]any) {
			add(ray(s), "env", map[string]any{"name": "NEW", "value": "x"})
		}, Injected},
		"new variable in front": {"where a variable stands means nothing", func(s map[string]any) {
			insertFirst(ray(s), "env", map[string]any{"name": "NEW", "value": "x"})
		}, Injected},
		"new mount and volume": {"where they stand means nothing", func(s map[string]any) {
			insertFirst(ray(s), "volumeMounts", map[string]any{"name": "new", "mountPath": "/new"})
			insertFirst(pod(s), "volumes", map[string]any{"name": "new", "emptyDir": map[string]any{}})
			add(pod(s), "volumes", map[string]any{"name": "newer", "emptyDir": map[string]any{}})
		}, Injected},
		"new container in front": {"the Ray container is now another one", func(s map[string]any) {
			insertFirst(pod(s), "containers", map[string]any{"name": "new", "image": "new:1"})
		}, Partial},
		"new container behind": {"it does not speak Ray", func(s map[string]any) {
			add(pod(s), "containers", map[string]any{"name": "new", "image": "new:1", "env": []any{map[string]any{"name": EnvUseTLS, "value": "1"}}})
		}, Injected},
		"new init container in front": {"it does not need our files", func(s map[string]any) {
			insertFirst(pod(s), "initContainers", map[string]any{"name": "new"})
		}, Injected},
		"new init container behind": {"it runs after ours", func(s map[string]any) {
			add(pod(s), "initContainers", map[string]any{"name": "new"})
		}, Injected},
		"renamed Ray container": {"the record no longer names it, its mount still does", func(s map[string]any) { ray(s)["name"] = "renamed" }, Injected},
		"unknown field":         {"nothing of ours depends on it", func(s map[string]any) { pod(s)["new"] = []any{nil} }, Injected},
		"autoscaler option":     {"nothing of ours depends on it", func(s map[string]any) { jsonpatch.Map(s["autoscalerOptions"])["new"] = "x" }, Injected},
		"autoscaler off":        {"our pieces are left in options nobody reads", func(s map[string]any) { s["enableInTreeAutoscaling"] = false }, Partial},
		"group removed":         {"other templates are not concerned", func(s map[string]any) { s["workerGroupSpecs"] = jsonpatch.List(s["workerGroupSpecs"])[:1] }, Injected},
	}
	for name, tc := range cases {
		t.Run(name, func(t *testing.T) {
			want := plain(t)
			tc.edit(want)
			edited := mustApply(t, plain(t), Parameters{}, All())
			tc.edit(edited)

			got := Inspect(edited, "sample")[0]
			if got.State != tc.state {
				t.Errorf("%s: the head is %s, want %s", tc.reason, got.State, tc.state)
			}
			if got.Stripped != (name == "new container in front") {
				t.Errorf("%s: stripped is %t, but only another Ray container lacks our pieces", tc.reason, got.Stripped)
			}
			if diff := cmp.Diff(want, mustRemove(t, edited, All())); diff != "" {
				t.Errorf("the edit did not survive Remove (-want +got):\n%s", diff)
			}
			if AnyPiece(mustRemove(t, edited, All())) {
				t.Error("a piece of ours is left")
			}
			if diff := cmp.Diff(mustApply(t, want, Parameters{}, All()), mustApply(t, edited, Parameters{}, All())); diff != "" {
				t.Errorf("Apply on the edited spec is not Apply on the plain one with that edit (-want +got):\n%s", diff)
			}
		})
	}
}

func dropNamed(parent map[string]any, key string, names ...string) {
	parent[key] = slices.DeleteFunc(jsonpatch.List(parent[key]), func(item any) bool { return slices.Contains(names, jsonpatch.Name(item)) })
}

func stripEnv(container map[string]any) { dropNamed(container, "env", TLSVariables()...) }

// What an applying tool strips in part is still ours, is reported as partial, and goes or is put right wholly.
func TestPartlyStrippedTemplates(t *testing.T) {
	whole := map[string]bool{"autoscaler options gone": true, "the autoscaler's mount gone": true, "a mount too many": true, "our volume replaced": true}
	cases := map[string]struct {
		reason string
		strip  func(spec map[string]any)
	}{
		"init container gone": {"variables and volumes without it are ours", func(s map[string]any) {
			dropNamed(pod(s), "initContainers", InitContainerName)
		}},
		"record gone": {"an init container of ours without its record is known by our volumes", func(s map[string]any) {
			delete(jsonpatch.Map(jsonpatch.List(pod(s)["initContainers"])[0]), "env")
		}},
		"volumes gone": {"the init container alone names itself", func(s map[string]any) { delete(pod(s), "volumes") }},
		"only the init container left": {"its record says it is ours", func(s map[string]any) {
			delete(pod(s), "volumes")
			stripEnv(ray(s))
			delete(ray(s), "volumeMounts")
		}},
		"only volumes and variables left": {"beside a volume of ours the Ray container's variables are ours", func(s map[string]any) {
			dropNamed(pod(s), "initContainers", InitContainerName)
			delete(ray(s), "volumeMounts")
		}},
		"only mount and variables left": {"a mount of our volume is ours", func(s map[string]any) {
			dropNamed(pod(s), "initContainers", InitContainerName)
			delete(pod(s), "volumes")
		}},
		"variables gone": {"the pod would speak plaintext", func(s map[string]any) { stripEnv(ray(s)) }},
		"only the autoscaler's left": {"its mount is ours", func(s map[string]any) {
			group := jsonpatch.Map(s["headGroupSpec"])
			group["template"] = map[string]any{"spec": mustRemovedPod(s)}
		}},
		"autoscaler options gone": {"the autoscaler could not connect", func(s map[string]any) { delete(s, "autoscalerOptions") }},
		"the autoscaler's mount gone": {"the autoscaler could not read its files", func(s map[string]any) {
			delete(jsonpatch.Map(s["autoscalerOptions"]), "volumeMounts")
		}},
		"record and volumes gone": {"an init container of our name that mounts our volumes is ours", func(s map[string]any) {
			delete(jsonpatch.Map(jsonpatch.List(pod(s)["initContainers"])[0]), "env")
			delete(pod(s), "volumes")
			delete(ray(s), "volumeMounts")
			delete(jsonpatch.Map(s["autoscalerOptions"]), "volumeMounts")
		}},
		"a mount too many": {"nobody else may mount our volume", func(s map[string]any) {
			add(sidecar(s), "volumeMounts", map[string]any{"name": CertsVolume, "mountPath": "/stolen"})
		}},
		"our volume replaced": {"beside our init container the name is ours", func(s map[string]any) {
			dropNamed(pod(s), "volumes", IssuerVolume)
			add(pod(s), "volumes", map[string]any{"name": IssuerVolume, "emptyDir": map[string]any{}})
		}},
	}
	for name, tc := range cases {
		t.Run(name, func(t *testing.T) {
			injected := mustApply(t, plain(t), Parameters{}, All())
			tc.strip(injected)
			states := Inspect(injected, "sample")
			if states[0].State != Partial || states[1].State != Injected {
				t.Errorf("%s: head is %s and the first group %s, want partial and injected", tc.reason, states[0].State, states[1].State)
			}
			if states[0].Stripped == whole[name] || states[1].Stripped {
				t.Errorf("%s: head is stripped: %t, first group: %t", tc.reason, states[0].Stripped, states[1].Stripped)
			}
			back := mustRemove(t, injected, All())
			if AnyPiece(back) || strings.Contains(string(canonicalJSON(back)), "RAY_USE_TLS") {
				t.Errorf("%s: a piece of ours is left:\n%s", tc.reason, canonicalJSON(back))
			}
			for _, found := range Inspect(mustApply(t, injected, Parameters{}, All()), "sample") {
				if found.State != Injected {
					t.Errorf("%s: %s is %s after Apply", tc.reason, found.Path, found.State)
				}
			}
		})
	}
}

// mustRemovedPod gives the head's pod spec without our pieces.
func mustRemovedPod(spec map[string]any) map[string]any {
	out, err := Remove(spec, All())
	if err != nil {
		panic(err)
	}
	return pod(out)
}

func TestInspect(t *testing.T) {
	spec := mustApply(t, plain(t), Parameters{}, Only(false, "small"))
	got := Inspect(spec, "sample")
	for i := range got {
		got[i].CanaryKey = ""
	}
	want := []Template{
		{Kind: Head, Path: "spec.headGroupSpec.template", State: None, Stripped: true, RayContainer: "ray-head"},
		{Kind: Worker, Group: "small", Path: "spec.workerGroupSpecs[0].template", RayContainer: "ray-worker", State: Injected, Revision: 1, Parameters: &Parameters{}},
		{Kind: Worker, Group: "multi-host", Path: "spec.workerGroupSpecs[1].template", State: None, Stripped: true, RayContainer: "ray-worker"},
	}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("(-want +got):\n%s", diff)
	}

	jsonpatch.Map(jsonpatch.List(jsonpatch.Map(jsonpatch.List(templatesOf(spec)[1].pod["initContainers"])[0])["env"])[0])["value"] = `{"revision":7,"parameters":3}`
	newer := Inspect(spec, "sample")[1]
	if newer.State != Partial || newer.Revision != 7 || newer.Parameters != nil {
		t.Errorf("a newer operator's template: got %+v, want partial, revision 7 and no parameters", newer)
	}
}

func TestAdditionalInitContainerMustComeAfterOurs(t *testing.T) {
	spec := withUsers(plain(t))
	injected := mustApply(t, spec, Parameters{AdditionalContainers: []string{"fetch"}}, All())
	inits := jsonpatch.List(templatesOf(injected)[2].pod["initContainers"])
	if jsonpatch.Name(inits[0]) != InitContainerName || jsonpatch.Name(inits[1]) != "fetch" {
		t.Fatalf("ours is not first: %s, %s", jsonpatch.Name(inits[0]), jsonpatch.Name(inits[1]))
	}
	inits[0], inits[1] = inits[1], inits[0]
	if got := Inspect(injected, "sample")[2].State; got != Partial {
		t.Errorf("an init container that speaks Ray before ours finds no files, yet the template is %s", got)
	}
}

func TestCanaryKey(t *testing.T) {
	key := func(i int, edit func(spec map[string]any)) string {
		spec := plain(t)
		edit(spec)
		return Inspect(spec, "sample")[i].CanaryKey
	}
	same := func(map[string]any) {}
	cases := []struct {
		reason string
		other  string
		equal  bool
	}{
		{"memory does not decide whether the script works", key(0, func(s map[string]any) { ray(s)["resources"] = nil }), true},
		{"another image may lack openssl", key(0, func(s map[string]any) { ray(s)["image"] = "x" }), false},
		{"another user may be unable to write", key(0, func(s map[string]any) { ray(s)["securityContext"] = map[string]any{"runAsUser": int64(1)} }), false},
		{"the pod's context counts too", key(0, func(s map[string]any) { pod(s)["securityContext"] = map[string]any{"fsGroup": int64(1)} }), false},
		{"a capability is not copied, so it does not count", key(0, func(s map[string]any) { ray(s)["securityContext"] = map[string]any{"privileged": true} }), true},
		{"groups differ as the head does", key(2, same), false},
	}
	for _, tc := range cases {
		if (key(0, same) == tc.other) != tc.equal {
			t.Errorf("%s: the keys' equality is %t, want %t", tc.reason, !tc.equal, tc.equal)
		}
	}

	before := Inspect(plain(t), "sample")
	for i, after := range Inspect(mustApply(t, plain(t), Parameters{}, All()), "sample") {
		if after.CanaryKey != before[i].CanaryKey {
			t.Errorf("%s: the default injection changes the key", after.Path)
		}
	}
	spec := mustApply(t, withUsers(plain(t)), Parameters{Image: "openssl:3"}, All())
	if keys := Inspect(spec, "sample"); keys[0].CanaryKey != keys[2].CanaryKey {
		t.Error("one init image and one security context need one canary, whatever the Ray images")
	}
}

func TestAdditionalContainersVariablesGoWithoutTheirMount(t *testing.T) {
	spec := withUsers(plain(t))
	injected := mustApply(t, spec, Parameters{AdditionalContainers: []string{"logs"}}, All())
	delete(sidecar(injected), "volumeMounts")
	if diff := cmp.Diff(spec, mustRemove(t, injected, All())); diff != "" {
		t.Errorf("the record names the container, so its variables are ours (-want +got):\n%s", diff)
	}
}

// A user's own TLS beside our injection is neither removed as ours nor taken for a sound injection.
func TestTLSAddedToAnInjectedTemplate(t *testing.T) {
	cases := map[string]struct {
		reason string
		edit   func(spec map[string]any)
		field  string
	}{
		"another value": {"the variable is there twice", func(s map[string]any) {
			add(ray(s), "env", map[string]any{"name": EnvUseTLS, "value": "0"})
		}, head + "containers[0].env[RAY_USE_TLS]"},
		"a new Ray container with our very values": {"our mount is in the other container", func(s map[string]any) {
			insertFirst(pod(s), "containers", map[string]any{"name": "new", "image": "new:1", "env": rayEnv()})
		}, head + "containers[0].env[RAY_USE_TLS]"},
		"another user for the autoscaler": {"it could not read the key", func(s map[string]any) {
			jsonpatch.Map(s["autoscalerOptions"])["securityContext"] = map[string]any{"runAsUser": int64(1)}
		}, "spec.autoscalerOptions.securityContext.runAsUser"},
	}
	for name, tc := range cases {
		t.Run(name, func(t *testing.T) {
			want := plain(t)
			tc.edit(want)
			edited := mustApply(t, plain(t), Parameters{}, All())
			tc.edit(edited)
			if got := Inspect(edited, "sample")[0].State; got != Partial {
				t.Errorf("%s: the head is %s", tc.reason, got)
			}
			var refused *ConflictError
			if _, err := Apply(edited, options(Parameters{}), All()); !errors.As(err, &refused) || refused.Field != tc.field {
				t.Errorf("%s: Apply says %v, want a conflict at %s", tc.reason, err, tc.field)
			}
			if diff := cmp.Diff(want, mustRemove(t, edited, All())); diff != "" {
				t.Errorf("the user's part did not survive Remove (-want +got):\n%s", diff)
			}
		})
	}
}

func TestScope(t *testing.T) {
	cases := map[string]struct {
		reason string
		scope  Scope
		want   [3]bool
	}{
		"all":               {"every template", All(), [3]bool{true, true, true}},
		"head":              {"the head alone", Only(true), [3]bool{true, false, false}},
		"a group":           {"a group by name", Only(false, "multi-host"), [3]bool{false, false, true}},
		"head and group":    {"both", Only(true, "small"), [3]bool{true, true, false}},
		"nothing":           {"the zero value selects none", Scope{}, [3]bool{}},
		"nameless group":    {"the head's lack of a group name is no group name", Only(false, ""), [3]bool{}},
		"group of no spec":  {"a group may have gone meanwhile", Only(false, "gone"), [3]bool{}},
		"all and something": {"All wins", Scope{All: true, Groups: []string{"small"}}, [3]bool{true, true, true}},
	}
	for name, tc := range cases {
		t.Run(name, func(t *testing.T) {
			var got [3]bool
			for i, found := range Inspect(mustApply(t, plain(t), Parameters{}, tc.scope), "sample") {
				got[i] = found.State == Injected
			}
			if got != tc.want {
				t.Errorf("%s: injected are %v, want %v", tc.reason, got, tc.want)
			}
		})
	}
}
