package cluster

import (
	"strings"
	"testing"
	"time"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/meta"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/raytls/raytls/api/v1alpha1"
	"github.com/raytls/raytls/internal/gencert"
	"github.com/raytls/raytls/internal/keys"
	"github.com/raytls/raytls/internal/policy"
)

const day = 24 * time.Hour

// said is what the status says of the facts: Encrypted and its message, and when the cluster is looked at again.
func said(t *testing.T, f *Facts, store keys.Store) (encrypted, message string, requeueAt time.Time) {
	t.Helper()
	if f.Policy != nil {
		f.Policy.Rollout.Strategy = v1alpha1.StrategyOnDelete
	}
	d := Decide(f, Settings{Namespace: "raytls-system"})
	if len(d.Plan.Evict)+len(d.Plan.Delete) > 0 || d.Plan.Progress != nil || d.Edited != nil {
		t.Errorf("a report restarts nothing: %+v", d.Plan)
	}
	status := Status(f, &d, Done{Keys: store, Recorded: d.Writes()})
	condition := meta.FindStatusCondition(status.Conditions, v1alpha1.ConditionEncrypted)
	if !d.Plan.RequeueAt.IsZero() && !d.Plan.RequeueAt.After(f.Now) {
		t.Errorf("it is looked at again in the past, at %s", d.Plan.RequeueAt)
	}
	return string(condition.Status) + " " + condition.Reason, condition.Message, d.Plan.RequeueAt
}

// before gives the condition Encrypted of the last report a status.
func before(status metav1.ConditionStatus) func(*Facts) {
	return func(f *Facts) {
		meta.SetStatusCondition(&f.TLS.Status.Conditions, metav1.Condition{Type: v1alpha1.ConditionEncrypted, Status: status, Reason: "Any"})
	}
}

// waits has the pod wait for its certificate since so long before now.
func waits(pod int, since time.Duration) func(*Facts) {
	return func(f *Facts) {
		p := &f.Pods[pod]
		p.Certified, p.Report, p.Ready, p.Created, p.Node = false, nil, false, f.Now.Add(-since), "node"
	}
}

func uncoveredNow(f *Facts) { f.Policy, f.Decision = nil, policy.Decision{} }

func silent(pod int) func(*Facts) { return func(f *Facts) { f.Pods[pod].Report = nil } }

// served is a handshake in which the head served a certificate that ends then.
func served(end time.Duration) func(*Facts) {
	return func(f *Facts) {
		f.Wire.Observed = v1alpha1.ObservedOnWire{Time: *stamp(epoch()), PodUID: "uid-", Head: v1alpha1.WireTLS, Port: 6379, ExpiryTime: stamp(epoch().Add(end))}
	}
}

func at(later time.Duration) func(*Facts) { return func(f *Facts) { f.Now = epoch().Add(later) } }

