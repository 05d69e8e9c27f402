// Package chart_test renders the Helm chart and judges the result. HELM names the helm to render with.
package chart_test

import (
	"bytes"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"sigs.k8s.io/yaml"
)

const (
	chart     = "../../charts/raytls"
	namespace = "raytls-system"
)

// render returns the objects that helm makes of the chart with these further arguments, in the operator's usual namespace.
func render(t *testing.T, args ...string) []*unstructured.Unstructured {
	t.Helper()
	helm := os.Getenv("HELM")
	if helm == "" {
		t.Skip("HELM names no helm: hack/chart runs these tests")
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

// examples returns the files of values that the chart is linted with too.
func examples(t *testing.T) []string {
	t.Helper()
	files, err := filepath.Glob(chart + "/ci/*-values.yaml")
	if err != nil || len(files) == 0 {
		t.Fatalf("the chart has no examples of values: %v", err)
	}
	return files
}
