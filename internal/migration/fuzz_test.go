package migration

import (
	"bytes"
	"encoding/json"
	"math/rand/v2"
	"os"
	"path/filepath"
	"slices"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"sigs.k8s.io/yaml"

	"github.com/raytls/raytls/internal/injection"
	"github.com/raytls/raytls/internal/jsonpatch"
	"github.com/raytls/raytls/internal/manifest"
)

// FuzzTake feeds whatever parses as a spec: nothing panics, where nothing is found nothing is changed, and what is left
// of a stanza is nothing that a second look would find.
func FuzzTake(f *testing.F) {
	files, err := filepath.Glob(filepath.Join("testdata", "*", "in.yaml"))
	if err != nil {
		f.Fatal(err)
	}
	for _, file := range files {
		text, err := os.ReadFile(file)
		if err != nil {
			f.Fatal(err)
		}
		for _, o := range manifest.Objects(read(f, file, string(text))) {
			if spec, _ := o.ClusterSpec(); spec != nil {
				seed, err := json.Marshal(spec)
				if err != nil {
					f.Fatal(err)
				}
				f.Add(seed)
			}
		}
	}
	for _, seed := range []string{
		`{}`, `{"headGroupSpec":1,"workerGroupSpecs":[null,{"template":[]}],"autoscalerOptions":{"env":{}}}`,
		`{"headGroupSpec":{"template":{"spec":{"initContainers":[null,{"command":["gencert_head.sh",1]}],"volumes":[1],"containers":[null]}}}}`,
		`{"headGroupSpec":{"template":{"spec":{"initContainers":[{"command":["/gencert_head.sh"],"volumeMounts":[{"name":""},{"name":"a","mountPath":"/"}]}],"volumes":[{"name":"a","secret":{}},{"name":"a"}]}}}}`,
	} {
		f.Add([]byte(seed))
	}
	f.Fuzz(func(t *testing.T, text []byte) {
		defer time.AfterFunc(time.Minute, func() { panic("one input takes longer than a minute") }).Stop()
		decoder := json.NewDecoder(bytes.NewReader(text))
		decoder.UseNumber()
		var before map[string]any
		if decoder.Decode(&before) != nil || before == nil {
			return
		}
		checkTake(t, before)
	})
}

func checkTake(t *testing.T, before map[string]any) {
	t.Helper()
	spec := jsonpatch.Map(jsonpatch.Copy(before))
	s := take(spec)
	if !within(spec, before) {
		t.Fatalf("something was added:\n%s", cmp.Diff(before, spec))
	}
	if len(s.findings) > 0 {
		return
	}
	if diff := cmp.Diff(before, spec); s.secret == "" && len(s.removed) == 0 && diff != "" {
		t.Fatalf("nothing was found, but this was changed:\n%s", diff)
	}
	if second := take(jsonpatch.CopyMap(spec)); second.secret != "" || len(second.findings) > 0 {
		t.Fatalf("a second pass finds %+v", second)
	}
}

// within tells whether a comes of b by taking keys and list elements out.
func within(a, b any) bool {
	switch left := a.(type) {
	case map[string]any:
		right, ok := b.(map[string]any)
		for key, value := range left {
			other, exists := right[key]
			ok = ok && exists && within(value, other)
		}
		return ok
	case []any:
		right, ok := b.([]any)
		for _, item := range left {
			at := slices.IndexFunc(right, func(other any) bool { return within(item, other) })
			if ok = ok && at >= 0; !ok {
				return false
			}
			right = right[at+1:]
		}
		return ok
	}
	return cmp.Equal(a, b)
}

