package manifest

import (
	"bytes"
	"encoding/json"
	"fmt"
	"slices"
	"strings"

	yamlv3 "go.yaml.in/yaml/v3"
	"sigs.k8s.io/yaml"

	"github.com/raytls/raytls/internal/jsonpatch"
)

// source is how a document was written. It is what keeps comments, quotes and the order of keys.
type source struct {
	part
	// lead and tail are the comments of empty documents before and, for the last one, after this one, with their separators.
	lead, tail []byte
	// root is the document's node; nil where only the tree could be read.
	root *yamlv3.Node
	// tree is what the text means.
	tree any
}

// print gives the text for a tree: the text itself where it means the tree, and an edited copy where it does not. It
// reports false if the layout cannot express the tree.
func (s *source) print(tree any) ([]byte, bool) {
	if jsonpatch.Equal(s.tree, tree) {
		return s.text, true
	}
	if s.root == nil {
		return nil, false
	}
	e := editor{changed: map[*yamlv3.Node]bool{}}
	root := copyNode(s.root)
	e.mark(root, s.tree, tree)
	e.expand(root, s.tree, tree)
	e.edit(root, s.tree, tree)
	var out bytes.Buffer
	encoder := yamlv3.NewEncoder(&out)
	encoder.SetIndent(2)
	if isCompact(s.root) {
		encoder.CompactSeqIndent()
	}
	document := &yamlv3.Node{Kind: yamlv3.DocumentNode, Content: []*yamlv3.Node{root}}
	if e.err != nil || encoder.Encode(document) != nil || encoder.Close() != nil {
		return nil, false
	}
	// The decoder that kubectl uses has the last word.
	got, err := decodePart(out.Bytes())
	return out.Bytes(), err == nil && jsonpatch.Equal(got, tree)
}

// isCompact reports whether lists stand below their keys without further indentation, which kubectl and Helm print.
func isCompact(node *yamlv3.Node) bool {
	for i, child := range node.Content {
		block := child.Kind == yamlv3.SequenceNode && child.Style&yamlv3.FlowStyle == 0 && len(child.Content) > 0
		if node.Kind == yamlv3.MappingNode && i%2 == 1 && block {
			return child.Column <= node.Content[i-1].Column
		}
	}
	return !slices.ContainsFunc(node.Content, func(child *yamlv3.Node) bool { return hasBlockList(child) && !isCompact(child) })
}

func hasBlockList(node *yamlv3.Node) bool {
	return node.Kind == yamlv3.SequenceNode && node.Style&yamlv3.FlowStyle == 0 || slices.ContainsFunc(node.Content, hasBlockList)
}

// editor changes a node tree from what one JSON tree says to what another says.
type editor struct {
	// changed are the nodes with an anchor whose content changes, so that their aliases have to be written out.
	changed map[*yamlv3.Node]bool
	err     error
}

// mark finds the changed anchors. Below an alias there is nothing to mark.
func (e *editor) mark(node *yamlv3.Node, old, updated any) {
	if node.Anchor != "" && !jsonpatch.Equal(old, updated) {
		e.changed[node] = true
	}
	e.children(node, old, updated, e.mark)
}

// children calls visit for the parts of a node, with nil for what the updated tree lacks.
func (e *editor) children(node *yamlv3.Node, old, updated any, visit func(node *yamlv3.Node, old, updated any)) {
	switch node.Kind {
	case yamlv3.MappingNode:
		for i := 0; i+1 < len(node.Content); i += 2 {
			if key := node.Content[i]; !isMerge(key) {
				visit(node.Content[i+1], jsonpatch.Map(old)[key.Value], jsonpatch.Map(updated)[key.Value])
			}
		}
	case yamlv3.SequenceNode:
		before, after := jsonpatch.List(old), jsonpatch.List(updated)
		if len(before) != len(node.Content) {
			return
		}
		kept := map[int]any{}
		for _, pair := range align(before, after) {
			if pair.old >= 0 && pair.updated >= 0 {
				kept[pair.old] = after[pair.updated]
			}
		}
		for i, child := range node.Content {
			visit(child, before[i], kept[i])
		}
	case yamlv3.DocumentNode, yamlv3.ScalarNode, yamlv3.AliasNode: // they have no parts of their own
	}
}

