package raycluster

import (
	"crypto/x509"
	"encoding/pem"
	"maps"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"

	"github.com/raytls/raytls/api/v1alpha1"
	"github.com/raytls/raytls/internal/gencert"
	"github.com/raytls/raytls/internal/pki"
)

const day = 24 * time.Hour

func epoch() time.Time { return time.Date(2026, 1, 1, 0, 0, 0, 0, time.UTC) }

func testSettings() settings {
	spec := v1alpha1.RayTLSPolicySpec{PodCertificate: v1alpha1.PodCertificate{ValidityDays: 100}}
	spec = spec.WithDefaults()
	return settingsOf(&spec)
}

func testAuthority(t *testing.T, s settings, parent *pki.Parent) (*pki.Authority, *corev1.Secret) {
	t.Helper()
	key := types.NamespacedName{Namespace: "ns", Name: "c"}
	secret, err := newAuthority(key, "raytls-system", s, parent, epoch())
	if err != nil {
		t.Fatal(err)
	}
	authority, read, err := parseAuthority(key, secret)
	if err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(s, read); diff != "" {
		t.Fatalf("settings are read back as they were written (-want +got):\n%s", diff)
	}
	return authority, secret
}

// first is an issuer made at epoch, as the Secret that holds it.
func first(t *testing.T, authority *pki.Authority, s settings) (*issuance, *corev1.Secret) {
	t.Helper()
	out, err := issue(authority, nil, s, true, epoch())
	if err != nil {
		t.Fatal(err)
	}
	return out, &corev1.Secret{Data: maps.Clone(out.data)}
}

func TestIssuerIsReplacedOnSchedule(t *testing.T) {
	s := testSettings()
	authority, _ := testAuthority(t, s, nil)
	made, secret := first(t, authority, s)
	if made.why == "" {
		t.Error("a first issuer has a reason to be told of")
	}
	if life := made.issuer.NotAfter().Sub(epoch()); life < 200*day-time.Minute || life > 200*day+time.Minute {
		t.Errorf("an issuer lives twice as long as what it signs: got %s", life)
	}
	if made.renew.After(epoch().Add(100*day)) || made.renew.Before(epoch().Add(98*day-time.Minute)) {
		t.Errorf("an issuer is replaced after the life of a leaf, a fiftieth earlier at most: got %s", made.renew)
	}
	for name, c := range map[string]struct {
		reason string
		at     time.Time
		keeps  bool
	}{
		"at once":      {"what was just made is kept", epoch(), true},
		"just before":  {"it is not replaced early", made.renew.Add(-time.Second), true},
		"when due":     {"it is replaced when it is due", made.renew, false},
		"long after":   {"an operator that was away replaces it when it comes back", epoch().Add(150 * day), false},
		"when expired": {"one that ended is replaced", epoch().Add(201 * day), false},
		"before it":    {"a clock that went back a little does no harm", epoch().Add(-time.Hour), true},
	} {
		t.Run(name, func(t *testing.T) {
			got, err := issue(authority, secret, s, true, c.at)
			if err != nil {
				t.Fatal(err)
			}
			if keeps := got.why == ""; keeps != c.keeps {
				t.Fatalf("%s: %s", c.reason, got.why)
			}
			if c.keeps {
				if diff := cmp.Diff(secret.Data, got.data); diff != "" {
					t.Errorf("what is kept is kept to the byte")
				}
				return
			}
			if got.issuer.ID() == made.issuer.ID() || !got.renew.After(c.at) {
				t.Errorf("the new one is another, and not due at once: %s at %s", got.renew, c.at)
			}
		})
	}
}

// A leaf signed in the last moment before its issuer is replaced must still end before the issuer does.
func TestNoLeafOutlivesItsIssuer(t *testing.T) {
	for _, days := range []int32{1, 7, 365, 1700} {
		s := testSettings()
		s.LeafValidityDays = days
		authority, _ := testAuthority(t, s, nil)
		made, _ := first(t, authority, s)
		if last := made.renew.Add(s.leafValidity()); last.After(made.issuer.NotAfter()) {
			t.Errorf("%d days: a leaf of %s ends after its issuer", days, last)
		}
	}
}

