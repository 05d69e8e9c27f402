package rollout

import (
	"fmt"
	"slices"
	"testing"
	"time"

	"github.com/raytls/raytls/api/v1alpha1"
)

// recording is what may happen to a record.
func recording() []func(*schedule) string {
	return []func(*schedule) string{
		func(x *schedule) string {
			x.loseRecord()
			return "deletes the record"
		},
		func(x *schedule) string {
			version := x.r.IntN(len(x.records))
			x.restoreRecord(version)
			r := &x.record
			return fmt.Sprintf("brings back record %d: enabled=%v failed=%v progress=%+v", version, r.Enabled, r.FailedAttempt != "", r.Progress)
		},
	}
}

// history has the cluster enabled, in some worlds after a failure or after having been enabled and disabled before.
func (x *schedule) history(t *testing.T) {
	t.Helper()
	settled := func(reason string) {
		if err := x.settle(); err != nil {
			t.Fatal(err)
		}
		if x.ends() != reason {
			t.Fatalf("it ends as %s and not as %s", x.ends(), reason)
		}
	}
	x.running()
	if x.r.IntN(3) == 0 {
		x.inits[""] = fails
		settled(v1alpha1.ReasonEnableFailed)
		delete(x.inits, "")
		x.template("", func(t *simTemplate) { t.edition++ })
	}
	if x.r.IntN(2) == 0 {
		settled(v1alpha1.ReasonEncrypted)
		x.settings(func() { x.goal = v1alpha1.GoalPlaintext })
		settled(v1alpha1.ReasonDisabling)
		x.settings(func() { x.goal = v1alpha1.GoalEncrypted })
	}
	settled(v1alpha1.ReasonEncrypted)
	x.tick(time.Minute)
}

// begin forgets what the operator did so far.
func (x *schedule) begin() {
	x.touched, x.recorded, x.stopped = false, false, false
	clear(x.restarts)
}

// left checks that the operator left the cluster alone.
func (x *schedule) left() error {
	if len(x.restarts) > 0 {
		return fmt.Errorf("restarted %v", x.restarted())
	}
	if x.touched {
		return fmt.Errorf("something was touched")
	}
	return nil
}

func TestLostRecordOfAnEncryptedCluster(t *testing.T) {
	each(t, func(x *schedule) {
		x.history(t)
		x.begin()
		x.immediate = x.r.IntN(2) == 0
		x.may = recording()
		if x.r.IntN(2) == 0 {
			x.may = slices.Concat(x.may, scaling(), jobs())
		}
	}, func(x *schedule) error {
		if !x.encrypted() {
			return fmt.Errorf("it ends as %s", x.ends())
		}
		return x.left()
	})
}

func TestLostRecordOfAClusterThatIsToStayEncrypted(t *testing.T) {
	each(t, func(x *schedule) {
		x.history(t)
		x.begin()
		x.immediate, x.goal, x.approvals = false, v1alpha1.GoalPlaintext, nil
		x.may = slices.Concat(recording(), scaling(), jobs())
	}, func(x *schedule) error {
		if r := x.ends(); r != v1alpha1.ReasonAwaitingApproval {
			return fmt.Errorf("it ends as %s", r)
		}
		return x.left()
	})
}

func TestLostRecordOfAPlaintextCluster(t *testing.T) {
	each(t, func(x *schedule) {
		x.history(t)
		x.settings(func() { x.goal = v1alpha1.GoalPlaintext })
		if err := x.settle(); err != nil {
			t.Fatal(err)
		}
		x.tick(time.Minute)
		x.begin()
		x.settings(func() { x.goal = v1alpha1.GoalEncrypted })
		x.immediate = false
		x.may = slices.Concat(recording(), scaling(), jobs())
	}, func(x *schedule) error {
		if r := x.ends(); r != v1alpha1.ReasonAwaitingApproval && r != v1alpha1.ReasonEnableFailed {
			return fmt.Errorf("it ends as %s", r)
		}
		return x.left()
	})
}

