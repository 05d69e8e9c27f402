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
	for _, c := range t.targets(additional) {
		foreignEnv(c.path, c.container, lookup, report)
		foreignMounts(c.path, c.container, report)
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
	ForeignTLS(spec, func(kind, name string) ([]string, bool) {
		if ref := (Ref{Kind: kind, Name: name}); !slices.Contains(refs, ref) {
			refs = append(refs, ref)
		}
		return nil, false
	}, additional...)
	return refs
}

func foreignEnv(at string, container map[string]any, lookup func(kind, name string) ([]string, bool), report func(string, string, ...any)) {
	for _, item := range jsonpatch.List(container["env"]) {
		if name := jsonpatch.Name(item); slices.Contains(rayEnvNames(), name) {
			report(fmt.Sprintf("%s.env[%s]", at, name), "is set by somebody else: %s", removeFirst)
		}
	}
	if lookup == nil {
		return
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
