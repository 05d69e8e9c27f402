package raycluster

import (
	"context"
	"errors"
	"strings"
	"testing"
	"time"

	rayv1 "github.com/ray-project/kuberay/ray-operator/apis/ray/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/types"
	"sigs.k8s.io/controller-runtime/pkg/client"
	"sigs.k8s.io/controller-runtime/pkg/client/fake"
	"sigs.k8s.io/controller-runtime/pkg/client/interceptor"
	"sigs.k8s.io/controller-runtime/pkg/reconcile"
	"sigs.k8s.io/controller-runtime/pkg/source"

	"github.com/raytls/raytls/api/v1alpha1"
	"github.com/raytls/raytls/internal/controller/coverage"
	"github.com/raytls/raytls/internal/injection"
	"github.com/raytls/raytls/internal/jsonpatch"
	"github.com/raytls/raytls/internal/rollout"
)

// admissionIs is an Admission that gives that reason everywhere.
type admissionIs string

func (a admissionIs) Active(string) (active bool, reason string) {
	return a == v1alpha1.ReasonAdmissionActive, string(a)
}

func (admissionIs) Source(func(context.Context, string) []reconcile.Request) source.Source {
	return nil
}

// toWrite is a cluster whose templates are to be injected, and a reconciler whose API server notes the patches. Where heard,
// the webhook does what it is asked.
func toWrite(t *testing.T, admission admissionIs, age time.Duration, annotations map[string]string, heard bool) (*Reconciler, *state, *[]string) {
	t.Helper()
	template := func(container string) map[string]any {
		return map[string]any{"spec": map[string]any{"containers": []any{map[string]any{"name": container, "image": "ray:1"}}}}
	}
	object := &unstructured.Unstructured{Object: map[string]any{"spec": map[string]any{
		"headGroupSpec":    map[string]any{"template": template("ray-head")},
		"workerGroupSpecs": []any{map[string]any{"groupName": "small", "template": template("ray-worker")}},
	}}}
	object.SetGroupVersionKind(RayClusterKind())
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
			order := stored.GetAnnotations()[v1alpha1.AnnotationEdit]
			if !ok || !heard || order == "" {
				return nil
			}
			edit, err := injection.ParseEdit(order)
			if err != nil {
				return err
			}
			if stored.Object["spec"], err = edit.Render(jsonpatch.Map(stored.Object["spec"]), stored.GetName()); err != nil {
				return err
			}
			kept := stored.GetAnnotations()
			delete(kept, v1alpha1.AnnotationEdit)
			stored.SetAnnotations(kept)
			return api.Update(ctx, stored)
		},
	}).Build()
	key := types.NamespacedName{Namespace: "ml", Name: "train"}
	stored := &unstructured.Unstructured{}
	stored.SetGroupVersionKind(RayClusterKind())
	if err := api.Get(t.Context(), key, stored); err != nil {
		t.Fatal(err)
	}
	policy := &v1alpha1.RayTLSPolicy{ObjectMeta: metav1.ObjectMeta{Name: "p", CreationTimestamp: metav1.NewTime(epoch().Add(-age))}}
	st := &state{
		key: key, now: epoch(), object: stored, cluster: &rayv1.RayCluster{ObjectMeta: metav1.ObjectMeta{Name: "train", Annotations: annotations}},
		spec: jsonpatch.Map(stored.Object["spec"]), decision: coverage.Decision{Policy: policy, Goal: rollout.Encrypted}, policy: &policy.Spec,
		planned: rollout.Plan{Reason: v1alpha1.ReasonEnabling, Edit: rollout.InjectAll, Enabled: true},
	}
	if err := st.render(nil); err != nil {
		t.Fatal(err)
	}
	return &Reconciler{Client: api, Admission: admission}, st, patches
}

func TestWriteOfTemplates(t *testing.T) {
	const asked, spec = `"path":"/metadata/annotations/raytls.io~1edit","value":"`, `"path":"/spec/`
	left := map[string]string{v1alpha1.AnnotationEdit: injection.Edit{Scope: injection.All(), Revision: injection.Revision}.String()}
	for name, c := range map[string]struct {
		reason      string
		admission   admissionIs
		age         time.Duration
		annotations map[string]string
		heard       bool
		// want is what each patch has, and not what of the two it has not.
		want []string
		wait bool
	}{
		"active":                     {reason: "the webhook writes, so that the templates stay with whoever applies them", admission: v1alpha1.ReasonAdmissionActive, age: time.Hour, heard: true, want: []string{asked}},
		"taken away a moment ago":    {reason: "nobody heard, so the operator writes itself", admission: v1alpha1.ReasonAdmissionActive, age: time.Hour, want: []string{asked, spec}},
		"an order that nobody heard": {reason: "the same one again would change nothing", admission: v1alpha1.ReasonAdmissionActive, age: time.Hour, annotations: left, want: []string{spec}},
		"pending under a new policy": {reason: "it is worth waiting for", admission: v1alpha1.ReasonAdmissionPending, age: admissionPatience - time.Second, wait: true},
		"pending for long":           {reason: "encryption comes before ownership", admission: v1alpha1.ReasonAdmissionPending, age: admissionPatience, want: []string{spec}},
		"not installed":              {reason: "nothing is to be waited for", admission: v1alpha1.ReasonAdmissionNotInstalled, want: []string{spec}},
		"narrowed":                   {reason: "the webhook may not be asked", admission: v1alpha1.ReasonAdmissionNarrowed, want: []string{spec}},
	} {
		t.Run(name, func(t *testing.T) {
			r, st, patches := toWrite(t, c.admission, c.age, c.annotations, c.heard)
			err := r.write(t.Context(), st)
			var waits *problem
			if errors.As(err, &waits) != c.wait || !c.wait && err != nil {
				t.Fatalf("%s: error %v", c.reason, err)
			}
			if c.wait && !st.next.Equal(epoch().Add(time.Second)) {
				t.Errorf("%s: looks again at %s", c.reason, st.next)
			}
			if len(*patches) != len(c.want) {
				t.Fatalf("%s: %d patches: %q", c.reason, len(*patches), *patches)
			}
			for i, has := range c.want {
				for _, either := range []string{asked, spec} {
					if strings.Contains((*patches)[i], either) != (either == has) {
						t.Errorf("%s: patch %d is %s", c.reason, i, (*patches)[i])
					}
				}
			}
			if c.wait {
				return
			}
			stored := &unstructured.Unstructured{}
			stored.SetGroupVersionKind(RayClusterKind())
			if err := r.Client.Get(t.Context(), st.key, stored); err != nil {
				t.Fatal(err)
			}
			if order, is := stored.GetAnnotations()[v1alpha1.AnnotationEdit]; is {
				t.Errorf("%s: the order %s is stored", c.reason, order)
			}
			for _, template := range injection.Inspect(jsonpatch.Map(stored.Object["spec"]), "train") {
				if template.State != injection.Injected {
					t.Errorf("%s: %s is %s", c.reason, template.Path, template.State)
				}
			}
		})
	}
}