func TestEncryptedWaitsForPods(t *testing.T) {
	short := func(f *Facts) { f.Ray.Replicas["small"] = 3 }
	quota := func(f *Facts) { f.Ray.PodsMissing = "exceeded quota: q" }
	for name, c := range map[string]struct {
		reason  string
		change  []func(*Facts)
		want    string
		says    string
		requeue time.Duration
	}{
		"added worker":             {"each scale-up would end it otherwise", []func(*Facts){before("True"), waits(1, 10*time.Second)}, "True Encrypted", "1 of 2 pods have no certificate yet", 50 * time.Second},
		"just within the grace":    {"up to the whole minute", []func(*Facts){before("True"), waits(1, time.Minute-time.Second)}, "True Encrypted", "", time.Second},
		"waits for long":           {"then it is not encrypted", []func(*Facts){before("True"), waits(1, time.Minute)}, "False PodsStarting", "init container raytls-init of pod pod-small has not ended", 0},
		"waits for a month":        {"however long", []func(*Facts){before("True"), waits(1, 30*day)}, "False PodsStarting", "1 of 2 pods have no certificate yet", 0},
		"waits for a node":         {"a pod without a node speaks nothing", []func(*Facts){before("True"), waits(1, time.Hour), func(f *Facts) { f.Pods[1].Node = "" }}, "False PodsStarting", "pod pod-small has no node yet", 0},
		"last pod of a restart":    {"a grace is for clusters that were encrypted", []func(*Facts){before("False"), waits(1, time.Second)}, "False PodsStarting", "1 of 2 pods", 59 * time.Second},
		"first report":             {"as for one that was never reported", []func(*Facts){waits(1, time.Second)}, "False PodsStarting", "1 of 2 pods", 59 * time.Second},
		"last pod is not there":    {"nor one whose pods do not exist yet", []func(*Facts){before("False"), short}, "False PodsStarting", "worker group small has 1 pods for 3 replicas", 0},
		"scaled up":                {"KubeRay makes pods a moment later", []func(*Facts){before("True"), short}, "True Encrypted", "all pods speak TLS", 0},
		"quota":                    {"unless it cannot", []func(*Facts){before("True"), short, quota}, "False PodsStarting", "exceeded quota: q", 0},
		"quota of the past":        {"KubeRay may leave its message behind", []func(*Facts){before("True"), quota}, "True Encrypted", "", 0},
		"quota, suspended":         {"a cluster that is being stopped misses no pods", []func(*Facts){before("True"), short, quota, func(f *Facts) { f.Ray.Suspended = true }}, "True Encrypted", "", 0},
		"terminating":              {"a pod that goes needs no certificate", []func(*Facts){before("True"), waits(1, time.Hour), func(f *Facts) { f.Pods[1].Terminating = true }}, "True Encrypted", "", 0},
		"head":                     {"without a head there is no cluster, grace or not", []func(*Facts){before("True"), waits(0, time.Second)}, "False PodsStarting", "", 59 * time.Second},
		"no policy, waits":         {"a policy makes no difference", []func(*Facts){uncoveredNow, before("True"), waits(1, time.Hour)}, "False PodsStarting", "", 0},
		"no policy, young":         {"for the grace neither", []func(*Facts){uncoveredNow, before("True"), waits(1, time.Second)}, "True Encrypted", "", 59 * time.Second},
		"pod that does not report": {"it counts as certified", []func(*Facts){before("False"), silent(1)}, "True Encrypted", "all pods speak TLS", 0},
	} {
		t.Run(name, func(t *testing.T) {
			f, store := encryptedFacts(t)
			for _, change := range c.change {
				change(f)
			}
			got, message, requeueAt := said(t, f, store)
			if got != c.want || !strings.Contains(message, c.says) {
				t.Errorf("%s: got %s, %q", c.reason, got, message)
			}
			if c.requeue > 0 && !requeueAt.Equal(f.Now.Add(c.requeue)) {
				t.Errorf("%s: it is looked at again at %s, want in %s", c.reason, requeueAt, c.requeue)
			}
		})
	}
}

func TestEncryptedEndsWithTheCertificates(t *testing.T) {
	ends := func(pod int, in time.Duration) func(*Facts) {
		return func(f *Facts) { f.Pods[pod].Report.NotAfter = epoch().Add(in) }
	}
	noAuthority := func(f *Facts) {
		f.TLS.Status.Authority = v1alpha1.AuthorityStatus{Generation: 1, ID: f.Keys.Authority.ID(), ExpiryTime: stamp(epoch().Add(10 * day))}
		f.Keys = keys.Store{}
	}
	for name, c := range map[string]struct {
		reason  string
		change  []func(*Facts)
		want    string
		says    string
		requeue time.Duration
	}{
		"all well":              {"it is looked at again when the first is due", []func(*Facts){ends(0, 24*day), ends(1, 12*day)}, "True Encrypted", "", 8*day - 20*time.Minute},
		"ending":                {"a warning is no fault, and then the end is next", []func(*Facts){ends(1, 12*day), at(11*day + time.Hour)}, "True Encrypted", "", 12 * day},
		"ended":                 {"peers refuse it", []func(*Facts){ends(1, 0)}, "False CertificateExpired", "the certificate of pod pod-small ended at 2026-01-02T03:04:05Z, and peers refuse new connections with it; delete the pod", 0},
		"all ended long ago":    {"and go on doing so", []func(*Facts){at(500 * day)}, "False CertificateExpired", "as did those of 1 more, and peers refuse new connections with it; delete these 2 pods", 0},
		"ended, going":          {"a pod that goes needs none", []func(*Facts){before("True"), ends(1, 0), func(f *Facts) { f.Pods[1].Terminating = true }}, "True Encrypted", "", 0},
		"ended, no policy":      {"a policy makes no difference", []func(*Facts){uncoveredNow, ends(1, 0)}, "False CertificateExpired", "", 0},
		"ended, restart":        {"nor a restart that has just ended", []func(*Facts){before("True"), ends(1, -time.Hour)}, "False CertificateExpired", "", 0},
		"silent, young":         {"what does not report counts as certified at its creation", []func(*Facts){silent(0), silent(1), at(300 * day)}, "True Encrypted", "", 0},
		"silent, old":           {"and as ended by its age", []func(*Facts){silent(1), at(365*day + time.Hour)}, "False CertificateExpired", "", 0},
		"silent head, old":      {"a longer life is a guess until a handshake shows it", []func(*Facts){silent(0), func(f *Facts) { f.Pods[1].Report.NotAfter = epoch().Add(500 * day) }, at(365*day + time.Hour)}, "False CertificateExpired", "pod pod-", 0},
		"silent head, served":   {"what it serves shows the end", []func(*Facts){silent(0), served(450 * day), func(f *Facts) { f.Pods[1].Report.NotAfter = epoch().Add(500 * day) }, at(365*day + time.Hour)}, "True Encrypted", "", 0},
		"silent head, ended":    {"and when that is over", []func(*Facts){silent(0), served(300 * day), at(300 * day)}, "False CertificateExpired", "", 0},
		"silent worker, served": {"a handshake with the head says nothing of a worker", []func(*Facts){silent(1), served(450 * day), at(365*day + time.Hour), ends(0, 500*day)}, "False CertificateExpired", "pod pod-small", 0},
		"issuer ended":          {"whatever a pod reports, it ends with its issuer", []func(*Facts){ends(0, 5000*day), ends(1, 5000*day), at(730*day + time.Hour)}, "False CertificateExpired", "", 0},
		"other authority":       {"pods of two authorities cannot talk", []func(*Facts){func(f *Facts) { f.Pods[1].Report.Authority = "ab" }}, "False OutdatedAuthority", "pod pod-small has a certificate of another authority", 0},
		"other, no policy":      {"whoever covers them", []func(*Facts){uncoveredNow, func(f *Facts) { f.Pods[1].Report.Authority = "ab" }}, "False OutdatedAuthority", "", 0},
		"lost authority":        {"the one on record counts", []func(*Facts){noAuthority, uncoveredNow, func(f *Facts) { f.Pods[1].Report.Authority = "ab" }}, "False OutdatedAuthority", "", 0},
		"lost authority, ended": {"with its end", []func(*Facts){noAuthority, uncoveredNow, at(10 * day)}, "False CertificateExpired", "", 0},
		"ended while waiting":   {"an end is worse than a wait", []func(*Facts){before("True"), ends(0, 0), waits(1, time.Hour)}, "False CertificateExpired", "", 0},
	} {
		t.Run(name, func(t *testing.T) {
			f, store := encryptedFacts(t)
			for _, change := range c.change {
				change(f)
			}
			if f.Keys.Authority == nil {
				store = f.Keys
			}
			got, message, requeueAt := said(t, f, store)
			if got != c.want || !strings.Contains(message, c.says) {
				t.Errorf("%s: got %s, %q", c.reason, got, message)
			}
			if c.requeue > 0 && !requeueAt.Equal(epoch().Add(c.requeue)) {
				t.Errorf("%s: it is looked at again at %s, want %s", c.reason, requeueAt, epoch().Add(c.requeue))
			}
		})
	}
}

