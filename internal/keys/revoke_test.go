package keys

import (
	"crypto/x509"
	"net/netip"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"k8s.io/apimachinery/pkg/types"

	"github.com/raytls/raytls/api/v1alpha1"
	"github.com/raytls/raytls/internal/kube"
	"github.com/raytls/raytls/internal/pki"
)

func revokedBefore(at time.Time) func(*Settings) {
	return func(s *Settings) { s.RevokeIssuedBefore = at }
}

// revoke carries out the revocation of all generations that the store has.
func revoke(t *testing.T, store Store, now time.Time) Store {
	t.Helper()
	before := Pods{Generation: store.Generation, RevokedBefore: store.RevokedBefore}
	made, due, _, err := Next(store, settings(), Parent{}, Pods{
		Generation: store.Generation, ID: store.Authority.ID(), RevokedBefore: store.NextGeneration(before),
	}, now)
	if err != nil {
		t.Fatal(err)
	}
	if due.Authority != causeRevoked || due.Issuer != causeRevoked {
		t.Fatalf("due: %+v", due)
	}
	authority, issuer := stored(t, made)
	return read(t, authority, issuer)
}

// pair is what a pod of a store presents and trusts.
func pair(t *testing.T, store Store, now time.Time) (chain, bundle []*x509.Certificate) {
	t.Helper()
	leafPEM, _, err := store.Issuer.NewLeaf(pki.LeafOptions{
		CommonName: "pod", IPs: []netip.Addr{netip.MustParseAddr("10.0.0.1")}, KeyAlgorithm: pki.ECDSAP256, Validity: day, Now: now,
	})
	if err != nil {
		t.Fatal(err)
	}
	chain, err = pki.ParseBundle(slices.Concat(leafPEM, store.chain(store.Issuer)))
	if err != nil {
		t.Fatal(err)
	}
	bundle, err = pki.ParseBundle(store.Bundle())
	if err != nil {
		t.Fatal(err)
	}
	return chain, bundle
}

// Authorities of four generations, with a revocation between the second and the third.
func TestNothingOldVerifiesAfterARevocation(t *testing.T) {
	one := first(t, settings())
	now := epoch().Add(time.Hour)
	two, _, _ := next(t, one, settings(before(now)), now)
	now = now.Add(time.Hour)
	three := revoke(t, reread(t, two), now)
	later := now.Add(time.Hour)
	four, _, _ := next(t, three, settings(before(later)), later)
	if three.Generation != 3 || three.RevokedBefore != 3 || four.Generation != 4 || four.RevokedBefore != 3 {
		t.Fatalf("generations %d and %d since %d and %d", three.Generation, four.Generation, three.RevokedBefore, four.RevokedBefore)
	}
	at := later.Add(time.Minute)
	stores := []Store{one, two, three, four}
	for i, a := range stores {
		for j, b := range stores {
			chain, _ := pair(t, a, later)
			_, bundle := pair(t, b, later)
			related := i < 2 == (j < 2)
			if err := pki.VerifyPair(chain, bundle, at); (err == nil) != related {
				t.Errorf("generation %d to %d: %v", a.Generation, b.Generation, err)
			}
			if accepted(chain, bundle, at) != related {
				t.Errorf("generation %d to %d: a verifier that tries every path accepts: %t", a.Generation, b.Generation, !related)
			}
		}
	}
	if got := four.GenerationOf(two.Authority.ID()) + four.GenerationOf(one.Authority.ID()); got != 0 {
		t.Error("a revoked authority is known as an earlier one")
	}
}

func TestARevocationIsReadBackAndRests(t *testing.T) {
	at := epoch().Add(time.Hour)
	made := revoke(t, replacedOnce(t), at)
	authority, issuer := stored(t, made)
	if string(authority.Data["formatVersion"]) != "3" || string(issuer.Data["formatVersion"]) != "3" || string(authority.Data["revokedBefore"]) != "3" {
		t.Errorf("formatVersion %q and %q, revokedBefore %q", authority.Data["formatVersion"], issuer.Data["formatVersion"], authority.Data["revokedBefore"])
	}
	if issuer.Name != "raytls-train.g3" || RevokedBefore(authority) != 3 || RevokedBefore(nil) != 0 {
		t.Errorf("Secret %s since %d", issuer.Name, RevokedBefore(authority))
	}
	for _, key := range []string{"forward.crt", "earlier", "since"} {
		if _, found := authority.Data[key]; found {
			t.Errorf("%s connects it with what was revoked", key)
		}
	}
	asked := settings(revokedBefore(at))
	if why := made.RevocationAsked(asked, at.Add(time.Hour)); why != "" {
		t.Errorf("it is asked for again: %s", why)
	}
	pods := Pods{Generation: 3, ID: made.Authority.ID(), RevokedBefore: 3}
	again, due, _, err := Next(made, asked, Parent{}, pods, at.Add(time.Hour))
	if err != nil || due.Makes() {
		t.Fatalf("at rest, %+v is due: %v", due, err)
	}
	afterAuthority, afterIssuer := stored(t, again)
	if !cmp.Equal(authority, afterAuthority) || !cmp.Equal(issuer, afterIssuer) {
		t.Error("at rest, a Secret would be written")
	}
	for _, text := range []string{"1", "-3", "x", "9223372036854775808"} {
		altered := clone(authority)
		altered.Data["revokedBefore"] = []byte(text)
		if outcome := kube.AsOutcome(readError(t, altered, issuer)); outcome == nil || outcome.Reason != v1alpha1.ReasonAuthorityLost {
			t.Errorf("revokedBefore %s: %v", text, outcome)
		}
	}
}

