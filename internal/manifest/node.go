package manifest

import (
	"fmt"
	"maps"
	"slices"

	yamlv3 "go.yaml.in/yaml/v3"
)

// parseNode gives a document's node; nil where the text has none.
func parseNode(text []byte) *yamlv3.Node {
	var document yamlv3.Node
	if yamlv3.Unmarshal(text, &document) != nil || len(document.Content) != 1 {
		return nil
	}
	root := document.Content[0]
	root.HeadComment = joinComments(document.HeadComment, root.HeadComment)
	root.FootComment = joinComments(root.FootComment, document.FootComment)
	return root
}

func joinComments(first, second string) string {
	if first == "" || second == "" {
		return first + second
	}
	return first + "\n\n" + second
}

// checkDuplicates refuses a key that is written twice in one mapping. A key that overrides a merged one is legal.
func checkDuplicates(node *yamlv3.Node) error {
	if node.Kind == yamlv3.MappingNode {
		first := map[string]int{}
		for i := 0; i+1 < len(node.Content); i += 2 {
			key := node.Content[i]
			if line, twice := first[key.Value]; twice && key.Kind == yamlv3.ScalarNode {
				return fmt.Errorf("line %d: the key %q is already in line %d: leave one of them", key.Line, key.Value, line)
			}
			first[key.Value] = key.Line
		}
	}
	for _, child := range node.Content {
		if err := checkDuplicates(child); err != nil {
			return err
		}
	}
	return nil
}

func isMerge(key *yamlv3.Node) bool { return key.Kind == yamlv3.ScalarNode && key.Tag == "!!merge" }

// mergesOf lists what a mapping's merge keys bring.
func mergesOf(node *yamlv3.Node) []*yamlv3.Node {
	var merged []*yamlv3.Node
	for i := 0; node.Kind == yamlv3.MappingNode && i+1 < len(node.Content); i += 2 {
		if isMerge(node.Content[i]) {
			merged = append(merged, node.Content[i+1])
		}
	}
	return merged
}

// copyNode copies a tree of nodes. An alias in the copy stands for the anchor's copy, if that is in the copy too.
func copyNode(node *yamlv3.Node) *yamlv3.Node {
	copies := map[*yamlv3.Node]*yamlv3.Node{}
	var deep func(*yamlv3.Node) *yamlv3.Node
	deep = func(n *yamlv3.Node) *yamlv3.Node {
		copied := *n
		copies[n] = &copied
		copied.Content = make([]*yamlv3.Node, 0, len(n.Content))
		for _, child := range n.Content {
			copied.Content = append(copied.Content, deep(child))
		}
		return &copied
	}
	root := deep(node)
	for _, copied := range copies {
		if target := copies[copied.Alias]; copied.Alias != nil && target != nil {
			copied.Alias = target
		}
	}
	return root
}

// stripAnchors removes the anchors of a copy, since the original has them.
func stripAnchors(node *yamlv3.Node) {
	node.Anchor = ""
	for _, child := range node.Content {
		stripAnchors(child)
	}
}

// lineAt follows keys and indexes of the JSON tree as far as the nodes go, and gives the last node's line.
func lineAt(node *yamlv3.Node, path []any) int {
	if node == nil {
		return 0
	}
	line := node.Line
	for _, step := range path {
		if node.Kind == yamlv3.AliasNode {
			node = node.Alias
		}
		next := childAt(node, step)
		if next == nil {
			return line
		}
		node, line = next, next.Line
	}
	return line
}

func childAt(node *yamlv3.Node, step any) *yamlv3.Node {
	if i, ok := step.(int); ok && node.Kind == yamlv3.SequenceNode && i < len(node.Content) {
		return node.Content[i]
	}
	for i := 0; node.Kind == yamlv3.MappingNode && i+1 < len(node.Content); i += 2 {
		if node.Content[i].Value == step {
			return node.Content[i+1]
		}
	}
	return nil
}

func sortedKeys(m map[string]any) []string { return slices.Sorted(maps.Keys(m)) }
