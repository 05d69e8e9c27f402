package webhook

import (
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/raytls/raytls/api/v1alpha1"
	"github.com/raytls/raytls/internal/injection"
)

// since has a record say that all generations below that number are revoked.
func since(number int64) func(*v1alpha1.RayClusterTLS) {
	return func(r *v1alpha1.RayClusterTLS) {
		r.Status.Authority = v1alpha1.AuthorityStatus{Generation: number, RevokedBeforeGeneration: number}
	}
}

// bornSince is the cluster as it is stored with the CA Secret of that number.
func bornSince(t testing.TB, number int64, change ...func(object)) object {
	t.Helper()
	c := normal(t, rayCluster(change...))
	options := injection.Options{ClusterName: "train", Parameters: injection.Parameters{RevokedBefore: number}}
	injected, err := injection.Apply(c["spec"].(object), options, injection.All())
	if err != nil {
		t.Fatal(err)
	}
	c["spec"] = injected
	return normal(t, c)
}

const corrected = "raytls put the cluster's present CA Secret into spec.headGroupSpec.template, spec.workerGroupSpecs[0].template"

// Each is a way in which a template with the CA Secret of a revoked authority may come back.
func TestNoTemplateOfARevokedAuthorityIsStored(t *testing.T) {
	old, now := bornSince(t, 0), bornSince(t, 3)
	plain := normal(t, rayCluster())
	image := func(o object) object {
		return decoded(t, []byte(strings.ReplaceAll(string(raw(t, o)), `"ray:1"`, `"ray:2"`)))
	}
	grown := func(o object) object {
		out := normal(t, o)
		group := normal(t, object{"g": plain["spec"].(object)["workerGroupSpecs"].([]any)[0]})["g"].(object)
		group["groupName"] = "more"
		out["spec"].(object)["workerGroupSpecs"] = append(out["spec"].(object)["workerGroupSpecs"].([]any), group)
		return out
	}
	all := []client.Object{covering(), record(since(3))}
	for name, c := range map[string]struct {
		reason             string
		cached, live       []client.Object
		old, updated, want object
		warning            string
	}{
		"created from the output of raytls inject": {
			reason: "a cluster that keeps its record keeps its authority", cached: all, updated: old, want: now, warning: corrected,
		},
		"created from a backup, with the record of the RayCluster before": {
			reason: "the record of the name tells which authorities are revoked", cached: []client.Object{covering(), record(since(3), ofAnother)}, updated: old, want: now, warning: corrected,
		},
		"created plain": {
			reason: "it gets the present Secret", cached: all, updated: plain, want: now,
		},
		"created with a number of its own": {
			reason: "what a manifest says is nobody's memory", cached: []client.Object{covering()}, updated: bornSince(t, 9), want: old, warning: corrected,
		},
		"applied again": {
			reason: "the manifest was made before the revocation", cached: all, old: now, updated: old, want: now, warning: corrected,
		},
		"applied again with another image": {
			reason: "the change arrives, and the Secret does not", cached: all, old: now, updated: image(old), want: image(now), warning: corrected,
		},
		"applied again without a policy": {
			reason: "the record counts", cached: []client.Object{record(since(3))}, old: now, updated: old, want: now, warning: corrected,
		},
		"carried forward": {
			reason: "an update changes a template before the operator has", cached: all, old: old, updated: image(old), want: image(now), warning: corrected,
		},
		"carried forward, before the cache knows": {
			reason: "the record is read past the cache", cached: []client.Object{covering(), record()}, live: []client.Object{record(since(3))},
			old: old, updated: image(old), want: image(now), warning: corrected,
		},
		"carried forward without the injection": {
			reason: "RayService replaces its child's spec", cached: all, old: old, updated: image(plain), want: image(now),
		},
		"a new worker group": {
			reason: "it follows the head, with the present Secret", cached: all, old: now, updated: grown(now), want: func() object {
				o := grown(plain)
				injected, err := injection.Apply(o["spec"].(object), injection.Options{ClusterName: "train", Parameters: injection.Parameters{RevokedBefore: 3}}, injection.All())
				if err != nil {
					t.Fatal(err)
				}
				o["spec"] = injected
				return normal(t, o)
			}(),
		},
		"a record that says less than the template": {
			reason: "the template is the tenant's, and the record the operator's", cached: []client.Object{covering(), record()}, old: bornSince(t, 9), updated: image(bornSince(t, 9)), want: image(old), warning: corrected,
		},
		"nothing revoked": {
			reason: "nothing is corrected", cached: []client.Object{covering(), record()}, old: old, updated: image(old), want: image(old),
		},
	} {
		t.Run(name, func(t *testing.T) {
			i := injector(t, c.cached)
			if c.live != nil {
				i.Live = reader(t, append(c.live, c.cached[0])...)
			}
			got, response := admitted(t, i, someone, c.old, c.updated)
			if !response.Allowed {
				t.Fatalf("refused: %v", response.Result)
			}
			if said := strings.Join(response.Warnings, "\n"); !strings.Contains(said, c.warning) || (c.warning == "") != (said == "") {
				t.Errorf("warnings %q, want %q", said, c.warning)
			}
			if diff := cmp.Diff(c.want["spec"], got["spec"]); diff != "" {
				t.Errorf("%s (-want +got):\n%s", c.reason, diff)
			}
		})
	}
}

func TestTheOperatorsOrderNamesTheSecret(t *testing.T) {
	old := bornSince(t, 0)
	ordered := normal(t, old)
	ordered["metadata"].(object)["annotations"] = object{
		v1alpha1.AnnotationEdit: injection.Edit{Scope: injection.All(), Parameters: injection.Parameters{RevokedBefore: 3}}.String(),
	}
	got, response := admitted(t, injector(t, nil), operator, old, ordered)
	if diff := cmp.Diff(bornSince(t, 3)["spec"], got["spec"]); diff != "" || len(response.Warnings) > 0 {
		t.Errorf("warnings %v (-want +got):\n%s", response.Warnings, diff)
	}
}
