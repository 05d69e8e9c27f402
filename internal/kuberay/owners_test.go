package kuberay

import (
	"context"
	"errors"
	"testing"

	"github.com/google/go-cmp/cmp"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"k8s.io/apimachinery/pkg/api/meta"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"sigs.k8s.io/controller-runtime/pkg/cache"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/raytls/raytls/api/v1alpha1"
)

// jobs reads RayJobs by name; err is what every read fails with.
type jobs struct {
	client.Reader
	found map[string]*metav1.ObjectMeta
	err   error
}

func (j jobs) Get(_ context.Context, key client.ObjectKey, into client.Object, _ ...client.GetOption) error {
	if j.err != nil {
		return j.err
	}
	found := j.found[key.Name]
	if found == nil || key.Namespace != "ns" {
		return apierrors.NewNotFound(schema.GroupResource{}, key.Name)
	}
	into.(*unstructured.Unstructured).SetOwnerReferences(found.OwnerReferences)
	into.(*unstructured.Unstructured).SetLabels(found.Labels)
	return nil
}

func service(name string) v1alpha1.TargetReference {
	return v1alpha1.TargetReference{Kind: v1alpha1.TargetRayService, Name: name}
}

func job(name string) v1alpha1.TargetReference {
	return v1alpha1.TargetReference{Kind: v1alpha1.TargetRayJob, Name: name}
}

func cronJob(name string) v1alpha1.TargetReference {
	return v1alpha1.TargetReference{Kind: v1alpha1.TargetRayCronJob, Name: name}
}

func controlled(apiVersion, kind, name string) []metav1.OwnerReference {
	yes := true
	return []metav1.OwnerReference{{APIVersion: apiVersion, Kind: kind, Name: name, Controller: &yes}}
}

func TestOwners(t *testing.T) {
	labelled := func(kind, name string) map[string]string {
		return map[string]string{labelOwnerKind: kind, labelOwnerName: name}
	}
	nightly := jobs{found: map[string]*metav1.ObjectMeta{
		"j":   {OwnerReferences: controlled("ray.io/v1", "RayCronJob", "nightly")},
		"own": {OwnerReferences: controlled("apps/v1", "Deployment", "d"), Labels: map[string]string{labelCronJob: "nightly"}},
		"old": {Labels: map[string]string{labelCronJob: "nightly"}},
	}}
	for name, c := range map[string]struct {
		reason  string
		cluster metav1.ObjectMeta
		reader  jobs
		want    []v1alpha1.TargetReference
	}{
		"none":    {"a cluster of its own has none", metav1.ObjectMeta{}, nightly, nil},
		"service": {"KubeRay owns what it makes", metav1.ObjectMeta{OwnerReferences: controlled("ray.io/v1", "RayService", "s")}, nightly, []v1alpha1.TargetReference{service("s")}},
		"version": {"whatever the version of its API", metav1.ObjectMeta{OwnerReferences: controlled("ray.io/v1alpha1", "RayService", "s")}, nightly, []v1alpha1.TargetReference{service("s")}},
		"other group": {
			"kinds of others may have the same name, and a controller's word goes before the labels",
			metav1.ObjectMeta{OwnerReferences: controlled("example.com/v1", "RayService", "s"), Labels: labelled("RayService", "s")},
			nightly, nil,
		},
		"not the controller": {
			"other owners did not make it",
			metav1.ObjectMeta{OwnerReferences: []metav1.OwnerReference{{APIVersion: "ray.io/v1", Kind: "RayService", Name: "s"}}},
			nightly, nil,
		},
		"labels":          {"an orphan has the labels alone", metav1.ObjectMeta{Labels: labelled("RayService", "s")}, nightly, []v1alpha1.TargetReference{service("s")}},
		"labels disagree": {"which count only without a controller", metav1.ObjectMeta{OwnerReferences: controlled("ray.io/v1", "RayJob", "x"), Labels: labelled("RayService", "s")}, nightly, []v1alpha1.TargetReference{job("x")}},
		"unknown kind":    {"labels can say anything", metav1.ObjectMeta{Labels: labelled("RayThing", "s")}, nightly, nil},
		"no name":         {"or half of it", metav1.ObjectMeta{Labels: labelled("RayJob", "")}, nightly, nil},
		"cron job": {
			"a RayJob has its own owner",
			metav1.ObjectMeta{OwnerReferences: controlled("ray.io/v1", "RayJob", "j")},
			nightly,
			[]v1alpha1.TargetReference{job("j"), cronJob("nightly")},
		},
		"cron job by label": {
			"or says by a label who that was",
			metav1.ObjectMeta{OwnerReferences: controlled("ray.io/v1", "RayJob", "old")},
			nightly,
			[]v1alpha1.TargetReference{job("old"), cronJob("nightly")},
		},
		"job of another": {
			"a controller of another kind goes before the label",
			metav1.ObjectMeta{OwnerReferences: controlled("ray.io/v1", "RayJob", "own")},
			nightly,
			[]v1alpha1.TargetReference{job("own")},
		},
		"job not in the cache": {
			"KubeRay copies the RayJob's labels to its cluster",
			metav1.ObjectMeta{OwnerReferences: controlled("ray.io/v1", "RayJob", "new"), Labels: map[string]string{labelCronJob: "nightly"}},
			nightly,
			[]v1alpha1.TargetReference{job("new"), cronJob("nightly")},
		},
		"no kind": {
			"where no RayJobs are served there is none above",
			metav1.ObjectMeta{Labels: labelled("RayJob", "j")},
			jobs{err: &meta.NoKindMatchError{}},
			[]v1alpha1.TargetReference{job("j")},
		},
		"not watched": {
			"nor where none are watched",
			metav1.ObjectMeta{Labels: labelled("RayJob", "j")},
			jobs{err: &cache.ErrResourceNotCached{}},
			[]v1alpha1.TargetReference{job("j")},
		},
	} {
		t.Run(name, func(t *testing.T) {
			c.cluster.Namespace, c.cluster.Name = "ns", "c"
			got, err := Owners(context.Background(), c.reader, &c.cluster)
			if err != nil {
				t.Fatal(err)
			}
			if diff := cmp.Diff(c.want, got); diff != "" {
				t.Errorf("%s (-want +got):\n%s", c.reason, diff)
			}
		})
	}
	_, err := Owners(context.Background(), jobs{err: errors.New("down")}, &metav1.ObjectMeta{Labels: labelled("RayJob", "j")})
	if err == nil {
		t.Error("a read that fails says nothing about owners, so it has to be an error")
	}
}
