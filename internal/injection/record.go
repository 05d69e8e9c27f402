package injection

import (
	"encoding/json"
	"slices"

	"github.com/raytls/raytls/internal/jsonpatch"
)

// The states of a parent before Apply. Without a state, the parent was absent or had content of its own.
const (
	wasEmpty = "empty"
	wasNull  = "null"
)

// record is the value of EnvInjection.
type record struct {
	Revision   int        `json:"revision"`
	Parameters Parameters `json:"parameters"`
	// Was holds the states of parents that were empty or null, by their path in the pod spec (volumes,
	// containers/<name>/env) or in the cluster's spec (autoscalerOptions/env).
	Was map[string]string `json:"was,omitempty"`
}

// MaxRecord is the size of the largest record in bytes. Apply writes no larger one, and a larger one is not read.
const MaxRecord = 4 << 10

// MaxAdditionalContainers is how many further containers can speak Ray. Each is looked for in every list of containers.
const MaxAdditionalContainers = 32

func (r record) encode() string { return string(canonicalJSON(r)) }

// note records the state of a child that is about to change.
func (r *record) note(key string, parent map[string]any, child string) {
	if r.Was == nil {
		r.Was = map[string]string{}
	}
	value, present := parent[child]
	list, isList := value.([]any)
	object, isObject := value.(map[string]any)
	switch {
	case present && value == nil:
		r.Was[key] = wasNull
	case isList && len(list) == 0, isObject && len(object) == 0:
		r.Was[key] = wasEmpty
	}
}

// was returns the state of a parent. Without a record, every parent counts as absent.
func (r *record) was(key string) string {
	if r == nil {
		return ""
	}
	return r.Was[key]
}

// recordOf returns the record in a pod spec, or nil.
func recordOf(pod map[string]any) *record {
	for _, container := range jsonpatch.List(pod["initContainers"]) {
		if jsonpatch.Name(container) != InitContainerName {
			continue
		}
		env := jsonpatch.List(jsonpatch.Map(container)["env"])
		at := slices.IndexFunc(env, func(item any) bool { return jsonpatch.Name(item) == EnvInjection })
		if at < 0 {
			continue
		}
		if found := decodeRecord(jsonpatch.String(jsonpatch.Map(env[at])["value"])); found != nil {
			return found
		}
	}
	return nil
}

// decodeRecord returns nil for what is no record. It reads only the number of a revision that is unknown here.
func decodeRecord(value string) *record {
	var version struct {
		Revision int `json:"revision"`
	}
	if len(value) > MaxRecord || json.Unmarshal([]byte(value), &version) != nil || version.Revision < 1 {
		return nil
	}
	if version.Revision > Revision {
		return &record{Revision: version.Revision}
	}
	var found record
	if json.Unmarshal([]byte(value), &found) != nil || len(found.Parameters.AdditionalContainers) > MaxAdditionalContainers || found.Parameters.RevokedBefore < 0 {
		return nil
	}
	return &found
}

func containerKey(list, name, child string) string { return list + "/" + name + "/" + child }
