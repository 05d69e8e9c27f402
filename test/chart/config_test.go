package chart_test

import (
	"io/fs"
	"maps"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"sigs.k8s.io/kustomize/api/krusty"
	"sigs.k8s.io/kustomize/api/types"
	"sigs.k8s.io/kustomize/kyaml/filesys"
)

// TestChartIsConfig compares the chart with config/, object for object. It goes when config/ does.
func TestChartIsConfig(t *testing.T) {
	for name, test := range map[string]struct {
		kustomization string
		args          []string
	}{
		"default":         {"resources: [config/default]", nil},
		"cert-manager":    {"resources: [config/default]\ncomponents: [config/components/cert-manager]", []string{"--set=webhook.certManager.enabled=true"}},
		"prometheus":      {"resources: [config/default]\ncomponents: [config/components/prometheus]", []string{"--set=metrics.prometheusRule.enabled=true"}},
		"require-tls":     {"resources: [config/default]\ncomponents: [config/components/require-tls]", []string{"--set=requireTLS.enabled=true"}},
		"restrict-egress": {"resources: [config/default]\ncomponents: [config/components/restrict-egress]", []string{"--set=networkPolicy.egress.enabled=true"}},
		"testing":         {"resources: [config/default]\ncomponents: [config/components/testing]", []string{"--set=testing.minutesPerDay=1"}},
		"another namespace": {
			"resources: [config/default]\nnamespace: ray-security", []string{"--namespace=ray-security"},
		},
	} {
		t.Run(name, func(t *testing.T) {
			want := compared(t, kustomized(t, test.kustomization))
			got := compared(t, render(t, append([]string{"--set=namespace.create=true"}, test.args...)...))
			if diff := cmp.Diff(slices.Sorted(maps.Keys(want)), slices.Sorted(maps.Keys(got))); diff != "" {
				t.Errorf("objects (-config +chart):\n%s", diff)
			}
			for key, object := range want {
				if diff := cmp.Diff(object, got[key]); diff != "" {
					t.Errorf("%s (-config +chart):\n%s", key, diff)
				}
			}
		})
	}
}

// kustomized builds a kustomization that lies beside config/.
func kustomized(t *testing.T, text string) []*unstructured.Unstructured {
	t.Helper()
	disk := filesys.MakeFsOnDisk()
	root := t.TempDir()
	if err := copyTree(disk, "../../config", root+"/config"); err != nil {
		t.Fatal(err)
	}
	if err := disk.WriteFile(root+"/kustomization.yaml", []byte(text)); err != nil {
		t.Fatal(err)
	}
	options := krusty.MakeDefaultOptions()
	options.PluginConfig = types.DisabledPluginConfig()
	built, err := krusty.MakeKustomizer(options).Run(disk, root)
	if err != nil {
		t.Fatal(err)
	}
	out, err := built.AsYaml()
	if err != nil {
		t.Fatal(err)
	}
	return objects(t, out)
}

func copyTree(disk filesys.FileSystem, from, to string) error {
	return disk.Walk(from, func(path string, info fs.FileInfo, err error) error {
		if err != nil {
			return err
		}
		target := to + strings.TrimPrefix(path, from)
		if info.IsDir() {
			return disk.MkdirAll(target)
		}
		text, err := disk.ReadFile(path)
		if err != nil {
			return err
		}
		return disk.WriteFile(target, text)
	})
}

// compared returns the objects by kind, namespace and name, without what may differ: the image and Helm's labels.
func compared(t *testing.T, all []*unstructured.Unstructured) map[string]map[string]any {
	t.Helper()
	for _, object := range all {
		labels := object.GetLabels()
		for _, key := range []string{"app.kubernetes.io/name", "app.kubernetes.io/version", "app.kubernetes.io/managed-by", "helm.sh/chart"} {
			delete(labels, key)
		}
		object.SetLabels(labels)
		if len(labels) == 0 {
			unstructured.RemoveNestedField(object.Object, "metadata", "labels")
		}
		if object.GetKind() == "Deployment" {
			containers, _, err := unstructured.NestedSlice(object.Object, "spec", "template", "spec", "containers")
			if err != nil || len(containers) != 1 {
				t.Fatalf("%d containers in %s: %v", len(containers), object.GetName(), err)
			}
			delete(containers[0].(map[string]any), "image")
			if err := unstructured.SetNestedSlice(object.Object, containers, "spec", "template", "spec", "containers"); err != nil {
				t.Fatal(err)
			}
		}
		folded(object.Object)
	}
	return byName(t, all)
}

// folded returns the value with each run of white space as one space. Where a folded expression keeps its lines, kustomize writes one
// line break more than it read.
func folded(value any) any {
	switch value := value.(type) {
	case map[string]any:
		for key := range value {
			value[key] = folded(value[key])
		}
	case []any:
		for i := range value {
			value[i] = folded(value[i])
		}
	case string:
		return strings.Join(strings.Fields(value), " ")
	}
	return value
}
