package raycluster

import (
	"context"
	"errors"
	"strings"
	"testing"
	"time"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"sigs.k8s.io/controller-runtime/pkg/client"
	"sigs.k8s.io/controller-runtime/pkg/client/interceptor"

	"github.com/raytls/raytls/api/v1alpha1"
	"github.com/raytls/raytls/internal/cluster"
	"github.com/raytls/raytls/internal/gencert"
	"github.com/raytls/raytls/internal/keys"
	"github.com/raytls/raytls/internal/kube"
	"github.com/raytls/raytls/internal/kuberay"
	"github.com/raytls/raytls/internal/pki"
	"github.com/raytls/raytls/internal/rollout"
)

// replaced is an application of a cluster whose authority was replaced an hour after epoch, as its cache shows it.
func replaced(t *testing.T, more ...client.Object) (*application, client.WithWatch) {
	t.Helper()
	a, stored, _ := keyed(t, epoch().Add(time.Hour), more...)
	a.facts.Policy.CertificateAuthority.ReplaceIssuedBefore = &metav1.Time{Time: epoch().Add(time.Hour)}
	if err := a.provideKeys(t.Context()); err != nil || a.keys.Generation != 2 {
		t.Fatalf("generation %d, %v", a.keys.Generation, err)
	}
	a.catchUp(t, stored)
	return a, stored
}

// catchUp has the cache show what the API server has.
func (a *application) catchUp(t *testing.T, stored client.Client) {
	t.Helper()
	a.facts.AuthoritySecret, a.facts.IssuerSecret = a.secrets(t, stored)
	var err error
	if a.facts.Keys, err = keys.Read(train(), a.facts.AuthoritySecret, a.facts.IssuerSecret); err != nil {
		t.Fatal(err)
	}
}

func TestAnEarlierAuthorityIsForgottenWhenNobodyUsesIt(t *testing.T) {
	pod := func(by ...metav1.OwnerReference) *corev1.Pod {
		return &corev1.Pod{ObjectMeta: metav1.ObjectMeta{Namespace: "ml", Name: "p", UID: "x", Labels: map[string]string{kuberay.LabelCluster: "train"}, OwnerReferences: by}}
	}
	own := metav1.OwnerReference{APIVersion: "ray.io/v1", Kind: "RayCluster", Name: "train", UID: "u", Controller: new(true)}
	knows := func(generation int, certified bool) func(*application) {
		return func(a *application) {
			p := cluster.Pod{Pod: rollout.Pod{Name: "p", UID: "x", Injected: true, Certified: certified}}
			id := a.facts.Keys.Authority.ID()
			if generation == 1 {
				id = a.facts.Keys.Signers().Earlier[0].ID
			}
			if p.Report = (&gencert.Report{Authority: id, IssuedAt: epoch(), NotAfter: epoch().Add(30 * day)}); !certified {
				p.Report = nil
			}
			a.facts.Pods = []cluster.Pod{p}
		}
	}
	for name, c := range map[string]struct {
		reason  string
		pods    []client.Object
		begin   func(*application)
		after   time.Duration
		later   func(*application)
		dropped bool
		stale   bool
	}{
		"at once":                {"a pod may have mounted the Secret as it was", nil, nil, 0, nil, false, false},
		"just before":            {"for the whole hour", nil, nil, time.Hour - time.Second, nil, false, false},
		"an hour later":          {"then nobody can get a certificate of it", nil, nil, time.Hour, nil, true, false},
		"pod of it":              {"its peers must accept it", nil, knows(1, true), 2 * time.Hour, nil, false, false},
		"pod of it, gone":        {"the hour begins when it is gone", nil, knows(1, true), 2 * time.Hour, func(a *application) { a.facts.Pods = nil }, false, false},
		"pod of the present one": {"it needs no bridge", []client.Object{pod(own)}, knows(2, true), time.Hour, nil, true, false},
		"pod that waits":         {"it may have read the Secret before it was written", nil, knows(2, false), 2 * time.Hour, nil, false, false},
		"pod that waited":        {"the hour begins when it has its certificate", nil, knows(2, false), 2 * time.Hour, knows(2, true), false, false},
		"pod unseen":             {"the cache lags behind a pod", []client.Object{pod(own)}, nil, time.Hour, nil, false, true},
		"pod of a stranger":      {"anybody can label a pod", []client.Object{pod()}, nil, time.Hour, nil, true, false},
	} {
		t.Run(name, func(t *testing.T) {
			a, stored := replaced(t, c.pods...)
			if c.begin != nil {
				c.begin(a)
			}
			provide := func() error { return a.provideKeys(t.Context()) }
			if err := provide(); err != nil {
				t.Fatal(err)
			}
			a.facts.Now = a.facts.Now.Add(c.after)
			if c.later != nil {
				c.later(a)
			}
			if err := provide(); kube.IsStale(err) != c.stale || err != nil && !c.stale {
				t.Fatalf("%s: %v", c.reason, err)
			}
			a.catchUp(t, stored)
			if dropped := len(a.facts.Keys.Signers().Earlier) == 0; dropped != c.dropped {
				t.Fatalf("%s: dropped is %t", c.reason, dropped)
			}
			bundle, err := pki.ParseBundle(a.facts.IssuerSecret.Data["ca.crt"])
			if err != nil || (len(bundle) == 1) != c.dropped {
				t.Errorf("%s: pods trust %d certificates, %v", c.reason, len(bundle), err)
			}
			if a.facts.Keys.Issuer == nil || a.facts.Keys.Issuer.ID() != a.keys.Issuer.ID() || a.facts.Keys.Generation != 2 {
				t.Errorf("%s: the issuer stays", c.reason)
			}
		})
	}
}