func TestCertifiedWarns(t *testing.T) {
	f, store := encryptedFacts(t)
	f.Pods[1].Report.NotAfter = epoch().Add(12 * day)
	f.Now = epoch().Add(11*day + time.Hour)
	d := Decide(f, Settings{Namespace: "raytls-system"})
	status := Status(f, &d, Done{Keys: store, Recorded: d.Writes()})
	certified := meta.FindStatusCondition(status.Conditions, v1alpha1.ConditionCertified)
	if certified.Status != metav1.ConditionTrue || certified.Reason != v1alpha1.ReasonCertificateEnding || !strings.Contains(certified.Message, "pod pod-small ends at 2026-01-14T03:04:05Z") {
		t.Errorf("got %+v", certified)
	}
	if !status.EarliestExpiryTime.Time.Equal(epoch().Add(12 * day)) {
		t.Errorf("the first end is %s", status.EarliestExpiryTime)
	}
}

func TestAuthorityEndingIsSaidEarly(t *testing.T) {
	f, store := encryptedFacts(t)
	upToDate := func() *metav1.Condition {
		d := Decide(f, Settings{Namespace: "raytls-system"})
		status := Status(f, &d, Done{Keys: store, Recorded: d.Writes()})
		return meta.FindStatusCondition(status.Conditions, v1alpha1.ConditionUpToDate)
	}
	if c := upToDate(); c.Reason != v1alpha1.ReasonUpToDate {
		t.Errorf("got %+v", c)
	}
	f.Now = epoch().Add(1826 * day)
	if c := upToDate(); c.Reason == v1alpha1.ReasonAuthorityEnding {
		t.Errorf("the operator replaces it, and no user has to act: got %+v", c)
	}
	f.Policy.CertificateAuthority.ValidityDays = 90
	if c := upToDate(); c.Status != metav1.ConditionFalse || c.Reason != v1alpha1.ReasonAuthorityEnding || !strings.Contains(c.Message, "ends at 2035-12-31T03:04:05Z") || !strings.Contains(c.Message, "validityDays") {
		t.Errorf("got %+v", c)
	}
}

