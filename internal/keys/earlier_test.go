package keys

import (
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	corev1 "k8s.io/api/core/v1"

	"github.com/raytls/raytls/api/v1alpha1"
	"github.com/raytls/raytls/internal/kube"
	"github.com/raytls/raytls/internal/pki"
)

// before asks for new authorities in place of those issued before that time.
func before(at time.Time) func(*Settings) {
	return func(s *Settings) { s.ReplaceIssuedBefore = at }
}

// reread is the store as the next reconcile finds it.
func reread(t *testing.T, store Store) Store {
	t.Helper()
	authority, issuer := stored(t, store)
	return read(t, authority, issuer)
}

// replacedOnce are keys whose authority was replaced an hour after epoch.
func replacedOnce(t *testing.T) Store {
	t.Helper()
	made, _, _ := next(t, first(t, settings()), settings(before(epoch().Add(time.Hour))), epoch().Add(time.Hour))
	if made.Generation != 2 {
		t.Fatalf("generation %d", made.Generation)
	}
	return reread(t, made)
}

func TestReplaceIssuedBefore(t *testing.T) {
	at := epoch().Add(10 * day)
	for name, c := range map[string]struct {
		reason string
		before time.Time
		now    time.Time
		want   bool
	}{
		"not asked":         {"nothing asks", time.Time{}, at, false},
		"time has come":     {"the authority is older", at, at, true},
		"to come":           {"a time is no order before it has come", at, at.Add(-time.Second), false},
		"before its issue":  {"it is younger", epoch().Add(-time.Second), at, false},
		"its issue":         {"it was issued then, and not before", epoch(), at, false},
		"after its issue":   {"by a second", epoch().Add(time.Second), at, true},
		"asked for forever": {"GitOps never takes it back", at, at.Add(30 * day), true},
	} {
		t.Run(name, func(t *testing.T) {
			old := first(t, settings())
			s := settings(before(c.before))
			made, _, renewAt := next(t, old, s, c.now)
			if got := made.Generation == 2; got != c.want || got != (made.Authority.ID() != old.Authority.ID()) {
				t.Fatalf("%s: generation %d", c.reason, made.Generation)
			}
			if c.now.Before(c.before) && !renewAt.Equal(c.before) {
				t.Errorf("%s: it is asked again at %s", c.reason, renewAt)
			}
			for now := c.now; c.want && now.Before(c.now.Add(50*day)); now = now.Add(day) {
				if made, _, _ = next(t, reread(t, made), s, now); made.Generation != 2 {
					t.Fatalf("at %s it is replaced again", now)
				}
			}
		})
	}
}

func TestReplacedKeysAreReadBack(t *testing.T) {
	made := replacedOnce(t)
	authority, issuer := stored(t, made)
	for _, secret := range []*corev1.Secret{authority, issuer} {
		if string(secret.Data["formatVersion"]) != "2" || string(secret.Data["generation"]) != "2" {
			t.Errorf("Secret %s has formatVersion %q and generation %q", secret.Name, secret.Data["formatVersion"], secret.Data["generation"])
		}
	}
	again, why, _ := next(t, made, settings(before(epoch().Add(time.Hour))), epoch().Add(time.Hour))
	againAuthority, againIssuer := stored(t, again)
	if why != "" || !cmp.Equal(authority.Data, againAuthority.Data) || !cmp.Equal(issuer.Data, againIssuer.Data) {
		t.Errorf("at rest, a Secret would be written: %s", why)
	}
	if keys := strings.Count(secretText(authority)+secretText(issuer), "PRIVATE KEY-----\n"); keys != 2*2 {
		t.Errorf("the Secrets hold %d beginnings and ends of private keys; the present authority's and issuer's are 4", keys)
	}
	for name, alter := range map[string]func(*corev1.Secret){
		"forward":          func(s *corev1.Secret) { s.Data["forward.crt"] = []byte("x") },
		"forward to other": func(s *corev1.Secret) { s.Data["forward.crt"] = first(t, settings()).Authority.CertificatePEM() },
		"earlier":          func(s *corev1.Secret) { s.Data["earlier"] = []byte("{}") },
		"earlier's number": func(s *corev1.Secret) {
			s.Data["earlier"] = []byte(strings.Replace(string(s.Data["earlier"]), `"generation":1`, `"generation":2`, 1))
		},
		"earlier's bridge": func(s *corev1.Secret) {
			s.Data["earlier"] = []byte(strings.Replace(string(s.Data["earlier"]), `"bridge":"`, `"bridge":"x`, 1))
		},
		"leavesEnd": func(s *corev1.Secret) { s.Data["leavesEnd"] = []byte("tomorrow") },
	} {
		altered := clone(authority)
		alter(altered)
		if outcome := kube.AsOutcome(readError(t, altered, issuer)); outcome == nil || outcome.Reason != v1alpha1.ReasonAuthorityLost {
			t.Errorf("%s: an authority whose bridges cannot be read is used: %v", name, outcome)
		}
	}
}

