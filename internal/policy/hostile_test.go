package policy

import (
	"fmt"
	"testing"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/raytls/raytls/api/v1alpha1"
)

func selecting(requirements, values int) *metav1.LabelSelector {
	s := &metav1.LabelSelector{}
	for n := range requirements {
		r := metav1.LabelSelectorRequirement{Key: fmt.Sprint("key-", n), Operator: metav1.LabelSelectorOpNotIn}
		for v := range values {
			r.Values = append(r.Values, fmt.Sprint(v))
		}
		s.MatchExpressions = append(s.MatchExpressions, r)
	}
	return s
}

func matchingLabels(count int) *metav1.LabelSelector {
	s := &metav1.LabelSelector{MatchLabels: map[string]string{}}
	for n := range count {
		s.MatchLabels[fmt.Sprint("key-", n)] = ""
	}
	return s
}

// A policy of before the schema had bounds, or one that the webhook sees before the schema does, must cost no more than others.
func TestASelectorIsBounded(t *testing.T) {
	cluster := &metav1.ObjectMeta{Name: "train", Labels: matchingLabels(40).MatchLabels}
	for name, c := range map[string]struct {
		selector *metav1.LabelSelector
		fits     bool
	}{
		"most requirements":     {selecting(32, 32), true},
		"too many requirements": {selecting(33, 1), false},
		"too many values":       {selecting(1, 33), false},
		"most labels":           {matchingLabels(32), true},
		"too many labels":       {matchingLabels(33), false},
	} {
		t.Run(name, func(t *testing.T) {
			p := &v1alpha1.RayTLSPolicy{ObjectMeta: metav1.ObjectMeta{Name: "p"}, Spec: v1alpha1.RayTLSPolicySpec{Selector: c.selector}}
			if got := Decide(Subject{Object: cluster}, []*v1alpha1.RayTLSPolicy{p}).Policy != nil; got != c.fits {
				t.Errorf("it covers the cluster: %t", got)
			}
			asked := p.Spec.WithDefaults()
			if got := Accept(Acceptance{Spec: &asked}); got.Accepted != c.fits {
				t.Errorf("accepted: %+v", got)
			}
		})
	}
}

// A decision is made for each cluster of a namespace, so it must not parse every selector again.
func TestSelectorsAreParsedOnce(t *testing.T) {
	cluster := Subject{Object: &metav1.ObjectMeta{Name: "train", Labels: map[string]string{"a": "b"}}}
	decisions := func(requirements int) float64 {
		set := Parse([]*v1alpha1.RayTLSPolicy{{ObjectMeta: metav1.ObjectMeta{Name: "p"}, Spec: v1alpha1.RayTLSPolicySpec{Selector: selecting(requirements, 32)}}})
		return testing.AllocsPerRun(10, func() { set.Decide(cluster) })
	}
	if few, many := decisions(1), decisions(32); many > few {
		t.Errorf("a decision on 1 requirement allocates %.0f times, one on 32 %.0f times", few, many)
	}
}

func TestReferencesToEnvironmentsAreCountedOnce(t *testing.T) {
	references := func(count, names int) map[string]any {
		from := make([]any, count)
		for n := range from {
			from[n] = map[string]any{"configMapRef": map[string]any{"name": fmt.Sprint("c", n%names)}, "secretRef": map[string]any{"name": fmt.Sprint("s", n)}}
		}
		return cr(object{"envFrom": from})
	}
	reads := 0
	live := configMaps{reads: &reads}
	if got, err := ReadEnvFrom(t.Context(), live, "ml", references(40_000, 16), nil); err != nil || got.tooMany != 0 || reads != 16 {
		t.Errorf("16 names: %v, %d reads, too many: %d", err, reads, got.tooMany)
	}
	if got, err := ReadEnvFrom(t.Context(), live, "ml", references(40_000, 40_000), nil); err != nil || got.tooMany != 40_000 || reads != 16 {
		t.Errorf("40000 names: %v, %d reads, too many: %d", err, reads, got.tooMany)
	}
}
