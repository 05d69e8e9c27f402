package serving

import (
	"bytes"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"maps"
	"math/big"
	"net/netip"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
)

const day = 24 * time.Hour

func epoch() time.Time { return time.Date(2026, 1, 1, 0, 0, 0, 0, time.UTC) }

func profile() Profile { return NewProfile("raytls-webhook", "raytls-system") }

func generation(t *testing.T, p Profile, at time.Time) *Generation {
	t.Helper()
	g, err := p.newGeneration(at)
	if err != nil {
		t.Fatal(err)
	}
	return g
}

func TestGeneration(t *testing.T) {
	p := profile()
	p.IPs = []netip.Addr{netip.MustParseAddr("::ffff:127.0.0.1"), netip.MustParseAddr("::1")}
	g := generation(t, p, epoch())
	for _, host := range []string{"raytls-webhook.raytls-system.svc", "127.0.0.1", "::1"} {
		if err := verify([]*x509.Certificate{g.leaf}, []*x509.Certificate{g.authority}, host, epoch()); err != nil {
			t.Errorf("API servers call it %s: %v", host, err)
		}
	}
	if err := verify([]*x509.Certificate{g.leaf}, []*x509.Certificate{g.authority}, "kubernetes.default.svc", epoch()); err == nil {
		t.Error("it is for no other name")
	}
	if err := verify([]*x509.Certificate{g.leaf}, []*x509.Certificate{generation(t, p, epoch()).authority}, "", epoch()); err == nil {
		t.Error("another generation's authority does not vouch for it")
	}
	if !p.named(g.leaf) || profile().named(g.leaf) {
		t.Error("a certificate is known by exactly its names")
	}
	for reason, c := range map[string]struct {
		at     time.Time
		usable bool
	}{
		"when made":                           {epoch(), true},
		"to a clock that is behind":           {epoch().Add(-59 * time.Minute), true},
		"until its end":                       {epoch().Add(90*day - time.Second), true},
		"not after it":                        {epoch().Add(90*day + time.Second), false},
		"not to a clock that is hours behind": {epoch().Add(-2 * time.Hour), false},
	} {
		if g.usable(c.at) != c.usable {
			t.Errorf("a generation is usable %s: got %t", reason, !c.usable)
		}
	}
	if got := p.renewal(g); !got.Equal(epoch().Add(60 * day)) {
		t.Errorf("it is replaced after two thirds of its life: got %s", got)
	}
	if g.authority.KeyUsage != x509.KeyUsageCertSign || !g.authority.IsCA || !g.authority.MaxPathLenZero || g.leaf.IsCA ||
		g.leaf.KeyUsage != x509.KeyUsageDigitalSignature || len(g.leaf.ExtKeyUsage) != 1 || g.leaf.ExtKeyUsage[0] != x509.ExtKeyUsageServerAuth {
		t.Error("the authority signs and does nothing else, the certificate serves and does nothing else")
	}
}

// cert-manager's selfSigned issuer makes certificates that are their own authority, and no CA.
func TestTrustedBySelfSignedCertificate(t *testing.T) {
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	template := &x509.Certificate{
		SerialNumber: big.NewInt(1), NotBefore: epoch().Add(-time.Hour), NotAfter: epoch().Add(day), DNSNames: []string{"raytls-webhook.raytls-system.svc"},
		KeyUsage: x509.KeyUsageDigitalSignature, ExtKeyUsage: []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth},
	}
	leaf, err := sign(template, template, key.Public(), key)
	if err != nil {
		t.Fatal(err)
	}
	c := &Certificates{}
	c.serve(&served{certificate: &tls.Certificate{Certificate: [][]byte{leaf.Raw}, PrivateKey: key}, chain: []*x509.Certificate{leaf}})
	if err := c.Trusted(encode(leaf), "raytls-webhook.raytls-system.svc", epoch()); err != nil {
		t.Errorf("API servers take it: %v", err)
	}
	if err := c.Trusted(encode(generation(t, profile(), epoch()).authority), "raytls-webhook.raytls-system.svc", epoch()); err == nil {
		t.Error("API servers that trust another authority do not take it")
	}
}

