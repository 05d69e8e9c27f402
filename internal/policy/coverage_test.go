package policy

import (
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"pgregory.net/rapid"

	"github.com/raytls/raytls/api/v1alpha1"
)

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

func disables(p *v1alpha1.RayTLSPolicy) { p.Spec.DeletionPolicy = v1alpha1.DeletionDisable }

func deleted(p *v1alpha1.RayTLSPolicy) {
	p.DeletionTimestamp = &metav1.Time{Time: epoch()}
}

func cluster(bound string, labels map[string]string) Subject {
	return Subject{Object: &metav1.ObjectMeta{Name: "c", Labels: labels}, Bound: bound}
}

func underWay(c Subject) Subject {
	c.UnderWay = true
	return c
}

// want is a decision, by name.
type want struct {
	Policy string
	Goal   v1alpha1.RolloutGoal
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

func TestDecide(t *testing.T) {
	excluded := map[string]string{v1alpha1.LabelExclude: v1alpha1.ExcludeTrue}
	for name, c := range map[string]struct {
		reason   string
		cluster  Subject
		policies []*v1alpha1.RayTLSPolicy
		want     want
	}{
		"none": {"a namespace without a policy is left alone", cluster("", nil), nil, want{}},
		"selector": {
			"an empty selector covers every cluster", cluster("", nil),
			[]*v1alpha1.RayTLSPolicy{policy("p", 1)},
			want{"p", v1alpha1.GoalEncrypted, nil},
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
			want{"p", v1alpha1.GoalEncrypted, nil},
		},
		"sticky against an older one": {
			"a bound cluster stays though an older policy covers it", cluster("young", nil),
			[]*v1alpha1.RayTLSPolicy{policy("old", 9), policy("young", 1)},
			want{"young", v1alpha1.GoalEncrypted, []string{"old"}},
		},
		"older first": {
			"the older of two wins", cluster("", nil),
			[]*v1alpha1.RayTLSPolicy{policy("young", 1), policy("old", 9)},
			want{"old", v1alpha1.GoalEncrypted, []string{"young"}},
		},
		"name decides": {
			"of two of the same second, the name decides", cluster("", nil),
			[]*v1alpha1.RayTLSPolicy{policy("b", 1), policy("a", 1)},
			want{"a", v1alpha1.GoalEncrypted, []string{"b"}},
		},
		"takeover": {
			"a targetRef takes a bound cluster over from a selector, which is no conflict", cluster("all", nil),
			[]*v1alpha1.RayTLSPolicy{policy("all", 9), policy("one", 1, targets("c"))},
			want{"one", v1alpha1.GoalEncrypted, nil},
		},
		"two targets": {
			"two targetRefs for one cluster are a conflict", cluster("", nil),
			[]*v1alpha1.RayTLSPolicy{policy("one", 9, targets("c")), policy("two", 1, targets("c")), policy("all", 20)},
			want{"one", v1alpha1.GoalEncrypted, []string{"two"}},
		},
		"bound to a target": {
			"a targetRef does not take over from a targetRef", cluster("two", nil),
			[]*v1alpha1.RayTLSPolicy{policy("one", 9, targets("c")), policy("two", 1, targets("c"))},
			want{"two", v1alpha1.GoalEncrypted, []string{"one"}},
		},
		"excluded": {
			"an excluded cluster that is bound to nobody is left alone", cluster("", excluded),
			[]*v1alpha1.RayTLSPolicy{policy("p", 1, disables)},
			want{},
		},
		"excluded by another value": {
			"one value excludes, so that a typing error does not turn TLS off", cluster("", map[string]string{v1alpha1.LabelExclude: "false"}),
			[]*v1alpha1.RayTLSPolicy{policy("p", 1)},
			want{"p", v1alpha1.GoalEncrypted, nil},
		},
		"excluded and kept": {
			"an excluded cluster stays as it is by default", cluster("p", excluded), []*v1alpha1.RayTLSPolicy{policy("p", 1)}, want{},
		},
		"excluded and removed": {
			"an excluded cluster is given back with Disable", cluster("p", excluded),
			[]*v1alpha1.RayTLSPolicy{policy("p", 1, disables)},
			want{"p", v1alpha1.GoalPlaintext, nil},
		},
		"deleted": {
			"a deleted policy with Retain does nothing more", cluster("p", nil), []*v1alpha1.RayTLSPolicy{policy("p", 1, deleted)}, want{},
		},
		"deleted in the middle": {
			"half a cluster cannot talk to the other half, so a restart is ended first", underWay(cluster("p", nil)),
			[]*v1alpha1.RayTLSPolicy{policy("p", 1, deleted)},
			want{"p", v1alpha1.GoalEncrypted, nil},
		},
		"deleted while replaced": {
			"a cluster that its RayService replaces works until it is gone, so nothing holds the policy", cluster("p", nil),
			[]*v1alpha1.RayTLSPolicy{policy("p", 1, deleted)},
			want{},
		},
		"deleted with Disable": {
			"a deleted policy with Disable gives back", cluster("p", nil),
			[]*v1alpha1.RayTLSPolicy{policy("p", 1, deleted, disables)},
			want{"p", v1alpha1.GoalPlaintext, nil},
		},
		"deleted, never bound": {
			"a deleted policy has nothing to give back to a cluster that is not its", cluster("", nil),
			[]*v1alpha1.RayTLSPolicy{policy("p", 1, deleted, disables)},
			want{},
		},
		"deleted, with an heir": {
			"another policy that covers the cluster takes it over as it is", cluster("p", nil),
			[]*v1alpha1.RayTLSPolicy{policy("p", 9, deleted, disables), policy("q", 1)},
			want{"q", v1alpha1.GoalEncrypted, nil},
		},
		"gone": {
			"a cluster of a policy that is gone is adopted by one that covers it", cluster("gone", nil),
			[]*v1alpha1.RayTLSPolicy{policy("q", 1)},
			want{"q", v1alpha1.GoalEncrypted, nil},
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
			if diff := cmp.Diff(c.want, outcome(Decide(c.cluster, c.policies))); diff != "" {
				t.Errorf("%s (-want +got):\n%s", c.reason, diff)
			}
		})
	}
}

