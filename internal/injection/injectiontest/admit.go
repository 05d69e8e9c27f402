// Package injectiontest stands in for admission, for tests without an API server that asks the webhook.
package injectiontest

import (
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"

	"github.com/raytls/raytls/api/v1alpha1"
	"github.com/raytls/raytls/internal/injection"
	"github.com/raytls/raytls/internal/jsonpatch"
)

// Admit carries out the edit that a RayCluster's annotation orders, and takes the annotation away, as the webhook does in the request
// that orders it. It reports whether there was one.
func Admit(cluster *unstructured.Unstructured) (bool, error) {
	annotations := cluster.GetAnnotations()
	order := annotations[v1alpha1.AnnotationEdit]
	if order == "" {
		return false, nil
	}
	edit, err := injection.ParseEdit(order)
	if err != nil {
		return false, err
	}
	if cluster.Object["spec"], err = edit.Render(jsonpatch.Map(cluster.Object["spec"]), cluster.GetName()); err != nil {
		return false, err
	}
	delete(annotations, v1alpha1.AnnotationEdit)
	cluster.SetAnnotations(annotations)
	return true, nil
}
