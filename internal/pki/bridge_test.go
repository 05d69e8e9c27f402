package pki

import (
	"crypto/x509"
	"fmt"
	"testing"
	"time"
)

// generation is an authority that replaced another, and what its pods present and trust.
type generation struct {
	authority *Authority
	pod       Peer
}

// generations replaces an authority again and again, with all bridges. Brought ones have parents of their own.
func generations(t *testing.T, brought ...bool) []generation {
	t.Helper()
	var out []generation
	var forward []*x509.Certificate
	for index, underParent := range brought {
		options := AuthorityOptions{}
		if underParent {
			options.Parent = newTestParent(t, forge{name: fmt.Sprint("parent ", index)})
		}
		g := generation{authority: newTestAuthority(t, options)}
		g.pod.Bundle = []*x509.Certificate{g.authority.certificate}
		if index > 0 {
			before := out[index-1].authority
			bridge := mustBridge(t, before, BridgeOptions{To: g.authority.certificate, Through: firstOf(forward), Now: clock()})
			forward = append([]*x509.Certificate{bridge}, forward...)
		}
		for _, older := range out {
			g.pod.Bundle = append(g.pod.Bundle, mustBridge(t, g.authority, BridgeOptions{To: older.authority.certificate, Now: clock()}))
		}
		issuer := newTestIssuer(t, g.authority, clock())
		g.pod.Chain = append([]*x509.Certificate{newTestLeaf(t, issuer, clock()), issuer.certificate}, forward...)
		out = append(out, g)
	}
	return out
}

func firstOf(certificates []*x509.Certificate) *x509.Certificate {
	if len(certificates) == 0 {
		return nil
	}
	return certificates[0]
}

func mustBridge(t *testing.T, from *Authority, options BridgeOptions) *x509.Certificate {
	t.Helper()
	bridge, err := from.Bridge(options)
	if err != nil {
		t.Fatal(err)
	}
	if err := CheckBridge(bridge, from.certificate, options.To); err != nil {
		t.Fatal(err)
	}
	return bridge
}

// eachPair calls a test with every chain and every bundle of generations.
func eachPair(t *testing.T, all []generation, test func(t *testing.T, chain, bundle []*x509.Certificate)) {
	t.Helper()
	for presents, a := range all {
		for trusts, b := range all {
			t.Run(fmt.Sprintf("%d to %d", presents+1, trusts+1), func(t *testing.T) { test(t, a.pod.Chain, b.pod.Bundle) })
		}
	}
}

func TestGenerationsTrustEachOther(t *testing.T) {
	eachPair(t, generations(t, false, true, false, false, true, true, false, false), func(t *testing.T, chain, bundle []*x509.Certificate) {
		for _, at := range []time.Time{clock(), chain[0].NotAfter.Add(-time.Second)} {
			wantReason(t, VerifyPair(chain, bundle, at), "")
		}
		wantReason(t, checkFile(chain, clock()), "")
		wantReason(t, checkFile(bundle, clock()), "")
	})
}

func TestGenerationsAgainstBoringSSL(t *testing.T) {
	verify := boringSSL(t)
	eachPair(t, generations(t, false, true, false, false), func(t *testing.T, chain, bundle []*x509.Certificate) {
		if ok, said := verify(t, chain, bundle, clock()); !ok {
			t.Error(said)
		}
	})
}

// The scripts ask OpenSSL about their own files, and Debian's Ray is built on it.
func TestGenerationsAgainstOpenSSL(t *testing.T) {
	verify := openSSL(t, "-x509_strict")
	eachPair(t, generations(t, false, true, false), func(t *testing.T, chain, bundle []*x509.Certificate) {
		if ok, said := verify(t, chain, bundle, clock()); !ok {
			t.Error(said)
		}
	})
}

// Without a bridge, or with one that has ended, a pair does not hold: the tests above could not tell otherwise.
func TestPairsNeedTheirBridges(t *testing.T) {
	all := generations(t, false, false, false)
	first, last := all[0].pod, all[2].pod
	wantReason(t, VerifyPair(last.Chain[:2], first.Bundle, clock()), ReasonNoIssuer)
	wantReason(t, VerifyPair(last.Chain[:3], first.Bundle, clock()), ReasonNoIssuer)
	wantReason(t, VerifyPair(first.Chain, last.Bundle[:1], clock()), ReasonNoIssuer)
	short := mustBridge(t, all[2].authority, BridgeOptions{To: all[0].authority.certificate, Until: clock().Add(day), Now: clock()})
	bundle := []*x509.Certificate{all[2].authority.certificate, short}
	wantReason(t, VerifyPair(first.Chain, bundle, clock().Add(day-time.Minute)), "")
	wantReason(t, VerifyPair(first.Chain, bundle, clock().Add(day)), ReasonExpired)
	stranger := newTestAuthority(t, AuthorityOptions{})
	foreign := newTestIssuer(t, stranger, clock())
	for _, pod := range []Peer{first, last} {
		wantReason(t, VerifyPair([]*x509.Certificate{newTestLeaf(t, foreign, clock()), foreign.certificate}, pod.Bundle, clock()), ReasonNoIssuer)
	}
}

