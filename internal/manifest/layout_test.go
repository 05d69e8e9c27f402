package manifest

import (
	"bytes"
	"encoding/binary"
	"strings"
	"testing"
	"unicode/utf16"

	"github.com/google/go-cmp/cmp"

	"github.com/raytls/raytls/internal/jsonpatch"
)

const written = `# Who owns this.
---
# A license.
apiVersion: ray.io/v1 # the version
kind: RayCluster
metadata:
  name: "123"
  labels: {team: 'ml'}
spec:
  # Before the head.
  headGroupSpec:
    template:
      spec:
        containers:
        - name: ray-head # the first
          image: ${IMAGE}
          env:
          - {name: ID, value: "${RUN_ID}"}
          - name: OTHER
            value: "0777"
        volumes: []
  rayVersion: "2.50"
--- # the next one
apiVersion: v1
kind: ConfigMap
metadata:   {name: untouched}
data:
    a:   'x'
---
# The end.
`

func readOne(t *testing.T, text string) []*Document {
	t.Helper()
	documents, err := Read("f", []byte(text))
	if err != nil {
		t.Fatal(err)
	}
	return documents
}

func printed(t *testing.T, documents []*Document) string {
	t.Helper()
	var out bytes.Buffer
	if err := Write(&out, documents); err != nil {
		t.Fatal(err)
	}
	return out.String()
}

// pod gives the head's pod spec, to be changed.
func pod(d *Document) map[string]any {
	spec, _ := d.Objects[0].ClusterSpec()
	return jsonpatch.Map(jsonpatch.Map(jsonpatch.Map(spec["headGroupSpec"])["template"])["spec"])
}

func TestWrite_keepsWhatWasWritten(t *testing.T) {
	t.Parallel()
	documents := readOne(t, written)
	if diff := cmp.Diff(written, printed(t, documents)); diff != "" {
		t.Errorf("an unchanged file is printed in another way (-want +got):\n%s", diff)
	}
	head := pod(documents[0])
	first := jsonpatch.Map(jsonpatch.List(head["containers"])[0])
	first["env"] = append(jsonpatch.List(first["env"])[:1], map[string]any{"name": "NEW", "value": "1"}, map[string]any{"name": "URL", "value": "$HOST"})
	head["initContainers"] = []any{map[string]any{"name": "init", "args": []any{"a\nb\n"}}}
	want := strings.NewReplacer(`          - name: OTHER
            value: "0777"
        volumes: []
`, `          - name: NEW
            value: "1"
          - name: URL
            value: "$HOST"
        volumes: []
        initContainers:
        - args:
          - |
            a
            b
          name: init
`).Replace(written)
	if diff := cmp.Diff(want, printed(t, documents)); diff != "" {
		t.Errorf("more than the change is different (-want +got):\n%s", diff)
	}
}

func TestWrite_anchors(t *testing.T) {
	t.Parallel()
	const text = `apiVersion: ray.io/v1
kind: RayCluster
metadata: {name: a}
x: &env
- {name: A, value: "1"}
y: *env
spec:
  headGroupSpec:
    template:
      spec:
        containers:
        - &ray
          name: head
          env: *env
  workerGroupSpecs:
  - &group
    groupName: cpu
    maxReplicas: 4
    template: {spec: {containers: [{<<: *ray, name: worker}]}}
  - <<: *group
    groupName: gpu
    maxReplicas: 2
`
	documents := readOne(t, text)
	if diff := cmp.Diff(text, printed(t, documents)); diff != "" {
		t.Errorf("an unchanged file is printed in another way (-want +got):\n%s", diff)
	}
	spec, _ := documents[0].Objects[0].ClusterSpec()
	for i, group := range jsonpatch.List(spec["workerGroupSpecs"]) {
		if got, want := jsonpatch.Map(group)["groupName"], []string{"cpu", "gpu"}[i]; got != want {
			t.Errorf("group %d is %v, not %s as kubectl reads it", i, got, want)
		}
	}
	for name, change := range map[string]func(){
		"the anchored container": func() { jsonpatch.Map(jsonpatch.List(pod(documents[0])["containers"])[0])["image"] = "x" },
		"an alias's list": func() {
			first := jsonpatch.Map(jsonpatch.List(pod(documents[0])["containers"])[0])
			first["env"] = append(jsonpatch.List(first["env"]), map[string]any{"name": "B", "value": "2"})
		},
		"a merged group": func() {
			jsonpatch.Map(jsonpatch.List(spec["workerGroupSpecs"])[1])["template"] = map[string]any{"spec": map[string]any{}}
		},
		"the anchor is taken out": func() { delete(documents[0].Objects[0].Object, "x") },
	} {
		change()
		out := printed(t, documents)
		if !strings.HasPrefix(out, "apiVersion: ray.io/v1\n") {
			t.Errorf("%s: the layout is given up:\n%s", name, out)
		}
		if again := readOne(t, out); !jsonpatch.Equal(again[0].tree(), documents[0].tree()) {
			t.Errorf("%s: what is printed means something else (-want +got):\n%s", name, cmp.Diff(documents[0].tree(), again[0].tree()))
		}
	}
}

