package rollout

import (
	"fmt"
	"slices"
	"testing"

	"github.com/raytls/raytls/api/v1alpha1"
)

// ends is the reason that a world at rest reports.
func (x *schedule) ends() string {
	p := Make(x.snapshot())
	return p.Reason
}

// encrypted says that a world at rest is encrypted, or will be as soon as it is resumed.
func (x *schedule) encrypted() bool {
	if x.cluster.suspend {
		return x.ends() == v1alpha1.ReasonSuspended
	}
	return x.ends() == v1alpha1.ReasonEncrypted
}

// restarted counts the operator's restarts by place in the cluster.
func (x *schedule) restarted() map[string]int {
	out := map[string]int{}
	for _, p := range x.restarts {
		out[p.slot]++
	}
	return out
}

func TestUndisturbedEnablingRestartsEachPodOnce(t *testing.T) {
	each(t, func(x *schedule) {
		x.prompt = x.r.IntN(4) > 0
		x.running()
	}, func(x *schedule) error {
		if x.ends() != v1alpha1.ReasonEncrypted {
			return fmt.Errorf("it ends as %s", x.ends())
		}
		for _, p := range x.restarts {
			if p.injected {
				return fmt.Errorf("restarted %s, which was encrypted", p.name)
			}
		}
		restarted := x.restarted()
		for _, i := range x.own(func(simPod) bool { return true }) {
			slot := x.pods[i].slot
			// Where KubeRay lags, it replaces a pod from the old template, in vain.
			if n := restarted[slot]; n == 0 || n > 1 && x.prompt {
				return fmt.Errorf("%s was restarted %d times", slot, n)
			}
		}
		return nil
	})
}

func TestFailedEnablingIsPutBack(t *testing.T) {
	each(t, func(x *schedule) {
		x.prompt = x.r.IntN(4) > 0
		bad := x.cluster.templates[x.r.IntN(len(x.cluster.templates))]
		for _, other := range x.cluster.templates {
			if other.group == bad.group || other.key == bad.key {
				x.inits[other.group] = []string{fails, hangs}[x.r.IntN(2)]
			}
		}
		x.running()
	}, func(x *schedule) error {
		for slot, n := range x.restarted() {
			if x.prompt && n > 2 {
				return fmt.Errorf("%s was restarted %d times", slot, n)
			}
		}
		for _, t := range x.cluster.templates {
			if t.group != "" && t.replicas == 0 {
				continue // its init container never ran
			}
			if made, ok := x.inits[t.group]; ok && x.ends() != v1alpha1.ReasonEnableFailed {
				return fmt.Errorf("ends as %s though that of %q %s", x.ends(), t.group, made)
			}
		}
		return nil
	})
}

func TestNobodyAskedNobodyIsTouched(t *testing.T) {
	each(t, func(x *schedule) {
		x.running()
		x.immediate = false
		x.may = slices.Concat(scaling(), pods(), jobs())
	}, func(x *schedule) error {
		if (x.touched || x.recorded) && !x.stopped {
			return fmt.Errorf("something was touched")
		}
		return nil
	})
}

func TestNewClusterIsEncryptedWithoutAsking(t *testing.T) {
	each(t, func(x *schedule) {
		x.immediate = false
		if x.r.IntN(2) == 0 {
			x.may = slices.Concat(scaling(), suspending())
		}
	}, func(x *schedule) error {
		if r := x.ends(); !x.encrypted() && r != v1alpha1.ReasonAwaitingApproval {
			return fmt.Errorf("it ends as %s", r)
		}
		return nil
	})
}

func TestRecreatedByKubeRay(t *testing.T) {
	each(t, func(x *schedule) {
		x.running()
		x.annotate(func(c *simCluster) { c.recreate = true })
		x.restamp = x.r.IntN(2) == 0
		x.approver = x.approve()
		if x.r.IntN(2) == 0 {
			x.may = slices.Concat(scaling(), pods(), suspending())
		}
	}, func(x *schedule) error {
		if !x.encrypted() {
			return fmt.Errorf("it ends as %s", x.ends())
		}
		return nil
	})
}