// readError is why the Secrets are not read.
func readError(t *testing.T, authority, issuer *corev1.Secret) error {
	t.Helper()
	store, err := Read(train(), authority, issuer)
	if store.Authority != nil {
		t.Error("a part of what could not be read is used")
	}
	return err
}

func secretText(secret *corev1.Secret) string {
	text := ""
	for _, value := range secret.Data {
		text += string(value)
	}
	return text
}

// An operator of the version before wrote Secrets of format 1, without what this one keeps.
func TestSecretsOfTheFirstFormatStayAsTheyAre(t *testing.T) {
	authority, issuer := stored(t, first(t, settings()))
	delete(authority.Data, "leavesEnd")
	made, why, _ := next(t, read(t, authority, issuer), settings(), epoch())
	after, afterIssuer := stored(t, made)
	if why != "" || !cmp.Equal(authority.Data, after.Data) || !cmp.Equal(issuer.Data, afterIssuer.Data) {
		t.Errorf("an upgrade would write: %s", why)
	}
	// Nobody knows when the last of its leaves ends, so pods of it are accepted for as long as it lasts.
	replaced, _, _ := next(t, made, settings(before(epoch().Add(time.Hour))), epoch().Add(time.Hour))
	if end := replaced.Signers().Earlier[0].End; !end.Equal(made.Authority.NotAfter()) {
		t.Errorf("pods of it are accepted until %s", end)
	}
	known := replacedOnce(t)
	if end, want := known.Signers().Earlier[0].End, epoch().Add(200*day+kube.ClockTolerance); !end.Equal(want) {
		t.Errorf("pods of an authority whose issuers are known are accepted until %s, want %s", end, want)
	}
}

func TestAChangedBroughtCA(t *testing.T) {
	s := settings(func(s *Settings) { s.CASecret = "ca" })
	mine, other := parent(t, 3000), parent(t, 3000)
	under, _, _, err := Next(Store{Cluster: train()}, s, Parent{CA: mine}, Pods{}, epoch())
	if err != nil {
		t.Fatal(err)
	}
	refused := Parent{Unusable: kube.UserMustActf(v1alpha1.ReasonNotAccepted, "it is no CA")}
	for name, c := range map[string]struct {
		reason string
		store  Store
		change func(*Settings)
		parent Parent
		want   int64
		held   string
	}{
		"as it was":            {"nothing changed", under, nil, Parent{CA: mine}, 1, ""},
		"another":              {"authorities are those of the CA that is asked for", under, nil, Parent{CA: other}, 2, ""},
		"no longer":            {"and sign themselves if none is", under, func(s *Settings) { s.CASecret = "" }, Parent{}, 2, ""},
		"from now on":          {"one that signed itself is replaced too", first(t, settings()), nil, Parent{CA: mine}, 2, ""},
		"same in other Secret": {"the name is not the CA", under, func(s *Settings) { s.CASecret = "renamed" }, Parent{CA: mine}, 1, ""},
		"refused":              {"what is invalid changes nothing", under, nil, refused, 1, "it is no CA"},
		"refused and asked":    {"whatever else asks", under, before(epoch().Add(time.Second)), refused, 1, "it is no CA"},
		"refused, self-signed": {"nor does it for one that signed itself", first(t, settings()), nil, refused, 1, "it is no CA"},
	} {
		t.Run(name, func(t *testing.T) {
			changed := s
			if c.change != nil {
				c.change(&changed)
			}
			now := epoch().Add(day)
			made, due, _, err := Next(c.store, changed, c.parent, Pods{}, now)
			if err != nil || made.Generation != c.want || (due.Held != nil) != (c.held != "") || due.Held != nil && due.Held.Message != c.held {
				t.Fatalf("%s: generation %d, %+v, %v", c.reason, made.Generation, due, err)
			}
			again, due, _, err := Next(reread(t, made), changed, c.parent, Pods{}, now)
			if err != nil || again.Generation != c.want || due.Makes() {
				t.Errorf("%s: it goes on: generation %d, %+v, %v", c.reason, again.Generation, due, err)
			}
		})
	}
}

func TestAtMostEightGenerationsWorkTogether(t *testing.T) {
	store := first(t, settings())
	ids, now := []string{store.Authority.ID()}, epoch()
	ask := func(pods Pods) Due {
		t.Helper()
		made, due, _, err := Next(store, settings(before(now)), Parent{}, pods, now)
		if err != nil {
			t.Fatal(err)
		}
		store = reread(t, made)
		return due
	}
	for range 7 {
		now = now.Add(time.Hour)
		if due := ask(Pods{InUse: ids[:1]}); due.Authority == "" {
			t.Fatalf("generation %d is not made: %+v", len(ids)+1, due)
		}
		ids = append(ids, store.Authority.ID())
	}
	now = now.Add(time.Hour)
	due := ask(Pods{InUse: ids[:1]})
	if store.Generation != 8 || due.Held == nil || due.Held.Reason != v1alpha1.ReasonTooManyGenerations || !strings.Contains(due.Held.Message, "generation 1") {
		t.Errorf("generation %d, %+v", store.Generation, due)
	}
	settled := Pods{InUse: ids[1:2], Settled: now.Add(-time.Hour)}
	if due := ask(settled); due.Authority == "" || store.Generation != 9 || !slices.Contains(due.Unused, 1) {
		t.Errorf("without pods of generation 1 there is room: generation %d, %+v", store.Generation, due)
	}
	chain, err := pki.ParseBundle(store.chain(store.Issuer))
	if err != nil || len(chain) != 8 || len(store.earlier) != 2 {
		t.Errorf("a chain has an issuer and seven bridges at most, and the present authority is bridged to %d: %d, %v", len(store.earlier), len(chain), err)
	}
}

