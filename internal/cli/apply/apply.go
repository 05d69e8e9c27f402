// Package apply changes fields of a policy by server-side apply, or prints the policy with the change for Git.
package apply

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"maps"
	"slices"
	"strings"

	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"sigs.k8s.io/controller-runtime/pkg/client"
	"sigs.k8s.io/yaml"

	"github.com/raytls/raytls/api/v1alpha1"
	apply "github.com/raytls/raytls/api/v1alpha1/applyconfiguration/api/v1alpha1"
)

// ErrStale is why nothing was written: somebody changed or deleted the policy after it was read.
var ErrStale = errors.New("it was changed or deleted in the meantime; run the command again")

// Change is a change of a policy.
type Change struct {
	// Manager is the field manager that owns the changed fields, and nothing else.
	Manager string
	// Config has the policy's name and namespace, and all fields that the manager owns afterwards.
	Config *apply.RayTLSPolicyApplyConfiguration
	// Force takes fields over from other managers.
	Force bool
	// Unset are the paths of fields that hold their default. The creator of the policy owns them too, without a choice, so the change
	// takes them over.
	Unset []string
}

// Write applies the change. Nothing but the fields of the change is written, so fields that this program does not know survive.
func (c Change) Write(ctx context.Context, to client.Client) error {
	options := []client.ApplyOption{client.FieldOwner(c.Manager)}
	if c.Force {
		options = append(options, client.ForceOwnership)
	}
	err := to.Apply(ctx, c.Config, options...)
	found := conflicts(err)
	if len(found) > 0 && !slices.ContainsFunc(found, func(conflict metav1.StatusCause) bool { return !slices.Contains(c.Unset, path(conflict)) }) {
		err = to.Apply(ctx, c.Config, append(options, client.ForceOwnership)...)
	}
	if err == nil {
		return nil
	}
	if len(found) > 0 {
		var owners []string
		for _, conflict := range found {
			owners = append(owners, path(conflict)+": "+conflict.Message)
		}
		return fmt.Errorf("RayTLSPolicy %s: another writer owns the field and would set it back (%s); change the field in that writer's source, for which --dry-run prints the policy, or take the field over with --force-conflicts",
			c.name(), strings.Join(owners, "; "))
	}
	if apierrors.IsConflict(err) {
		return fmt.Errorf("RayTLSPolicy %s: %w", c.name(), ErrStale)
	}
	return fmt.Errorf("applying to RayTLSPolicy %s: %w", c.name(), err)
}

func (c Change) name() string { return *c.Config.GetNamespace() + "/" + *c.Config.GetName() }

// conflicts are the fields that other managers own; empty if the error is another.
func conflicts(err error) []metav1.StatusCause {
	var status apierrors.APIStatus
	if !errors.As(err, &status) || status.Status().Details == nil {
		return nil
	}
	return slices.DeleteFunc(slices.Clone(status.Status().Details.Causes), func(cause metav1.StatusCause) bool {
		return cause.Type != metav1.CauseTypeFieldManagerConflict
	})
}

func path(conflict metav1.StatusCause) string { return strings.TrimPrefix(conflict.Field, ".") }

// Print prints the policy as it is with the change, so that it can be committed or applied by any tool. It reads and writes nothing
// else. Documents are separated as in a file of manifests.
func (c Change) Print(ctx context.Context, from client.Reader, out io.Writer) error {
	object := &unstructured.Unstructured{}
	object.SetGroupVersionKind(v1alpha1.GroupVersion.WithKind("RayTLSPolicy"))
	if err := from.Get(ctx, client.ObjectKey{Namespace: *c.Config.GetNamespace(), Name: *c.Config.GetName()}, object); err != nil {
		return fmt.Errorf("reading RayTLSPolicy %s: %w", c.name(), err)
	}
	text, err := json.Marshal(c.Config.Spec)
	if err != nil {
		return fmt.Errorf("encoding the change of RayTLSPolicy %s: %w", c.name(), err)
	}
	var change map[string]any
	if err := json.Unmarshal(text, &change); err != nil {
		return fmt.Errorf("decoding the change of RayTLSPolicy %s: %w", c.name(), err)
	}
	spec, _ := object.Object["spec"].(map[string]any)
	document, err := yaml.Marshal(manifest(object, merge(spec, change)))
	if err != nil {
		return fmt.Errorf("printing RayTLSPolicy %s: %w", c.name(), err)
	}
	_, err = fmt.Fprintf(out, "---\n%s", document)
	return err
}

// manifest is what belongs into Git of a policy: nothing that the API server, the operator or kubectl added.
func manifest(object *unstructured.Unstructured, spec map[string]any) map[string]any {
	metadata := map[string]any{"name": object.GetName(), "namespace": object.GetNamespace()}
	annotations := object.GetAnnotations()
	delete(annotations, "kubectl.kubernetes.io/last-applied-configuration")
	for key, value := range map[string]map[string]string{"labels": object.GetLabels(), "annotations": annotations} {
		if len(value) > 0 {
			metadata[key] = value
		}
	}
	return map[string]any{"apiVersion": object.GetAPIVersion(), "kind": object.GetKind(), "metadata": metadata, "spec": spec}
}

// merge gives the fields with those of the change in place of theirs. The one list that a change holds, of approvals, has an entry for
// each cluster.
func merge(fields, change map[string]any) map[string]any {
	out := map[string]any{}
	maps.Copy(out, fields)
	for key, value := range change {
		switch value := value.(type) {
		case map[string]any:
			under, _ := out[key].(map[string]any)
			out[key] = merge(under, value)
		case []any:
			entries, _ := out[key].([]any)
			out[key] = mergeEntries(entries, value)
		default:
			out[key] = value
		}
	}
	return out
}

func mergeEntries(entries, change []any) []any {
	cluster := func(entry any) any {
		fields, _ := entry.(map[string]any)
		return fields["cluster"]
	}
	out := slices.Clone(entries)
	for _, entry := range change {
		if at := slices.IndexFunc(out, func(other any) bool { return cluster(other) == cluster(entry) }); at >= 0 {
			out[at] = entry
			continue
		}
		out = append(out, entry)
	}
	return out
}
