package rollout

import (
	"encoding/json"
	"testing"
	"time"

	"github.com/raytls/raytls/api/v1alpha1"
)

// fullRecord has a value in every field.
func fullRecord() Record {
	return Record{
		Enabled: true, InjectedAt: start(), FailedAttempt: "this", FailedBecause: "no openssl", FailedAt: start().Add(time.Minute),
		Restored: []time.Time{start().Add(time.Hour), start().Add(2 * time.Hour)},
		Progress: &Progress{
			Goal: v1alpha1.GoalEncrypted, Phase: v1alpha1.PhaseCanary, Since: start(), From: start().Add(time.Second), Canaries: map[string]string{"a": "a2"},
		},
	}
}

func TestRecordEquality(t *testing.T) {
	progress := func(change func(*Progress)) func(*Record) { return func(r *Record) { change(r.Progress) } }
	zone := time.FixedZone("elsewhere", 2*60*60)
	for name, tc := range map[string]struct {
		reason string
		change func(*Record)
		want   bool
	}{
		"same": {"what did not change is not written", func(*Record) {}, true},
		"other zone": {"an API server's times are read in the zone of the operator", func(r *Record) {
			r.InjectedAt, r.FailedAt = r.InjectedAt.In(zone), r.FailedAt.In(zone)
			r.Restored = []time.Time{r.Restored[0].In(zone), r.Restored[1].In(zone)}
			r.Progress.Since, r.Progress.From = r.Progress.Since.In(zone), r.Progress.From.In(zone)
		}, true},
		"nil canaries":   {"none are none", progress(func(p *Progress) { p.Canaries = nil }), false},
		"enabled":        {"it is no longer encrypted", func(r *Record) { r.Enabled = false }, false},
		"injected":       {"it was injected later", func(r *Record) { r.InjectedAt = r.InjectedAt.Add(time.Second) }, false},
		"born so":        {"it was born encrypted", func(r *Record) { r.InjectedAt = time.Time{} }, false},
		"failed":         {"another attempt failed", func(r *Record) { r.FailedAttempt = "that" }, false},
		"failed because": {"it failed for another reason", func(r *Record) { r.FailedBecause = "no" }, false},
		"failed at":      {"it failed once more, which another approval is for", func(r *Record) { r.FailedAt = r.FailedAt.Add(time.Second) }, false},
		"restored":       {"it was restored once more", func(r *Record) { r.Restored = append(r.Restored, start()) }, false},
		"restored then":  {"it was restored at another time", func(r *Record) { r.Restored[1] = start() }, false},
		"over":           {"the restart is over", func(r *Record) { r.Progress = nil }, false},
		"goal":           {"it goes elsewhere", progress(func(p *Progress) { p.Goal = v1alpha1.GoalPlaintext }), false},
		"phase":          {"it came further", progress(func(p *Progress) { p.Phase = v1alpha1.PhaseHead }), false},
		"since":          {"the phase began anew", progress(func(p *Progress) { p.Since = p.Since.Add(time.Second) }), false},
		"from":           {"its time began to run", progress(func(p *Progress) { p.From = time.Time{} }), false},
		"canary":         {"another pod goes first", progress(func(p *Progress) { p.Canaries = map[string]string{"a": "a1"} }), false},
	} {
		t.Run(name, func(t *testing.T) {
			a, b := fullRecord(), fullRecord()
			tc.change(&b)
			if got := a.Equal(&b); got != tc.want {
				t.Errorf("%s: equal is %v", tc.reason, got)
			}
			if got := b.Equal(&a); got != tc.want {
				t.Errorf("%s: the other way round, equal is %v", tc.reason, got)
			}
		})
	}
	a, b := Record{Progress: &Progress{}}, Record{Progress: &Progress{Canaries: map[string]string{}}}
	if !a.Equal(&b) || !b.Equal(&a) {
		t.Error("no canaries are no canaries, however they are written")
	}
}

// An older record may come back at any time: nothing in it makes the planner fail or go back in time.
func FuzzProgress(f *testing.F) {
	f.Add(`{"goal":"Encrypted","phase":"Canary","since":"2026-01-02T03:04:05Z","canaries":{"a":"a2"}}`)
	f.Add(`{"goal":"Encrypted","phase":"Head","since":"2026-01-02T03:04:05Z","from":"2026-01-02T04:04:05Z"}`)
	f.Add(`{"goal":"Plaintext","phase":"All","since":"9999-12-31T23:59:59-23:59"}`)
	f.Add(`{"goal":"Encrypted","phase":"Canary","since":"0000-01-01T00:00:00Z","canaries":{"":"head","gone":""}}`)
	f.Add(`{"goal":"Attested","phase":"Tail","since":"2026-01-02T03:04:05Z"}`)
	f.Add(`{}`)
	f.Fuzz(func(t *testing.T, text string) {
		defer time.AfterFunc(time.Minute, func() { panic("one input takes longer than a minute") }).Stop()
		p := &Progress{}
		if json.Unmarshal([]byte(text), p) != nil {
			return
		}
		for _, goal := range []v1alpha1.RolloutGoal{v1alpha1.GoalEncrypted, v1alpha1.GoalPlaintext} {
			s := plaintextCluster()
			s.Goal, s.Progress = goal, p
			templatesWithTLS("a")(s)
			plan := Make(s)
			if plan.Reason == "" || plan.Changes(s) && len(plan.Delete) > 0 || !plan.RequeueAt.IsZero() && !plan.RequeueAt.After(s.Now) {
				t.Fatalf("%+v is planned as %+v", p, plan)
			}
		}
	})
}
