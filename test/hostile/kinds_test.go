//go:build hostile

package hostile

import (
	"fmt"
	"strings"

	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"

	"github.com/raytls/raytls/internal/injection"
	"github.com/raytls/raytls/internal/kuberay"
)

type object = map[string]any

// kind is one way to make much work of few bytes.
type kind struct {
	make func(namespace, name string) *unstructured.Unstructured
	// storable is false for what other programs cannot bear either, such as KubeRay.
	storable bool
}

// small is a RayCluster that nobody would notice. It is suspended, so it has no pods.
func small(namespace, name string) *unstructured.Unstructured {
	out := kuberay.NewRayCluster()
	out.SetNamespace(namespace)
	out.SetName(name)
	out.Object["spec"] = object{
		"suspend": true,
		"headGroupSpec": object{
			"rayStartParams": object{},
			"template":       object{"spec": object{"containers": []any{object{"name": "ray-head", "image": "rayproject/ray:2.52.0"}}}},
		},
	}
	return out
}

func kinds() map[string]kind {
	each := func(count int, entry func(n int) any) []any {
		out := make([]any, count)
		for n := range out {
			out[n] = entry(n)
		}
		return out
	}
	// changed is a small cluster of which a change is made to the head's pod and to the Ray container in it.
	changed := func(storable bool, change func(cluster, pod, ray object)) kind {
		return kind{storable: storable, make: func(namespace, name string) *unstructured.Unstructured {
			out := small(namespace, name)
			pod := out.Object["spec"].(object)["headGroupSpec"].(object)["template"].(object)["spec"].(object)
			change(out.Object, pod, pod["containers"].([]any)[0].(object))
			return out
		}}
	}
	amounts := object{"requests": object{"cpu": "1e-9999999"}, "limits": object{"cpu": "1e-9999999"}}
	record := `{"revision":1,"parameters":{"resources":{"requests":{"cpu":"1e-9999999"},"limits":{"cpu":"1e-9999999"}}}}`
	return map[string]kind{
		"exponent in a record": changed(true, func(_, pod, _ object) {
			pod["initContainers"] = []any{object{"name": injection.InitContainerName, "image": "x", "env": []any{object{"name": injection.EnvInjection, "value": record}}}}
		}),
		"exponent in a container": changed(false, func(_, _, ray object) { ray["resources"] = amounts }),
		"long record": changed(true, func(_, pod, _ object) {
			pod["initContainers"] = []any{object{"name": injection.InitContainerName, "image": "x", "env": []any{object{
				"name": injection.EnvInjection, "value": `{"revision":1,"was":{"` + strings.Repeat("x", 1_000_000) + `":"null"}}`,
			}}}}
		}),
		"tolerations": changed(true, func(_, pod, _ object) { pod["tolerations"] = each(90_000, func(int) any { return object{} }) }),
		"environments": changed(true, func(_, _, ray object) {
			ray["envFrom"] = each(30_000, func(n int) any { return object{"configMapRef": object{"name": fmt.Sprint("c", n)}} })
		}),
		"variables": changed(true, func(_, _, ray object) {
			ray["env"] = each(40_000, func(n int) any { return object{"name": fmt.Sprint("N", n)} })
		}),
		"mounts": changed(true, func(_, _, ray object) {
			ray["volumeMounts"] = each(20_000, func(n int) any { return object{"name": "v", "mountPath": fmt.Sprint("/", n)} })
		}),
		"containers": changed(false, func(_, pod, _ object) {
			pod["initContainers"] = each(40_000, func(n int) any { return object{"name": fmt.Sprint("c", n), "image": "x"} })
		}),
		"groups": changed(false, func(cluster, _, _ object) {
			cluster["spec"].(object)["workerGroupSpecs"] = each(injection.MaxWorkerGroups, func(n int) any {
				return object{
					"groupName": fmt.Sprint("g", n), "replicas": int64(0), "minReplicas": int64(0), "maxReplicas": int64(1), "rayStartParams": object{},
					"template": object{"spec": object{"containers": []any{object{"name": "ray", "image": "x"}}}},
				}
			})
		}),
		"labels": changed(true, func(cluster, _, _ object) {
			labels := object{}
			for n := range 30_000 {
				labels[fmt.Sprint("label-", n)] = ""
			}
			cluster["metadata"].(object)["labels"] = labels
		}),
	}
}
