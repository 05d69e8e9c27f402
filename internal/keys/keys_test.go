package keys

import (
	"crypto/x509"
	"encoding/pem"
	"fmt"
	"maps"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/types"

	"github.com/raytls/raytls/api/v1alpha1"
	"github.com/raytls/raytls/internal/gencert"
	"github.com/raytls/raytls/internal/gencert/gencerttest"
	"github.com/raytls/raytls/internal/kube"
	"github.com/raytls/raytls/internal/pki"
)

const day = 24 * time.Hour

func epoch() time.Time { return time.Date(2026, 1, 1, 0, 0, 0, 0, time.UTC) }

func train() types.NamespacedName { return types.NamespacedName{Namespace: "ml", Name: "train"} }

func settings(change ...func(*Settings)) Settings {
	spec := v1alpha1.RayTLSPolicySpec{PodCertificate: v1alpha1.PodCertificate{ValidityDays: 100}}
	spec = spec.WithDefaults()
	out := SettingsOf(&spec, nil, true)
	for _, c := range change {
		c(&out)
	}
	return out
}

func valid(days int32) func(*Settings) { return func(s *Settings) { s.LeafValidityDays = days } }

// next is Next, which must not fail.
func next(t *testing.T, store Store, s Settings, now time.Time) (made Store, why string, renewAt time.Time) {
	t.Helper()
	made, due, renewAt, err := Next(store, s, Parent{}, Pods{}, now)
	if err != nil {
		t.Fatal(err)
	}
	return made, due.Issuer, renewAt
}

// first are the keys of a cluster that had none.
func first(t *testing.T, s Settings) Store {
	t.Helper()
	made, _, _ := next(t, Store{Cluster: train()}, s, epoch())
	return made
}

// stored are the two Secrets that hold the keys.
func stored(t *testing.T, store Store) (authority, issuer *corev1.Secret) {
	t.Helper()
	authorityData, err := store.AuthorityData()
	if err != nil {
		t.Fatal(err)
	}
	issuerData, err := store.IssuerData()
	if err != nil {
		t.Fatal(err)
	}
	authority, issuer = &corev1.Secret{Data: authorityData}, &corev1.Secret{Data: issuerData}
	authority.Namespace, authority.Name = "raytls-system", AuthoritySecretName(store.Cluster)
	authority.Annotations = map[string]string{v1alpha1.AnnotationCluster: store.Cluster.String()}
	issuer.Namespace, issuer.Name = store.Cluster.Namespace, IssuerSecretName(store.Cluster, store.RevokedBefore)
	return authority, issuer
}

// read is Read, which must not fail.
func read(t *testing.T, authority, issuer *corev1.Secret) Store {
	t.Helper()
	store, err := Read(train(), authority, issuer)
	if err != nil {
		t.Fatal(err)
	}
	return store
}

func TestWhatIsWrittenIsReadBack(t *testing.T) {
	want := settings(func(s *Settings) {
		s.CASecret, s.HeadDNSNames, s.HeadServiceShortName = "ca", []string{"a.example"}, true
	})
	made := first(t, want)
	authority, issuer := stored(t, made)
	got := read(t, authority, issuer)
	if diff := cmp.Diff(want, got.Settings); diff != "" {
		t.Errorf("settings (-want +got):\n%s", diff)
	}
	if got.Generation != 1 || got.Authority.ID() != made.Authority.ID() || got.Issuer.ID() != made.Issuer.ID() || got.made != made.made {
		t.Errorf("got %+v, want %+v", got, made)
	}
	for _, secret := range []*corev1.Secret{authority, issuer} {
		if string(secret.Data["formatVersion"]) != "1" || string(secret.Data["generation"]) != "1" {
			t.Errorf("Secret %s has formatVersion %q and generation %q", secret.Name, secret.Data["formatVersion"], secret.Data["generation"])
		}
	}
	second, why, _ := next(t, got, want, epoch())
	if why != "" {
		t.Errorf("what was just made is replaced: %s", why)
	}
	secondAuthority, secondIssuer := stored(t, second)
	if !cmp.Equal(authority, secondAuthority) || !cmp.Equal(issuer, secondIssuer) {
		t.Error("at rest, a Secret would be written")
	}
}

func TestNothingIsPrinted(t *testing.T) {
	made := first(t, settings())
	for _, text := range []string{fmt.Sprint(made), fmt.Sprintf("%+v", made), fmt.Sprintf("%#v", made), fmt.Sprintf("%s", made)} {
		if text != "keys of ml/train, generation 1" {
			t.Errorf("got %q", text)
		}
	}
}