func TestDecideByOwner(t *testing.T) {
	ofCronJob := []v1alpha1.TargetReference{job("j"), cronJob("n")}
	for name, c := range map[string]struct {
		reason   string
		cluster  Subject
		owners   []v1alpha1.TargetReference
		policies []*v1alpha1.RayTLSPolicy
		want     want
	}{
		"job": {
			"a RayJob's cluster is covered with it", cluster("", nil), ofCronJob,
			[]*v1alpha1.RayTLSPolicy{policy("p", 1, refersTo(job("j")))},
			want{"p", v1alpha1.GoalEncrypted, nil},
		},
		"cron job": {
			"and with the RayCronJob that made the RayJob", cluster("", nil), ofCronJob,
			[]*v1alpha1.RayTLSPolicy{policy("p", 1, refersTo(cronJob("n")))},
			want{"p", v1alpha1.GoalEncrypted, nil},
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
			want{"one", v1alpha1.GoalEncrypted, nil},
		},
		"owner before owner's owner": {
			"and what names the RayJob closer than what names the RayCronJob", cluster("", nil), ofCronJob,
			[]*v1alpha1.RayTLSPolicy{policy("cron", 9, refersTo(cronJob("n"))), policy("job", 1, refersTo(job("j")))},
			want{"job", v1alpha1.GoalEncrypted, nil},
		},
		"owner before selector": {
			"and that closer than a selector", cluster("all", nil), ofCronJob,
			[]*v1alpha1.RayTLSPolicy{policy("all", 9), policy("cron", 1, refersTo(cronJob("n")))},
			want{"cron", v1alpha1.GoalEncrypted, nil},
		},
		"closer takes over": {
			"a cluster bound by its owner is singled out by its own name", cluster("job", nil), ofCronJob,
			[]*v1alpha1.RayTLSPolicy{policy("job", 9, refersTo(job("j"))), policy("one", 1, targets("c"))},
			want{"one", v1alpha1.GoalEncrypted, nil},
		},
		"farther does not": {
			"and is not taken back", cluster("one", nil), ofCronJob,
			[]*v1alpha1.RayTLSPolicy{policy("job", 9, refersTo(job("j"))), policy("one", 1, targets("c"))},
			want{"one", v1alpha1.GoalEncrypted, nil},
		},
		"two of a kind": {
			"two policies for one RayService are a conflict", cluster("", nil),
			[]v1alpha1.TargetReference{service("s")},
			[]*v1alpha1.RayTLSPolicy{policy("p", 9, refersTo(service("s"))), policy("q", 1, refersTo(service("s")))},
			want{"p", v1alpha1.GoalEncrypted, []string{"q"}},
		},
		"target changed": {
			"a bound cluster stays when the targetRef comes to name something else", cluster("p", nil), ofCronJob,
			[]*v1alpha1.RayTLSPolicy{policy("p", 1, refersTo(job("other"))), policy("all", 9)},
			want{"p", v1alpha1.GoalEncrypted, nil},
		},
	} {
		t.Run(name, func(t *testing.T) {
			c.cluster.Owners = c.owners
			got := outcome(Decide(c.cluster, c.policies))
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
			if rapid.Bool().Draw(t, "disables") {
				options = append(options, disables)
			}
			policies = append(policies, policy(name, rapid.IntRange(0, 2).Draw(t, "age"), options...))
		}
		labels := map[string]string{}
		if rapid.Bool().Draw(t, "excluded") {
			labels[v1alpha1.LabelExclude] = v1alpha1.ExcludeTrue
		}
		subject := cluster(rapid.SampledFrom([]string{"", "a", "b", "gone"}).Draw(t, "bound"), labels)
		subject.Owners = []v1alpha1.TargetReference{job("j"), cronJob("n")}
		want := Decide(subject, policies)
		shuffled := rapid.Permutation(policies).Draw(t, "order")
		got := Decide(subject, shuffled)
		if got.Policy != want.Policy || got.Goal != want.Goal || !slices.Equal(got.Losers, want.Losers) {
			t.Fatalf("got %v, want %v", got, want)
		}
		// Deciding again once the cluster is bound gives the same: nothing ever goes back and forth.
		if got.Policy != nil && got.Goal == v1alpha1.GoalEncrypted && got.Policy.DeletionTimestamp.IsZero() {
			subject.Bound = got.Policy.Name
			if next := Decide(subject, policies); next.Policy != got.Policy {
				t.Fatalf("bound to %s, it would go on to %v", got.Policy.Name, next.Policy)
			}
		}
	})
}

