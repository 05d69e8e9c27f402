package keys

import (
	"maps"
	"testing"
	"time"

	"github.com/raytls/raytls/internal/kube"
)

func TestIssuerIsReplacedOnSchedule(t *testing.T) {
	s := settings()
	made, why, renewAt := next(t, Store{Cluster: train()}, s, epoch())
	if why == "" {
		t.Error("a first issuer has a reason to be told of")
	}
	if life := made.Issuer.NotAfter().Sub(epoch()); life < 200*day-time.Minute || life > 200*day+time.Minute {
		t.Errorf("an issuer lives twice as long as what it signs: got %s", life)
	}
	if renewAt.After(epoch().Add(100*day)) || renewAt.Before(epoch().Add(98*day-time.Minute)) {
		t.Errorf("an issuer is replaced after the life of a leaf, a fiftieth earlier at most: got %s", renewAt)
	}
	authority, issuer := stored(t, made)
	for name, c := range map[string]struct {
		reason string
		at     time.Time
		keeps  bool
	}{
		"at once":      {"what was just made is kept", epoch(), true},
		"just before":  {"it is not replaced early", renewAt.Add(-time.Second), true},
		"when due":     {"it is replaced when it is due", renewAt, false},
		"long after":   {"an operator that was away replaces it when it comes back", epoch().Add(150 * day), false},
		"when expired": {"one that ended is replaced", epoch().Add(201 * day), false},
		"before it":    {"a clock that went back a little does no harm", epoch().Add(-time.Hour), true},
	} {
		t.Run(name, func(t *testing.T) {
			got, why, renew := next(t, read(t, authority, issuer), s, c.at)
			if keeps := why == ""; keeps != c.keeps {
				t.Fatalf("%s: %s", c.reason, why)
			}
			if got.Authority.ID() != made.Authority.ID() || got.Generation != 1 {
				t.Error("the authority stays")
			}
			if c.keeps {
				if got.Issuer.ID() != made.Issuer.ID() || !renew.Equal(renewAt) {
					t.Error("what is kept is as it was")
				}
				return
			}
			if got.Issuer.ID() == made.Issuer.ID() || !renew.After(c.at) {
				t.Errorf("the new one is another, and not due at once: %s at %s", renew, c.at)
			}
		})
	}
}

// A leaf signed in the last moment before its issuer is replaced must still end before the issuer does.
func TestNoLeafOutlivesItsIssuer(t *testing.T) {
	for _, days := range []int32{1, 7, 365, 1700} {
		s := settings(valid(days), func(s *Settings) { s.AuthorityValidityDays = 7300 })
		made, _, renewAt := next(t, Store{Cluster: train()}, s, epoch())
		if last := renewAt.Add(s.leafValidity()); last.After(made.Issuer.NotAfter()) {
			t.Errorf("%d days: a leaf of %s ends after its issuer", days, last)
		}
	}
}

func TestIssuerIsReplacedWhenAltered(t *testing.T) {
	made := first(t, settings())
	authority, good := stored(t, made)
	_, foreign := stored(t, first(t, settings()))
	for name, c := range map[string]struct {
		reason string
		alter  func(map[string][]byte)
		keeps  bool
	}{
		"another's": {"an issuer of another authority with this name is not kept", func(d map[string][]byte) { clear(d); maps.Copy(d, foreign.Data) }, false},
		"key":       {"a key that does not fit is replaced", func(d map[string][]byte) { d["ca.key"] = foreign.Data["ca.key"] }, false},
		"issuer":    {"a certificate that does not fit is replaced", func(d map[string][]byte) { d["issuer.crt"] = d["ca.crt"] }, false},
		"chain":     {"who alters the chain had the key in reach", func(d map[string][]byte) { d["chain.pem"] = append([]byte("#\n"), d["chain.pem"]...) }, false},
		"bundle":    {"who alters the bundle had the key in reach", func(d map[string][]byte) { d["ca.crt"] = foreign.Data["ca.crt"] }, false},
		"bundle longer": {"a root more is somebody let in", func(d map[string][]byte) {
			d["ca.crt"] = append(append([]byte{}, d["ca.crt"]...), foreign.Data["ca.crt"]...)
		}, false},
		"empty":          {"an empty Secret holds none", func(d map[string][]byte) { clear(d) }, false},
		"only a profile": {"a profile is written again beside the same issuer", func(d map[string][]byte) { d["profile"] = nil }, true},
	} {
		t.Run(name, func(t *testing.T) {
			altered := clone(good)
			c.alter(altered.Data)
			got, why, _ := next(t, read(t, authority, altered), settings(), epoch().Add(day))
			if keeps := why == ""; keeps != c.keeps {
				t.Errorf("%s: %q", c.reason, why)
			}
			_, written := stored(t, got)
			if c.keeps != (string(written.Data["ca.key"]) == string(good.Data["ca.key"])) {
				t.Errorf("%s: the key says otherwise", c.reason)
			}
			if string(written.Data["ca.crt"]) != string(made.Authority.CertificatePEM()) {
				t.Error("the trust bundle is the authority")
			}
		})
	}
	if _, why, _ := next(t, read(t, authority, nil), settings(), epoch()); why == "" {
		t.Error("a deleted CA Secret is made again, with another key")
	}
}