func TestNewerFormatIsLeftAlone(t *testing.T) {
	for name, version := range map[string]string{"the next": strconv.Itoa(FormatVersion + 1), "a far one": "17"} {
		for _, which := range []string{"authority", "issuer"} {
			t.Run(name+" of the "+which, func(t *testing.T) {
				authority, issuer := stored(t, first(t, settings()))
				secret := authority
				if which == "issuer" {
					secret = issuer
				}
				secret.Data["formatVersion"] = []byte(version)
				store, err := Read(train(), authority, issuer)
				outcome := kube.AsOutcome(err)
				if outcome == nil || !outcome.UserMustAct || outcome.Reason != v1alpha1.ReasonFormatUnknown || !strings.Contains(outcome.Message, "Secret "+secret.Name+" in namespace "+secret.Namespace) {
					t.Errorf("got %v", err)
				}
				if store.Authority != nil || store.Issuer != nil {
					t.Error("what a newer operator wrote is not understood")
				}
			})
		}
	}
	authority, issuer := stored(t, first(t, settings()))
	authority.Data["formatVersion"], issuer.Data["formatVersion"] = nil, []byte("x")
	read(t, authority, issuer)
}

func TestAuthorityThatCannotBeUsed(t *testing.T) {
	for name, c := range map[string]struct {
		reason string
		alter  func(*corev1.Secret)
		says   string
	}{
		"of another cluster": {"an authority copied under another's name would merge two clusters", func(s *corev1.Secret) { s.Annotations[v1alpha1.AnnotationCluster] = "ml/other" }, `"ml/other"`},
		"without settings":   {"settings are not guessed", func(s *corev1.Secret) { delete(s.Data, "settings") }, "settings cannot be read"},
		"without made":       {"what it was made by is not guessed", func(s *corev1.Secret) { delete(s.Data, "made") }, "made cannot be read"},
		"no generation":      {"a generation is not guessed", func(s *corev1.Secret) { delete(s.Data, "generation") }, "generation"},
		"generation 0":       {"generations begin with 1", func(s *corev1.Secret) { s.Data["generation"] = []byte("0") }, "generation"},
		"generation -1":      {"nor are they negative", func(s *corev1.Secret) { s.Data["generation"] = []byte("-1") }, "generation"},
		"without a key":      {"an authority without its key signs nothing", func(s *corev1.Secret) { delete(s.Data, "authority.key") }, ""},
		"with more": {"two certificates are not one", func(s *corev1.Secret) {
			s.Data["authority.crt"] = append(s.Data["authority.crt"], s.Data["authority.crt"]...)
		}, ""},
	} {
		t.Run(name, func(t *testing.T) {
			authority, issuer := stored(t, first(t, settings()))
			c.alter(authority)
			_, err := Read(train(), authority, issuer)
			outcome := kube.AsOutcome(err)
			if outcome == nil || outcome.Reason != v1alpha1.ReasonAuthorityLost || !strings.Contains(outcome.Message, c.says) {
				t.Errorf("%s: got %v", c.reason, err)
			}
			if err != nil && strings.Contains(err.Error(), "PRIVATE") {
				t.Error("the key is repeated")
			}
		})
	}
}

func TestAuthorityIsOneCertificate(t *testing.T) {
	made := first(t, settings())
	authority, _ := stored(t, made)
	block, rest := pem.Decode(authority.Data["authority.crt"])
	if block == nil || len(rest) > 0 {
		t.Fatal("it is one certificate and nothing else")
	}
	certificate, err := x509.ParseCertificate(block.Bytes)
	if err != nil {
		t.Fatal(err)
	}
	if want := epoch().Add(3650 * day); certificate.NotAfter.After(want) || !certificate.Equal(made.Authority.Certificate()) {
		t.Errorf("it ends at %s, asked for was %s", certificate.NotAfter, want)
	}
}

func TestGenerationIsMonotonic(t *testing.T) {
	for _, recorded := range []int64{0, 1, 41} {
		made, _, _, err := Next(Store{Cluster: train()}, settings(), Parent{}, Pods{Generation: recorded}, epoch())
		if err != nil {
			t.Fatal(err)
		}
		if made.Generation != recorded+1 {
			t.Errorf("after generation %d comes %d", recorded, made.Generation)
		}
		second, _, _, err := Next(made, settings(), Parent{}, Pods{Generation: made.Generation}, epoch())
		if err != nil || second.Generation != made.Generation {
			t.Errorf("generation %d becomes %d: %v", made.Generation, second.Generation, err)
		}
	}
}