func TestLostRecordAtAnyMoment(t *testing.T) {
	each(t, func(x *schedule) {
		if x.r.IntN(3) > 0 {
			x.running()
		}
		x.immediate = x.r.IntN(2) == 0
		x.may = slices.Concat(recording(), scaling(), pods(), suspending(), jobs(), approving())
		if x.r.IntN(3) == 0 {
			x.may = append(x.may, disabling())
		} else {
			x.may = append(x.may, templates()[0], templates()[2]) // who strips and loses the record has a FieldConflict
		}
	}, func(*schedule) error { return nil })
}

func TestApprovalNamesOneRestart(t *testing.T) {
	id := func(differs ...func(*Snapshot)) string {
		s := plaintextCluster()
		for _, change := range differs {
			change(s)
		}
		return restartID(s)
	}
	failedAt := func(after time.Duration) func(*Snapshot) {
		return func(s *Snapshot) { failedOn("this")(s); s.Attempted = start().Add(after) }
	}
	asked := func(ago time.Duration) func(*Snapshot) {
		return func(s *Snapshot) {
			phase(v1alpha1.GoalEncrypted, v1alpha1.PhaseUpgrade, ago)(s)
			s.Attempted = start().Add(-ago)
		}
	}
	for name, tc := range map[string]struct {
		reason string
		a, b   string
		same   bool
	}{
		"workers":       {"workers come and go", id(), id(gone("a1", "b1"), starting("a2")), true},
		"other head":    {"it is for one head", id(), id(onPods(func(p *Pod) { p.UID = "uid-2" }, "head")), false},
		"other goal":    {"and one goal", id(), id(toPlaintext()), false},
		"failed":        {"what failed takes another", id(), id(failedAt(0)), false},
		"failed twice":  {"each time", id(failedAt(0)), id(failedAt(time.Minute)), false},
		"failed before": {"whatever was changed since", id(failedAt(0)), id(failedAt(0), failedOn("before")), true},
		"asked":         {"so does what was asked", id(), id(asked(0)), false},
		"asked twice":   {"each time", id(asked(0)), id(asked(time.Minute)), false},
	} {
		if (tc.a == tc.b) != tc.same || tc.a == "" || tc.b == "" {
			t.Errorf("%s: %s: %q and %q", name, tc.reason, tc.a, tc.b)
		}
	}
	if without := id(gone("head")); without != "" {
		t.Errorf("without a head there is nothing to approve, not %q", without)
	}
}

func TestServiceIsAskedOnce(t *testing.T) {
	each(t, func(x *schedule) {
		x.running()
		x.service = &Service{Name: "x", Serving: true}
		x.approver = x.r.IntN(2) == 0
		x.immediate = !x.approver
		x.may = scaling()
		if x.approver {
			x.may = append(x.may, jobs()...) // an operator that ends between recording and asking cannot ask while a job runs
		}
		if x.r.IntN(2) == 0 {
			x.may = append(x.may, recording()...)
		}
	}, func(x *schedule) error {
		if x.asks != 1 {
			return fmt.Errorf("asked %d times", x.asks)
		}
		if s := x.snapshot(); s.anyPieces() || len(x.restarts) > 0 {
			return fmt.Errorf("what serves was touched: %v", x.restarted())
		}
		return nil
	})
}

func TestFailedAttemptStaysOnRecord(t *testing.T) {
	begun := 0
	each(t, func(x *schedule) {
		for _, group := range x.cluster.templates {
			x.inits[group.group] = fails
		}
		x.running()
		if err := x.settle(); err != nil {
			t.Fatal(err)
		}
		begun = len(x.records)
		x.may = suspending()
	}, func(x *schedule) error {
		for _, r := range x.records[begun:] {
			if r.Progress != nil && r.Progress.Phase != v1alpha1.PhaseRevert {
				return fmt.Errorf("what failed was tried again: %+v", r.Progress)
			}
		}
		return nil
	})
}
