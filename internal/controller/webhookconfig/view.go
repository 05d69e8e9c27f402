package webhookconfig

import (
	"fmt"
	"slices"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/raytls/raytls/api/v1alpha1"
	"github.com/raytls/raytls/internal/servingcert"
)

// view is what the configuration, as it was read last, means for namespaces.
type view struct {
	// read reports whether it was read at all.
	read bool
	// installed reports whether there is a webhook for RayClusters, trusted whether API servers trust what it serves.
	installed, trusted bool
	// differs names the field that is not as shipped; empty for none.
	differs  string
	selector *metav1.LabelSelector
	// namespaces are those that the webhook is to reach.
	namespaces []string
}

// answer returns reason and message of the condition AdmissionActive for a namespace.
func (v *view) answer(namespace string) (reason, message string) {
	if !v.read {
		return v1alpha1.ReasonAdmissionPending, "the operator has yet to read MutatingWebhookConfiguration " + Configuration
	}
	if !v.installed {
		return v1alpha1.ReasonAdmissionNotInstalled, fmt.Sprintf(
			"MutatingWebhookConfiguration %s with the webhook %s does not exist; the operator injects RayClusters after their creation and replaces their first pods", Configuration, webhookName)
	}
	if !v.trusted {
		return v1alpha1.ReasonAdmissionPending, fmt.Sprintf("the caBundle of MutatingWebhookConfiguration %s does not hold the webhook's authority yet", Configuration)
	}
	listed, only := reaches(v.selector, namespace)
	if !listed {
		return v1alpha1.ReasonAdmissionPending, fmt.Sprintf("the namespaceSelector of MutatingWebhookConfiguration %s does not list this namespace yet", Configuration)
	}
	differs := v.differs
	if differs == "" && !only {
		differs = "namespaceSelector"
	}
	if differs != "" {
		return v1alpha1.ReasonAdmissionNarrowed, fmt.Sprintf(
			"%s of webhook %s in MutatingWebhookConfiguration %s is not as shipped, so the operator does not rely on the webhook here; apply the shipped configuration", differs, webhookName, Configuration)
	}
	return v1alpha1.ReasonAdmissionActive, "RayClusters of this namespace go through the operator's webhook and have TLS from their first pod on"
}

// answer returns reason and message of the condition AdmissionActive for a namespace, as far as this process knows.
func (r *Reconciler) answer(namespace string) (reason, message string) {
	if namespace == r.Namespace {
		return v1alpha1.ReasonAdmissionOff, "the webhook does not admit RayClusters of the operator's own namespace"
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.found.answer(namespace)
}

// Active reports whether RayClusters of the namespace go through the webhook: the configuration exists and is as shipped, it
// lists the namespace, and API servers trust the webhook's authority. Reason is that of the condition AdmissionActive.
func (r *Reconciler) Active(namespace string) (active bool, reason string) {
	reason, _ = r.answer(namespace)
	return reason == v1alpha1.ReasonAdmissionActive, reason
}

// Condition returns the condition AdmissionActive of a policy in the namespace.
func (r *Reconciler) Condition(namespace string) metav1.Condition {
	condition := metav1.Condition{Type: v1alpha1.ConditionAdmissionActive, Status: metav1.ConditionFalse}
	condition.Reason, condition.Message = r.answer(namespace)
	switch condition.Reason {
	case v1alpha1.ReasonAdmissionActive:
		condition.Status = metav1.ConditionTrue
	case v1alpha1.ReasonAdmissionNarrowed:
		condition.Status = metav1.ConditionUnknown
	case v1alpha1.ReasonAdmissionPending:
		if r.unread() {
			condition.Status = metav1.ConditionUnknown
		}
	}
	return condition
}

// unread reports whether the configuration has not been read since the process started.
func (r *Reconciler) unread() bool {
	r.mu.Lock()
	defer r.mu.Unlock()
	return !r.found.read
}

// OnChange has a function called with each namespace for which Condition changed. It must not block, and may call Active.
func (r *Reconciler) OnChange(wake func(namespace string)) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.wake = append(r.wake, wake)
}

// observe keeps what was found, and tells of what changed.
func (r *Reconciler) observe(st *state) {
	found := observed(st, r.Namespace)
	r.mu.Lock()
	before := r.found
	r.found = found
	wake := slices.Clone(r.wake)
	r.mu.Unlock()
	namespaces := slices.Concat(before.namespaces, found.namespaces)
	slices.Sort(namespaces)
	for _, namespace := range slices.Compact(namespaces) {
		_, was := before.answer(namespace)
		if _, is := found.answer(namespace); is == was {
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
	if st.configuration == nil {
		return v
	}
	elsewhere := bundleElsewhere(st.configuration)
	for i := range st.configuration.Webhooks {
		webhook := &st.configuration.Webhooks[i]
		if webhook.Name != webhookName {
			continue
		}
		bundle := webhook.ClientConfig.CABundle
		v.installed = true
		v.trusted = elsewhere && len(bundle) > 0 || st.authority != nil && servingcert.Holds(bundle, st.authority)
		v.differs = difference(webhook, shipped(own))
		v.selector = webhook.NamespaceSelector.DeepCopy()
	}
	return v
}

// listed reports whether the webhook reaches the namespace, or is about to.
func (r *Reconciler) listed(namespace string) bool {
	r.mu.Lock()
	defer r.mu.Unlock()
	_, found := slices.BinarySearch(r.found.namespaces, namespace)
	return found
}
