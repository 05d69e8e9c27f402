package admission

import (
	"slices"
	"time"

	admissionregistrationv1 "k8s.io/api/admissionregistration/v1"

	"github.com/raytls/raytls/api/v1alpha1"
	"github.com/raytls/raytls/internal/webhook/serving"
)

// view is what the configuration, as it was read last, means for namespaces.
type view struct {
	// read says that it was read at all.
	read bool
	// installed says that there are webhooks for Ray's objects; trusted that API servers take this replica's certificate.
	installed, trusted bool
	selectors          []reacher
	// namespaces are those that the webhook is to reach.
	namespaces []string
}

type reacher func(namespace string) (in, known bool)

// reason says whether and why a namespace's RayClusters go through the webhook.
func (v *view) reason(namespace string) string {
	switch {
	case !v.read:
		return v1alpha1.ReasonAdmissionPending
	case !v.installed:
		return v1alpha1.ReasonAdmissionNotInstalled
	case !v.trusted:
		return v1alpha1.ReasonAdmissionPending
	}
	reason := v1alpha1.ReasonAdmissionActive
	for _, selects := range v.selectors {
		in, known := selects(namespace)
		switch {
		case !in:
			return v1alpha1.ReasonAdmissionPending
		case !known:
			reason = v1alpha1.ReasonAdmissionNarrowed
		}
	}
	return reason
}

// Message says what a reason of the condition AdmissionActive means.
func Message(reason string) string {
	switch reason {
	case v1alpha1.ReasonAdmissionActive:
		return "RayClusters of this namespace go through the operator's webhook: they have TLS from their first pod on"
	case v1alpha1.ReasonAdmissionOff:
		return "the operator admits no RayClusters here: this is its own namespace, or it was started without an address for admission requests"
	case v1alpha1.ReasonAdmissionNotInstalled:
		return "MutatingWebhookConfiguration " + Configuration + " does not exist; RayClusters are injected after they were created, and their first pods are replaced"
	case v1alpha1.ReasonAdmissionNarrowed:
		return "MutatingWebhookConfiguration " + Configuration + " selects by more than the operator put there, so it does not count on its webhook here"
	default:
		return "MutatingWebhookConfiguration " + Configuration + " does not send this namespace's RayClusters to the operator yet, or does not trust its certificate yet"
	}
}

// Active says whether RayClusters of the namespace go through the webhook, as far as this replica knows: the configuration
// exists, its selector takes the namespace in, and API servers trust the certificate that is served here. Why is the
// reason of the condition AdmissionActive.
func (r *Reconciler) Active(namespace string) (ok bool, why string) {
	if r.Off || namespace == r.Namespace {
		return false, v1alpha1.ReasonAdmissionOff
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	why = r.found.reason(namespace)
	return why == v1alpha1.ReasonAdmissionActive, why
}

// OnChange has a function called with each namespace for which Active changed. It must not block, and may call Active.
func (r *Reconciler) OnChange(wake func(namespace string)) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.wake = append(r.wake, wake)
}

// observe keeps what was found, and tells of what changed.
func (r *Reconciler) observe(st *state) {
	found := look(st.configuration, st.namespaces, r.Certificates, st.now)
	r.mu.Lock()
	before := r.found
	r.found = found
	wake := slices.Clone(r.wake)
	r.mu.Unlock()
	namespaces := slices.Concat(before.namespaces, found.namespaces)
	slices.Sort(namespaces)
	for _, namespace := range slices.Compact(namespaces) {
		if before.reason(namespace) == found.reason(namespace) {
			continue
		}
		for _, call := range wake {
			call(namespace)
		}
	}
}

// look reads the configuration; nil for none.
func look(configuration *admissionregistrationv1.MutatingWebhookConfiguration, namespaces []string, certificates *serving.Certificates, now time.Time) view {
	v := view{read: true, namespaces: namespaces, trusted: true}
	if configuration == nil {
		return v
	}
	for i := range configuration.Webhooks {
		webhook := &configuration.Webhooks[i]
		if !narrowed(webhook) {
			continue
		}
		v.installed = true
		v.trusted = v.trusted && certificates.Trusted(webhook.ClientConfig.CABundle, host(&webhook.ClientConfig), now) == nil
		has, others := webhook.NamespaceSelector.DeepCopy(), narrowedByOthers(webhook)
		v.selectors = append(v.selectors, func(namespace string) (in, known bool) {
			in, known = reaches(has, namespace)
			return in, known && !others
		})
	}
	return v
}

// matchCondition is the name of the installed webhook's only one.
const matchCondition = "templates-or-record-change"

// narrowedByOthers says whether an administrator has some clusters bypass the webhook by more than the namespace.
func narrowedByOthers(webhook *admissionregistrationv1.MutatingWebhook) bool {
	objects := webhook.ObjectSelector
	return objects != nil && len(objects.MatchLabels)+len(objects.MatchExpressions) > 0 ||
		slices.ContainsFunc(webhook.MatchConditions, func(c admissionregistrationv1.MatchCondition) bool { return c.Name != matchCondition })
}

// listed says whether the webhook reaches the namespace, or is about to.
func (r *Reconciler) listed(namespace string) bool {
	r.mu.Lock()
	defer r.mu.Unlock()
	_, found := slices.BinarySearch(r.found.namespaces, namespace)
	return found
}
