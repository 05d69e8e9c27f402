package injection

import (
	"slices"
	"strings"

	"github.com/raytls/raytls/internal/jsonpatch"
)

// Remove returns a copy of the spec without our pieces in the scope's templates. autoscalerOptions go with the head. It
// restores exactly what Apply changed, and keeps later changes of others and malformed parts. It fails with a
// *ConflictError if a newer operator made the injection.
func Remove(spec map[string]any, scope Scope) (map[string]any, error) {
	out := jsonpatch.CopyMap(spec)
	for _, t := range templatesOf(out) {
		if !scope.has(t) {
			continue
		}
		if found := t.record; found != nil && found.Revision > Revision {
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

// withoutPieces also strips a newer revision as far as it can. Its result is for comparisons, and is not to be changed: it is the
// spec itself if that holds no piece.
func withoutPieces(spec map[string]any) map[string]any {
	if !AnyPiece(spec) {
		return spec
	}
	out := jsonpatch.CopyMap(spec)
	for _, t := range templatesOf(out) {
		t.strip(out)
	}
	return out
}

// AnyPiece reports whether a template or autoscalerOptions holds a piece of ours.
func AnyPiece(spec map[string]any) bool {
	return slices.ContainsFunc(templatesOf(spec), template.touched)
}

// ourVolume reports whether a volume is ours and no namesake.
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

// foreignVolumes returns our names that somebody else's volumes hold. Beside our init container, no volume is foreign.
func (t template) foreignVolumes() map[string]bool {
	foreign := map[string]bool{}
	if t.record != nil {
		return foreign
	}
	for _, item := range jsonpatch.List(t.pod["volumes"]) {
		if name := jsonpatch.Name(item); ourVolumeName(name) && !ourVolume(item) {
			foreign[name] = true
		}
	}
	return foreign
}

// ourMount reports whether a mount is of our volume. If the volume is gone, the mount's name is enough.
func ourMount(item any, foreign map[string]bool) bool {
	name := jsonpatch.Name(item)
	return ourVolumeName(name) && !foreign[name]
}

func mountsOurs(container any, foreign map[string]bool) bool {
	return slices.ContainsFunc(jsonpatch.List(jsonpatch.Map(container)["volumeMounts"]), func(item any) bool { return ourMount(item, foreign) })
}

// touched reports whether the template holds a piece that can only be ours. The four variables do not count, because a
// hand-made setup uses the same values.
func (t template) touched() bool {
	if t.record != nil || slices.ContainsFunc(jsonpatch.List(t.pod["volumes"]), ourVolume) {
		return true
	}
	foreign := t.foreignVolumes()
	return mountsOurs(t.options, foreign) || slices.ContainsFunc(t.containers(), func(c any) bool { return mountsOurs(c, foreign) })
}

// ourEnv reports whether a variable is exactly as Apply writes it.
func ourEnv(item any) bool {
	return slices.Contains(TLSVariables(), jsonpatch.Name(item)) && slices.ContainsFunc(rayEnv(), func(ours any) bool { return jsonpatch.Equal(item, ours) })
}

// strip removes every piece of ours from the template, and for the head from root's autoscalerOptions.
func (t template) strip(root map[string]any) {
	if !t.touched() {
		return
	}
	found := t.record
	foreign := t.foreignVolumes()
	anyMount := slices.ContainsFunc(jsonpatch.List(t.pod["containers"]), func(c any) bool { return mountsOurs(c, foreign) })

	filter(t.pod, "initContainers", found.was("initContainers"), func(c any) bool { return jsonpatch.Name(c) == InitContainerName })
	filter(t.pod, "volumes", found.was("volumes"), func(v any) bool { return ourVolumeName(jsonpatch.Name(v)) && !foreign[jsonpatch.Name(v)] })

	for _, list := range containerLists() {
		for i, item := range jsonpatch.List(t.pod[list]) {
			container := jsonpatch.Map(item)
			name := jsonpatch.Name(item)
			// If the mount is gone, the variables can still be ours in the Ray container and in recorded containers.
			injected := mountsOurs(container, foreign) || found.additional(name) || (list == "containers" && i == 0 && !anyMount)
			if container != nil && injected {
				stripContainer(container, foreign, found.was(containerKey(list, name, "env")), found.was(containerKey(list, name, "volumeMounts")))
			}
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

// stripContainer takes our variables and mounts out of a container or of autoscalerOptions.
func stripContainer(container map[string]any, foreign map[string]bool, wasEnv, wasMounts string) {
	filter(container, "env", wasEnv, ourEnv)
	filter(container, "volumeMounts", wasMounts, func(m any) bool { return ourMount(m, foreign) })
}

// filter drops elements of a list. When the last one goes, it restores the parent's earlier state.
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
