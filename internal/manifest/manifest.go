// Package manifest reads and prints files of Kubernetes objects as raw JSON, so that no field is lost on the way.
package manifest

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"maps"
	"slices"
	"strings"
	"unicode"

	yamlv3 "go.yaml.in/yaml/v3"
	kyaml "k8s.io/apimachinery/pkg/util/yaml"
	kjson "sigs.k8s.io/json"
	"sigs.k8s.io/yaml"

	"github.com/raytls/raytls/internal/jsonpatch"
)

// Document is one of a file's documents: an object, or a List of objects.
type Document struct {
	// Objects are the object or the List's items. Changing, dropping and adding changes what is printed.
	Objects []*Object
	// list is the List without its items; nil for a lone object.
	list map[string]any
	// source is the text; nil for JSON, and for what was not read.
	source *source
}

// Lonely reports whether the document holds an object by itself and no List.
func (d *Document) Lonely() bool { return d.list == nil }

// Read decodes the documents of a file, which is named in errors, in YAML or JSON, as kubectl does. Numbers are
// json.Number. Empty documents are left out. What is ambiguous is refused: a key that is there twice, and what no
// Kubernetes object is.
func Read(file string, text []byte) ([]*Document, error) {
	text, err := decodeText(text)
	if err != nil {
		return nil, fmt.Errorf("%s: %w", file, err)
	}
	if kyaml.IsJSONBuffer(text) {
		if documents, err := readJSON(file, text); err == nil || !errors.Is(err, errNotJSON) {
			return documents, err
		}
		// A flow mapping of YAML starts with a brace too.
	}
	parts, err := split(text)
	if err != nil {
		return nil, fmt.Errorf("%s: %w", file, err)
	}
	var documents []*Document
	var lead []byte
	for i, p := range parts {
		where := fmt.Sprintf("document %d of %s", i+1, file)
		s, err := readPart(p)
		if err != nil {
			return nil, fmt.Errorf("%s: %w", where, err)
		}
		if s.tree == nil {
			lead = append(lead, s.withSeparator()...)
			continue
		}
		s.lead, lead = lead, nil
		document, err := newDocument(where, jsonpatch.Copy(s.tree), s.root, p)
		if err != nil {
			return nil, err
		}
		document.source = s
		documents = append(documents, document)
	}
	if len(documents) > 0 && bytes.ContainsRune(lead, '#') {
		documents[len(documents)-1].source.tail = lead
	}
	return documents, nil
}

// readPart decodes one YAML document.
func readPart(p part) (*source, error) {
	tree, err := decodePart(p.text)
	if err != nil {
		return nil, p.explain(err)
	}
	root := parseNode(p.text)
	if root != nil {
		err = checkDuplicates(root)
	} else if tree != nil {
		_, err = yaml.YAMLToJSONStrict(p.text)
	}
	if err != nil {
		return nil, p.shift(err)
	}
	return &source{part: p, root: root, tree: tree}, nil
}

// decodePart decodes one YAML document as kubectl does: a key may override a merged one.
func decodePart(text []byte) (tree any, err error) {
	encoded, err := yaml.YAMLToJSON(text)
	if err != nil {
		return nil, err
	}
	decoder := json.NewDecoder(bytes.NewReader(encoded))
	decoder.UseNumber()
	err = decoder.Decode(&tree)
	return tree, err
}

var errNotJSON = errors.New("this is not JSON")

// readJSON decodes JSON values that follow each other.
func readJSON(file string, text []byte) ([]*Document, error) {
	decoder := json.NewDecoder(bytes.NewReader(text))
	var values []json.RawMessage
	for {
		var value json.RawMessage
		err := decoder.Decode(&value)
		if errors.Is(err, io.EOF) {
			break
		}
		if err != nil {
			return nil, errNotJSON
		}
		values = append(values, value)
	}
	var documents []*Document
	for i, value := range values {
		where := fmt.Sprintf("document %d of %s", i+1, file)
		var discarded any
		if twice, err := kjson.UnmarshalStrict(value, &discarded); err != nil || len(twice) > 0 {
			return nil, fmt.Errorf("%s: %w", where, errors.Join(append(twice, err)...))
		}
		var tree any
		decoder := json.NewDecoder(bytes.NewReader(value))
		decoder.UseNumber()
		if err := decoder.Decode(&tree); err != nil {
			return nil, fmt.Errorf("%s: %w", where, err)
		}
		if tree == nil {
			continue
		}
		document, err := newDocument(where, tree, nil, part{})
		if err != nil {
			return nil, err
		}
		documents = append(documents, document)
	}
	return documents, nil
}

func newDocument(where string, tree any, root *yamlv3.Node, p part) (*Document, error) {
	lines := func(path ...any) string {
		if line := lineAt(root, path); line > 0 {
			return fmt.Sprintf("line %d: ", line+p.line-1)
		}
		return ""
	}
	lone, err := newObject(where, tree, lines)
	if err != nil {
		return nil, err
	}
	if !lone.IsList() || !strings.HasSuffix(lone.GetKind(), "List") {
		return &Document{Objects: []*Object{lone}}, nil
	}
	document := &Document{list: lone.Object}
	for i, item := range jsonpatch.List(lone.Object["items"]) {
		o, err := newObject(fmt.Sprintf("items[%d] of %s", i, where), item, func(path ...any) string {
			return lines(append([]any{"items", i}, path...)...)
		})
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

// Write prints documents as YAML. A document that was read as YAML and not changed is printed as it was written, and a
// changed one keeps its comments, quotes and order of keys; other documents are printed with sorted keys.
func Write(out io.Writer, documents []*Document) error {
	for i, d := range documents {
		text, err := d.print()
		if err != nil {
			return fmt.Errorf("encoding a document: %w", err)
		}
		if i > 0 && !bytes.HasPrefix(text, []byte("---")) {
			text = slices.Concat([]byte("---\n"), text)
		}
		if !bytes.HasSuffix(text, []byte("\n")) {
			text = append(slices.Clip(text), '\n')
		}
		if _, err := out.Write(text); err != nil {
			return err
		}
	}
	return nil
}

func (d *Document) print() ([]byte, error) {
	tree := d.tree()
	if d.source != nil {
		if text, ok := d.source.print(tree); ok {
			edited := source{part: part{separator: d.source.separator, text: text}}
			return slices.Concat(d.source.lead, edited.withSeparator(), d.source.tail), nil
		}
	}
	return encodePlain(tree)
}

// withSeparator gives the text with the line before it.
func (s *source) withSeparator() []byte {
	if s.separator == "" {
		return s.text
	}
	return slices.Concat([]byte(s.separator+"\n"), s.text)
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
