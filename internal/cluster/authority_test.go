package cluster

import (
	"net/netip"
	"strings"
	"testing"
	"time"

	"k8s.io/apimachinery/pkg/api/meta"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/raytls/raytls/api/v1alpha1"
	"github.com/raytls/raytls/internal/keys"
	"github.com/raytls/raytls/internal/pki"
	"github.com/raytls/raytls/internal/probe"
)

// replacedFacts are those of an encrypted cluster whose authority was replaced an hour ago, and whose pods have certificates of the
// one before.
func replacedFacts(t *testing.T) (*Facts, keys.Store) {
	t.Helper()
	f, _ := encryptedFacts(t)
	f.Now = epoch().Add(time.Hour)
	f.Policy.CertificateAuthority.ReplaceIssuedBefore = &metav1.Time{Time: f.Now}
	store, due, _, err := keys.Next(f.Keys, f.KeySettings(), f.Parent(), f.KeyPods(), f.Now)
	if err != nil || due.Authority == "" {
		t.Fatalf("the authority is not replaced: %+v, %v", due, err)
	}
	f.Keys = store
	return f, store
}

// restarted gives a pod a certificate of the present authority.
func restarted(f *Facts, pod int) {
	f.Pods[pod].Report.Authority, f.Pods[pod].Report.Issuer = f.Keys.Authority.ID(), f.Keys.Issuer.ID()
}

// says is the status that the facts give, and its conditions Encrypted, Certified, UpToDate and Stalled.
func says(f *Facts, store keys.Store) (v1alpha1.RayClusterTLSStatus, string) {
	d := Decide(f, Settings{Namespace: "raytls-system"})
	status := Status(f, &d, Done{Keys: store, Recorded: d.Writes()})
	var conditions []string
	for _, kind := range []string{v1alpha1.ConditionEncrypted, v1alpha1.ConditionCertified, v1alpha1.ConditionUpToDate, v1alpha1.ConditionStalled} {
		c := meta.FindStatusCondition(status.Conditions, kind)
		conditions = append(conditions, string(c.Status)+" "+c.Reason)
	}
	return status, strings.Join(conditions, ", ")
}

func TestPodsOfEarlierGenerations(t *testing.T) {
	const old = "True Encrypted, False PodsOutdated, False PodsOutdated, False NothingToDo"
	for name, c := range map[string]struct {
		reason          string
		change          func(*Facts)
		want, message   string
		certified, left int32
	}{
		"all old":     {"they accept each other and all new ones", func(*Facts) {}, old, "2 of 2 pods still have a certificate of an earlier generation of the authority (2 of generation 1; the present one is 2)", 0, 2},
		"worker new":  {"and so does a mixture", func(f *Facts) { restarted(f, 1) }, old, "1 of 2 pods", 1, 1},
		"head new":    {"whichever is new", func(f *Facts) { restarted(f, 0) }, old, "(1 of generation 1; the present one is 2)", 1, 1},
		"all new":     {"then nothing is left", func(f *Facts) { restarted(f, 0); restarted(f, 1) }, "True Encrypted, True Certified, True UpToDate, False NothingToDo", "present values", 2, 0},
		"old, ending": {"an end is warned of whatever the generation", func(f *Facts) { f.Now = epoch().AddDate(1, 0, -5) }, "True Encrypted, False CertificateEnding, False PodsOutdated, False NothingToDo", "2 of 2", 0, 2},
		"stranger":    {"another authority is still another", func(f *Facts) { f.Pods[1].Report.Authority = "ab" }, "False OutdatedAuthority, False OutdatedAuthority, False PodsOutdated, True OutdatedAuthority", "1 of 2 pods have a certificate of another authority", 0, 1},
		"stranger goes": {
			"one that goes is counted as what it is", func(f *Facts) { before("True")(f); f.Pods[1].Report.Authority, f.Pods[1].Terminating = "ab", true }, old,
			"1 of 2 pods still have a certificate of an earlier generation of the authority (1 of generation 1; the present one is 2); they connect to all others, and get a new one when they are created anew; 1 of 2 pods have a certificate of another authority", 0, 1,
		},
		"waiting": {"a pod without a certificate is not outdated", func(f *Facts) { before("True")(f); waits(1, time.Second)(f) }, "True Encrypted, False CertificatesPending, False PodsOutdated, False NothingToDo", "1 of 2 pods", 0, 1},
	} {
		t.Run(name, func(t *testing.T) {
			f, store := replacedFacts(t)
			c.change(f)
			status, got := says(f, store)
			if got != c.want {
				t.Errorf("%s: got %s", c.reason, got)
			}
			if message := meta.FindStatusCondition(status.Conditions, v1alpha1.ConditionUpToDate).Message; !strings.Contains(message, c.message) {
				t.Errorf("%s: got %q", c.reason, message)
			}
			if status.Authority.Generation != 2 || len(status.Authority.Earlier) != 1 {
				t.Fatalf("%s: got %+v", c.reason, status.Authority)
			}
			earlier := status.Authority.Earlier[0]
			if earlier.Generation != 1 || earlier.ID == status.Authority.ID || earlier.Pods != c.left || earlier.ExpiryTime == nil || status.Pods.Certified != c.certified {
				t.Errorf("%s: got %+v, %+v", c.reason, earlier, status.Pods)
			}
		})
	}
}

