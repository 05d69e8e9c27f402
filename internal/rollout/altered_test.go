package rollout

import (
	"fmt"
	"slices"
	"testing"
	"time"

	"github.com/raytls/raytls/api/v1alpha1"
)

// admissions are what webhooks make of pods.
func admissions() map[string]func(*simPod) {
	alter := func(p *simPod, differs string) {
		p.injected, p.differs = false, differs
	}
	return map[string]func(*simPod){
		"nothing":             func(*simPod) {},
		"takes variables out": func(p *simPod) { alter(p, "container ray has no variable RAY_USE_TLS") },
		"takes all out": func(p *simPod) {
			p.pieces = false
			alter(p, "it has no init container raytls-init")
		},
		"changes the command": func(p *simPod) {
			if p.injected {
				p.differs = "init container raytls-init has another command"
			}
		},
		"adds TLS": func(p *simPod) { p.injected, p.pieces, p.differs = true, true, "" },
	}
}

func admissionNames() []string {
	return []string{"nothing", "takes variables out", "takes all out", "changes the command", "adds TLS"}
}

// admitting has somebody install another webhook.
func admitting() func(*schedule) string {
	return func(x *schedule) string {
		name := admissionNames()[x.r.IntN(len(admissionNames()))]
		x.admission = admissions()[name]
		return "installs a webhook that " + name
	}
}

// TestNoPodIsDeletedForWhatAdmissionMadeOfIt leaves the judgement to world.judge.
func TestNoPodIsDeletedForWhatAdmissionMadeOfIt(t *testing.T) {
	each(t, func(x *schedule) {
		if x.r.IntN(2) == 0 {
			admitting()(x)
		}
		if x.r.IntN(3) > 0 {
			x.running()
		}
		x.immediate = x.r.IntN(2) == 0
		x.admission = admissions()["nothing"]
		x.may = append(slices.Concat(scaling(), pods(), suspending(), jobs(), templates(), approving()), admitting(), admitting(), admitting(), excluding())
	}, func(*schedule) error { return nil })
}

func TestAlteredPodsAreReplacedTwiceAtMost(t *testing.T) {
	reported := map[string]int{}
	each(t, func(x *schedule) {
		name := admissionNames()[1+x.r.IntN(3)]
		if x.r.IntN(4) > 0 {
			x.running()
		}
		x.admission = admissions()[name]
		x.may = scaling()
	}, func(x *schedule) error {
		reason := x.ends()
		reported[reason]++
		if reason == v1alpha1.ReasonEncrypted {
			return fmt.Errorf("it is said to be encrypted")
		}
		// A place is turned by the attempt and by its end.
		for slot, n := range x.restarted() {
			if n > 4 {
				return fmt.Errorf("%s was restarted %d times", slot, n)
			}
		}
		return nil
	})
	if *oneSeed < 0 && (reported[v1alpha1.ReasonPodsAltered] == 0 || reported[v1alpha1.ReasonEnableFailed] == 0) {
		t.Errorf("the schedules do not end in each way: %v", reported)
	}
}

// TestAdmissionOfAnEncryptedCluster installs a webhook beside an encrypted cluster whose pods somebody deletes.
func TestAdmissionOfAnEncryptedCluster(t *testing.T) {
	each(t, func(x *schedule) {
		x.running()
		if err := x.settle(); err != nil {
			t.Fatal(err)
		}
		x.tick(time.Minute)
		x.begin()
		x.admission = admissions()[admissionNames()[1+x.r.IntN(3)]]
		x.may = slices.Concat(scaling(), pods())
	}, func(x *schedule) error {
		altered := len(x.snapshot().live(func(p Pod) bool { return p.Differs != "" })) > 0
		if r := x.ends(); altered != (r == v1alpha1.ReasonPodsAltered) {
			return fmt.Errorf("it ends as %s", r)
		}
		for slot, n := range x.restarted() {
			return fmt.Errorf("%s was restarted %d times, and no template changed", slot, n)
		}
		return nil
	})
}

// excluding has the cluster released, or covered again.
func excluding() func(*schedule) string {
	return func(x *schedule) string {
		x.settings(func() {
			x.goal = map[v1alpha1.RolloutGoal]v1alpha1.RolloutGoal{v1alpha1.GoalEncrypted: v1alpha1.GoalPlaintext, v1alpha1.GoalPlaintext: v1alpha1.GoalEncrypted}[x.goal]
		})
		return fmt.Sprintf("asks for %s", x.goal)
	}
}

// TestNoApprovalCountsTwice leaves the judgement to schedule.restartsAllowed.
func TestNoApprovalCountsTwice(t *testing.T) {
	failed := 0
	each(t, func(x *schedule) {
		x.running()
		x.immediate = false
		for _, t := range x.cluster.templates {
			if x.r.IntN(2) == 0 {
				x.inits[t.group] = fails
			}
		}
		x.may = append(slices.Concat(approving(), approving(), jobs(), templates()[:1]), excluding())
	}, func(x *schedule) error {
		if len(x.spent) > 0 {
			failed++
		}
		return nil
	})
	if *oneSeed < 0 && failed == 0 {
		t.Error("no schedule has a restart that failed")
	}
}

// TestSlowClock has the operator's clock be behind that of the API server.
func TestSlowClock(t *testing.T) {
	s := plaintextCluster()
	s.Changed = nil
	for i := range s.Pods {
		s.Pods[i].Created = start().Add(time.Minute)
	}
	p := Make(s)
	if at := p.Changed["a"].At; p.Edit != Inject || !at.Equal(start().Add(time.Minute)) {
		t.Fatalf("the templates change after the pods that are seen were made: %s of %v", p.Edit, p.Changed)
	}
	if at := p.Changed[""].At; !at.IsZero() {
		t.Errorf("the head's template is not changed, and it is recorded at %s", at)
	}
	groups(func(t *Template) { t.Injected, t.Pieces, t.Stripped = true, true, false }, "a")(s)
	s.Record = p.Record
	s.Now = start().Add(2 * time.Minute)
	if p = Make(s); len(p.Delete) != 1 {
		t.Errorf("the canary is not restarted: %s %s", acts(s, &p), p.Message)
	}
}
