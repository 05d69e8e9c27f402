package cluster

import (
	"strings"
	"testing"
	"time"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/meta"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"
	clientgoscheme "k8s.io/client-go/kubernetes/scheme"
	"sigs.k8s.io/controller-runtime/pkg/client"
	"sigs.k8s.io/controller-runtime/pkg/client/fake"

	"github.com/raytls/raytls/api/v1alpha1"
	"github.com/raytls/raytls/internal/injection"
	"github.com/raytls/raytls/internal/keys"
	"github.com/raytls/raytls/internal/kube"
	"github.com/raytls/raytls/internal/rollout"
)

// orphanFacts are those of a cluster whose policy was gone before the operator saw the cluster: its pods wait for keys.
func orphanFacts(t *testing.T) *Facts {
	t.Helper()
	f, _ := encryptedFacts(t)
	uncoveredNow(f)
	f.TLS, f.Keys, f.Policies = nil, keys.Store{}, nil
	for i := range f.Pods {
		waits(i, time.Hour)(f)
	}
	return f
}

func TestOrphansAreFoundPastTheCaches(t *testing.T) {
	scheme := runtime.NewScheme()
	for _, add := range []func(*runtime.Scheme) error{clientgoscheme.AddToScheme, v1alpha1.AddToScheme} {
		if err := add(scheme); err != nil {
			t.Fatal(err)
		}
	}
	secretNamed := func(namespace, name string) client.Object {
		return &corev1.Secret{ObjectMeta: metav1.ObjectMeta{Namespace: namespace, Name: name}}
	}
	covering := &v1alpha1.RayTLSPolicy{ObjectMeta: metav1.ObjectMeta{Namespace: "ml", Name: "p"}, Spec: v1alpha1.RayTLSPolicySpec{Selector: &metav1.LabelSelector{}}}
	other := &v1alpha1.RayTLSPolicy{ObjectMeta: metav1.ObjectMeta{Namespace: "ml", Name: "p"}, Spec: v1alpha1.RayTLSPolicySpec{Selector: &metav1.LabelSelector{MatchLabels: map[string]string{"a": "b"}}}}
	injected := func(f *Facts) {
		f.TLS = &v1alpha1.RayClusterTLS{Status: v1alpha1.RayClusterTLSStatus{Injection: v1alpha1.InjectionStatus{Revision: 1}}}
	}
	for name, c := range map[string]struct {
		reason string
		live   []client.Object
		change func(*Facts)
		want   bool
		stale  bool
	}{
		"orphan":           {reason: "nobody makes keys for it", want: true},
		"other policy":     {reason: "one that does not cover it makes none either", live: []client.Object{other}, want: true},
		"new policy":       {reason: "the cache does not have the policy yet", live: []client.Object{covering}, stale: true},
		"new authority":    {reason: "another replica made one a moment ago", live: []client.Object{secretNamed("raytls-system", keys.AuthoritySecretName(orphanFacts(t).Key))}},
		"own keys":         {reason: "somebody provides the keys without the operator", live: []client.Object{secretNamed("ml", "raytls-train")}},
		"certified":        {reason: "a certificate proves that there were keys", change: func(f *Facts) { f.Pods[1].Certified = true }},
		"on record":        {reason: "an encrypted cluster never becomes plaintext by itself", change: injected},
		"known authority":  {reason: "its keys exist", change: func(f *Facts) { f.AuthoritySecret = secret() }},
		"without pods":     {reason: "its pods would wait", change: func(f *Facts) { f.Pods = nil }, want: true},
		"only pods":        {reason: "pods that wait are left over", change: func(f *Facts) { f.Spec = map[string]any{} }, want: true},
		"plain":            {reason: "nothing is injected", change: func(f *Facts) { f.Spec, f.Pods = map[string]any{}, nil }},
		"operator's own":   {reason: "such a cluster is never touched", change: func(f *Facts) { f.Key.Namespace = "raytls-system" }},
		"under a deletion": {reason: "it goes anyway", change: func(f *Facts) { f.Object.SetDeletionTimestamp(&metav1.Time{Time: epoch()}) }},
	} {
		t.Run(name, func(t *testing.T) {
			f := orphanFacts(t)
			if c.change != nil {
				c.change(f)
			}
			live := fake.NewClientBuilder().WithScheme(scheme).WithObjects(c.live...).Build()
			g := Gatherer{Cached: live, Live: live, Namespace: "raytls-system"}
			if err := g.orphan(t.Context(), f); kube.IsStale(err) != c.stale || err != nil && !c.stale {
				t.Fatalf("%s: %v", c.reason, err)
			}
			if f.Orphaned != c.want {
				t.Errorf("%s: orphaned is %t", c.reason, f.Orphaned)
			}
		})
	}
}

