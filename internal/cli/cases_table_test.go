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
		"ca-used-by-redis-too": {
			reason: "the mount of a CA that Redis needs is not taken away",
			inject: outcome{fails: []string{"containers[0].env[RAY_USE_TLS]", "containers[0].volumeMounts[/etc/ray/tls]", "initContainers[0]", "volumes[ca-tls]"}},
			migrate: outcome{fails: []string{
				"containers[0].env[RAY_REDIS_CA_CERT]: reads /etc/ca/tls/ca.crt", "containers[0].env[SSL_CERT_FILE]: reads /etc/ca/tls/ca.crt",
				"containers[0].readinessProbe.exec: reads /etc/ray/tls/tls.crt", "give it a volume of its own",
			}},
		},
		"other-ways-to-write-names": {
			reason:  "clients use these names",
			inject:  outcome{fails: []string{"RAY_USE_TLS"}},
			migrate: outcome{out: []string{"headDNSNames:\n    - client.example.com\n    - ray.example.com"}, notes: []string{"taken out is this", "init container ray-head-tls; volumes ca-tls, gen-tls-script, ray-tls"}},
		},
		"tls-variables-switched-off": {
			reason:  "there is no TLS to leave the cluster to",
			inject:  outcome{fails: []string{`belongs to TLS that is off, because RAY_USE_TLS is "0": remove it, as all variables`, "env[RAY_TLS_CA_CERT]"}},
			migrate: outcome{notes: []string{"its TLS is off", "No policy is added", "containers[0]: the variables of Ray's TLS"}, notOut: []string{"RAY_USE_TLS", "RAY_TLS", "kind: RayTLSPolicy"}},
		},
		"codeflare-create-cert": {
			reason: "what belongs together is named together, the CA's key in the Ray container too",
			inject: outcome{fails: []string{"env[RAY_USE_TLS]", "env[RAY_TLS_CA_CERT]", "initContainers[0]", "volumeMounts[/home/ray/workspace/tls]", "containers[0].volumeMounts[/home/ray/workspace/ca]", "may hold the CA's key", "volumes[ca-vol]", "volumes[server-cert]"}},
			migrate: outcome{fails: []string{
				"initContainers[0]: makes certificates by itself with openssl, which cannot be migrated", "volumes[ca-vol]", "volumes[server-cert]", "containers[0].volumeMounts[/home/ray/workspace/ca]",
				"gives the head the names rayclient-interactive-ds.apps.example.com, interactive-head-svc.ds.svc", "podCertificate.headDNSNames", "signs with Secret ca-secret-interactive",
			}},
		},
		"cert-manager-by-init-container": {
			reason:  "the remedy leads somewhere",
			inject:  outcome{fails: []string{"env[RAY_USE_TLS]", "initContainers[0]", "volumes[gen-tls-script]"}},
			migrate: outcome{fails: []string{"initContainers[0]: makes certificates in another way than the guide's", "needs no certificateAuthority.secretRef", "rights of the service account", "env[RAY_TLS_CA_CERT]", "volumes[cert-tls]"}},
		},
		"certificate-from-a-secret": {
			reason:  "all places are named in one go",
			inject:  outcome{fails: []string{"headGroupSpec.template.spec.containers[0].env[RAY_TLS_CA_CERT]", "headGroupSpec.template.spec.volumes[ssl]", "workerGroupSpecs[0].template.spec.containers[0].volumeMounts[/eks/ssl]", "workerGroupSpecs[0].template.spec.volumes[ssl]"}},
			migrate: outcome{fails: []string{"headGroupSpec.template.spec.containers[0].env[RAY_TLS_CA_CERT]", "workerGroupSpecs[0].template.spec.containers[0].volumeMounts[/eks/ssl]", "workerGroupSpecs[0].template.spec.volumes[ssl]"}},
		},
		"live-export": {
			reason:  "what the API server wrote makes an apply fail or lie",
			inject:  outcome{fails: []string{"RAY_USE_TLS"}},
			migrate: outcome{notes: []string{"read from an API server", "resourceVersion", "status"}, out: []string{"kind: RayTLSPolicy", "kind: List"}, notOut: []string{"54838478", "managedFields", "last-applied", "availableWorkerReplicas", "creationTimestamp", "RAY_USE_TLS"}},
		},
		"own-wait-for-gcs": {
			reason:  "the worker would wait for ever",
			inject:  outcome{injected: true, notes: []string{"RayCluster own-wait (document 1 of standard input): WARNING: spec.workerGroupSpecs[0].template.spec.initContainers[0].command runs `ray health-check`", `add container "wait-gcs-ready" to additionalContainers`}},
			migrate: outcome{same: true, notes: []string{noTLS, "initContainers[0].command runs `ray health-check`"}},
		},
		"grpc-probe": {
			reason:  "the kubelet would kill the head again and again",
			inject:  outcome{injected: true, notes: []string{"containers[0].startupProbe.grpc probes port 6379 of Ray in plaintext", "containers[0].livenessProbe.grpc", "use exec with `ray health-check`, or httpGet"}},
			migrate: outcome{same: true, notes: []string{noTLS, "livenessProbe.grpc probes port 6379"}},
		},
		"eighty-worker-groups": {
			reason:  "kubectl could not keep its copy",
			inject:  outcome{injected: true, notes: []string{"RayCluster wide (document 1 of standard input): has ", "holds at most 262144", "use `kubectl apply --server-side`"}},
			migrate: outcome{same: true, notes: []string{noTLS}, notNotes: []string{"server-side"}},
		},
		"policy-that-the-server-refuses": {
			reason:  "the cluster would be covered by nothing",
			inject:  outcome{fails: []string{"RayTLSPolicy ml/default (document 1 of standard input): the API server refuses it", "exactly one of selector and targetRef", "headDNSNames[0]: 203.0.113.7 is an address"}},
			migrate: outcome{same: true, notes: []string{noTLS}},
		},
	}
}
