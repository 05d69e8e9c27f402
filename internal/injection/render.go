package injection

import (
	"encoding/json"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/resource"

	"github.com/raytls/raytls/internal/jsonpatch"
)

// readableByAny lets an init container of any user read a projected file.
const readableByAny = int64(0o444)

// certsSizeLimit bounds the volume, which counts as the pod's memory. The files and openssl's temporary files take a few
// kilobytes.
const certsSizeLimit = "4Mi"

func rayEnv() []any {
	return []any{
		map[string]any{"name": EnvUseTLS, "value": "1"},
		map[string]any{"name": EnvServerCert, "value": MountPath + "/tls.crt"},
		map[string]any{"name": EnvServerKey, "value": MountPath + "/tls.key"},
		map[string]any{"name": EnvCACert, "value": MountPath + "/ca.crt"},
	}
}

func rayEnvNames() []string { return []string{EnvUseTLS, EnvServerCert, EnvServerKey, EnvCACert} }

func rayMount() map[string]any {
	return map[string]any{"name": CertsVolume, "mountPath": MountPath, "readOnly": true}
}

func volumes(o rendering) []any {
	list := []any{
		map[string]any{"name": CertsVolume, "emptyDir": map[string]any{"medium": "Memory", "sizeLimit": certsSizeLimit}},
		map[string]any{"name": IssuerVolume, "secret": map[string]any{
			"secretName": SecretName(o.ClusterName), "defaultMode": readableByAny, "optional": true,
		}},
	}
	if o.Parameters.ScriptsPath == "" {
		list = append(list, map[string]any{"name": ScriptsVolume, "configMap": map[string]any{
			"name": o.scripts.configMap, "defaultMode": readableByAny, "optional": true,
		}})
	}
	return list
}

func initContainer(kind Kind, ray map[string]any, o rendering, r record) map[string]any {
	folder := o.Parameters.ScriptsPath
	mounts := []any{
		map[string]any{"name": CertsVolume, "mountPath": MountPath},
		map[string]any{"name": IssuerVolume, "mountPath": IssuerMountPath, "readOnly": true},
	}
	if folder == "" {
		folder = ScriptsMountPath
		mounts = append(mounts, map[string]any{"name": ScriptsVolume, "mountPath": ScriptsMountPath, "readOnly": true})
	}
	container := map[string]any{
		"name":    InitContainerName,
		"command": []any{"/bin/sh", "-c", o.scripts.bootstrap, InitContainerName, folder + "/" + o.scripts.file[kind], o.scripts.sha256[kind]},
		"env": []any{
			map[string]any{"name": EnvInjection, "value": r.encode()},
			map[string]any{"name": EnvPodIPs, "valueFrom": fieldRef("status.podIPs")},
			map[string]any{"name": EnvNodeType, "valueFrom": fieldRef("metadata.labels['ray.io/node-type']")},
		},
		"resources":       resources(o.Parameters.Resources),
		"securityContext": securityContext(ray),
		"volumeMounts":    mounts,
	}
	image, pullPolicy := initImage(ray, o.Parameters)
	for key, value := range map[string]string{"image": image, "imagePullPolicy": pullPolicy} {
		if value != "" {
			container[key] = value
		}
	}
	return container
}

func initImage(ray map[string]any, p Parameters) (image, pullPolicy string) {
	if p.Image != "" {
		return p.Image, p.ImagePullPolicy
	}
	return jsonpatch.String(ray["image"]), jsonpatch.String(ray["imagePullPolicy"])
}

// securityContext satisfies Pod Security's restricted level if the Ray container does, and runs as the Ray container's user,
// who then owns the key. The pod's own security context applies as well.
func securityContext(ray map[string]any) map[string]any {
	context := map[string]any{
		"allowPrivilegeEscalation": false,
		"capabilities":             map[string]any{"drop": []any{"ALL"}},
		"readOnlyRootFilesystem":   true,
		"seccompProfile":           map[string]any{"type": "RuntimeDefault"},
	}
	from := jsonpatch.Map(ray["securityContext"])
	for _, key := range []string{"runAsUser", "runAsGroup", "runAsNonRoot", "seLinuxOptions"} {
		if value := from[key]; value != nil {
			context[key] = jsonpatch.Copy(value)
		}
	}
	return context
}

func resources(asked *corev1.ResourceRequirements) map[string]any {
	if asked == nil {
		amounts := corev1.ResourceList{
			corev1.ResourceCPU:    resource.MustParse("250m"),
			corev1.ResourceMemory: resource.MustParse("64Mi"),
		}
		asked = &corev1.ResourceRequirements{Requests: amounts, Limits: amounts}
	}
	rendered := map[string]any{}
	_ = json.Unmarshal(canonicalJSON(asked), &rendered) // quantities encode as strings
	return rendered
}

func fieldRef(path string) map[string]any {
	return map[string]any{"fieldRef": map[string]any{"fieldPath": path}}
}
