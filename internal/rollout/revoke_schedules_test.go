package rollout

import (
	"fmt"
	"slices"
	"testing"
	"time"
)

// revokedWholly expects that no pod mounts, and no template names, the CA Secret of a revoked authority, and that the Secrets hold what is on
// record.
func (x *schedule) revokedWholly() error {
	if !x.encrypted() {
		return fmt.Errorf("it ends as %s", x.ends())
	}
	if x.keys < x.revokeTo || max(x.record.RevokedBefore, x.keys) != x.keys {
		return fmt.Errorf("the keys are of the generations since %d, the record says %d, and the policy asks for %d", x.keys, x.record.RevokedBefore, x.revokeTo)
	}
	for _, i := range x.own(func(simPod) bool { return true }) {
		if p := x.pods[i]; p.since != x.keys {
			return fmt.Errorf("%s mounts the Secret of the generations since %d, and not %d", p.name, p.since, x.keys)
		}
	}
	for _, t := range x.cluster.templates {
		if t.since != x.keys {
			return fmt.Errorf("the template of %q names the Secret of the generations since %d, and not %d", t.group, t.since, x.keys)
		}
	}
	return nil
}

func TestUndisturbedRevocationRestartsEachPodOnce(t *testing.T) {
	each(t, func(x *schedule) {
		x.prompt = x.r.IntN(4) > 0
		x.encryptedSchedule()
		x.restarts = map[string]simPod{}
		if x.r.IntN(2) == 0 {
			x.now = x.now.Add(time.Hour) // the templates were injected long ago
		}
		revokes(x.world)
	}, func(x *schedule) error {
		restarted := x.restarted()
		for _, i := range x.own(func(simPod) bool { return true }) {
			slot, alone := x.pods[i].slot, x.pods[i].replica == "" // KubeRay deletes the other hosts of a replica
			if n := restarted[slot]; n == 0 && alone || n > 1 && x.prompt {
				return fmt.Errorf("%s was restarted %d times", slot, n)
			}
		}
		return x.revokedWholly()
	})
}

// TestRevokedAtAnyMoment has users, KubeRay and backups at work meanwhile.
func TestRevokedAtAnyMoment(t *testing.T) {
	each(t, func(x *schedule) {
		x.encryptedSchedule()
		x.ahead = []time.Duration{0, 0, 0, -5 * time.Minute}[x.r.IntN(4)]
		if x.prompt = x.r.IntN(2) == 0; x.prompt && x.ahead == 0 { // KubeRay that lags would repeat itself by such a clock
			x.ahead = []time.Duration{0, 5 * time.Minute}[x.r.IntN(2)]
		}
		x.immediate, x.approver = x.r.IntN(2) == 0, true
		revokes(x.world)
		x.revokeNow = x.r.IntN(3) == 0
		again := func(x *schedule) string {
			if x.keys < x.revokeTo {
				return "has asked for a revocation already"
			}
			revokes(x.world)
			return fmt.Sprintf("asks for a revocation below %d", x.revokeTo)
		}
		manifest := func(x *schedule) string {
			x.edit(func(c *simCluster) {
				for i := range c.templates {
					c.templates[i].since = 0
				}
			})
			return "applies a manifest of before"
		}
		record := func(x *schedule) string {
			x.restoreRecord(x.r.IntN(len(x.records)))
			return fmt.Sprintf("restores a record, below %d", x.record.RevokedBefore)
		}
		lost := func(x *schedule) string {
			x.loseRecord()
			return "loses the record"
		}
		x.may = slices.Concat(scaling(), pods(), suspending(), jobs(), []func(*schedule) string{again, manifest, record, lost})
	}, (*schedule).revokedWholly)
}

// TestRevokedAndDisabledAtAnyMoment has the injection taken out as well, by users or by a policy that goes.
func TestRevokedAndDisabledAtAnyMoment(t *testing.T) {
	each(t, func(x *schedule) {
		x.encryptedSchedule()
		x.immediate = x.r.IntN(2) == 0
		revokes(x.world)
		x.may = slices.Concat(scaling(), pods(), suspending(), jobs(), approving())
		if x.may = append(x.may, disabling()); x.r.IntN(2) == 0 {
			x.may = append(x.may[:len(x.may)-1], templates()...)
		}
	}, func(*schedule) error { return nil })
}

func TestNobodyAskedNobodyIsRevoked(t *testing.T) {
	each(t, func(x *schedule) {
		x.encryptedSchedule()
		x.immediate = false
		x.restarts = map[string]simPod{}
		revokes(x.world)
		x.may = slices.Concat(scaling(), jobs())
	}, func(x *schedule) error {
		if (len(x.restarts) > 0 || x.keys > 0) && !x.stopped {
			return fmt.Errorf("it was revoked")
		}
		return nil
	})
}
