package keys

import (
	"testing"
	"time"

	"github.com/raytls/raytls/api/v1alpha1"
)

func TestJudge(t *testing.T) {
	after := func(d time.Duration) time.Time { return epoch().Add(d) }
	by := Signers{
		Authority: "aa", Issuer: "ii", AuthorityEnd: after(1000 * day), IssuerEnd: after(200 * day),
		Earlier: []Earlier{{Generation: 3, ID: "cc", End: after(150 * day)}},
	}
	leaf := func(change ...func(*Leaf)) Leaf {
		l := Leaf{Authority: "aa", Issuer: "ii", IssuedAt: epoch(), NotAfter: after(120 * day)}
		for _, c := range change {
			c(&l)
		}
		return l
	}
	ends := func(at time.Time) func(*Leaf) { return func(l *Leaf) { l.NotAfter = at } }
	of := func(authority, issuer string) func(*Leaf) {
		return func(l *Leaf) { l.Authority, l.Issuer = authority, issuer }
	}
	for name, c := range map[string]struct {
		reason string
		leaf   Leaf
		by     Signers
		now    time.Time
		want   Judgement
	}{
		"young":             {"nothing is wrong", leaf(), by, epoch(), Judgement{"", after(120 * day), after(110 * day), 0}},
		"before the end":    {"eleven twelfths are no cause", leaf(), by, after(110*day - 1), Judgement{"", after(120 * day), after(110 * day), 0}},
		"ending":            {"the last twelfth warns", leaf(), by, after(110 * day), Judgement{v1alpha1.ReasonCertificateEnding, after(120 * day), after(120 * day), 0}},
		"ended":             {"the end itself is over, as in BoringSSL", leaf(), by, after(120 * day), Judgement{v1alpha1.ReasonCertificateExpired, after(120 * day), time.Time{}, 0}},
		"long ended":        {"and it stays so", leaf(), by, after(150 * day), Judgement{v1alpha1.ReasonCertificateExpired, after(120 * day), time.Time{}, 0}},
		"issuer ended":      {"a leaf ends with its issuer", leaf(ends(after(300 * day))), by, after(200 * day), Judgement{v1alpha1.ReasonCertificateExpired, after(200 * day), time.Time{}, 0}},
		"earlier issuer":    {"the end of another issuer is its own", leaf(of("aa", "jj"), ends(after(300*day))), by, after(200 * day), Judgement{"", after(300 * day), after(275 * day), 0}},
		"authority ended":   {"and every leaf with the authority", leaf(of("aa", "jj"), ends(after(2000*day))), by, after(1000 * day), Judgement{v1alpha1.ReasonCertificateExpired, after(1000 * day), time.Time{}, 0}},
		"other authority":   {"its peers do not know it", leaf(of("bb", "jj")), by, epoch(), Judgement{v1alpha1.ReasonOutdatedAuthority, after(120 * day), after(120 * day), 0}},
		"other, ended":      {"an end is worse", leaf(of("bb", "jj")), by, after(120 * day), Judgement{v1alpha1.ReasonCertificateExpired, after(120 * day), time.Time{}, 0}},
		"other, outlives":   {"it does not end with an authority that is not its own", leaf(of("bb", "jj"), ends(after(2000*day))), by, after(1000 * day), Judgement{v1alpha1.ReasonOutdatedAuthority, after(2000 * day), after(2000 * day), 0}},
		"earlier":           {"pods still accept it", leaf(of("cc", "jj")), by, epoch(), Judgement{"", after(120 * day), after(110 * day), 3}},
		"earlier, ending":   {"its end is warned of like any", leaf(of("cc", "jj")), by, after(110 * day), Judgement{v1alpha1.ReasonCertificateEnding, after(120 * day), after(120 * day), 3}},
		"earlier, ended":    {"and counts like any", leaf(of("cc", "jj")), by, after(120 * day), Judgement{v1alpha1.ReasonCertificateExpired, after(120 * day), time.Time{}, 3}},
		"earlier, bounded":  {"whatever a pod claims, it ends with the bridge", leaf(of("cc", "jj"), ends(after(2000*day))), by, after(150 * day), Judgement{v1alpha1.ReasonCertificateExpired, after(150 * day), time.Time{}, 3}},
		"no signers":        {"without them its own end counts", leaf(), Signers{}, after(120 * day), Judgement{v1alpha1.ReasonCertificateExpired, after(120 * day), time.Time{}, 0}},
		"no signers, young": {"and nothing else", leaf(), Signers{}, epoch(), Judgement{"", after(120 * day), after(110 * day), 0}},
		"no issue time":     {"without it there is no twelfth", Leaf{NotAfter: after(day)}, Signers{}, epoch(), Judgement{"", after(day), after(day), 0}},
		"nothing known":     {"the present issuer bounds it", Leaf{}, by, after(200 * day), Judgement{v1alpha1.ReasonCertificateExpired, after(200 * day), time.Time{}, 0}},
		"nothing at all":    {"what is unknown is no fault", Leaf{}, Signers{}, epoch(), Judgement{}},
	} {
		t.Run(name, func(t *testing.T) {
			got := Judge(c.leaf, c.by, c.now)
			if got != c.want {
				t.Errorf("%s: got %+v, want %+v", c.reason, got, c.want)
			}
			if !got.Next.IsZero() && !got.Next.After(c.now) {
				t.Errorf("%s: it would be judged again in the past, at %s", c.reason, got.Next)
			}
		})
	}
}

func TestAssumedLeaf(t *testing.T) {
	if got := settings().Assumed(epoch()).NotAfter; !got.Equal(epoch().Add(100 * day)) {
		t.Errorf("no pod has a shorter one: got %s", got)
	}
}
