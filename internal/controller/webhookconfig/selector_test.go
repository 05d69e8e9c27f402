package webhookconfig

import (
	"testing"

	"github.com/google/go-cmp/cmp"
	admissionregistrationv1 "k8s.io/api/admissionregistration/v1"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/util/sets"

	"github.com/raytls/raytls/api/v1alpha1"
	"github.com/raytls/raytls/internal/jsonpatch"
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
	clusters := sets.New("a/c", "own/c", "b/plain")
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
	webhook := func(s *metav1.LabelSelector, bundle string) admissionregistrationv1.MutatingWebhook {
		return admissionregistrationv1.MutatingWebhook{
			Name: webhookName, NamespaceSelector: s, Rules: rules(), ClientConfig: admissionregistrationv1.WebhookClientConfig{CABundle: []byte(bundle)},
		}
	}
	installed := webhook(&metav1.LabelSelector{}, "ca")
	installed.Rules = nil
	theirs := webhook(selecting(in("a")), "ca")
	theirs.Rules[0].Operations = theirs.Rules[0].Operations[:1]
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
		"narrowed":           {reason: "what an administrator added stays", webhooks: []admissionregistrationv1.MutatingWebhook{webhook(selecting(opted(), in("z")), "ca")}, namespaces: []string{"a"}, bundle: "ca", want: []jsonpatch.Operation{selects("0", selecting(opted(), in("a")))}},
		"narrowed, at rest":  {reason: "nothing is written", webhooks: []admissionregistrationv1.MutatingWebhook{webhook(selecting(in("a"), opted()), "ca")}, namespaces: []string{"a"}, bundle: "ca"},
		"theirs first":       {reason: "a platform that puts its own first would do so as often as they are moved", webhooks: []admissionregistrationv1.MutatingWebhook{webhook(selecting(opted(), in("a")), "ca")}, namespaces: []string{"a"}, bundle: "ca"},
		"listed twice":       {reason: "the API server asks for none but what all of them list", webhooks: []admissionregistrationv1.MutatingWebhook{webhook(selecting(in("z"), opted(), in("a")), "ca")}, namespaces: []string{"a"}, bundle: "ca", want: []jsonpatch.Operation{selects("0", selecting(in("a"), opted()))}},
		"ours taken out":     {reason: "that would be everywhere", webhooks: []admissionregistrationv1.MutatingWebhook{webhook(selecting(opted()), "ca")}, namespaces: []string{"a"}, bundle: "ca", want: []jsonpatch.Operation{selects("0", selecting(opted(), in("a")))}},
		"excluded by name":   {reason: "platforms add that as often as it is removed", webhooks: []admissionregistrationv1.MutatingWebhook{webhook(selecting(in("a"), metav1.LabelSelectorRequirement{Key: label, Operator: metav1.LabelSelectorOpNotIn, Values: []string{"a"}}), "ca")}, namespaces: []string{"a"}, bundle: "ca"},
		"another authority":  {reason: "it is put right", webhooks: []admissionregistrationv1.MutatingWebhook{webhook(selecting(in("a")), "x")}, namespaces: []string{"a"}, bundle: "ca", want: []jsonpatch.Operation{{Op: "add", Path: "/webhooks/0/clientConfig/caBundle", Value: []byte("ca")}}},
		"somebody else's CA": {reason: "without a bundle of ours it stays", webhooks: []admissionregistrationv1.MutatingWebhook{webhook(selecting(in("a")), "x")}, namespaces: []string{"a"}},
		"installed": {reason: "rules without namespaces would be everywhere", webhooks: []admissionregistrationv1.MutatingWebhook{installed}, namespaces: []string{"a"}, bundle: "ca", want: []jsonpatch.Operation{
			selects("0", selecting(in("a"))), {Op: "add", Path: "/webhooks/0/rules", Value: rules()},
		}},
		"rules of theirs": {reason: "whoever changed them would do so again", webhooks: []admissionregistrationv1.MutatingWebhook{theirs}, namespaces: []string{"a"}, bundle: "ca"},
		"not for Ray":     {reason: "only the webhook for RayClusters is narrowed", webhooks: []admissionregistrationv1.MutatingWebhook{policies, webhook(selecting(nowhere()), "ca")}, namespaces: []string{"a"}, bundle: "ca", want: []jsonpatch.Operation{selects("1", selecting(in("a")))}},
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

func TestReaches(t *testing.T) {
	require := func(key string, operator metav1.LabelSelectorOperator, values ...string) metav1.LabelSelectorRequirement {
		return metav1.LabelSelectorRequirement{Key: key, Operator: operator, Values: values}
	}
	const notIn, absent = metav1.LabelSelectorOpNotIn, metav1.LabelSelectorOpDoesNotExist
	for name, c := range map[string]struct {
		reason       string
		has          *metav1.LabelSelector
		listed, only bool
	}{
		"none":                {reason: "it selects everything", listed: true, only: true},
		"listed":              {reason: "the API server asks", has: selecting(in("a", "b")), listed: true, only: true},
		"not listed":          {reason: "the API server does not ask", has: selecting(in("b")), only: true},
		"nowhere":             {reason: "the API server does not ask", has: selecting(nowhere()), only: true},
		"narrowed":            {reason: "labels of namespaces are not read", has: selecting(in("a"), opted()), listed: true},
		"by a label":          {reason: "labels of namespaces are not read", has: &metav1.LabelSelector{MatchLabels: map[string]string{"a": "b"}, MatchExpressions: []metav1.LabelSelectorRequirement{in("a")}}, listed: true},
		"excluded by name":    {reason: "an administrator left the namespace out", has: selecting(in("a"), require(label, notIn, "a", "c")), listed: true},
		"another is excluded": {reason: "that leaves this one in", has: selecting(in("a"), require(label, notIn, "kube-system")), listed: true, only: true},
		"AKS":                 {reason: "it keeps webhooks from its own namespaces", has: selecting(in("a"), require("control-plane", absent), require("kubernetes.azure.com/managedby", notIn, "aks")), listed: true, only: true},
		"AKS, formerly":       {reason: "it listed values", has: selecting(in("a"), require("control-plane", notIn, "true")), listed: true, only: true},
		"AKS, both":           {reason: "it adds to what it added formerly", has: selecting(require("control-plane", absent), require("control-plane", notIn, "true"), require("kubernetes.azure.com/managedby", notIn, "aks"), in("a")), listed: true, only: true},
		"not AKS' value":      {reason: "a namespace of a user may have this value", has: selecting(in("a"), require("control-plane", notIn, "controller-manager")), listed: true},
		"not AKS":             {reason: "AKS leaves out nobody else", has: selecting(in("a"), require("kubernetes.azure.com/managedby", notIn, "us")), listed: true},
		"AKS' namespaces":     {reason: "AKS does not ask for its own namespaces", has: selecting(in("a"), require("control-plane", metav1.LabelSelectorOpExists)), listed: true},
	} {
		t.Run(name, func(t *testing.T) {
			if listed, only := reaches(c.has, "a"); listed != c.listed || only != c.only {
				t.Errorf("%s: got %t, %t", c.reason, listed, only)
			}
		})
	}
}
