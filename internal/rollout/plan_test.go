package rollout

import (
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/raytls/raytls/api/v1alpha1"
)

func start() time.Time { return time.Date(2026, 1, 2, 3, 4, 5, 0, time.UTC) }

// planCase is a decision: what differs from a plaintext cluster that runs well and may be restarted, and what is planned.
type planCase struct {
	reason  string
	differs []func(*Snapshot)
	want    string
}

func with(differs ...func(*Snapshot)) []func(*Snapshot) { return differs }

// plaintextCluster has a head, group a with two workers and group b with one of the same kind.
func plaintextCluster() *Snapshot {
	pod := func(name, group string, age time.Duration) Pod {
		return Pod{Name: name, UID: "uid-" + name, Group: group, Ready: true, Created: start().Add(-age)}
	}
	return &Snapshot{
		Now: start(), Goal: v1alpha1.GoalEncrypted, Immediate: true, Provisioned: true, Observed: true, Attempt: "this", Deadline: 10 * time.Minute,
		Templates: []Template{
			{Stripped: true, Recorded: true}, {Group: "a", Stripped: true, Replicas: 2, CanaryKey: "k"}, {Group: "b", Stripped: true, Replicas: 1, CanaryKey: "k"},
		},
		Record: Record{Changed: map[string]Change{"": {v1alpha1.GoalPlaintext, start()}, "a": {v1alpha1.GoalPlaintext, start()}, "b": {v1alpha1.GoalPlaintext, start()}}},
		Pods:   []Pod{pod("head", "", 3*time.Hour), pod("a1", "a", 2*time.Hour), pod("a2", "a", time.Hour), pod("b1", "b", time.Hour)},
	}
}

func checkPlans(t *testing.T, cases map[string]planCase) {
	t.Helper()
	for name, tc := range cases {
		t.Run(name, func(t *testing.T) {
			s := plaintextCluster()
			for _, change := range tc.differs {
				change(s)
			}
			p := Make(s)
			if diff := cmp.Diff(tc.want, strings.TrimSpace(acts(s, &p)+p.Reason)); diff != "" {
				t.Errorf("%s (-want +got):\n%s%s", tc.reason, diff, p.Message)
			}
		})
	}
}

// acts is what a plan does, in short.
func acts(s *Snapshot, p *Plan) string {
	var out []string
	if p.Edit != NoEdit {
		out = append(out, strings.TrimSpace(fmt.Sprintf("%s %q", p.Edit, p.Groups)))
	}
	if p.Changes(s) {
		phase := "none"
		if p.Progress != nil {
			phase = string(p.Progress.Phase)
		}
		out = append(out, fmt.Sprintf("record enabled=%v failed=%v phase=%s", p.Enabled, p.FailedAttempt != "", phase))
	}
	if p.Upgrade != "" {
		out = append(out, "ask the RayService")
	}
	for _, pod := range p.Delete {
		out = append(out, "delete "+pod.Name)
	}
	for _, pod := range p.Evict {
		out = append(out, "evict "+pod.Name)
	}
	if p.Release {
		out = append(out, "release")
	}
	if len(out) == 0 {
		return ""
	}
	return "[" + strings.Join(out, "; ") + "] "
}

// groups changes the templates of these groups.
func groups(change func(*Template), names ...string) func(*Snapshot) {
	return func(s *Snapshot) {
		for i := range s.Templates {
			if slices.Contains(names, s.Templates[i].Group) {
				change(&s.Templates[i])
			}
		}
	}
}

func templatesWithTLS(names ...string) func(*Snapshot) {
	turn := groups(func(t *Template) { t.Injected, t.Pieces, t.Stripped, t.Recorded = true, true, false, true }, names...)
	return func(s *Snapshot) {
		turn(s)
		for _, name := range names {
			s.Changed[name] = Change{v1alpha1.GoalEncrypted, start()}
		}
	}
}

func allTemplatesWithTLS() func(*Snapshot) { return templatesWithTLS("", "a", "b") }

func replicas(n int32, names ...string) func(*Snapshot) {
	return groups(func(t *Template) { t.Replicas = n }, names...)
}

func onPods(change func(*Pod), names ...string) func(*Snapshot) {
	return func(s *Snapshot) {
		for i := range s.Pods {
			if slices.Contains(names, s.Pods[i].Name) {
				change(&s.Pods[i])
			}
		}
	}
}

func starting(names ...string) func(*Snapshot) {
	return onPods(func(p *Pod) { p.Injected, p.Certified, p.Ready = true, false, false }, names...)
}

func certifiedPods(names ...string) func(*Snapshot) {
	return onPods(func(p *Pod) { p.Injected, p.Certified = true, true }, names...)
}