func TestBridge(t *testing.T) {
	second := clock().Truncate(time.Second)
	old := newTestAuthority(t, AuthorityOptions{Validity: 100 * day})
	successor := newTestAuthority(t, AuthorityOptions{Validity: 300 * day}).certificate
	through := mustBridge(t, newTestAuthority(t, AuthorityOptions{Validity: 200 * day}), BridgeOptions{To: old.certificate, Now: clock()})
	for name, test := range map[string]struct {
		reason  string
		options BridgeOptions
		want    Reason
		ends    time.Duration
	}{
		"as long as it can":   {"it ends with what signed it", BridgeOptions{To: successor, Now: clock()}, "", 100 * day},
		"bounded":             {"or before", BridgeOptions{To: successor, Until: clock().Add(10 * day), Now: clock()}, "", 10 * day},
		"bounded, later":      {"but not after", BridgeOptions{To: successor, Until: clock().Add(500 * day), Now: clock()}, "", 100 * day},
		"through another":     {"unless peers know the signer by a bridge that lasts longer", BridgeOptions{To: successor, Through: through, Now: clock()}, "", 200 * day},
		"signer ended":        {"by that bridge, the signer has not ended", BridgeOptions{To: successor, Through: through, Now: clock().Add(150 * day)}, "", 200 * day},
		"signer ended, alone": {"without it, nobody would accept it", BridgeOptions{To: successor, Now: clock().Add(100 * day)}, ReasonExpired, 0},
		"in the past":         {"nothing expired is written", BridgeOptions{To: successor, Until: clock(), Now: clock()}, ReasonExpired, 0},
		"to itself":           {"a bridge leads elsewhere", BridgeOptions{To: old.certificate, Now: clock()}, ReasonProfile, 0},
		"to an issuer":        {"an issuer is signed by its authority alone", BridgeOptions{To: newTestIssuer(t, old, clock()).certificate, Now: clock()}, ReasonProfile, 0},
		"to a stranger's CA":  {"a brought CA is never trusted", BridgeOptions{To: forge{name: "brought"}.make(t).certificate, Now: clock()}, ReasonProfile, 0},
	} {
		t.Run(name, func(t *testing.T) {
			bridge, err := old.Bridge(test.options)
			wantReason(t, err, test.want)
			if err != nil {
				return
			}
			if !bridge.NotAfter.Equal(second.Add(test.ends)) {
				t.Errorf("%s: it ends at %s", test.reason, bridge.NotAfter)
			}
			if want := test.options.Now.Truncate(time.Second).Add(-day); !bridge.NotBefore.Equal(want) {
				t.Errorf("it starts at %s, want %s", bridge.NotBefore, want)
			}
			if IDOf(bridge) != IDOf(successor) || SignerOf(bridge) != old.ID() {
				t.Errorf("it leads from %s to %s", SignerOf(bridge), IDOf(bridge))
			}
			wantReason(t, CheckBridge(bridge, successor, old.certificate), ReasonProfile)
			wantReason(t, CheckBridge(bridge, successor, successor), ReasonNoIssuer)
			wantReason(t, CheckBridge(old.certificate, old.certificate, successor), ReasonProfile)
			read, err := ParseAuthorityCertificate(EncodeBundle(bridge))
			wantReason(t, err, "")
			if !read.Equal(bridge) {
				t.Error("it is not read back as it was")
			}
			_, err = ParseAuthorityCertificate(EncodeBundle(bridge, successor))
			wantReason(t, err, ReasonMalformed)
		})
	}
	early := newTestAuthority(t, AuthorityOptions{Now: clock().Add(time.Hour)})
	if bridge := mustBridge(t, early, BridgeOptions{To: successor, Now: clock().Add(time.Hour)}); bridge.NotBefore.Before(early.NotBefore()) {
		t.Error("a bridge starts before its signer")
	}
}

func TestSuccessor(t *testing.T) {
	old := newTestAuthority(t, AuthorityOptions{})
	later := newTestAuthority(t, AuthorityOptions{Now: clock().Add(time.Hour)})
	earlier := newTestAuthority(t, AuthorityOptions{Now: clock().Add(-time.Hour)})
	proof := mustBridge(t, old, BridgeOptions{To: later.certificate, Now: clock().Add(time.Hour)})
	forged := *proof
	forged.Signature = mustBridge(t, earlier, BridgeOptions{To: later.certificate, Now: clock()}).Signature
	for name, test := range map[string]struct {
		reason string
		chain  []*x509.Certificate
		want   string
	}{
		"replaced":         {"only its key can have signed it", []*x509.Certificate{newTestIssuer(t, later, clock().Add(time.Hour)).certificate, proof}, later.ID()},
		"forged":           {"the signature decides", []*x509.Certificate{&forged}, ""},
		"reverse bridge":   {"anybody in the namespace can copy one from the bundle", []*x509.Certificate{mustBridge(t, old, BridgeOptions{To: earlier.certificate, Now: clock()})}, ""},
		"other's bridge":   {"another authority's says nothing of this one", []*x509.Certificate{mustBridge(t, earlier, BridgeOptions{To: old.certificate, Now: clock()})}, ""},
		"its own issuer":   {"issuers are no successors", []*x509.Certificate{newTestIssuer(t, old, clock().Add(time.Hour)).certificate}, ""},
		"its own":          {"nor is it itself", []*x509.Certificate{old.certificate}, ""},
		"nothing in chain": {"no chain, no proof", nil, ""},
	} {
		if got := old.Successor(test.chain); got != test.want {
			t.Errorf("%s: %s: got %q", name, test.reason, got)
		}
	}
}

