package injection

import (
	"cmp"
	"crypto/sha256"
	"encoding/hex"
	"slices"

	"github.com/raytls/raytls/internal/jsonpatch"
)

// State says how much of an injection a template carries.
type State string

// The states of a template.
const (
	// None: no piece of ours.
	None State = "none"
	// Partial: some pieces, or not those that the recorded parameters render for what the template is now.
	Partial State = "partial"
	// Injected: what Apply renders with the recorded parameters. Where in env, volumeMounts and volumes our entries
	// stand does not count, nor does a user's init container before ours unless it speaks Ray: neither changes what
	// runs, and putting it right would cost a restart.
	Injected State = "injected"
)

// Template is what Inspect says of one pod template.
type Template struct {
	Kind Kind
	// Group is the worker group's name, empty for the head.
	Group string
	// Path is such as spec.workerGroupSpecs[0].template.
	Path  string
	State State
	// Stripped reports whether what Apply puts into every template is not all there: the init container with its record, the
	// volumes, or the Ray container's variables and mount. A template that is merely out of date is not stripped.
	Stripped bool
	// Revision as recorded, 0 where nothing is; it can be newer than this package's.
	Revision int
	// Parameters as recorded, nil where nothing is (or in a newer revision's words). They come from the object, so
	// whoever can write the object chooses them.
	Parameters *Parameters
	// CanaryKey is a hash of what decides whether the init container works here: its image and the security context in
	// force, the pod's and its own. Of a template that is not injected it is what Parameters{} would give.
	CanaryKey string
}

// Inspect describes every template of the spec, head first.
func Inspect(spec map[string]any, clusterName string) []Template {
	plain := withoutPieces(spec)
	stripped := templatesOf(plain)
	var described []Template
	for i, t := range templatesOf(spec) {
		description := Template{Kind: t.kind, Group: t.group, Path: t.path, State: None}
		var parameters Parameters
		found := recordOf(t.pod)
		if found != nil {
			description.Revision = found.Revision
			if found.Revision <= Revision {
				parameters = found.Parameters
				description.Parameters = &found.Parameters
			}
		}
		description.Stripped = t.stripped(found)
		description.CanaryKey = t.canaryKey(parameters)
		if t.touched() {
			description.State = Partial
			if found != nil && stripped[i].rendersAs(t, plain, clusterName, found) {
				description.State = Injected
			}
		}
		described = append(described, description)
	}
	return described
}

// rendersAs injects what is recorded into a stripped template and tells whether that gives what the template is now.
func (t template) rendersAs(now template, plain map[string]any, clusterName string, r *record) bool {
	o, err := Options{ClusterName: clusterName, Revision: r.Revision, Parameters: r.Parameters}.rendering()
	if err != nil {
		return false
	}
	if t.checkShape() != nil || (t.kind == Head && checkOptionsShape(plain) != nil) || t.checkTargets(o.Parameters) != nil {
		return false
	}
	if t.blocked(plain, o.Parameters) || t.checkUsers(plain, o.Parameters) != nil {
		return false
	}
	t.inject(plain, o)
	if !jsonpatch.Equal(now.orderless(r), t.orderless(r)) {
		return false
	}
	return t.kind != Head || jsonpatch.Equal(orderlessContainer(now.options), orderlessContainer(jsonpatch.Map(plain["autoscalerOptions"])))
}

// blocked reports whether somebody else's TLS is in this very template, or in autoscalerOptions if it is the head's.
func (t template) blocked(plain map[string]any, p Parameters) bool {
	found := false
	report := func(string, string, ...any) { found = true }
	t.foreign(p.AdditionalContainers, nil, report)
	if t.kind == Head {
		foreignOptions(plain, nil, report)
	}
	return found
}

// orderless copies the pod spec with those lists sorted in which the place of our entries means nothing.
func (t template) orderless(r *record) map[string]any {
	pod := jsonpatch.CopyMap(t.pod)
	sortByName(pod, "volumes")
	for _, list := range containerLists() {
		for i, container := range jsonpatch.List(pod[list]) {
			if jsonpatch.Map(container) != nil {
				jsonpatch.List(pod[list])[i] = orderlessContainer(jsonpatch.Map(container))
			}
		}
	}
	inits := jsonpatch.List(pod["initContainers"])
	ours := slices.IndexFunc(inits, func(c any) bool { return jsonpatch.Name(c) == InitContainerName })
	if ours > 0 && !slices.ContainsFunc(inits[:ours], func(c any) bool { return r.additional(jsonpatch.Name(c)) }) {
		pod["initContainers"] = slices.Concat(inits[ours:ours+1], inits[:ours], inits[ours+1:])
	}
	return pod
}

func orderlessContainer(container map[string]any) map[string]any {
	copied := jsonpatch.CopyMap(container)
	sortByName(copied, "env")
	sortByName(copied, "volumeMounts")
	return copied
}

// sortByName is stable, so that namesakes keep their order: the last of them counts.
func sortByName(parent map[string]any, key string) {
	slices.SortStableFunc(jsonpatch.List(parent[key]), func(a, b any) int { return cmp.Compare(jsonpatch.Name(a), jsonpatch.Name(b)) })
}

func (t template) stripped(r *record) bool {
	if r == nil {
		return true
	}
	has := func(parent map[string]any, key, name string) bool {
		return slices.ContainsFunc(jsonpatch.List(parent[key]), func(item any) bool { return jsonpatch.Name(item) == name })
	}
	ray := map[string]any{}
	if containers := jsonpatch.List(t.pod["containers"]); len(containers) > 0 && jsonpatch.Map(containers[0]) != nil {
		ray = jsonpatch.Map(containers[0])
	}
	return !has(t.pod, "volumes", CertsVolume) || !has(t.pod, "volumes", IssuerVolume) || !has(ray, "volumeMounts", CertsVolume) ||
		slices.ContainsFunc(rayEnvNames(), func(name string) bool { return !has(ray, "env", name) })
}

func (t template) canaryKey(p Parameters) string {
	ray := map[string]any{}
	if containers := jsonpatch.List(t.pod["containers"]); len(containers) > 0 && jsonpatch.Map(containers[0]) != nil {
		ray = jsonpatch.Map(containers[0])
	}
	image, _ := initImage(ray, p)
	return shortHash([]any{image, t.pod["securityContext"], securityContext(ray)})
}

// Hash identifies what an enabling was tried with: every template without our pieces, autoscalerOptions, and the
// parameters. Replicas, limits of scale and suspension do not count. 16 hexadecimal digits.
func Hash(spec map[string]any, p Parameters) string {
	plain := withoutPieces(spec)
	groups := []any{}
	for _, item := range jsonpatch.List(plain["workerGroupSpecs"]) {
		groups = append(groups, []any{jsonpatch.Map(item)["groupName"], jsonpatch.Map(item)["template"]})
	}
	return shortHash([]any{
		jsonpatch.Map(plain["headGroupSpec"])["template"], groups, autoscaling(plain), plain["autoscalerOptions"], string(p.canonical()),
	})
}

func shortHash(v any) string {
	sum := sha256.Sum256(canonicalJSON(jsonpatch.Canonical(v)))
	return hex.EncodeToString(sum[:8])
}