func TestEarlierAuthoritiesGoWhenTheyAreOver(t *testing.T) {
	s := settings(before(epoch().Add(time.Hour)), func(s *Settings) { s.AuthorityValidityDays = 7300 })
	store, _, _ := next(t, first(t, settings()), s, epoch().Add(time.Hour))
	over := epoch().Add(200*day + kube.ClockTolerance)
	for now := epoch().Add(day); now.Before(over.Add(day)); {
		made, _, renewAt := next(t, store, s, now)
		if !renewAt.After(now) {
			t.Fatalf("asked again at %s", renewAt)
		}
		store = reread(t, made)
		if kept := len(store.earlier) == 1; kept != now.Before(over) {
			t.Fatalf("at %s, generation 1 is kept: %t", now, kept)
		}
		if len(store.forward) != 1 {
			t.Fatalf("at %s, the forward bridge is gone; it stays until the authority that signed it ends", now)
		}
		now = renewAt
	}
	if store, _, _ = next(t, store, s, epoch().Add(3650*day)); len(store.forward) > 0 {
		t.Error("the forward bridge has ended")
	}
	if _, issuer := stored(t, store); string(issuer.Data["formatVersion"]) != "1" {
		t.Error("without bridges, earlier versions of the operator understand the Secrets")
	}
}

func TestAnEarlierAuthorityIsNoRestoredOne(t *testing.T) {
	old := first(t, settings())
	store := replacedOnce(t)
	earlier, own := store.earlier[0].id(), store.Authority.ID()
	oldAuthority, _ := stored(t, old)
	if restored := store.GenerationOf(earlier); restored != 1 || store.GenerationOf(own) != 2 || store.GenerationOf("ab") != 0 || (Store{}).GenerationOf("ab") != 0 {
		t.Errorf("generation %d", restored)
	}
	settled := Pods{InUse: []string{own}, Settled: epoch()}
	dropped, due, _, err := Next(store, settings(before(epoch().Add(time.Hour))), Parent{}, settled, epoch().Add(2*time.Hour))
	if err != nil || !slices.Equal(due.Unused, []int64{1}) || len(dropped.earlier) != 0 {
		t.Fatalf("%+v, %v", due, err)
	}
	_, present := stored(t, store)
	strange, _ := stored(t, first(t, settings()))
	for name, c := range map[string]struct {
		reason string
		store  Store
		pods   Pods
		want   string
	}{
		"old and new pods":     {"pods of both run", store, Pods{Authorities: []string{own, earlier}, Generation: 2, ID: own}, ""},
		"forgotten":            {"its pods are outdated, but the Secret is the newest", reread(t, dropped), Pods{Authorities: []string{earlier}, Generation: 2, ID: own}, ""},
		"strange":              {"a pod proves an authority that the Secret does not know", store, Pods{Authorities: []string{"ab"}}, "authority ab"},
		"older Secret":         {"the record proves it", read(t, oldAuthority, nil), Pods{}, ""},
		"older, recorded":      {"the record proves it", old, Pods{Generation: 2, ID: own}, "generation 2 was in use"},
		"older, pod":           {"a pod proves it", old, Pods{Authorities: []string{own}}, "authority " + own},
		"CA Secret of another": {"anybody can have written the CA Secret", read(t, strange, present), Pods{}, ""},
		"older, CA Secret":     {"only the older one's key can have signed the bridge in it", readReplaced(t), Pods{}, "the CA Secret proves"},
	} {
		t.Run(name, func(t *testing.T) {
			_, err := c.store.Due(settings(), Parent{}, c.pods, epoch().Add(2*time.Hour))
			outcome := kube.AsOutcome(err)
			if (outcome != nil) != (c.want != "") || outcome != nil && (outcome.Reason != v1alpha1.ReasonAuthorityRestored || !strings.Contains(outcome.Message, c.want)) {
				t.Errorf("%s: got %v", c.reason, err)
			}
		})
	}
}

// readReplaced is an authority's older Secret beside the CA Secret of the authority that replaced it.
func readReplaced(t *testing.T) Store {
	t.Helper()
	old := first(t, settings())
	authority, _ := stored(t, old)
	made, _, _ := next(t, old, settings(before(epoch().Add(time.Hour))), epoch().Add(time.Hour))
	_, issuer := stored(t, made)
	return read(t, authority, issuer)
}
