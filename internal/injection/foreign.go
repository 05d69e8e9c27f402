package injection

import (
	"fmt"
	"path"
	"slices"
	"strings"

	"github.com/raytls/raytls/internal/jsonpatch"
)

// Finding is a part of the spec that sets up TLS by other means, or uses a name or path of ours.
type Finding struct {
	// Field is a path such as spec.headGroupSpec.template.spec.containers[0].env[RAY_USE_TLS].
	Field string
	// Message says in one sentence what is wrong and what to do.
	Message string
}

// Ref names a ConfigMap or a Secret of the cluster's namespace.
type Ref struct {
	Kind string // ConfigMap or Secret
	Name string
}

// The kinds of Ref.
const (
	KindConfigMap = "ConfigMap"
	KindSecret    = "Secret"
)

const removeFirst = "remove it, or leave this cluster to the TLS it has"

// ForeignTLS lists what forbids an injection, in the order of the spec, and ignores our own pieces. lookup returns the keys
// of an object that an envFrom names. An object that it does not find is harmless, and a nil lookup finds none. additional
// names further containers that speak Ray.
func ForeignTLS(spec map[string]any, lookup func(kind, name string) (keys []string, found bool), additional ...string) []Finding {
	plain := withoutPieces(spec)
	var found []Finding
	report := func(field, format string, args ...any) {
		found = append(found, Finding{Field: field, Message: fmt.Sprintf(format, args...)})
	}
	if on, _ := jsonpatch.Map(plain["tlsOptions"])["enabled"].(bool); on {
		report("spec.tlsOptions.enabled", "is true: KubeRay's own TLS is in use; set it to false to hand the cluster over")
	}
	for _, t := range templatesOf(plain) {
		t.foreign(additional, lookup, report)
	}
	foreignOptions(plain, lookup, report)
	return found
}

func (t template) foreign(additional []string, lookup func(kind, name string) ([]string, bool), report func(string, string, ...any)) {
	var handMade []string
	for _, c := range t.targets(additional) {
		handMade = append(handMade, foreignEnv(c.path, c.container, lookup, report)...)
		foreignMounts(c.path, c.container, report)
	}
	if len(handMade) > 0 {
		t.foreignFiles(handMade, additional, report)
	}
	t.foreignNames(report)
}

// foreignOptions checks the variables even without an autoscaler, because a user may switch it on later.
func foreignOptions(plain map[string]any, lookup func(kind, name string) ([]string, bool), report func(string, string, ...any)) {
	options := jsonpatch.Map(plain["autoscalerOptions"])
	foreignEnv("spec.autoscalerOptions", options, lookup, report)
	if autoscaling(plain) {
		foreignMounts("spec.autoscalerOptions", options, report)
	}
}

// EnvFromRefs lists once each what ForeignTLS looks up for the same arguments.
func EnvFromRefs(spec map[string]any, additional ...string) []Ref {
	var refs []Ref
	seen := map[Ref]bool{}
	ForeignTLS(spec, func(kind, name string) ([]string, bool) {
		if ref := (Ref{Kind: kind, Name: name}); !seen[ref] {
			seen[ref] = true
			refs = append(refs, ref)
		}
		return nil, false
	}, additional...)
	return refs
}

// foreignEnv returns the files that the variables name, the last of each variable.
func foreignEnv(at string, container map[string]any, lookup func(kind, name string) ([]string, bool), report func(string, string, ...any)) (files []string) {
	off, value := SwitchedOff(container)
	last := map[string]string{}
	use := slices.ContainsFunc(jsonpatch.List(container["env"]), func(item any) bool { return jsonpatch.Name(item) == EnvUseTLS })
	for _, item := range jsonpatch.List(container["env"]) {
		name := jsonpatch.Name(item)
		if !slices.Contains(TLSVariables(), name) {
			continue
		}
		field := fmt.Sprintf("%s.env[%s]", at, name)
		switch {
		case off:
			report(field, "belongs to TLS that is off, because %s is %s: remove it, as all variables of Ray's TLS", EnvUseTLS, value)
			continue
		case !use:
			report(field, "is set, but %s is not, so TLS is off unless the image sets it: remove this variable", EnvUseTLS)
		default:
			report(field, "is set by somebody else: %s", removeFirst)
		}
		last[name] = jsonpatch.String(jsonpatch.Map(item)["value"])
	}
	for _, file := range last {
		if path.IsAbs(file) {
			files = append(files, path.Clean(file))
		}
	}
	if lookup == nil {
		return files
	}
	for i, item := range jsonpatch.List(container["envFrom"]) {
		source := jsonpatch.Map(item)
		prefix := jsonpatch.String(source["prefix"])
		for _, from := range []struct{ key, kind string }{{"configMapRef", KindConfigMap}, {"secretRef", KindSecret}} {
			name := jsonpatch.Name(source[from.key])
			if name == "" {
				continue
			}
			keys, found := lookup(from.kind, name)
			if found && slices.ContainsFunc(keys, func(key string) bool { return prefix+key == EnvUseTLS }) {
				report(fmt.Sprintf("%s.envFrom[%d].%s", at, i, from.key), "the %s %s sets %s: %s", from.kind, name, EnvUseTLS, removeFirst)
			}
		}
	}
	return files
}