// TestTake_mutations breaks specs with a stanza in places of a seeded choice.
func TestTake_mutations(t *testing.T) {
	t.Parallel()
	var specs []map[string]any
	for _, name := range []string{"kuberay-0.6-autoscaler", "own-ways"} {
		text, err := os.ReadFile(filepath.Join("testdata", name, "in.yaml"))
		if err != nil {
			t.Fatal(err)
		}
		for _, o := range manifest.Objects(read(t, name, string(text))) {
			if spec, _ := o.ClusterSpec(); spec != nil {
				specs = append(specs, spec)
			}
		}
	}
	migrated := 0
	for seed := range uint64(500) {
		random := rand.New(rand.NewPCG(seed, 0))
		spec := jsonpatch.Copy(specs[random.IntN(len(specs))])
		for range 1 + random.IntN(3) {
			spec = mutate(random, spec)
		}
		if jsonpatch.Map(spec) == nil {
			continue
		}
		checkTake(t, jsonpatch.Map(spec))
		if s := take(jsonpatch.Map(jsonpatch.Copy(spec))); s.secret != "" && len(s.findings) == 0 {
			migrated++
		}
	}
	if migrated < 20 {
		t.Errorf("only %d of the mutations still have a stanza", migrated)
	}
}

// mutate replaces, drops or doubles one part of a tree.
func mutate(random *rand.Rand, v any) any {
	if random.IntN(12) == 0 {
		return []any{nil, "", "x", json.Number("1"), true, []any{}, map[string]any{}, []any{nil}, map[string]any{"name": "ca-tls"}}[random.IntN(9)]
	}
	switch typed := v.(type) {
	case map[string]any:
		keys := sortedKeys(typed)
		if len(keys) == 0 {
			return typed
		}
		key := keys[random.IntN(len(keys))]
		if random.IntN(20) == 0 {
			delete(typed, key)
			return typed
		}
		typed[key] = mutate(random, typed[key])
		return typed
	case []any:
		if len(typed) == 0 {
			return typed
		}
		at := random.IntN(len(typed))
		switch random.IntN(8) {
		case 0:
			return slices.Delete(typed, at, at+1)
		case 1:
			return append(typed, jsonpatch.Copy(typed[at]))
		}
		typed[at] = mutate(random, typed[at])
		return typed
	}
	return "x"
}

// FuzzMigrate feeds whole files: nothing panics, and what comes out can be read back and changes no more.
func FuzzMigrate(f *testing.F) {
	files, err := filepath.Glob(filepath.Join("testdata", "*", "in.yaml"))
	if err != nil {
		f.Fatal(err)
	}
	now := time.Now()
	in, _ := caText(f, now)
	for _, file := range files {
		text, err := os.ReadFile(file)
		if err != nil {
			f.Fatal(err)
		}
		f.Add([]byte(in.Replace(string(text))))
	}
	f.Add([]byte(`{"apiVersion":"v1","kind":"List","items":[]}{"apiVersion":"ray.io/v1","kind":"RayCluster","spec":{}}`))
	f.Fuzz(func(t *testing.T, text []byte) {
		defer time.AfterFunc(time.Minute, func() { panic("one input takes longer than a minute") }).Stop()
		documents, err := manifest.Read("in", text)
		if err != nil {
			return
		}
		documents, _, err = Migrate(documents, now)
		if err != nil {
			return
		}
		var out bytes.Buffer
		if err := manifest.Write(&out, documents); err != nil {
			t.Fatal(err)
		}
		reread, err := manifest.Read("out", out.Bytes())
		if err != nil {
			t.Fatalf("what was printed cannot be read: %v\n%s", err, out.String())
		}
		if len(manifest.Objects(reread)) != len(manifest.Objects(documents)) {
			t.Fatalf("objects were lost in\n%s", out.String())
		}
	})
}

