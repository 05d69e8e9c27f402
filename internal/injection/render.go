package injection

import (
	corev1 "k8s.io/api/core/v1"

	"github.com/raytls/raytls/internal/jsonpatch"
)

// readableByAny lets an init container of any user read a projected file.
const readableByAny = int64(0o444)

// certsSizeLimit bounds the volume, which counts as the pod's memory. The files and openssl's temporary files take a few
// kilobytes.
const certsSizeLimit = "4Mi"

func rayVariables() []corev1.EnvVar {
	return []corev1.EnvVar{
		{Name: EnvUseTLS, Value: "1"},
		{Name: EnvServerCert, Value: MountPath + "/tls.crt"},
		{Name: EnvServerKey, Value: MountPath + "/tls.key"},
		{Name: EnvCACert, Value: MountPath + "/ca.crt"},
	}
}

func rayEnv() []any {
	var list []any
	for _, item := range rayVariables() {
		list = append(list, map[string]any{"name": item.Name, "value": item.Value})
	}
	return list
}

// TLSVariables are the names of the variables that Ray's TLS consists of.
func TLSVariables() []string { return []string{EnvUseTLS, EnvServerCert, EnvServerKey, EnvCACert} }

func rayMount() map[string]any {
	return map[string]any{"name": CertsVolume, "mountPath": MountPath, "readOnly": true}
}

func volumes(o rendering) []any {
	list := []any{
		map[string]any{"name": CertsVolume, "emptyDir": map[string]any{"medium": "Memory", "sizeLimit": certsSizeLimit}},
		map[string]any{"name": IssuerVolume, "secret": map[string]any{
			"secretName": SecretNameSince(o.ClusterName, o.Parameters.RevokedBefore), "defaultMode": readableByAny, "optional": true,
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
	mounts := []any{
		map[string]any{"name": CertsVolume, "mountPath": MountPath},
		map[string]any{"name": IssuerVolume, "mountPath": IssuerMountPath, "readOnly": true},
	}
	if o.Parameters.ScriptsPath == "" {
		mounts = append(mounts, map[string]any{"name": ScriptsVolume, "mountPath": ScriptsMountPath, "readOnly": true})
	}
	var command []any
	for _, word := range o.scripts.command(kind, o.Parameters) {
		command = append(command, word)
	}
	container := map[string]any{
		"name":    InitContainerName,
		"command": command,
		"env": []any{
			map[string]any{"name": EnvInjection, "value": r.encode()},
			map[string]any{"name": EnvPodIPs, "valueFrom": fieldRef("status.podIPs")},
			map[string]any{"name": EnvNodeType, "valueFrom": fieldRef("metadata.labels['ray.io/node-type']")},
			map[string]any{"name": EnvCluster, "valueFrom": fieldRef("metadata.labels['ray.io/cluster']")},
			map[string]any{"name": EnvNamespace, "valueFrom": fieldRef("metadata.namespace")},
			map[string]any{"name": EnvPod, "valueFrom": fieldRef("metadata.name")},
		},
		"resources":       resources(o.Parameters.Resources, ray["resources"]),
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

// resources returns the asked amounts, or the Ray container's. A pod's effective requests and its QoS class take in its
// init containers, and so do LimitRanges and quotas: equal amounts change none of them.
func resources(asked *Resources, ray any) map[string]any {
	rendered := map[string]any{}
	if asked != nil {
		for kind, amounts := range map[string]map[string]string{"requests": asked.Requests, "limits": asked.Limits} {
			if len(amounts) > 0 {
				rendered[kind] = texts(amounts)
			}
		}
		return rendered
	}
	for _, kind := range []string{"requests", "limits"} {
		if amounts := ownAmounts(jsonpatch.Map(jsonpatch.Map(ray)[kind])); len(amounts) > 0 {
			rendered[kind] = amounts
		}
	}
	return rendered
}

func texts(of map[string]string) map[string]any {
	out := make(map[string]any, len(of))
	for key, text := range of {
		out[key] = text
	}
	return out
}

// ownAmounts copies raw quantities, which nothing here parses. It leaves out devices and huge pages, of which a copy would
// hold back a second share while the pod starts.
func ownAmounts(of map[string]any) map[string]any {
	copied := map[string]any{}
	for _, name := range []corev1.ResourceName{corev1.ResourceCPU, corev1.ResourceMemory, corev1.ResourceEphemeralStorage} {
		if amount := of[string(name)]; amount != nil {
			copied[string(name)] = jsonpatch.Copy(amount)
		}
	}
	return copied
}

func fieldRef(path string) map[string]any {
	return map[string]any{"fieldRef": map[string]any{"fieldPath": path}}
}
