package injection

import (
	"encoding/json"
	"fmt"
	"maps"
	"slices"
	"strings"

	"github.com/raytls/raytls/internal/jsonpatch"
)

// Carried is the result of Carry.
type Carried struct {
	// Spec is the spec to store. It is the update's own if nothing needs a change.
	Spec map[string]any
	// Left are the paths of plain templates to which the update added pieces of the injection. Spec is without these
	// pieces, because a template that is injected alone breaks a running cluster.
	Left []string
	// Renamed are the paths of templates in which the update mounts another CA Secret of the cluster than Spec does.
	Renamed []string
}

// CarryOptions describe the cluster of an update.
type CarryOptions struct {
	// ClusterName is the RayCluster's metadata.name.
	ClusterName string
	// RevokedBefore is the number of the cluster's CA Secret, as SecretNameSince takes it. Nil keeps the one that each template has.
	RevokedBefore *int64
	// Lenient keeps the pieces that the update adds to a plain template.
	Lenient bool
}

// Carry returns the spec of an update with the injection that the cluster's old spec carried. A template that the update
// changes keeps its injection, with the recorded revision and parameters, or stays plain. A new worker group follows the
// head. Pieces that only moved are stored in their old place. It fails with a *ConflictError if a changed template cannot
// carry its injection.
func Carry(old, updated map[string]any, o CarryOptions) (Carried, error) {
	for _, spec := range []map[string]any{old, updated} {
		if err := CheckSize(spec); err != nil {
			return Carried{}, err
		}
	}
	plans, strip, err := carryPlans(old, updated, o.Lenient)
	if err != nil {
		return Carried{}, err
	}
	out := Carried{Spec: updated}
	for _, t := range strip {
		out.Left = append(out.Left, t.path)
	}
	if len(strip) > 0 {
		if out.Spec, err = Remove(updated, scopeOf(strip)); err != nil {
			return Carried{}, err
		}
	}
	if len(plans) == 0 {
		return out, nil
	}
	// Each plan's injection comes out again as if it had never been in, so the plain spec is that of all plans.
	plain, err := Remove(out.Spec, All())
	if err != nil {
		return Carried{}, err
	}
	for _, p := range plans {
		options := Options{ClusterName: o.ClusterName, Revision: p.record.Revision, Parameters: p.record.Parameters}
		if o.RevokedBefore != nil {
			options.Parameters.RevokedBefore = *o.RevokedBefore
		}
		if out.Spec, err = apply(out.Spec, plain, options, scopeOf(p.templates)); err != nil {
			return Carried{}, err
		}
	}
	out.Spec = keepOrder(old, updated, out.Spec)
	out.Renamed = Renamed(updated, out.Spec)
	return out, nil
}

// Renamed returns the paths of the templates that mount a CA Secret in both specs, and not the same one.
func Renamed(before, after map[string]any) []string {
	was := templatesOf(before)
	var out []string
	for _, t := range templatesOf(after) {
		if from := counterpart(was, t); from != nil && from.caSecret() != "" && t.caSecret() != "" && from.caSecret() != t.caSecret() {
			out = append(out, t.path)
		}
	}
	return out
}

// caSecret names the Secret in our volume of the CA Secret; empty for none.
func (t template) caSecret() string {
	return jsonpatch.String(jsonpatch.Map(jsonpatch.Map(lastNamed(t.pod, "volumes", IssuerVolume))["secret"])["secretName"])
}

// carryPlan holds templates with the same injection.
type carryPlan struct {
	key       string
	record    *record
	templates []template
}

// maxCarryPlans is the highest number of different injections in one cluster. The operator itself makes all the same.
const maxCarryPlans = 8

// carryPlans divides the changed templates into those to inject and those to strip.
func carryPlans(old, updated map[string]any, lenient bool) (plans []carryPlan, strip []template, err error) {
	before := templatesOf(old)
	for _, t := range templatesOf(updated) {
		was := counterpart(before, t)
		if was != nil && unchanged(*was, t, old, updated) {
			continue
		}
		from := was
		if from == nil && len(before) > 0 && before[0].kind == Head {
			from = &before[0]
		}
		switch wanted := wantedRecord(from, before); {
		case wanted != nil && wanted.Revision > Revision:
			if found := t.record; found == nil || found.Revision != wanted.Revision || t.stripped(found) {
				return nil, nil, newerRevision(t, wanted)
			}
		case wanted != nil:
			if plans = plan(plans, wanted, t); len(plans) > maxCarryPlans {
				return nil, nil, conflict(t.path, "the cluster's templates carry more than %d different injections, which the operator does not make: delete the cluster and create it anew", maxCarryPlans)
			}
		case !lenient && t.touched() && (from == nil || !from.touched()):
			strip = append(strip, t)
		}
	}
	return plans, strip, nil
}

