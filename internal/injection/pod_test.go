package injection

import (
	"encoding/json"
	"slices"
	"testing"

	"github.com/google/go-cmp/cmp"
	corev1 "k8s.io/api/core/v1"

	"github.com/raytls/raytls/internal/jsonpatch"
)

// podOf is a pod as KubeRay makes it from an injected template.
func podOf(t *testing.T, kind Kind, p Parameters) *corev1.PodSpec {
	t.Helper()
	group := map[string]any{"template": map[string]any{"spec": map[string]any{"securityContext": map[string]any{"runAsUser": int64(1000)}, "containers": []any{
		map[string]any{"name": "ray", "image": "ray:1", "env": []any{map[string]any{"name": "A", "value": "a"}}},
		map[string]any{"name": "notebook", "image": "notebook:1"},
	}}}}
	spec := map[string]any{"headGroupSpec": group, "workerGroupSpecs": []any{jsonpatch.CopyMap(group)}}
	spec["workerGroupSpecs"].([]any)[0].(map[string]any)["groupName"] = "a"
	injected, err := Apply(spec, Options{ClusterName: "c", Parameters: p}, All())
	if err != nil {
		t.Fatal(err)
	}
	at := 0
	if kind == Worker {
		at = 1
	}
	text, err := json.Marshal(templatesOf(injected)[at].pod)
	if err != nil {
		t.Fatal(err)
	}
	pod := &corev1.PodSpec{}
	if err := json.Unmarshal(text, pod); err != nil {
		t.Fatal(err)
	}
	ray := &pod.Containers[0]
	pod.InitContainers = append(pod.InitContainers, corev1.Container{Name: "wait-gcs-ready", Image: ray.Image, Env: slices.Clone(ray.Env), VolumeMounts: slices.Clone(ray.VolumeMounts)})
	return pod
}

