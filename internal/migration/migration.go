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

func (f *Finding) Error() string {
	return strings.Join(slices.DeleteFunc([]string{f.Object, f.Field, f.Message}, func(s string) bool { return s == "" }), ": ")
}

// migration is a Migrate under way.
type migration struct {
	objects  []*manifest.Object
	now      time.Time
	findings []error
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
// stays as it is. The documents are changed. notes are for people: what was done and left to do, a paragraph each.
//
// It fails with every *Finding, in the order of the input, if TLS is set up in any other way, or the policy could not be
// carried out: then nothing of the input may be used.
func Migrate(documents []*manifest.Document, now time.Time) (migrated []*manifest.Document, notes []string, err error) {
	m := &migration{objects: manifest.WithWrapped(manifest.Objects(documents)), now: now}
	for _, o := range m.objects {
		m.takeFrom(o)
	}
	m.checkSecrets()
	m.addPolicies()
	if len(m.findings) > 0 {
		return nil, nil, errors.Join(m.findings...)
	}
	m.describe()
	documents = m.order(m.dropConfigMaps(documents))
	return documents, m.notes, nil
}

func (m *migration) report(o *manifest.Object, field, format string, args ...any) {
	m.findings = append(m.findings, &Finding{Object: o.String(), Field: field, Message: fmt.Sprintf(format, args...)})
}

func (m *migration) notef(format string, args ...any) {
	m.notes = append(m.notes, fmt.Sprintf(format, args...))
}

// takeFrom takes the stanza out of an object that has one, and makes sure that the operator can inject what is left.
func (m *migration) takeFrom(o *manifest.Object) {
	found, at := o.ClusterSpec()
	if found == nil {
		m.lookInto(o)
		return
	}
	spec := jsonpatch.CopyMap(found)
	s := take(spec)
	var names headNames
	// What the stanza's own findings speak of is still there, and need not be said twice.
	if len(s.findings) == 0 || s.otherTLS {
		foreign := injection.ForeignTLS(spec, m.envKeys(o), s.additional...)
		if s.findings = append(s.findings, foreign...); len(foreign) > 0 && !s.otherTLS {
			m.explain(o, at, spec)
		}
	}
	if len(s.findings) == 0 {
		if s.secret != "" {
			names = m.headNames(o, s)
			s.findings = conflict(spec, s.additional)
		}
		s.findings = append(m.hazards(o, at, found, s, names), s.findings...)
	}
	for _, f := range s.findings {
		m.report(o, moved(at, f.Field), "%s", f.Message)
	}
	for _, told := range [][]string{s.removed, s.lost} {
		for i := range told {
			told[i] = moved(at, told[i])
		}
	}
	switch {
	case s.secret == "" && len(s.removed) > 0:
		o.SetClusterSpec(spec)
		m.notef("%s: its TLS is off, and what is left of it is taken out. No policy is added; a RayTLSPolicy of yours encrypts the cluster.\n%s", o, strings.Join(s.removed, "\n"))
		return
	case s.secret == "":
		m.notef("%s: it has no TLS of the guide's, and is printed as it is.", o)
		return
	case o.GetName() == "":
		m.report(o, "metadata.name", "is missing, and a policy names what it is for: give the object a name instead of generateName")
		return
	}
	// They go into the command that a user is told to type.
	if err := o.CheckNames(); err != nil {
		m.report(o, "", "%v", err)
	}
	o.SetClusterSpec(spec)
	m.clean(o)
	m.migrated = append(m.migrated, migrated{object: o, stanza: s, names: names})
}

// moved gives a field of a RayCluster's spec, or a text that begins with one, the path that the spec has in its object.
func moved(at, field string) string {
	if rest, ok := strings.CutPrefix(field, "spec."); ok {
		return at + "." + rest
	}
	return field
}

// lookInto refuses TLS in templates whose RayClusters have no names yet, which a policy could not name, and says so of what
// it does not look at.
func (m *migration) lookInto(o *manifest.Object) {
	wrapped := o.Wrapped()
	for _, template := range wrapped.Templates {
		s := take(jsonpatch.CopyMap(template.Spec))
		if s.secret != "" || len(s.findings) > 0 || len(injection.ForeignTLS(template.Spec, m.envKeys(o))) > 0 {
			m.report(o, template.Path, "sets up TLS in a template, and the RayClusters made from it get their names later, so no policy can be added for them: "+
				"take the init container, its volumes and the variables out by hand, and cover the RayClusters by a policy with a selector")
			continue
		}
		m.notef("%s: %s is a template of RayClusters without TLS of the guide's, and is printed as it is.", o, template.Path)
	}
	for _, path := range wrapped.Texts {
		m.notef("%s: %s is text with a RayCluster in it, which is printed as it is. Give the command that manifest itself.", o, path)
	}
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
		o := find(m.objects, "", kind, name, near)
		if o == nil {
			return nil, false
		}
		return slices.Concat(sortedKeys(jsonpatch.Map(o.Object["data"])), sortedKeys(jsonpatch.Map(o.Object["stringData"]))), true
	}
}

// find gives the first object that near may mean by a kind and a name; nil if there is none.
func find(objects []*manifest.Object, group, kind, name string, near *manifest.Object) *manifest.Object {
	i := slices.IndexFunc(objects, func(o *manifest.Object) bool { return o.Is(group, kind) && o.GetName() == name && o.Near(near) })
	if i < 0 {
		return nil
	}
	return objects[i]
}

// order puts the brought CA and the policies before what they are for, so that a cluster is covered when it is made.
func (m *migration) order(documents []*manifest.Document) []*manifest.Document {
	if len(m.migrated) == 0 {
		return documents
	}
	first := slices.IndexFunc(documents, func(d *manifest.Document) bool { return slices.Contains(d.Objects, m.migrated[0].object.Top()) })
	before, after := slices.Clone(documents[:first]), []*manifest.Document{}
	for _, d := range documents[first:] {
		if d.Lonely() && m.isCA(d.Objects[0]) {
			before = append(before, d)
			continue
		}
		after = append(after, d)
	}
	for _, done := range m.migrated {
		before = append(before, &manifest.Document{Objects: []*manifest.Object{done.policy}})
	}
	return slices.Concat(before, after)
}

func (m *migration) isCA(o *manifest.Object) bool {
	return m.isOf(o, injection.KindSecret, func(s *stanza) bool { return s.secret == o.GetName() })
}

// isOf reports whether the object, a Secret or ConfigMap, is of a stanza.
func (m *migration) isOf(o *manifest.Object, kind string, names func(*stanza) bool) bool {
	return o.Is("", kind) && slices.ContainsFunc(m.migrated, func(done migrated) bool { return done.object.Near(o) && names(done.stanza) })
}
