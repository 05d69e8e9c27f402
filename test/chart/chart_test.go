// Package chart_test renders the Helm chart and judges the result. HELM3 and HELM4 name the helm of each major version.
package chart_test

import (
	"bytes"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	appsv1 "k8s.io/api/apps/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/runtime"
	"sigs.k8s.io/yaml"
)

const (
	chart     = "../../charts/raytls"
	namespace = "raytls-system"
)

// render returns the objects that Helm 4 makes of the chart with these further arguments, in the operator's usual namespace.
func render(t *testing.T, args ...string) []*unstructured.Unstructured {
	t.Helper()
	return renderWith(t, "HELM4", args...)
}

// renderWith renders with the helm that this variable of the environment names.
func renderWith(t *testing.T, variable string, args ...string) []*unstructured.Unstructured {
	t.Helper()
	helm := os.Getenv(variable)
	if helm == "" {
		t.Skip(variable + " names no helm: hack/chart runs these tests")
	}
	args = append([]string{"template", "raytls", chart, "--namespace=" + namespace, "--kube-version=1.37.0"}, args...)
	command := exec.CommandContext(t.Context(), helm, args...)
	var stderr bytes.Buffer
	command.Stderr = &stderr
	out, err := command.Output()
	if err != nil {
		t.Fatalf("helm %s: %v\n%s", strings.Join(args, " "), err, stderr.String())
	}
	return objects(t, out)
}

func objects(t *testing.T, text []byte) []*unstructured.Unstructured {
	t.Helper()
	var all []*unstructured.Unstructured
	for document := range bytes.SplitSeq(text, []byte("\n---\n")) {
		object := &unstructured.Unstructured{}
		if err := yaml.Unmarshal(document, &object.Object); err != nil {
			t.Fatalf("%v in\n%s", err, document)
		}
		if object.Object != nil {
			all = append(all, object)
		}
	}
	return all
}

// deployments returns the Deployments among the objects, and fails the test if there is none.
func deployments(t *testing.T, all []*unstructured.Unstructured) []appsv1.Deployment {
	t.Helper()
	var found []appsv1.Deployment
	for _, object := range all {
		if object.GetKind() != "Deployment" {
			continue
		}
		var deployment appsv1.Deployment
		if err := runtime.DefaultUnstructuredConverter.FromUnstructuredWithValidation(object.Object, &deployment, true); err != nil {
			t.Fatalf("%s: %v", object.GetName(), err)
		}
		found = append(found, deployment)
	}
	if len(found) == 0 {
		t.Fatal("no Deployment was rendered")
	}
	return found
}

// examples returns the files of values that the chart is linted with too.
func examples(t *testing.T) []string {
	t.Helper()
	files, err := filepath.Glob(chart + "/ci/*-values.yaml")
	if err != nil || len(files) == 0 {
		t.Fatalf("the chart has no examples of values: %v", err)
	}
	return files
}

// TestHelmsAgree compares what Helm 3 and Helm 4 make of the chart. They sort objects of other projects differently.
func TestHelmsAgree(t *testing.T) {
	for _, file := range examples(t) {
		t.Run(filepath.Base(file), func(t *testing.T) {
			if diff := cmp.Diff(byName(t, renderWith(t, "HELM3", "--values="+file)), byName(t, renderWith(t, "HELM4", "--values="+file))); diff != "" {
				t.Errorf("objects (-Helm 3 +Helm 4):\n%s", diff)
			}
		})
	}
}

// TestAnotherNamespace proves that a release in another namespace never names the usual one. A guard whose expression did so would judge
// an account that does not exist.
func TestAnotherNamespace(t *testing.T) {
	for _, file := range examples(t) {
		for _, object := range render(t, "--values="+file, "--set=namespace.create=true", "--namespace=elsewhere") {
			text, err := yaml.Marshal(object.Object)
			if err != nil {
				t.Fatal(err)
			}
			if bytes.Contains(text, []byte(namespace)) {
				t.Errorf("%s names %s:\n%s", filepath.Base(file), namespace, text)
			}
		}
	}
}

// byName returns the objects by kind, namespace and name.
func byName(t *testing.T, all []*unstructured.Unstructured) map[string]map[string]any {
	t.Helper()
	found := map[string]map[string]any{}
	for _, object := range all {
		key := strings.Join([]string{object.GetAPIVersion(), object.GetKind(), object.GetNamespace(), object.GetName()}, "/")
		if found[key] != nil {
			t.Errorf("two of %s", key)
		}
		found[key] = object.Object
	}
	return found
}
