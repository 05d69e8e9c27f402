package policy

import (
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"
	"sigs.k8s.io/controller-runtime/pkg/client"
	"sigs.k8s.io/controller-runtime/pkg/client/fake"

	"github.com/raytls/raytls/api/v1alpha1"
)

// largest is a policy with as many approvals and values as the schema lets through.
func largest(name string) *v1alpha1.RayTLSPolicy {
	p := &v1alpha1.RayTLSPolicy{ObjectMeta: metav1.ObjectMeta{Namespace: "ml", Name: name}}
	p.Spec.Selector = &metav1.LabelSelector{}
	for i := range maxSelector {
		values := make([]string, maxSelector)
		for j := range values {
			values[j] = fmt.Sprintf("%063d", j)
		}
		p.Spec.Selector.MatchExpressions = append(p.Spec.Selector.MatchExpressions, metav1.LabelSelectorRequirement{Key: fmt.Sprint("key-", i), Operator: metav1.LabelSelectorOpNotIn, Values: values})
	}
	for i := range 100 {
		p.Spec.Rollout.Approvals = append(p.Spec.Rollout.Approvals, v1alpha1.Approval{Cluster: fmt.Sprintf("%0253d", i), Restart: "0123456789abcdef"})
	}
	return p
}

func TestSlimPolicies(t *testing.T) {
	small := &v1alpha1.RayTLSPolicy{ObjectMeta: metav1.ObjectMeta{
		Name: "p", Namespace: "ml", UID: "1", Finalizers: []string{v1alpha1.Finalizer},
		Labels: map[string]string{"a": "b"}, Annotations: map[string]string{"a": strings.Repeat("x", 1<<20)},
	}}
	small.Spec.Selector = &metav1.LabelSelector{MatchLabels: map[string]string{"team": "ml"}}
	if err := Slim(small); err != nil || LeftOut(small) || len(small.Labels)+len(small.Annotations) > 0 || small.Spec.Selector == nil || len(small.Finalizers) != 1 {
		t.Errorf("%+v, %v", small, err)
	}
	finalizers := &v1alpha1.RayTLSPolicy{ObjectMeta: metav1.ObjectMeta{Name: "p", Namespace: "ml", UID: "1", Finalizers: slices.Repeat([]string{"example.com/x"}, 10_000)}}
	for _, large := range []*v1alpha1.RayTLSPolicy{largest("p"), finalizers} {
		for range 2 {
			if err := Slim(large); err != nil || !LeftOut(large) || large.Spec.Selector != nil || len(large.Finalizers) > 0 || large.Name != "p" {
				t.Errorf("%+v, %v", large, err)
			}
		}
	}
}

func TestANamespaceHasSoManyPolicies(t *testing.T) {
	scheme := runtime.NewScheme()
	if err := v1alpha1.AddToScheme(scheme); err != nil {
		t.Fatal(err)
	}
	var objects []client.Object
	policyOf := func(namespace, name string, age time.Duration) *v1alpha1.RayTLSPolicy {
		return &v1alpha1.RayTLSPolicy{ObjectMeta: metav1.ObjectMeta{Namespace: namespace, Name: name, CreationTimestamp: metav1.NewTime(time.Unix(1e9, 0).Add(-age))}}
	}
	left := policyOf("ml", "left", time.Hour)
	left.Annotations = map[string]string{leftOutKey: "too-large"}
	objects = append(objects, left, policyOf("other", "young", 0))
	for i := range maxPolicies + 2 {
		objects = append(objects, policyOf("ml", fmt.Sprintf("p-%03d", i), time.Duration(i)*time.Second))
	}
	reader := fake.NewClientBuilder().WithScheme(scheme).WithObjects(objects...).Build()
	got, err := List(t.Context(), reader, "ml")
	if err != nil || len(got) != maxPolicies-1 || got[0].Name != "p-065" || got[len(got)-1].Name != "p-003" {
		t.Errorf("%d policies are in force, from %s to %s: %v", len(got), got[0].Name, got[len(got)-1].Name, err)
	}
	for name, want := range map[string]string{"p-003": "", "p-002": v1alpha1.ReasonTooManyPolicies, "left": v1alpha1.ReasonPolicyTooLarge} {
		p := &v1alpha1.RayTLSPolicy{}
		if err := reader.Get(t.Context(), client.ObjectKey{Namespace: "ml", Name: name}, p); err != nil {
			t.Fatal(err)
		}
		verdict, err := OutOfBounds(t.Context(), reader, p)
		if err != nil || verdict == nil && want != "" || verdict != nil && (verdict.Reason != want || verdict.Accepted) {
			t.Errorf("%s: %+v, %v", name, verdict, err)
		}
	}
	if verdict, err := OutOfBounds(t.Context(), reader, largest("fresh")); err != nil || verdict == nil || verdict.Reason != v1alpha1.ReasonPolicyTooLarge {
		t.Errorf("one that was read live: %+v, %v", verdict, err)
	}
}
