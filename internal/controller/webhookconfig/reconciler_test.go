package webhookconfig

import (
	"context"
	"errors"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	rayv1 "github.com/ray-project/kuberay/ray-operator/apis/ray/v1"
	admissionregistrationv1 "k8s.io/api/admissionregistration/v1"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"
	clientgoscheme "k8s.io/client-go/kubernetes/scheme"
	testingclock "k8s.io/utils/clock/testing"
	ctrl "sigs.k8s.io/controller-runtime"
	"sigs.k8s.io/controller-runtime/pkg/client"
	"sigs.k8s.io/controller-runtime/pkg/client/fake"
	"sigs.k8s.io/controller-runtime/pkg/reconcile"

	"github.com/raytls/raytls/api/v1alpha1"
	"github.com/raytls/raytls/internal/kube"
	"github.com/raytls/raytls/internal/pki"
	"github.com/raytls/raytls/internal/servingcert"
)

var began = time.Date(2026, 3, 1, 12, 0, 0, 0, time.UTC)

// world is an API server with a policy in namespace a.
type world struct {
	*testing.T
	api   client.WithWatch
	r     *Reconciler
	clock *testingclock.FakePassiveClock
}

func newWorld(t *testing.T, objects ...client.Object) *world {
	t.Helper()
	scheme := runtime.NewScheme()
	for _, add := range []func(*runtime.Scheme) error{clientgoscheme.AddToScheme, rayv1.AddToScheme, v1alpha1.AddToScheme} {
		if err := add(scheme); err != nil {
			t.Fatal(err)
		}
	}
	objects = append(objects, &v1alpha1.RayTLSPolicy{ObjectMeta: metav1.ObjectMeta{Namespace: "a", Name: "p"}})
	api := fake.NewClientBuilder().WithScheme(scheme).WithObjects(objects...).Build()
	clock := testingclock.NewFakePassiveClock(began)
	return &world{T: t, api: api, clock: clock, r: &Reconciler{Client: api, Live: api, Namespace: ownNamespace, Clock: clock}}
}

// reconcile reconciles until nothing is written any more.
func (w *world) reconcile() ctrl.Result {
	w.Helper()
	for range 4 {
		if _, err := w.r.Reconcile(w.Context(), ctrl.Request{}); err != nil {
			w.Fatal(err)
		}
	}
	result, err := w.r.Reconcile(w.Context(), ctrl.Request{})
	if err != nil {
		w.Fatal(err)
	}
	return result
}

func (w *world) get(object client.Object, namespace, name string) {
	w.Helper()
	if err := w.api.Get(w.Context(), client.ObjectKey{Namespace: namespace, Name: name}, object); err != nil {
		w.Fatal(err)
	}
}

func (w *world) secret() *corev1.Secret {
	w.Helper()
	secret := &corev1.Secret{}
	w.get(secret, ownNamespace, Secret)
	return secret
}

func (w *world) authority() *pki.Authority {
	w.Helper()
	authority, err := servingcert.Parse(w.secret().Data, w.clock.Now())
	if err != nil {
		w.Fatal(err)
	}
	return authority
}

func (w *world) bundle() string {
	w.Helper()
	configuration := &admissionregistrationv1.MutatingWebhookConfiguration{}
	w.get(configuration, "", Configuration)
	return string(configuration.Webhooks[0].ClientConfig.CABundle)
}

func (w *world) active(want string) {
	w.Helper()
	if got := w.r.Condition("a"); got.Reason != want {
		w.Errorf("the condition is %s (%s), not %s", got.Reason, got.Message, want)
	}
}

func TestAuthorityIsMadeOnce(t *testing.T) {
	w := newWorld(t, installed(t))
	w.active(v1alpha1.ReasonAdmissionPending)
	result := w.reconcile()
	w.active(v1alpha1.ReasonAdmissionActive)
	before, first := w.secret(), w.authority()
	if got, want := result.RequeueAfter, servingcert.RenewAt(first).Sub(began); got != want {
		t.Errorf("the next reconcile is after %s, not %s", got, want)
	}
	if diff := cmp.Diff(string(first.CertificatePEM()), w.bundle()); diff != "" {
		t.Errorf("caBundle:\n%s", diff)
	}
	labels := map[string]string{"app.kubernetes.io/managed-by": "raytls", "app.kubernetes.io/component": "webhook"}
	if diff := cmp.Diff(labels, before.Labels); diff != "" || before.Type != corev1.SecretTypeOpaque {
		t.Errorf("labels of type %s:\n%s", before.Type, diff)
	}
	w.clock.SetTime(servingcert.RenewAt(first).Add(-time.Second))
	w.reconcile()
	if diff := cmp.Diff(before, w.secret()); diff != "" {
		t.Errorf("at rest the Secret is written:\n%s", diff)
	}
}

