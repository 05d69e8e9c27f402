package webhookconfig

import (
	"net/url"

	admissionregistrationv1 "k8s.io/api/admissionregistration/v1"
	apiequality "k8s.io/apimachinery/pkg/api/equality"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/utils/ptr"
)

const (
	// webhookName is the name of the webhook for RayClusters in the configuration.
	webhookName = "rayclusters-in-namespaces-with-a-raytlspolicy.raytls.io"
	servicePath = "/rayclusters/refused-while-the-raytls-operator-is-down/see-its-pods"
	// asked is the condition under which the API server asks the webhook.
	asked = "request.operation == 'CREATE' || " +
		"object.?spec.?headGroupSpec.?template != oldObject.?spec.?headGroupSpec.?template || " +
		"object.?spec.?autoscalerOptions != oldObject.?spec.?autoscalerOptions || " +
		"object.?spec.?enableInTreeAutoscaling != oldObject.?spec.?enableInTreeAutoscaling || " +
		"object.?spec.?workerGroupSpecs.orValue([]).map(g, g.?groupName) != oldObject.?spec.?workerGroupSpecs.orValue([]).map(g, g.?groupName) || " +
		"object.?spec.?workerGroupSpecs.orValue([]).map(g, g.?template) != oldObject.?spec.?workerGroupSpecs.orValue([]).map(g, g.?template) || " +
		"object.metadata.?annotations['raytls.io/edit'] != oldObject.metadata.?annotations['raytls.io/edit']"
)

// rules select what the webhook for RayClusters is asked about. The operator adds them: installed without rules, the webhook is
// asked about nothing until a namespaceSelector says where, and no tool that applies the manifest again takes that selector away.
func rules() []admissionregistrationv1.RuleWithOperations {
	return []admissionregistrationv1.RuleWithOperations{{
		Operations: []admissionregistrationv1.OperationType{admissionregistrationv1.Create, admissionregistrationv1.Update},
		Rule: admissionregistrationv1.Rule{
			APIGroups: []string{"ray.io"}, APIVersions: []string{"v1"}, Resources: []string{"rayclusters"}, Scope: new(admissionregistrationv1.NamespacedScope),
		},
	}}
}

// shipped is the webhook for RayClusters as it works for an operator in a namespace, but for caBundle and namespaceSelector. The other webhook of the configuration only says early what a policy's conditions say, so it bears on
// no RayCluster.
func shipped(namespace string) *admissionregistrationv1.MutatingWebhook {
	return &admissionregistrationv1.MutatingWebhook{
		Name:                    webhookName,
		AdmissionReviewVersions: []string{"v1"},
		ClientConfig: admissionregistrationv1.WebhookClientConfig{Service: &admissionregistrationv1.ServiceReference{
			Namespace: namespace, Name: "raytls-webhook", Path: new(servicePath), Port: new(int32(443)),
		}},
		MatchPolicy:        new(admissionregistrationv1.Equivalent),
		Rules:              rules(),
		ObjectSelector:     &metav1.LabelSelector{},
		MatchConditions:    []admissionregistrationv1.MatchCondition{{Name: "templates-or-order-change", Expression: asked}},
		FailurePolicy:      new(admissionregistrationv1.Fail),
		ReinvocationPolicy: new(admissionregistrationv1.IfNeededReinvocationPolicy),
		SideEffects:        new(admissionregistrationv1.SideEffectClassNone),
		TimeoutSeconds:     new(int32(10)),
	}
}

// difference names the first field in which a webhook differs from the shipped one; empty for none. Any of them can let a
// RayCluster pass without the webhook's changes.
func difference(has, want *admissionregistrationv1.MutatingWebhook) string {
	objects := ptr.Deref(has.ObjectSelector, metav1.LabelSelector{}) // the API server's default
	service := ptr.Deref(has.ClientConfig.Service, admissionregistrationv1.ServiceReference{})
	// A URL with the webhook's path may stand for the Service, where the webhook runs outside the cluster: nobody without the
	// authority's key can answer there.
	if has.ClientConfig.URL != nil {
		to, err := url.Parse(*has.ClientConfig.URL)
		if err != nil || to.Path != servicePath {
			return "clientConfig.url"
		}
		service = *want.ClientConfig.Service
	}
	for _, field := range []struct {
		name      string
		has, want any
	}{
		{"admissionReviewVersions", has.AdmissionReviewVersions, want.AdmissionReviewVersions},
		{"rules", has.Rules, want.Rules},
		{"matchPolicy", has.MatchPolicy, want.MatchPolicy},
		{"matchConditions", has.MatchConditions, want.MatchConditions},
		{"objectSelector", objects, *want.ObjectSelector},
		{"failurePolicy", has.FailurePolicy, want.FailurePolicy},
		{"reinvocationPolicy", has.ReinvocationPolicy, want.ReinvocationPolicy},
		{"sideEffects", has.SideEffects, want.SideEffects},
		{"timeoutSeconds", has.TimeoutSeconds, want.TimeoutSeconds},
		{"clientConfig.service.namespace", service.Namespace, want.ClientConfig.Service.Namespace},
		{"clientConfig.service.name", service.Name, want.ClientConfig.Service.Name},
		{"clientConfig.service.path", service.Path, want.ClientConfig.Service.Path},
		{"clientConfig.service.port", service.Port, want.ClientConfig.Service.Port},
	} {
		if !apiequality.Semantic.DeepEqual(field.has, field.want) {
			return field.name
		}
	}
	return ""
}
