package injection

import (
	"slices"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/raytls/raytls/internal/jsonpatch"
)

func TestForeignTLSInEnvFrom(t *testing.T) {
	objects := map[Ref][]string{
		{KindConfigMap, "tls-settings"}: {"OTHER", "RAY_USE_TLS"},
		{KindSecret, "prefixed"}:        {"USE_TLS"},
		{KindConfigMap, "harmless"}:     {"RAY_TLS_SERVER_KEY_NAME"},
	}
	var asked []Ref
	lookup := func(kind, name string) ([]string, bool) {
		asked = append(asked, Ref{kind, name})
		keys, found := objects[Ref{kind, name}]
		return keys, found
	}
	from := func(key, name, prefix string) map[string]any {
		source := map[string]any{key: map[string]any{"name": name}}
		if prefix != "" {
			source["prefix"] = prefix
		}
		return source
	}
	cases := map[string]struct {
		reason     string
		edit       func(spec map[string]any)
		additional []string
		want       []Finding
		refs       []Ref
	}{
		"config map": {
			reason: "the variable comes from a ConfigMap, and each object is read once",
			edit: func(s map[string]any) {
				add(ray(s), "envFrom", from("configMapRef", "harmless", ""), from("configMapRef", "tls-settings", ""), from("configMapRef", "harmless", "P_"))
			},
			want: []Finding{{head + "containers[0].envFrom[1].configMapRef", "the ConfigMap tls-settings sets RAY_USE_TLS: remove it, or leave this cluster to the TLS it has"}},
			refs: []Ref{{KindConfigMap, "harmless"}, {KindConfigMap, "tls-settings"}},
		},
		"prefix makes the name": {
			reason: "prefix and key together are the variable",
			edit:   func(s map[string]any) { add(ray(s), "envFrom", from("secretRef", "prefixed", "RAY_")) },
			want:   []Finding{{head + "containers[0].envFrom[0].secretRef", "the Secret prefixed sets RAY_USE_TLS: remove it, or leave this cluster to the TLS it has"}},
			refs:   []Ref{{KindSecret, "prefixed"}},
		},
		"prefix unmakes the name": {
			reason: "with a prefix the key is another variable",
			edit:   func(s map[string]any) { add(ray(s), "envFrom", from("configMapRef", "tls-settings", "X_")) },
			refs:   []Ref{{KindConfigMap, "tls-settings"}},
		},
		"unreadable": {
			reason: "what cannot be read blocks nothing",
			edit:   func(s map[string]any) { add(ray(s), "envFrom", from("secretRef", "absent", "")) },
			refs:   []Ref{{KindSecret, "absent"}},
		},
		"a sidecar's": {
			reason: "containers that do not speak Ray are not looked at",
			edit:   func(s map[string]any) { add(sidecar(s), "envFrom", from("configMapRef", "tls-settings", "")) },
		},
		"an additional container's": {
			reason:     "a named container speaks Ray",
			edit:       func(s map[string]any) { add(sidecar(s), "envFrom", from("configMapRef", "tls-settings", "")) },
			additional: []string{"logs"},
			want:       []Finding{{head + "containers[1].envFrom[0].configMapRef", "the ConfigMap tls-settings sets RAY_USE_TLS: remove it, or leave this cluster to the TLS it has"}},
			refs:       []Ref{{KindConfigMap, "tls-settings"}},
		},
		"the autoscaler's": {
			reason: "its options have envFrom too",
			edit: func(s map[string]any) {
				add(jsonpatch.Map(s["autoscalerOptions"]), "envFrom", from("configMapRef", "tls-settings", ""))
			},
			want: []Finding{{"spec.autoscalerOptions.envFrom[0].configMapRef", "the ConfigMap tls-settings sets RAY_USE_TLS: remove it, or leave this cluster to the TLS it has"}},
			refs: []Ref{{KindConfigMap, "tls-settings"}},
		},
		"nothing": {reason: "a plain spec asks for nothing", edit: func(map[string]any) {}},
	}
	for name, tc := range cases {
		t.Run(name, func(t *testing.T) {
			spec := plain(t)
			tc.edit(spec)
			asked = nil
			if diff := cmp.Diff(tc.want, ForeignTLS(spec, lookup, tc.additional...)); diff != "" {
				t.Errorf("%s: findings (-want +got):\n%s", tc.reason, diff)
			}
			if diff := cmp.Diff(tc.refs, EnvFromRefs(spec, tc.additional...)); diff != "" {
				t.Errorf("%s: references (-want +got):\n%s", tc.reason, diff)
			}
			for _, ref := range asked {
				if !slices.Contains(tc.refs, ref) {
					t.Errorf("%s: %v was looked up but not announced", tc.reason, ref)
				}
			}
		})
	}
}

func TestForeignTLSListsEverything(t *testing.T) {
	spec := mustApply(t, plain(t), Parameters{}, All())
	if found := ForeignTLS(spec, nil); len(found) != 0 {
		t.Fatalf("our own pieces are taken for somebody else's: %v", found)
	}
	spec["tlsOptions"] = map[string]any{"enabled": true}
	add(ray(spec), "env", map[string]any{"name": EnvUseTLS, "value": "0"})
	add(jsonpatch.Map(spec["autoscalerOptions"]), "env", map[string]any{"name": EnvCACert, "value": "/mine"})
	var fields []string
	for _, finding := range ForeignTLS(spec, nil) {
		fields = append(fields, finding.Field)
	}
	want := []string{"spec.tlsOptions.enabled", head + "containers[0].env[RAY_USE_TLS]", "spec.autoscalerOptions.env[RAY_TLS_CA_CERT]"}
	if diff := cmp.Diff(want, fields); diff != "" {
		t.Errorf("findings beside our own pieces (-want +got):\n%s", diff)
	}
}

// TestForeignTLS_together names in one go what has to be taken out together.
func TestForeignTLS_together(t *testing.T) {
	s := plain(t)
	add(ray(s), "env", map[string]any{"name": EnvUseTLS, "value": "1"}, map[string]any{"name": EnvServerCert, "value": "/certs/tls.crt"})
	add(ray(s), "volumeMounts", map[string]any{"name": "certs", "mountPath": "/certs/"}, map[string]any{"name": "authority", "mountPath": "/ca"})
	pod(s)["initContainers"] = []any{
		map[string]any{"name": "other"},
		map[string]any{"name": "make", "volumeMounts": []any{map[string]any{"name": "certs", "mountPath": "/out"}, map[string]any{"name": "authority", "mountPath": "/in"}}},
	}
	add(pod(s), "volumes", map[string]any{"name": "certs", "emptyDir": map[string]any{}}, map[string]any{"name": "authority", "secret": map[string]any{"secretName": "ca"}})
	var fields []string
	for _, found := range ForeignTLS(s, nil) {
		fields = append(fields, found.Field)
	}
	want := []string{
		head + "containers[0].env[RAY_USE_TLS]", head + "containers[0].env[RAY_TLS_SERVER_CERT]", head + "containers[0].volumeMounts[/certs/]",
		head + "initContainers[1]", head + "containers[0].volumeMounts[/ca]", head + "volumes[certs]", head + "volumes[authority]",
	}
	if diff := cmp.Diff(want, fields); diff != "" {
		t.Errorf("(-want +got):\n%s", diff)
	}
}