func TestKeyPodsAreThoseWithAUsableCertificate(t *testing.T) {
	for name, c := range map[string]struct {
		reason       string
		change       func(*Facts)
		known, inUse int
		settled      bool
	}{
		"both":        {"both can talk", func(*Facts) {}, 2, 2, true},
		"silent":      {"one that does not say may", silent(1), 2, 2, true},
		"silent, old": {"however old it is, since that is a guess", func(f *Facts) { silent(1)(f); f.Now = epoch().Add(800 * day); f.Pods[0].Terminating = true }, 1, 1, true},
		"ended":       {"nobody accepts it", func(f *Facts) { f.Pods[1].Report.NotAfter = epoch() }, 1, 1, true},
		"waiting":     {"it may be making one", func(f *Facts) { f.Pods = f.Pods[1:]; waits(0, 0)(f) }, 0, 0, false},
		"terminating": {"it goes, but others still talk to it", func(f *Facts) { f.Pods = f.Pods[1:]; f.Pods[0].Terminating = true }, 0, 1, true},
		"plaintext":   {"it has none and makes none", func(f *Facts) { f.Pods = f.Pods[1:]; waits(0, 0)(f); f.Pods[0].Injected = false }, 0, 0, true},
		"none":        {"no pods, no evidence", func(f *Facts) { f.Pods = nil }, 0, 0, true},
		"no Secret":   {"pods that start then get their certificates later", func(f *Facts) { f.IssuerSecret = nil }, 2, 2, false},
	} {
		t.Run(name, func(t *testing.T) {
			f, _ := encryptedFacts(t)
			f.TLS.Status.Authority = v1alpha1.AuthorityStatus{Generation: 1, ID: f.Keys.Authority.ID()}
			f.IssuerSecret = &corev1.Secret{}
			c.change(f)
			got := f.KeyPods()
			if len(got.Authorities) != c.known || len(got.InUse) != c.inUse || (f.KeyState() != "") != c.settled || got.Generation != 1 || got.ID != f.Keys.Authority.ID() {
				t.Errorf("%s: got %+v, %q", c.reason, got, f.KeyState())
			}
		})
	}
}

// A pod that does not say is of the present authority only if no earlier version of the CA Secret can have been mounted in it.
func TestASilentPodIsOfAnUnknownAuthority(t *testing.T) {
	for created, want := range map[time.Duration]string{-time.Hour: "", time.Hour: "", 2 * time.Hour: "present"} {
		f, store := encryptedFacts(t)
		silent(1)(f)
		f.Pods[1].Created = epoch().Add(created)
		if want == "present" {
			want = store.Authority.ID()
		}
		if got := f.KeyPods(); got.InUse[1] != want || got.Authorities[1] != "" || len(got.Reporters) != 1 || got.Reporters[got.Authorities[0]][0] != f.Pods[0].Name {
			t.Errorf("created %s after the issuer: got %+v", created, got)
		}
	}
}

func TestKeyStateChangesWithWhatItIsOf(t *testing.T) {
	f, _ := encryptedFacts(t)
	f.IssuerSecret = &corev1.Secret{ObjectMeta: metav1.ObjectMeta{UID: "u", ResourceVersion: "7"}}
	before := f.KeyState()
	f.Pods = append(f.Pods, f.Pods[1])
	if got := f.KeyState(); got != before {
		t.Errorf("one pod more of the same authority: %q is not %q", got, before)
	}
	f.Pods[1].Report = &gencert.Report{Authority: "ab", NotAfter: epoch().Add(day)}
	if got := f.KeyState(); got == before {
		t.Error("a pod of another authority changes it")
	}
	f.Pods = f.Pods[:1]
	f.IssuerSecret.ResourceVersion = "8"
	if got := f.KeyState(); got == before {
		t.Error("a write of the CA Secret changes it")
	}
}

// The record is what a restored Secret is recognised by, so an authority that is not newer never replaces it.
func TestRecordedAuthorityIsKept(t *testing.T) {
	_, store := encryptedFacts(t)
	own := store.Authority.ID()
	for name, c := range map[string]struct {
		recorded v1alpha1.AuthorityStatus
		want     string
	}{
		"nothing":       {v1alpha1.AuthorityStatus{}, own},
		"older":         {v1alpha1.AuthorityStatus{Generation: 0, ID: "x"}, own},
		"same number":   {v1alpha1.AuthorityStatus{Generation: 1, ID: "x"}, "x"},
		"newer":         {v1alpha1.AuthorityStatus{Generation: 2, ID: "x"}, "x"},
		"same, no id":   {v1alpha1.AuthorityStatus{Generation: 1}, own},
		"same and same": {v1alpha1.AuthorityStatus{Generation: 1, ID: own}, own},
	} {
		status := v1alpha1.RayClusterTLSStatus{Authority: c.recorded}
		describeKeys(&status, store, nil)
		if status.Authority.ID != c.want {
			t.Errorf("%s: got %s", name, status.Authority.ID)
		}
	}
}