func TestAuthorityLost(t *testing.T) {
	for name, pods := range map[string]Pods{
		"pods that name it":      {Authorities: []string{"x"}},
		"pods that name nothing": {Authorities: []string{""}},
	} {
		t.Run(name, func(t *testing.T) {
			before := Store{Cluster: train()}
			got, why, _, err := Next(before, settings(), Parent{}, pods, epoch())
			if outcome := kube.AsOutcome(err); outcome == nil || outcome.Reason != v1alpha1.ReasonAuthorityLost || !strings.Contains(outcome.Message, AuthoritySecretName(train())) {
				t.Errorf("got %v", err)
			}
			if got.Authority != nil || why.Makes() {
				t.Error("a new authority would part old pods from new ones")
			}
		})
	}
}

func TestAuthorityRestored(t *testing.T) {
	store := first(t, settings())
	store.Generation = 2
	own := store.Authority.ID()
	for name, c := range map[string]struct {
		reason string
		pods   Pods
		want   string
	}{
		"as it should be":                  {reason: "pods and record fit", pods: Pods{Authorities: []string{own, own}, Generation: 2}},
		"no record":                        {reason: "it was lost, and is made again", pods: Pods{Authorities: []string{own}}},
		"pods that do not say":             {reason: "a report that cannot be read proves nothing", pods: Pods{Authorities: []string{"", own}, Generation: 2}},
		"newer than on record":             {reason: "the status was not written yet", pods: Pods{Generation: 1}},
		"the recorded one":                 {reason: "generation and id fit", pods: Pods{Generation: 2, ID: own}},
		"newer than the recorded one":      {reason: "a newer one has another id", pods: Pods{Generation: 1, ID: "other"}},
		"another of the same number":       {reason: "a number alone proves nothing", pods: Pods{Generation: 2, ID: "other"}, want: "authority other was in use as that generation"},
		"older than on record":             {reason: "the Secret comes from a backup", pods: Pods{Generation: 3}, want: "holds generation 2 of the cluster's authority, and generation 3 was in use"},
		"a pod of another":                 {reason: "the pod proves another authority", pods: Pods{Authorities: []string{own, "other"}, Generation: 2}, want: "a pod reports a certificate of authority other"},
		"a pod of another, by its name":    {reason: "the report of one pod may be forged", pods: Pods{Authorities: []string{own, "other"}, Reporters: map[string][]string{own: {"a", "b"}, "other": {"c"}}}, want: "pod c reports (2 others report other authorities) a certificate of authority other"},
		"all pods of another":              {reason: "those of all pods are not", pods: Pods{Authorities: []string{"other", "other"}, Reporters: map[string][]string{"other": {"a", "b"}}}, want: "pod a and 1 more report (0 others report other authorities) a certificate"},
		"a pod of another, without record": {reason: "the pod alone is enough", pods: Pods{Authorities: []string{"other"}}, want: "authority other"},
	} {
		t.Run(name, func(t *testing.T) {
			for when, now := range map[string]time.Time{"at rest": epoch(), "when the issuer is due": epoch().Add(150 * day)} {
				got, why, _, err := Next(store, settings(valid(50)), Parent{}, c.pods, now)
				if c.want == "" {
					if err != nil {
						t.Errorf("%s, %s: %v", c.reason, when, err)
					}
					continue
				}
				outcome := kube.AsOutcome(err)
				if outcome == nil || !outcome.UserMustAct || outcome.Reason != v1alpha1.ReasonAuthorityRestored || !strings.Contains(outcome.Message, c.want) {
					t.Errorf("%s, %s: got %v", c.reason, when, err)
				}
				if why.Makes() || got.Issuer.ID() != store.Issuer.ID() || got.Settings.LeafValidityDays != 100 {
					t.Errorf("%s: the operator must write nothing", when)
				}
			}
		})
	}
}

// Anybody in the cluster's namespace may have written the CA Secret, so it neither proves a generation nor moves one.
func TestTheIssuersGenerationProvesNothing(t *testing.T) {
	authority, issuer := stored(t, first(t, settings()))
	issuer.Data["generation"] = []byte("99")
	got, why, _ := next(t, read(t, authority, issuer), settings(), epoch())
	if why != "" || got.Generation != 1 {
		t.Errorf("generation %d, %s", got.Generation, why)
	}
	if _, written := stored(t, got); string(written.Data["generation"]) != "1" {
		t.Error("it is not put right")
	}
}

