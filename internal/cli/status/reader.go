package status

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"slices"
	"strings"

	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/labels"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/util/validation"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/raytls/raytls/internal/cluster"
	"github.com/raytls/raytls/internal/kuberay"
)

// reader reads as a user. It takes what the user may not read for missing, and remembers it. It has no indexes, unlike the operator's
// caches, so it selects by labels and by itself.
type reader struct {
	from   client.Client
	unread map[string]bool
}

func newReader(from client.Client) *reader { return &reader{from, map[string]bool{}} }

// kind names an object's kind, or that of a list's items.
func (r *reader) kind(object runtime.Object) string {
	gvk, err := r.from.GroupVersionKindFor(object)
	if err != nil {
		return fmt.Sprintf("%T", object)
	}
	return strings.TrimSuffix(gvk.Kind, "List")
}

// missing lists what could not be read.
func (r *reader) missing() []string { return slices.Sorted(maps.Keys(r.unread)) }

// without are the kinds without which there is nothing to show.
func without(kind string) bool { return kind == "RayCluster" || kind == "RayClusterTLS" }

// Get reads an object.
func (r *reader) Get(ctx context.Context, key client.ObjectKey, into client.Object, options ...client.GetOption) error {
	if _, secret := into.(*corev1.Secret); secret {
		return errors.New("this command reads no Secret")
	}
	err := r.from.Get(ctx, key, into, options...)
	kind := r.kind(into)
	if !apierrors.IsForbidden(err) || without(kind) {
		return err
	}
	r.unread[kind] = true
	return apierrors.NewNotFound(corev1.Resource(kind), key.Name)
}

// List reads a list.
func (r *reader) List(ctx context.Context, into client.ObjectList, options ...client.ListOption) error {
	var asked client.ListOptions
	asked.ApplyOptions(options)
	asked.UnsafeDisableDeepCopy = nil
	of := ""
	if asked.FieldSelector != nil {
		var indexed bool
		if of, indexed = asked.FieldSelector.RequiresExactMatch(cluster.IndexPodCluster); !indexed {
			return fmt.Errorf("there is no index for %s", asked.FieldSelector)
		}
		asked.FieldSelector = nil
		if _, pods := into.(*corev1.PodList); pods {
			if len(validation.IsValidLabelValue(of)) > 0 {
				return nil // no pod carries such a label
			}
			asked.LabelSelector = labels.SelectorFromSet(labels.Set{kuberay.LabelCluster: of})
		}
	}
	kind := r.kind(into)
	switch err := r.from.List(ctx, into, &asked); {
	case apierrors.IsForbidden(err) && !without(kind):
		r.unread[kind] = true
		return nil
	case err != nil:
		return err
	}
	if jobs, ok := into.(*unstructured.UnstructuredList); ok && of != "" {
		jobs.Items = slices.DeleteFunc(jobs.Items, func(job unstructured.Unstructured) bool { return kuberay.JobCluster(&job) != of })
	}
	return nil
}
