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
	made, _, renewAt := next(t, Store{Cluster: train()}, s, epoch())
	for renewAt.Before(epoch().Add(299 * day)) {
		made, _, renewAt = next(t, made, s, renewAt)
	}
	own := made.Authority.ID()
	for name, c := range map[string]struct {
		reason   string
		at       time.Duration
		pods     Pods
		replaced bool
		bridged  bool
	}{
		"young":                 {"nobody replaces a young one", 299 * day, Pods{}, false, false},
		"due":                   {"a pod that nobody sees yet may have a certificate of it", 301 * day, Pods{}, true, true},
		"due, certified":        {"its pods accept those of the new one", 301 * day, Pods{Authorities: []string{own}}, true, true},
		"due, silent":           {"and so does one that does not say", 301 * day, Pods{Authorities: []string{""}}, true, true},
		"ended":                 {"from then on its certificates have ended too", 600 * day, Pods{}, true, false},
		"ended long ago":        {"an operator that was away replaces it when it comes back", 900 * day, Pods{}, true, false},
		"ended, silent":         {"however little a pod says", 600 * day, Pods{Authorities: []string{""}}, true, false},
		"ended, newer recorded": {"a generation is never used twice", 600 * day, Pods{Generation: 1, ID: own}, true, false},
	} {
		t.Run(name, func(t *testing.T) {
			now := epoch().Add(c.at)
			due, err := made.Due(s, Parent{}, c.pods, now)
			if err != nil || (due.Authority != "") != c.replaced {
				t.Errorf("%s: due is %+v, %v", c.reason, due, err)
			}
			got, what, renewAt, err := Next(made, s, Parent{}, c.pods, now)
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
			if got.Generation != 2 || what.Issuer == "" || got.Authority.CheckIssuer(got.Issuer, now) != nil {
				t.Errorf("generation %d comes with an issuer of its own (%s)", got.Generation, what.Issuer)
			}
			if bridged := len(got.forward) == 1 && len(got.earlier) == 1; bridged != c.bridged || !bridged && len(got.forward)+len(got.earlier) > 0 {
				t.Errorf("%s: %d and %d bridges", c.reason, len(got.forward), len(got.earlier))
			}
			authority, issuer := stored(t, got)
			if again, _ := read(t, authority, issuer).Due(s, Parent{}, Pods{Generation: 2, ID: got.Authority.ID()}, now); again.Makes() {
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
	made, _, _, err := Next(Store{Cluster: train()}, s, Parent{CA: parent(t, 150)}, Pods{}, epoch())
	if err != nil {
		t.Fatal(err)
	}
	got, _, _, err := Next(made, s, Parent{CA: parent(t, 3000)}, Pods{}, epoch().Add(80*day))
	if err != nil || got.Generation != 2 {
		t.Errorf("a brought CA that lasts longer gives a longer authority: generation %d, %v", got.Generation, err)
	}
	if got, _, _, err = Next(made, s, Parent{CA: parent(t, 150)}, Pods{}, epoch().Add(151*day)); err == nil || got.Generation != 1 {
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
		got, _, _, err := Next(made, shortLived(), Parent{}, Pods{Generation: 1, ID: "other"}, epoch().Add(at))
		if kube.AsOutcome(err) == nil || got.Generation != 1 {
			t.Errorf("after %s: generation %d, %v", at, got.Generation, err)
		}
	}
}