func TestOrphansAreReleased(t *testing.T) {
	f := orphanFacts(t)
	f.Orphaned = true
	decide := func() Decision {
		t.Helper()
		d := Decide(f, Settings{Namespace: "raytls-system"})
		status := Status(f, &d, Done{Recorded: d.Writes()})
		if c := meta.FindStatusCondition(status.Conditions, v1alpha1.ConditionEncrypted); c.Status != metav1.ConditionFalse {
			t.Errorf("got %+v", c)
		}
		f.TLS = &v1alpha1.RayClusterTLS{Status: status}
		return d
	}
	d := decide()
	if d.Edited == nil || injection.AnyPiece(d.Edited) || len(d.Plan.Delete) > 0 || d.WantsKeys || !strings.Contains(d.Plan.Message, "no policy covers the cluster") {
		t.Fatalf("first the templates: got %+v", d.Plan)
	}
	plain := d.Edited
	f.Spec, f.Templates = plain, injection.Inspect(plain, "train")
	if d = decide(); len(d.Plan.Delete) != 2 || d.Edited != nil {
		t.Fatalf("then the pods: got %+v", d.Plan)
	}
	for i := range f.Pods {
		f.Pods[i].Injected = false
	}
	if d = decide(); !d.Plan.Release || d.Plan.Progress != nil || len(d.Plan.Restored) != 1 {
		t.Fatalf("then it is over: got %+v", d.Plan)
	}
}

func TestOrphansMayWaitForTheirPolicy(t *testing.T) {
	f := orphanFacts(t)
	f.Orphaned = true
	f.Object.SetCreationTimestamp(metav1.NewTime(epoch().Add(-10 * time.Second)))
	d := Decide(f, Settings{Namespace: "raytls-system"})
	if d.Writes() || d.Edited != nil || !d.Plan.RequeueAt.Equal(epoch().Add(20*time.Second)) {
		t.Errorf("tools apply one object after another: got %+v", d.Plan)
	}
	f.Now = epoch().Add(20 * time.Second)
	if d = Decide(f, Settings{Namespace: "raytls-system"}); d.Edited == nil {
		t.Errorf("but not for ever: got %+v", d.Plan)
	}
}

// A tool that applies the injected templates again and again is not fought.
func TestOrphansAreNotReleasedForEver(t *testing.T) {
	f := orphanFacts(t)
	f.Orphaned = true
	f.TLS = &v1alpha1.RayClusterTLS{}
	f.TLS.Status.Injection.RestoredTimes = []metav1.Time{{Time: epoch().Add(-time.Minute)}, {Time: epoch().Add(-2 * time.Minute)}}
	d := Decide(f, Settings{Namespace: "raytls-system"})
	if d.Writes() || d.Edited != nil || !d.Plan.RequeueAt.Equal(epoch().Add(rollout.RestoreWindow-2*time.Minute)) {
		t.Errorf("got %+v", d.Plan)
	}
	status := Status(f, &d, Done{})
	if c := meta.FindStatusCondition(status.Conditions, v1alpha1.ConditionStalled); c.Status != metav1.ConditionTrue || !strings.Contains(c.Message, "create a RayTLSPolicy") {
		t.Errorf("got %+v", c)
	}
}