func TestAuthorityIsReplaced(t *testing.T) {
	for name, c := range map[string]struct {
		reason string
		do     func(w *world, secret *corev1.Secret) error
		passed time.Duration
		keeps  bool
	}{
		"deleted": {reason: "there is none", do: func(w *world, secret *corev1.Secret) error { return w.api.Delete(w.Context(), secret) }},
		"altered": {reason: "it cannot sign", do: func(w *world, secret *corev1.Secret) error {
			secret.Data["tls.key"] = []byte("x")
			return w.api.Update(w.Context(), secret)
		}},
		"of another type": {reason: "that cannot be changed", do: func(w *world, secret *corev1.Secret) error {
			replacement := &corev1.Secret{ObjectMeta: metav1.ObjectMeta{Namespace: secret.Namespace, Name: secret.Name, Labels: secret.Labels}, Type: corev1.SecretTypeTLS}
			return errors.Join(w.api.Delete(w.Context(), secret), w.api.Create(w.Context(), replacement))
		}},
		"in its last year": {reason: "everybody hears of the next in time", passed: 3286 * 24 * time.Hour},
		"relabelled": {reason: "the authority is as it was", keeps: true, do: func(w *world, secret *corev1.Secret) error {
			delete(secret.Labels, v1alpha1.LabelComponent)
			return w.api.Update(w.Context(), secret)
		}},
	} {
		t.Run(name, func(t *testing.T) {
			w := newWorld(t, installed(t))
			w.reconcile()
			old := w.authority()
			w.clock.SetTime(began.Add(c.passed))
			if c.do != nil {
				if err := c.do(w, w.secret()); err != nil {
					t.Fatal(err)
				}
			}
			result := w.reconcile()
			w.active(v1alpha1.ReasonAdmissionActive)
			if w.secret().Labels[v1alpha1.LabelComponent] != v1alpha1.ComponentWebhook {
				t.Error("the label is missing")
			}
			current := w.authority()
			if kept := current.ID() == old.ID(); kept != c.keeps {
				t.Fatalf("%s: kept is %t", c.reason, kept)
			}
			if c.keeps {
				return
			}
			if want := string(current.CertificatePEM()) + string(old.CertificatePEM()); w.bundle() != want {
				t.Errorf("%s: the old authority is not trusted for a while:\n%s", c.reason, w.bundle())
			}
			if result.RequeueAfter != servingcert.Retiring {
				t.Errorf("the next reconcile is after %s", result.RequeueAfter)
			}
			w.clock.SetTime(w.clock.Now().Add(servingcert.Retiring))
			w.reconcile()
			if w.bundle() != string(current.CertificatePEM()) {
				t.Error("the old authority is trusted for ever")
			}
		})
	}
}

func TestSecretOfANewerVersionIsLeftAlone(t *testing.T) {
	w := newWorld(t, installed(t), &corev1.Secret{
		ObjectMeta: metav1.ObjectMeta{Namespace: ownNamespace, Name: Secret, Labels: kube.Labels(v1alpha1.ComponentWebhook)}, Data: map[string][]byte{"formatVersion": []byte("2")},
	})
	before := w.secret()
	_, err := w.r.Reconcile(t.Context(), ctrl.Request{})
	if err == nil || !strings.Contains(err.Error(), "newer version") || !errors.Is(err, reconcile.TerminalError(nil)) {
		t.Errorf("trying again changes nothing: got %v", err)
	}
	if diff := cmp.Diff(before, w.secret()); diff != "" {
		t.Errorf("what it means is not known:\n%s", diff)
	}
	w.active(v1alpha1.ReasonAdmissionPending)
	configuration := &admissionregistrationv1.MutatingWebhookConfiguration{}
	w.get(configuration, "", Configuration)
	if diff := cmp.Diff(selecting(in("a")), configuration.Webhooks[0].NamespaceSelector); diff != "" {
		t.Errorf("namespaces do not wait for the authority:\n%s", diff)
	}
}

