package migration

import (
	"fmt"
	"regexp"
	"slices"
	"strings"

	"github.com/raytls/raytls/internal/injection"
	"github.com/raytls/raytls/internal/jsonpatch"
	"github.com/raytls/raytls/internal/manifest"
)

const headScript, workerScript = "gencert_head.sh", "gencert_worker.sh"

// headNames are the head's names that the script adds to those which every head has.
type headNames struct {
	dns   []string
	short bool
}

// maxHeadNames is the policy's bound.
const maxHeadNames = 32

// headNames reads them from the ConfigMaps that are in the input.
func (m *migration) headNames(near *manifest.Object, s *stanza) headNames {
	var names headNames
	found := 0
	for _, o := range m.objects {
		if !o.Is("", injection.KindConfigMap) || !slices.Contains(s.configMaps, o.GetName()) || !o.Near(near) {
			continue
		}
		found++
		script, there := jsonpatch.Map(o.Object["data"])[headScript].(string)
		if !there {
			m.notef("%s: it has no text %s, so the names that this gives the head are not known. Add them to the policy's podCertificate.headDNSNames.", o, headScript)
			continue
		}
		for _, name := range alternatives(script) {
			if !names.add(name) {
				m.notef("%s: %s puts %q into the head's certificate, which has no counterpart in a policy. If clients use it, see podCertificate.headDNSNames.", o, headScript, name)
			}
		}
		if line := notUnderstood(script); line != "" {
			m.notef("%s: %s sets the names of the head's certificate in a way that is not understood: %q. Look for names that clients use, and add them to the policy's podCertificate.headDNSNames.", o, headScript, line)
		}
		for _, name := range alternatives(jsonpatch.String(jsonpatch.Map(o.Object["data"])[workerScript])) {
			if !(&headNames{}).addsNothing(name) {
				m.notef("%s: %s puts %q into the workers' certificates. The operator's hold a worker's own addresses alone.", o, workerScript, name)
			}
		}
	}
	if found < len(s.configMaps) || len(s.configMaps) == 0 {
		m.notef("%s: the scripts are not in the input. If they give the head other names than localhost and $FQ_RAY_IP, add them to the policy's podCertificate.headDNSNames.", near)
	}
	slices.Sort(names.dns)
	names.dns = slices.Compact(names.dns)
	return names
}

// alternatives lists the subjectAltNames in a script, in all forms that openssl reads: a section, one line with commas, an
// argument of -addext, inside of echo and printf.
func alternatives(script string) []string {
	var found []string
	pattern := regexp.MustCompile(`(?:^|[^A-Za-z0-9_${]|\\[nrt])(?:DNS|IP)(?:\.[0-9]+)?[ \t]*[=:][ \t]*([^\s,;"'\\]+)`)
	for rest := script; ; {
		match := pattern.FindStringSubmatchIndex(rest)
		if match == nil {
			return found
		}
		if name := rest[match[2]:match[3]]; !slices.Contains(found, name) {
			found = append(found, name)
		}
		rest = rest[match[3]:]
	}
}

// notUnderstood is a line that sets subjectAltName from something that alternatives does not read; empty if there is none.
func notUnderstood(script string) string {
	known := regexp.MustCompile(`subjectAltName["']?[ \t]*=[ \t]*(?:critical,[ \t]*)?(?:@|DNS:|IP:)`)
	for line := range strings.Lines(script) {
		line = strings.TrimSpace(line)
		if strings.Contains(line, "subjectAltName") && !strings.HasPrefix(line, "#") && !known.MatchString(line) {
			return line
		}
	}
	return ""
}

// addsNothing reports whether a name is one that every certificate of the guide has.
func (n *headNames) addsNothing(name string) bool {
	return n.add(name) && !n.short && len(n.dns) == 0
}

// add reports whether the policy can give the head this name, and adds it if the policy has to.
func (n *headNames) add(name string) bool {
	switch name {
	case "localhost", "127.0.0.1", "::1", "$FQ_RAY_IP", "${FQ_RAY_IP}", "$POD_IP", "${POD_IP}":
		return true
	case "$RAY_IP", "${RAY_IP}":
		n.short = true
		return true
	}
	valid := regexp.MustCompile(`^([a-z0-9]([-a-z0-9]{0,61}[a-z0-9])?\.)*[a-z]([-a-z0-9]{0,61}[a-z0-9])?$`)
	if len(name) > 253 || !valid.MatchString(name) || len(n.dns) == maxHeadNames {
		return false
	}
	n.dns = append(n.dns, name)
	return true
}

// dropConfigMaps takes out the scripts that no object of the output uses any more.
func (m *migration) dropConfigMaps(documents []*manifest.Document) []*manifest.Document {
	for _, o := range m.objects {
		if !m.isScripts(o) {
			continue
		}
		if others := m.usersOf(o); len(others) > 0 {
			m.notef("%s: it is kept, because %s uses it.", o, others[0])
			continue
		}
		if keys := slices.DeleteFunc(sortedKeys(jsonpatch.Map(o.Object["data"])), func(key string) bool { return key == headScript || key == workerScript }); len(keys) > 0 || o.Object["binaryData"] != nil {
			m.notef("%s: it is kept, because it holds more than the scripts.", o)
			continue
		}
		m.notef("%s: it is left out, because the operator brings scripts of its own. Delete it when all pods have been restarted.", o)
		for _, d := range documents {
			d.Objects = slices.DeleteFunc(d.Objects, func(other *manifest.Object) bool { return other == o })
		}
	}
	return slices.DeleteFunc(slices.Clone(documents), func(d *manifest.Document) bool { return d.Lonely() && len(d.Objects) == 0 })
}

func (m *migration) isScripts(o *manifest.Object) bool {
	return m.isOf(o, injection.KindConfigMap, func(s *stanza) bool { return slices.Contains(s.configMaps, o.GetName()) })
}

// usersOf lists who refers to a ConfigMap, in a volume or an environment.
func (m *migration) usersOf(configMap *manifest.Object) []string {
	var users []string
	for _, o := range m.objects {
		if o == configMap || !o.Near(configMap) {
			continue
		}
		walk("", o.Object, func(at string, object map[string]any) {
			for _, key := range []string{"configMap", "configMapRef", "configMapKeyRef"} {
				if jsonpatch.Name(object[key]) == configMap.GetName() {
					users = append(users, fmt.Sprintf("%s of %s", join(at, key), o))
				}
			}
		})
	}
	return users
}
