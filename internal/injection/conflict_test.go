package injection

import (
	"errors"
	"reflect"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/raytls/raytls/internal/jsonpatch"
)

const head = "spec.headGroupSpec.template.spec."

// ray gives the head's Ray container of a spec, and pod its pod spec, so that cases can edit them.
func ray(spec map[string]any) map[string]any {
	return jsonpatch.Map(jsonpatch.List(pod(spec)["containers"])[0])
}

func pod(spec map[string]any) map[string]any { return templatesOf(spec)[0].pod }

func sidecar(spec map[string]any) map[string]any {
	return jsonpatch.Map(jsonpatch.List(pod(spec)["containers"])[1])
}

func group(spec map[string]any, i int) map[string]any {
	return jsonpatch.Map(jsonpatch.List(spec["workerGroupSpecs"])[i])
}

func TestConflicts(t *testing.T) {
	sidecars := Parameters{AdditionalContainers: []string{"logs"}}
	cases := map[string]struct {
		reason     string
		edit       func(spec map[string]any)
		parameters Parameters
		want       ConflictError
	}{
		"TLS in the Ray container": {
			reason: "somebody else's TLS is never overwritten",
			edit:   func(s map[string]any) { add(ray(s), "env", map[string]any{"name": EnvUseTLS, "value": "1"}) },
			want:   ConflictError{head + "containers[0].env[RAY_USE_TLS]", "is set by somebody else: remove it, or leave this cluster to the TLS it has"},
		},
		"TLS that is off": {
			reason: "there is no TLS to leave the cluster to",
			edit: func(s map[string]any) {
				add(ray(s), "env", map[string]any{"name": EnvCACert, "value": "/tls/ca.crt"}, map[string]any{"name": EnvUseTLS, "value": "0"})
			},
			want: ConflictError{head + "containers[0].env[RAY_TLS_CA_CERT]", `belongs to TLS that is off, because RAY_USE_TLS is "0": remove it, as all variables of Ray's TLS`},
		},
		"TLS with our very values": {
			reason: "the TLS guide's stanza by hand has the same values, so that alone is not ours",
			edit:   func(s map[string]any) { add(ray(s), "env", rayEnv()...) },
			want:   ConflictError{head + "containers[0].env[RAY_USE_TLS]", "is set by somebody else: remove it, or leave this cluster to the TLS it has"},
		},
		"TLS in a worker": {
			reason: "the path says which group and container",
			edit: func(s map[string]any) {
				worker := templatesOf(s)[2].pod
				add(jsonpatch.Map(jsonpatch.List(worker["containers"])[0]), "env", map[string]any{"name": EnvCACert})
			},
			want: ConflictError{"spec.workerGroupSpecs[1].template.spec.containers[0].env[RAY_TLS_CA_CERT]", "is set, but RAY_USE_TLS is not, so TLS is off unless the image sets it: remove this variable"},
		},
		"TLS in an additional container": {
			reason:     "a named container is treated like the Ray container",
			edit:       func(s map[string]any) { add(sidecar(s), "env", map[string]any{"name": EnvServerKey}) },
			parameters: sidecars,
			want:       ConflictError{head + "containers[1].env[RAY_TLS_SERVER_KEY]", "is set, but RAY_USE_TLS is not, so TLS is off unless the image sets it: remove this variable"},
		},
		"TLS in the autoscaler": {
			reason: "the autoscaler's container gets the same variables",
			edit: func(s map[string]any) {
				add(jsonpatch.Map(s["autoscalerOptions"]), "env", map[string]any{"name": EnvServerCert})
			},
			want: ConflictError{"spec.autoscalerOptions.env[RAY_TLS_SERVER_CERT]", "is set, but RAY_USE_TLS is not, so TLS is off unless the image sets it: remove this variable"},
		},
		"KubeRay's TLS": {
			reason: "KubeRay finds a spec with both invalid and stops reconciling it",
			edit:   func(s map[string]any) { s["tlsOptions"] = map[string]any{"enabled": true} },
			want:   ConflictError{"spec.tlsOptions.enabled", "is true: KubeRay's own TLS is in use; set it to false to hand the cluster over"},
		},
		"mount path taken": {
			reason: "two volumes cannot be mounted at one path",
			edit: func(s map[string]any) {
				add(ray(s), "volumeMounts", map[string]any{"name": "mine", "mountPath": "/etc/ray//tls/"})
			},
			want: ConflictError{head + "containers[0].volumeMounts[/etc/ray//tls/]", "is the path where the certificates go: mount this volume elsewhere"},
		},
		"mount below ours": {
			reason: "the runtime cannot make a mount point in a read-only volume",
			edit: func(s map[string]any) {
				add(ray(s), "volumeMounts", map[string]any{"name": "mine", "mountPath": "/etc/ray/tls/extra"})
			},
			want: ConflictError{head + "containers[0].volumeMounts[/etc/ray/tls/extra]", "is below /etc/ray/tls, where the certificates go: mount this volume elsewhere"},
		},
		"mount above ours": {
			reason: "our mount point would be made in the user's volume, or could not be made",
			edit: func(s map[string]any) {
				add(jsonpatch.Map(s["autoscalerOptions"]), "volumeMounts", map[string]any{"name": "mine", "mountPath": "/etc"})
			},
			want: ConflictError{"spec.autoscalerOptions.volumeMounts[/etc]", "covers /etc/ray/tls, where the certificates go: mount this volume elsewhere"},
		},
		"volume name taken": {
			reason: "a duplicate volume name makes the pod invalid",
			edit: func(s map[string]any) {
				add(pod(s), "volumes", map[string]any{"name": CertsVolume, "persistentVolumeClaim": map[string]any{"claimName": "mine"}})
			},
			want: ConflictError{head + "volumes[raytls-certs]", "names that start with raytls- belong to this operator: rename the volume"},
		},
		"volume name reserved": {
			reason: "a later revision may need the name",
			edit:   func(s map[string]any) { add(pod(s), "volumes", map[string]any{"name": "raytls-mine"}) },
			want:   ConflictError{head + "volumes[raytls-mine]", "names that start with raytls- belong to this operator: rename the volume"},
		},
		"init container name taken": {
			reason: "without our record it is not ours to remove",
			edit:   func(s map[string]any) { add(pod(s), "initContainers", map[string]any{"name": InitContainerName}) },
			want:   ConflictError{head + "initContainers[0].name", "raytls-init is a name this operator uses: rename the container"},
		},
		"container name taken": {
			reason: "a pod's containers and init containers share one space of names",
			edit:   func(s map[string]any) { sidecar(s)["name"] = InitContainerName },
			want:   ConflictError{head + "containers[1].name", "raytls-init is a name this operator uses: rename the container"},
		},
		"additional container nowhere": {
			reason:     "a misspelt name would leave a container in plaintext",
			parameters: Parameters{AdditionalContainers: []string{"logs", "lgos"}},
			want:       ConflictError{"spec.additionalContainers", `no template has a container named "lgos": correct the name or leave it out`},
		},
		"relative scripts path": {
			reason:     "a path is read by a shell whose folder the image decides",
			parameters: Parameters{ScriptsPath: "scripts"},
			want:       ConflictError{"spec.issuance.initContainer.scriptsPath", `must be an absolute path, not "scripts"`},
		},
		"another image without a user": {
			reason:     "the key would belong to that image's user",
			parameters: Parameters{Image: "openssl:3"},
			want:       ConflictError{head + "containers[0].securityContext.runAsUser", "must be set, here or for the pod, because the init container uses another image (openssl:3) and must run as the same user to own the key"},
		},
		"additional container of another user": {
			reason: "the key has mode 0600",
			edit: func(s map[string]any) {
				sidecar(s)["image"] = ray(s)["image"]
				sidecar(s)["securityContext"] = map[string]any{"runAsUser": int64(5)}
			},
			parameters: sidecars,
			want:       ConflictError{head + "containers[1].securityContext.runAsUser", "is 5 but the Ray container's is not set: make them equal, because only the owner can read the key"},
		},
		"additional container of another image": {
			reason:     "its image may have another user",
			parameters: sidecars,
			want:       ConflictError{head + "containers[1].securityContext.runAsUser", "must be set for the pod, because this container's image is not the Ray container's and both must run as the same user to read the key"},
		},
		"autoscaler of another user": {
			reason: "the autoscaler reads the same key",
			edit: func(s map[string]any) {
				ray(s)["securityContext"] = map[string]any{"runAsUser": int64(1000)}
				jsonpatch.Map(s["autoscalerOptions"])["securityContext"] = map[string]any{"runAsUser": int64(1001)}
			},
			want: ConflictError{"spec.autoscalerOptions.securityContext.runAsUser", "is 1001 but the Ray container's is 1000: make them equal, because only the owner can read the key"},
		},
		"autoscaler by default": {
			reason: "KubeRay adds it without options too, and its image decides the user",
			edit: func(s map[string]any) {
				ray(s)["securityContext"] = map[string]any{"runAsUser": int64(0)}
				delete(s, "autoscalerOptions")
			},
			want: ConflictError{"spec.autoscalerOptions.securityContext.runAsUser", "is not set but the Ray container's is 0: make them equal, because only the owner can read the key"},
		},
		"autoscaler with null options": {
			reason: "null is what a chart prints for a value that is not set",
			edit: func(s map[string]any) {
				ray(s)["securityContext"] = map[string]any{"runAsUser": int64(0)}
				s["autoscalerOptions"] = nil
			},
			want: ConflictError{"spec.autoscalerOptions.securityContext.runAsUser", "is not set but the Ray container's is 0: make them equal, because only the owner can read the key"},
		},
		"autoscaler of another image": {
			reason: "its image may have another user",
			edit:   func(s map[string]any) { jsonpatch.Map(s["autoscalerOptions"])["image"] = "mine:1" },
			want:   ConflictError{"spec.autoscalerOptions.securityContext.runAsUser", "must be set for the pod, because this container's image is not the Ray container's and both must run as the same user to read the key"},
		},
		"no head": {
			reason: "a spec without a head is no RayCluster",
			edit:   func(s map[string]any) { delete(s, "headGroupSpec") },
			want:   ConflictError{"spec.headGroupSpec", "is missing: a RayCluster needs a head"},
		},
		"no containers": {
			reason: "there is nothing to encrypt",
			edit:   func(s map[string]any) { group(s, 0)["template"] = map[string]any{} },
			want:   ConflictError{"spec.workerGroupSpecs[0].template.spec.containers", "has no container: the first one must run Ray"},
		},
		"containers of a wrong shape": {
			reason: "what cannot be read cannot be edited",
			edit:   func(s map[string]any) { pod(s)["containers"] = "ray" },
			want:   ConflictError{head + "containers", "has no container: the first one must run Ray"},
		},
		"null group": {
			reason: "a null among the groups is not a group",
			edit:   func(s map[string]any) { jsonpatch.List(s["workerGroupSpecs"])[1] = nil },
			want:   ConflictError{"spec.workerGroupSpecs[1]", "is not a worker group"},
		},
		"groups of a wrong shape": {
			reason: "what cannot be read cannot be edited",
			edit:   func(s map[string]any) { s["workerGroupSpecs"] = map[string]any{} },
			want:   ConflictError{"spec.workerGroupSpecs", "is not a list"},
		},
		"null Ray container": {
			reason: "the first container must be there",
			edit:   func(s map[string]any) { jsonpatch.List(pod(s)["containers"])[0] = nil },
			want:   ConflictError{head + "containers[0]", "is not a container"},
		},
		"nameless Ray container": {
			reason: "the record finds containers by name",
			edit:   func(s map[string]any) { delete(ray(s), "name") },
			want:   ConflictError{head + "containers[0].name", "is missing: give the Ray container a name"},
		},
		"two containers of one name": {
			reason: "the record finds containers by name",
			edit:   func(s map[string]any) { sidecar(s)["name"] = "ray-head" },
			want:   ConflictError{head + "containers[0].name", `2 containers of this pod are named "ray-head": give each a name of its own`},
		},
		"volumes of a wrong shape": {
			reason: "what cannot be read cannot be edited",
			edit:   func(s map[string]any) { pod(s)["volumes"] = "none" },
			want:   ConflictError{head + "volumes", "is not a list"},
		},
		"env of a wrong shape": {
			reason: "what cannot be read cannot be edited",
			edit:   func(s map[string]any) { ray(s)["env"] = map[string]any{"A": "b"} },
			want:   ConflictError{head + "containers[0].env", "is not a list"},
		},
		"autoscaler options of a wrong shape": {
			reason: "what cannot be read cannot be edited",
			edit:   func(s map[string]any) { s["autoscalerOptions"] = "default" },
			want:   ConflictError{"spec.autoscalerOptions", "is not an object"},
		},
		"a newer operator's template": {
			reason: "what a newer revision added is not known here",
			edit: func(s map[string]any) {
				add(pod(s), "initContainers", map[string]any{"name": InitContainerName, "env": []any{
					map[string]any{"name": EnvInjection, "value": `{"revision":2,"parameters":["unknown shape"]}`},
				}})
			},
			want: ConflictError{head + "initContainers[raytls-init].env[RAYTLS_INJECTION]", "was written by a newer operator (revision 2, this one knows up to 1): upgrade the operator"},
		},
	}
	for name, tc := range cases {
		t.Run(name, func(t *testing.T) {
			spec := plain(t)
			if tc.edit != nil {
				tc.edit(spec)
			}
			// A canary in the other group must be refused too: the rest could not follow.
			for _, scope := range []Scope{All(), Only(false, "small")} {
				out, err := Apply(spec, options(tc.parameters), scope)
				var got *ConflictError
				if !errors.As(err, &got) {
					t.Fatalf("%s: got %v and error %v, want a conflict", tc.reason, out, err)
				}
				if diff := cmp.Diff(tc.want, *got); diff != "" {
					t.Errorf("%s (-want +got):\n%s", tc.reason, diff)
				}
			}
		})
	}
}

