package fleet

import (
	"context"
	"errors"
	"testing"

	"github.com/google/go-cmp/cmp"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/apimachinery/pkg/types"
	"sigs.k8s.io/controller-runtime/pkg/client"
	"sigs.k8s.io/controller-runtime/pkg/client/interceptor"

	"github.com/raytls/raytls/api/v1alpha1"
	"github.com/raytls/raytls/internal/cli/clitest"
)

func TestReadFindsThePolicyAsTheOperatorDoes(t *testing.T) {
	t.Parallel()
	yes := true
	ofJob := clitest.RayCluster("nightly-x")
	ofJob.SetOwnerReferences([]metav1.OwnerReference{{APIVersion: "ray.io/v1", Kind: "RayJob", Name: "nightly", UID: "j", Controller: &yes}})
	excluded := clitest.RayCluster("excluded")
	excluded.SetLabels(map[string]string{v1alpha1.LabelExclude: v1alpha1.ExcludeTrue})
	elsewhere := clitest.RayCluster("elsewhere")
	elsewhere.SetNamespace("other")
	targeting := func(kind v1alpha1.TargetKind, name string) func(*v1alpha1.RayTLSPolicy) {
		return func(p *v1alpha1.RayTLSPolicy) {
			p.Spec.Selector, p.Spec.TargetRef = nil, &v1alpha1.TargetReference{Kind: kind, Name: name}
		}
	}
	objects := []client.Object{
		clitest.Policy("default"), clitest.Policy("own", targeting(v1alpha1.TargetRayCluster, "mine")), clitest.Policy("jobs", targeting(v1alpha1.TargetRayJob, "nightly")),
		clitest.RayCluster("mine"), clitest.RayCluster("train"), ofJob, excluded, elsewhere,
		clitest.Record("nightly-x", func(s *v1alpha1.RayClusterTLSStatus) { s.PolicyRef.Name = "jobs" }),
	}
	forbidden := func(c client.WithWatch) client.Reader {
		return interceptor.NewClient(c, interceptor.Funcs{
			Get: func(ctx context.Context, c client.WithWatch, key client.ObjectKey, into client.Object, options ...client.GetOption) error {
				if into.GetObjectKind().GroupVersionKind().Kind == "RayJob" {
					return apierrors.NewForbidden(schema.GroupResource{Resource: "rayjobs"}, key.Name, errors.New("no"))
				}
				return c.Get(ctx, key, into, options...)
			},
		})
	}
	want := map[string]string{"ml/mine": "own", "ml/train": "default", "ml/nightly-x": "jobs", "ml/excluded": "", "other/elsewhere": ""}
	for reason, reader := range map[string]client.Reader{
		"one who may read all":         clitest.Client(t, objects...),
		"one who may not read RayJobs": forbidden(clitest.Client(t, objects...)),
	} {
		found, err := Read(t.Context(), reader, "")
		if err != nil {
			t.Fatalf("%s: %v", reason, err)
		}
		got := map[string]string{}
		for _, c := range found.Clusters {
			got[c.String()] = ""
			if c.Policy != nil {
				got[c.String()] = c.Policy.Name
			}
		}
		if diff := cmp.Diff(want, got); diff != "" {
			t.Errorf("%s (-want +got):\n%s", reason, diff)
		}
	}
	found, err := Read(t.Context(), clitest.Client(t, objects...), "other")
	if err != nil || len(found.Clusters) != 1 {
		t.Errorf("one namespace: %v, %v", found, err)
	}
}

func TestNamesAreBounded(t *testing.T) {
	t.Parallel()
	var clusters []Cluster
	for range 10 {
		clusters = append(clusters, Cluster{NamespacedName: types.NamespacedName{Namespace: "ml", Name: "c"}})
	}
	const want = "ml/c, ml/c, ml/c, ml/c, ml/c, ml/c, ml/c, ml/c, 2 more"
	if got := Names(clusters); got != want {
		t.Errorf("got %q", got)
	}
}
