package raycluster

import (
	"context"
	"maps"
	"slices"
	"strings"
	"testing"
	"time"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/client-go/tools/events"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/raytls/raytls/api/v1alpha1"
	"github.com/raytls/raytls/internal/cluster"
	"github.com/raytls/raytls/internal/gencert"
	"github.com/raytls/raytls/internal/keys"
	"github.com/raytls/raytls/internal/kube"
	"github.com/raytls/raytls/internal/kuberay"
	"github.com/raytls/raytls/internal/policy"
	"github.com/raytls/raytls/internal/rollout"
)

const day = 24 * time.Hour

// keyed is an application of a cluster that has keys, and whose authority lives 40 days. Its API server also has those objects.
func keyed(t *testing.T, now time.Time, more ...client.Object) (*application, client.WithWatch, *events.FakeRecorder) {
	t.Helper()
	object := kuberay.NewRayCluster()
	object.SetNamespace("ml")
	object.SetName("train")
	object.SetUID("u")
	p := &v1alpha1.RayTLSPolicy{ObjectMeta: metav1.ObjectMeta{Namespace: "ml", Name: "default"}}
	p.Spec.Selector = &metav1.LabelSelector{}
	p.Spec.CertificateAuthority.ValidityDays, p.Spec.PodCertificate.ValidityDays = 40, 1
	spec := p.Spec.WithDefaults()
	f := &cluster.Facts{
		Key: train(), Now: now, Object: object, Policy: &spec, Policies: []*v1alpha1.RayTLSPolicy{p},
		Decision: policy.Decision{Policy: p, Goal: v1alpha1.GoalEncrypted},
	}
	store, _, _, err := keys.Next(keys.Store{Cluster: train()}, f.KeySettings(), keys.Parent{}, keys.Pods{}, epoch())
	if err != nil {
		t.Fatal(err)
	}
	authorityData, err := store.AuthorityData()
	if err != nil {
		t.Fatal(err)
	}
	issuerData, err := store.IssuerData()
	if err != nil {
		t.Fatal(err)
	}
	authority := &corev1.Secret{ObjectMeta: metav1.ObjectMeta{
		Namespace: "raytls-system", Name: keys.AuthoritySecretName(train()), Labels: kube.Labels(v1alpha1.ComponentAuthority),
		Annotations: map[string]string{v1alpha1.AnnotationCluster: train().String()},
	}, Type: corev1.SecretTypeOpaque, Data: authorityData}
	stored := api(t, append(more, authority, issuerSecret(object, nil, "raytls-train", issuerData))...)
	f.AuthoritySecret, f.IssuerSecret = &corev1.Secret{}, &corev1.Secret{}
	for key, into := range map[client.ObjectKey]*corev1.Secret{
		client.ObjectKeyFromObject(authority):                      f.AuthoritySecret,
		{Namespace: "ml", Name: keys.IssuerSecretName(train(), 0)}: f.IssuerSecret,
	} {
		if err := stored.Get(t.Context(), key, into); err != nil {
			t.Fatal(err)
		}
	}
	f.Keys = store
	recorder := events.NewFakeRecorder(10)
	return &application{
		Reconciler: &Reconciler{Client: stored, Live: stored, Recorder: recorder, Settings: cluster.Settings{Namespace: "raytls-system"}},
		facts:      f, decision: &cluster.Decision{WantsKeys: true}, keys: store,
	}, stored, recorder
}

// withoutIssuer has the CA Secret lost as the cache shows it, so that an issuer is due.
func (a *application) withoutIssuer(t *testing.T, stored client.Client) {
	t.Helper()
	if err := stored.Delete(t.Context(), a.facts.IssuerSecret.DeepCopy()); err != nil {
		t.Fatal(err)
	}
	a.facts.IssuerSecret = nil
	a.facts.Keys.Issuer = nil
}

func TestSlowKeysAreMadeOneAfterAnother(t *testing.T) {
	for algorithm, waits := range map[v1alpha1.KeyAlgorithm]bool{v1alpha1.KeyECDSAP256: false, v1alpha1.KeyRSA2048: true} {
		a, stored, _ := keyed(t, epoch())
		a.withoutIssuer(t, stored)
		a.facts.Policy.CertificateAuthority.KeyAlgorithm = algorithm
		end, _ := a.makers.begin(t.Context(), "ml")
		outcome := kube.AsOutcome(a.provideKeys(t.Context()))
		if (outcome != nil) != waits || waits && (outcome.Reason != v1alpha1.ReasonPodsStarting || outcome.After != makerRetry || outcome.UserMustAct) {
			t.Errorf("%s, while another cluster's are made: %+v", algorithm, outcome)
		}
		end()
		if outcome := kube.AsOutcome(a.provideKeys(t.Context())); outcome != nil {
			t.Errorf("%s, afterwards: %+v", algorithm, outcome)
		}
	}
}

