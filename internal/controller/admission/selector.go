package admission

import (
	"slices"
	"strings"

	admissionregistrationv1 "k8s.io/api/admissionregistration/v1"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/raytls/raytls/api/v1alpha1"
	"github.com/raytls/raytls/internal/controller/raycluster"
)

// reach is the namespaces whose RayClusters are the webhook's business, sorted: those with a policy, and those with a cluster
// that has an authority, whose injection is carried forward also without a policy. Authorities are kept where nobody in those
// namespaces can write, unlike what clusters carry. The operator's own namespace is none: it must be able to start when its
// webhook is down.
func reach(policies []v1alpha1.RayTLSPolicy, authorities []corev1.Secret, clusters map[string]bool, own string) []string {
	set := map[string]bool{}
	for i := range policies {
		set[policies[i].Namespace] = true
	}
	for i := range authorities {
		cluster := authorities[i].Annotations[v1alpha1.AnnotationCluster]
		if namespace, _, found := strings.Cut(cluster, "/"); found && clusters[cluster] {
			set[namespace] = true
		}
	}
	delete(set, own)
	out := make([]string, 0, len(set))
	for namespace := range set {
		out = append(out, namespace)
	}
	slices.Sort(out)
	return out
}

// requirement is the part of a namespaceSelector that is the operator's. An In of nothing is invalid; every namespace has
// the label, so that it does not exist fits none.
func requirement(namespaces []string) metav1.LabelSelectorRequirement {
	if len(namespaces) == 0 {
		return metav1.LabelSelectorRequirement{Key: corev1.LabelMetadataName, Operator: metav1.LabelSelectorOpDoesNotExist}
	}
	return metav1.LabelSelectorRequirement{Key: corev1.LabelMetadataName, Operator: metav1.LabelSelectorOpIn, Values: namespaces}
}

// selector is a namespaceSelector that reaches these namespaces. What an administrator narrowed it by is kept.
func selector(has *metav1.LabelSelector, namespaces []string) *metav1.LabelSelector {
	out := &metav1.LabelSelector{}
	if has != nil {
		out = has.DeepCopy()
	}
	out.MatchExpressions = slices.DeleteFunc(out.MatchExpressions, ours)
	out.MatchExpressions = slices.Insert(out.MatchExpressions, 0, requirement(namespaces))
	return out
}

func ours(r metav1.LabelSelectorRequirement) bool { return r.Key == corev1.LabelMetadataName }

// reaches says whether a namespaceSelector takes the namespace in. Known is false where that depends on labels of the
// namespace that are not read.
func reaches(has *metav1.LabelSelector, namespace string) (in, known bool) {
	if has == nil {
		return true, true
	}
	in, known = true, len(has.MatchLabels) == 0
	for _, r := range has.MatchExpressions {
		switch {
		case !ours(r):
			known = false
		case r.Operator != metav1.LabelSelectorOpIn || !slices.Contains(r.Values, namespace):
			return false, true
		}
	}
	return in, known
}

// narrowed says whether a webhook is one whose namespaceSelector the operator keeps: one for Ray's objects.
func narrowed(webhook *admissionregistrationv1.MutatingWebhook) bool {
	return slices.ContainsFunc(webhook.Rules, func(r admissionregistrationv1.RuleWithOperations) bool {
		return slices.Contains(r.APIGroups, raycluster.RayClusterKind().Group)
	})
}
