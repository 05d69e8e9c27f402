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
		"rayclusterfleet": {
			reason:  "a template has no cluster's name, and silence would pass for encryption",
			inject:  outcome{same: true, notes: []string{"RayClusterFleet coder (document 1 of standard input): printed unchanged; spec.template.spec is a template", "by its selector", "a targetRef cannot name a RayClusterFleet"}, notNotes: []string{"Service"}},
			migrate: outcome{same: true, notes: []string{"RayClusterFleet coder", "spec.template.spec is a template of RayClusters without TLS"}},
		},
		"fleet-with-tls": {
			reason:  "any kind may have a template, under any path",
			inject:  outcome{same: true, notes: []string{"spec.flavours[0].cluster is a template", "a targetRef cannot name a ClusterPool"}},
			migrate: outcome{fails: []string{"ClusterPool pool (document 1 of standard input): spec.flavours[0].cluster: sets up TLS in a template", "by a policy with a selector"}},
		},
		"appwrapper": {
			reason:  "a whole RayCluster has its name, and is created in its wrapper's namespace",
			inject:  outcome{notes: []string{"RayCluster ml/inner (spec.components[0].template of AppWrapper ml/wrapped (document 1 of standard input)): injected with the parameters of RayTLSPolicy default"}, out: []string{"secretName: raytls-inner", "# the head", "path: template.spec.headGroupSpec.template"}},
			migrate: outcome{same: true, notes: []string{"RayCluster ml/inner", noTLS}},
		},
		"appwrapper-with-tls": {
			reason:  "what is inside is migrated too, and the policy is beside its wrapper",
			inject:  outcome{fails: []string{"RayCluster ml/inner (spec.components[0].template of AppWrapper ml/wrapped", "RAY_USE_TLS"}},
			migrate: outcome{notes: []string{"AppWrapper ml/wrapped creates it", "RayTLSPolicy inner"}, out: []string{"kind: RayTLSPolicy", "kind: RayCluster\n    name: inner", "namespace: ml"}, notOut: []string{"RAY_USE_TLS", "ray-head-tls"}},
		},
		"text-with-a-cluster": {
			reason:  "text is not edited, which is said",
			inject:  outcome{same: true, notes: []string{"ConfigMap templates (document 1 of standard input): printed unchanged; data.cluster.yaml is text with a RayCluster in it"}},
			migrate: outcome{same: true, notes: []string{"data.cluster.yaml is text with a RayCluster in it"}},
		},
	}
}
