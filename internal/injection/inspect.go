package injection

import (
	"cmp"
	"crypto/sha256"
	"encoding/hex"
	"slices"

	"github.com/raytls/raytls/internal/jsonpatch"
)

// State is how much of an injection a template carries.
type State string

// The states of a template.
const (
	// None: the template holds no piece of ours.
	None State = "none"
	// Partial: the template holds pieces, but not exactly those that the recorded parameters render for it.
	Partial State = "partial"
	// Injected: the template holds what Apply renders with the recorded parameters. The order in env, volumeMounts and
	// volumes does not count, nor does an init container before ours that does not speak Ray. Neither changes what runs,
	// and correcting it would cost a restart.
	Injected State = "injected"
)

// Template describes one pod template.
type Template struct {
	Kind Kind
	// Group is the worker group's name, empty for the head.
	Group string
	// Path is such as spec.workerGroupSpecs[0].template.
	Path  string
	State State
	// Stripped reports whether something is missing that Apply adds to every template: the init container with its record,
	// the volumes, or the Ray container's variables, with their values, and mount. An outdated template is not stripped.
	Stripped bool
	// RayContainer is the name of the Ray container.
	RayContainer string
	// Revision is the recorded one, 0 without a record. It can be newer than this package's.
	Revision int
	// Parameters are the recorded ones, nil without a record and in a newer revision. Whoever can write the object chooses
	// them.
	Parameters *Parameters
	// CanaryKey is a hash of what decides whether the init container works: its image, the pod's security context and its
	// own. For a template without the injection, it is that of Parameters{}.
	CanaryKey string
}

// Inspect describes every template of the spec, head first.
func Inspect(spec map[string]any, clusterName string) []Template {
	plain := withoutPieces(spec) // changed below, where spec holds a piece and plain is a copy
	stripped := templatesOf(plain)
	var described []Template
	for i, t := range templatesOf(spec) {
		found := t.record
		description := Template{Kind: t.kind, Group: t.group, Path: t.path, State: None, Stripped: t.stripped(found), RayContainer: jsonpatch.Name(t.ray())}
		var parameters Parameters
		if found != nil {
			description.Revision, parameters = found.Revision, found.Parameters
			if found.Revision <= Revision {
				description.Parameters = &found.Parameters
			}
		}
		image, _ := initImage(t.ray(), parameters)
		description.CanaryKey = shortHash([]any{image, t.pod["securityContext"], securityContext(t.ray())})
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

// rendersAs injects by the record into a stripped template and reports whether that gives the present template.
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

// orderless copies the pod spec and sorts the lists in which the place of our entries means nothing.
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

// sortByName is stable, because the last of several namesakes counts.
func sortByName(parent map[string]any, key string) {
	slices.SortStableFunc(jsonpatch.List(parent[key]), func(a, b any) int { return cmp.Compare(jsonpatch.Name(a), jsonpatch.Name(b)) })
}

// lastNamed finds the last of the namesakes in a list, which is the one that counts; nil if there is none.
func lastNamed(parent map[string]any, key, name string) any {
	for _, item := range slices.Backward(jsonpatch.List(parent[key])) {
		if jsonpatch.Name(item) == name {
			return item
		}
	}
	return nil
}

func (t template) stripped(r *record) bool {
	if r == nil {
		return true
	}
	has := func(parent map[string]any, key, name string) bool {
		return slices.ContainsFunc(jsonpatch.List(parent[key]), func(item any) bool { return jsonpatch.Name(item) == name })
	}
	return !has(t.pod, "volumes", CertsVolume) || !has(t.pod, "volumes", IssuerVolume) || !has(t.ray(), "volumeMounts", CertsVolume) ||
		slices.ContainsFunc(rayEnv(), func(item any) bool { return !jsonpatch.Equal(lastNamed(t.ray(), "env", jsonpatch.Name(item)), item) })
}

// Hash returns 16 hexadecimal digits that identify an attempt to enable TLS. They cover every template without our pieces,
// autoscalerOptions and the parameters, but neither replicas nor suspension, nor which authorities are revoked.
func Hash(spec map[string]any, p Parameters) string {
	p.RevokedBefore = 0
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
