package gitops_test

import (
	"testing"

	"github.com/fluxcd/pkg/ssa"
	"github.com/google/go-cmp/cmp"
	admissionregistrationv1 "k8s.io/api/admissionregistration/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/util/json"
	"k8s.io/apimachinery/pkg/util/strategicpatch"
	"sigs.k8s.io/controller-runtime/pkg/client"
)

// The operator adds fields to one object that is installed with it. Each tool applies that object again and again, and must neither
// take a field away, for then RayClusters pass by the webhook, nor report a difference that nobody can mend.
//
// It runs alone, since each other test's namespace changes the object.
func TestOperatorsFieldsStayItsOwn(t *testing.T) {
	w := newWorldAlone(t)
	w.does(ssa.CreatedAction, w.policy())
	w.admitted()
	manifest := w.registration()
	live := func() *unstructured.Unstructured {
		o := &unstructured.Unstructured{}
		o.SetGroupVersionKind(manifest.GroupVersionKind())
		w.must(w.c.Get(w.ctx, client.ObjectKeyFromObject(manifest), o))
		return o
	}
	before := live()
	for _, field := range [][]any{{"rules"}, {"namespaceSelector", "matchExpressions"}, {"clientConfig", "caBundle"}} {
		path := append([]any{"webhooks", 0}, field...)
		if at(before, path...) == nil {
			t.Errorf("the operator has yet to add %v", path)
		}
		if at(manifest, path...) != nil {
			t.Errorf("the manifest has %v, which is the operator's", path)
		}
	}

	asFound := func() {
		t.Helper()
		if diff := cmp.Diff(at(before, "webhooks"), at(live(), "webhooks")); diff != "" {
			t.Errorf("applied again, the webhooks change:\n%s", diff)
		}
	}

	t.Run("server-side apply without force, as by kubectl and Helm 4", func(t *testing.T) {
		for range 2 {
			w.must(w.c.Apply(w.ctx, client.ApplyConfigurationFromUnstructured(manifest.DeepCopy()), client.FieldOwner("helm")))
			asFound()
		}
	})
	t.Run("Flux", func(t *testing.T) {
		w.does(ssa.ConfiguredAction, manifest) // with labels of its own
		asFound()
		w.unchanged(manifest)
		asFound()
	})
	t.Run("a three-way merge, as by Helm 3", func(t *testing.T) {
		applied, err := json.Marshal(manifest)
		w.must(err)
		has, err := json.Marshal(live())
		w.must(err)
		meta, err := strategicpatch.NewPatchMetaFromStruct(admissionregistrationv1.MutatingWebhookConfiguration{})
		w.must(err)
		patch, err := strategicpatch.CreateThreeWayMergePatch(applied, applied, has, meta, true)
		w.must(err)
		if string(patch) != "{}" {
			t.Errorf("an upgrade writes %s", patch)
		}
	})
}

// registration is the MutatingWebhookConfiguration as it is installed.
func (w *world) registration() *unstructured.Unstructured {
	w.t.Helper()
	objects, err := env.installation("MutatingWebhookConfiguration")
	w.must(err)
	w.must(env.redirect(objects[0]))
	return objects[0]
}
