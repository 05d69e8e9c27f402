package migration

import (
	"encoding/json"
	"fmt"
	"maps"
	"slices"
	"strings"

	corev1 "k8s.io/api/core/v1"

	"github.com/raytls/raytls/internal/hazard"
	"github.com/raytls/raytls/internal/injection"
	"github.com/raytls/raytls/internal/jsonpatch"
	"github.com/raytls/raytls/internal/manifest"
)

// tell says what is taken out of a template, and what the init container had that the operator's has not.
func (s *stanza) tell(t template, generator int, p pieces, given []speaker) {
	container := jsonpatch.Map(jsonpatch.List(t.pod["initContainers"])[generator])
	var speakers []string
	for _, c := range given {
		name := c.name
		if name == "" {
			name = "autoscalerOptions"
		}
		speakers = append(speakers, name)
	}
	s.removed = append(s.removed, fmt.Sprintf("%s: init container %s; volumes %s with all their mounts; the variables %s of %s.",
		t.path, jsonpatch.Name(container), strings.Join(slices.Sorted(maps.Keys(p.volumes)), ", "), strings.Join(slices.Sorted(maps.Keys(p.env)), ", "), strings.Join(speakers, ", ")))
	var ray map[string]any
	if containers := jsonpatch.List(t.pod["containers"]); len(containers) > 0 {
		ray = jsonpatch.Map(containers[0])
	}
	if image := jsonpatch.String(container["image"]); image != "" && image != jsonpatch.String(ray["image"]) {
		s.lost = append(s.lost, fmt.Sprintf("%s: the init container had an image of its own, %s. The operator's has the Ray container's, which needs openssl. If that image has none, set issuance.initContainer.image of the policy to this or another image; an administrator has to allow it.", t.path, image))
	}
	for key, field := range map[string]string{"resources": "issuance.initContainer.resources", "securityContext": "", "envFrom": "", "lifecycle": ""} {
		if value := container[key]; len(jsonpatch.Map(value))+len(jsonpatch.List(value)) > 0 {
			s.lost = append(s.lost, lostField(t.path, key, field, value))
		}
	}
	var others []string
	for _, item := range jsonpatch.List(container["env"]) {
		if name := jsonpatch.Name(item); name != "POD_IP" {
			others = append(others, name)
		}
	}
	if len(others) > 0 {
		s.lost = append(s.lost, fmt.Sprintf("%s: the init container had the variables %s, which the operator's script does not read.", t.path, strings.Join(others, ", ")))
	}
	slices.Sort(s.lost)
}

func lostField(at, key, field string, value any) string {
	text, err := json.Marshal(value)
	if err != nil {
		text = nil
	}
	told := fmt.Sprintf("%s: the init container had %s %s. The operator's takes them from the Ray container.", at, key, text)
	if field != "" {
		told += fmt.Sprintf(" If they have to differ, set %s of the policy.", field)
	}
	return told
}

// takeSwitchedOff takes out the variables of TLS that is off everywhere. If any container has it on, or leaves it to something
// else, nothing is taken out.
func (s *stanza) takeSwitchedOff(spec map[string]any) {
	isTLS := func(item any) bool { return slices.Contains(injection.TLSVariables(), jsonpatch.Name(item)) }
	var off []speaker
	head := newTemplate("spec.headGroupSpec", spec["headGroupSpec"])
	head.options = jsonpatch.Map(spec["autoscalerOptions"])
	templates := []template{head}
	for i, group := range jsonpatch.List(spec["workerGroupSpecs"]) {
		templates = append(templates, newTemplate(fmt.Sprintf("spec.workerGroupSpecs[%d]", i), group))
	}
	for _, t := range templates {
		if slices.ContainsFunc(jsonpatch.List(t.pod["initContainers"]), func(c any) bool { return jsonpatch.Name(c) == injection.InitContainerName }) {
			return // it is the operator's
		}
		for _, c := range t.speakers(-1) {
			if !slices.ContainsFunc(jsonpatch.List(c.container["env"]), isTLS) {
				continue
			}
			if isOff, _ := injection.SwitchedOff(c.container); !isOff {
				return
			}
			off = append(off, c)
		}
	}
	for _, c := range off {
		filter(c.container, "env", isTLS)
		s.removed = append(s.removed, fmt.Sprintf("%s: the variables of Ray's TLS, which %s switched off.", c.path, injection.EnvUseTLS))
	}
}