// SwitchedOff reports whether a container's own variables say that its TLS is off, and the value that says so: every
// RAY_USE_TLS is a literal other than 1 and true.
func SwitchedOff(container map[string]any) (off bool, value string) {
	for _, item := range jsonpatch.List(container["env"]) {
		if jsonpatch.Name(item) != EnvUseTLS {
			continue
		}
		literal, isText := jsonpatch.Map(item)["value"].(string)
		if !isText || strings.EqualFold(literal, "true") || literal == "1" || strings.Contains(literal, "$") {
			return false, ""
		}
		off, value = true, fmt.Sprintf("%.16q", literal)
	}
	return off, value
}

// foreignFiles reports what goes together with the variables of hand-made TLS: the mounts with their files, the volumes, and the
// init containers that write these volumes, with what those mount besides.
func (t template) foreignFiles(files, additional []string, report func(string, string, ...any)) {
	volumes := map[string]bool{}
	for _, c := range t.targets(additional) {
		for _, item := range jsonpatch.List(c.container["volumeMounts"]) {
			mountPath := jsonpatch.String(jsonpatch.Map(item)["mountPath"])
			below := strings.TrimSuffix(path.Clean(mountPath), "/") + "/"
			if mountPath != "" && slices.ContainsFunc(files, func(file string) bool { return strings.HasPrefix(file, below) }) {
				volumes[jsonpatch.Name(item)] = true
				report(fmt.Sprintf("%s.volumeMounts[%s]", c.path, mountPath), "holds files of that TLS: remove it with the variables")
			}
		}
	}
	if len(volumes) == 0 {
		return
	}
	for i, item := range jsonpatch.List(t.pod["initContainers"]) {
		mounts := jsonpatch.List(jsonpatch.Map(item)["volumeMounts"])
		if !slices.ContainsFunc(mounts, func(m any) bool { return volumes[jsonpatch.Name(m)] }) {
			continue
		}
		report(t.field("initContainers[%d]", i), "makes or copies files of that TLS: remove it with the variables")
		for _, m := range mounts {
			volumes[jsonpatch.Name(m)] = true
		}
	}
	for i, item := range jsonpatch.List(t.pod["containers"]) {
		for _, m := range jsonpatch.List(jsonpatch.Map(item)["volumeMounts"]) {
			mountPath := jsonpatch.String(jsonpatch.Map(m)["mountPath"])
			below := strings.TrimSuffix(path.Clean(mountPath), "/") + "/"
			if volumes[jsonpatch.Name(m)] && !slices.ContainsFunc(files, func(file string) bool { return strings.HasPrefix(file, below) }) {
				report(t.field("containers[%d].volumeMounts[%s]", i, mountPath), "mounts a volume of that TLS, which may hold the CA's key: remove it with the variables, unless something else needs it")
			}
		}
	}
	for _, item := range jsonpatch.List(t.pod["volumes"]) {
		if name := jsonpatch.Name(item); volumes[name] {
			report(t.field("volumes[%s]", name), "holds files of that TLS: remove it with the variables, unless something else needs it")
		}
	}
}

// foreignMounts also refuses a mount below ours, for which the runtime would create a folder in a read-only volume, and a
// mount above, in which it would create ours.
func foreignMounts(at string, container map[string]any, report func(string, string, ...any)) {
	for _, item := range jsonpatch.List(container["volumeMounts"]) {
		mountPath, ok := jsonpatch.Map(item)["mountPath"].(string)
		if !ok {
			continue
		}
		clean := path.Clean("/" + mountPath)
		field := fmt.Sprintf("%s.volumeMounts[%s]", at, mountPath)
		switch {
		case clean == MountPath:
			report(field, "is the path where the certificates go: mount this volume elsewhere")
		case strings.HasPrefix(clean, MountPath+"/"):
			report(field, "is below %s, where the certificates go: mount this volume elsewhere", MountPath)
		case clean == "/" || strings.HasPrefix(MountPath, clean+"/"):
			report(field, "covers %s, where the certificates go: mount this volume elsewhere", MountPath)
		}
	}
}

// foreignNames reports somebody else's containers and volumes with our names.
func (t template) foreignNames(report func(string, string, ...any)) {
	for _, list := range containerLists() {
		for i, container := range jsonpatch.List(t.pod[list]) {
			if jsonpatch.Name(container) == InitContainerName {
				report(t.field("%s[%d].name", list, i), "%s is a name this operator uses: rename the container", InitContainerName)
			}
		}
	}
	for _, volume := range jsonpatch.List(t.pod["volumes"]) {
		if name := jsonpatch.Name(volume); strings.HasPrefix(name, reservedPrefix) {
			report(t.field("volumes[%s]", name), "names that start with %s belong to this operator: rename the volume", reservedPrefix)
		}
	}
}