func TestEvictedByKueue(t *testing.T) {
	each(t, func(x *schedule) {
		x.running()
		x.annotate(func(c *simCluster) { c.queued = true })
		x.approver = x.approve()
		x.may = slices.Concat(scaling(), pods(), suspending())
	}, func(x *schedule) error {
		if !x.encrypted() {
			return fmt.Errorf("it ends as %s", x.ends())
		}
		return nil
	})
}

func TestDisabledAtAnyMoment(t *testing.T) {
	each(t, func(x *schedule) {
		x.running()
		if x.r.IntN(3) == 0 {
			x.inits["a"] = fails
		}
		x.may = append(scaling(), disabling())
		if x.r.IntN(2) == 0 {
			x.may = append(x.may, slices.Concat(pods(), suspending(), jobs())...)
		}
	}, func(*schedule) error { return nil })
}

func TestAnythingAtAnyMoment(t *testing.T) {
	each(t, func(x *schedule) {
		if x.r.IntN(3) > 0 {
			x.running()
		}
		x.immediate = x.r.IntN(2) == 0
		for _, t := range x.cluster.templates {
			if x.r.IntN(4) == 0 {
				x.inits[t.group] = []string{fails, hangs}[x.r.IntN(2)]
			}
		}
		x.may = slices.Concat(scaling(), pods(), suspending(), jobs(), templates(), approving())
	}, func(*schedule) error { return nil })
}

// The following functions return events that a schedule may play between two steps of the operator. Each event returns its description.

func scaling() []func(*schedule) string {
	return []func(*schedule) string{func(x *schedule) string {
		groups := x.cluster.templates[1:]
		if len(groups) == 0 {
			return "sees no group to scale"
		}
		group, to := groups[x.r.IntN(len(groups))].group, int32(x.r.IntN(4))
		x.template(group, func(t *simTemplate) { t.replicas = to })
		return fmt.Sprintf("scales %s to %d", group, to)
	}}
}

func pods() []func(*schedule) string {
	return []func(*schedule) string{func(x *schedule) string {
		own := x.own(func(simPod) bool { return true })
		if len(own) == 0 {
			return "sees no pod to delete"
		}
		at := own[x.r.IntN(len(own))]
		x.terminate(at)
		return "deletes " + x.pods[at].name
	}}
}

func suspending() []func(*schedule) string {
	return []func(*schedule) string{func(x *schedule) string {
		x.edit(func(c *simCluster) { c.suspend = !c.suspend })
		return fmt.Sprintf("suspends: %v", x.cluster.suspend)
	}}
}

func jobs() []func(*schedule) string {
	return []func(*schedule) string{func(x *schedule) string {
		x.settings(func() {
			x.blocked = map[string]string{"": "RayJob/x"}[x.blocked]
		})
		return fmt.Sprintf("runs a job: %q", x.blocked)
	}}
}

func approving() []func(*schedule) string {
	return []func(*schedule) string{func(x *schedule) string {
		return fmt.Sprintf("approves: %v", x.approve())
	}}
}

func disabling() func(*schedule) string {
	return func(x *schedule) string {
		x.settings(func() { x.goal = v1alpha1.GoalPlaintext })
		return "deletes the policy"
	}
}

func templates() []func(*schedule) string {
	return []func(*schedule) string{
		func(x *schedule) string {
			group := x.cluster.templates[x.r.IntN(len(x.cluster.templates))].group
			x.template(group, func(t *simTemplate) { t.edition++; t.stale = t.injected })
			return fmt.Sprintf("edits %q", group)
		},
		func(x *schedule) string {
			x.strip()
			return "strips"
		},
		func(x *schedule) string {
			group := fmt.Sprintf("new%d", x.cluster.version)
			if len(x.cluster.templates) > 4 {
				return "has groups enough"
			}
			x.edit(addGroup(group))
			return "adds group " + group
		},
	}
}
