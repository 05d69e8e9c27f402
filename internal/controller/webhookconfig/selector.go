package webhookconfig

import (
	"slices"
	"strings"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/raytls/raytls/api/v1alpha1"
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

// selector is a namespaceSelector that reaches these namespaces. The requirements of administrators and platforms are kept:
// a platform that adds its own would add them as often as they are removed.
func selector(has *metav1.LabelSelector, namespaces []string) *metav1.LabelSelector {
	out := &metav1.LabelSelector{}
	if has != nil {
		out = has.DeepCopy()
	}
	out.MatchExpressions = slices.DeleteFunc(out.MatchExpressions, ours)
	out.MatchExpressions = slices.Insert(out.MatchExpressions, 0, requirement(namespaces))
	return out
}

// ours reports whether a requirement is the operator's: one that lists namespaces, or says that there are none.
func ours(r metav1.LabelSelectorRequirement) bool {
	return r.Key == corev1.LabelMetadataName && r.Operator != metav1.LabelSelectorOpNotIn
}

// reaches reports whether a namespaceSelector lists the namespace, and whether it selects by nothing else that could leave
// the namespace out. The labels of namespaces are not read.
func reaches(has *metav1.LabelSelector, namespace string) (listed, only bool) {
	if has == nil {
		return true, true
	}
	listed, only = true, len(has.MatchLabels) == 0
	for _, r := range has.MatchExpressions {
		switch {
		case ours(r):
			listed = listed && r.Operator == metav1.LabelSelectorOpIn && slices.Contains(r.Values, namespace)
		case r.Key == corev1.LabelMetadataName:
			only = only && !slices.Contains(r.Values, namespace)
		case !platforms(r):
			only = false
		}
	}
	return listed, only
}

// platforms reports whether a requirement is one that AKS adds to every webhook, to keep the webhook from its own namespaces.
// No RayCluster of a user is in one of those.
func platforms(r metav1.LabelSelectorRequirement) bool {
	leavesOut := r.Operator == metav1.LabelSelectorOpNotIn || r.Operator == metav1.LabelSelectorOpDoesNotExist
	return r.Key == "control-plane" && leavesOut ||
		r.Key == "kubernetes.azure.com/managedby" && r.Operator == metav1.LabelSelectorOpNotIn && slices.Equal(r.Values, []string{"aks"})
}