func TestInvalidExclude(t *testing.T) {
	for name, c := range map[string]struct {
		reason   string
		labels   map[string]string
		excluded bool
		want     string
	}{
		"no label": {reason: "there is nothing to say"},
		"true":     {reason: "the one value that excludes", labels: map[string]string{v1alpha1.LabelExclude: "true"}, excluded: true},
		"empty":    {reason: "an empty value excludes nothing", labels: map[string]string{v1alpha1.LabelExclude: ""}, want: `label raytls.io/exclude of RayCluster c is "", which excludes nothing; set it to "true", or remove it`},
		"false":    {reason: "who writes false means to be covered", labels: map[string]string{v1alpha1.LabelExclude: "false"}, want: `is "false"`},
		"True":     {reason: "values are compared as they are", labels: map[string]string{v1alpha1.LabelExclude: "True"}, want: `is "True"`},
	} {
		t.Run(name, func(t *testing.T) {
			object := &metav1.ObjectMeta{Name: "c", Labels: c.labels}
			if got := Excluded(object); got != c.excluded {
				t.Errorf("%s: excluded is %t", c.reason, got)
			}
			if got := InvalidExclude(object); !strings.Contains(got, c.want) || (got == "") != (c.want == "") {
				t.Errorf("%s: got %q, want %q", c.reason, got, c.want)
			}
		})
	}
}
