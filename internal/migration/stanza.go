package migration

import (
	"fmt"
	"path"
	"regexp"
	"slices"
	"strings"

	"k8s.io/apimachinery/pkg/util/sets"
	"k8s.io/apimachinery/pkg/util/validation"

	"github.com/raytls/raytls/internal/injection"
	"github.com/raytls/raytls/internal/jsonpatch"
)

// stanza is the hand-made TLS that was found in a RayCluster's spec.
type stanza struct {
	// secret holds the CA: the one Secret of all templates. Empty where no stanza was found.
	secret string
	// configMaps hold the scripts; none where they are in the image.
	configMaps []string
	// additional are the containers, beside Ray's, that were given TLS.
	additional []string
	// findings are what is not the guide's stanza, though it belongs to one.
	findings []injection.Finding
	// otherTLS reports whether the findings are of TLS that is made in another way than the guide's.
	otherTLS bool
	// gone are the paths of the mounts that were taken out, by the container's field.
	gone map[string][]string
	// removed says what was taken out, and lost what of it has no counterpart with the operator; a sentence each.
	removed, lost []string
}

func (s *stanza) report(field, format string, args ...any) {
	s.findings = append(s.findings, injection.Finding{Field: field, Message: fmt.Sprintf(format, args...)})
}

// take takes the stanza out of a spec, in place, and says what it was. Templates in which anything is reported stay as
// they are, and nobody may use the spec then.
//
// The stanza is that of KubeRay's TLS guide, which all revisions of KubeRay's sample have since v0.5.0: an init
// container runs gencert_head.sh or gencert_worker.sh from a ConfigMap (or the image), with the CA's Secret copied to an
// emptyDir, and the containers that speak Ray mount both and have four variables. What things are is told by what they
// do; names of volumes and containers, and paths, may be any.
func take(spec map[string]any) *stanza {
	s := &stanza{gone: map[string][]string{}}
	head := newTemplate("spec.headGroupSpec", spec["headGroupSpec"])
	head.options = jsonpatch.Map(spec["autoscalerOptions"])
	s.takeTemplate(head)
	for i, group := range jsonpatch.List(spec["workerGroupSpecs"]) {
		s.takeTemplate(newTemplate(fmt.Sprintf("spec.workerGroupSpecs[%d]", i), group))
	}
	if s.secret == "" && len(s.findings) == 0 {
		s.takeSwitchedOff(spec)
	}
	s.configMaps = slices.Compact(slices.Sorted(slices.Values(s.configMaps)))
	s.additional = slices.Compact(slices.Sorted(slices.Values(s.additional)))
	return s
}

// template is a pod template.
type template struct {
	path string
	pod  map[string]any
	// options is the spec's autoscalerOptions, for the head alone.
	options map[string]any
}

func newTemplate(at string, group any) template {
	return template{path: at + ".template.spec", pod: jsonpatch.Map(jsonpatch.Map(jsonpatch.Map(group)["template"])["spec"])}
}

// speaker is a container, or autoscalerOptions, which have env and volumeMounts alike.
type speaker struct {
	path, name string
	container  map[string]any
	ray        bool
}

func (t template) speakers(generator int) []speaker {
	var found []speaker
	for _, list := range []string{"containers", "initContainers"} {
		for i, item := range jsonpatch.List(t.pod[list]) {
			if container := jsonpatch.Map(item); container != nil && (list == "containers" || i != generator) {
				at := fmt.Sprintf("%s.%s[%d]", t.path, list, i)
				found = append(found, speaker{path: at, name: jsonpatch.Name(item), container: container, ray: list == "containers" && i == 0})
			}
		}
	}
	if t.options != nil {
		found = append(found, speaker{path: "spec.autoscalerOptions", container: t.options})
	}
	return found
}

func (s *stanza) takeTemplate(t template) {
	before := len(s.findings)
	generator, run := s.findGenerator(t)
	if generator < 0 || len(s.findings) > before {
		return
	}
	p := s.pieces(t, generator, run)
	if len(s.findings) > before {
		return
	}
	speakers := t.speakers(generator)
	given := slices.DeleteFunc(slices.Clone(speakers), func(c speaker) bool { return !s.given(c, p) })
	if len(s.findings) > before {
		return
	}
	s.tell(t, generator, p, given)
	for _, c := range given {
		filter(c.container, "env", func(item any) bool { return p.env[jsonpatch.Name(item)] != nil })
		if c.name != "" && !c.ray {
			s.additional = append(s.additional, c.name)
		}
	}
	isPiece := func(item any) bool { return p.volumes[jsonpatch.Name(item)] }
	for _, c := range speakers {
		for _, item := range jsonpatch.List(c.container["volumeMounts"]) {
			if isPiece(item) {
				s.gone[c.path] = append(s.gone[c.path], jsonpatch.String(jsonpatch.Map(item)["mountPath"]))
			}
		}
		filter(c.container, "volumeMounts", isPiece)
	}
	filter(t.pod, "volumes", isPiece)
	t.pod["initContainers"] = slices.Delete(slices.Clone(jsonpatch.List(t.pod["initContainers"])), generator, generator+1)
	if len(jsonpatch.List(t.pod["initContainers"])) == 0 {
		delete(t.pod, "initContainers")
	}
	s.secret = p.secret
	if p.configMap != "" {
		s.configMaps = append(s.configMaps, p.configMap)
	}
}

