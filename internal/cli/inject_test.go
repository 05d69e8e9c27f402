package cli

import (
	"bytes"
	"flag"
	"io"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/raytls/raytls/internal/gencert/gencerttest"
	"github.com/raytls/raytls/internal/golden"
	"github.com/raytls/raytls/internal/injection"
	"github.com/raytls/raytls/internal/jsonpatch"
	"github.com/raytls/raytls/internal/manifest"
)

var update = flag.Bool("update", false, "rewrite the golden files")

// run gives what a command prints, and its notes, for a standard input.
func run(t testing.TB, in string, args ...string) (out, notes string, err error) {
	t.Helper()
	var outBuffer, notesBuffer bytes.Buffer
	env := Environment{In: strings.NewReader(in), Out: &outBuffer, Notes: &notesBuffer, Now: time.Now}
	err = Main("v1.2.3", append([]string{"raytls"}, args...), env)
	return outBuffer.String(), notesBuffer.String(), err
}

func mustRun(t testing.TB, in string, args ...string) (out, notes string) {
	t.Helper()
	out, notes, err := run(t, in, args...)
	if err != nil {
		t.Fatal(err)
	}
	return out, notes
}

func compare(t *testing.T, file, got string) {
	t.Helper()
	if diff := golden.Diff(t, *update, file, got); diff != "" {
		t.Errorf("%s (-want +got):\n%s", file, diff)
	}
}

func objects(t *testing.T, text string) []*manifest.Object {
	t.Helper()
	documents, err := manifest.Read("text", []byte(text))
	if err != nil {
		t.Fatal(err)
	}
	return manifest.Objects(documents)
}

// contents are the objects without their layout.
func contents(t *testing.T, text string) (all []map[string]any) {
	t.Helper()
	for _, o := range objects(t, text) {
		all = append(all, o.Object)
	}
	return all
}

func specs(t *testing.T, text string) map[string]map[string]any {
	t.Helper()
	found := map[string]map[string]any{}
	for _, o := range objects(t, text) {
		if o.Is("ray.io", "RayCluster") {
			found[o.GetName()], _ = o.ClusterSpec()
		}
	}
	return found
}

func TestInject_golden(t *testing.T) {
	t.Parallel()
	folder := filepath.Join("testdata", "inject")
	text, err := os.ReadFile(filepath.Join(folder, "in.yaml"))
	if err != nil {
		t.Fatal(err)
	}
	out, notes := mustRun(t, string(text), "inject", "-f", "-")
	compare(t, filepath.Join(folder, "out.yaml"), out)
	compare(t, filepath.Join(folder, "notes.txt"), notes)
	for name, substitute := range gencerttest.Substitutions() {
		if diff := cmp.Diff(out, substitute(out)); diff != "" {
			t.Errorf("%s changes the manifests (-before +after):\n%s", name, diff)
		}
	}

	// What the operator would write into the very cluster that the input describes.
	before, after := specs(t, string(text)), specs(t, out)
	for name, p := range map[string]*injection.Parameters{"train": {AdditionalContainers: []string{"driver"}}, "elsewhere": {}, "out": nil} {
		want := before[name]
		if p != nil {
			want, err = injection.Apply(before[name], injection.Options{ClusterName: name, Parameters: *p}, injection.All())
			if err != nil {
				t.Fatal(err)
			}
		}
		// Applied to a cluster that the operator injected, the output changes nothing.
		if changes := jsonpatch.Diff(want, after[name]); len(changes) > 0 {
			t.Errorf("%s: applying the output changes what the operator wrote: %v", name, changes)
		}
	}

	second, _ := mustRun(t, out, "inject", "-f", "-")
	if diff := cmp.Diff(out, second); diff != "" {
		t.Errorf("the second time it changes (-first +second):\n%s", diff)
	}
	back, _ := mustRun(t, out, "inject", "--remove", "-f", "-")
	plain, _ := mustRun(t, string(text), "inject", "--remove", "-f", "-")
	if diff := cmp.Diff(contents(t, plain), contents(t, back)); diff != "" {
		t.Errorf("inject and inject --remove are not exact (-plain +back):\n%s", diff)
	}
}

const (
	cluster = `apiVersion: ray.io/v1
kind: RayCluster
metadata: {name: train}
spec:
  headGroupSpec: {template: {spec: {containers: [{name: ray-head, image: "rayproject/ray:2.52.0"}]}}}
`
	fast = `apiVersion: raytls.io/v1alpha1
kind: RayTLSPolicy
metadata: {name: fast}
spec:
  selector: {}
  issuance: {initContainer: {resources: {limits: {cpu: "2"}}}}
`
)