func TestIssuerIsReplacedWhenAltered(t *testing.T) {
	s := testSettings()
	authority, _ := testAuthority(t, s, nil)
	_, good := first(t, authority, s)
	other, _ := testAuthority(t, s, nil)
	_, foreign := first(t, other, s)
	for name, c := range map[string]struct {
		reason string
		alter  func(map[string][]byte)
		keeps  bool
	}{
		"another's":      {"an issuer of another authority with this name is not kept", func(d map[string][]byte) { clear(d); maps.Copy(d, foreign.Data) }, false},
		"key":            {"a key that does not fit is replaced", func(d map[string][]byte) { d["ca.key"] = foreign.Data["ca.key"] }, false},
		"issuer":         {"a certificate that does not fit is replaced", func(d map[string][]byte) { d["issuer.crt"] = d["ca.crt"] }, false},
		"chain":          {"who alters the chain had the key in reach", func(d map[string][]byte) { d["chain.pem"] = append([]byte("#\n"), d["chain.pem"]...) }, false},
		"bundle":         {"who alters the bundle had the key in reach", func(d map[string][]byte) { d["ca.crt"] = foreign.Data["ca.crt"] }, false},
		"empty":          {"an empty Secret holds none", func(d map[string][]byte) { clear(d) }, false},
		"only a profile": {"a profile is written again beside the same issuer", func(d map[string][]byte) { d["profile"] = nil }, true},
	} {
		t.Run(name, func(t *testing.T) {
			data := maps.Clone(good.Data)
			c.alter(data)
			got, err := issue(authority, &corev1.Secret{Data: data}, s, true, epoch().Add(day))
			if err != nil {
				t.Fatal(err)
			}
			if keeps := got.why == ""; keeps != c.keeps {
				t.Errorf("%s: %q", c.reason, got.why)
			}
			if c.keeps != (string(got.data["ca.key"]) == string(good.Data["ca.key"])) {
				t.Errorf("%s: the key says otherwise", c.reason)
			}
			if string(got.data["ca.crt"]) != string(authority.CertificatePEM()) {
				t.Errorf("the trust bundle is the authority")
			}
		})
	}
}

func TestShorterLeavesReplaceTheIssuerWhenTheyAreDue(t *testing.T) {
	s := testSettings()
	authority, _ := testAuthority(t, s, nil)
	_, secret := first(t, authority, s)
	s.LeafValidityDays = 7
	if got, err := issue(authority, secret, s, true, epoch().Add(2*day)); err != nil || got.why != "" {
		t.Errorf("an issuer that lives longer than asked is kept for now: %v, %v", got, err)
	}
	if got, err := issue(authority, secret, s, true, epoch().Add(8*day)); err != nil || got.why == "" {
		t.Errorf("and is replaced by the new schedule: %v", err)
	}
	s.LeafValidityDays = 150
	if got, err := issue(authority, secret, s, true, epoch().Add(51*day)); err != nil || got.why == "" {
		t.Errorf("an issuer that ends before a leaf of the new length could is replaced: %v", err)
	}
}

func TestProfileSaysWhatIsAsked(t *testing.T) {
	s := testSettings()
	s.HeadDNSNames, s.HeadServiceShortName = []string{"a.example", "b.example"}, true
	authority, _ := testAuthority(t, s, nil)
	made, _ := first(t, authority, s)
	got, err := gencert.ParseProfile(made.data["profile"])
	if err != nil {
		t.Fatal(err)
	}
	want := gencert.Profile{
		Revision: 1, Authority: authority.ID(), Issuer: made.issuer.ID(), IssuerNotBefore: made.issuer.NotBefore(), IssuerNotAfter: made.issuer.NotAfter(),
		KeyAlgorithm: "ECDSAP256", ValidityDays: 100, HeadDNSNames: s.HeadDNSNames, HeadServiceShortName: true, HeadUntilIssuerEnd: true, CAKeyAlgorithm: "ECDSAP256",
	}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("the profile is all that a script knows (-want +got):\n%s", diff)
	}
}