func TestSignedBy(t *testing.T) {
	key := newTestKey(t, ECDSAP256)
	parent := newTestParent(t, forge{name: "brought", key: key})
	own := newTestAuthority(t, AuthorityOptions{Parent: parent})
	for name, test := range map[string]struct {
		reason string
		parent *Parent
		want   bool
	}{
		"its parent":      {"it signed it", parent, true},
		"renewed":         {"the same CA with a later end", newTestParent(t, forge{name: "brought", key: key, to: 900 * day}), true},
		"renamed":         {"another name is another CA", newTestParent(t, forge{name: "other", key: key}), false},
		"another key":     {"another key is another CA", newTestParent(t, forge{name: "brought"}), false},
		"its key renamed": {"verifiers choose by the identifier", newTestParent(t, forge{name: "brought", key: key, keyID: []byte{1, 2, 3}}), false},
		"itself":          {"it did not sign itself", nil, false},
	} {
		if got := own.SignedBy(test.parent); got != test.want {
			t.Errorf("%s: %s: got %t", name, test.reason, got)
		}
	}
	if own := newTestAuthority(t, AuthorityOptions{}); !own.SignedBy(nil) || own.SignedBy(parent) {
		t.Error("an authority without a parent signs itself")
	}
}

func TestPublishableToPeers(t *testing.T) {
	all := generations(t, false, false)
	old, present := all[0], all[1]
	issuer := newTestIssuer(t, present.authority, clock())
	forward, reverse := present.pod.Chain[2], present.pod.Bundle[1]
	specimen, err := old.authority.Specimen(clock().Add(400*day), clock())
	if err != nil {
		t.Fatal(err)
	}
	if !specimen[0].NotAfter.Equal(specimen[1].NotAfter) || !specimen[0].NotAfter.Equal(clock().Truncate(time.Second).Add(400*day)) {
		t.Errorf("the specimen ends at %s", specimen[0].NotAfter)
	}
	peer := Peer{Chain: specimen, Bundle: old.pod.Bundle}
	shortForward := mustBridge(t, old.authority, BridgeOptions{To: present.authority.certificate, Until: clock().Add(399 * day), Now: clock()})
	shortReverse := mustBridge(t, present.authority, BridgeOptions{To: old.authority.certificate, Until: clock().Add(399 * day), Now: clock()})
	root := present.authority.certificate
	for name, test := range map[string]struct {
		reason        string
		chain, bundle []*x509.Certificate
		want          Reason
	}{
		"both bridges":       {"both directions hold", []*x509.Certificate{issuer.certificate, forward}, []*x509.Certificate{root, reverse}, ""},
		"no forward":         {"old pods would refuse new ones", []*x509.Certificate{issuer.certificate}, []*x509.Certificate{root, reverse}, ReasonNoIssuer},
		"no reverse":         {"new pods would refuse old ones", []*x509.Certificate{issuer.certificate, forward}, []*x509.Certificate{root}, ReasonNoIssuer},
		"forward ends early": {"a day before the last old leaf does", []*x509.Certificate{issuer.certificate, shortForward}, []*x509.Certificate{root, reverse}, ReasonExpired},
		"reverse ends early": {"a day before the last old leaf does", []*x509.Certificate{issuer.certificate, forward}, []*x509.Certificate{root, shortReverse}, ReasonExpired},
		"two to one":         {"a verifier would have to choose", []*x509.Certificate{issuer.certificate, forward}, []*x509.Certificate{root, reverse, shortReverse}, ReasonProfile},
		"two from one":       {"a verifier would have to choose", []*x509.Certificate{issuer.certificate, forward, shortForward}, []*x509.Certificate{root, reverse}, ReasonProfile},
		"root in the chain":  {"it has the bridge's name", []*x509.Certificate{issuer.certificate, forward, root}, []*x509.Certificate{root, reverse}, ReasonProfile},
	} {
		t.Run(name, func(t *testing.T) {
			t.Log(test.reason)
			wantReason(t, Publishable(issuer, EncodeBundle(test.chain...), EncodeBundle(test.bundle...), []Peer{peer}, clock()), test.want)
		})
	}
}