// uncached is a cache that holds no Secrets, as one does that selects by the operator's label.
type uncached struct{ client.WithWatch }

func (u uncached) Get(ctx context.Context, key client.ObjectKey, object client.Object, options ...client.GetOption) error {
	if _, isSecret := object.(*corev1.Secret); isSecret {
		return u.WithWatch.Get(ctx, client.ObjectKey{Namespace: key.Namespace, Name: "none"}, object, options...)
	}
	return u.WithWatch.Get(ctx, key, object, options...)
}

func TestSomebodysSecretIsLeftAlone(t *testing.T) {
	for name, c := range map[string]struct {
		reason string
		labels map[string]string
		want   string
	}{
		"unlabelled": {reason: "it is somebody else's", want: "left alone"},
		"labelled":   {reason: "the cache lags", labels: kube.Labels(v1alpha1.ComponentWebhook)},
	} {
		t.Run(name, func(t *testing.T) {
			w := newWorld(t, installed(t), &corev1.Secret{ObjectMeta: metav1.ObjectMeta{Namespace: ownNamespace, Name: Secret, Labels: c.labels}})
			w.r.Client = uncached{w.api}
			before := w.secret()
			result, err := w.r.Reconcile(t.Context(), ctrl.Request{})
			if c.want == "" && (err != nil || result.RequeueAfter != kube.StaleRequeue) || c.want != "" && (err == nil || !strings.Contains(err.Error(), c.want)) {
				t.Errorf("%s: got %v, %v", c.reason, result, err)
			}
			if diff := cmp.Diff(before, w.secret()); diff != "" {
				t.Errorf("%s:\n%s", c.reason, diff)
			}
		})
	}
}

func TestBundleOfCertManager(t *testing.T) {
	configuration := installed(t)
	configuration.Annotations = map[string]string{"cert-manager.io/inject-ca-from": "raytls-system/raytls-webhook"}
	w := newWorld(t, configuration)
	w.reconcile()
	w.active(v1alpha1.ReasonAdmissionPending)
	w.get(configuration, "", Configuration)
	for i := range configuration.Webhooks {
		configuration.Webhooks[i].ClientConfig.CABundle = []byte("theirs")
	}
	if err := w.api.Update(t.Context(), configuration); err != nil {
		t.Fatal(err)
	}
	w.reconcile()
	w.active(v1alpha1.ReasonAdmissionActive)
	if w.bundle() != "theirs" {
		t.Error("their caBundle was changed")
	}
	var secrets corev1.SecretList
	if err := w.api.List(t.Context(), &secrets); err != nil || len(secrets.Items) > 0 {
		t.Errorf("an authority was made that nobody serves under: %v", err)
	}
}

// TestPlatformsRequirementsStay is about AKS' admissions enforcer, which adds two requirements to every webhook, again after
// each write that takes them out.
func TestPlatformsRequirementsStay(t *testing.T) {
	theirs := []metav1.LabelSelectorRequirement{
		{Key: "control-plane", Operator: metav1.LabelSelectorOpNotIn, Values: []string{"true"}},
		{Key: "kubernetes.azure.com/managedby", Operator: metav1.LabelSelectorOpNotIn, Values: []string{"aks"}},
	}
	for name, enforced := range map[string]func(ours ...metav1.LabelSelectorRequirement) []metav1.LabelSelectorRequirement{
		"before": func(ours ...metav1.LabelSelectorRequirement) []metav1.LabelSelectorRequirement {
			return slices.Concat(theirs, ours)
		},
		"after": func(ours ...metav1.LabelSelectorRequirement) []metav1.LabelSelectorRequirement {
			return slices.Concat(ours, theirs)
		},
	} {
		t.Run(name, func(t *testing.T) {
			w := newWorld(t, installed(t))
			w.reconcile()
			configuration := &admissionregistrationv1.MutatingWebhookConfiguration{}
			w.get(configuration, "", Configuration)
			for i := range configuration.Webhooks {
				var has []metav1.LabelSelectorRequirement
				if s := configuration.Webhooks[i].NamespaceSelector; s != nil {
					has = s.MatchExpressions
				}
				configuration.Webhooks[i].NamespaceSelector = selecting(enforced(has...)...)
			}
			if err := w.api.Update(t.Context(), configuration); err != nil {
				t.Fatal(err)
			}
			w.reconcile()
			w.active(v1alpha1.ReasonAdmissionActive)
			now := &admissionregistrationv1.MutatingWebhookConfiguration{}
			w.get(now, "", Configuration)
			if diff := cmp.Diff(configuration, now); diff != "" {
				t.Errorf("the operator writes what the platform would write back:\n%s", diff)
			}
			if err := w.api.Create(t.Context(), &v1alpha1.RayTLSPolicy{ObjectMeta: metav1.ObjectMeta{Namespace: "b", Name: "p"}}); err != nil {
				t.Fatal(err)
			}
			w.reconcile()
			w.active(v1alpha1.ReasonAdmissionActive)
			w.get(now, "", Configuration)
			if diff := cmp.Diff(selecting(enforced(in("a", "b"))...), now.Webhooks[0].NamespaceSelector); diff != "" {
				t.Errorf("a namespace more:\n%s", diff)
			}
		})
	}
}