func plan(plans []carryPlan, wanted *record, t template) []carryPlan {
	key := fmt.Sprintf("%d %s", wanted.Revision, wanted.Parameters.canonical())
	for i := range plans {
		if plans[i].key == key {
			plans[i].templates = append(plans[i].templates, t)
			return plans
		}
	}
	return append(plans, carryPlan{key: key, record: wanted, templates: []template{t}})
}

func scopeOf(templates []template) Scope {
	var s Scope
	for _, t := range templates {
		switch t.kind {
		case Head:
			s.Head = true
		case Worker:
			s.Groups = append(s.Groups, t.group)
		}
	}
	return s
}

func counterpart(among []template, t template) *template {
	i := slices.IndexFunc(among, func(o template) bool { return o.kind == t.kind && o.group == t.group })
	if i < 0 {
		return nil
	}
	return &among[i]
}

// unchanged compares what Apply reads of a template and writes to it.
func unchanged(old, updated template, oldSpec, updatedSpec map[string]any) bool {
	if !jsonpatch.Equal(old.pod, updated.pod) {
		return false
	}
	return old.kind != Head || autoscaling(oldSpec) == autoscaling(updatedSpec) && jsonpatch.Equal(oldSpec["autoscalerOptions"], updatedSpec["autoscalerOptions"])
}

// wantedRecord returns the record by which the template was rendered. If only the record is missing, another template's
// record replaces it.
func wantedRecord(from *template, all []template) *record {
	if from == nil {
		return nil
	}
	if found := from.record; found != nil || !from.touched() {
		return found
	}
	for _, t := range all {
		if t.record != nil {
			return t.record
		}
	}
	return nil
}

// keepOrder returns the rendered spec with the order of entries of the update, or else of the old spec, in each template
// that means the same there. Applying the same manifest twice must not change the object.
func keepOrder(old, updated, rendered map[string]any) map[string]any {
	out := jsonpatch.CopyMap(rendered)
	before, asked := templatesOf(old), templatesOf(updated)
	for _, t := range templatesOf(out) {
		for _, candidate := range []struct {
			*template
			spec map[string]any
		}{{counterpart(asked, t), updated}, {counterpart(before, t), old}} {
			if candidate.template == nil || !meansTheSame(*candidate.template, t, candidate.spec, out) {
				continue
			}
			clear(t.pod)
			maps.Copy(t.pod, jsonpatch.CopyMap(candidate.pod))
			if options := jsonpatch.Map(candidate.spec["autoscalerOptions"]); t.kind == Head && options != nil {
				out["autoscalerOptions"] = jsonpatch.CopyMap(options)
			}
			break
		}
	}
	return out
}

func meansTheSame(a, b template, aSpec, bSpec map[string]any) bool {
	r := b.record
	if r == nil || a.pod == nil || !jsonpatch.Equal(a.orderless(r), b.orderless(r)) {
		return false
	}
	return a.kind != Head || autoscaling(aSpec) == autoscaling(bSpec) && jsonpatch.Equal(orderlessContainer(a.options), orderlessContainer(b.options))
}

// Edit is a change of a cluster's templates that one process decides and another carries out.
type Edit struct {
	// Remove removes the injection from the scope's templates instead of adding it.
	Remove bool `json:"remove,omitempty"`
	Scope
	// Revision and Parameters are those to render.
	Revision   int        `json:"revision,omitempty"`
	Parameters Parameters `json:"parameters,omitzero"`
}

// String returns the edit as JSON, for ParseEdit.
func (e Edit) String() string { return string(canonicalJSON(e)) }

// ParseEdit reads what String wrote.
func ParseEdit(text string) (Edit, error) {
	var e Edit
	decoder := json.NewDecoder(strings.NewReader(text))
	decoder.DisallowUnknownFields()
	if err := decoder.Decode(&e); err != nil {
		return Edit{}, fmt.Errorf("reading the edit: %w", err)
	}
	return e, nil
}

// Render returns a copy of the spec with the edit. It fails with a *ConflictError if the user must act.
func (e Edit) Render(spec map[string]any, clusterName string) (map[string]any, error) {
	if e.Remove {
		return Remove(spec, e.Scope)
	}
	return Apply(spec, Options{ClusterName: clusterName, Revision: e.Revision, Parameters: e.Parameters}, e.Scope)
}