func TestNoConflict(t *testing.T) {
	cases := map[string]struct {
		reason     string
		edit       func(spec map[string]any)
		parameters Parameters
	}{
		"the Ray image by name": {
			reason: "an init image equal to the Ray image has the same user",
			edit: func(s map[string]any) {
				jsonpatch.Map(jsonpatch.List(templatesOf(s)[2].pod["containers"])[0])["image"] = "rayproject/ray:2.52.0"
			},
			parameters: Parameters{Image: "rayproject/ray:2.52.0"},
		},
		"another image with the pod's user": {
			reason:     "the pod's user holds for the init container by itself",
			edit:       func(s map[string]any) { withUsers(s) },
			parameters: Parameters{Image: "openssl:3"},
		},
		"another image with the container's user": {
			reason: "the Ray container's user is copied",
			edit: func(s map[string]any) {
				for _, template := range templatesOf(s) {
					jsonpatch.Map(jsonpatch.List(template.pod["containers"])[0])["securityContext"] = map[string]any{"runAsUser": int64(7)}
				}
				jsonpatch.Map(s["autoscalerOptions"])["securityContext"] = map[string]any{"runAsUser": float64(7)}
			},
			parameters: Parameters{Image: "openssl:3"},
		},
		"autoscaler by default under the pod's user": {
			reason: "the pod's user counts for the container that KubeRay adds",
			edit: func(s map[string]any) {
				pod(s)["securityContext"] = map[string]any{"runAsUser": int64(0)}
				ray(s)["securityContext"] = map[string]any{"runAsUser": int64(0)}
				delete(s, "autoscalerOptions")
			},
		},
		"options of no autoscaler": {
			reason: "without the autoscaler nobody else reads the head's key",
			edit: func(s map[string]any) {
				s["enableInTreeAutoscaling"] = false
				ray(s)["securityContext"] = map[string]any{"runAsUser": int64(0)}
			},
		},
		"additional init container": {
			reason: "a name found in one template is enough, in either list",
			edit: func(s map[string]any) {
				jsonpatch.Map(jsonpatch.List(templatesOf(s)[2].pod["initContainers"])[0])["image"] = "rayproject/ray:2.52.0-gpu"
			},
			parameters: Parameters{AdditionalContainers: []string{"fetch"}},
		},
		"TLS in a sidecar nobody named": {
			reason: "a sidecar may talk to another cluster that has TLS",
			edit:   func(s map[string]any) { add(sidecar(s), "env", rayEnv()...) },
		},
		"our path in a sidecar nobody named": {
			reason: "nothing of ours is mounted there",
			edit: func(s map[string]any) {
				add(sidecar(s), "volumeMounts", map[string]any{"name": "logs", "mountPath": MountPath})
			},
		},
		"a path that only looks like ours": {
			reason: "/etc/ray/tls-extra is no part of /etc/ray/tls",
			edit: func(s map[string]any) {
				add(ray(s), "volumeMounts", map[string]any{"name": "logs", "mountPath": MountPath + "-extra"}, map[string]any{"name": "logs", "mountPath": "/etc/ra"})
			},
		},
		"KubeRay's TLS switched off": {
			reason: "only enabled counts",
			edit:   func(s map[string]any) { s["tlsOptions"] = map[string]any{"enabled": false} },
		},
		"a mount in the options of no autoscaler": {
			reason: "without the autoscaler nothing of ours goes there",
			edit: func(s map[string]any) {
				s["enableInTreeAutoscaling"] = false
				add(jsonpatch.Map(s["autoscalerOptions"]), "volumeMounts", map[string]any{"name": "x", "mountPath": MountPath})
			},
		},
	}
	for name, tc := range cases {
		t.Run(name, func(t *testing.T) {
			spec := plain(t)
			if tc.edit != nil {
				tc.edit(spec)
			}
			out, err := Apply(spec, options(tc.parameters), All())
			if err != nil {
				t.Fatalf("%s: %v", tc.reason, err)
			}
			if back := mustRemove(t, out, All()); !reflect.DeepEqual(spec, back) {
				t.Errorf("%s: apply then remove is not exact:\n%s", tc.reason, cmp.Diff(spec, back))
			}
		})
	}
}