func TestSecretHoldsNoKeyThatSigns(t *testing.T) {
	p := profile()
	stored := Stored{Current: generation(t, p, epoch()), Next: generation(t, p, epoch().Add(day))}
	stored.Authorities = authorities(stored.Current, stored.Next, nil)
	data, err := stored.Data()
	if err != nil {
		t.Fatal(err)
	}
	read := Parse(data, Observed{})
	again, err := read.Data()
	if err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(data, again); diff != "" {
		t.Errorf("what was written is read back to the byte:\n%s", diff)
	}
	for _, key := range []string{keyCurrentKey, keyNextKey} {
		for _, authority := range stored.Authorities {
			if g := readGeneration(encode(authority), data[key], stored.Authorities); g != nil {
				t.Errorf("%s is an authority's key", key)
			}
		}
	}
}

func TestParsePassesOverWhatWasAltered(t *testing.T) {
	p := profile()
	good := Stored{Current: generation(t, p, epoch()), Next: generation(t, p, epoch())}
	good.Authorities = authorities(good.Current, good.Next, nil)
	other := generation(t, p, epoch())
	otherCertificate, otherKey, err := other.pem()
	if err != nil {
		t.Fatal(err)
	}
	for name, c := range map[string]struct {
		reason   string
		alter    func(map[string][]byte)
		observed Observed
		// current, next and authorities are whether, and how many, are left.
		current, next bool
		authorities   int
	}{
		"as it was":        {reason: "nothing is lost", alter: func(map[string][]byte) {}, current: true, next: true, authorities: 2},
		"empty":            {reason: "nothing is found in nothing", alter: func(d map[string][]byte) { clear(d) }},
		"garbled current":  {reason: "the rest stands", alter: func(d map[string][]byte) { d[keyCurrentCertificate] = []byte("x") }, next: true, authorities: 2},
		"another's key":    {reason: "a key that is not the certificate's is of no use", alter: func(d map[string][]byte) { d[keyCurrentKey] = otherKey }, next: true, authorities: 2},
		"another's pair":   {reason: "nobody vouches for it", alter: func(d map[string][]byte) { d[keyCurrentKey], d[keyCurrentCertificate] = otherKey, otherCertificate }, next: true, authorities: 2},
		"a chain":          {reason: "a certificate stands alone", alter: func(d map[string][]byte) { d[keyNextCertificate] = append(d[keyNextCertificate], otherCertificate...) }, current: true, authorities: 2},
		"no bundle":        {reason: "nobody vouches for what is there", alter: func(d map[string][]byte) { delete(d, keyBundle) }},
		"bundle elsewhere": {reason: "API servers know whom they trust", alter: func(d map[string][]byte) { delete(d, keyBundle) }, observed: Observe(encode(good.Current.authority)), current: true},
		"leaf in bundle":   {reason: "only authorities are trusted", alter: func(d map[string][]byte) { d[keyBundle] = append(d[keyBundle], otherCertificate...) }, current: true, next: true, authorities: 2},
		"repeated bundle":  {reason: "each once", alter: func(d map[string][]byte) { d[keyBundle] = append(d[keyBundle], d[keyBundle]...) }, current: true, next: true, authorities: 2},
		"garbage in bundle": {reason: "the rest stands", alter: func(d map[string][]byte) {
			d[keyBundle] = append([]byte("-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n"), d[keyBundle]...)
		}, current: true, next: true, authorities: 2},
		"endless bundle": {reason: "it is not read", alter: func(d map[string][]byte) { d[keyBundle] = bytes.Repeat(d[keyBundle], 1000) }},
	} {
		t.Run(name, func(t *testing.T) {
			data, err := good.Data()
			if err != nil {
				t.Fatal(err)
			}
			data = maps.Clone(data)
			c.alter(data)
			got := Parse(data, c.observed)
			if (got.Current != nil) != c.current || (got.Next != nil) != c.next || len(got.Authorities) != c.authorities {
				t.Errorf("%s: got %v", c.reason, got)
			}
		})
	}
}

