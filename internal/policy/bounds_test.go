package policy

import (
	"context"
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"
	"sigs.k8s.io/controller-runtime/pkg/client"
	"sigs.k8s.io/controller-runtime/pkg/client/fake"
	"sigs.k8s.io/controller-runtime/pkg/client/interceptor"

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
	if Slim(small); LeftOut(small) || len(small.Labels)+len(small.Annotations) > 0 || small.Spec.Selector == nil || len(small.Finalizers) != 1 {
		t.Errorf("%+v", small)
	}
	finalizers := &v1alpha1.RayTLSPolicy{ObjectMeta: metav1.ObjectMeta{Name: "p", Namespace: "ml", UID: "1", Finalizers: slices.Repeat([]string{"example.com/x"}, 10_000)}}
	for _, large := range []*v1alpha1.RayTLSPolicy{largest("p"), finalizers} {
		for range 2 {
			if Slim(large); !LeftOut(large) || large.Spec.Selector != nil || len(large.Finalizers) > 0 || large.Name != "p" {
				t.Errorf("%+v", large)
			}
		}
	}
}

func TestANamespaceHasSoManyPolicies(t *testing.T) {
	scheme := runtime.NewScheme()
	if err := v1alpha1.AddToScheme(scheme); err != nil {
		t.Fatal(err)
	}
	policyOf := func(namespace, name string, age int, selects bool) *v1alpha1.RayTLSPolicy {
		p := &v1alpha1.RayTLSPolicy{ObjectMeta: metav1.ObjectMeta{Namespace: namespace, Name: name, CreationTimestamp: metav1.NewTime(time.Unix(1e9-int64(age), 0))}}
		if p.Spec.TargetRef = (&v1alpha1.TargetReference{Kind: v1alpha1.TargetRayCluster, Name: name}); selects {
			p.Spec.TargetRef, p.Spec.Selector = nil, &metav1.LabelSelector{}
		}
		return p
	}
	large := largest("large")
	large.CreationTimestamp = metav1.NewTime(time.Unix(1e9-5000, 0))
	claims := policyOf("ml", "claims", 4000, true)
	claims.Annotations = map[string]string{leftOutKey: "says a tenant"}
	objects := []client.Object{large, claims, policyOf("other", "young", 0, true)}
	for i := range maxSelectors + 2 {
		objects = append(objects, policyOf("ml", fmt.Sprintf("selector-%03d", i), i, true))
	}
	for i := range maxPolicies {
		objects = append(objects, policyOf("ml", fmt.Sprintf("target-%04d", i), 100+i, false))
	}
	live := fake.NewClientBuilder().WithScheme(scheme).WithObjects(objects...).Build()
	cached := interceptor.NewClient(live, interceptor.Funcs{List: func(ctx context.Context, c client.WithWatch, into client.ObjectList, options ...client.ListOption) error {
		err := c.List(ctx, into, options...)
		if list, is := into.(*v1alpha1.RayTLSPolicyList); is {
			for i := range list.Items {
				Slim(&list.Items[i])
			}
		}
		return err
	}})
	for name, reader := range map[string]client.Reader{"live": live, "cached": cached} {
		got, err := List(t.Context(), reader, "ml")
		if err != nil || got[0].Name != "claims" || len(got) != maxPolicies-1 || got[len(got)-1].Name != "target-0002" {
			t.Errorf("%s: %d policies are in force, from %s to %s: %v", name, len(got), got[0].Name, got[len(got)-1].Name, err)
		}
		for name, want := range map[string]string{
			"claims": "", "target-0002": "", "target-0001": v1alpha1.ReasonTooManyPolicies, "selector-065": v1alpha1.ReasonTooManyPolicies, "large": v1alpha1.ReasonPolicyTooLarge,
		} {
			p := &v1alpha1.RayTLSPolicy{}
			if err := live.Get(t.Context(), client.ObjectKey{Namespace: "ml", Name: name}, p); err != nil {
				t.Fatal(err)
			}
			verdict, err := OutOfBounds(t.Context(), reader, p)
			if err != nil || verdict == nil && want != "" || verdict != nil && (verdict.Reason != want || verdict.Accepted) {
				t.Errorf("%s: %+v, %v", name, verdict, err)
			}
		}
	}
	var before count
	for i := range maxSelectors {
		if !before.add(policyOf("ml", fmt.Sprint(i), 0, true)) {
			t.Errorf("the selector %d has no room", i)
		}
	}
	if before.add(policyOf("ml", "one-more", 0, true)) || !before.add(policyOf("ml", "target", 0, false)) {
		t.Error("selectors are bounded, and leave room for targetRefs")
	}
}
