package gitops_test

import (
	"bytes"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/fluxcd/pkg/ssa/utils"
	"github.com/google/go-cmp/cmp"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"sigs.k8s.io/kustomize/api/krusty"
	"sigs.k8s.io/kustomize/kyaml/filesys"
)

// kept are the objects whose deletion loses data: the namespace holds every authority, and a CRD holds all of its kind.
var kept = map[string]bool{
	"CustomResourceDefinition/rayclustertlses.raytls.io": true,
	"CustomResourceDefinition/raytlspolicies.raytls.io":  true,
	"Namespace/raytls-system":                            true,
}

// keepers tell of each tool whether it keeps an object that is removed from its sources.
var keepers = map[string]func(*unstructured.Unstructured) bool{
	// kustomize-controller gives its library these exclusions.
	"Flux": func(o *unstructured.Unstructured) bool {
		return utils.AnyInMetadata(o, map[string]string{"kustomize.toolkit.fluxcd.io/prune": "disabled"})
	},
	"Argo CD, removed from Git":    func(o *unstructured.Unstructured) bool { return argoOption(o, "Prune=false") },
	"Argo CD, Application deleted": func(o *unstructured.Unstructured) bool { return argoOption(o, "Delete=false") },
	"Helm": func(o *unstructured.Unstructured) bool {
		return o.GetAnnotations()["helm.sh/resource-policy"] == "keep"
	},
}

// argoOption reports whether the object carries a sync option, read as Argo CD reads them.
func argoOption(o *unstructured.Unstructured, option string) bool {
	for found := range strings.SplitSeq(o.GetAnnotations()["argocd.argoproj.io/sync-options"], ",") {
		if strings.TrimSpace(found) == option {
			return true
		}
	}
	return false
}

func TestUninstalledByTool(t *testing.T) {
	for _, folder := range []string{"config/default", "config/crd"} {
		objects, _ := rendered(t, folder)
		for tool, keeps := range keepers {
			t.Run(folder+"/"+tool, func(t *testing.T) {
				for _, o := range objects {
					if got, want := keeps(o), kept[reference(o)]; got != want {
						t.Errorf("%s keeps %s: %v, want %v", tool, reference(o), got, want)
					}
				}
			})
		}
	}
}

// TestUninstalledByMake proves that marked objects are deleted when a person asks for it, and only then.
func TestUninstalledByMake(t *testing.T) {
	objects, text := rendered(t, "config/default")
	var others []string
	for _, o := range objects {
		if !kept[reference(o)] {
			others = append(others, reference(o))
		}
	}
	for target, want := range map[string]struct {
		commands []string
		deleted  []string
	}{
		"undeploy": {
			commands: []string{"kustomize config/default", "delete --ignore-not-found -f -"},
			deleted:  others,
		},
		"uninstall": {
			commands: []string{
				"delete raytlspolicies --all --all-namespaces --ignore-not-found",
				"delete --ignore-not-found -k config/crd",
			},
		},
	} {
		t.Run(target, func(t *testing.T) {
			commands, deleted := made(t, target, text)
			if diff := cmp.Diff(want.commands, commands); diff != "" {
				t.Errorf("kubectl was called otherwise (-want +got):\n%s", diff)
			}
			if diff := cmp.Diff(want.deleted, deleted); diff != "" {
				t.Errorf("other objects were deleted (-want +got):\n%s", diff)
			}
		})
	}
}

// TestAnotherNamespace proves that kustomize's "namespace:" leaves nothing in the shipped one: what names it in a text, as an admission
// policy's expression does, would go on to judge an account that does not exist.
func TestAnotherNamespace(t *testing.T) {
	overlay := t.TempDir()
	base, err := filepath.Abs(filepath.Join("..", "..", "config", "default"))
	if err != nil {
		t.Fatal(err)
	}
	relative, err := filepath.Rel(overlay, base)
	if err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(filepath.Join(overlay, "kustomization.yaml"), []byte("resources: ["+relative+"]\nnamespace: elsewhere\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	objects, text := built(t, overlay)
	for line := range strings.Lines(string(text)) {
		if strings.Contains(line, "raytls-system") {
			t.Errorf("names the shipped namespace: %s", strings.TrimSpace(line))
		}
	}
	for _, o := range objects {
		if namespace := o.GetNamespace(); namespace != "" && namespace != "elsewhere" {
			t.Errorf("%s is in namespace %s", reference(o), namespace)
		}
	}
}

// made runs a target of the Makefile with a stand-in for kubectl, and returns how that was called, sorted, and what it
// was told to delete by manifest.
func made(t *testing.T, target string, rendered []byte) (commands, deleted []string) {
	t.Helper()
	folder := t.TempDir()
	script := `#!/bin/sh
cd "$(dirname "$0")" && echo "$*" >>commands
case $* in
kustomize*) cat rendered ;;
*'-f -') cat >deleted ;;
esac
`
	for name, content := range map[string]string{"kubectl": script, "rendered": string(rendered), "deleted": ""} {
		if err := os.WriteFile(filepath.Join(folder, name), []byte(content), 0o700); err != nil { //nolint:gosec // a script
			t.Fatal(err)
		}
	}
	command := exec.CommandContext(t.Context(), "make", "-C", filepath.Join("..", ".."), target, "KUBECTL="+filepath.Join(folder, "kubectl"))
	if output, err := command.CombinedOutput(); err != nil {
		t.Fatalf("make %s: %v\n%s", target, err, output)
	}
	text, err := os.ReadFile(filepath.Join(folder, "commands"))
	if err != nil {
		t.Fatal(err)
	}
	manifests, err := os.ReadFile(filepath.Join(folder, "deleted"))
	if err != nil {
		t.Fatal(err)
	}
	objects, err := utils.ReadObjects(bytes.NewReader(manifests))
	if err != nil {
		t.Fatal(err)
	}
	for _, o := range objects {
		deleted = append(deleted, reference(o))
	}
	commands = strings.Split(strings.TrimSpace(string(text)), "\n")
	if target == "undeploy" { // both ends of a pipe begin at once
		slices.Sort(commands)
		slices.Reverse(commands)
	}
	return commands, deleted
}

// rendered are the objects of a folder of the tree.
func rendered(t *testing.T, folder string) ([]*unstructured.Unstructured, []byte) {
	t.Helper()
	return built(t, filepath.Join("..", "..", filepath.FromSlash(folder)))
}

// built are the objects of a folder of manifests, put together as kubectl does it.
func built(t *testing.T, path string) ([]*unstructured.Unstructured, []byte) {
	t.Helper()
	resources, err := krusty.MakeKustomizer(krusty.MakeDefaultOptions()).Run(filesys.MakeFsOnDisk(), path)
	if err != nil {
		t.Fatal(err)
	}
	text, err := resources.AsYaml()
	if err != nil {
		t.Fatal(err)
	}
	objects, err := utils.ReadObjects(bytes.NewReader(text))
	if err != nil {
		t.Fatal(err)
	}
	return objects, text
}

func reference(o *unstructured.Unstructured) string { return o.GetKind() + "/" + o.GetName() }
