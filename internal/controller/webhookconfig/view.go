package webhookconfig

import (
	"fmt"
	"slices"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/util/sets"

	"github.com/raytls/raytls/api/v1alpha1"
	"github.com/raytls/raytls/internal/servingcert"
)

// view is what the configuration, as it was read last, means for namespaces.
type view struct {
	// read reports whether it was read at all.
	read bool
	// installed reports whether there is a webhook for RayClusters, asked whether it has rules, trusted whether API servers trust
	// what it serves.
	installed, asked, trusted bool
	// differs names the field that is not as shipped; empty for none.
	differs  string
	selector *metav1.LabelSelector
	// namespaces are those that the webhook has to reach.
	namespaces []string
}

func condition(status metav1.ConditionStatus, reason, format string, args ...any) metav1.Condition {
	return metav1.Condition{Type: v1alpha1.ConditionAdmissionActive, Status: status, Reason: reason, Message: fmt.Sprintf(format, args...)}
}

// condition is AdmissionActive for a namespace.
func (v *view) condition(namespace string) metav1.Condition {
	listed, only := reaches(v.selector, namespace)
	differs := v.differs
	if differs == "" && !only {
		differs = "namespaceSelector"
	}
	switch {
	case !v.read:
		return condition(metav1.ConditionUnknown, v1alpha1.ReasonAdmissionPending, "the operator has yet to read MutatingWebhookConfiguration %s", Configuration)
	case !v.installed:
		return condition(metav1.ConditionFalse, v1alpha1.ReasonAdmissionNotInstalled,
			"MutatingWebhookConfiguration %s with the webhook %s does not exist; the operator injects RayClusters after their creation and replaces their first pods", Configuration, webhookName)
	case !v.asked:
		return condition(metav1.ConditionFalse, v1alpha1.ReasonAdmissionPending, "webhook %s in MutatingWebhookConfiguration %s has no rules yet; the operator adds them", webhookName, Configuration)
	case !v.trusted:
		return condition(metav1.ConditionFalse, v1alpha1.ReasonAdmissionPending, "the caBundle of MutatingWebhookConfiguration %s does not hold the webhook's authority yet", Configuration)
	case !listed:
		return condition(metav1.ConditionFalse, v1alpha1.ReasonAdmissionPending, "the namespaceSelector of MutatingWebhookConfiguration %s does not list this namespace yet", Configuration)
	case differs != "":
		return condition(metav1.ConditionUnknown, v1alpha1.ReasonAdmissionNarrowed,
			"%s of webhook %s in MutatingWebhookConfiguration %s is not as shipped, so the operator does not rely on the webhook here; apply the shipped configuration", differs, webhookName, Configuration)
	}
	return condition(metav1.ConditionTrue, v1alpha1.ReasonAdmissionActive, "RayClusters of this namespace go through the operator's webhook and have TLS from their first pod on")
}

// Condition returns the condition AdmissionActive of the namespace. It is true if the configuration exists and is as shipped, it
// lists the namespace, and API servers trust the webhook's authority.
func (r *Reconciler) Condition(namespace string) metav1.Condition {
	if namespace == r.Namespace {
		return condition(metav1.ConditionFalse, v1alpha1.ReasonAdmissionOff, "the webhook does not admit RayClusters of the operator's own namespace")
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.found.condition(namespace)
}

// observe keeps what was found, and wakes those who wait for a change.
func (r *Reconciler) observe(st *state) {
	found := observed(st, r.Namespace)
	r.mu.Lock()
	before := r.found
	r.found = found
	wake := slices.Clone(r.wake)
	r.mu.Unlock()
	for namespace := range sets.New(before.namespaces...).Insert(found.namespaces...) {
		if before.condition(namespace) == found.condition(namespace) {
			continue
		}
		for _, call := range wake {
			call(namespace)
		}
	}
}

// observed is the view of what was read.
func observed(st *state, own string) view {
	v := view{read: true, namespaces: st.namespaces}
	for i := range st.configuration.Webhooks {
		webhook := &st.configuration.Webhooks[i]
		if webhook.Name != webhookName {
			continue
		}
		bundle := webhook.ClientConfig.CABundle
		v.installed, v.asked = true, len(webhook.Rules) > 0
		v.trusted = bundleElsewhere(st.configuration) && len(bundle) > 0 || st.authority != nil && servingcert.Holds(bundle, st.authority)
		v.differs = difference(webhook, shipped(own))
		v.selector = webhook.NamespaceSelector.DeepCopy()
	}
	return v
}
