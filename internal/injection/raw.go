package injection

import (
	"fmt"

	"github.com/raytls/raytls/internal/jsonpatch"
)

// Kind tells a head's template from a worker group's.
type Kind string

// The two kinds of template.
const (
	Head   Kind = "head"
	Worker Kind = "worker"
)

// template is a pod template found in a spec. pod is nil where the shape is not that of a template.
type template struct {
	kind  Kind
	group string
	path  string
	pod   map[string]any
	// options is the spec's autoscalerOptions, for the head alone.
	options map[string]any
}

func (t template) field(format string, args ...any) string {
	return t.path + ".spec." + fmt.Sprintf(format, args...)
}

// templatesOf lists what looks like a group, head first, and leaves complaints about the rest to checkShape.
func templatesOf(spec map[string]any) []template {
	var found []template
	if head := jsonpatch.Map(spec["headGroupSpec"]); head != nil {
		found = append(found, template{
			kind: Head, path: "spec.headGroupSpec.template",
			pod:     jsonpatch.Map(jsonpatch.Map(head["template"])["spec"]),
			options: jsonpatch.Map(spec["autoscalerOptions"]),
		})
	}
	for i, item := range jsonpatch.List(spec["workerGroupSpecs"]) {
		group := jsonpatch.Map(item)
		if group == nil {
			continue
		}
		found = append(found, template{
			kind: Worker, group: jsonpatch.String(group["groupName"]), path: fmt.Sprintf("spec.workerGroupSpecs[%d].template", i),
			pod: jsonpatch.Map(jsonpatch.Map(group["template"])["spec"]),
		})
	}
	return found
}

// Groups are the names of the spec's worker groups that carry the injection with its record, in their order.
func Groups(spec map[string]any) []string {
	var names []string
	for _, t := range templatesOf(spec) {
		if t.kind == Worker && t.group != "" && recordOf(t.pod) != nil {
			names = append(names, t.group)
		}
	}
	return names
}

// containerLists are the pod's fields that hold containers of a template; both are edited alike.
func containerLists() []string { return []string{"containers", "initContainers"} }