func TestAuthorityOutdated(t *testing.T) {
	store := first(t, settings())
	for name, c := range map[string]struct {
		reason string
		change func(*Settings)
		want   bool
	}{
		"nothing":        {"it is as asked", func(*Settings) {}, false},
		"key algorithm":  {"the authority has the old one", func(s *Settings) { s.AuthorityKey = "RSA2048" }, true},
		"validity":       {"it lives as long as it was made for", func(s *Settings) { s.AuthorityValidityDays++ }, true},
		"leaves' key":    {"only leaves have it", func(s *Settings) { s.LeafKey = "RSA2048" }, false},
		"names":          {"only the head's leaf has them", func(s *Settings) { s.HeadDNSNames = []string{"a"} }, false},
		"leaves' length": {"the issuer follows", valid(7), false},
		"Secret's name":  {"the CA counts, not the name of its Secret", func(s *Settings) { s.CASecret = "ca" }, false},
	} {
		t.Run(name, func(t *testing.T) {
			changed := settings(c.change)
			if got := store.AuthorityOutdated(changed); got != c.want {
				t.Errorf("%s: got %t", c.reason, got)
			}
			made, _, _ := next(t, store, changed, epoch())
			authority, issuer := stored(t, made)
			if got := read(t, authority, issuer).AuthorityOutdated(changed); got != c.want || made.Authority.ID() != store.Authority.ID() {
				t.Errorf("%s: a changed setting replaces the authority, or is forgotten", c.reason)
			}
		})
	}
	if (Store{}).AuthorityOutdated(settings()) {
		t.Error("without an authority, none is outdated")
	}
}

func TestSecretNames(t *testing.T) {
	a := AuthoritySecretName(types.NamespacedName{Namespace: "a", Name: "b-c"})
	b := AuthoritySecretName(types.NamespacedName{Namespace: "a-b", Name: "c"})
	if a == b {
		t.Error("a namespace and a name cannot be taken for another's")
	}
	if len(a) > 63 {
		t.Errorf("%s is too long for a label", a)
	}
	if got := IssuerSecretName(train(), 0); got != "raytls-train" {
		t.Errorf("the CA Secret is %s", got)
	}
}

func TestSettingsOf(t *testing.T) {
	spec := v1alpha1.RayTLSPolicySpec{
		CertificateAuthority: v1alpha1.CertificateAuthority{SecretRef: &v1alpha1.SecretReference{Name: "ca"}},
		PodCertificate:       v1alpha1.PodCertificate{HeadDNSNames: []string{"b", "a"}},
	}
	spec = spec.WithDefaults()
	want := Settings{
		AuthorityKey: "ECDSAP256", AuthorityValidityDays: 3650, CASecret: "ca", LeafKey: "ECDSAP256", LeafValidityDays: 365, HeadDNSNames: []string{"a", "b", "c"},
	}
	if diff := cmp.Diff(want, SettingsOf(&spec, []string{"c", "a"}, false)); diff != "" {
		t.Errorf("(-want +got):\n%s", diff)
	}
	if diff := cmp.Diff([]string{"b", "a"}, spec.PodCertificate.HeadDNSNames); diff != "" {
		t.Errorf("the policy, which the cache holds, was changed:\n%s", diff)
	}
}

func TestProfileSaysWhatIsAsked(t *testing.T) {
	made := first(t, settings(func(s *Settings) { s.HeadDNSNames, s.HeadServiceShortName = []string{"a.example", "b.example"}, true }))
	_, issuer := stored(t, made)
	got, err := gencerttest.ParseProfile(issuer.Data["profile"])
	if err != nil {
		t.Fatal(err)
	}
	want := gencert.Profile{
		Revision: 1, Authority: made.Authority.ID(), Issuer: made.Issuer.ID(), IssuerNotBefore: made.Issuer.NotBefore(), IssuerNotAfter: made.Issuer.NotAfter(),
		KeyAlgorithm: "ECDSAP256", ValidityDays: 100, HeadDNSNames: []string{"a.example", "b.example"}, HeadServiceShortName: true, HeadUntilIssuerEnd: true, CAKeyAlgorithm: "ECDSAP256",
	}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("the profile is all that a script knows (-want +got):\n%s", diff)
	}
}

// parent is a brought CA that ends so many days after epoch.
func parent(t *testing.T, days int32) *pki.Parent {
	t.Helper()
	root := first(t, settings(func(s *Settings) { s.AuthorityValidityDays = days }))
	key, err := root.Authority.KeyPEM()
	if err != nil {
		t.Fatal(err)
	}
	made, err := pki.ParseParent(root.Authority.CertificatePEM(), key, epoch())
	if err != nil {
		t.Fatal(err)
	}
	return made
}

func clone(secret *corev1.Secret) *corev1.Secret {
	return &corev1.Secret{ObjectMeta: secret.ObjectMeta, Data: maps.Clone(secret.Data)}
}
