// Package migration turns manifests with the hand-made TLS of KubeRay's TLS guide into plain ones with a policy.
package migration

import (
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/raytls/raytls/internal/injection"
	"github.com/raytls/raytls/internal/jsonpatch"
	"github.com/raytls/raytls/internal/manifest"
)

// Finding is something in the input that the user has to change first.
type Finding struct {
	// Object says which object of which document.
	Object string
	// Field is such as spec.headGroupSpec.template.spec.containers[0].env[RAY_USE_TLS]; empty for the object as such.
	Field   string
	Message string
}

// Refusal is why nothing was migrated: everything that was found, in the order of the input.
type Refusal struct{ Findings []Finding }

// Error has a line for each finding.
func (r *Refusal) Error() string {
	lines := make([]string, 0, len(r.Findings))
	for _, f := range r.Findings {
		lines = append(lines, strings.Join(slices.DeleteFunc([]string{f.Object, f.Field, f.Message}, func(s string) bool { return s == "" }), ": "))
	}
	return strings.Join(lines, "\n")
}

// Result is a migrated input.
type Result struct {
	Documents []*manifest.Document
	// Notes are for people: what was done and left to do, a paragraph each.
	Notes []string
}

// migration is a Migrate under way.
type migration struct {
	objects  []*manifest.Object
	now      time.Time
	findings []Finding
	// migrated are the objects that had a stanza, in the order of the input.
	migrated []migrated
	notes    []string
}

// migrated is an object of which a stanza was taken.
type migrated struct {
	object *manifest.Object
	stanza *stanza
	policy *manifest.Object
	names  headNames
}

// Migrate takes the guide's TLS out of every RayCluster, RayJob, RayService and RayCronJob, adds a policy for each that
// brings the same CA, and drops the scripts' ConfigMaps that nothing uses any more. What has no TLS, or the operator's,
// stays as it is. The documents are changed. It fails with a *Refusal if TLS is set up in any other way, or the policy
// could not be carried out: then nothing of the input may be used.
func Migrate(documents []*manifest.Document, now time.Time) (*Result, error) {
	m := &migration{objects: manifest.Objects(documents), now: now}
	for _, o := range m.objects {
		m.takeFrom(o)
	}
	m.checkSecrets()
	m.addPolicies()
	if len(m.findings) > 0 {
		return nil, &Refusal{Findings: m.findings}
	}
	m.describe()
	documents = m.dropConfigMaps(documents)
	return &Result{Documents: m.order(documents), Notes: m.notes}, nil
}

func (m *migration) report(o *manifest.Object, field, format string, args ...any) {
	m.findings = append(m.findings, Finding{Object: o.String(), Field: field, Message: fmt.Sprintf(format, args...)})
}

func (m *migration) notef(format string, args ...any) {
	m.notes = append(m.notes, fmt.Sprintf(format, args...))
}

// takeFrom takes the stanza out of an object that has one, and makes sure that the operator can inject what is left.
func (m *migration) takeFrom(o *manifest.Object) {
	found, at := o.ClusterSpec()
	if found == nil {
		return
	}
	spec := jsonpatch.Map(jsonpatch.Copy(found))
	inObject := func(field string) string {
		if rest, ok := strings.CutPrefix(field, "spec."); ok {
			return at + "." + rest
		}
		return field
	}
	s := take(spec)
	// What the stanza's own findings speak of is still there, and need not be said twice.
	if len(s.findings) == 0 {
		s.findings = injection.ForeignTLS(spec, m.envKeys(o), s.additional...)
	}
	if len(s.findings) == 0 && s.secret != "" {
		s.findings = conflict(spec, s.additional)
	}
	for _, f := range s.findings {
		m.report(o, inObject(f.Field), "%s", f.Message)
	}
	switch {
	case s.secret == "":
		m.notef("%s: it has no TLS of the guide's, and is printed as it is.", o)
		return
	case o.Name() == "":
		m.report(o, "metadata.name", "is missing, and a policy names what it is for: give the object a name instead of generateName")
		return
	}
	// They go into the command that a user is told to type.
	if err := o.CheckNames(); err != nil {
		m.report(o, "", "%v", err)
	}
	o.SetClusterSpec(spec)
	m.migrated = append(m.migrated, migrated{object: o, stanza: s, names: m.headNames(o, s)})
}

// conflict asks the injection itself whether it would take the spec.
func conflict(spec map[string]any, additional []string) []injection.Finding {
	_, err := injection.Apply(spec, injection.Options{
		ClusterName: "any", Parameters: injection.Parameters{AdditionalContainers: additional},
	}, injection.All())
	var conflict *injection.ConflictError
	switch {
	case errors.As(err, &conflict):
		return []injection.Finding{{Field: conflict.Field, Message: conflict.Message}}
	case err != nil:
		return []injection.Finding{{Message: err.Error()}}
	}
	return nil
}

// envKeys looks ConfigMaps and Secrets up in the input.
func (m *migration) envKeys(near *manifest.Object) func(kind, name string) ([]string, bool) {
	return func(kind, name string) ([]string, bool) {
		for _, o := range m.objects {
			if o.Is("", kind) && o.Name() == name && o.Near(near) {
				return slices.Concat(sortedKeys(jsonpatch.Map(o.Value["data"])), sortedKeys(jsonpatch.Map(o.Value["stringData"]))), true
			}
		}
		return nil, false
	}
}

// order puts the brought CA and the policies before what they are for, so that a cluster is covered when it is made.
func (m *migration) order(documents []*manifest.Document) []*manifest.Document {
	if len(m.migrated) == 0 {
		return documents
	}
	first := slices.IndexFunc(documents, func(d *manifest.Document) bool { return slices.Contains(d.Objects, m.migrated[0].object) })
	before, after := slices.Clone(documents[:first]), []*manifest.Document{}
	for _, d := range documents[first:] {
		if d.Lonely() && m.isCA(d.Objects[0]) {
			before = append(before, d)
			continue
		}
		after = append(after, d)
	}
	for _, done := range m.migrated {
		before = append(before, manifest.Lone(done.policy))
	}
	return slices.Concat(before, after)
}

func (m *migration) isCA(o *manifest.Object) bool {
	return o.Is("", injection.KindSecret) && slices.ContainsFunc(m.migrated, func(done migrated) bool {
		return done.stanza.secret == o.Name() && done.object.Near(o)
	})
}
