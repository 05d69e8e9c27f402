package raycluster

import (
	"context"
	"strings"
	"testing"
	"time"

	rayv1 "github.com/ray-project/kuberay/ray-operator/apis/ray/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/types"
	"sigs.k8s.io/controller-runtime/pkg/client"
	"sigs.k8s.io/controller-runtime/pkg/client/fake"
	"sigs.k8s.io/controller-runtime/pkg/client/interceptor"

	"github.com/raytls/raytls/api/v1alpha1"
	"github.com/raytls/raytls/internal/cluster"
	"github.com/raytls/raytls/internal/injection"
	"github.com/raytls/raytls/internal/injection/injectiontest"
	"github.com/raytls/raytls/internal/jsonpatch"
	"github.com/raytls/raytls/internal/kuberay"
	"github.com/raytls/raytls/internal/rollout"
)

func epoch() time.Time { return time.Date(2026, 1, 2, 3, 4, 5, 0, time.UTC) }

// toEdit is a cluster whose templates are to be injected, and an API server that notes the patches. Where heard, the webhook does
// what it is asked.
func toEdit(t *testing.T, admission string, annotations map[string]string, heard bool) (*application, *[]string) {
	t.Helper()
	template := func(container string) map[string]any {
		return map[string]any{"spec": map[string]any{"containers": []any{map[string]any{"name": container, "image": "ray:1"}}}}
	}
	object := kuberay.NewRayCluster()
	object.Object["spec"] = map[string]any{
		"headGroupSpec":    map[string]any{"template": template("ray-head")},
		"workerGroupSpecs": []any{map[string]any{"groupName": "small", "template": template("ray-worker")}},
	}
	object.SetNamespace("ml")
	object.SetName("train")
	object.SetAnnotations(annotations)
	patches := &[]string{}
	scheme := runtime.NewScheme()
	if err := rayv1.AddToScheme(scheme); err != nil {
		t.Fatal(err)
	}
	api := fake.NewClientBuilder().WithScheme(scheme).WithObjects(object).WithInterceptorFuncs(interceptor.Funcs{
		Patch: func(ctx context.Context, api client.WithWatch, o client.Object, patch client.Patch, options ...client.PatchOption) error {
			text, err := patch.Data(o)
			if err != nil {
				return err
			}
			*patches = append(*patches, string(text))
			if err := api.Patch(ctx, o, patch, options...); err != nil {
				return err
			}
			stored, ok := o.(*unstructured.Unstructured)
			if !ok || !heard {
				return nil
			}
			if edited, err := injectiontest.Admit(stored); err != nil || !edited {
				return err
			}
			return api.Update(ctx, stored)
		},
	}).Build()
	key := types.NamespacedName{Namespace: "ml", Name: "train"}
	stored := kuberay.NewRayCluster()
	if err := api.Get(t.Context(), key, stored); err != nil {
		t.Fatal(err)
	}
	edit := injection.Edit{Scope: injection.All(), Revision: injection.Revision}
	spec := jsonpatch.Map(stored.Object["spec"])
	edited, err := edit.Render(spec, key.Name)
	if err != nil {
		t.Fatal(err)
	}
	return &application{
		Reconciler: &Reconciler{Client: api, Gatherer: cluster.Gatherer{Admission: func(string) string { return admission }}},
		facts:      &cluster.Facts{Key: key, Now: epoch(), Object: stored, Spec: spec},
		decision: &cluster.Decision{
			Edit: edit, Edited: edited, Plan: rollout.Plan{Actions: rollout.Actions{Edit: rollout.InjectAll}, Report: rollout.Report{Reason: v1alpha1.ReasonEnabling}},
		},
	}, patches
}

func TestEditOfTemplates(t *testing.T) {
	const order, spec = `"path":"/metadata/annotations`, `"path":"/spec/`
	left := map[string]string{v1alpha1.AnnotationEdit: injection.Edit{Scope: injection.All(), Revision: injection.Revision}.String()}
	for name, c := range map[string]struct {
		reason      string
		admission   string
		annotations map[string]string
		heard       bool
		// want is what each patch begins with.
		want []string
	}{
		"active":                     {reason: "the webhook edits, so that the templates stay with whoever applies them", admission: v1alpha1.ReasonAdmissionActive, heard: true, want: []string{order}},
		"active, other annotations":  {reason: "others stay", admission: v1alpha1.ReasonAdmissionActive, annotations: map[string]string{"a": "b"}, heard: true, want: []string{order}},
		"removed a moment ago":       {reason: "the webhook did not hear, so the operator edits itself", admission: v1alpha1.ReasonAdmissionActive, want: []string{order, spec}},
		"an order that nobody heard": {reason: "the same one would change nothing", admission: v1alpha1.ReasonAdmissionActive, annotations: left, want: []string{spec}},
		"pending":                    {reason: "after the patience has ended, encryption comes before ownership", admission: v1alpha1.ReasonAdmissionPending, want: []string{spec}},
		"not installed":              {reason: "there is nothing to wait for", admission: v1alpha1.ReasonAdmissionNotInstalled, want: []string{spec}},
		"narrowed":                   {reason: "the webhook may not be called", admission: v1alpha1.ReasonAdmissionNarrowed, want: []string{spec}},
	} {
		t.Run(name, func(t *testing.T) {
			a, patches := toEdit(t, c.admission, c.annotations, c.heard)
			if err := a.edit(t.Context()); err != nil {
				t.Fatalf("%s: error %v", c.reason, err)
			}
			if len(*patches) != len(c.want) {
				t.Fatalf("%s: %d patches: %q", c.reason, len(*patches), *patches)
			}
			for i, has := range c.want {
				if first := (*patches)[i][:min(len((*patches)[i]), 80)]; !strings.Contains(first, has) {
					t.Errorf("%s: patch %d begins with %s", c.reason, i, first)
				}
			}
			stored := kuberay.NewRayCluster()
			if err := a.Client.Get(t.Context(), a.facts.Key, stored); err != nil {
				t.Fatal(err)
			}
			if order, is := stored.GetAnnotations()[v1alpha1.AnnotationEdit]; is {
				t.Errorf("%s: the order %s is stored", c.reason, order)
			}
			for name, value := range c.annotations {
				if name != v1alpha1.AnnotationEdit && stored.GetAnnotations()[name] != value {
					t.Errorf("%s: annotation %s is gone", c.reason, name)
				}
			}
			for _, template := range injection.Inspect(jsonpatch.Map(stored.Object["spec"]), "train") {
				if template.State != injection.Injected {
					t.Errorf("%s: %s is %s", c.reason, template.Path, template.State)
				}
			}
		})
	}
}
