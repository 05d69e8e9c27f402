package injection

import (
	"encoding/json"

	"github.com/raytls/raytls/internal/jsonpatch"
)

// The states of a parent before Apply that deleting it would not bring back. A parent without a state was absent or had
// content of its own.
const (
	wasEmpty = "empty"
	wasNull  = "null"
)

// record is the value of RAYTLS_INJECTION.
type record struct {
	Revision   int        `json:"revision"`
	Parameters Parameters `json:"parameters"`
	// Was holds parents that were empty or null before, by their path in the pod spec
	// (volumes, containers/<name>/env) or in the cluster's spec (autoscalerOptions/env).
	Was map[string]string `json:"was,omitempty"`
}

func (r record) encode() string { return string(canonicalJSON(r)) }

// note remembers how the parent looked. Call it before the parent is touched.
func (r *record) note(key string, parent map[string]any, child string) {
	state := stateOf(parent, child)
	if state == "" {
		return
	}
	if r.Was == nil {
		r.Was = map[string]string{}
	}
	r.Was[key] = state
}

func stateOf(parent map[string]any, child string) string {
	value, present := parent[child]
	if !present {
		return ""
	}
	switch typed := value.(type) {
	case nil:
		return wasNull
	case []any:
		if len(typed) == 0 {
			return wasEmpty
		}
	case map[string]any:
		if len(typed) == 0 {
			return wasEmpty
		}
	}
	return ""
}

// was tolerates a missing record: what is not known was absent.
func (r *record) was(key string) string {
	if r == nil {
		return ""
	}
	return r.Was[key]
}

// readRecord decodes the record of an init container of ours; nil for any other container. Of a revision this package
// does not know, only the number is read.
func readRecord(container any) *record {
	if jsonpatch.Name(container) != InitContainerName {
		return nil
	}
	for _, item := range jsonpatch.List(jsonpatch.Map(container)["env"]) {
		if jsonpatch.Name(item) != EnvInjection {
			continue
		}
		value := []byte(jsonpatch.String(jsonpatch.Map(item)["value"]))
		var version struct {
			Revision int `json:"revision"`
		}
		if json.Unmarshal(value, &version) != nil || version.Revision < 1 {
			return nil
		}
		if version.Revision > Revision {
			return &record{Revision: version.Revision}
		}
		var found record
		if json.Unmarshal(value, &found) != nil {
			return nil
		}
		return &found
	}
	return nil
}

func recordOf(pod map[string]any) *record {
	for _, container := range jsonpatch.List(pod["initContainers"]) {
		if found := readRecord(container); found != nil {
			return found
		}
	}
	return nil
}

func containerKey(list, name, child string) string { return list + "/" + name + "/" + child }