// TestDecide names generations by letters: a is current unless said otherwise, b is next, c is another's.
func TestDecide(t *testing.T) {
	p := profile()
	a, b, c := generation(t, p, epoch()), generation(t, p, epoch().Add(60*day)), generation(t, p, epoch().Add(time.Hour))
	elsewhere := profile()
	elsewhere.DNSNames = []string{"other.raytls-system.svc"}
	renamed := generation(t, elsewhere, epoch())
	due := epoch().Add(60 * day)
	names := map[string]string{"": "none", a.ID(): "a", b.ID(): "b", c.ID(): "c", renamed.ID(): "renamed"}
	name := func(g *Generation) string {
		if known, ok := names[g.ID()]; ok {
			return known
		}
		return "new"
	}
	bundle := func(of ...*Generation) []byte {
		var out []*x509.Certificate
		for _, g := range of {
			out = append(out, g.authority)
		}
		return encode(out...)
	}
	storing := func(current, next *Generation, others ...*Generation) Stored {
		return Stored{Current: current, Next: next, Authorities: append(authorities(current, next, nil), parseBundle(bundle(others...))...)}
	}
	for title, k := range map[string]struct {
		reason   string
		at       time.Time
		stored   Stored
		observed Observed
		// seen is for how long the process has seen all of this.
		seen time.Duration
		// want is "current next authorities".
		want string
		// again is when to look again, from then on; zero for when the current one is due.
		again time.Duration
		never bool
	}{
		"first start":                   {reason: "there is nobody to wait for", at: epoch(), observed: Observe(nil), want: "new none new"},
		"first start without admission": {reason: "there is nobody to wait for", at: epoch(), want: "new none new"},
		"first start with garbage":      {reason: "nobody trusts garbage", at: epoch(), observed: Observe([]byte("x")), want: "new none new"},
		"at rest":                       {reason: "nothing is to be done", at: epoch().Add(day), stored: storing(a, nil), observed: Observe(bundle(a)), seen: day, want: "a none a"},
		"not yet trusted":               {reason: "caBundle follows", at: epoch(), stored: storing(a, nil), observed: Observe(nil), want: "a none a"},
		"due":                           {reason: "the next is stored before anybody trusts it", at: due, stored: storing(a, nil), observed: Observe(bundle(a)), seen: day, want: "a new a,new", never: true},
		"due without admission":         {reason: "nobody needs to trust it first, but others may serve the old one still", at: due, stored: storing(a, nil), seen: day, want: "new none a,new", again: 10 * time.Minute},
		"next unknown to API servers":   {reason: "it waits", at: due, stored: storing(a, b), observed: Observe(bundle(a)), seen: day, want: "a b a,b", never: true},
		"next known to one webhook":     {reason: "it waits for the other", at: due, stored: storing(a, b), observed: Observe(bundle(a, b), bundle(a)), seen: day, want: "a b a,b", never: true},
		"next just trusted":             {reason: "it settles", at: due, stored: storing(a, b), observed: Observe(bundle(a, b)), want: "a b a,b", again: time.Minute},
		"next settling":                 {reason: "it settles", at: due, stored: storing(a, b), observed: Observe(bundle(a, b)), seen: 59 * time.Second, want: "a b a,b", again: time.Second},
		"next settled":                  {reason: "replicas are to serve it, and what they serve until they know stays trusted", at: due, stored: storing(a, b), observed: Observe(bundle(a, b)), seen: time.Minute, want: "b none a,b", again: 10 * time.Minute},
		"just replaced":                 {reason: "not every replica need know yet", at: due, stored: storing(b, nil, a), observed: Observe(bundle(a, b)), seen: 9 * time.Minute, want: "b none a,b", again: time.Minute},
		"long replaced":                 {reason: "nobody serves the old one", at: due, stored: storing(b, nil, a), observed: Observe(bundle(a, b)), seen: 10 * time.Minute, want: "b none b"},
		"somebody else's trusted":       {reason: "what the operator did not put there goes", at: epoch(), stored: storing(a, nil), observed: Observe(bundle(a, c)), seen: day, want: "a none a"},
		"caBundle emptied":              {reason: "it is put right", at: epoch(), stored: storing(a, nil), observed: Observe(nil), seen: day, want: "a none a"},
		"caBundle replaced":             {reason: "nobody can tell whose certificate somebody else's caBundle is for, so both are trusted and the change is made in steps", at: epoch().Add(time.Hour), stored: storing(a, nil), observed: Observe(bundle(c)), seen: day, want: "none a a,c", never: true},
		"one of two emptied":            {reason: "it is put right, and replicas go on", at: epoch(), stored: storing(a, nil), observed: Observe(bundle(a), nil), seen: day, want: "a none a"},
		"deleted":                       {reason: "replicas serve the old one from memory", at: epoch().Add(day), observed: Observe(bundle(a)), want: "none new a,new", never: true},
		"deleted, next trusted":         {reason: "it settles all the same", at: due, stored: storing(nil, b, a), observed: Observe(bundle(a, b)), want: "none b a,b", again: time.Minute},
		"deleted, next settled":         {reason: "it is served now", at: due, stored: storing(nil, b, a), observed: Observe(bundle(a, b)), seen: time.Minute, want: "b none a,b", again: 10 * time.Minute},
		"restored from a backup":        {reason: "it is as good as any other, once it is trusted", at: epoch().Add(day), stored: storing(a, nil), observed: Observe(bundle(c)), seen: time.Hour, want: "none a a,c", never: true},
		"next altered":                  {reason: "another one is made, and nobody served the one that is lost", at: due, stored: storing(a, nil, b), observed: Observe(bundle(a, b)), seen: day, want: "a new a,new", never: true},
		"renamed":                       {reason: "API servers call it by another name", at: epoch(), stored: storing(renamed, nil), observed: Observe(bundle(renamed)), seen: day, want: "renamed new renamed,new", never: true},
		"renamed twice":                 {reason: "the next is not for the name either", at: epoch(), stored: storing(renamed, renamed), observed: Observe(bundle(renamed)), seen: day, want: "renamed new renamed,new", never: true},
		"expired":                       {reason: "nobody trusts what is served, so there is nothing to wait for", at: epoch().Add(91 * day), stored: storing(a, nil), observed: Observe(bundle(a)), seen: day, want: "new none new"},
		"expired with a next":           {reason: "the next is there and nobody serves anything that is trusted", at: epoch().Add(91 * day), stored: storing(a, b), observed: Observe(bundle(a)), seen: day, want: "b none b"},
		"both expired":                  {reason: "it is as at the first start", at: epoch().Add(200 * day), stored: storing(a, b), observed: Observe(bundle(a, b)), seen: day, want: "new none new"},
	} {
		t.Run(title, func(t *testing.T) {
			memory := Memory{}.See(k.at.Add(-k.seen), k.stored, k.observed).See(k.at, k.stored, k.observed)
			got, err := p.Decide(k.at, k.stored, k.observed, memory)
			if err != nil {
				t.Fatal(err)
			}
			var trusted []string
			for _, g := range []*Generation{a, c, renamed, b, got.Stored.Current, got.Stored.Next} {
				if g != nil && contains(got.Stored.Authorities, g.authority) && !strings.Contains(strings.Join(trusted, ","), name(g)) {
					trusted = append(trusted, name(g))
				}
			}
			is := name(got.Stored.Current) + " " + name(got.Stored.Next) + " " + strings.Join(trusted, ",")
			if is != k.want || len(trusted) != len(got.Stored.Authorities) {
				t.Errorf("%s: got %q, want %q", k.reason, is, k.want)
			}
			want := k.at.Add(k.again)
			switch {
			case k.never:
				want = time.Time{}
			case k.again == 0:
				want = p.renewal(got.Stored.Current)
			}
			if !got.Again.Equal(want) {
				t.Errorf("it looks again at %s, not at %s", got.Again, want)
			}
			data, err := got.Stored.Data()
			if err != nil {
				t.Fatal(err)
			}
			again, err := p.Decide(k.at, Parse(data, k.observed), k.observed, got.Memory)
			if err != nil {
				t.Fatal(err)
			}
			if once, err := again.Stored.Data(); err != nil || !maps.EqualFunc(data, once, bytes.Equal) {
				t.Errorf("deciding again what was decided changes nothing: %s became %s (%v)", got.Stored, again.Stored, err)
			}
		})
	}
}

