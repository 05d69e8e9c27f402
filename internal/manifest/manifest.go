// Package manifest reads and prints files of Kubernetes objects as raw JSON, so that no field is lost on the way.
package manifest

import (
	"bufio"
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"maps"
	"slices"
	"strings"
	"unicode"

	kyaml "k8s.io/apimachinery/pkg/util/yaml"
	"sigs.k8s.io/yaml"

	"github.com/raytls/raytls/internal/jsonpatch"
)

// Document is one of a file's documents: an object, or a List of objects.
type Document struct {
	// Objects are the object or the List's items. Changing, dropping and adding changes what is printed.
	Objects []*Object
	// list is the List without its items; nil for a lone object.
	list map[string]any
}

// Lonely reports whether the document holds an object by itself and no List.
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
		if err == nil {
			part, err = yaml.YAMLToJSONStrict(part)
		}
		var tree []any
		if err == nil {
			tree, err = decodeStream(part)
		}
		if err != nil {
			return nil, fmt.Errorf("document %d of %s: %w", len(trees)+1, file, err)
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
	lone, err := newObject(where, tree)
	if err != nil {
		return nil, err
	}
	if !lone.IsList() || !strings.HasSuffix(lone.GetKind(), "List") {
		return &Document{Objects: []*Object{lone}}, nil
	}
	document := &Document{list: lone.Object}
	for i, item := range jsonpatch.List(lone.Object["items"]) {
		o, err := newObject(fmt.Sprintf("items[%d] of %s", i, where), item)
		if err != nil {
			return nil, err
		}
		if strings.HasSuffix(o.GetKind(), "List") {
			return nil, fmt.Errorf("%s: is a List inside a List; take its items out of it", o.Where)
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
		return d.Objects[0].Object
	}
	items := make([]any, 0, len(d.Objects))
	for _, o := range d.Objects {
		items = append(items, o.Object)
	}
	list := maps.Clone(d.list)
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
