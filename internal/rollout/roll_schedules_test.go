package rollout

import (
	"errors"
	"fmt"
	"slices"
	"testing"
	"time"

	"github.com/raytls/raytls/api/v1alpha1"
	"github.com/raytls/raytls/internal/kube"
)

// evictionsAllowed checks that what is evicted needs a new certificate, that nothing forbids it, and that enough is left.
func evictionsAllowed(s *Snapshot, p *Plan) error {
	if len(p.Evict) == 0 {
		return nil
	}
	f := s.fleet()
	unavailable, broken, hasHead := f.unavailable, 0, false
	seen := map[string]bool{}
	for _, pod := range p.Evict {
		hasHead = hasHead || pod.Group == ""
		switch {
		case !slices.Contains(s.Pods, pod) || pod.Terminating || seen[pod.UID]:
			return fmt.Errorf("evicts %s, which is not the cluster's, goes anyway or goes twice", pod.Name)
		case pod.HeldBy != "" || pod.Replica == "" && s.holdsOff(pod):
			return fmt.Errorf("evicts %s, which %s holds, or which was refused a moment ago", pod.Name, pod.HeldBy)
		case s.Roll.BlockedBy != "" || s.Roll.OnDelete || s.Roll.Paused || s.Suspended || s.Goal != v1alpha1.GoalEncrypted || !s.rolling():
			return fmt.Errorf("evicts %s of a cluster that must not be rolled", pod.Name)
		case pod.Replica == "" && s.due(pod) == "":
			return fmt.Errorf("evicts %s, which needs no new certificate", pod.Name)
		}
		seen[pod.UID] = true
	}
	for _, r := range f.replicas {
		taken := 0
		for _, pod := range r.pods {
			if seen[pod.UID] {
				taken++
			}
		}
		switch {
		case taken == 0:
			continue
		case taken < len(r.pods):
			return fmt.Errorf("evicts %d of the %d hosts of a replica", taken, len(r.pods))
		case r.available:
			unavailable++
		default:
			broken++
		}
		if r.available && unavailable > s.Roll.MaxUnavailable || broken > s.Roll.MaxUnavailable {
			return fmt.Errorf("leaves %d replicas unavailable, and %d may be", unavailable, s.Roll.MaxUnavailable)
		}
	}
	if hasHead {
		loses := s.Roll.Head == v1alpha1.HeadRestartIfFaultTolerant && !s.Roll.FaultTolerant
		switch {
		case len(p.Evict) > 1 || unavailable > f.unavailable:
			return fmt.Errorf("evicts the head with workers")
		case s.Roll.Head == v1alpha1.HeadRestartNever || loses && !s.Approved || s.Queued && !s.Approved:
			return fmt.Errorf("evicts a head that must stay")
		case slices.ContainsFunc(f.replicas, func(r replica) bool { return r.due && r.heldBy == "" }):
			return fmt.Errorf("evicts the head before a worker that is due")
		}
	}
	return nil
}

// slotFreed checks that a roll without progress holds its policy's slot no longer than its deadline.
func slotFreed(s *Snapshot, p *Plan) error {
	if !s.rolling() || p.Progress == nil || p.Progress.Phase != v1alpha1.PhaseRoll || len(p.Evict) > 0 || p.Edit != NoEdit {
		return nil
	}
	if begun := slices.MaxFunc([]time.Time{p.Progress.Since, p.Progress.From}, time.Time.Compare); !s.Now.Before(begun.Add(s.Deadline)) && !s.Roll.Paused {
		return fmt.Errorf("holds a slot though nothing has come of the roll since %s", begun)
	}
	return nil
}

// encryptedSchedule is a cluster that was encrypted from its start and is up.
func (x *schedule) encryptedSchedule() {
	x.roll.MaxUnavailable = 1 + x.r.IntN(3)
	for i := range x.cluster.templates[1:] {
		if x.r.IntN(4) == 0 {
			x.cluster.templates[i+1].hosts = 2
		}
	}
	x.clusters = []simCluster{x.cluster}
	for range 30 {
		for x.due() {
			x.operate(100)
			x.sync()
		}
		x.kuberay()
		x.now = x.now.Add(time.Second)
		x.kubelet()
		x.sync()
	}
	x.touched, x.recorded = false, false
}

// rolled checks that each pod that still runs is newer than the wish, and how often each place was restarted.
func (x *schedule) rolled(once bool) error {
	since := x.record.WorkerWish.Since
	for _, i := range x.own(func(simPod) bool { return true }) {
		p := x.pods[i]
		if !since.IsZero() && p.created.Before(since) {
			return fmt.Errorf("%s was not renewed", p.name)
		}
		if n := x.evicted[p.slot]; once && n != 1 {
			return fmt.Errorf("%s was restarted %d times", p.slot, n)
		}
	}
	return nil
}

