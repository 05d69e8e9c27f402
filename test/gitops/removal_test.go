package gitops_test

import (
	"bytes"
	"os"
	"os/exec"
	"path/filepath"
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
	for _, pattern := range []string{"dist/install.yaml", "charts/raytls/files/crds/*.yaml"} {
		var objects []*unstructured.Unstructured
		files, _ := filepath.Glob(filepath.Join("..", "..", filepath.FromSlash(pattern)))
		for _, file := range files {
			found, err := readObjects(file)
			if err != nil {
				t.Fatal(err)
			}
			objects = append(objects, found...)
		}
		if len(objects) == 0 {
			t.Fatalf("%s holds nothing", pattern)
		}
		for tool, keeps := range keepers {
			t.Run(pattern+"/"+tool, func(t *testing.T) {
				for _, o := range objects {
					if got, want := keeps(o), kept[reference(o)]; got != want {
						t.Errorf("%s keeps %s: %v, want %v", tool, reference(o), got, want)
					}
				}
			})
		}
	}
}

// TestUninstalledByMake proves that each target deletes its own half: Helm's release, or the policies and the CRDs. TestUninstalledByTool
// proves what Helm keeps.
func TestUninstalledByMake(t *testing.T) {
	for target, want := range map[string][]string{
		"undeploy": {"helm uninstall raytls --namespace=raytls-system --ignore-not-found"},
		"uninstall": {
			"kubectl delete raytlspolicies --all --all-namespaces --ignore-not-found",
			"kubectl delete --ignore-not-found -f charts/raytls/files/crds",
		},
	} {
		t.Run(target, func(t *testing.T) {
			if diff := cmp.Diff(want, made(t, target)); diff != "" {
				t.Errorf("other commands were called (-want +got):\n%s", diff)
			}
		})
	}
}

// TestAnotherNamespace proves that kustomize's "namespace:" changes every place that names the shipped namespace. kustomize changes no
// expression of an admission policy, so one that named it would judge an account that does not exist.
func TestAnotherNamespace(t *testing.T) {
	text, err := os.ReadFile(filepath.Join("..", "..", "dist", "install.yaml"))
	if err != nil {
		t.Fatal(err)
	}
	disk := filesys.MakeFsInMemory()
	for name, content := range map[string]string{"install.yaml": string(text), "kustomization.yaml": "resources: [install.yaml]\nnamespace: elsewhere\n"} {
		if err := disk.WriteFile(name, []byte(content)); err != nil {
			t.Fatal(err)
		}
	}
	resources, err := krusty.MakeKustomizer(krusty.MakeDefaultOptions()).Run(disk, ".")
	if err != nil {
		t.Fatal(err)
	}
	if text, err = resources.AsYaml(); err != nil {
		t.Fatal(err)
	}
	for line := range strings.Lines(string(text)) {
		if strings.Contains(line, "raytls-system") {
			t.Errorf("names the shipped namespace: %s", strings.TrimSpace(line))
		}
	}
	objects, err := utils.ReadObjects(bytes.NewReader(text))
	if err != nil {
		t.Fatal(err)
	}
	for _, o := range objects {
		if namespace := o.GetNamespace(); namespace != "" && namespace != "elsewhere" {
			t.Errorf("%s is in namespace %s", reference(o), namespace)
		}
	}
}

// made runs a target of the Makefile with stand-ins for helm and kubectl, and returns how they were called.
func made(t *testing.T, target string) []string {
	t.Helper()
	folder := t.TempDir()
	arguments := []string{"-C", filepath.Join("..", ".."), target}
	for _, name := range []string{"helm", "kubectl"} {
		file := filepath.Join(folder, name)
		if err := os.WriteFile(file, []byte("#!/bin/sh\necho \"${0##*/} $*\" >>"+folder+"/commands\n"), 0o700); err != nil { //nolint:gosec // a script
			t.Fatal(err)
		}
		arguments = append(arguments, strings.ToUpper(name)+"="+file)
	}
	if output, err := exec.CommandContext(t.Context(), "make", arguments...).CombinedOutput(); err != nil {
		t.Fatalf("make %s: %v\n%s", target, err, output)
	}
	text, err := os.ReadFile(filepath.Join(folder, "commands"))
	if err != nil {
		t.Fatal(err)
	}
	return strings.Split(strings.TrimSpace(string(text)), "\n")
}

func reference(o *unstructured.Unstructured) string { return o.GetKind() + "/" + o.GetName() }