// Without the authority's Secret, the record says which pods still accept each other.
func TestEarlierGenerationsAreOnRecord(t *testing.T) {
	f, store := replacedFacts(t)
	f.TLS.Status, _ = says(f, store)
	f.Keys = keys.Store{}
	if got := f.certificates(keys.Store{}); len(got.Foreign) > 0 || got.Earlier[1] != 2 {
		t.Errorf("got %+v", got)
	}
}

func TestAHeadOfAnEarlierGenerationServesTheClustersTLS(t *testing.T) {
	f, store := replacedFacts(t)
	f.Ray.GCSPort, f.Pods[0].Address = 6379, netip.MustParseAddr("10.0.0.7")
	finding := &probe.Finding{Time: f.Now, Answer: probe.TLS, AuthorityID: store.Signers().Earlier[0].ID, ExpiryTime: f.Now.Add(day)}
	g := Gatherer{Finding: func(probe.Target) *probe.Finding { return finding }}
	if err := g.wire(t.Context(), f); err != nil {
		t.Fatal(err)
	}
	if seen := f.Wire.Observed; seen.Head != v1alpha1.WireTLS || seen.AuthorityGeneration != 1 {
		t.Errorf("got %+v", seen)
	}
	if bundle, err := pki.ParseBundle(f.Wire.Target.Bundle); err != nil || len(bundle) != 2 {
		t.Errorf("the head is judged by %d certificates, not by what new pods trust: %v", len(bundle), err)
	}
}

func TestAnAuthorityThatIsHeldBackIsSaid(t *testing.T) {
	f, store := encryptedFacts(t)
	f.Policy.CertificateAuthority.SecretRef = &v1alpha1.SecretReference{Name: "ca"}
	status, got := says(f, store)
	if got != "True Encrypted, True Certified, False AuthorityChangePending, False NothingToDo" {
		t.Errorf("a CA that cannot be used changes nothing that runs: got %s", got)
	}
	if message := meta.FindStatusCondition(status.Conditions, v1alpha1.ConditionUpToDate).Message; !strings.Contains(message, "Secret ca does not exist") || !strings.HasSuffix(message, "until then the cluster keeps its authority") {
		t.Errorf("got %q", message)
	}

	f, store = encryptedFacts(t)
	for range 7 {
		f.Now = f.Now.Add(time.Minute)
		f.Policy.CertificateAuthority.ReplaceIssuedBefore = &metav1.Time{Time: f.Now}
		var err error
		if store, _, _, err = keys.Next(store, f.KeySettings(), f.Parent(), f.KeyPods(), f.Now); err != nil {
			t.Fatal(err)
		}
		f.Keys = store
	}
	f.Now = f.Now.Add(time.Minute)
	f.Policy.CertificateAuthority.ReplaceIssuedBefore = &metav1.Time{Time: f.Now}
	if _, got = says(f, store); got != "True Encrypted, False PodsOutdated, False TooManyGenerations, False NothingToDo" {
		t.Errorf("a ninth generation: got %s", got)
	}
}