// expand writes out the aliases and merges that no longer mean what they have to.
func (e *editor) expand(node *yamlv3.Node, old, updated any) {
	same := jsonpatch.Equal(old, updated)
	if node.Kind == yamlv3.AliasNode && (!same || e.isChanged(node.Alias)) {
		comments := *node
		*node = *copyNode(node.Alias)
		stripAnchors(node)
		node.HeadComment, node.LineComment, node.FootComment = comments.HeadComment, comments.LineComment, comments.FootComment
	}
	if merged := mergesOf(node); len(merged) > 0 && (!same || slices.ContainsFunc(merged, e.isChanged)) {
		e.writeOut(node, jsonpatch.Map(old))
	}
	e.children(node, old, updated, e.expand)
}

func (e *editor) isChanged(node *yamlv3.Node) bool {
	return e.changed[node] || node.Alias != nil && e.isChanged(node.Alias) || slices.ContainsFunc(node.Content, e.isChanged)
}

// writeOut replaces a mapping's merge keys by the keys that they bring.
func (e *editor) writeOut(node *yamlv3.Node, fields map[string]any) {
	var content []*yamlv3.Node
	written := map[string]bool{}
	for i := 0; i+1 < len(node.Content); i += 2 {
		if key := node.Content[i]; !isMerge(key) {
			written[key.Value] = true
			content = append(content, key, node.Content[i+1])
		}
	}
	node.Content = content
	for _, key := range sortedKeys(fields) {
		if !written[key] {
			node.Content = append(node.Content, e.encode(key), e.encode(fields[key]))
		}
	}
}

// edit makes a node say the updated tree. What is the same stays as it is written.
func (e *editor) edit(node *yamlv3.Node, old, updated any) {
	if jsonpatch.Equal(old, updated) {
		return
	}
	before, after := jsonpatch.Map(old), jsonpatch.Map(updated)
	if node.Kind == yamlv3.MappingNode && before != nil && after != nil {
		unfold(node)
		e.editMapping(node, before, after)
		return
	}
	list := jsonpatch.List(old)
	if updatedList, ok := updated.([]any); ok && node.Kind == yamlv3.SequenceNode && len(list) == len(node.Content) {
		unfold(node)
		e.editSequence(node, list, updatedList)
		return
	}
	replacement := e.encode(updated)
	replacement.HeadComment, replacement.LineComment, replacement.FootComment = node.HeadComment, node.LineComment, node.FootComment
	*node = *replacement
}

// unfold writes a node in lines of its own. The comment behind it has no place there and goes above it.
func unfold(node *yamlv3.Node) {
	if node.Style&yamlv3.FlowStyle == 0 {
		return
	}
	node.Style &^= yamlv3.FlowStyle
	node.HeadComment, node.LineComment = joinComments(node.HeadComment, node.LineComment), ""
}

func (e *editor) editMapping(node *yamlv3.Node, old, updated map[string]any) {
	var content []*yamlv3.Node
	written := map[string]bool{}
	for i := 0; i+1 < len(node.Content); i += 2 {
		key, value := node.Content[i], node.Content[i+1]
		wanted, stays := updated[key.Value]
		if !stays {
			continue
		}
		written[key.Value] = true
		e.edit(value, old[key.Value], wanted)
		content = append(content, key, value)
	}
	for _, key := range sortedKeys(updated) {
		if !written[key] {
			content = append(content, e.encode(key), e.encode(updated[key]))
		}
	}
	node.Content = content
}