// A write of the CA Secret begins the hour anew, whoever made it.
func TestAWriteOfTheCASecretBeginsTheHourAnew(t *testing.T) {
	a, stored := replaced(t)
	for i := range 3 {
		if err := a.provideKeys(t.Context()); err != nil {
			t.Fatal(err)
		}
		secret := a.facts.IssuerSecret.DeepCopy()
		secret.Annotations = map[string]string{"touched": strings.Repeat("x", i+1)}
		if err := stored.Update(t.Context(), secret); err != nil {
			t.Fatal(err)
		}
		a.catchUp(t, stored)
		a.facts.Now = a.facts.Now.Add(time.Hour)
	}
	if len(a.facts.Keys.Signers().Earlier) == 0 {
		t.Error("the bridge was dropped, and a pod may have mounted an older version")
	}
}

func TestAReplacementThatStoppedHalfwayGoesOn(t *testing.T) {
	a, stored, _ := keyed(t, epoch().Add(time.Hour))
	a.facts.Policy.CertificateAuthority.ReplaceIssuedBefore = &metav1.Time{Time: epoch().Add(time.Hour)}
	a.Client = interceptor.NewClient(stored, interceptor.Funcs{
		Update: func(ctx context.Context, c client.WithWatch, o client.Object, options ...client.UpdateOption) error {
			if o.GetNamespace() == "ml" {
				return errors.New("the API server is gone")
			}
			return c.Update(ctx, o, options...)
		},
	})
	if err := a.provideKeys(t.Context()); err == nil {
		t.Fatal("the write of the CA Secret failed")
	}
	a.Client = stored
	a.catchUp(t, stored)
	if a.facts.Keys.Generation != 2 || a.facts.Keys.Issuer != nil {
		t.Fatalf("generation %d, issuer %v", a.facts.Keys.Generation, a.facts.Keys.Issuer)
	}
	if err := a.provideKeys(t.Context()); err != nil {
		t.Fatal(err)
	}
	a.catchUp(t, stored)
	if a.facts.Keys.Generation != 2 || a.facts.Keys.Issuer == nil {
		t.Errorf("generation %d, issuer %v", a.facts.Keys.Generation, a.facts.Keys.Issuer)
	}
}

// The status is read from another cache than the authority, so it can be ahead of it.
func TestACacheThatLagsIsNoRestoredAuthority(t *testing.T) {
	a, stored := replaced(t)
	old, _, _ := keyed(t, epoch())
	a.facts.TLS = &v1alpha1.RayClusterTLS{Status: v1alpha1.RayClusterTLSStatus{Authority: v1alpha1.AuthorityStatus{Generation: 2, ID: a.facts.Keys.Authority.ID()}}}
	current := a.facts.AuthoritySecret
	lagging := current.DeepCopy()
	lagging.ResourceVersion, lagging.Data = "1", old.facts.AuthoritySecret.Data
	a.facts.AuthoritySecret, a.facts.Keys = lagging, old.facts.Keys
	if err := a.provideKeys(t.Context()); !kube.IsStale(err) {
		t.Errorf("got %v", err)
	}
	restored := current.DeepCopy()
	restored.Data = lagging.Data
	if err := stored.Update(t.Context(), restored); err != nil {
		t.Fatal(err)
	}
	a.facts.AuthoritySecret = restored
	if outcome := kube.AsOutcome(a.provideKeys(t.Context())); outcome == nil || outcome.Reason != v1alpha1.ReasonAuthorityRestored {
		t.Errorf("got %v", outcome)
	}
}