func TestInject_sources(t *testing.T) {
	t.Parallel()
	file := func(text string) string {
		path := filepath.Join(t.TempDir(), "file.yaml")
		if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
		return path
	}
	injected, _ := mustRun(t, cluster+"---\n"+fast, "inject", "-f", "-")
	for name, c := range map[string]struct {
		reason string
		in     string
		args   []string
		asks   string // the init container
		note   string
	}{
		"files":         {"policy and cluster may be in files of their own", "", []string{"-f", file(fast), "-f", file(cluster)}, `cpu: "2"`, "RayTLSPolicy fast"},
		"stdin too":     {"and one may come from a pipe", cluster, []string{"-f", "-", "-f", file(fast)}, `cpu: "2"`, "RayTLSPolicy fast"},
		"flag":          {"a policy that the input lacks", cluster, []string{"-f", "-", "--policy", file(fast)}, `cpu: "2"`, "given with --policy"},
		"flag first":    {"the flag was typed for a reason", cluster + "---\n" + fast, []string{"-f", "-", "--policy", file(strings.ReplaceAll(fast, `"2"`, `"3"`))}, `cpu: "3"`, "given with --policy"},
		"none":          {"defaults", cluster, []string{"-f", "-"}, `resources: {}`, "since no RayTLSPolicy in the input covers it"},
		"injected":      {"an injected manifest says what it was injected with", strings.Split(injected, "---")[0], []string{"-f", "-"}, `cpu: "2"`, "printed unchanged"},
		"other policy":  {"a changed parameter is followed", injected, []string{"-f", "-", "--policy", file(strings.ReplaceAll(fast, `"2"`, `"3"`))}, `cpu: "3"`, "injected with the parameters"},
		"JSON":          {"kubectl get -o json prints it so", `{"apiVersion":"ray.io/v1","kind":"RayCluster","metadata":{"name":"train"},"spec":{"headGroupSpec":{"template":{"spec":{"containers":[{"name":"h"}]}}}}}`, []string{"-f", "-"}, `resources: {}`, "defaults"},
		"typed list":    {"kubectl get --raw prints it so", `{"apiVersion":"ray.io/v1","kind":"RayClusterList","items":[{"apiVersion":"ray.io/v1","kind":"RayCluster","metadata":{"name":"train"},"spec":{"headGroupSpec":{"template":{"spec":{"containers":[{"name":"h"}]}}}}}]}`, []string{"-f", "-"}, `resources: {}`, "items[0] of document 1"},
		"other version": {"the oldest sample is v1alpha1", strings.Replace(cluster, "ray.io/v1", "ray.io/v1alpha1", 1), []string{"-f", "-"}, `resources: {}`, "defaults"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			out, notes := mustRun(t, c.in, append([]string{"inject"}, c.args...)...)
			for _, found := range injection.Inspect(specs(t, out)["train"], "train") {
				if found.State != injection.Injected {
					t.Errorf("%s: %s is %s", c.reason, found.Path, found.State)
				}
			}
			if !strings.Contains(out, c.asks) {
				t.Errorf("%s: the init container has not %s in\n%s", c.reason, c.asks, out)
			}
			if !strings.Contains(notes, c.note) {
				t.Errorf("%s: %q is not noted in\n%s", c.reason, c.note, notes)
			}
		})
	}
}

// TestInject_ports looks for the note on the ports that TLS does not close, and for the page that it names.
func TestInject_ports(t *testing.T) {
	t.Parallel()
	const says = "TLS does not close ports 8265 and 52365"
	injected, _ := mustRun(t, cluster, "inject", "-f", "-")
	for name, c := range map[string]struct {
		reason string
		in     string
		args   []string
		want   int
	}{
		"injected": {"who reads that a cluster is injected has read it before", cluster, nil, 1},
		"two":      {"once is enough", cluster + "---\n" + strings.Replace(cluster, "name: train", "name: other", 1), nil, 1},
		"again":    {"a manifest that is injected already opens the same ports", injected, nil, 1},
		"removed":  {"nobody expects TLS to close a port where it is taken out", injected, []string{"--remove"}, 0},
		"no Ray":   {"there are no ports", "apiVersion: v1\nkind: ConfigMap\nmetadata: {name: a}\n", nil, 0},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			_, notes := mustRun(t, c.in, append([]string{"inject", "-f", "-"}, c.args...)...)
			if got := strings.Count(notes, says); got != c.want || c.want > 0 && !strings.HasPrefix(notes, says) {
				t.Errorf("%s: it is noted %d times, not %d times and first:\n%s", c.reason, got, c.want, notes)
			}
			if _, page, found := strings.Cut(notes, "/blob/main/"); found {
				page, _, _ = strings.Cut(page, "\n")
				if _, err := os.Stat(filepath.Join("..", "..", page)); err != nil {
					t.Errorf("the note names a page that is not there: %v", err)
				}
			}
		})
	}
}

