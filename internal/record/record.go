// Package record is what the operator keeps on a RayCluster, as annotations.
package record

import (
	"encoding/json"
	"maps"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/raytls/raytls/api/v1alpha1"
	"github.com/raytls/raytls/internal/injection"
	"github.com/raytls/raytls/internal/jsonpatch"
)

// Keys are the annotations that the operator alone writes.
func Keys() []string {
	return []string{
		v1alpha1.AnnotationPolicy, v1alpha1.AnnotationInjection, v1alpha1.AnnotationRollout, v1alpha1.AnnotationRestored,
		v1alpha1.AnnotationEnableFailed, v1alpha1.AnnotationEnableFailedBecause, v1alpha1.AnnotationApproved, v1alpha1.AnnotationEdit,
	}
}

// Enabled is what an encrypted cluster of that policy carries, whose worker groups are these.
func Enabled(policy string, groups []string) map[string]string {
	return map[string]string{
		v1alpha1.AnnotationPolicy:    policy,
		v1alpha1.AnnotationInjection: strconv.Itoa(injection.Revision),
		v1alpha1.AnnotationRestored:  Restored{Groups: groups}.String(),
	}
}

// Restored is what tells a new worker group from a stripped one, and how often stripped ones were restored.
type Restored struct {
	Groups []string    `json:"groups,omitempty"`
	Times  []time.Time `json:"times,omitempty"`
	// Since is when a cluster was injected that was created without the injection; zero for one that was born with it.
	Since time.Time `json:"since,omitzero"`
}

// ParseRestored reads what String wrote; of anything else it makes an empty record.
func ParseRestored(text string) Restored {
	var r Restored
	if json.Unmarshal([]byte(text), &r) != nil {
		return Restored{}
	}
	return r
}

// String is the record as JSON, for ParseRestored.
func (r Restored) String() string {
	text, err := json.Marshal(r)
	if err != nil { // no field of it can fail to encode
		panic(err)
	}
	return string(text)
}

// Operations turn an object's annotations into ones with these values; empty ones are removed.
func Operations(have, want map[string]string) []jsonpatch.Operation {
	var operations []jsonpatch.Operation
	for _, key := range slices.Sorted(maps.Keys(want)) {
		value, path := want[key], "/metadata/annotations/"+strings.ReplaceAll(key, "/", "~1")
		current, exists := have[key]
		switch {
		case value == "" && exists:
			operations = append(operations, jsonpatch.Operation{Op: "remove", Path: path})
		case value != "" && value != current:
			operations = append(operations, jsonpatch.Operation{Op: "add", Path: path, Value: value})
		}
	}
	if len(operations) == 0 {
		return nil
	}
	if have == nil {
		return slices.Insert(operations, 0, jsonpatch.Operation{Op: "add", Path: "/metadata/annotations", Value: map[string]string{}})
	}
	return operations
}
