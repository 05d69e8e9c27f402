package chart_test

import (
	"os"
	"os/exec"
	"path/filepath"
	"testing"
)

// template stands for helm: it renders what would be installed. Where that is, the test proves elsewhere.
const template = `#!/bin/sh
shift 2
exec "$HELM4" template "$@"
`

// TestDeployInstallsTheImage runs make deploy, which takes an image's name apart into the values of the chart.
func TestDeployInstallsTheImage(t *testing.T) {
	if os.Getenv("HELM4") == "" {
		t.Skip("HELM4 names no helm: hack/chart runs these tests")
	}
	helm := filepath.Join(t.TempDir(), "helm")
	if err := os.WriteFile(helm, []byte(template), 0o700); err != nil { //nolint:gosec // a script
		t.Fatal(err)
	}
	const digest = "sha256:0123456789abcdef0123456789abcdef0123456789abcdef0123456789abcdef"
	for _, test := range []struct{ reason, image, want string }{
		{"it has no registry", "controller:latest", "controller:latest"},
		{"the chart's own tag would be another image", "example.com/raytls", "example.com/raytls:latest"},
		{"the registry has no port", "example.com/raytls:ci", "example.com/raytls:ci"},
		{"a number is a tag too", "raytls/raytls:010", "raytls/raytls:010"},
		{"the colon is the port's", "localhost:5000/raytls", "localhost:5000/raytls:latest"},
		{"there are two colons", "localhost:5000/a/b:v1.2", "localhost:5000/a/b:v1.2"},
		{"the digest has a colon too", "localhost:5000/a/b@" + digest, "localhost:5000/a/b@" + digest},
		{"the digest says more than the tag", "example.com/raytls:ci@" + digest, "example.com/raytls@" + digest},
	} {
		t.Run(test.image, func(t *testing.T) {
			command := exec.CommandContext(t.Context(), "make", "-s", "-C", "../..", "deploy", "HELM="+helm, "IMG="+test.image,
				"VALUES=--set=controller.replicas=3 --set=webhook.replicas=3")
			out, err := command.Output()
			if err != nil {
				t.Fatalf("make deploy: %v\n%s", err, out)
			}
			for _, deployment := range deployments(t, objects(t, out)) {
				if got := deployment.Spec.Template.Spec.Containers[0].Image; got != test.want {
					t.Errorf("%s: %s runs %s instead of %s", test.reason, deployment.Name, got, test.want)
				}
				if replicas := *deployment.Spec.Replicas; replicas != 3 {
					t.Errorf("VALUES ask for 3 replicas of %s, and there are %d", deployment.Name, replicas)
				}
			}
		})
	}
}
