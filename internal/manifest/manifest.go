// Package manifest reads and prints files of Kubernetes objects as raw JSON, so that no field is lost on the way.
package manifest

import (
	"bufio"
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"slices"
	"strings"
	"unicode"

	kyaml "k8s.io/apimachinery/pkg/util/yaml"
	"sigs.k8s.io/yaml"
)

// Document is one of a file's documents: an object, or a List of objects.
type Document struct {
	// Objects are the object or the List's items. Changing, dropping and adding changes what is printed.
	Objects []*Object
	// list is the List without its items; nil for a lone object.
	list map[string]any
}

// Lone wraps an object.
func Lone(o *Object) *Document { return &Document{Objects: []*Object{o}} }

// Lonely tells a document that holds an object by itself from a List.
func (d *Document) Lonely() bool { return d.list == nil }

// Read decodes the documents of a file, which is named in errors, in YAML or JSON. Numbers are json.Number. Empty
// documents are left out. What is ambiguous is refused: a key that is there twice, and what no Kubernetes object is.
func Read(file string, text []byte) ([]*Document, error) {
	trees, err := decode(file, text)
	if err != nil {
		return nil, err
	}
	documents := make([]*Document, 0, len(trees))
	for i, tree := range trees {
		if tree == nil {
			continue
		}
		document, err := newDocument(fmt.Sprintf("document %d of %s", i+1, file), tree)
		if err != nil {
			return nil, err
		}
		documents = append(documents, document)
	}
	return documents, nil
}

func decode(file string, text []byte) ([]any, error) {
	if kyaml.IsJSONBuffer(text) {
		if trees, err := decodeStream(text); err == nil {
			return trees, nil
		}
		// A flow mapping of YAML starts with a brace too.
	}
	var trees []any
	reader := kyaml.NewYAMLReader(bufio.NewReader(bytes.NewReader(text)))
	for {
		part, err := reader.Read()
		if errors.Is(err, io.EOF) {
			return trees, nil
		}
		at := fmt.Sprintf("document %d of %s", len(trees)+1, file)
		if err != nil {
			return nil, fmt.Errorf("%s: %w", at, err)
		}
		encoded, err := yaml.YAMLToJSONStrict(part)
		if err != nil {
			return nil, fmt.Errorf("%s: %w", at, err)
		}
		tree, err := decodeStream(encoded)
		if err != nil {
			return nil, fmt.Errorf("%s: %w", at, err)
		}
		trees = append(trees, tree...)
	}
}

// decodeStream decodes JSON values that follow each other.
func decodeStream(text []byte) ([]any, error) {
	decoder := json.NewDecoder(bytes.NewReader(text))
	decoder.UseNumber()
	var trees []any
	for {
		var tree any
		err := decoder.Decode(&tree)
		if errors.Is(err, io.EOF) {
			return trees, nil
		}
		if err != nil {
			return nil, err
		}
		trees = append(trees, tree)
	}
}

func newDocument(where string, tree any) (*Document, error) {
	object, ok := tree.(map[string]any)
	if !ok {
		return nil, fmt.Errorf("%s: is not an object with apiVersion and kind", where)
	}
	lone := &Object{Where: where, Value: object}
	if err := lone.check(); err != nil {
		return nil, err
	}
	items, isList := object["items"].([]any)
	if !isList || !strings.HasSuffix(lone.Kind(), "List") {
		return Lone(lone), nil
	}
	document := &Document{list: object}
	for i, item := range items {
		at := fmt.Sprintf("items[%d] of %s", i, where)
		value, ok := item.(map[string]any)
		if !ok {
			return nil, fmt.Errorf("%s: is not an object with apiVersion and kind", at)
		}
		o := &Object{Where: at, Value: value}
		if err := o.check(); err != nil {
			return nil, err
		}
		if strings.HasSuffix(o.Kind(), "List") {
			return nil, fmt.Errorf("%s: is a List inside a List; take its items out of it", at)
		}
		document.Objects = append(document.Objects, o)
	}
	return document, nil
}

// Write prints documents as YAML with sorted keys.
func Write(out io.Writer, documents []*Document) error {
	for i, d := range documents {
		encoded, err := json.Marshal(d.tree())
		if err != nil {
			return fmt.Errorf("encoding a document: %w", err)
		}
		text, err := yaml.JSONToYAML(escapeControls(encoded))
		if err != nil {
			return fmt.Errorf("encoding a document: %w", err)
		}
		if i > 0 {
			text = slices.Concat([]byte("---\n"), text)
		}
		if _, err := out.Write(text); err != nil {
			return err
		}
	}
	return nil
}

// escapeControls spells those characters out that JSON takes as they are and YAML does not, or as ends of lines.
func escapeControls(encoded []byte) []byte {
	var out bytes.Buffer
	for _, r := range string(encoded) {
		if unicode.IsControl(r) || r == '\ufeff' {
			fmt.Fprintf(&out, `\u%04x`, r)
			continue
		}
		out.WriteRune(r)
	}
	return out.Bytes()
}

func (d *Document) tree() map[string]any {
	if d.Lonely() {
		return d.Objects[0].Value
	}
	items := make([]any, 0, len(d.Objects))
	for _, o := range d.Objects {
		items = append(items, o.Value)
	}
	list := make(map[string]any, len(d.list))
	for key, value := range d.list {
		list[key] = value
	}
	list["items"] = items
	return list
}

// Objects lists the objects of all documents, in order.
func Objects(documents []*Document) []*Object {
	var all []*Object
	for _, d := range documents {
		all = append(all, d.Objects...)
	}
	return all
}
