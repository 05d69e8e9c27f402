package coverage

import (
	"slices"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"pgregory.net/rapid"

	"github.com/raytls/raytls/api/v1alpha1"
	"github.com/raytls/raytls/internal/rollout"
)

// epoch is any fixed time.
func epoch() time.Time { return time.Date(2026, 1, 1, 0, 0, 0, 0, time.UTC) }

type option func(*v1alpha1.RayTLSPolicy)

func policy(name string, age int, options ...option) *v1alpha1.RayTLSPolicy {
	p := &v1alpha1.RayTLSPolicy{ObjectMeta: metav1.ObjectMeta{Name: name, CreationTimestamp: metav1.NewTime(epoch().Add(-time.Duration(age) * time.Hour))}}
	p.Spec.Selector = &metav1.LabelSelector{}
	for _, o := range options {
		o(p)
	}
	return p
}

func refersTo(ref v1alpha1.TargetReference) option {
	return func(p *v1alpha1.RayTLSPolicy) { p.Spec.Selector, p.Spec.TargetRef = nil, &ref }
}

func targets(name string) option { return refersTo(rayCluster(name)) }

func rayCluster(name string) v1alpha1.TargetReference {
	return v1alpha1.TargetReference{Kind: v1alpha1.TargetRayCluster, Name: name}
}

func job(name string) v1alpha1.TargetReference {
	return v1alpha1.TargetReference{Kind: v1alpha1.TargetRayJob, Name: name}
}

func cronJob(name string) v1alpha1.TargetReference {
	return v1alpha1.TargetReference{Kind: v1alpha1.TargetRayCronJob, Name: name}
}

func service(name string) v1alpha1.TargetReference {
	return v1alpha1.TargetReference{Kind: v1alpha1.TargetRayService, Name: name}
}

func selects(key, value string) option {
	return func(p *v1alpha1.RayTLSPolicy) {
		p.Spec.Selector = &metav1.LabelSelector{MatchLabels: map[string]string{key: value}}
	}
}

func removes(p *v1alpha1.RayTLSPolicy) { p.Spec.DeletionPolicy = v1alpha1.DeletionRemove }

func deleted(p *v1alpha1.RayTLSPolicy) {
	p.DeletionTimestamp = &metav1.Time{Time: epoch()}
}

func cluster(bound string, labels map[string]string) *metav1.ObjectMeta {
	c := &metav1.ObjectMeta{Name: "c", Labels: labels}
	if bound != "" {
		c.Annotations = map[string]string{v1alpha1.AnnotationPolicy: bound}
	}
	return c
}

func underWay(c *metav1.ObjectMeta) *metav1.ObjectMeta {
	c.Annotations[v1alpha1.AnnotationRollout] = `{"goal":"Encrypted","phase":"Rest"}`
	return c
}

// want is a decision, by name.
type want struct {
	Policy string
	Goal   rollout.Goal
	Losers []string
}

func outcome(d Decision) want {
	got := want{Goal: d.Goal}
	if d.Policy != nil {
		got.Policy = d.Policy.Name
	}
	for _, l := range d.Losers {
		got.Losers = append(got.Losers, l.Name)
	}
	return got
}

func replaced(c *metav1.ObjectMeta) *metav1.ObjectMeta {
	c.Annotations[v1alpha1.AnnotationRollout] = `{"goal":"Encrypted","phase":"Upgrade"}`
	return c
}

