package admission

import (
	"os"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	admissionregistrationv1 "k8s.io/api/admissionregistration/v1"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"sigs.k8s.io/yaml"

	"github.com/raytls/raytls/api/v1alpha1"
	"github.com/raytls/raytls/internal/jsonpatch"
	"github.com/raytls/raytls/internal/record"
	"github.com/raytls/raytls/internal/webhook"
)

const label = "kubernetes.io/metadata.name"

func in(namespaces ...string) metav1.LabelSelectorRequirement {
	return metav1.LabelSelectorRequirement{Key: label, Operator: metav1.LabelSelectorOpIn, Values: namespaces}
}

func nowhere() metav1.LabelSelectorRequirement {
	return metav1.LabelSelectorRequirement{Key: label, Operator: metav1.LabelSelectorOpDoesNotExist}
}

func opted() metav1.LabelSelectorRequirement {
	return metav1.LabelSelectorRequirement{Key: "tier", Operator: metav1.LabelSelectorOpNotIn, Values: []string{"system"}}
}

func selecting(of ...metav1.LabelSelectorRequirement) *metav1.LabelSelector {
	return &metav1.LabelSelector{MatchExpressions: of}
}

func authority(cluster string) corev1.Secret {
	return corev1.Secret{ObjectMeta: metav1.ObjectMeta{Annotations: map[string]string{v1alpha1.AnnotationCluster: cluster}}}
}

func TestReach(t *testing.T) {
	policy := func(namespace string) v1alpha1.RayTLSPolicy {
		return v1alpha1.RayTLSPolicy{ObjectMeta: metav1.ObjectMeta{Namespace: namespace}}
	}
	clusters := map[string]bool{"a/c": true, "own/c": true, "b/plain": true}
	for name, c := range map[string]struct {
		reason      string
		policies    []v1alpha1.RayTLSPolicy
		authorities []corev1.Secret
		want        []string
	}{
		"nothing":        {reason: "nowhere", want: []string{}},
		"policies":       {reason: "each namespace once, sorted", policies: []v1alpha1.RayTLSPolicy{policy("b"), policy("a"), policy("b")}, want: []string{"a", "b"}},
		"the operator's": {reason: "it must be able to start when its webhook is down", policies: []v1alpha1.RayTLSPolicy{policy("own")}, authorities: []corev1.Secret{authority("own/c")}, want: []string{}},
		"an authority":   {reason: "its cluster's injection is carried forward without a policy", authorities: []corev1.Secret{authority("a/c")}, want: []string{"a"}},
		"no cluster":     {reason: "the authority of one that is gone goes too", authorities: []corev1.Secret{authority("b/c")}, want: []string{}},
		"no annotation":  {reason: "it is nobody's", authorities: []corev1.Secret{authority("")}, want: []string{}},
	} {
		t.Run(name, func(t *testing.T) {
			if diff := cmp.Diff(c.want, reach(c.policies, c.authorities, clusters, "own")); diff != "" {
				t.Errorf("%s:\n%s", c.reason, diff)
			}
		})
	}
}