func TestShorterLeavesReplaceTheIssuerWhenTheyAreDue(t *testing.T) {
	made := first(t, settings())
	if _, why, _ := next(t, made, settings(valid(7)), epoch().Add(2*day)); why != "" {
		t.Errorf("an issuer that lives longer than asked is kept for now: %s", why)
	}
	if _, why, _ := next(t, made, settings(valid(7)), epoch().Add(8*day)); why == "" {
		t.Error("and is replaced by the new schedule")
	}
	if _, why, _ := next(t, made, settings(valid(150)), epoch().Add(51*day)); why == "" {
		t.Error("an issuer that ends before a leaf of the new length could is replaced")
	}
}

// Under a brought CA that ends soon, all is cut to its end, and replacing the issuer again and again would not help.
func TestACutIssuerIsNotReplacedInALoop(t *testing.T) {
	s, brought := settings(), parent(t, 150)
	made, _, _, err := Next(Store{Cluster: train()}, s, Parent{CA: brought}, Pods{}, epoch())
	if err != nil {
		t.Fatal(err)
	}
	if made.Issuer.NotAfter().After(brought.NotAfter()) {
		t.Fatal("nothing outlives its issuer")
	}
	for at := day; at < 149*day; at += day {
		got, why, _, err := Next(made, s, Parent{CA: brought}, Pods{}, epoch().Add(at))
		if err != nil {
			t.Fatal(err)
		}
		if why.Makes() || got.Authority.ID() != made.Authority.ID() {
			t.Fatalf("day %d: replaced (%+v), though the new one ends at the same time", at/day, why)
		}
	}
}

// Clocks differ, so a leaf that lasted to the very end of its authority would meet pods for which it has ended, and bridges that are
// gone.
func TestNoLeafLastsToTheEndOfItsAuthority(t *testing.T) {
	s := shortLived()
	for before, want := range map[time.Duration]time.Duration{
		10 * day: -kube.ClockTolerance, time.Hour: -kube.ClockTolerance, kube.ClockTolerance: 0, time.Minute: 0,
	} {
		store, _, _ := next(t, Store{Cluster: train()}, s, epoch())
		end := store.Authority.NotAfter()
		// A CA that ends with the authority, so that no new authority would help.
		store.Issuer = nil
		// A new authority of that validity would end earlier, so none is made.
		none := Settings{AuthorityKey: s.AuthorityKey, LeafValidityDays: s.LeafValidityDays}
		made, what, renewAt, err := Next(store, none, Parent{}, Pods{}, end.Add(-before))
		if err != nil || what.Authority != "" {
			t.Fatalf("%+v, %v", what, err)
		}
		if got := made.Issuer.NotAfter().Sub(end); got != want {
			t.Errorf("%s before the authority's end, an issuer ends %s from it, want %s", before, got, want)
		}
		if !renewAt.After(end.Add(-before)) {
			t.Errorf("%s before the end, it is looked at again in the past", before)
		}
	}
}