// Under a brought CA that ends soon, all is cut to its end, and replacing the issuer again and again would not help.
func TestACutIssuerIsNotReplacedInALoop(t *testing.T) {
	s := testSettings()
	short := s
	short.AuthorityValidityDays = 150
	root, _ := testAuthority(t, short, nil)
	key, err := root.KeyPEM()
	if err != nil {
		t.Fatal(err)
	}
	parent, err := pki.ParseParent(root.CertificatePEM(), key, epoch())
	if err != nil {
		t.Fatal(err)
	}
	authority, _ := testAuthority(t, s, parent)
	made, secret := first(t, authority, s)
	if made.issuer.NotAfter().After(parent.NotAfter()) {
		t.Fatal("nothing outlives its issuer")
	}
	for at := day; at < 149*day; at += day {
		got, err := issue(authority, secret, s, true, epoch().Add(at))
		if err != nil {
			t.Fatalf("day %d: %v", at/day, err)
		}
		if got.why != "" {
			t.Fatalf("day %d: replaced (%s), though the new one ends at the same time", at/day, got.why)
		}
	}
}

func TestParseAuthorityRefuses(t *testing.T) {
	s := testSettings()
	_, good := testAuthority(t, s, nil)
	key := types.NamespacedName{Namespace: "ns", Name: "c"}
	for name, c := range map[string]struct {
		reason string
		alter  func(*corev1.Secret)
	}{
		"of another cluster": {"an authority copied under another's name would merge two clusters", func(s *corev1.Secret) { s.Annotations[v1alpha1.AnnotationCluster] = "ns/d" }},
		"without settings":   {"settings are not guessed", func(s *corev1.Secret) { delete(s.Data, "settings") }},
		"without a key":      {"an authority without its key signs nothing", func(s *corev1.Secret) { delete(s.Data, "authority.key") }},
		"with more": {"two certificates are not one", func(s *corev1.Secret) {
			s.Data["authority.crt"] = append(s.Data["authority.crt"], s.Data["authority.crt"]...)
		}},
	} {
		t.Run(name, func(t *testing.T) {
			secret := good.DeepCopy()
			c.alter(secret)
			if _, _, err := parseAuthority(key, secret); err == nil {
				t.Error(c.reason)
			}
		})
	}
}

func TestAuthorityNamesDiffer(t *testing.T) {
	a := AuthorityName(types.NamespacedName{Namespace: "a", Name: "b-c"})
	b := AuthorityName(types.NamespacedName{Namespace: "a-b", Name: "c"})
	if a == b {
		t.Error("a namespace and a name cannot be taken for another's")
	}
	if len(a) > 63 {
		t.Errorf("%s is too long for a label", a)
	}
}

func TestIssuerSecretKeepsWhatOthersLabelled(t *testing.T) {
	cluster := &metav1.ObjectMeta{Namespace: "ns", Name: "c", UID: "u"}
	existing := &corev1.Secret{ObjectMeta: metav1.ObjectMeta{Labels: map[string]string{"backup": "no"}, Annotations: map[string]string{"x": "y"}, ResourceVersion: "7"}}
	got := issuerSecret(cluster, existing, map[string][]byte{"a": nil})
	if got.Labels["backup"] != "no" || got.Annotations["x"] != "y" || got.ResourceVersion != "7" || got.Labels[v1alpha1.LabelManagedBy] != v1alpha1.ManagedBy {
		t.Errorf("got %+v", got.ObjectMeta)
	}
	if len(existing.Labels) != 1 {
		t.Error("what the cache holds is not changed")
	}
}

func TestAuthorityIsOneCertificate(t *testing.T) {
	authority, secret := testAuthority(t, testSettings(), nil)
	block, rest := pem.Decode(secret.Data["authority.crt"])
	if block == nil || len(rest) > 0 {
		t.Fatal("one certificate, nothing else")
	}
	certificate, err := x509.ParseCertificate(block.Bytes)
	if err != nil {
		t.Fatal(err)
	}
	if want := epoch().Add(3650 * day); certificate.NotAfter.After(want) || !certificate.Equal(authority.Certificate()) {
		t.Errorf("it ends at %s, asked for was %s", certificate.NotAfter, want)
	}
}
