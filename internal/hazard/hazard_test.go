package hazard

import (
	"runtime"
	"strings"
	"testing"

	"sigs.k8s.io/yaml"

	"github.com/raytls/raytls/internal/injection"
	"github.com/raytls/raytls/internal/jsonpatch"
)

const (
	headPod   = "spec.headGroupSpec.template.spec."
	workerPod = "spec.workerGroupSpecs[0].template.spec."
)

// spec has a head and a worker group, whose parts the arguments give in YAML's flow style.
func spec(t *testing.T, head, worker, params string) map[string]any {
	t.Helper()
	text := `
headGroupSpec:
  rayStartParams: {port: "6380"}
  template:
    spec: {containers: [{name: ray-head, ` + strings.TrimPrefix(head, ", ") + `}]}
workerGroupSpecs:
- groupName: a
  rayStartParams: {` + params + `}
  template:
    spec: {` + worker + `}
`
	var out map[string]any
	if err := yaml.Unmarshal([]byte(text), &out); err != nil {
		t.Fatalf("%v in\n%s", err, text)
	}
	return out
}

func TestFind(t *testing.T) {
	t.Parallel()
	const ray = "containers: [{name: ray-worker}]"
	init := func(command string) string { return "initContainers: [{name: wait, command: " + command + "}], " + ray }
	sidecar := func(fields string) string { return "containers: [{name: ray-worker}, {name: side, " + fields + "}]" }
	for name, c := range map[string]struct {
		reason               string
		head, worker, params string
		options              Options
		field, message       string // empty for no hazard
		look                 bool   // it breaks nothing
	}{
		"own wait":          {reason: "it would wait for ever", worker: init(`[bash, -c, 'until ray health-check --address "$FQ_RAY_IP:6379"; do sleep 5; done']`), field: workerPod + "initContainers[0].command", message: `add container "wait" to additionalContainers`},
		"word by word":      {reason: "a command is a list as well", worker: init(`[/home/ray/anaconda3/bin/ray], args: [health-check]`), field: workerPod + "initContainers[0].command", message: "`ray health-check`"},
		"arguments alone":   {reason: "the image has the entry point", worker: "initContainers: [{name: wait, args: [ray, status]}], " + ray, field: workerPod + "initContainers[0].args", message: "`ray status`"},
		"own wait equipped": {reason: "the policy gives it certificates", worker: init(`[ray, health-check]`), options: Options{Additional: []string{"wait"}}},
		"equipped, short":   {reason: "with certificates the name still has to be in the head's", worker: init(`[ray, health-check, --address=$RAY_IP:6379]`), options: Options{Additional: []string{"wait"}}, field: workerPod + "initContainers[0].command", message: "headServiceShortName"},
		"other tools":       {reason: "TCP and HTTP are not touched", worker: init(`[sh, -c, "until nc -z $FQ_RAY_IP 6379; do wget -q http://$FQ_RAY_IP:8265; done; echo array status"]`)},
		"python":            {reason: "drivers are code too", worker: sidecar(`command: [python, -c, "import ray; ray.init(address='auto')"]`), field: workerPod + "containers[1].command", message: "connects to Ray"},
		"Ray Client":        {reason: "localhost is this very pod", worker: sidecar(`env: [{name: TARGET, value: "ray://localhost:10001"}]`), field: workerPod + "containers[1].env[TARGET]", message: `container "side" to additionalContainers`},
		"another cluster":   {reason: "it may be another cluster with or without TLS", worker: sidecar(`args: ["--to=ray://other.example.com:10001"]`), field: workerPod + "containers[1].args", message: "If that is this cluster", look: true},
		"RAY_ADDRESS":       {reason: "Ray reads it by itself", worker: sidecar(`env: [{name: RAY_ADDRESS, value: "localhost:6379"}]`), field: workerPod + "containers[1].env[RAY_ADDRESS]", message: "connects to Ray"},
		"job address":       {reason: "jobs are submitted over HTTP", worker: sidecar(`env: [{name: RAY_ADDRESS, value: "http://localhost:8265"}]`)},
		"Redis":             {reason: "it has the same port", worker: sidecar(`command: [redis-cli, -h, redis, -p, "6379"], env: [{name: REDIS, value: "redis://redis:6379"}]`)},
		"gRPC probe":        {reason: "the kubelet speaks plaintext", head: "startupProbe: {grpc: {port: 6380}}", field: headPod + "containers[0].startupProbe.grpc", message: "use exec with `ray health-check`, or httpGet"},
		"gRPC probe, other": {reason: "Serve's gRPC proxy stays plaintext", head: "livenessProbe: {grpc: {port: 9000}}"},
		"probe's tool":      {reason: "it speaks plaintext unless told otherwise", head: `readinessProbe: {exec: {command: [grpc_health_probe, "-addr=:6380"]}}`, field: headPod + "containers[0].readinessProbe.exec", message: "without TLS"},
		"probe's tool, TLS": {reason: "told otherwise", head: `readinessProbe: {exec: {command: [grpc_health_probe, "-addr=:6380", -tls, -tls-ca-cert, /etc/ray/tls/ca.crt]}}`},
		"short address":     {reason: "the certificate holds full names", worker: ray, params: `address: "$RAY_IP:6379"`, field: "spec.workerGroupSpecs[0].rayStartParams.address", message: "podCertificate.headServiceShortName"},
		"short, in braces":  {reason: "shell spells it so", worker: ray, params: `address: "${RAY_IP}:6379"`, field: "spec.workerGroupSpecs[0].rayStartParams.address", message: "$RAY_IP"},
		"service's name":    {reason: "a search path resolves it", worker: ray, params: `address: "train-head-svc:6379"`, field: "spec.workerGroupSpecs[0].rayStartParams.address", message: "train-head-svc"},
		"with namespace":    {reason: "it is not the full name either", worker: ray, params: `address: "train-head-svc.ml:6379"`, field: "spec.workerGroupSpecs[0].rayStartParams.address", message: "podCertificate.headDNSNames"},
		"address literal":   {reason: "a Service's address is in no certificate", worker: ray, params: `address: "10.1.2.3:6379"`, field: "spec.workerGroupSpecs[0].rayStartParams.address", message: "use $FQ_RAY_IP"},
		"short, asked for":  {reason: "the policy has the operator add it", worker: ray, params: `address: "$RAY_IP:6379"`, options: Options{HeadServiceShortName: true}},
		"name, asked for":   {reason: "the policy has the operator add it", worker: ray, params: `address: "ray.example.com:6379"`, options: Options{HeadDNSNames: []string{"ray.example.com"}}},
		"full address":      {reason: "KubeRay's own", worker: ray, params: `address: "$FQ_RAY_IP:6379"`},
		"full name":         {reason: "what KubeRay's variable holds", worker: ray, params: `address: "train-head-svc.ml.svc.cluster.local:6379"`},
		"command's address": {reason: "the generated command can be replaced", worker: `containers: [{name: ray-worker, args: ["ray start --address=train-head-svc:6379 --block"]}]`, field: workerPod + "containers[0].args", message: "train-head-svc"},
		"DNS name of node":  {reason: "peers verify it", worker: ray, params: `node-ip-address: "$(hostname -f)"`, field: "spec.workerGroupSpecs[0].rayStartParams.node-ip-address", message: "$HOSTNAME"},
		"pod's full name":   {reason: "with a subdomain it is in the certificate", worker: "subdomain: pods, " + ray, params: `node-ip-address: "$(POD_NAME).pods.ml.svc.cluster.local"`},
		"address of node":   {reason: "KubeRay's default, spelt out", worker: ray, params: `node-ip-address: "$MY_POD_IP"`},
		"address by tool":   {reason: "it gives addresses", worker: ray, params: `node-ip-address: "$(hostname -i)"`},
		"TLS in a command":  {reason: "what a shell sets comes last", head: `command: [bash, -c, "export RAY_USE_TLS=0; ray start --head"]`, field: headPod + "containers[0].command", message: "RAY_USE_TLS"},
		"TLS unset":         {reason: "the same", head: `command: [env, -u, RAY_TLS_CA_CERT, ray, start]`, field: headPod + "containers[0].command", message: "RAY_TLS_CA_CERT"},
		"TLS read":          {reason: "reading it changes nothing", head: `command: [bash, -c, "printenv RAY_USE_TLS; echo $RAY_TLS_CA_CERT"]`},
		"leftover": {
			reason: "a CA's key lies there without use", look: true,
			worker: `initContainers: [{name: certs, command: [sh, -c, "openssl x509 -req -CA ca.crt"], volumeMounts: [{name: ca, mountPath: /ca}]}], ` + ray + `, volumes: [{name: ca, secret: {secretName: ca-tls}}]`,
			field:  workerPod + "initContainers[0]", message: `Secret "ca-tls"`,
		},
		"gone": {
			reason: "the file would be missing", head: `env: [{name: SSL_CERT_FILE, value: /etc/ca/tls/ca.crt}, {name: RAY_TLS_CA_CERT, value: /etc/ca/tls/ca.crt}]`, worker: ray,
			options: Options{Gone: map[string][]string{headPod + "containers[0]": {"/etc/ca/tls"}}},
			field:   headPod + "containers[0].env[SSL_CERT_FILE]", message: "reads /etc/ca/tls/ca.crt",
		},
		"gone and back": {
			reason: "the operator puts a file of that name there", head: `readinessProbe: {exec: {command: [cat, /etc/ray/tls/tls.crt]}}`, worker: ray, look: true,
			options: Options{Gone: map[string][]string{headPod + "containers[0]": {"/etc/ray/tls"}}},
			field:   headPod + "containers[0].readinessProbe.exec", message: "of the cluster's own authority",
		},
		"beside it": {
			reason: "another folder begins with the same letters", head: `env: [{name: A, value: "/etc/ca/tls-2/x:/opt/etc/ca/tls"}]`, worker: ray,
			options: Options{Gone: map[string][]string{headPod + "containers[0]": {"/etc/ca/tls"}}},
		},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			worker := c.worker
			if worker == "" {
				worker = ray
			}
			found := Find(spec(t, c.head, worker, c.params), c.options)
			switch {
			case c.field == "" && len(found) > 0:
				t.Errorf("%s: found %v", c.reason, found)
			case c.field == "":
			case len(found) != 1:
				t.Errorf("%s: found %d: %v", c.reason, len(found), found)
			case found[0].Field != c.field || !strings.Contains(found[0].Message, c.message) || found[0].Blocking == c.look:
				t.Errorf("%s: got %+v, want %s with %q", c.reason, found[0], c.field, c.message)
			}
		})
	}
}

