package rollout

import (
	"testing"
	"time"

	"github.com/raytls/raytls/api/v1alpha1"
)

// halfRevoked is a cluster in the middle of a revocation: the head is of the new authority, and the worker of the revoked one.
func halfRevoked(change func(*Snapshot)) *Snapshot {
	now := start()
	s := &Snapshot{
		Now: now, Goal: v1alpha1.GoalEncrypted, Provisioned: true, Observed: true, Deadline: time.Minute,
		Record: Record{
			Enabled: true, RevokedBefore: 2, Progress: &Progress{Goal: v1alpha1.GoalEncrypted, Phase: v1alpha1.PhaseRevoke, Since: now.Add(-5 * time.Second)},
			Changed: map[string]Change{"": {Goal: v1alpha1.GoalEncrypted, At: now.Add(-4 * time.Second)}, "a": {Goal: v1alpha1.GoalEncrypted, At: now.Add(-4 * time.Second)}},
		},
		Templates: []Template{{Injected: true, Pieces: true, Recorded: true}, {Group: "a", Injected: true, Pieces: true, Recorded: true, Replicas: 1}},
		Pods: []Pod{
			{Name: "head", UID: "head", Injected: true, Pieces: true, Certified: true, Ready: true, Created: now.Add(-3 * time.Second)},
			{Name: "worker", UID: "worker", Group: "a", Injected: true, Pieces: true, Certified: true, Revoked: "it mounts another", Earlier: true, Created: now.Add(-time.Hour)},
		},
	}
	change(s)
	return s
}

func TestInTheMiddleOfARevocation(t *testing.T) {
	for name, c := range map[string]struct {
		reason string
		change func(*Snapshot)
		check  func(p *Plan) bool
	}{
		"as it is": {
			"the other pods go too", func(*Snapshot) {},
			func(p *Plan) bool { return len(p.Delete) == 1 && p.Delete[0].Name == "worker" },
		},
		"blocked": {
			"it cannot be put back, so a job changes nothing any more", func(s *Snapshot) { s.BlockedBy = "RayJob/x" },
			func(p *Plan) bool { return len(p.Delete) == 1 && p.Progress != nil },
		},
		"excluded": {
			"disabling does not wait either, since half of the pods cannot talk to the rest", func(s *Snapshot) { s.Goal = v1alpha1.GoalPlaintext },
			func(p *Plan) bool { return p.Edit == RemoveAll && !p.RestartWaits },
		},
		"stripped and restarted": {
			"somebody made a plaintext cluster of it, which is enabled anew", func(s *Snapshot) {
				for i := range s.Templates {
					s.Templates[i].Injected, s.Templates[i].Pieces, s.Templates[i].Stripped = false, false, true
					s.Pods[i].Injected, s.Pods[i].Pieces, s.Pods[i].Certified, s.Pods[i].Revoked = false, false, false, ""
				}
			},
			func(p *Plan) bool { return p.Edit == NoEdit && p.RestartWaits && p.RevokedBefore == 2 },
		},
		"record lost": {
			"pods of before go without a new decision", func(s *Snapshot) { s.Progress = nil },
			func(p *Plan) bool { return len(p.Delete) == 1 },
		},
		"record of the templates lost": {
			"the templates are put on record first", func(s *Snapshot) { s.Changed = nil },
			func(p *Plan) bool { return len(p.Delete) == 0 && len(p.Changed) > 0 },
		},
		"altered": {
			"the template is right, so its replacement would be the same", func(s *Snapshot) { s.Progress, s.Pods[1].Earlier = nil, false },
			func(p *Plan) bool { return len(p.Delete) == 0 && p.Reason == v1alpha1.ReasonPodsAltered },
		},
		"from the earlier template for ever": {
			"deletions have a bound, whatever the pod says", func(s *Snapshot) {
				s.Progress, s.Now = nil, s.Now.Add(time.Hour)
				s.Pods[1].Created = s.Now.Add(-time.Minute)
			},
			func(p *Plan) bool { return len(p.Delete) == 0 && p.Reason == v1alpha1.ReasonPodsAltered },
		},
		"given up": {
			"a template that somebody keeps changing back is left to the rules for it", func(s *Snapshot) {
				s.Now = s.Now.Add(time.Hour)
				s.Templates[1].Injected, s.Templates[1].Revoked = false, true
			},
			func(p *Plan) bool { return p.Progress == nil },
		},
	} {
		t.Run(name, func(t *testing.T) {
			if p := Make(halfRevoked(c.change)); !c.check(&p) {
				t.Errorf("%s: %+v", c.reason, p)
			}
		})
	}
}

func TestRevokesOnlyFromAStateThatHolds(t *testing.T) {
	for name, c := range map[string]struct {
		change func(*Snapshot)
		want   bool
	}{
		"at rest":             {func(*Snapshot) {}, true},
		"not asked":           {func(s *Snapshot) { s.Revocation.Asked = "" }, false},
		"to be plaintext":     {func(s *Snapshot) { s.Goal = v1alpha1.GoalPlaintext }, false},
		"rolling":             {func(s *Snapshot) { s.Progress = &Progress{Goal: v1alpha1.GoalEncrypted, Phase: v1alpha1.PhaseRoll} }, true},
		"being enabled":       {func(s *Snapshot) { s.Progress = &Progress{Goal: v1alpha1.GoalEncrypted, Phase: v1alpha1.PhaseHead} }, false},
		"being put back":      {func(s *Snapshot) { s.Progress = &Progress{Goal: v1alpha1.GoalEncrypted, Phase: v1alpha1.PhaseRevert} }, false},
		"not on record":       {func(s *Snapshot) { s.Enabled = false }, false},
		"plaintext with keys": {func(s *Snapshot) { s.Enabled, s.Pods = false, nil }, true},
	} {
		s := halfRevoked(func(s *Snapshot) { s.Progress, s.Revocation.Asked = nil, "asked" })
		if c.change(s); s.Revokes() != c.want {
			t.Errorf("%s: %t", name, s.Revokes())
		}
	}
}
