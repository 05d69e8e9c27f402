package injection

import (
	"errors"
	"flag"
	"os"
	"path/filepath"
	"testing"

	"github.com/google/go-cmp/cmp"
	"sigs.k8s.io/yaml"

	"github.com/raytls/raytls/internal/gencert/gencerttest"
	"github.com/raytls/raytls/internal/golden"
	"github.com/raytls/raytls/internal/jsonpatch"
)

var update = flag.Bool("update", false, "rewrite the golden files; for an unreleased revision only")

func options(p Parameters) Options { return Options{ClusterName: "sample", Revision: 1, Parameters: p} }

func fromYAML(t testing.TB, text string) map[string]any {
	t.Helper()
	var spec map[string]any
	if err := yaml.Unmarshal([]byte(text), &spec); err != nil {
		t.Fatal(err)
	}
	return spec
}

func readYAML(t testing.TB, name string) map[string]any {
	t.Helper()
	text, err := os.ReadFile(filepath.Join("testdata", "revision1", name))
	if err != nil {
		t.Fatal(err)
	}
	return fromYAML(t, string(text))
}

func plain(t testing.TB) map[string]any { return readYAML(t, "plain.yaml") }

func mustApply(t testing.TB, spec map[string]any, p Parameters, scope Scope) map[string]any {
	t.Helper()
	out, err := Apply(spec, options(p), scope)
	if err != nil {
		t.Fatal(err)
	}
	return out
}

func mustRemove(t testing.TB, spec map[string]any, scope Scope) map[string]any {
	t.Helper()
	out, err := Remove(spec, scope)
	if err != nil {
		t.Fatal(err)
	}
	return out
}

func everyParameter() Parameters {
	return Parameters{
		Image: "registry.example/raytls-openssl:1", ImagePullPolicy: "Always", ScriptsPath: "/opt/raytls/",
		Resources:            &Resources{Requests: map[string]string{"cpu": "100m"}, Limits: map[string]string{"memory": "128Mi"}},
		AdditionalContainers: []string{"logs", "fetch", "logs"},
	}
}

// withUsers sets the pod's user everywhere, which a second image needs.
func withUsers(spec map[string]any) map[string]any {
	for _, t := range templatesOf(spec) {
		t.pod["securityContext"] = map[string]any{"runAsUser": int64(1000)}
		for _, list := range containerLists() {
			for _, c := range jsonpatch.List(t.pod[list]) {
				delete(jsonpatch.Map(c), "securityContext")
			}
		}
	}
	return spec
}

// A changed byte in these files restarts the pods of every cluster of that revision.
func TestGoldenRevision1(t *testing.T) {
	cases := map[string]struct {
		reason     string
		spec       map[string]any
		parameters Parameters
	}{
		"default.yaml": {
			reason: "the default parameters give the bytes that clusters run", spec: plain(t),
		},
		"parameters.yaml": {
			reason: "every parameter reaches the template", spec: withUsers(plain(t)), parameters: everyParameter(),
		},
		"revoked.yaml": {
			reason: "a revocation changes the record and the name of the CA Secret alone", spec: plain(t), parameters: Parameters{RevokedBefore: 3},
		},
	}
	for name, tc := range cases {
		t.Run(name, func(t *testing.T) {
			got, err := yaml.Marshal(mustApply(t, tc.spec, tc.parameters, All()))
			if err != nil {
				t.Fatal(err)
			}
			if diff := golden.Diff(t, *update, filepath.Join("testdata", "revision1", name), string(got)); diff != "" {
				t.Errorf("%s (-want +got):\n%s", tc.reason, diff)
			}
		})
	}
}

// Manifests with our templates go through tools that replace variables, each by rules of its own.
func TestTemplatesSurviveSubstitution(t *testing.T) {
	for _, parameters := range []Parameters{{}, everyParameter()} {
		text, err := yaml.Marshal(mustApply(t, withUsers(plain(t)), parameters, All()))
		if err != nil {
			t.Fatal(err)
		}
		quoted, err := yaml.YAMLToJSON(text)
		if err != nil {
			t.Fatal(err)
		}
		for name, substitute := range gencerttest.Substitutions() {
			for _, manifest := range []string{string(text), string(quoted)} {
				if diff := cmp.Diff(manifest, substitute(manifest)); diff != "" {
					t.Errorf("%s changes the manifest (-before +after):\n%s", name, diff)
				}
			}
		}
	}
}

// The kubelet fills in the word that asks for it, and leaves the others as they are.
func TestCommandSurvivesTheKubelet(t *testing.T) {
	for _, template := range templatesOf(mustApply(t, plain(t), Parameters{ScriptsPath: "/opt/raytls"}, All())) {
		ours := jsonpatch.Map(jsonpatch.List(template.pod["initContainers"])[0])
		env := map[string]string{"FQ_RAY_IP": "x", "RAY_IP": "x"}
		for _, entry := range jsonpatch.List(ours["env"]) {
			env[jsonpatch.Name(entry)] = "x"
		}
		var filledIn []string
		for _, word := range jsonpatch.List(ours["command"]) {
			if text := jsonpatch.String(word); gencerttest.Expand(text, env) != text {
				filledIn = append(filledIn, text)
			}
		}
		if diff := cmp.Diff([]string{"$(" + EnvNodeType + ")"}, filledIn); diff != "" {
			t.Errorf("%s: words of the command that the kubelet changes (-want +got):\n%s", template.path, diff)
		}
		for _, entry := range jsonpatch.List(ours["env"]) {
			if value := jsonpatch.String(jsonpatch.Map(entry)["value"]); gencerttest.Expand(value, env) != value {
				t.Errorf("%s: the kubelet changes the value of %s: %s", template.path, jsonpatch.Name(entry), value)
			}
		}
	}
}

func TestOptionsAreRefused(t *testing.T) {
	cases := []struct {
		reason  string
		options Options
	}{
		{"without a name there is no Secret to mount", Options{Revision: 1}},
		{"a revision of the future cannot be rendered", Options{ClusterName: "c", Revision: Revision + 1}},
		{"a negative revision is a mistake", Options{ClusterName: "c", Revision: -1}},
	}
	for _, tc := range cases {
		_, err := Apply(plain(t), tc.options, All())
		var refused *ConflictError
		if err == nil || errors.As(err, &refused) {
			t.Errorf("%s: got %v, want an error that is not the user's", tc.reason, err)
		}
	}
}
