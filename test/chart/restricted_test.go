package chart_test

import (
	"path/filepath"
	"slices"
	"testing"

	"github.com/google/go-cmp/cmp"
	"k8s.io/pod-security-admission/api"
	"k8s.io/pod-security-admission/policy"
)

// TestPodsAreRestricted evaluates the pods as Kubernetes does in a namespace that enforces the standard "restricted".
func TestPodsAreRestricted(t *testing.T) {
	cases := map[string][]string{"defaults": nil}
	for _, openshift := range []string{"true", "false"} {
		for _, certManager := range []string{"true", "false"} {
			name := "openshift=" + openshift + ",certManager=" + certManager
			cases[name] = []string{"--set=openshift=" + openshift, "--set=webhook.certManager.enabled=" + certManager}
			cases[name+",contexts"] = append(slices.Clone(cases[name]), "--set=podSecurityContext.runAsUser=null",
				"--set=podSecurityContext.fsGroup=1000", "--set=containerSecurityContext.readOnlyRootFilesystem=false",
				"--set=podSecurityContext.seLinuxOptions.level=s0:c1")
		}
	}
	for _, file := range examples(t) {
		cases[filepath.Base(file)] = []string{"--values=" + file, "--set=controller.hostNetwork=false", "--set=webhook.hostNetwork=false"}
	}
	for name, args := range cases {
		t.Run(name, func(t *testing.T) {
			for pods, forbidden := range evaluated(t, args...) {
				if len(forbidden) > 0 {
					t.Errorf("%s: %v", pods, forbidden)
				}
			}
		})
	}
}

// TestHostNetworkIsAllThatIsNotRestricted shows that the evaluation finds violations, and which one this value adds.
func TestHostNetworkIsAllThatIsNotRestricted(t *testing.T) {
	want := map[string][]string{
		"raytls-controller": {"host namespaces", "hostPort"},
		"raytls-webhook":    {"host namespaces", "hostPort"},
	}
	if diff := cmp.Diff(want, evaluated(t, "--set=controller.hostNetwork=true", "--set=webhook.hostNetwork=true")); diff != "" {
		t.Errorf("reasons to refuse pods (-want +got):\n%s", diff)
	}
}

// evaluated returns for each rendered Deployment why the standard forbids its pods.
func evaluated(t *testing.T, args ...string) map[string][]string {
	t.Helper()
	evaluator, err := policy.NewEvaluator(policy.DefaultChecks(), nil)
	if err != nil {
		t.Fatal(err)
	}
	restricted := api.LevelVersion{Level: api.LevelRestricted, Version: api.LatestVersion()}
	found := map[string][]string{}
	for _, deployment := range deployments(t, render(t, args...)) {
		pod := deployment.Spec.Template
		// The API server fills in what a pod on the host network serves.
		if pod.Spec.HostNetwork {
			for i := range pod.Spec.Containers {
				for j := range pod.Spec.Containers[i].Ports {
					port := &pod.Spec.Containers[i].Ports[j]
					port.HostPort = port.ContainerPort
				}
			}
		}
		var reasons []string
		for _, result := range evaluator.EvaluatePod(restricted, &pod.ObjectMeta, &pod.Spec) {
			if !result.Allowed {
				reasons = append(reasons, result.ForbiddenReason)
			}
		}
		slices.Sort(reasons)
		found[deployment.Name] = reasons
	}
	return found
}
