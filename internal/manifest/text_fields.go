package manifest

import (
	"encoding/json"
	"fmt"
	"slices"

	"github.com/raytls/raytls/api/v1alpha1"
	"github.com/raytls/raytls/internal/jsonpatch"
)

// checkText refuses a name, label or variable that YAML read as a number or a boolean, which the API server refuses
// without saying where. In kinds that hold a RayCluster it refuses Helm's actions too.
func (o *Object) checkText(lines func(path ...any) string) error {
	tree := any(o.Object)
	path := []any{}
	if o.clusterPath() == nil && o.GroupVersionKind().Group != v1alpha1.GroupVersion.Group {
		// Only the metadata of other kinds is known.
		tree, path = o.Object["metadata"], append(path, "metadata")
	}
	return checkText(tree, path, lines)
}

func checkText(v any, path []any, lines func(path ...any) string) error {
	switch typed := v.(type) {
	case map[string]any:
		for _, key := range sortedKeys(typed) {
			if err := checkText(typed[key], slices.Concat(path, []any{key}), lines); err != nil {
				return err
			}
		}
	case []any:
		for i, item := range typed {
			if err := checkText(item, slices.Concat(path, []any{i}), lines); err != nil {
				return err
			}
		}
	case json.Number, bool:
		if isText(path) {
			return fmt.Errorf("%s%s is %v, which YAML does not read as text: put it in quotes", lines(path...), spell(path), typed)
		}
	case string:
		if helmActions().MatchString(typed) {
			return fmt.Errorf("%s%s %s", lines(path...), spell(path), renderFirst)
		}
	}
	return nil
}

// isText reports whether the field at a path is a string in every kind that has it.
func isText(path []any) bool {
	if len(path) < 2 {
		return false
	}
	last, parent := path[len(path)-1], path[len(path)-2]
	switch parent {
	case "labels", "annotations", "matchLabels", "nodeSelector", "rayStartParams", "command", "args":
		return true
	case "configMap", "configMapRef", "configMapKeyRef", "secretRef", "secretKeyRef", "secret", "persistentVolumeClaim", "targetRef":
		return slices.Contains([]any{"name", "key", "secretName", "claimName"}, last)
	case "metadata":
		return slices.Contains([]any{"name", "namespace", "generateName"}, last)
	}
	// A variable, a container, a volume or a group, at an index of its list.
	if _, listed := parent.(int); !listed {
		return slices.Contains([]any{"rayVersion", "serviceAccountName", "priorityClassName", "hostname", "subdomain", "schedulerName"}, last)
	}
	list := path[len(path)-3]
	switch list {
	case "env":
		return last == "name" || last == "value"
	case "containers", "initContainers", "volumes", "volumeMounts":
		return slices.Contains([]any{"name", "image", "mountPath", "subPath"}, last)
	case "imagePullSecrets":
		return last == "name"
	case "workerGroupSpecs":
		return last == "groupName"
	}
	return false
}

// spell gives such as spec.headGroupSpec.template.spec.containers[0].name.
func spell(path []any) string {
	text := ""
	for _, step := range path {
		if i, ok := step.(int); ok {
			text += fmt.Sprintf("[%d]", i)
			continue
		}
		if text != "" {
			text += "."
		}
		text += jsonpatch.String(step)
	}
	return text
}
