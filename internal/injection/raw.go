package injection

import (
	"fmt"
	"slices"

	"github.com/raytls/raytls/internal/jsonpatch"
)

// Kind tells a head's template from a worker group's.
type Kind string

// The two kinds of template.
const (
	Head   Kind = "head"
	Worker Kind = "worker"
)

// template is a pod template in a spec. pod is nil if the group has no template of the right shape.
type template struct {
	kind  Kind
	group string
	path  string
	pod   map[string]any
	// options is the spec's autoscalerOptions, for the head alone.
	options map[string]any
	// record is the pod's when the templates were listed; nil for none.
	record *record
}

func (t template) field(format string, args ...any) string {
	return t.path + ".spec." + fmt.Sprintf(format, args...)
}

// templatesOf lists the templates, head first. It skips what is not a group; checkShape reports that.
func templatesOf(spec map[string]any) []template {
	var found []template
	add := func(t template) {
		t.record = recordOf(t.pod)
		found = append(found, t)
	}
	if head := jsonpatch.Map(spec["headGroupSpec"]); head != nil {
		add(template{
			kind: Head, path: "spec.headGroupSpec.template",
			pod:     jsonpatch.Map(jsonpatch.Map(head["template"])["spec"]),
			options: jsonpatch.Map(spec["autoscalerOptions"]),
		})
	}
	for i, item := range jsonpatch.List(spec["workerGroupSpecs"]) {
		if group := jsonpatch.Map(item); group != nil {
			add(template{
				kind: Worker, group: jsonpatch.String(group["groupName"]), path: fmt.Sprintf("spec.workerGroupSpecs[%d].template", i),
				pod: jsonpatch.Map(jsonpatch.Map(group["template"])["spec"]),
			})
		}
	}
	return found
}

// Groups returns the names of the worker groups that carry the injection with its record, in the spec's order.
func Groups(spec map[string]any) []string {
	var names []string
	for _, t := range templatesOf(spec) {
		if t.kind == Worker && t.group != "" && t.record != nil {
			names = append(names, t.group)
		}
	}
	return names
}

// containerLists returns the pod's fields that hold containers. Apply and Remove treat both alike.
func containerLists() []string { return []string{"containers", "initContainers"} }

func (t template) containers() []any {
	return slices.Concat(jsonpatch.List(t.pod["containers"]), jsonpatch.List(t.pod["initContainers"]))
}

// ray returns the Ray container, which is the first one; nil if there is none.
func (t template) ray() map[string]any {
	containers := jsonpatch.List(t.pod["containers"])
	if len(containers) == 0 {
		return nil
	}
	return jsonpatch.Map(containers[0])
}