func TestAnIssuerThatHasToWaitIsReported(t *testing.T) {
	for name, c := range map[string]struct {
		reason string
		change func(*application, client.Client)
		want   string
		stale  bool
	}{
		"just made":           {"a step that did not do its work says so", func(*application, client.Client) {}, v1alpha1.ReasonPodsStarting, false},
		"before an injection": {"templates wait for keys", func(a *application, _ client.Client) { a.decision.Edited = map[string]any{} }, v1alpha1.ReasonEnabling, false},
		"stale": {"the cache has not seen the one that was just made", func(a *application, stored client.Client) {
			authority := a.facts.AuthoritySecret.DeepCopy()
			authority.Labels["x"] = "y"
			if err := stored.Update(context.Background(), authority); err != nil {
				panic(err)
			}
		}, "", true},
	} {
		t.Run(name, func(t *testing.T) {
			a, stored, _ := keyed(t, epoch())
			a.withoutIssuer(t, stored)
			a.issuers.made(train(), epoch().Add(-4*time.Second))
			c.change(a, stored)
			err := a.provideKeys(t.Context())
			outcome := kube.AsOutcome(err)
			if kube.IsStale(err) != c.stale {
				t.Fatalf("%s: got %v", c.reason, err)
			}
			if c.stale {
				return
			}
			if outcome == nil || outcome.Reason != c.want || outcome.After != 6*time.Second || strings.Contains(outcome.Message, "6s") {
				t.Errorf("%s: got %+v", c.reason, outcome)
			}
		})
	}
	working, _, _ := keyed(t, epoch().Add(time.Hour))
	working.facts.Policy.CertificateAuthority.ReplaceIssuedBefore = &metav1.Time{Time: epoch().Add(time.Hour)}
	working.issuers.made(train(), working.facts.Now.Add(-4*time.Second))
	if err := working.provideKeys(t.Context()); err != nil || working.keys.Generation != 1 || !working.requeue.Equal(working.facts.Now.Add(6*time.Second)) {
		t.Errorf("a replacement that has to wait is no fault: generation %d, again at %s, %v", working.keys.Generation, working.requeue, err)
	}
	a, stored, _ := keyed(t, epoch())
	a.withoutIssuer(t, stored)
	a.issuers.made(train(), epoch().Add(-issueInterval))
	if err := a.provideKeys(t.Context()); err != nil || a.keys.Issuer == nil {
		t.Errorf("after the interval it is made: %v", err)
	}
}

func TestNoKeysAreMadeByAClockThatIsOff(t *testing.T) {
	const off = "the clocks differ"
	replaced := func(a *application, _ client.Client) {
		a.facts.Policy.CertificateAuthority.ReplaceIssuedBefore = &metav1.Time{Time: epoch().Add(time.Hour)}
	}
	for name, c := range map[string]struct {
		reason string
		change func(*application, client.Client)
		// known reports whether the facts show it; otherwise the answer to the last question does.
		known bool
		fails string
		stale bool
	}{
		"works":         {"what works goes on", func(*application, client.Client) {}, true, "", false},
		"due":           {"what is due waits, and what is there works", replaced, true, "", false},
		"lost":          {"where new pods wait, somebody must act", func(a *application, stored client.Client) { a.withoutIssuer(t, stored) }, true, v1alpha1.ReasonClockSkew, false},
		"due, late":     {"the API server is asked before a key is made", replaced, false, "", true},
		"works, unseen": {"it is not asked otherwise", func(*application, client.Client) {}, false, "", false},
	} {
		t.Run(name, func(t *testing.T) {
			a, stored, _ := keyed(t, epoch().Add(time.Hour))
			c.change(a, stored)
			a.Gatherer.ClockSkew = func() string { return off }
			if c.known {
				a.facts.ClockSkew = off
			}
			err := a.provideKeys(t.Context())
			if outcome := kube.AsOutcome(err); (outcome != nil) != (c.fails != "") || outcome != nil && (outcome.Reason != c.fails || outcome.Message != off || outcome.After == 0) || kube.IsStale(err) != c.stale {
				t.Errorf("%s: got %v", c.reason, err)
			}
			if a.keys.Generation != 1 || a.keys.Issuer != a.facts.Keys.Issuer && c.fails == "" {
				t.Errorf("%s: keys were made", c.reason)
			}
			var secrets corev1.SecretList
			if err := stored.List(t.Context(), &secrets); err != nil {
				t.Fatal(err)
			}
			for i := range secrets.Items {
				if secrets.Items[i].ResourceVersion != "999" {
					t.Errorf("%s: Secret %s was written", c.reason, secrets.Items[i].Name)
				}
			}
		})
	}
}

