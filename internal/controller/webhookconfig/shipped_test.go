package webhookconfig

import (
	"os"
	"reflect"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	admissionregistrationv1 "k8s.io/api/admissionregistration/v1"
	"sigs.k8s.io/yaml"

	"github.com/raytls/raytls/api/v1alpha1"
	"github.com/raytls/raytls/internal/webhook"
)

const ownNamespace = "raytls-system"

func installed(t *testing.T) *admissionregistrationv1.MutatingWebhookConfiguration {
	t.Helper()
	text, err := os.ReadFile("../../../charts/raytls/files/webhook.yaml")
	if err != nil {
		t.Fatal(err)
	}
	configuration := &admissionregistrationv1.MutatingWebhookConfiguration{}
	if err := yaml.UnmarshalStrict(text, configuration); err != nil {
		t.Fatal(err)
	}
	return configuration
}

func TestShippedIsWhatIsInstalled(t *testing.T) {
	configuration := installed(t)
	want := shipped(ownNamespace)
	want.ObjectSelector = nil // the API server's default
	want.Rules = nil          // the operator adds them, and the namespaces
	if diff := cmp.Diff(want, &configuration.Webhooks[0]); diff != "" {
		t.Errorf("the chart's webhook differs (-shipped +installed):\n%s", diff)
	}
	if configuration.Name != Configuration {
		t.Errorf("the configuration is named %s", configuration.Name)
	}
	if !strings.Contains(asked, "'"+v1alpha1.AnnotationEdit+"'") {
		t.Errorf("the webhook is not asked about a change of %s", v1alpha1.AnnotationEdit)
	}
	if servicePath != webhook.Path {
		t.Errorf("RayClusters are sent to %s, and answered at %s", servicePath, webhook.Path)
	}
	if path := *configuration.Webhooks[1].ClientConfig.Service.Path; path != webhook.PolicyPath {
		t.Errorf("policies are sent to %s, and answered at %s", path, webhook.PolicyPath)
	}
}

func TestDifference(t *testing.T) {
	type changed = *admissionregistrationv1.MutatingWebhook
	for name, c := range map[string]struct {
		reason string
		change func(w changed)
		want   string
	}{
		"as shipped":            {reason: "everything is the same", change: func(changed) {}},
		"the operator's fields": {reason: "the operator keeps them", change: func(w changed) { w.ClientConfig.CABundle, w.NamespaceSelector = []byte("ca"), selecting(in("a")) }},
		"no object selector":    {reason: "the default selects everything", change: func(w changed) { w.ObjectSelector = nil }},
		"by objects' labels":    {reason: "a cluster without them passes by", change: func(w changed) { w.ObjectSelector.MatchLabels = map[string]string{"opt": "in"} }, want: "objectSelector"},
		"a condition more": {reason: "a cluster that does not meet it passes by", change: func(w changed) {
			w.MatchConditions = append(w.MatchConditions, admissionregistrationv1.MatchCondition{Name: "mine", Expression: "false"})
		}, want: "matchConditions"},
		"no condition":      {reason: "scaling depends on the webhook then", change: func(w changed) { w.MatchConditions = nil }, want: "matchConditions"},
		"another condition": {reason: "the name alone says nothing", change: func(w changed) { w.MatchConditions[0].Expression = "false" }, want: "matchConditions"},
		"only created":      {reason: "an update can take the injection out", change: func(w changed) { w.Rules[0].Operations = w.Rules[0].Operations[:1] }, want: "rules"},
		"another version":   {reason: "v1 is what KubeRay stores", change: func(w changed) { w.Rules[0].APIVersions = []string{"v1alpha1"} }, want: "rules"},
		"exact":             {reason: "another version passes by", change: func(w changed) { w.MatchPolicy = new(admissionregistrationv1.Exact) }, want: "matchPolicy"},
		"ignored":           {reason: "a cluster starts in plaintext while the webhook is down", change: func(w changed) { w.FailurePolicy = new(admissionregistrationv1.Ignore) }, want: "failurePolicy"},
		"never asked twice": {reason: "another webhook can take the injection out", change: func(w changed) { w.ReinvocationPolicy = new(admissionregistrationv1.NeverReinvocationPolicy) }, want: "reinvocationPolicy"},
		"side effects":      {reason: "a dry run is refused", change: func(w changed) { w.SideEffects = new(admissionregistrationv1.SideEffectClassSome) }, want: "sideEffects"},
		"impatient":         {reason: "a request fails before it is answered", change: func(w changed) { w.TimeoutSeconds = new(int32(1)) }, want: "timeoutSeconds"},
		"another review":    {reason: "the webhook answers v1", change: func(w changed) { w.AdmissionReviewVersions = []string{"v1beta1", "v1"} }, want: "admissionReviewVersions"},
		"another namespace": {reason: "somebody else answers", change: func(w changed) { w.ClientConfig.Service.Namespace = "elsewhere" }, want: "clientConfig.service.namespace"},
		"another service":   {reason: "somebody else answers", change: func(w changed) { w.ClientConfig.Service.Name = "elsewhere" }, want: "clientConfig.service.name"},
		"another path":      {reason: "nobody answers", change: func(w changed) { w.ClientConfig.Service.Path = nil }, want: "clientConfig.service.path"},
		"another port":      {reason: "nobody answers", change: func(w changed) { w.ClientConfig.Service.Port = new(int32(1)) }, want: "clientConfig.service.port"},
		"a URL": {reason: "the webhook runs outside the cluster", change: func(w changed) {
			w.ClientConfig.Service, w.ClientConfig.URL = nil, new("https://127.0.0.1:9443"+servicePath)
		}},
		"a URL with another path": {reason: "nobody answers", change: func(w changed) {
			w.ClientConfig.Service, w.ClientConfig.URL = nil, new("https://127.0.0.1:9443/")
		}, want: "clientConfig.url"},
		"nowhere": {reason: "nobody answers", change: func(w changed) { w.ClientConfig.Service = nil }, want: "clientConfig.service.namespace"},
	} {
		t.Run(name, func(t *testing.T) {
			has := shipped(ownNamespace)
			c.change(has)
			if got := difference(has, shipped(ownNamespace)); got != c.want {
				t.Errorf("%s: got %q, want %q", c.reason, got, c.want)
			}
		})
	}
}

// TestDifferenceLooksAtEveryField fails where Kubernetes adds a field to webhooks.
func TestDifferenceLooksAtEveryField(t *testing.T) {
	// Name is how the webhook is found, and reaches is for NamespaceSelector. An absent ObjectSelector is an empty one.
	elsewhere := map[string]bool{"Name": true, "NamespaceSelector": true, "ObjectSelector": true}
	fields := reflect.TypeFor[admissionregistrationv1.MutatingWebhook]()
	for i := range fields.NumField() {
		has := shipped(ownNamespace)
		reflect.ValueOf(has).Elem().Field(i).SetZero()
		if difference(has, shipped(ownNamespace)) == "" != elsewhere[fields.Field(i).Name] {
			t.Errorf("without %s: got %q", fields.Field(i).Name, difference(has, shipped(ownNamespace)))
		}
	}
	if got, want := fields.NumField(), 12; got != want {
		t.Errorf("a webhook has %d fields instead of %d; see that difference compares them", got, want)
	}
}