func TestInject_errors(t *testing.T) {
	t.Parallel()
	other := strings.Replace(strings.Replace(fast, "name: fast", "name: slow, namespace: a", 1), "selector: {}", "selector: {}", 1)
	for name, c := range map[string]struct {
		reason string
		in     string
		args   []string
		want   string
	}{
		"no file":           {"nothing is read from a terminal by surprise", "", []string{}, "raytls inject -f FILE, or -f - for standard input"},
		"missing file":      {"the path is named", "", []string{"-f", "/no/such"}, "open /no/such"},
		"stdin twice":       {"it is empty the second time", cluster, []string{"-f", "-", "-f", "-"}, "give -f - once"},
		"empty":             {"an empty pipe is a failed command before it", "# nothing\n", []string{"-f", "-"}, "there is no object in the input"},
		"no object":         {"a list of lines is no manifest", "- a\n", []string{"-f", "-"}, "document 1 of standard input: is not an object"},
		"no kind":           {"the document is named", cluster + "---\na: b\n", []string{"-f", "-"}, "document 2 of standard input: line 7: apiVersion is missing"},
		"a key twice":       {"which one was meant", cluster + "spec: {}\n", []string{"-f", "-"}, "document 1 of standard input: line 6: the key \"spec\" is already in line 4"},
		"broken YAML":       {"the document is named", cluster + "---\na: [\n", []string{"-f", "-"}, "document 2 of standard input: "},
		"broken JSON":       {"which is no YAML either", "{", []string{"-f", "-"}, "document 1 of standard input: "},
		"separator":         {"what follows --- would be dropped", "--- a: b\n", []string{"-f", "-"}, "standard input: line 1: has text behind ---"},
		"list of lists":     {"kubectl flattens none either", "apiVersion: v1\nkind: List\nitems: [{apiVersion: v1, kind: List, items: []}]", []string{"-f", "-"}, "items[0] of document 1 of standard input: is a List inside a List"},
		"no name":           {"the Secret is named by the cluster", strings.Replace(cluster, "name: train", "generateName: train-", 1), []string{"-f", "-"}, "RayCluster train-? (document 1 of standard input): metadata.name: is missing"},
		"foreign TLS":       {"object, document and field", strings.Replace(cluster, "name: ray-head,", `name: ray-head, env: [{name: RAY_USE_TLS, value: "1"}],`, 1), []string{"-f", "-"}, "RayCluster train (document 1 of standard input): spec.headGroupSpec.template.spec.containers[0].env[RAY_USE_TLS] is set by somebody else"},
		"all of them":       {"one after the other would be tedious", strings.ReplaceAll(cluster+"---\n"+cluster, "name: train", "generateName: a"), []string{"-f", "-"}, "(document 2 of standard input)"},
		"spec":              {"what is no spec is refused", "apiVersion: ray.io/v1\nkind: RayCluster\nmetadata: {name: a}\nspec: 1\n", []string{"-f", "-"}, "spec is not an object"},
		"labels":            {"what the API server would refuse", strings.Replace(cluster, "name: train", "name: train, labels: {a: 1}", 1), []string{"-f", "-"}, "line 3: metadata.labels.a is 1, which YAML does not read as text"},
		"Secret's number":   {"what the API server would refuse", strings.Replace(cluster, "containers:", "volumes: [{name: v, secret: {secretName: 123}}], containers:", 1), []string{"-f", "-"}, "line 5: spec.headGroupSpec.template.spec.volumes[0].secret.secretName is 123, which YAML does not read as text: put it in quotes"},
		"Latin-1":           {"editors of old save so", strings.Replace(cluster, "name: train", "name: train # caf\xe9", 1), []string{"-f", "-"}, "line 3: holds the byte 0xe9, which is not UTF-8: save the file as UTF-8"},
		"Helm, bare field":  {"inside of range and with, a dot is enough", strings.Replace(cluster, "name: train", `name: "{{ .name }}"`, 1), []string{"-f", "-"}, "line 3: metadata.name is a Helm template"},
		"Helm in a policy":  {"its name would be no name", cluster + "---\n" + strings.Replace(fast, "selector: {}", `targetRef: {kind: RayCluster, name: "{{ .Release.Name }}"}`, 1), []string{"-f", "-"}, "line 11: spec.targetRef.name is a Helm template"},
		"other template":    {"other tools have braces too", strings.Replace(cluster, "name: train", "name: {{ cluster }}", 1), []string{"-f", "-"}, "line 3 has {{: if the file is a template, give the command what its tool prints"},
		"authority's life":  {"the API server refuses it", cluster + "---\n" + fast + "  podCertificate: {validityDays: 1000}\n", []string{"-f", "-"}, "must be at least four times podCertificate.validityDays, which is 1000"},
		"misspelt policy":   {"its parameters would be missing", cluster + "---\n" + strings.Replace(fast, "initContainer:", "initContaner:", 1), []string{"-f", "-"}, `RayTLSPolicy fast (document 2 of standard input): error unmarshaling JSON: while decoding JSON: json: unknown field "initContaner"`},
		"two namespaces":    {"who knows which it will be in", cluster + "---\n" + fast + "---\n" + other + "---\n" + strings.Replace(other, "namespace: a", "namespace: b", 1), []string{"-f", "-"}, "metadata.namespace: is missing"},
		"policy's file":     {"one is needed", cluster, []string{"-f", "-", "--policy", "testdata/inject/in.yaml"}, "--policy: testdata/inject/in.yaml holds 2 RayTLSPolicies; one is needed"},
		"policy and remove": {"a removal needs none", cluster, []string{"-f", "-", "--remove", "--policy", "x"}, "policy remove"},
		"bad name":          {"the API server would refuse it", strings.Replace(cluster, "name: train", "name: Train", 1), []string{"-f", "-"}, "metadata.name: a lowercase RFC 1123 subdomain"},
		"long name":         {"the Secret's is longer", strings.Replace(cluster, "name: train", "name: "+strings.Repeat("a", 250), 1), []string{"-f", "-"}, "no room for the name of the RayCluster's Secret"},
		"control":           {"a manifest does not steer a terminal", strings.Replace(cluster, "name: train", `name: "\e[2Jx"`, 1), []string{"-f", "-"}, "RayCluster \ufffd[2Jx"},
		"newer": {
			"what a newer operator wrote is its own",
			strings.Replace(cluster, "containers:", `initContainers: [{name: raytls-init, env: [{name: RAYTLS_INJECTION, value: '{"revision":99}'}]}], containers:`, 1),
			[]string{"-f", "-"},
			"was written by a newer operator",
		},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			out, _, err := run(t, c.in, append([]string{"inject"}, c.args...)...)
			if err == nil || !strings.Contains(err.Error(), c.want) {
				t.Errorf("%s: error is %q, want %q in it", c.reason, err, c.want)
			}
			if out != "" {
				t.Errorf("%s: beside its error it printed\n%s", c.reason, out)
			}
		})
	}
}