// run is what the init container does: copy a folder, if it says so, and run a script.
type run struct{ from, to, script string }

// findGenerator finds the init container that makes the certificate; -1 if there is none.
func (s *stanza) findGenerator(t template) (index int, found run) {
	index = -1
	const plainPath = `(/[A-Za-z0-9._/-]+)`
	pattern := regexp.MustCompile(`^(?:cp -[rR] ` + plainPath + ` ` + plainPath + ` && )?(?:(?:/bin/)?(?:ba)?sh )?` + plainPath + `/gencert_(?:head|worker)\.sh$`)
	for i, item := range jsonpatch.List(t.pod["initContainers"]) {
		container := jsonpatch.Map(item)
		var words []string // an empty one for what is no string, so that it is not overlooked
		for _, word := range slices.Concat(jsonpatch.List(container["command"]), jsonpatch.List(container["args"])) {
			words = append(words, jsonpatch.String(word))
		}
		isOperators := jsonpatch.Name(item) == injection.InitContainerName
		if isOperators || !slices.ContainsFunc(words, func(word string) bool { return strings.Contains(word, "gencert_") }) {
			continue
		}
		at := fmt.Sprintf("%s.initContainers[%d]", t.path, i)
		match := pattern.FindStringSubmatch(script(words))
		switch {
		case match == nil && !t.mountsSecret(container):
			s.otherTLS = true
			s.report(at, "makes certificates in another way than the guide's, without a CA's Secret, so this TLS cannot be migrated: take out by hand what is named here, with the rights of the service account that it needs. "+
				"The policy that you add needs no certificateAuthority.secretRef, because the operator makes the CA")
		case match == nil:
			s.report(at+".command", "runs something else than the guide's `cp -R /etc/ca/tls /etc/ray && /etc/gen/tls/gencert_head.sh`: move what it does besides to a container of its own")
		case index >= 0:
			s.report(at, "is the second init container that makes certificates: leave one")
		default:
			index, found = i, run{from: clean(match[1]), to: clean(match[2]), script: clean(match[3])}
		}
	}
	return index, found
}

// mountsSecret reports whether a container mounts a Secret of the pod.
func (t template) mountsSecret(container map[string]any) bool {
	return slices.ContainsFunc(jsonpatch.List(container["volumeMounts"]), func(item any) bool {
		return jsonpatch.Map(t.volume(jsonpatch.Name(item))["secret"]) != nil
	})
}

// script is the line that a shell is given, in single spaces; empty where the words are no such command.
func script(words []string) string {
	switch {
	case len(words) == 3 && words[1] == "-c" && slices.Contains([]string{"sh", "bash", "/bin/sh", "/bin/bash", "/usr/bin/bash"}, words[0]):
		return strings.Join(strings.Fields(words[2]), " ")
	case len(words) == 1:
		return words[0]
	}
	return ""
}

// pieces are what belongs to a template's stanza.
type pieces struct {
	secret, configMap string
	// scripts is the ConfigMap's volume; empty where the scripts are in the image.
	scripts string
	// volumes of the CA, the certificates and the scripts, by name.
	volumes map[string]bool
	// ca and certs are where the CA and the certificates are mounted.
	ca, certs mount
	// env holds the values that each of Ray's four variables may have.
	env map[string][]string
}

type mount struct{ volume, path string }

// readMount also gives the mount's field, and reports whether it mounts the whole volume.
func readMount(at string, item any) (m mount, field string, whole bool) {
	fields := jsonpatch.Map(item)
	mountPath := jsonpatch.String(fields["mountPath"])
	m = mount{volume: jsonpatch.Name(item), path: clean(mountPath)}
	return m, fmt.Sprintf("%s.volumeMounts[%s]", at, mountPath), fields["subPath"] == nil && fields["subPathExpr"] == nil
}