func TestTheFirstAuthorityIsMadeOfTheNewestCluster(t *testing.T) {
	for name, c := range map[string]struct {
		reason     string
		generation int64
		stale      bool
	}{
		"newest": {"a new cluster gets keys", 1, false},
		"older":  {"a cluster that was disabled meanwhile would keep them", 2, true},
	} {
		a, stored, _ := keyed(t, epoch())
		a.withoutIssuer(t, stored)
		if err := stored.Delete(t.Context(), a.facts.AuthoritySecret); err != nil {
			t.Fatal(err)
		}
		a.facts.AuthoritySecret, a.facts.Keys = nil, keys.Store{Cluster: train()}
		object := a.facts.Object.DeepCopy()
		object.SetGeneration(c.generation)
		if err := stored.Create(t.Context(), object); err != nil {
			t.Fatal(err)
		}
		a.facts.Object.SetGeneration(1)
		err := a.provideKeys(t.Context())
		var secrets corev1.SecretList
		if err := stored.List(t.Context(), &secrets); err != nil {
			t.Fatal(err)
		}
		if kube.IsStale(err) != c.stale || !c.stale && err != nil || (len(secrets.Items) == 0) != c.stale {
			t.Errorf("%s: %s: got %v and %d Secrets", name, c.reason, err, len(secrets.Items))
		}
	}
}

func TestAnAuthorityIsReplaced(t *testing.T) {
	waits := func(a *application) {
		a.facts.Pods = []cluster.Pod{{Pod: rollout.Pod{Name: "p-x", UID: "x", Injected: true}}}
	}
	uncovered := func(a *application) { a.facts.Policy = nil }
	for name, c := range map[string]struct {
		reason   string
		at       time.Duration
		change   func(*application)
		replaced bool
		format   string
	}{
		"young":            {"nobody replaces a young one", day, nil, false, "1"},
		"due":              {"it is about to end", 35 * day, nil, true, "2"},
		"due, pod waits":   {"whichever authority it gets, others accept it", 35 * day, waits, true, "2"},
		"due, no policy":   {"a cluster that keeps its keys must not end with them", 35 * day, uncovered, true, "2"},
		"ended, pod waits": {"it gets none of one that has ended", 41 * day, waits, true, "1"},
		"ended, no policy": {"a cluster without a policy must be able to start pods", 41 * day, uncovered, true, "1"},
		"asked for": {"the policy says so", day, func(a *application) {
			a.facts.Policy.CertificateAuthority.ReplaceIssuedBefore = &metav1.Time{Time: epoch().Add(time.Hour)}
		}, true, "2"},
		"asked for later": {"not before the time has come", day, func(a *application) {
			a.facts.Policy.CertificateAuthority.ReplaceIssuedBefore = &metav1.Time{Time: epoch().Add(2 * day)}
		}, false, "1"},
		"CA refused": {"what works stays until there is a better one", 35 * day, func(a *application) {
			a.facts.Policy.CertificateAuthority.SecretRef = &v1alpha1.SecretReference{Name: "ca"}
		}, false, "1"},
	} {
		t.Run(name, func(t *testing.T) {
			a, stored, recorder := keyed(t, epoch().Add(c.at))
			// An issuer of today, as a cluster that runs has one.
			fresh, _, _, err := keys.Next(a.facts.Keys, a.facts.KeySettings(), keys.Parent{}, keys.Pods{}, epoch().Add(min(c.at, 33*day)))
			if err != nil {
				t.Fatal(err)
			}
			a.facts.Keys, a.keys = fresh, fresh
			if c.change != nil {
				c.change(a)
			}
			before := a.keys.Authority.ID()
			if err := a.provideKeys(t.Context()); err != nil {
				t.Fatalf("%s: %v", c.reason, err)
			}
			if replaced := a.keys.Authority.ID() != before; replaced != c.replaced {
				t.Fatalf("%s: replaced is %t", c.reason, replaced)
			}
			authority, issuer := a.secrets(t, stored)
			generation := map[bool]string{false: "1", true: "2"}[c.replaced]
			for _, secret := range []*corev1.Secret{authority, issuer} {
				if string(secret.Data["generation"]) != generation || string(secret.Data["formatVersion"]) != c.format {
					t.Errorf("%s: Secret %s is of generation %s and format %s", c.reason, secret.Name, secret.Data["generation"], secret.Data["formatVersion"])
				}
			}
			if !strings.HasPrefix(string(issuer.Data["ca.crt"]), string(authority.Data["authority.crt"])) {
				t.Errorf("%s: pods do not trust the authority first", c.reason)
			}
			if told := slices.ContainsFunc(drain(recorder), func(e string) bool { return strings.Contains(e, "AuthorityReplaced") }); told != c.replaced {
				t.Errorf("%s: an event is %t", c.reason, told)
			}
		})
	}
}