func TestMigrate_command(t *testing.T) {
	t.Parallel()
	const sample = "../migration/testdata/owners/in.yaml"
	out, notes := mustRun(t, "", "migrate", "-f", sample)
	if !strings.Contains(out, "kind: RayTLSPolicy") || strings.Contains(out, "RAY_USE_TLS") {
		t.Errorf("it is not migrated:\n%s", out)
	}
	if !strings.Contains(notes, "RayService ml/train") || strings.Contains(out, "RayService ml/train") {
		t.Errorf("the notes are missing, or among the manifests:\n%s", notes)
	}
	out, _, err := run(t, strings.Replace(cluster, "name: ray-head,", `name: ray-head, env: [{name: RAY_USE_TLS, value: "1"}],`, 1), "migrate", "-f", "-")
	const want = "RayCluster train (document 1 of standard input): spec.headGroupSpec.template.spec.containers[0].env[RAY_USE_TLS]: is set by somebody else"
	if err == nil || !strings.Contains(err.Error(), want) || out != "" {
		t.Errorf("TLS that is not the guide's gives %v and\n%s", err, out)
	}
	// The migrated cluster is one that can be injected.
	_, notes = mustRun(t, "", "inject", "-f", "../migration/testdata/kuberay-1.3/out.yaml")
	if !strings.Contains(notes, "injected with the parameters of RayTLSPolicy raycluster-tls") {
		t.Errorf("the added policy does not cover the cluster:\n%s", notes)
	}
}

// TestInject_writes has a full disk.
func TestInject_writes(t *testing.T) {
	t.Parallel()
	for _, env := range []Environment{
		{In: strings.NewReader(cluster), Out: full{}, Notes: io.Discard, Now: time.Now},
		{In: strings.NewReader(cluster), Out: io.Discard, Notes: full{}, Now: time.Now},
	} {
		if err := Main("v1.2.3", []string{"raytls", "inject", "-f", "-"}, env); err == nil {
			t.Error("what could not be written is no success")
		}
	}
}

type full struct{}

func (full) Write([]byte) (int, error) { return 0, io.ErrShortWrite }