func TestDecide(t *testing.T) {
	excluded := map[string]string{v1alpha1.LabelExclude: ""}
	for name, c := range map[string]struct {
		reason   string
		cluster  *metav1.ObjectMeta
		policies []*v1alpha1.RayTLSPolicy
		want     want
	}{
		"none": {"a namespace without a policy is left alone", cluster("", nil), nil, want{}},
		"selector": {
			"an empty selector covers every cluster", cluster("", nil),
			[]*v1alpha1.RayTLSPolicy{policy("p", 1)},
			want{"p", rollout.Encrypted, nil},
		},
		"other labels": {
			"a selector that does not fit covers nothing", cluster("", nil), []*v1alpha1.RayTLSPolicy{policy("p", 1, selects("a", "b"))}, want{},
		},
		"other target": {
			"a targetRef is for its cluster", cluster("", nil), []*v1alpha1.RayTLSPolicy{policy("p", 1, targets("d"))}, want{},
		},
		"sticky": {
			"a bound cluster stays though its labels no longer fit", cluster("p", nil),
			[]*v1alpha1.RayTLSPolicy{policy("p", 1, selects("a", "b"))},
			want{"p", rollout.Encrypted, nil},
		},
		"sticky against an older one": {
			"a bound cluster stays though an older policy covers it", cluster("young", nil),
			[]*v1alpha1.RayTLSPolicy{policy("old", 9), policy("young", 1)},
			want{"young", rollout.Encrypted, []string{"old"}},
		},
		"older first": {
			"the older of two wins", cluster("", nil),
			[]*v1alpha1.RayTLSPolicy{policy("young", 1), policy("old", 9)},
			want{"old", rollout.Encrypted, []string{"young"}},
		},
		"name decides": {
			"of two of the same second, the name decides", cluster("", nil),
			[]*v1alpha1.RayTLSPolicy{policy("b", 1), policy("a", 1)},
			want{"a", rollout.Encrypted, []string{"b"}},
		},
		"takeover": {
			"a targetRef takes a bound cluster over from a selector, which is no conflict", cluster("all", nil),
			[]*v1alpha1.RayTLSPolicy{policy("all", 9), policy("one", 1, targets("c"))},
			want{"one", rollout.Encrypted, nil},
		},
		"two targets": {
			"two targetRefs for one cluster are a conflict", cluster("", nil),
			[]*v1alpha1.RayTLSPolicy{policy("one", 9, targets("c")), policy("two", 1, targets("c")), policy("all", 20)},
			want{"one", rollout.Encrypted, []string{"two"}},
		},
		"bound to a target": {
			"a targetRef does not take over from a targetRef", cluster("two", nil),
			[]*v1alpha1.RayTLSPolicy{policy("one", 9, targets("c")), policy("two", 1, targets("c"))},
			want{"two", rollout.Encrypted, []string{"one"}},
		},
		"excluded": {
			"an excluded cluster that is bound to nobody is left alone", cluster("", excluded),
			[]*v1alpha1.RayTLSPolicy{policy("p", 1, removes)},
			want{},
		},
		"excluded and kept": {
			"an excluded cluster stays as it is by default", cluster("p", excluded), []*v1alpha1.RayTLSPolicy{policy("p", 1)}, want{},
		},
		"excluded and removed": {
			"an excluded cluster is given back with Remove", cluster("p", excluded),
			[]*v1alpha1.RayTLSPolicy{policy("p", 1, removes)},
			want{"p", rollout.Plaintext, nil},
		},
		"deleted": {
			"a deleted policy with Keep does nothing more", cluster("p", nil), []*v1alpha1.RayTLSPolicy{policy("p", 1, deleted)}, want{},
		},
		"deleted in the middle": {
			"half a cluster cannot talk to the other half, so a restart is ended first", underWay(cluster("p", nil)),
			[]*v1alpha1.RayTLSPolicy{policy("p", 1, deleted)},
			want{"p", rollout.Encrypted, nil},
		},
		"deleted while replaced": {
			"a cluster that its RayService replaces works until it is gone, so nothing holds the policy", replaced(cluster("p", nil)),
			[]*v1alpha1.RayTLSPolicy{policy("p", 1, deleted)},
			want{},
		},
		"deleted with Remove": {
			"a deleted policy with Remove gives back", cluster("p", nil),
			[]*v1alpha1.RayTLSPolicy{policy("p", 1, deleted, removes)},
			want{"p", rollout.Plaintext, nil},
		},
		"deleted, never bound": {
			"a deleted policy has nothing to give back to a cluster that is not its", cluster("", nil),
			[]*v1alpha1.RayTLSPolicy{policy("p", 1, deleted, removes)},
			want{},
		},
		"deleted, with an heir": {
			"another policy that covers the cluster takes it over as it is", cluster("p", nil),
			[]*v1alpha1.RayTLSPolicy{policy("p", 9, deleted, removes), policy("q", 1)},
			want{"q", rollout.Encrypted, nil},
		},
		"gone": {
			"a cluster of a policy that is gone is adopted by one that covers it", cluster("gone", nil),
			[]*v1alpha1.RayTLSPolicy{policy("q", 1)},
			want{"q", rollout.Encrypted, nil},
		},
		"no sense": {
			"a selector that cannot be parsed covers nothing", cluster("", nil),
			[]*v1alpha1.RayTLSPolicy{policy("p", 1, func(p *v1alpha1.RayTLSPolicy) {
				p.Spec.Selector.MatchExpressions = []metav1.LabelSelectorRequirement{{Key: "a", Operator: "Like"}}
			})},
			want{},
		},
	} {
		t.Run(name, func(t *testing.T) {
			if diff := cmp.Diff(c.want, outcome(Decide(Subject{Object: c.cluster}, c.policies))); diff != "" {
				t.Errorf("%s (-want +got):\n%s", c.reason, diff)
			}
		})
	}
}