// TestFind_injected: what the operator adds is no hazard.
func TestFind_injected(t *testing.T) {
	t.Parallel()
	plain := spec(t, "", "containers: [{name: ray-worker}]", "")
	injected, err := injection.Apply(plain, injection.Options{ClusterName: "train"}, injection.All())
	if err != nil {
		t.Fatal(err)
	}
	if found := Find(injected, Options{}); len(found) > 0 {
		t.Errorf("found %v", found)
	}
}

// TestFind_bound: whoever writes a manifest decides how much there would be to list.
func TestFind_bound(t *testing.T) {
	t.Parallel()
	many := spec(t, "", strings.TrimSuffix("initContainers: ["+strings.Repeat("{name: w, command: [ray, status]}, ", 100), ", ")+"], containers: [{name: ray-worker}]", "")
	if found := Find(many, Options{}); len(found) != Max {
		t.Errorf("%d hazards are listed, want %d", len(found), Max)
	}
}

// TestFind_grows expects about twice the memory for twice the text. Everyone who may create RayClusters chooses that text.
func TestFind_grows(t *testing.T) {
	for _, part := range []string{"ray --address x ", "grpcurl :6379 ", "ray ", "export RAY_USE_TLS ", "$(", "$(hostname) ", "${A} ", "ray://h.x ", "openssl ", "--node-ip-address a "} {
		cost := func(n int) float64 {
			s := spec(t, "", "containers: [{name: ray-worker}]", "")
			containers := jsonpatch.List(jsonpatch.Map(jsonpatch.Map(jsonpatch.Map(s["headGroupSpec"])["template"])["spec"])["containers"])
			jsonpatch.Map(containers[0])["command"] = []any{strings.Repeat(part, n)}
			var before, after runtime.MemStats
			runtime.ReadMemStats(&before)
			Find(s, Options{})
			runtime.ReadMemStats(&after)
			return float64(after.TotalAlloc - before.TotalAlloc)
		}
		const n = 2000
		if once, twice := cost(n), cost(2*n); twice > 3*once {
			t.Errorf("%q: %.0f bytes become %.0f", part, once, twice)
		}
	}
}

func FuzzFind(f *testing.F) {
	f.Add(`{"headGroupSpec":{"rayStartParams":{"port":1},"template":{"spec":{"containers":[null,{"command":["$","${","$(hostname"]}]}}}}`)
	f.Add(`{"workerGroupSpecs":[{"rayStartParams":{"address":"[::1","node-ip-address":"$("},"template":{"spec":{"containers":[{"env":[{"name":"RAY_ADDRESS","value":"ray://["}]}]}}}]}`)
	f.Fuzz(func(t *testing.T, text string) {
		var s map[string]any
		if yaml.Unmarshal([]byte(text), &s) != nil {
			return
		}
		if found := Find(s, Options{Gone: map[string][]string{headPod + "containers[1]": {"/etc/ca"}}}); len(found) > Max {
			t.Errorf("%d hazards", len(found))
		}
	})
}