func TestPatch(t *testing.T) {
	rays := []admissionregistrationv1.RuleWithOperations{{Rule: admissionregistrationv1.Rule{APIGroups: []string{"ray.io"}, Resources: []string{"rayclusters"}}}}
	webhook := func(s *metav1.LabelSelector, bundle string) admissionregistrationv1.MutatingWebhook {
		return admissionregistrationv1.MutatingWebhook{
			Rules: rays, NamespaceSelector: s, ClientConfig: admissionregistrationv1.WebhookClientConfig{CABundle: []byte(bundle)},
		}
	}
	policies := admissionregistrationv1.MutatingWebhook{NamespaceSelector: &metav1.LabelSelector{}, ClientConfig: admissionregistrationv1.WebhookClientConfig{CABundle: []byte("ca")}}
	selects := func(i string, s *metav1.LabelSelector) jsonpatch.Operation {
		return jsonpatch.Operation{Op: "add", Path: "/webhooks/" + i + "/namespaceSelector", Value: s}
	}
	for name, c := range map[string]struct {
		reason     string
		webhooks   []admissionregistrationv1.MutatingWebhook
		namespaces []string
		bundle     string
		want       []jsonpatch.Operation
	}{
		"at rest":            {reason: "nothing is written", webhooks: []admissionregistrationv1.MutatingWebhook{webhook(selecting(in("a", "b")), "ca")}, namespaces: []string{"a", "b"}, bundle: "ca"},
		"at rest, nowhere":   {reason: "nothing is written", webhooks: []admissionregistrationv1.MutatingWebhook{webhook(selecting(nowhere()), "ca")}, bundle: "ca"},
		"a namespace more":   {reason: "it is added", webhooks: []admissionregistrationv1.MutatingWebhook{webhook(selecting(nowhere()), "ca")}, namespaces: []string{"a"}, bundle: "ca", want: []jsonpatch.Operation{selects("0", selecting(in("a")))}},
		"the last one gone":  {reason: "an In of nothing is invalid", webhooks: []admissionregistrationv1.MutatingWebhook{webhook(selecting(in("a")), "ca")}, bundle: "ca", want: []jsonpatch.Operation{selects("0", selecting(nowhere()))}},
		"selector removed":   {reason: "that would be everywhere", webhooks: []admissionregistrationv1.MutatingWebhook{webhook(nil, "ca")}, namespaces: []string{"a"}, bundle: "ca", want: []jsonpatch.Operation{selects("0", selecting(in("a")))}},
		"narrowed":           {reason: "what an administrator added stays", webhooks: []admissionregistrationv1.MutatingWebhook{webhook(selecting(opted(), in("z")), "ca")}, namespaces: []string{"a"}, bundle: "ca", want: []jsonpatch.Operation{selects("0", selecting(in("a"), opted()))}},
		"narrowed, at rest":  {reason: "nothing is written", webhooks: []admissionregistrationv1.MutatingWebhook{webhook(selecting(in("a"), opted()), "ca")}, namespaces: []string{"a"}, bundle: "ca"},
		"excluded by name":   {reason: "the key is the operator's", webhooks: []admissionregistrationv1.MutatingWebhook{webhook(selecting(in("a"), metav1.LabelSelectorRequirement{Key: label, Operator: metav1.LabelSelectorOpNotIn, Values: []string{"a"}}), "ca")}, namespaces: []string{"a"}, bundle: "ca", want: []jsonpatch.Operation{selects("0", selecting(in("a")))}},
		"another authority":  {reason: "it is put right", webhooks: []admissionregistrationv1.MutatingWebhook{webhook(selecting(in("a")), "x")}, namespaces: []string{"a"}, bundle: "ca", want: []jsonpatch.Operation{{Op: "add", Path: "/webhooks/0/clientConfig/caBundle", Value: []byte("ca")}}},
		"somebody else's CA": {reason: "without a bundle of ours it stays", webhooks: []admissionregistrationv1.MutatingWebhook{webhook(selecting(in("a")), "x")}, namespaces: []string{"a"}},
		"not for Ray":        {reason: "only webhooks for Ray's objects are narrowed", webhooks: []admissionregistrationv1.MutatingWebhook{policies, webhook(selecting(nowhere()), "ca")}, namespaces: []string{"a"}, bundle: "ca", want: []jsonpatch.Operation{selects("1", selecting(in("a")))}},
	} {
		t.Run(name, func(t *testing.T) {
			var bundle []byte
			if c.bundle != "" {
				bundle = []byte(c.bundle)
			}
			configuration := &admissionregistrationv1.MutatingWebhookConfiguration{Webhooks: c.webhooks}
			before := configuration.DeepCopy()
			if diff := cmp.Diff(c.want, patch(configuration, c.namespaces, bundle)); diff != "" {
				t.Errorf("%s:\n%s", c.reason, diff)
			}
			if diff := cmp.Diff(before, configuration); diff != "" {
				t.Errorf("what is cached was changed:\n%s", diff)
			}
		})
	}
}