func TestRevocationAsked(t *testing.T) {
	issued := epoch()
	once := replacedOnce(t) // an hour later
	legacy := reread(t, once)
	legacy.since = time.Time{}
	for name, c := range map[string]struct {
		reason string
		store  Store
		before time.Time
		now    time.Time
		want   bool
	}{
		"not asked":           {"nothing asks", first(t, settings()), time.Time{}, issued.Add(day), false},
		"to come":             {"a time is no order before it has come", first(t, settings()), issued.Add(day), issued.Add(day - time.Second), false},
		"has come":            {"the authority is older", first(t, settings()), issued.Add(day), issued.Add(day), true},
		"its issue":           {"it was issued then, and not before", first(t, settings()), issued, issued.Add(day), false},
		"no authority":        {"there is nothing to revoke", Store{Cluster: train()}, issued.Add(day), issued.Add(day), false},
		"has ended":           {"nobody accepts it any more, and another is made anyway", first(t, settings()), issued.Add(day), issued.Add(3650 * day), false},
		"before both":         {"both are younger", once, issued, issued.Add(day), false},
		"between":             {"its pods accept those of the first", once, issued.Add(time.Minute), issued.Add(day), true},
		"after both":          {"both are older", once, issued.Add(2 * time.Hour), issued.Add(day), true},
		"nobody knows":        {"an operator of before did not note when the first was issued", legacy, issued.Add(-365 * day), issued.Add(day), true},
		"since a revocation":  {"nothing connects it with the first", revoke(t, once, issued.Add(3*time.Hour)), issued.Add(2 * time.Hour), issued.Add(day), false},
		"revoked and too old": {"times go on", revoke(t, once, issued.Add(3*time.Hour)), issued.Add(4 * time.Hour), issued.Add(day), true},
	} {
		t.Run(name, func(t *testing.T) {
			if why := c.store.RevocationAsked(settings(revokedBefore(c.before)), c.now); (why != "") != c.want {
				t.Errorf("%s: got %q", c.reason, why)
			}
		})
	}
	_, _, renewAt := next(t, first(t, settings()), settings(revokedBefore(issued.Add(day))), issued)
	if !renewAt.Equal(issued.Add(day)) {
		t.Errorf("it is asked again at %s", renewAt)
	}
}

// A replacement and a revocation may be due together. The record of the revocation decides.
func TestARevocationThatIsNotOnRecordMakesNothing(t *testing.T) {
	at := epoch().Add(day)
	made, _, _ := next(t, first(t, settings()), settings(revokedBefore(at)), at)
	if made.Generation != 1 || made.RevokedBefore != 0 {
		t.Errorf("generation %d since %d", made.Generation, made.RevokedBefore)
	}
	both := settings(revokedBefore(at), before(at))
	replaced, _, _ := next(t, made, both, at)
	if replaced.Generation != 2 || replaced.RevocationAsked(both, at) == "" {
		t.Error("a replaced authority is trusted as long as the one before, so it is to be revoked too")
	}
	// The replacement came between the record and the revocation.
	late, due, _, err := Next(reread(t, replaced), both, Parent{}, Pods{Generation: 2, ID: replaced.Authority.ID(), RevokedBefore: 2}, at)
	if err != nil || due.Authority != causeRevoked || late.Generation != 3 || late.RevokedBefore != 3 || late.bridged() {
		t.Errorf("generation %d since %d: %+v, %v", late.Generation, late.RevokedBefore, due, err)
	}
}