func TestInPod(t *testing.T) {
	ray := func(pod *corev1.PodSpec) *corev1.Container {
		return &pod.Containers[slices.IndexFunc(pod.Containers, func(c corev1.Container) bool { return c.Name == "ray" })]
	}
	proxyFirst := func(pod *corev1.PodSpec) {
		pod.Containers = append([]corev1.Container{{Name: "proxy", Image: "proxy:1"}}, pod.Containers...)
	}
	env := func(name, value string) func(*corev1.PodSpec) {
		return func(pod *corev1.PodSpec) {
			ray(pod).Env = append(ray(pod).Env, corev1.EnvVar{Name: name, Value: value})
		}
	}
	without := func(name string) func(*corev1.PodSpec) {
		return func(pod *corev1.PodSpec) {
			ray(pod).Env = slices.DeleteFunc(ray(pod).Env, func(e corev1.EnvVar) bool { return e.Name == name })
		}
	}
	unmounted := func(pod *corev1.PodSpec) { ray(pod).VolumeMounts = nil }
	init := func(change func(*corev1.Container)) func(*corev1.PodSpec) {
		return func(pod *corev1.PodSpec) { change(&pod.InitContainers[0]) }
	}
	tls := PodState{TLS: true, Pieces: true}
	plain := func(differs string) PodState { return PodState{Pieces: true, Differs: differs} }
	for name, tc := range map[string]struct {
		reason     string
		parameters Parameters
		edits      []func(*corev1.PodSpec)
		want       PodState
	}{
		"as rendered":  {"the template is what runs", Parameters{}, nil, tls},
		"own image":    {"the init image is the administrator's matter", Parameters{Image: "init:1"}, nil, PodState{TLS: true, Pieces: true, InitImage: "init:1"}},
		"scripts path": {"the image may hold the scripts", Parameters{ScriptsPath: "/opt/x/"}, nil, tls},
		"proxy first":  {"meshes put a container before Ray's", Parameters{}, []func(*corev1.PodSpec){proxyFirst}, tls},
		"proxy's own":  {"what a mesh puts into its own container says nothing of Ray", Parameters{}, []func(*corev1.PodSpec){proxyFirst, func(pod *corev1.PodSpec) { pod.Containers[0].Env = rayVariables() }, without(EnvUseTLS)}, plain("container ray has no variable RAY_USE_TLS")},
		"init first": {"a mesh's init container may run before ours", Parameters{}, []func(*corev1.PodSpec){func(pod *corev1.PodSpec) {
			pod.InitContainers = append([]corev1.Container{{Name: "istio-init"}}, pod.InitContainers...)
		}}, tls},
		"mirrored":       {"a registry's mirror is the same for both", Parameters{}, []func(*corev1.PodSpec){func(pod *corev1.PodSpec) { ray(pod).Image = "mirror/ray:1" }, init(func(c *corev1.Container) { c.Image = "mirror/ray:1" })}, tls},
		"renamed":        {"templates rename containers under running pods", Parameters{}, []func(*corev1.PodSpec){proxyFirst, func(pod *corev1.PodSpec) { ray(pod).Name = "before" }}, tls},
		"more variables": {"other variables are nobody's matter", Parameters{}, []func(*corev1.PodSpec){env("RAY_X", "1")}, tls},
		"said again":     {"the same value twice is that value", Parameters{}, []func(*corev1.PodSpec){env(EnvUseTLS, "1")}, tls},
		"appended 0":     {"the last value runs", Parameters{}, []func(*corev1.PodSpec){env(EnvUseTLS, "0")}, plain("container ray has another value of RAY_USE_TLS")},
		"0, then 1":      {"whatever came before it", Parameters{}, []func(*corev1.PodSpec){env(EnvUseTLS, "0"), env(EnvUseTLS, "1")}, tls},
		"from elsewhere": {"nobody knows the value", Parameters{}, []func(*corev1.PodSpec){func(pod *corev1.PodSpec) {
			ray(pod).Env = append(ray(pod).Env, corev1.EnvVar{Name: EnvUseTLS, ValueFrom: &corev1.EnvVarSource{}})
		}}, plain("container ray has another value of RAY_USE_TLS")},
		"other certificate": {"each of the four counts", Parameters{}, []func(*corev1.PodSpec){env(EnvServerCert, "/x")}, plain("container ray has another value of RAY_TLS_SERVER_CERT")},
		"other key":         {"each of the four counts", Parameters{}, []func(*corev1.PodSpec){env(EnvServerKey, "/x")}, plain("container ray has another value of RAY_TLS_SERVER_KEY")},
		"no CA":             {"each of the four counts", Parameters{}, []func(*corev1.PodSpec){without(EnvCACert)}, plain("container ray has no variable RAY_TLS_CA_CERT")},
		"no mount":          {"without files there is no TLS", Parameters{}, []func(*corev1.PodSpec){unmounted}, plain("container ray does not mount raytls-certs at /etc/ray/tls")},
		"part of a mount":   {"other files are other certificates", Parameters{}, []func(*corev1.PodSpec){func(pod *corev1.PodSpec) { ray(pod).VolumeMounts[0].SubPath = "x" }}, plain("container ray does not mount raytls-certs at /etc/ray/tls")},
		"no init container": {"nobody makes a certificate", Parameters{}, []func(*corev1.PodSpec){func(pod *corev1.PodSpec) { pod.InitContainers = pod.InitContainers[1:] }}, plain("it has no init container raytls-init")},
		"no record":         {"a record that cannot be read names no further container", Parameters{}, []func(*corev1.PodSpec){init(func(c *corev1.Container) { c.Env[0].Value = "{" })}, plain("init container raytls-init has no readable variable RAYTLS_INJECTION")},
		"no Ray":            {"a pod without a container runs nothing", Parameters{}, []func(*corev1.PodSpec){func(pod *corev1.PodSpec) { pod.Containers = nil }}, plain("it has no container")},
		"all taken out":     {"such a pod may be from an earlier template", Parameters{}, []func(*corev1.PodSpec){unmounted, func(pod *corev1.PodSpec) { pod.InitContainers = nil }}, PodState{Differs: "it has no init container raytls-init"}},
		"other command":     {"another command makes another certificate", Parameters{}, []func(*corev1.PodSpec){init(func(c *corev1.Container) { c.Command = []string{"/bin/true"} })}, PodState{TLS: true, Pieces: true, Differs: "init container raytls-init has another command"}},
		"arguments":         {"and so do arguments", Parameters{}, []func(*corev1.PodSpec){init(func(c *corev1.Container) { c.Args = []string{"x"} })}, PodState{TLS: true, Pieces: true, Differs: "init container raytls-init has another command"}},
		"further container": {"a recorded container speaks Ray's gRPC too", Parameters{AdditionalContainers: []string{"notebook"}}, []func(*corev1.PodSpec){func(pod *corev1.PodSpec) {
			pod.Containers[1].Env = append(pod.Containers[1].Env, corev1.EnvVar{Name: EnvUseTLS, Value: "0"})
		}}, plain("container notebook has another value of RAY_USE_TLS")},
		"KubeRay's container": {"KubeRay's containers talk to Ray, and are no server", Parameters{}, []func(*corev1.PodSpec){func(pod *corev1.PodSpec) {
			pod.InitContainers[1].Env = append(pod.InitContainers[1].Env, corev1.EnvVar{Name: EnvUseTLS, Value: "0"})
		}}, PodState{TLS: true, Pieces: true, Differs: "container wait-gcs-ready has another value of RAY_USE_TLS"}},
		"newer revision": {"the command of a newer operator is unknown here", Parameters{}, []func(*corev1.PodSpec){init(func(c *corev1.Container) { c.Env[0].Value, c.Command = `{"revision":99}`, nil })}, tls},
	} {
		t.Run(name, func(t *testing.T) {
			pod := podOf(t, Worker, tc.parameters)
			for _, edit := range tc.edits {
				edit(pod)
			}
			tc.want.CASecret = "raytls-c"
			if diff := cmp.Diff(tc.want, InPod(pod, Worker, "ray")); diff != "" {
				t.Errorf("%s (-want +got):\n%s", tc.reason, diff)
			}
			slim := &corev1.PodSpec{Volumes: SlimVolumes(pod.Volumes), InitContainers: SlimContainers(pod.InitContainers), Containers: SlimContainers(pod.Containers)}
			if diff := cmp.Diff(tc.want, InPod(slim, Worker, "ray")); diff != "" {
				t.Errorf("%s, and of what a cache keeps (-want +got):\n%s", tc.reason, diff)
			}
		})
	}
}