func TestUndisturbedRollRestartsEachPodOnce(t *testing.T) {
	each(t, func(x *schedule) {
		x.encryptedSchedule()
		wishes(x.world)
	}, func(x *schedule) error {
		if !x.encrypted() {
			return fmt.Errorf("it ends as %s", x.ends())
		}
		return x.rolled(true)
	})
}

// TestRollByAClockThatIsAhead: the API server tells when a pod was created, and its clock is behind the operator's.
func TestRollByAClockThatIsAhead(t *testing.T) {
	each(t, func(x *schedule) {
		x.ahead = time.Duration(x.r.Int64N(int64(kube.ClockTolerance)) + 1)
		x.encryptedSchedule()
		wishes(x.world)
	}, func(x *schedule) error {
		if !x.encrypted() {
			return fmt.Errorf("it ends as %s", x.ends())
		}
		for slot, n := range x.evicted {
			if n > 1 {
				return fmt.Errorf("%s was restarted %d times", slot, n)
			}
		}
		if len(x.evicted) == 0 {
			return errors.New("nothing was restarted")
		}
		return nil
	})
}

func TestRollAmongAnything(t *testing.T) {
	each(t, func(x *schedule) {
		x.encryptedSchedule()
		x.approver = true
		x.roll.FaultTolerant = x.r.IntN(2) == 0
		x.cluster.queued = x.r.IntN(4) == 0
		x.clusters[len(x.clusters)-1] = x.cluster
		x.may = slices.Concat(scaling(), pods(), suspending(), jobs(), wishing(), holding(), refusing(), flapping(), losingNodes())
		wishes(x.world)
	}, func(x *schedule) error {
		x.settings(func() {
			clear(x.holds)
			clear(x.down)
			clear(x.pending)
		})
		if err := x.settle(); err != nil {
			return err
		}
		if !x.encrypted() {
			return fmt.Errorf("it ends as %s", x.ends())
		}
		if x.cluster.suspend {
			return nil
		}
		return x.rolled(false)
	})
}

func TestRollOnDeleteRestartsNothing(t *testing.T) {
	each(t, func(x *schedule) {
		x.encryptedSchedule()
		x.roll.OnDelete = true
		x.may = slices.Concat(scaling(), pods(), suspending(), jobs(), wishing())
		wishes(x.world)
	}, func(x *schedule) error {
		if len(x.evicted) > 0 {
			return fmt.Errorf("restarted %v", x.evicted)
		}
		return nil
	})
}

func TestDisabledInTheMiddleOfARoll(t *testing.T) {
	each(t, func(x *schedule) {
		x.encryptedSchedule()
		x.now = x.now.Add(time.Hour)
		wishes(x.world)
		x.immediate = x.r.IntN(2) == 0
		x.may = append(scaling(), disabling())
	}, func(x *schedule) error {
		if waits := x.goal == v1alpha1.GoalPlaintext && !x.immediate; waits && !x.stopped && x.ends() != v1alpha1.ReasonAwaitingApproval {
			return fmt.Errorf("a roll gave consent to disable: it ends as %s", x.ends())
		}
		return nil
	})
}

// The following functions return events that a schedule may play between two steps of the operator.

func wishing() []func(*schedule) string {
	return []func(*schedule) string{func(x *schedule) string {
		wishes(x.world)
		return "changes podCertificate"
	}}
}

func holding() []func(*schedule) string {
	return []func(*schedule) string{func(x *schedule) string {
		own := x.own(func(simPod) bool { return true })
		if len(own) == 0 {
			return "sees no pod to hold"
		}
		name := x.pods[own[x.r.IntN(len(own))]].name
		x.settings(func() {
			if x.holds[name] == "" {
				x.holds[name] = "annotation x"
				return
			}
			delete(x.holds, name)
		})
		return "holds or frees " + name
	}}
}

func refusing() []func(*schedule) string {
	return []func(*schedule) string{func(x *schedule) string {
		own := x.own(func(simPod) bool { return true })
		if len(own) == 0 {
			return "sees no pod to protect"
		}
		name := x.pods[own[x.r.IntN(len(own))]].name
		x.refused[name] = !x.refused[name]
		return fmt.Sprintf("has a webhook refuse to evict %s: %v", name, x.refused[name])
	}}
}

func flapping() []func(*schedule) string {
	return []func(*schedule) string{func(x *schedule) string {
		own := x.own(func(simPod) bool { return true })
		if len(own) == 0 {
			return "sees no pod to flap"
		}
		name := x.pods[own[x.r.IntN(len(own))]].name
		x.down[name] = !x.down[name]
		return fmt.Sprintf("sees %s down: %v", name, x.down[name])
	}}
}

func losingNodes() []func(*schedule) string {
	return []func(*schedule) string{func(x *schedule) string {
		group := x.cluster.templates[len(x.cluster.templates)-1].group
		if group == "" {
			return "has the head's node"
		}
		x.pending[group] = !x.pending[group]
		return fmt.Sprintf("has no node for %s: %v", group, x.pending[group])
	}}
}
