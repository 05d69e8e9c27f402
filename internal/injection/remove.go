package injection

import (
	"slices"
	"strings"

	"github.com/raytls/raytls/internal/jsonpatch"
)

// Remove gives a copy of the spec without any piece of ours in the scope's templates (and in autoscalerOptions, which go
// with the head). What Apply changed comes back exactly, and what others changed since stays. Malformed parts are left as
// they are. It fails with a *ConflictError where a newer operator's revision is found.
func Remove(spec map[string]any, scope Scope) (map[string]any, error) {
	out := jsonpatch.CopyMap(spec)
	for _, t := range templatesOf(out) {
		if !scope.has(t) {
			continue
		}
		if found := recordOf(t.pod); found != nil && found.Revision > Revision {
			return nil, newerRevision(t, found)
		}
		t.strip(out)
	}
	return out, nil
}

func newerRevision(t template, found *record) error {
	return conflict(t.field("initContainers[%s].env[%s]", InitContainerName, EnvInjection),
		"was written by a newer operator (revision %d, this one knows up to %d): upgrade the operator", found.Revision, Revision)
}

// withoutPieces is for looking only: it also strips what it can of a newer revision, which Remove must not write.
func withoutPieces(spec map[string]any) map[string]any {
	out := jsonpatch.CopyMap(spec)
	for _, t := range templatesOf(out) {
		t.strip(out)
	}
	return out
}

// AnyPiece reports whether any template, or autoscalerOptions, holds any piece of ours.
func AnyPiece(spec map[string]any) bool {
	return slices.ContainsFunc(templatesOf(spec), template.touched)
}

// ourVolume tells a volume of ours from a namesake.
func ourVolume(item any) bool {
	volume := jsonpatch.Map(item)
	switch jsonpatch.Name(item) {
	case CertsVolume:
		return jsonpatch.String(jsonpatch.Map(volume["emptyDir"])["medium"]) == "Memory"
	case IssuerVolume:
		return strings.HasPrefix(jsonpatch.String(jsonpatch.Map(volume["secret"])["secretName"]), reservedPrefix)
	case ScriptsVolume:
		return strings.HasPrefix(jsonpatch.Name(volume["configMap"]), reservedPrefix)
	}
	return false
}

func ourVolumeName(name string) bool {
	return name == CertsVolume || name == IssuerVolume || name == ScriptsVolume
}

// foreignVolumes are the names of ours that somebody else's volume holds. Where our init container is, none is foreign.
func (t template) foreignVolumes() map[string]bool {
	foreign := map[string]bool{}
	if recordOf(t.pod) != nil {
		return foreign
	}
	for _, item := range jsonpatch.List(t.pod["volumes"]) {
		if name := jsonpatch.Name(item); ourVolumeName(name) && !ourVolume(item) {
			foreign[name] = true
		}
	}
	return foreign
}

// ourMount tells a mount of a volume of ours; one whose volume is gone counts, since nobody else's can be meant.
func ourMount(item any, foreign map[string]bool) bool {
	name := jsonpatch.Name(item)
	return ourVolumeName(name) && !foreign[name]
}

func mountsOurs(container any, foreign map[string]bool) bool {
	return slices.ContainsFunc(jsonpatch.List(jsonpatch.Map(container)["volumeMounts"]), func(item any) bool { return ourMount(item, foreign) })
}

// touched reports whether the template holds a piece that can only be ours. The four variables alone do not count: a
// hand-made setup uses the same values.
func (t template) touched() bool {
	if recordOf(t.pod) != nil {
		return true
	}
	foreign := t.foreignVolumes()
	if slices.ContainsFunc(jsonpatch.List(t.pod["volumes"]), ourVolume) {
		return true
	}
	for _, list := range containerLists() {
		if slices.ContainsFunc(jsonpatch.List(t.pod[list]), func(c any) bool { return mountsOurs(c, foreign) }) {
			return true
		}
	}
	return mountsOurs(t.options, foreign)
}

// ourEnv tells an entry of a Ray container that is exactly what Apply writes.
func ourEnv(item any) bool {
	return slices.ContainsFunc(rayEnv(), func(ours any) bool { return jsonpatch.Equal(item, ours) })
}

// strip removes every piece of ours from the template, and for the head from root's autoscalerOptions.
func (t template) strip(root map[string]any) {
	if !t.touched() {
		return
	}
	found := recordOf(t.pod)
	foreign := t.foreignVolumes()
	anyMount := slices.ContainsFunc(jsonpatch.List(t.pod["containers"]), func(c any) bool { return mountsOurs(c, foreign) })

	filter(t.pod, "initContainers", found.was("initContainers"), func(c any) bool { return jsonpatch.Name(c) == InitContainerName })
	filter(t.pod, "volumes", found.was("volumes"), func(v any) bool { return ourVolumeName(jsonpatch.Name(v)) && !foreign[jsonpatch.Name(v)] })

	for _, list := range containerLists() {
		for i, item := range jsonpatch.List(t.pod[list]) {
			container := jsonpatch.Map(item)
			name := jsonpatch.Name(item)
			// Without a mount of ours anywhere, the variables can still be ours in the Ray container, and where the
			// record says so.
			injected := mountsOurs(container, foreign) || found.additional(name) || (list == "containers" && i == 0 && !anyMount)
			if container == nil || !injected {
				continue
			}
			stripContainer(container, foreign, found.was(containerKey(list, name, "env")), found.was(containerKey(list, name, "volumeMounts")))
		}
	}

	if len(t.options) == 0 {
		return
	}
	stripContainer(t.options, foreign, found.was("autoscalerOptions/env"), found.was("autoscalerOptions/volumeMounts"))
	if len(t.options) > 0 {
		return
	}
	switch found.was("autoscalerOptions") {
	case wasEmpty:
	case wasNull:
		root["autoscalerOptions"] = nil
	default:
		delete(root, "autoscalerOptions")
	}
}

func (r *record) additional(name string) bool {
	return r != nil && slices.Contains(r.Parameters.AdditionalContainers, name)
}

// stripContainer takes the variables and mounts out of a container, or of autoscalerOptions, which has the same fields.
func stripContainer(container map[string]any, foreign map[string]bool, wasEnv, wasMounts string) {
	filter(container, "env", wasEnv, ourEnv)
	filter(container, "volumeMounts", wasMounts, func(m any) bool { return ourMount(m, foreign) })
}

// filter drops elements of a list and, when the last one goes, puts the parent back to what it was.
func filter(parent map[string]any, key, was string, drop func(any) bool) {
	list := jsonpatch.List(parent[key])
	if !slices.ContainsFunc(list, drop) {
		return
	}
	kept := slices.DeleteFunc(slices.Clone(list), drop)
	switch {
	case len(kept) > 0 || was == wasEmpty:
		parent[key] = kept
	case was == wasNull:
		parent[key] = nil
	default:
		delete(parent, key)
	}
}
