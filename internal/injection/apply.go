package injection

import (
	"slices"
	"strings"

	"github.com/raytls/raytls/internal/jsonpatch"
)

// Apply returns a copy of the spec in which the scope's templates carry the injection, whatever they carried of ours before.
// With enableInTreeAutoscaling, autoscalerOptions go with the head. A conflict anywhere in the spec refuses the whole: after
// a canary's success, the operator must be able to inject the rest. It fails with a *ConflictError if the user must act.
func Apply(spec map[string]any, options Options, scope Scope) (map[string]any, error) {
	plain, err := Remove(spec, All())
	if err != nil {
		return nil, err
	}
	if err := checkShape(plain); err != nil {
		return nil, err
	}
	if err := checkNames(plain, options.Parameters); err != nil {
		return nil, err
	}
	return apply(spec, plain, options, scope)
}

// apply is Apply for a spec whose plain form is known. Additional containers may be missing.
func apply(spec, plain map[string]any, options Options, scope Scope) (map[string]any, error) {
	o, err := options.rendering()
	if err != nil {
		return nil, err
	}
	if err := check(plain, o.Parameters); err != nil {
		return nil, err
	}
	out := plain
	if !scope.All {
		if out, err = Remove(spec, scope); err != nil {
			return nil, err
		}
	}
	for _, t := range templatesOf(out) {
		if scope.has(t) {
			t.inject(out, o)
		}
	}
	return out, nil
}

// check returns the first conflict in a spec without our pieces.
func check(plain map[string]any, p Parameters) error {
	if p.ScriptsPath != "" && !strings.HasPrefix(p.ScriptsPath, "/") {
		return conflict("spec.issuance.initContainer.scriptsPath", "must be an absolute path, not %q", p.ScriptsPath)
	}
	if len(p.AdditionalContainers) > MaxAdditionalContainers {
		return conflict("spec.additionalContainers", "has %d names, of which at most %d can be injected: use fewer", len(p.AdditionalContainers), MaxAdditionalContainers)
	}
	if err := checkShape(plain); err != nil {
		return err
	}
	templates := templatesOf(plain)
	for _, t := range templates {
		if err := t.checkTargets(p); err != nil {
			return err
		}
	}
	if findings := ForeignTLS(plain, nil, p.AdditionalContainers...); len(findings) > 0 {
		return conflict(findings[0].Field, "%s", findings[0].Message)
	}
	for _, t := range templates {
		if err := t.checkUsers(plain, p); err != nil {
			return err
		}
		if err := t.checkRecord(plain, p); err != nil {
			return err
		}
	}
	return nil
}

// checkRecord refuses an injection whose record would be too large to be read again.
func (t template) checkRecord(plain map[string]any, p Parameters) error {
	if len(t.newRecord(plain, Revision, p).encode()) <= MaxRecord {
		return nil
	}
	return conflict(t.field("containers"), "the operator would have to remember more than %d bytes to take the injection out again: name fewer containers in additionalContainers, or leave out their empty env and volumeMounts", MaxRecord)
}

// checkNames refuses additional containers that no template has: a misspelt name would leave a container in plaintext.
func checkNames(plain map[string]any, p Parameters) error {
	templates := templatesOf(plain)
	for _, name := range p.AdditionalContainers {
		if !slices.ContainsFunc(templates, func(t template) bool { return t.containersNamed(name) > 0 }) {
			return conflict("spec.additionalContainers", "no template has a container named %q: correct the name or leave it out", name)
		}
	}
	return nil
}

// newRecord is that of a template that holds no piece of ours.
func (t template) newRecord(root map[string]any, revision int, p Parameters) record {
	r := record{Revision: revision, Parameters: p}
	r.note("initContainers", t.pod, "initContainers")
	r.note("volumes", t.pod, "volumes")
	for _, target := range t.targets(p.AdditionalContainers) {
		r.note(containerKey(target.list, target.name, "env"), target.container, "env")
		r.note(containerKey(target.list, target.name, "volumeMounts"), target.container, "volumeMounts")
	}
	if t.kind == Head && autoscaling(root) {
		r.note("autoscalerOptions", root, "autoscalerOptions")
		options := jsonpatch.Map(root["autoscalerOptions"])
		r.note("autoscalerOptions/env", options, "env")
		r.note("autoscalerOptions/volumeMounts", options, "volumeMounts")
	}
	return r
}

// inject adds our pieces to a template that passed check and holds none.
func (t template) inject(root map[string]any, o rendering) {
	r := t.newRecord(root, o.Revision, o.Parameters)
	for _, target := range t.targets(o.Parameters.AdditionalContainers) {
		addRayPieces(target.container)
	}
	if t.kind == Head && autoscaling(root) {
		options := jsonpatch.Map(root["autoscalerOptions"])
		if options == nil {
			options = map[string]any{}
			root["autoscalerOptions"] = options
		}
		addRayPieces(options)
	}

	add(t.pod, "volumes", volumes(o)...)
	t.pod["initContainers"] = slices.Concat([]any{initContainer(t.kind, t.ray(), o, r)}, jsonpatch.List(t.pod["initContainers"]))
}

func addRayPieces(container map[string]any) {
	add(container, "env", rayEnv()...)
	add(container, "volumeMounts", rayMount())
}

func add(parent map[string]any, key string, items ...any) {
	parent[key] = slices.Concat(jsonpatch.List(parent[key]), items)
}

func autoscaling(spec map[string]any) bool {
	on, _ := spec["enableInTreeAutoscaling"].(bool)
	return on
}

// target is a container that speaks Ray's gRPC.
type target struct {
	list, name, path string
	container        map[string]any
}

// targets returns the Ray container and then the additional containers of this template.
func (t template) targets(additional []string) []target {
	var found []target
	for _, list := range containerLists() {
		for i, item := range jsonpatch.List(t.pod[list]) {
			container, name := jsonpatch.Map(item), jsonpatch.Name(item)
			ray := list == "containers" && i == 0
			if container != nil && (ray || slices.Contains(additional, name)) {
				found = append(found, target{list: list, name: name, path: t.field("%s[%d]", list, i), container: container})
			}
		}
	}
	return found
}