// secrets are the cluster's Secrets as the API server has them.
func (a *application) secrets(t *testing.T, stored client.Client) (authority, issuer *corev1.Secret) {
	t.Helper()
	authority, issuer = &corev1.Secret{}, &corev1.Secret{}
	if err := stored.Get(t.Context(), client.ObjectKeyFromObject(a.facts.AuthoritySecret), authority); err != nil {
		t.Fatal(err)
	}
	if err := stored.Get(t.Context(), client.ObjectKeyFromObject(a.facts.IssuerSecret), issuer); err != nil {
		t.Fatal(err)
	}
	return authority, issuer
}

func drain(recorder *events.FakeRecorder) []string {
	var out []string
	for len(recorder.Events) > 0 {
		out = append(out, <-recorder.Events)
	}
	return out
}

// The CA of an ended authority is not replaced by none.
func TestAnEndedAuthorityOfABroughtCAWaitsForAPolicy(t *testing.T) {
	a, stored, _ := keyed(t, epoch().Add(41*day))
	a.facts.Policy, a.facts.Keys.Settings.CASecret = nil, "ca"
	before := maps.Clone(a.facts.AuthoritySecret.Data)
	if outcome := kube.AsOutcome(a.provideKeys(t.Context())); outcome == nil || outcome.Reason != v1alpha1.ReasonAuthorityEnding || !outcome.UserMustAct {
		t.Errorf("got %v", outcome)
	}
	var authority corev1.Secret
	if err := stored.Get(t.Context(), client.ObjectKeyFromObject(a.facts.AuthoritySecret), &authority); err != nil || string(authority.Data["authority.crt"]) != string(before["authority.crt"]) {
		t.Errorf("the operator must write nothing: %v", err)
	}
}

func TestAnEndIsWarnedOfOnceInEachStage(t *testing.T) {
	const life = 24 * time.Hour
	for name, c := range map[string]struct {
		age           time.Duration
		before, after v1alpha1.ExpiryStage
		want          string
	}{
		"young":        {life / 2, "", "", ""},
		"last third":   {life * 2 / 3, "", v1alpha1.StageLastThird, "in the last third of its life"},
		"goes on":      {life * 3 / 4, v1alpha1.StageLastThird, v1alpha1.StageLastThird, ""},
		"last sixth":   {life * 5 / 6, v1alpha1.StageLastThird, v1alpha1.StageLastSixth, "in the last sixth of its life"},
		"last twelfth": {life * 11 / 12, v1alpha1.StageLastSixth, v1alpha1.StageLastTwelfth, "in the last twelfth of its life and ends at 2026-01-03T"},
		"seen late":    {life * 11 / 12, "", v1alpha1.StageLastTwelfth, "in the last twelfth of its life"},
		"is over":      {0, v1alpha1.StageLastTwelfth, "", ""},
	} {
		a, _, recorder := keyed(t, epoch().Add(c.age))
		pod := cluster.Pod{Report: &gencert.Report{Authority: a.keys.Authority.ID(), Issuer: a.keys.Issuer.ID(), IssuedAt: epoch(), NotAfter: epoch().Add(life)}}
		pod.Name, pod.Injected, pod.Certified = "a", true, true
		a.facts.Pods = []cluster.Pod{pod}
		if c.age == 0 {
			a.facts.Now = epoch()
		}
		if got := cluster.Status(a.facts, a.decision, cluster.Done{Keys: a.keys}).ExpiryStage; got != c.after {
			t.Errorf("%s: stage %q, want %q", name, got, c.after)
		}
		a.tellChanges(&v1alpha1.RayClusterTLSStatus{ExpiryStage: c.before}, &v1alpha1.RayClusterTLSStatus{ExpiryStage: c.after})
		told := drain(recorder)
		if (len(told) == 1) != (c.want != "") || c.want != "" && !strings.Contains(told[0], "Warning CertificateEnding the certificate of pod a is "+c.want) {
			t.Errorf("%s: got %q", name, told)
		}
	}
}