func failedPods(names ...string) func(*Snapshot) {
	return onPods(func(p *Pod) { p.Injected, p.Certified, p.Ready, p.Failure = true, false, false, "no openssl" }, names...)
}

func unready(names ...string) func(*Snapshot) {
	return onPods(func(p *Pod) { p.Ready = false }, names...)
}

func going(names ...string) func(*Snapshot) {
	return onPods(func(p *Pod) { p.Terminating, p.Deadline = true, start().Add(30*time.Second) }, names...)
}

func gone(names ...string) func(*Snapshot) {
	return func(s *Snapshot) {
		s.Pods = slices.DeleteFunc(s.Pods, func(p Pod) bool { return slices.Contains(names, p.Name) })
	}
}

// in phase for so long.
func phase(goal v1alpha1.RolloutGoal, phase v1alpha1.RolloutPhase, since time.Duration, canaries ...string) func(*Snapshot) {
	return func(s *Snapshot) {
		s.Progress = &Progress{Goal: goal, Phase: phase, Since: start().Add(-since)}
		for _, name := range canaries {
			if s.Progress.Canaries == nil {
				s.Progress.Canaries = map[string]string{}
			}
			s.Progress.Canaries[name[:1]] = name
		}
	}
}

func allPods() []string { return []string{"head", "a1", "a2", "b1"} }

func set(change func(*Snapshot)) func(*Snapshot) { return change }

func blockedNow() func(*Snapshot) {
	return func(s *Snapshot) { s.BlockedBy, s.BlockedWhy = "RayJob/x", "it runs" }
}
func selector() func(*Snapshot)    { return func(s *Snapshot) { s.Immediate = false } }
func approved() func(*Snapshot)    { return func(s *Snapshot) { s.Approved = true } }
func suspended() func(*Snapshot)   { return func(s *Snapshot) { s.Suspended = true } }
func noSlot() func(*Snapshot)      { return func(s *Snapshot) { s.NoSlot = "another one is restarted" } }
func toPlaintext() func(*Snapshot) { return func(s *Snapshot) { s.Goal = v1alpha1.GoalPlaintext } }

// recorded is on record as encrypted, and was injected after its pods were made.
func recorded() func(*Snapshot) {
	return func(s *Snapshot) { s.Enabled, s.InjectedAt = true, start().Add(-time.Minute) }
}

func failedOn(hash string) func(*Snapshot) {
	return func(s *Snapshot) { s.FailedAttempt, s.FailedBecause = hash, "no openssl" }
}

// serving is a RayService whose cluster this is.
func serving(differs ...func(*Service)) func(*Snapshot) {
	return func(s *Snapshot) {
		s.Service = &Service{Name: "x", Serving: true, Ask: "this"}
		for _, change := range differs {
			change(s.Service)
		}
	}
}

func askedAgo(ago time.Duration) func(*Service) {
	return func(v *Service) { v.Asked, v.AskedAt = v.Ask, start().Add(-ago) }
}
func nextIs(name string) func(*Service) { return func(v *Service) { v.Next = name } }
func refuses() func(*Service)           { return func(v *Service) { v.Refuses = "upgradeStrategy is None" } }
func missed() func(*Service)            { return func(v *Service) { v.Missed = true } }
func idle() func(*Service)              { return func(v *Service) { v.Serving = false } }

func recreated(observed bool) func(*Snapshot) {
	return func(s *Snapshot) { s.Recreate, s.Observed = true, observed }
}

func restoredAgo(ago ...time.Duration) func(*Snapshot) {
	return func(s *Snapshot) {
		for _, d := range ago {
			s.Restored = append(s.Restored, start().Add(-d))
		}
	}
}

// alteredPods hold pieces, were made a moment after their template, and do not speak TLS.
func alteredPods(names ...string) func(*Snapshot) {
	return onPods(func(p *Pod) {
		p.Injected, p.Certified, p.Pieces, p.Differs, p.Created = false, false, true, "container ray has another value of RAY_USE_TLS", start().Add(time.Second)
	}, names...)
}

func madeAgo(ago time.Duration, names ...string) func(*Snapshot) {
	return onPods(func(p *Pod) { p.Created = start().Add(-ago) }, names...)
}

// olderTemplates were changed long before any pod was made.
func olderTemplates() func(*Snapshot) {
	return func(s *Snapshot) {
		for group, change := range s.Changed {
			s.Changed[group] = Change{change.Goal, start().Add(-24 * time.Hour)}
		}
		for i := range s.Pods {
			if p := &s.Pods[i]; !p.Injected && p.Differs == "" {
				p.Differs = "it has no init container raytls-init"
			}
		}
	}
}

func now(later time.Duration) func(*Snapshot) {
	return func(s *Snapshot) { s.Now = start().Add(later) }
}