func TestDecideByOwner(t *testing.T) {
	ofCronJob := []v1alpha1.TargetReference{job("j"), cronJob("n")}
	for name, c := range map[string]struct {
		reason   string
		cluster  *metav1.ObjectMeta
		owners   []v1alpha1.TargetReference
		policies []*v1alpha1.RayTLSPolicy
		want     want
	}{
		"job": {
			"a RayJob's cluster is covered with it", cluster("", nil), ofCronJob,
			[]*v1alpha1.RayTLSPolicy{policy("p", 1, refersTo(job("j")))},
			want{"p", rollout.Encrypted, nil},
		},
		"cron job": {
			"and with the RayCronJob that made the RayJob", cluster("", nil), ofCronJob,
			[]*v1alpha1.RayTLSPolicy{policy("p", 1, refersTo(cronJob("n")))},
			want{"p", rollout.Encrypted, nil},
		},
		"other kind": {
			"a name is one of its kind", cluster("", nil),
			[]v1alpha1.TargetReference{service("j")},
			[]*v1alpha1.RayTLSPolicy{policy("p", 1, refersTo(job("j"))), policy("q", 1, refersTo(rayCluster("j")))},
			want{},
		},
		"cluster before owner": {
			"what names the cluster is closer than what names its owner, however young, and is no conflict", cluster("", nil), ofCronJob,
			[]*v1alpha1.RayTLSPolicy{policy("cron", 9, refersTo(cronJob("n"))), policy("job", 5, refersTo(job("j"))), policy("one", 1, targets("c"))},
			want{"one", rollout.Encrypted, nil},
		},
		"owner before owner's owner": {
			"and what names the RayJob closer than what names the RayCronJob", cluster("", nil), ofCronJob,
			[]*v1alpha1.RayTLSPolicy{policy("cron", 9, refersTo(cronJob("n"))), policy("job", 1, refersTo(job("j")))},
			want{"job", rollout.Encrypted, nil},
		},
		"owner before selector": {
			"and that closer than a selector", cluster("all", nil), ofCronJob,
			[]*v1alpha1.RayTLSPolicy{policy("all", 9), policy("cron", 1, refersTo(cronJob("n")))},
			want{"cron", rollout.Encrypted, nil},
		},
		"closer takes over": {
			"a cluster bound by its owner is singled out by its own name", cluster("job", nil), ofCronJob,
			[]*v1alpha1.RayTLSPolicy{policy("job", 9, refersTo(job("j"))), policy("one", 1, targets("c"))},
			want{"one", rollout.Encrypted, nil},
		},
		"farther does not": {
			"and is not taken back", cluster("one", nil), ofCronJob,
			[]*v1alpha1.RayTLSPolicy{policy("job", 9, refersTo(job("j"))), policy("one", 1, targets("c"))},
			want{"one", rollout.Encrypted, nil},
		},
		"two of a kind": {
			"two policies for one RayService are a conflict", cluster("", nil),
			[]v1alpha1.TargetReference{service("s")},
			[]*v1alpha1.RayTLSPolicy{policy("p", 9, refersTo(service("s"))), policy("q", 1, refersTo(service("s")))},
			want{"p", rollout.Encrypted, []string{"q"}},
		},
		"target changed": {
			"a bound cluster stays when the targetRef comes to name something else", cluster("p", nil), ofCronJob,
			[]*v1alpha1.RayTLSPolicy{policy("p", 1, refersTo(job("other"))), policy("all", 9)},
			want{"p", rollout.Encrypted, nil},
		},
	} {
		t.Run(name, func(t *testing.T) {
			got := outcome(Decide(Subject{Object: c.cluster, Owners: c.owners}, c.policies))
			if diff := cmp.Diff(c.want, got); diff != "" {
				t.Errorf("%s (-want +got):\n%s", c.reason, diff)
			}
		})
	}
}

// The order in which a list comes from a cache is nobody's to rely on.
func TestDecideDoesNotDependOnTheOrder(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		var policies []*v1alpha1.RayTLSPolicy
		for _, name := range []string{"a", "b", "c", "d"} {
			var options []option
			if rapid.Bool().Draw(t, "targets") {
				options = append(options, refersTo(rapid.SampledFrom([]v1alpha1.TargetReference{
					rayCluster("c"), rayCluster("other"), job("j"), cronJob("n"), service("s"),
				}).Draw(t, "target")))
			}
			if rapid.Bool().Draw(t, "deleted") {
				options = append(options, deleted)
			}
			if rapid.Bool().Draw(t, "removes") {
				options = append(options, removes)
			}
			policies = append(policies, policy(name, rapid.IntRange(0, 2).Draw(t, "age"), options...))
		}
		labels := map[string]string{}
		if rapid.Bool().Draw(t, "excluded") {
			labels[v1alpha1.LabelExclude] = ""
		}
		c := cluster(rapid.SampledFrom([]string{"", "a", "b", "gone"}).Draw(t, "bound"), labels)
		subject := Subject{Object: c, Owners: []v1alpha1.TargetReference{job("j"), cronJob("n")}}
		want := Decide(subject, policies)
		shuffled := rapid.Permutation(policies).Draw(t, "order")
		got := Decide(subject, shuffled)
		if got.Policy != want.Policy || got.Goal != want.Goal || !slices.Equal(got.Losers, want.Losers) {
			t.Fatalf("got %v, want %v", got, want)
		}
		// Deciding again once the cluster is bound gives the same: nothing ever goes back and forth.
		if got.Policy != nil && got.Goal == rollout.Encrypted && got.Policy.DeletionTimestamp.IsZero() {
			subject.Object = cluster(got.Policy.Name, labels)
			if next := Decide(subject, policies); next.Policy != got.Policy {
				t.Fatalf("bound to %s, it would go on to %v", got.Policy.Name, next.Policy)
			}
		}
	})
}