func TestAuthorityIsMadeBeforeTheConfigurationIsInstalled(t *testing.T) {
	w := newWorld(t)
	w.reconcile()
	w.active(v1alpha1.ReasonAdmissionNotInstalled)
	w.authority()
}

func TestCondition(t *testing.T) {
	active := view{read: true, installed: true, asked: true, trusted: true, selector: selecting(in("a"))}
	for name, c := range map[string]struct {
		reason  string
		change  func(v *view)
		status  metav1.ConditionStatus
		want    string
		message string
	}{
		"active":           {reason: "API servers ask and trust", status: metav1.ConditionTrue, want: v1alpha1.ReasonAdmissionActive},
		"not read":         {reason: "nothing is known", change: func(v *view) { *v = view{} }, status: metav1.ConditionUnknown, want: v1alpha1.ReasonAdmissionPending},
		"not installed":    {reason: "nobody asks", change: func(v *view) { v.installed = false }, status: metav1.ConditionFalse, want: v1alpha1.ReasonAdmissionNotInstalled, message: webhookName},
		"no rules":         {reason: "API servers ask about nothing", change: func(v *view) { v.asked = false }, status: metav1.ConditionFalse, want: v1alpha1.ReasonAdmissionPending, message: "rules"},
		"not trusted":      {reason: "API servers refuse the certificate", change: func(v *view) { v.trusted = false }, status: metav1.ConditionFalse, want: v1alpha1.ReasonAdmissionPending, message: "caBundle"},
		"not listed":       {reason: "API servers do not ask", change: func(v *view) { v.selector = selecting(in("b")) }, status: metav1.ConditionFalse, want: v1alpha1.ReasonAdmissionPending, message: "namespaceSelector"},
		"narrowed":         {reason: "labels of namespaces are not read", change: func(v *view) { v.selector = selecting(in("a"), opted()) }, status: metav1.ConditionUnknown, want: v1alpha1.ReasonAdmissionNarrowed, message: "namespaceSelector"},
		"differs":          {reason: "the field is named", change: func(v *view) { v.differs = "failurePolicy" }, status: metav1.ConditionUnknown, want: v1alpha1.ReasonAdmissionNarrowed, message: "failurePolicy"},
		"differs, to come": {reason: "it is not listed whatever the rest says", change: func(v *view) { v.differs, v.selector = "rules", selecting(opted(), in("b")) }, status: metav1.ConditionFalse, want: v1alpha1.ReasonAdmissionPending},
	} {
		t.Run(name, func(t *testing.T) {
			r := &Reconciler{Namespace: ownNamespace, found: active}
			if c.change != nil {
				c.change(&r.found)
			}
			got := r.Condition("a")
			if got.Type != v1alpha1.ConditionAdmissionActive || got.Status != c.status || got.Reason != c.want || !strings.Contains(got.Message, c.message) {
				t.Errorf("%s: got %+v", c.reason, got)
			}
			if own := r.Condition(ownNamespace); own.Reason != v1alpha1.ReasonAdmissionOff || own.Status != metav1.ConditionFalse {
				t.Errorf("the operator's own namespace: got %+v", own)
			}
		})
	}
}

func TestChangesAreTold(t *testing.T) {
	w := newWorld(t, installed(t))
	told := map[string]int{}
	w.r.wake = append(w.r.wake, func(namespace string) { told[namespace]++ })
	w.reconcile()
	if told["a"] == 0 || len(told) != 1 {
		t.Errorf("told %v", told)
	}
	clear(told)
	w.reconcile()
	if len(told) != 0 {
		t.Errorf("at rest, told %v", told)
	}
}
