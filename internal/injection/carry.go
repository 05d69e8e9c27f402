package injection

import (
	"encoding/json"
	"fmt"
	"slices"
	"strings"

	"github.com/raytls/raytls/internal/jsonpatch"
)

// Carried is what Carry gives.
type Carried struct {
	// Spec is the update's spec as it is to be stored: the very one that was passed in where nothing is to be changed.
	Spec map[string]any
	// Left are the paths of templates that the update brought pieces of the injection to, and that were plain before:
	// the pieces are left out, since a template that is injected alone breaks a cluster that runs.
	Left []string
}

// Carry gives the spec of an update what the cluster's spec carried before it. A template that the update leaves alone is
// left alone. One that it changes keeps its injection, with the revision and the parameters on record in it, or stays
// plain; a new worker group follows the head. Pieces that come back in another place, and mean the same, are stored where
// they were. It fails with a *ConflictError where the changed template cannot carry what it had.
//
// Where lenient, pieces that the update brings to a plain template stay.
func Carry(old, updated map[string]any, clusterName string, lenient bool) (Carried, error) {
	out := Carried{Spec: updated}
	for _, spec := range []map[string]any{old, updated} {
		if err := CheckSize(spec); err != nil {
			return Carried{}, err
		}
	}
	plans, strip, err := carryPlans(old, updated, lenient, &out)
	if err != nil {
		return Carried{}, err
	}
	spec := updated
	if len(strip) > 0 {
		if spec, err = Remove(spec, scopeOf(strip)); err != nil {
			return Carried{}, err
		}
	}
	for _, p := range plans {
		plain, err := Remove(spec, All())
		if err != nil {
			return Carried{}, err
		}
		rendered, err := apply(spec, plain, Options{ClusterName: clusterName, Revision: p.record.Revision, Parameters: p.record.Parameters}, scopeOf(p.templates))
		if err != nil {
			return Carried{}, err
		}
		spec = rendered
	}
	if len(plans) > 0 {
		spec = keepOrder(old, updated, spec)
	}
	out.Spec = spec
	return out, nil
}

// carryPlan are templates that are to be rendered alike.
type carryPlan struct {
	key       string
	record    *record
	templates []template
}

// maxCarryPlans is how many different injections one cluster's templates can carry. The operator gives all the same one.
const maxCarryPlans = 8

// carryPlans sorts the changed templates into those that are to be injected and those that are to be stripped.
func carryPlans(old, updated map[string]any, lenient bool, out *Carried) (plans []carryPlan, strip []template, err error) {
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
			if found := recordOf(t.pod); found == nil || found.Revision != wanted.Revision || t.stripped(found) {
				return nil, nil, newerRevision(t, wanted)
			}
		case wanted != nil:
			if plans = plan(plans, wanted, t); len(plans) > maxCarryPlans {
				return nil, nil, conflict(t.path, "the cluster's templates carry more than %d different injections, which the operator does not make: delete the cluster and create it anew", maxCarryPlans)
			}
		case !lenient && t.touched() && (from == nil || !from.touched()):
			strip = append(strip, t)
			out.Left = append(out.Left, t.path)
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
		if t.kind == Head {
			s.Head = true
			continue
		}
		s.Groups = append(s.Groups, t.group)
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

// wantedRecord is what the template was rendered with. One that has pieces without a record is completed by the record of
// another.
func wantedRecord(from *template, all []template) *record {
	if from == nil {
		return nil
	}
	if found := recordOf(from.pod); found != nil || !from.touched() {
		return found
	}
	for _, t := range all {
		if found := recordOf(t.pod); found != nil {
			return found
		}
	}
	return nil
}

// keepOrder takes each template from where it means what was rendered: as the update has it, or else as it was stored, or
// else as it is rendered. Whoever applies the same manifest again must not find the object changed by an order of entries.
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
			replaceContent(t.pod, candidate.pod)
			if options := jsonpatch.Map(candidate.spec["autoscalerOptions"]); t.kind == Head && options != nil {
				out["autoscalerOptions"] = jsonpatch.CopyMap(options)
			}
			break
		}
	}
	return out
}

func meansTheSame(a, b template, aSpec, bSpec map[string]any) bool {
	r := recordOf(b.pod)
	if r == nil || a.pod == nil {
		return false
	}
	if !jsonpatch.Equal(a.orderless(r), b.orderless(r)) {
		return false
	}
	return a.kind != Head || autoscaling(aSpec) == autoscaling(bSpec) && jsonpatch.Equal(orderlessContainer(a.options), orderlessContainer(b.options))
}

func replaceContent(into, from map[string]any) {
	clear(into)
	for key, value := range from {
		into[key] = jsonpatch.Copy(value)
	}
}

// Edit is a change of a cluster's templates that one process decides on and another carries out.
type Edit struct {
	// Remove takes the injection out of the scope's templates instead of putting it in.
	Remove bool `json:"remove,omitempty"`
	Scope
	// Revision and Parameters are those to render.
	Revision   int        `json:"revision,omitempty"`
	Parameters Parameters `json:"parameters,omitzero"`
}

// String is the edit as JSON, for ParseEdit.
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

// Render gives a copy of the spec with the edit made. It fails with a *ConflictError where the user must act.
func (e Edit) Render(spec map[string]any, clusterName string) (map[string]any, error) {
	if e.Remove {
		return Remove(spec, e.Scope)
	}
	return Apply(spec, Options{ClusterName: clusterName, Revision: e.Revision, Parameters: e.Parameters}, e.Scope)
}