// hazards refuses what reads files that go away, and notes what TLS breaks besides. original is the spec with the stanza.
func (m *migration) hazards(o *manifest.Object, at string, original map[string]any, s *stanza, names headNames) []injection.Finding {
	found := hazard.Find(original, hazard.Options{Additional: s.additional, HeadDNSNames: names.dns, HeadServiceShortName: names.short, Gone: s.gone})
	refused := slices.ContainsFunc(found, func(h hazard.Hazard) bool { return h.Depends && h.Blocking })
	var findings []injection.Finding
	for _, h := range found {
		if h.Depends && refused {
			findings = append(findings, h.Finding)
			continue
		}
		m.notef("%s: look at this before you apply the output: %s", o, moved(at, h.String()))
	}
	return findings
}

// explain adds to findings of other TLS what its init containers say of the head's names and the CA.
func (m *migration) explain(o *manifest.Object, at string, spec map[string]any) {
	head := newTemplate(at+".headGroupSpec", spec["headGroupSpec"])
	for i, item := range jsonpatch.List(head.pod["initContainers"]) {
		container := jsonpatch.Map(item)
		var words []string
		for _, word := range slices.Concat(jsonpatch.List(container["command"]), jsonpatch.List(container["args"])) {
			words = append(words, jsonpatch.String(word))
		}
		text := strings.Join(words, " ")
		if !strings.Contains(text, "openssl") {
			continue
		}
		var names headNames
		var unknown []string
		for _, name := range alternatives(text) {
			if !names.add(name) {
				unknown = append(unknown, name)
			}
		}
		field := fmt.Sprintf("%s.initContainers[%d]", head.path, i)
		m.report(o, field, "makes certificates by itself with openssl, which cannot be migrated: take out by hand what is named here, and add a policy")
		if len(names.dns) > 0 {
			m.report(o, field, "gives the head the names %s: put those that clients use into podCertificate.headDNSNames of the policy", strings.Join(names.dns, ", "))
		}
		if len(unknown) > 0 {
			m.report(o, field, "gives the head %s, which no policy can: see podCertificate.headDNSNames", strings.Join(unknown, ", "))
		}
		for _, mount := range jsonpatch.List(container["volumeMounts"]) {
			if secret := jsonpatch.Map(head.volume(jsonpatch.Name(mount))["secret"]); secret != nil {
				m.report(o, field, "signs with Secret %s: to keep this CA, name it in certificateAuthority.secretRef of the policy; otherwise the operator makes one", jsonpatch.String(secret["secretName"]))
			}
		}
	}
}

// clean takes out what only the API server writes, and what it refuses or ignores in a manifest.
func (m *migration) clean(o *manifest.Object) {
	var taken []string
	drop := func(parent map[string]any, keys ...string) {
		for _, key := range keys {
			if _, there := parent[key]; there {
				delete(parent, key)
				taken = append(taken, key)
			}
		}
	}
	metadata := jsonpatch.Map(o.Object["metadata"])
	drop(metadata, "uid", "resourceVersion", "generation", "creationTimestamp", "managedFields", "selfLink")
	annotations := jsonpatch.Map(metadata["annotations"])
	drop(annotations, corev1.LastAppliedConfigAnnotation)
	if annotations != nil && len(annotations) == 0 && len(taken) > 0 {
		delete(metadata, "annotations")
	}
	drop(o.Object, "status")
	if len(taken) > 0 {
		m.notef("%s: this was read from an API server. Left out, because only the server or kubectl writes it: %s.", o, strings.Join(taken, ", "))
	}
}