func (e *editor) editSequence(node *yamlv3.Node, old, updated []any) {
	var content []*yamlv3.Node
	for _, pair := range align(old, updated) {
		switch {
		case pair.updated < 0: // it is taken out
		case pair.old < 0:
			content = append(content, e.encode(updated[pair.updated]))
		default:
			e.edit(node.Content[pair.old], old[pair.old], updated[pair.updated])
			content = append(content, node.Content[pair.old])
		}
	}
	node.Content = content
}

// encode makes the node of a value. Text with a $ is quoted, so that it stays text when envsubst has filled it in.
func (e *editor) encode(value any) *yamlv3.Node {
	text, err := encodePlain(value)
	var document yamlv3.Node
	if err == nil {
		err = yamlv3.Unmarshal(text, &document)
	}
	if err == nil && len(document.Content) != 1 {
		err = fmt.Errorf("%d values instead of one", len(document.Content))
	}
	if err != nil {
		e.err = err
		return &yamlv3.Node{Kind: yamlv3.ScalarNode, Tag: "!!null", Value: "null"}
	}
	quote(document.Content[0])
	return document.Content[0]
}

func quote(node *yamlv3.Node) {
	const written = yamlv3.LiteralStyle | yamlv3.FoldedStyle | yamlv3.DoubleQuotedStyle | yamlv3.SingleQuotedStyle
	if node.Kind == yamlv3.ScalarNode && node.Style&written == 0 && strings.Contains(node.Value, "$") {
		node.Style |= yamlv3.DoubleQuotedStyle
	}
	for _, child := range node.Content {
		quote(child)
	}
}

// encodePlain prints a value as YAML with sorted keys.
func encodePlain(value any) ([]byte, error) {
	encoded, err := json.Marshal(value)
	if err != nil {
		return nil, err
	}
	return yaml.JSONToYAML(escapeControls(encoded))
}

// pair is an element before and after; -1 where it is in one of the lists alone.
type pair struct{ old, updated int }

// align finds the longest row of elements that two lists share, by what names an element, and lists all in the order of
// the updated list.
func align(old, updated []any) []pair {
	// Without a name the place tells an element, unless elements came or went.
	inPlace := len(old) == len(updated)
	before, after := identities(old, inPlace), identities(updated, inPlace)
	longest := make([][]int, len(before)+1)
	for i := range longest {
		longest[i] = make([]int, len(after)+1)
	}
	for i := len(before) - 1; i >= 0; i-- {
		for j := len(after) - 1; j >= 0; j-- {
			longest[i][j] = max(longest[i+1][j], longest[i][j+1])
			if before[i] == after[j] {
				longest[i][j] = longest[i+1][j+1] + 1
			}
		}
	}
	var pairs []pair
	i, j := 0, 0
	for i < len(before) && j < len(after) {
		switch {
		case before[i] == after[j]:
			pairs = append(pairs, pair{i, j})
			i, j = i+1, j+1
		case longest[i+1][j] >= longest[i][j+1]:
			pairs = append(pairs, pair{i, -1})
			i++
		default:
			pairs = append(pairs, pair{-1, j})
			j++
		}
	}
	for ; i < len(before); i++ {
		pairs = append(pairs, pair{i, -1})
	}
	for ; j < len(after); j++ {
		pairs = append(pairs, pair{-1, j})
	}
	return pairs
}

// identities gives what Kubernetes tells a list's elements apart by, or else the place or the whole element.
func identities(list []any, inPlace bool) []string {
	var all []string
	for i, item := range list {
		fields := jsonpatch.Map(item)
		metadata := jsonpatch.Map(fields["metadata"])
		by := []any{fields["name"], fields["mountPath"], fields["groupName"], fields["kind"], metadata["namespace"], metadata["name"]}
		if fields["name"] == nil && fields["groupName"] == nil && metadata["name"] == nil {
			by = []any{jsonpatch.Canonical(item)}
			if inPlace {
				by = []any{i}
			}
		}
		text, err := json.Marshal(by)
		if err != nil {
			text = []byte(fmt.Sprint(by...))
		}
		all = append(all, string(text))
	}
	return all
}