func TestBackupsOfRevokedAuthorities(t *testing.T) {
	old := replacedOnce(t)
	now := epoch().Add(day)
	present := revoke(t, old, now)
	recorded := Pods{Generation: 3, ID: present.Authority.ID(), RevokedBefore: 3}
	with := func(change func(*Pods)) Pods {
		out := recorded
		change(&out)
		return out
	}
	other := "0123456789abcdef"
	for name, c := range map[string]struct {
		reason string
		store  Store
		pods   Pods
		// want is a part of the refusal; empty if generation is made or kept.
		want              string
		generation, since int64
	}{
		"present":                {"it is the one in use", present, recorded, "", 3, 3},
		"revoked":                {"a backup came back", old, recorded, "every generation below 3 was revoked", 0, 0},
		"revoked, and a lost id": {"the number is enough", old, with(func(p *Pods) { p.Generation, p.ID = 2, "" }), "", 3, 3},
		"no record, pods of it":  {"a pod proves that it was revoked", old, Pods{Authorities: []string{present.Authority.ID()}}, "was replaced", 0, 0},
		"forged pods": {"they must not keep a revocation from its end", present, with(func(p *Pods) {
			p.Authorities, p.Newer, p.NewerPod, p.Revoking = []string{other}, "raytls-train.g9", "x", true
		}), "", 3, 3},
		"forged pods, later":        {"and are named afterwards", present, with(func(p *Pods) { p.Newer, p.NewerPod = "raytls-train.g9", "x" }), "pod x mounts Secret raytls-train.g9", 0, 0},
		"no record, silent pods":    {"what they mount proves it", old, Pods{Authorities: []string{""}, Newer: "raytls-train.g3"}, "mounts Secret raytls-train.g3", 0, 0},
		"no record, nothing of it":  {"nobody knows", old, Pods{}, "", 2, 0},
		"older record":              {"the Secret says more", present, Pods{Generation: 2, ID: old.Authority.ID()}, "", 3, 3},
		"lost record":               {"the Secret says it", present, Pods{}, "", 3, 3},
		"gone, with pods":           {"pods trust it", Store{Cluster: train()}, with(func(p *Pods) { p.Authorities = []string{present.Authority.ID()} }), "is gone", 0, 0},
		"gone, without pods":        {"another one is made, which is none of those before", Store{Cluster: train()}, recorded, "", 4, 4},
		"gone while it is revoked":  {"it was to go", Store{Cluster: train()}, Pods{Generation: 2, ID: old.Authority.ID(), RevokedBefore: 3, Authorities: []string{old.Authority.ID()}}, "", 3, 3},
		"other while it is revoked": {"whatever is there goes", old, Pods{Generation: 2, ID: other, RevokedBefore: 3}, "", 3, 3},
		"other of its number":       {"the record knows it", present, with(func(p *Pods) { p.ID = other }), "was in use as that generation", 0, 0},
	} {
		t.Run(name, func(t *testing.T) {
			made, _, _, err := Next(c.store, settings(), Parent{}, c.pods, now)
			if c.want == "" && (err != nil || made.Generation != c.generation || made.RevokedBefore != c.since) {
				t.Errorf("%s: generation %d since %d: %v", c.reason, made.Generation, made.RevokedBefore, err)
			}
			if c.want != "" && (err == nil || !strings.Contains(err.Error(), c.want)) {
				t.Errorf("%s: got %v", c.reason, err)
			}
		})
	}
}

func TestIssuerSecretNames(t *testing.T) {
	for name, c := range map[string]struct {
		reason string
		want   int64
		ok     bool
	}{
		"raytls-train":                       {"no authority was revoked", 0, true},
		"raytls-train.g2":                    {"the first was", 2, true},
		"raytls-train.g10":                   {"nine were", 10, true},
		"raytls-train.g9223372036854775807":  {"the longest", 1<<63 - 1, true},
		"raytls-train-g2":                    {"the Secret of another cluster", 0, false},
		"raytls-train2":                      {"of another cluster", 0, false},
		"raytls-train.g02":                   {"nobody writes that", 0, false},
		"raytls-train.g+2":                   {"nobody writes that", 0, false},
		"raytls-train.g0":                    {"nothing is revoked with that", 0, false},
		"raytls-train.g":                     {"there is no number", 0, false},
		"raytls-train.g-2":                   {"a negative number", 0, false},
		"raytls-train.2":                     {"something else", 0, false},
		"raytls-train.g92233720368547758070": {"too large", 0, false},
		"train":                              {"not ours", 0, false},
		"":                                   {"nothing", 0, false},
		"raytls-trainer.g2":                  {"of another cluster", 0, false},
		"raytls-train.g2.g3":                 {"of another cluster", 0, false},
	} {
		got, ok := ParseIssuerSecretName(train(), name)
		if ok != c.ok || ok && got != c.want {
			t.Errorf("%s: %q is %d, %t", c.reason, name, got, ok)
		}
		if ok && IssuerSecretName(train(), got) != name {
			t.Errorf("%q is written as %q", name, IssuerSecretName(train(), got))
		}
	}
	if _, ok := ParseIssuerSecretName(types.NamespacedName{Namespace: "ml", Name: "train.g2"}, "raytls-train.g2"); !ok {
		t.Error("a cluster with such a name has that Secret")
	}
}