func TestReason(t *testing.T) {
	selects := func(s *metav1.LabelSelector) []reacher {
		return []reacher{func(namespace string) (bool, bool) { return reaches(s, namespace) }}
	}
	for name, c := range map[string]struct {
		reason string
		view   view
		want   string
	}{
		"not read yet":        {reason: "nothing is known", want: v1alpha1.ReasonAdmissionPending},
		"not installed":       {reason: "there is none", view: view{read: true, trusted: true}, want: v1alpha1.ReasonAdmissionNotInstalled},
		"not trusted":         {reason: "API servers would refuse", view: view{read: true, installed: true, selectors: selects(selecting(in("a")))}, want: v1alpha1.ReasonAdmissionPending},
		"not listed":          {reason: "API servers do not ask", view: view{read: true, installed: true, trusted: true, selectors: selects(selecting(in("b")))}, want: v1alpha1.ReasonAdmissionPending},
		"nowhere":             {reason: "API servers do not ask", view: view{read: true, installed: true, trusted: true, selectors: selects(selecting(nowhere()))}, want: v1alpha1.ReasonAdmissionPending},
		"listed":              {reason: "API servers ask and trust", view: view{read: true, installed: true, trusted: true, selectors: selects(selecting(in("a", "b")))}, want: v1alpha1.ReasonAdmissionActive},
		"narrowed":            {reason: "labels of namespaces are not read", view: view{read: true, installed: true, trusted: true, selectors: selects(selecting(in("a"), opted()))}, want: v1alpha1.ReasonAdmissionNarrowed},
		"narrowed, elsewhere": {reason: "it is not listed whatever the rest says", view: view{read: true, installed: true, trusted: true, selectors: selects(selecting(opted(), in("b")))}, want: v1alpha1.ReasonAdmissionPending},
	} {
		t.Run(name, func(t *testing.T) {
			if got := c.view.reason("a"); got != c.want {
				t.Errorf("%s: got %s, want %s", c.reason, got, c.want)
			}
			if Message(c.want) == "" {
				t.Error("every reason has a message")
			}
		})
	}
}

func TestNarrowedByOthers(t *testing.T) {
	condition := func(name string) []admissionregistrationv1.MatchCondition {
		return []admissionregistrationv1.MatchCondition{{Name: name, Expression: "true"}}
	}
	for name, c := range map[string]struct {
		reason  string
		webhook admissionregistrationv1.MutatingWebhook
		want    bool
	}{
		"as installed":         {reason: "nobody bypasses it", webhook: admissionregistrationv1.MutatingWebhook{ObjectSelector: &metav1.LabelSelector{}, MatchConditions: condition(matchCondition)}},
		"by labels of objects": {reason: "a cluster without them bypasses it", webhook: admissionregistrationv1.MutatingWebhook{ObjectSelector: &metav1.LabelSelector{MatchLabels: map[string]string{"opt": "in"}}}, want: true},
		"by a condition":       {reason: "what it means is not known", webhook: admissionregistrationv1.MutatingWebhook{MatchConditions: append(condition(matchCondition), condition("mine")...)}, want: true},
	} {
		if got := narrowedByOthers(&c.webhook); got != c.want {
			t.Errorf("%s: %s: got %t", name, c.reason, got)
		}
	}
	text, err := os.ReadFile("../../../config/webhook/webhook.yaml")
	if err != nil {
		t.Fatal(err)
	}
	var installed admissionregistrationv1.MutatingWebhookConfiguration
	if err := yaml.UnmarshalStrict(text, &installed); err != nil {
		t.Fatal(err)
	}
	if installed.Name != Configuration || !narrowed(&installed.Webhooks[0]) || narrowedByOthers(&installed.Webhooks[0]) {
		t.Error("the installed configuration is not what this package takes for it")
	}
	for _, key := range record.Keys() {
		if short := strings.TrimPrefix(key, "raytls.io/"); !strings.Contains(installed.Webhooks[0].MatchConditions[0].Expression, "'"+short+"'") {
			t.Errorf("the webhook is not asked about a change of %s", key)
		}
	}
	if path := *installed.Webhooks[0].ClientConfig.Service.Path; path != webhook.Path {
		t.Errorf("RayClusters are sent to %s, and answered at %s", path, webhook.Path)
	}
	if path := *installed.Webhooks[1].ClientConfig.Service.Path; path != webhook.PolicyPath {
		t.Errorf("policies are sent to %s, and answered at %s", path, webhook.PolicyPath)
	}
}
