package migration

import (
	"strings"

	"github.com/raytls/raytls/api/v1alpha1"
	"github.com/raytls/raytls/internal/manifest"
)

const policyKind = "RayTLSPolicy"

// addPolicies makes the policy of each migrated object.
func (m *migration) addPolicies() {
	taken := []*manifest.Object{}
	for _, o := range m.objects {
		if o.Is(v1alpha1.GroupVersion.Group, policyKind) {
			taken = append(taken, o)
		}
	}
	isTaken := func(o *manifest.Object, name string) bool {
		for _, other := range taken {
			if other.Name() == name && other.Near(o) {
				return true
			}
		}
		return false
	}
	for i, done := range m.migrated {
		o, name := done.object, done.object.Name()
		if isTaken(o, name) {
			name += "-" + strings.ToLower(o.Kind())
		}
		if isTaken(o, name) {
			m.report(o, "", "the names %s and %s of its policy are taken in the input: rename the policies that have them", o.Name(), name)
			continue
		}
		policy := &manifest.Object{Where: "added", Value: done.policyFor(name)}
		m.migrated[i].policy = policy
		taken = append(taken, policy)
	}
}

// policyFor names the object alone, brings the CA that signed until now, and keeps what the scripts and the templates
// said besides. A running cluster waits for a word of the user's: the restart is one of all pods.
func (done migrated) policyFor(name string) map[string]any {
	metadata := map[string]any{"name": name}
	if namespace := done.object.Namespace(); namespace != "" {
		metadata["namespace"] = namespace
	}
	spec := map[string]any{
		"targetRef":            map[string]any{"kind": done.object.Kind(), "name": done.object.Name()},
		"certificateAuthority": map[string]any{"secretRef": map[string]any{"name": done.stanza.secret}},
	}
	if done.object.Kind() == manifest.RayCluster {
		spec["rollout"] = map[string]any{"enablePolicy": string(v1alpha1.EnableOnStopOrApproval)}
	}
	certificate := map[string]any{}
	if len(done.names.dns) > 0 {
		certificate["headDNSNames"] = anyList(done.names.dns)
	}
	if done.names.short {
		certificate["headServiceShortName"] = true
	}
	if len(certificate) > 0 {
		spec["podCertificate"] = certificate
	}
	if len(done.stanza.additional) > 0 {
		spec["additionalContainers"] = anyList(done.stanza.additional)
	}
	return map[string]any{
		"apiVersion": v1alpha1.GroupVersion.String(), "kind": policyKind, "metadata": metadata, "spec": spec,
	}
}