// TestTake_undoesTheGuide adds the guide's stanza to plain specs, of KubeRay's sample too, and takes it out: nothing
// else may have changed.
func TestTake_undoesTheGuide(t *testing.T) {
	t.Parallel()
	for name, text := range map[string]string{
		"least": `
headGroupSpec: {template: {spec: {containers: [{name: h, image: i}]}}}
`,
		"much": `
enableInTreeAutoscaling: true
autoscalerOptions: {envFrom: [], resources: {}, env: [{name: A, value: b}], unknown: [1, {a: null}]}
headGroupSpec:
  template:
    metadata: {}
    spec:
      unknown: {a: [1.50, true, null]}
      initContainers: [{name: first, command: [gen]}]
      containers:
      - {name: h, image: i, env: [{name: A, value: b}, {name: C, valueFrom: {fieldRef: {fieldPath: status.podIP}}}], volumeMounts: [{name: v, mountPath: /v}]}
      - {name: sidecar, env: []}
      volumes: [{name: v, emptyDir: {}}]
workerGroupSpecs:
- {groupName: a, template: {spec: {containers: [{name: w, volumeMounts: []}], volumes: [{name: v, emptyDir: {}}]}}}
- {groupName: b, template: {spec: {containers: [{name: w}]}}}
`,
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			var plain map[string]any
			if err := yaml.Unmarshal([]byte(text), &plain); err != nil {
				t.Fatal(err)
			}
			// Empty lists cannot be told from absent ones once they were filled.
			want := jsonpatch.Map(jsonpatch.Copy(plain))
			spec := jsonpatch.Map(jsonpatch.Copy(plain))
			addStanza(spec)
			s := take(spec)
			if len(s.findings) > 0 || s.secret != "ca-tls" {
				t.Fatalf("got %+v", s)
			}
			for _, group := range jsonpatch.List(want["workerGroupSpecs"]) {
				filterEmpty(jsonpatch.Map(jsonpatch.List(jsonpatch.Map(jsonpatch.Map(jsonpatch.Map(group)["template"])["spec"])["containers"])[0]))
			}
			if diff := cmp.Diff(want, spec); diff != "" {
				t.Errorf("(-plain +migrated):\n%s", diff)
			}
			if findings := injection.ForeignTLS(spec, nil); len(findings) > 0 {
				t.Errorf("left: %v", findings)
			}
		})
	}
}

func filterEmpty(container map[string]any) {
	if list, ok := container["volumeMounts"].([]any); ok && len(list) == 0 {
		delete(container, "volumeMounts")
	}
}

// addStanza does to a spec what the guide tells.
func addStanza(spec map[string]any) {
	mounts := func() []any {
		return []any{
			map[string]any{"mountPath": "/etc/ca/tls", "name": "ca-tls", "readOnly": true},
			map[string]any{"mountPath": "/etc/ray/tls", "name": "ray-tls"},
		}
	}
	give := func(container map[string]any) {
		container["volumeMounts"] = append(append([]any{}, jsonpatch.List(container["volumeMounts"])...), mounts()...)
		env := append([]any{}, jsonpatch.List(container["env"])...)
		for name, value := range map[string]string{
			injection.EnvUseTLS: "1", injection.EnvServerCert: "/etc/ray/tls/tls.crt",
			injection.EnvServerKey: "/etc/ray/tls/tls.key", injection.EnvCACert: "/etc/ca/tls/ca.crt",
		} {
			env = append(env, map[string]any{"name": name, "value": value})
		}
		container["env"] = env
	}
	pod := func(group any, script string) {
		spec := jsonpatch.Map(jsonpatch.Map(jsonpatch.Map(group)["template"])["spec"])
		give(jsonpatch.Map(jsonpatch.List(spec["containers"])[0]))
		spec["initContainers"] = append(append([]any{}, jsonpatch.List(spec["initContainers"])...), map[string]any{
			"name": "tls", "command": []any{"/bin/sh", "-c", "cp -R /etc/ca/tls /etc/ray && /etc/gen/tls/" + script},
			"volumeMounts": append(mounts(), map[string]any{"mountPath": "/etc/gen/tls", "name": "gen-tls-script"}),
		})
		spec["volumes"] = append(append([]any{}, jsonpatch.List(spec["volumes"])...),
			map[string]any{"name": "ca-tls", "secret": map[string]any{"secretName": "ca-tls"}},
			map[string]any{"name": "ray-tls", "emptyDir": map[string]any{}},
			map[string]any{"name": "gen-tls-script", "configMap": map[string]any{"name": "tls"}},
		)
	}
	pod(spec["headGroupSpec"], headScript)
	for _, group := range jsonpatch.List(spec["workerGroupSpecs"]) {
		pod(group, workerScript)
	}
	if options := jsonpatch.Map(spec["autoscalerOptions"]); options != nil {
		give(options)
	}
}