func TestBundleIsBounded(t *testing.T) {
	p := profile()
	var observed Observed
	for i := range 3 * maxAuthorities {
		now := epoch().Add(time.Duration(i) * time.Second)
		d, err := p.Decide(now, Stored{}, observed, Memory{}.See(now, Stored{}, observed))
		if err != nil {
			t.Fatal(err)
		}
		observed = Observe(d.Stored.Bundle())
	}
	if got := len(observed.all()); got != maxAuthorities {
		t.Errorf("a Secret that is deleted again and again fills no bundle: %d authorities", got)
	}
}

func TestAdopt(t *testing.T) {
	p := profile()
	a, b := generation(t, p, epoch()), generation(t, p, epoch().Add(time.Hour))
	now := epoch().Add(day)
	onlyA, onlyB, both := Observe(encode(a.authority)), Observe(encode(b.authority)), Observe(encode(a.authority, b.authority))
	for name, c := range map[string]struct {
		reason   string
		serves   *Generation
		current  *Generation
		observed Observed
		seen     time.Duration
		at       time.Time
		adopts   bool
		again    time.Duration
	}{
		"started":                {reason: "what is trusted is served at once", current: b, observed: onlyB, adopts: true},
		"nothing stored":         {reason: "there is nothing to serve", observed: onlyB},
		"deleted":                {reason: "what is served stays", serves: a, observed: onlyA},
		"first start":            {reason: "nobody trusts anything yet", current: b, observed: Observe(nil), adopts: true},
		"not installed":          {reason: "there is nobody to trust it", current: b, adopts: true},
		"started, not trusted":   {reason: "others serve what is trusted", current: b, observed: onlyA},
		"the same":               {reason: "it is served already", serves: b, current: b, observed: onlyB},
		"replaced":               {reason: "it was settled before it was stored as the current one", serves: a, current: b, observed: both, seen: time.Minute, adopts: true},
		"replaced, just started": {reason: "this replica has not seen it settle", serves: a, current: b, observed: both, seen: 20 * time.Second, again: 40 * time.Second},
		"restored from a backup": {reason: "it is not trusted yet", serves: b, current: a, observed: onlyB, seen: day},
		"no longer trusted":      {reason: "there is nothing to lose", serves: a, current: b, observed: onlyB, adopts: true},
		"neither is trusted":     {reason: "caBundle is put right first", serves: a, current: b, observed: Observe(nil)},
		"expired":                {reason: "there is nothing to lose", serves: a, current: b, observed: both, at: epoch().Add(90*day + 30*time.Minute), adopts: true},
		"stored is expired":      {reason: "there is nothing to gain", serves: b, current: a, observed: both, seen: day, at: epoch().Add(90*day + 30*time.Minute)},
	} {
		t.Run(name, func(t *testing.T) {
			at := now
			if !c.at.IsZero() {
				at = c.at
			}
			stored := Stored{Current: c.current}
			memory := Memory{}.See(at.Add(-c.seen), stored, c.observed).See(at, stored, c.observed)
			adopts, again := p.Adopt(at, c.serves, stored, c.observed, memory)
			if adopts != c.adopts {
				t.Errorf("%s: got %t", c.reason, adopts)
			}
			if want := at.Add(c.again); !adopts && c.again != 0 && !again.Equal(want) || !adopts && c.again == 0 && !again.IsZero() {
				t.Errorf("it looks again at %s", again)
			}
		})
	}
}