func TestRead_files(t *testing.T) {
	t.Parallel()
	encode := func(order binary.AppendByteOrder, text string) string {
		var out []byte
		for _, unit := range utf16.Encode([]rune(text)) {
			out = order.AppendUint16(out, unit)
		}
		return string(out)
	}
	const two = "apiVersion: v1\r\nkind: A\r\nmetadata: {name: ü😀}\r\n---\r\napiVersion: v1\r\nkind: B\r\n"
	for name, text := range map[string]string{
		"UTF-8":                        two,
		"UTF-8 with a mark":            "\ufeff" + two,
		"files with marks, one by one": "\ufeffapiVersion: v1\nkind: A\n\ufeff---\n\ufeffapiVersion: v1\nkind: B\n",
		"UTF-16LE":                     encode(binary.LittleEndian, "\ufeff"+two),
		"UTF-16BE":                     encode(binary.BigEndian, "\ufeff"+two),
		"UTF-16LE without a mark":      encode(binary.LittleEndian, two),
		"UTF-16BE without a mark":      encode(binary.BigEndian, two),
	} {
		var kinds []string
		for _, o := range Objects(readOne(t, text)) {
			kinds = append(kinds, o.GetKind())
		}
		if diff := cmp.Diff([]string{"A", "B"}, kinds); diff != "" {
			t.Errorf("%s: objects (-want +got):\n%s", name, diff)
		}
	}
}

func TestRead_refuses(t *testing.T) {
	t.Parallel()
	const object = "apiVersion: ray.io/v1\nkind: RayCluster\n"
	for name, c := range map[string]struct{ reason, text, want string }{
		"twice":            {"which one was meant", object + "---\n" + object + "spec: {}\nspec: {}\n", `document 2 of f: line 7: the key "spec" is already in line 6`},
		"twice, in JSON":   {"JSON is no other", `{"apiVersion":"v1","kind":"A","a":{"b":1,"b":2}}`, `document 1 of f: duplicate field "a.b"`},
		"twice in a merge": {"an override is one key", object + "x: &x {a: 1}\nspec: {<<: *x, a: 2, a: 3}\n", `the key "a" is already in line 4`},
		"broken":           {"the line is the file's", object + "---\n" + object + "a: b: c\n", "document 2 of f: yaml: line 6: "},
		"Latin-1":          {"another text is printed otherwise", object + "# caf\xe9\n", "line 3: holds the byte 0xe9, which is not UTF-8"},
		"half":             {"a download that broke off", "a\x00b", "half a character"},
		"a helm block":     {"which is no YAML", object + "{{- if .Values.a }}\na: b\n{{- end }}\n", "line 3: is a Helm template"},
		"a helm value":     {"which YAML takes for a mapping", object + "metadata:\n  name: {{ .Values.name }}\n", "line 4: is a Helm template"},
		"helm in quotes":   {"which YAML takes for text", object + "metadata:\n  name: \"{{ .Release.Name }}\"\n", "line 4: metadata.name is a Helm template"},
		"a number":         {"the API server does not say where", object + "metadata:\n  name: 123\n", "line 4: metadata.name is 123"},
		"a rounded number": {"2.50 would become 2.5", object + "spec:\n  rayVersion: 2.50\n", "line 4: spec.rayVersion is 2.5"},
		"a Norwegian":      {"no is a boolean", object + "spec:\n  headGroupSpec: {template: {spec: {containers: [{name: a, env: [{name: A, value: no}]}]}}}\n", "line 4: spec.headGroupSpec.template.spec.containers[0].env[0].value is false"},
		"in a List":        {"the item is named", "apiVersion: v1\nkind: List\nitems:\n- apiVersion: v1\n  kind: A\n  metadata:\n    labels: {a: 1}\n", "(items[0] of document 1 of f): line 7: metadata.labels.a is 1"},
	} {
		if documents, err := Read("f", []byte(c.text)); err == nil || !strings.Contains(err.Error(), c.want) {
			t.Errorf("%s: %s: got %v, %v; want %q in it", name, c.reason, documents, err, c.want)
		}
	}
	for name, text := range map[string]string{
		"Jinja":            object + "spec: {headGroupSpec: {template: {spec: {containers: [{name: a, args: [\"{{ bos_token }}{% for m in messages %}\"]}]}}}}\n",
		"helm in a script": "apiVersion: v1\nkind: ConfigMap\ndata: {a: \"{{ .Values.a }}\"}\n",
		"another's field":  "apiVersion: v1\nkind: ConfigMap\nspec: {name: 1}\n",
	} {
		if _, err := Read("f", []byte(text)); err != nil {
			t.Errorf("%s is refused: %v", name, err)
		}
	}
}
