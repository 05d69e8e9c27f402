// Command chartvalues writes the table of a chart's values, between <!-- values:begin --> and <!-- values:end -->, from their comments.
//
//	chartvalues values.yaml README.md
package main

import (
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"strings"

	"go.yaml.in/yaml/v3"

	"github.com/raytls/raytls/hack/blocks"
)

func main() {
	if err := run(os.Args[1:]); err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
}

func run(args []string) error {
	if len(args) != 2 {
		return errors.New("usage: chartvalues values.yaml README.md")
	}
	values, err := read(args[0])
	if err != nil {
		return fmt.Errorf("%s: %w", args[0], err)
	}
	page, err := os.ReadFile(args[1])
	if err != nil {
		return err
	}
	text, err := blocks.Replace(string(page), "values", table(values))
	if err != nil {
		return fmt.Errorf("%s: %w", args[1], err)
	}
	return os.WriteFile(args[1], []byte(text), 0o600)
}

// value is one value that users set, as a whole: a scalar, a list, or an object of Kubernetes.
type value struct {
	Path, Default, Meaning string
}

// read returns the values of a file in its order.
func read(file string) ([]value, error) {
	text, err := os.ReadFile(file)
	if err != nil {
		return nil, err
	}
	var document yaml.Node
	if err := yaml.Unmarshal(text, &document); err != nil {
		return nil, err
	}
	if len(document.Content) != 1 || document.Content[0].Kind != yaml.MappingNode {
		return nil, errors.New("is no mapping")
	}
	return within(document.Content[0], "")
}

// within returns the values of a mapping. A mapping with a comment within it is a group of values; any other is one.
func within(mapping *yaml.Node, path string) ([]value, error) {
	var all []value
	for i := 0; i < len(mapping.Content); i += 2 {
		key, content := mapping.Content[i], mapping.Content[i+1]
		at := path + key.Value
		if content.Kind == yaml.MappingNode && commented(content) {
			inner, err := within(content, at+".")
			if err != nil {
				return nil, err
			}
			all = append(all, inner...)
			continue
		}
		comment := key.HeadComment
		// A comment that ends in an empty line belongs to no value, but to what follows.
		if parts := strings.Split(comment, "\n\n"); len(parts) > 1 {
			comment = parts[len(parts)-1]
		}
		if comment == "" {
			return nil, fmt.Errorf("%s has no comment", at)
		}
		var plain any
		if err := content.Decode(&plain); err != nil {
			return nil, fmt.Errorf("%s: %w", at, err)
		}
		shown, err := json.Marshal(plain)
		if err != nil {
			return nil, fmt.Errorf("%s: %w", at, err)
		}
		all = append(all, value{Path: at, Default: string(shown), Meaning: prose(comment)})
	}
	return all, nil
}

func commented(mapping *yaml.Node) bool {
	for i := 0; i < len(mapping.Content); i += 2 {
		key, content := mapping.Content[i], mapping.Content[i+1]
		if key.HeadComment != "" || content.Kind == yaml.MappingNode && commented(content) {
			return true
		}
	}
	return false
}

func prose(comment string) string {
	var words []string
	for line := range strings.Lines(comment) {
		words = append(words, strings.Fields(strings.TrimLeft(line, "# "))...)
	}
	return strings.Join(words, " ")
}

func table(values []value) string {
	var out strings.Builder
	out.WriteString("| value | default | meaning |\n|---|---|---|\n")
	for _, v := range values {
		escape := strings.NewReplacer("|", `\|`).Replace
		fmt.Fprintf(&out, "| `%s` | `%s` | %s |\n", v.Path, escape(v.Default), escape(v.Meaning))
	}
	return out.String()
}
