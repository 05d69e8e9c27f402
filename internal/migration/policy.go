package migration

import (
	"slices"
	"strings"

	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"

	"github.com/raytls/raytls/api/v1alpha1"
	"github.com/raytls/raytls/internal/manifest"
)

const policyKind = "RayTLSPolicy"

// addPolicies makes the policy of each migrated object.
func (m *migration) addPolicies() {
	known := slices.Clone(m.objects)
	exists := func(o *manifest.Object, name string) bool {
		return find(known, v1alpha1.GroupVersion.Group, policyKind, name, o) != nil
	}
	for i, done := range m.migrated {
		o, name := done.object, done.object.GetName()
		if exists(o, name) {
			name += "-" + strings.ToLower(o.GetKind())
		}
		if exists(o, name) {
			m.report(o, "", "the names %s and %s of its policy are taken in the input: rename the policies that have them", o.GetName(), name)
			continue
		}
		policy := &manifest.Object{Unstructured: unstructured.Unstructured{Object: done.policyFor(name)}, Where: "added"}
		m.migrated[i].policy = policy
		known = append(known, policy)
	}
}

// policyFor names the object alone, brings the CA that signed until now, and keeps what the scripts and the templates
// said besides. A running cluster waits for a word of the user's: the restart is one of all pods.
func (done migrated) policyFor(name string) map[string]any {
	metadata := map[string]any{"name": name}
	if namespace := done.object.GetNamespace(); namespace != "" {
		metadata["namespace"] = namespace
	}
	spec := map[string]any{
		"targetRef":            map[string]any{"kind": done.object.GetKind(), "name": done.object.GetName()},
		"certificateAuthority": map[string]any{"secretRef": map[string]any{"name": done.stanza.secret}},
	}
	if done.object.GetKind() == string(v1alpha1.TargetRayCluster) {
		spec["rollout"] = map[string]any{"enablePolicy": string(v1alpha1.EnableOnStopOrApproval)}
	}
	certificate := map[string]any{}
	if len(done.names.dns) > 0 {
		certificate["headDNSNames"] = done.names.dns
	}
	if done.names.short {
		certificate["headServiceShortName"] = true
	}
	if len(certificate) > 0 {
		spec["podCertificate"] = certificate
	}
	if len(done.stanza.additional) > 0 {
		spec["additionalContainers"] = done.stanza.additional
	}
	return map[string]any{
		"apiVersion": v1alpha1.GroupVersion.String(), "kind": policyKind, "metadata": metadata, "spec": spec,
	}
}
