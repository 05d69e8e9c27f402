// Command convert writes a JSON schema for each kind of a Kubernetes OpenAPI document, in the form that kubeconform reads.
//
//	convert swagger.json DIRECTORY
//
// A schema stands alone, and refuses fields that Kubernetes does not know.
package main

import (
	"encoding/json"
	"fmt"
	"os"
	"path/filepath"
	"strings"
)

func main() {
	if err := run(os.Args[1:]); err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
}

func run(args []string) error {
	if len(args) != 2 {
		return fmt.Errorf("usage: convert swagger.json DIRECTORY")
	}
	text, err := os.ReadFile(args[0])
	if err != nil {
		return err
	}
	schemas, err := convert(text)
	if err != nil {
		return fmt.Errorf("%s: %w", args[0], err)
	}
	if err := os.MkdirAll(args[1], 0o750); err != nil {
		return err
	}
	for name, schema := range schemas {
		if err := os.WriteFile(filepath.Join(args[1], name), schema, 0o600); err != nil {
			return err
		}
	}
	return nil
}

const prefix = "#/definitions/"

// schema is a JSON schema, as far as Kubernetes' document uses it.
type schema struct {
	Ref                  string             `json:"$ref,omitempty"`
	Type                 any                `json:"type,omitempty"`
	Format               string             `json:"format,omitempty"`
	Required             []string           `json:"required,omitempty"`
	Enum                 []any              `json:"enum,omitempty"`
	Properties           map[string]*schema `json:"properties,omitempty"`
	AdditionalProperties any                `json:"additionalProperties,omitempty"`
	Items                *schema            `json:"items,omitempty"`
	AllOf                []*schema          `json:"allOf,omitempty"`
	Kinds                []kind             `json:"x-kubernetes-group-version-kind,omitempty"`
	Definitions          map[string]*schema `json:"definitions,omitempty"`
}

type kind struct {
	Group   string `json:"group"`
	Version string `json:"version"`
	Kind    string `json:"kind"`
}

// convert returns the schemas by the name of their file.
func convert(document []byte) (map[string][]byte, error) {
	var all struct {
		Definitions map[string]*schema `json:"definitions"`
	}
	if err := json.Unmarshal(document, &all); err != nil {
		return nil, err
	}
	kinds := map[string]string{} // names of definitions by file
	for name, definition := range all.Definitions {
		// What has several kinds is no object of its own, such as the options of a deletion.
		if len(definition.Kinds) == 1 && definition.Properties["metadata"] != nil {
			kinds[definition.Kinds[0].file()] = name
		}
		definition.Kinds = nil
	}
	if len(kinds) == 0 {
		return nil, fmt.Errorf("defines no kinds")
	}
	for name, definition := range all.Definitions {
		if err := definition.tighten(name); err != nil {
			return nil, fmt.Errorf("%s: %w", name, err)
		}
	}
	schemas := map[string][]byte{}
	for file, name := range kinds {
		out := schema{Ref: prefix + name, Definitions: map[string]*schema{}}
		if err := out.collect(out.Definitions, all.Definitions); err != nil {
			return nil, fmt.Errorf("%s: %w", name, err)
		}
		text, err := json.Marshal(out)
		if err != nil {
			return nil, err
		}
		schemas[file] = text
	}
	return schemas, nil
}

// file is the name by which kubeconform asks for the kind.
func (k kind) file() string {
	parts := []string{k.Kind}
	if k.Group != "" {
		group, _, _ := strings.Cut(k.Group, ".")
		parts = append(parts, group)
	}
	return strings.ToLower(strings.Join(append(parts, k.Version), "-")) + ".json"
}

// tighten refuses unknown fields, and allows numbers where the document, which knows one type a field, speaks of strings.
func (s *schema) tighten(name string) error {
	switch {
	case s.Format == "int-or-string":
		s.Type, s.Format = []string{"string", "integer"}, ""
	case name == "io.k8s.apimachinery.pkg.api.resource.Quantity":
		s.Type = []string{"string", "number"}
	case len(s.Properties) > 0 && s.AdditionalProperties == nil:
		s.AdditionalProperties = false
	}
	return s.each(func(inner *schema) error { return inner.tighten("") })
}

// collect adds the definitions that the schema refers to, and those that they refer to.
func (s *schema) collect(into, all map[string]*schema) error {
	if s.Ref != "" {
		name := strings.TrimPrefix(s.Ref, prefix)
		if into[name] == nil {
			if all[name] == nil {
				return fmt.Errorf("%s is not defined", s.Ref)
			}
			into[name] = all[name]
			if err := all[name].collect(into, all); err != nil {
				return err
			}
		}
	}
	return s.each(func(inner *schema) error { return inner.collect(into, all) })
}

// each calls visit for every schema within this one.
func (s *schema) each(visit func(*schema) error) error {
	var inner []*schema
	for _, property := range s.Properties {
		inner = append(inner, property)
	}
	if s.Items != nil {
		inner = append(inner, s.Items)
	}
	inner = append(inner, s.AllOf...)
	if additional, ok := s.AdditionalProperties.(*schema); ok {
		inner = append(inner, additional)
	}
	for _, schema := range inner {
		if err := visit(schema); err != nil {
			return err
		}
	}
	return nil
}

// UnmarshalJSON reads additionalProperties, which are true, false or a schema.
func (s *schema) UnmarshalJSON(text []byte) error {
	type plain schema
	var read struct {
		*plain
		AdditionalProperties json.RawMessage `json:"additionalProperties"`
	}
	read.plain = (*plain)(s)
	if err := json.Unmarshal(text, &read); err != nil {
		return err
	}
	switch raw := string(read.AdditionalProperties); raw {
	case "":
		s.AdditionalProperties = nil
	case "true", "false":
		s.AdditionalProperties = raw == "true"
	default:
		additional := &schema{}
		if err := json.Unmarshal(read.AdditionalProperties, additional); err != nil {
			return err
		}
		s.AdditionalProperties = additional
	}
	return nil
}