// pieces tells the volumes by what the init container does with them.
func (s *stanza) pieces(t template, generator int, r run) pieces {
	p := pieces{volumes: map[string]bool{}}
	at := fmt.Sprintf("%s.initContainers[%d]", t.path, generator)
	container := jsonpatch.Map(jsonpatch.List(t.pod["initContainers"])[generator])
	for _, item := range jsonpatch.List(container["volumeMounts"]) {
		m, field, whole := readMount(at, item)
		volume := t.volume(m.volume)
		if volume == nil || !whole {
			s.report(field, "is not one of the guide's mounts, which are a Secret, a ConfigMap and an emptyDir of this pod, each as a whole")
			continue
		}
		secret, isSecret := volume["secret"].(map[string]any)
		configMap, isConfigMap := volume["configMap"].(map[string]any)
		_, isEmptyDir := volume["emptyDir"]
		switch {
		case isSecret && p.ca.volume == "" && (r.from == "" || m.path == r.from):
			p.ca, p.secret = m, jsonpatch.String(secret["secretName"])
			s.checkKeys(fmt.Sprintf("%s.volumes[%s].secret", t.path, m.volume), secret)
		case isConfigMap && p.configMap == "" && m.path == r.script:
			p.configMap, p.scripts = jsonpatch.Name(configMap), m.volume
		case isEmptyDir && p.certs.volume == "" && (r.to == "" || m.path == path.Join(r.to, path.Base(r.from))):
			p.certs = m
		default:
			s.report(field, "is none of what the guide's init container mounts: the CA's Secret, the folder that it copies it to, and the scripts")
			continue
		}
		p.volumes[m.volume] = true
	}
	secretName := fmt.Sprintf("%s.volumes[%s].secret.secretName", t.path, p.ca.volume)
	switch {
	case p.ca.volume == "" || p.certs.volume == "":
		s.report(at+".volumeMounts", "lacks the CA's Secret or the emptyDir for the certificates, so this is not the guide's stanza")
	case p.secret == "":
		s.report(secretName, "is missing")
	case len(validation.IsDNS1123Subdomain(p.secret)) > 0: // it goes into a command that a user is told to type
		s.report(secretName, "is not the name of a Secret")
	case s.secret != "" && s.secret != p.secret:
		s.report(secretName, "is %s, but other templates have %s: a policy brings one CA, so use one", p.secret, s.secret)
	}
	p.env = map[string][]string{
		injection.EnvUseTLS:     {"1"},
		injection.EnvServerCert: {p.certs.path + "/tls.crt"},
		injection.EnvServerKey:  {p.certs.path + "/tls.key"},
		injection.EnvCACert:     {p.ca.path + "/ca.crt", p.certs.path + "/ca.crt"},
	}
	return p
}

// checkKeys refuses a volume that renames the Secret's keys to what the operator does not read.
func (s *stanza) checkKeys(at string, secret map[string]any) {
	keys := sets.New[string]()
	for _, item := range jsonpatch.List(secret["items"]) {
		keys.Insert(jsonpatch.String(jsonpatch.Map(item)["key"]))
	}
	if keys.Len() > 0 && !keys.HasAll("ca.crt", "ca.key") && !keys.HasAll("tls.crt", "tls.key") {
		s.report(at+".items", "takes the CA from keys that the operator does not read: name them ca.crt and ca.key in the Secret")
	}
}

// volume is the pod's only volume of this name, or nil.
func (t template) volume(name string) map[string]any {
	others := func(item any) bool { return name == "" || jsonpatch.Name(item) != name }
	if found := slices.DeleteFunc(slices.Clone(jsonpatch.List(t.pod["volumes"])), others); len(found) == 1 {
		return jsonpatch.Map(found[0])
	}
	return nil
}

// given reports whether the stanza gives this container TLS, and adds a finding where it does so in part.
func (s *stanza) given(c speaker, p pieces) bool {
	before := len(s.findings)
	count := 0
	for _, item := range jsonpatch.List(c.container["env"]) {
		wanted := p.env[jsonpatch.Name(item)]
		if wanted == nil {
			continue
		}
		count++
		if value := jsonpatch.String(jsonpatch.Map(item)["value"]); len(jsonpatch.Map(item)) != 2 || !slices.Contains(wanted, clean(value)) {
			s.report(fmt.Sprintf("%s.env[%s]", c.path, jsonpatch.Name(item)), "is not %s, as in the guide: take the TLS of this container out by hand", strings.Join(wanted, " or "))
		}
	}
	mounted := map[mount]bool{}
	for _, item := range jsonpatch.List(c.container["volumeMounts"]) {
		m, field, whole := readMount(c.path, item)
		if !p.volumes[m.volume] {
			continue
		}
		mounted[m] = true
		switch {
		case count == 0:
			s.report(field, "mounts a volume of the TLS stanza in a container that does not set %s: remove the mount, or what needs it", injection.EnvUseTLS)
		case m != p.ca && m != p.certs && m.volume != p.scripts, !whole:
			s.report(field, "mounts a volume of the TLS stanza elsewhere than the guide does: take the TLS of this container out by hand")
		}
	}
	switch {
	case len(s.findings) > before: // is enough for this container
	case count == 0 && c.ray:
		s.report(c.path+".env", "does not set %s, though an init container makes certificates: take the init container out, or set the guide's four variables", injection.EnvUseTLS)
	case count == 0:
		return false
	case count != len(p.env):
		s.report(c.path+".env", "sets %d of the guide's four variables: take the TLS of this container out by hand", count)
	case !mounted[p.certs]:
		s.report(c.path+".volumeMounts", "lacks the volume with the certificates at %s: take the TLS of this container out by hand", p.certs.path)
	}
	return len(s.findings) == before
}
