package keys

import (
	"testing"
	"time"

	"github.com/raytls/raytls/internal/kube"
)

// shortLived are settings whose authorities live 600 days. They are due from day 300 on, half of their life.
func shortLived() Settings {
	return settings(func(s *Settings) { s.AuthorityValidityDays = 600 })
}

func TestAuthorityThatEndsIsReplaced(t *testing.T) {
	s := shortLived()
	made, _, _ := next(t, Store{Cluster: train()}, s, epoch())
	own := made.Authority.ID()
	for name, c := range map[string]struct {
		reason   string
		at       time.Duration
		pods     Pods
		replaced bool
	}{
		"young":                 {"nobody replaces a young one", 299 * day, Pods{}, false},
		"due":                   {"without pods nothing is lost", 301 * day, Pods{}, true},
		"due, certified":        {"pods of a new one could not talk to these", 301 * day, Pods{Authorities: []string{own}}, false},
		"due, silent":           {"nor to one that does not say", 301 * day, Pods{Authorities: []string{""}}, false},
		"due, being made":       {"nor to one that is making its certificate", 301 * day, Pods{Keep: true}, false},
		"about to end":          {"until the very end", 600*day - time.Second, Pods{Authorities: []string{own}}, false},
		"ended":                 {"from then on its certificates have ended too", 600 * day, Pods{}, true},
		"ended, being made":     {"a pod that waits gets one of the new authority", 600 * day, Pods{Keep: true}, true},
		"ended long ago":        {"an operator that was away replaces it when it comes back", 900 * day, Pods{Keep: true}, true},
		"ended, silent":         {"however little a pod says", 600 * day, Pods{Authorities: []string{""}}, true},
		"ended, newer recorded": {"a generation is never used twice", 600 * day, Pods{Generation: 1, ID: own}, true},
	} {
		t.Run(name, func(t *testing.T) {
			now := epoch().Add(c.at)
			due, err := made.Due(s, c.pods, now)
			if err != nil || (due.Authority != "") != c.replaced {
				t.Errorf("%s: due is %+v, %v", c.reason, due, err)
			}
			got, why, renewAt, err := Next(made, s, nil, c.pods, now)
			if err != nil {
				t.Fatalf("%s: %v", c.reason, err)
			}
			if replaced := got.Authority.ID() != own; replaced != c.replaced {
				t.Fatalf("%s: replaced is %t", c.reason, replaced)
			}
			if !renewAt.After(now) {
				t.Errorf("it would be looked at again in the past, at %s", renewAt)
			}
			if !c.replaced {
				return
			}
			if got.Generation != 2 || why == "" || got.Authority.CheckIssuer(got.Issuer, now) != nil {
				t.Errorf("generation %d comes with an issuer of its own (%s)", got.Generation, why)
			}
			authority, issuer := stored(t, got)
			if again, _ := read(t, authority, issuer).Due(s, Pods{Generation: 2, ID: got.Authority.ID()}, now); again.Any() {
				t.Errorf("it is replaced again at once: %+v", again)
			}
		})
	}
}

// Whatever lengths are asked for, a cluster without pods does not get one authority after another.
func TestAuthoritiesAreNotReplacedInALoop(t *testing.T) {
	for _, days := range []int32{4, 10, 100} {
		s := settings(valid(1), func(s *Settings) { s.AuthorityValidityDays = days })
		store, replaced := Store{Cluster: train()}, 0
		for now, end := epoch(), epoch().Add(v1Days(days)); now.Before(end); {
			id := ""
			if store.Authority != nil {
				id = store.Authority.ID()
			}
			made, _, renewAt := next(t, store, s, now)
			if made.Authority.ID() != id {
				replaced++
			}
			store, now = made, renewAt
		}
		if replaced > 3 {
			t.Errorf("%d authorities within %d days, which is the life of one", replaced, days)
		}
	}
}

func v1Days(days int32) time.Duration { return time.Duration(days) * day }

func TestAuthorityUnderAParent(t *testing.T) {
	s := settings()
	made, _, _, err := Next(Store{Cluster: train()}, s, parent(t, 150), Pods{}, epoch())
	if err != nil {
		t.Fatal(err)
	}
	got, _, _, err := Next(made, s, parent(t, 3000), Pods{}, epoch().Add(80*day))
	if err != nil || got.Generation != 2 {
		t.Errorf("a brought CA that lasts longer gives a longer authority: generation %d, %v", got.Generation, err)
	}
	if got, _, _, err = Next(made, s, parent(t, 150), Pods{}, epoch().Add(151*day)); err == nil || got.Generation != 1 {
		t.Errorf("an ended CA signs nothing, and that is an error: generation %d, %v", got.Generation, err)
	}
}

func TestAuthorityEnding(t *testing.T) {
	s := shortLived()
	made, _, _ := next(t, Store{Cluster: train()}, s, epoch())
	if made.AuthorityEnding(s, epoch().Add(299*day)) || !made.AuthorityEnding(s, epoch().Add(301*day)) {
		t.Error("an authority is said to end from when a pod-less cluster would get another")
	}
	if (Store{}).AuthorityEnding(s, epoch()) {
		t.Error("without an authority, none ends")
	}
}

// A restored authority is refused before anything is made of it, and also if it is about to end.
func TestARestoredAuthorityIsNotReplaced(t *testing.T) {
	made, _, _ := next(t, Store{Cluster: train()}, shortLived(), epoch())
	for _, at := range []time.Duration{0, 301 * day, 601 * day} {
		got, _, _, err := Next(made, shortLived(), nil, Pods{Generation: 1, ID: "other"}, epoch().Add(at))
		if kube.AsOutcome(err) == nil || got.Generation != 1 {
			t.Errorf("after %s: generation %d, %v", at, got.Generation, err)
		}
	}
}
