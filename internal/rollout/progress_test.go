package rollout

import (
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
)

func TestProgressIsReadBack(t *testing.T) {
	since := start()
	for reason, want := range map[string]*Progress{
		"without canaries":          {Goal: Plaintext, Phase: PhaseAll, Since: since},
		"with canaries":             {Goal: Encrypted, Phase: PhaseCanary, Since: since, Canaries: map[string]string{"a": "pod-1", "b": "pod-2"}},
		"with a clock of its own":   {Goal: Encrypted, Phase: PhaseHead, Since: since, From: since.Add(time.Hour)},
		"while putting things back": {Goal: Encrypted, Phase: PhaseRevert, Since: since},
	} {
		got, err := ParseProgress(want.String())
		if err != nil {
			t.Errorf("%s: %v", reason, err)
		}
		if diff := cmp.Diff(want, got); diff != "" {
			t.Errorf("%s (-want +got):\n%s", reason, diff)
		}
	}
}

func TestProgressThatCannotBeRead(t *testing.T) {
	for reason, text := range map[string]string{
		"no JSON":          `Canary`,
		"not an object":    `"Canary"`,
		"nothing":          `null`,
		"no goal":          `{"phase":"Canary","since":"2026-01-02T03:04:05Z"}`,
		"another goal":     `{"goal":"Attested","phase":"Canary","since":"2026-01-02T03:04:05Z"}`,
		"another phase":    `{"goal":"Encrypted","phase":"Tail","since":"2026-01-02T03:04:05Z"}`,
		"no time":          `{"goal":"Encrypted","phase":"Canary","since":"yesterday"}`,
		"two of them":      `{"goal":"Encrypted","phase":"All","since":"2026-01-02T03:04:05Z"}{}`,
		"a number as name": `{"goal":"Encrypted","phase":"Canary","since":"2026-01-02T03:04:05Z","canaries":{"a":1}}`,
	} {
		if p, err := ParseProgress(text); err == nil {
			t.Errorf("%s: %s is read as %v", reason, text, p)
		}
	}
	if p, err := ParseProgress(""); p != nil || err != nil {
		t.Errorf("no text is no progress, not %v, %v", p, err)
	}
}

// What is on record can be edited by whoever can edit the cluster: nothing in it makes the planner fail or go back in time.
func FuzzParseProgress(f *testing.F) {
	f.Add(`{"goal":"Encrypted","phase":"Canary","since":"2026-01-02T03:04:05Z","canaries":{"a":"a2"}}`)
	f.Add(`{"goal":"Encrypted","phase":"Head","since":"2026-01-02T03:04:05Z","from":"2026-01-02T04:04:05Z"}`)
	f.Add(`{"goal":"Plaintext","phase":"All","since":"9999-12-31T23:59:59-23:59"}`)
	f.Add(`{"goal":"Encrypted","phase":"Canary","since":"0000-01-01T00:00:00Z","canaries":{"":"head","gone":""}}`)
	f.Add(`null`)
	f.Fuzz(func(t *testing.T, text string) {
		p, err := ParseProgress(text)
		if err != nil || p == nil {
			return
		}
		again, err := ParseProgress(p.String())
		if err != nil || again.String() != p.String() {
			t.Fatalf("%s is read back as %v, %v", p, again, err)
		}
		for _, goal := range []Goal{Encrypted, Plaintext} {
			s := plaintextCluster()
			s.Goal, s.Progress = goal, p
			templatesWithTLS("a")(s)
			plan := Make(s)
			if plan.Reason == "" || plan.Writes(s) && len(plan.Delete) > 0 || !plan.Again.IsZero() && !plan.Again.After(s.Now) {
				t.Fatalf("%s is planned as %+v", p, plan)
			}
		}
	})
}
