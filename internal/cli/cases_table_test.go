package cli

// wanted is what is right for a manifest.
type wanted struct {
	reason          string
	inject, migrate outcome
}

const noTLS = "has no TLS of the guide's"

// cases has what is right for each file in testdata/cases, by its name.
func cases() map[string]wanted {
	plain := outcome{same: true, notes: []string{noTLS}}
	return map[string]wanted{
		"merge-keys": {
			reason:  "a merged group is a group",
			inject:  outcome{injected: true, out: []string{"groupName: cpu", "groupName: gpu", "maxReplicas: 2", "maxReplicas: 4"}},
			migrate: plain,
		},
		"envsubst-placeholders": {
			reason:  "text that becomes a number when it is filled in stays text",
			inject:  outcome{injected: true, out: []string{`rayVersion: "${RAY_VERSION}"`, `value: "${RUN_ID}"`, `cpu: "${HEAD_CPU}"`}},
			migrate: plain,
		},
		"flux-postbuild": {
			reason:  "the policy of the input is taken",
			inject:  outcome{injected: true, notes: []string{"the parameters of RayTLSPolicy default"}},
			migrate: plain,
		},
		"mesh-proxy-is-first-container": {
			reason:  "a mesh changes pods and no templates",
			inject:  outcome{injected: true, out: []string{"linkerd.io/inject: enabled"}},
			migrate: plain,
		},
		"helm-chart-output": {
			reason:  "what a chart leaves empty stays so, and nobody's fields are lost",
			inject:  outcome{injected: true, out: []string{"helm.sh/chart: ray-cluster-1.4.2", "# Source: ray-cluster/templates/empty.yaml", "serviceType: ClusterIP"}},
			migrate: outcome{same: true, notes: []string{noTLS}},
		},
		"vllm-stack": {
			reason:  "commands, probes and init containers stay as they are, behind the operator's",
			inject:  outcome{injected: true, out: []string{"initContainers:\n        - command:", "name: raytls-init", "startupProbe: {exec:", "mountPath: /etc/ray/vllm.yaml"}, notNotes: []string{"conflict"}},
			migrate: plain,
		},
		"helm-template-not-rendered": {
			reason:  "a template is rendered first",
			inject:  outcome{fails: []string{"line 4: is a Helm template", "`helm template . | raytls inject -f -`"}},
			migrate: outcome{fails: []string{"line 4: is a Helm template"}},
		},
		"multikueue": {
			reason:  "the cluster runs elsewhere, where its pods would wait for keys",
			inject:  outcome{same: true, notes: []string{"printed unchanged; spec.managedBy hands the RayCluster to kueue.x-k8s.io/multikueue"}},
			migrate: plain,
		},
	}
}