func TestInPodTellsHeadsFromWorkers(t *testing.T) {
	if got := InPod(podOf(t, Head, Parameters{}), Head, "ray"); got != (PodState{TLS: true, Pieces: true, CASecret: "raytls-c"}) {
		t.Errorf("a head runs the head's script: got %+v", got)
	}
	if got := InPod(podOf(t, Head, Parameters{}), Worker, "ray"); got.Differs == "" {
		t.Error("a worker that runs the head's script gets a certificate in the head's name")
	}
}

func TestTemplateWithAnotherLastValueIsStripped(t *testing.T) {
	injected, err := Apply(map[string]any{"headGroupSpec": map[string]any{"template": map[string]any{"spec": map[string]any{
		"containers": []any{map[string]any{"name": "ray", "image": "ray:1"}},
	}}}}, Options{ClusterName: "c"}, All())
	if err != nil {
		t.Fatal(err)
	}
	if found := Inspect(injected, "c")[0]; found.Stripped || found.RayContainer != "ray" {
		t.Fatalf("what is injected is whole: %+v", found)
	}
	add(templatesOf(injected)[0].ray(), "env", map[string]any{"name": EnvUseTLS, "value": "0"})
	if found := Inspect(injected, "c")[0]; !found.Stripped {
		t.Errorf("pods of this template speak plaintext, as without the injection: %+v", found)
	}
}
