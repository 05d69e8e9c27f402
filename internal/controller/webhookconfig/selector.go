package webhookconfig

import (
	"slices"
	"strings"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/util/sets"
	"k8s.io/utils/ptr"

	"github.com/raytls/raytls/api/v1alpha1"
)

// reach is the namespaces whose RayClusters are the webhook's business, sorted: those with a policy, and those with a cluster
// that has an authority, whose injection is carried forward also without a policy. Authorities are kept where nobody in those
// namespaces can write, unlike what clusters carry. The operator's own namespace is none: it must be able to start when its
// webhook is down.
func reach(policies []v1alpha1.RayTLSPolicy, authorities []corev1.Secret, clusters sets.Set[string], own string) []string {
	out := sets.New[string]()
	for i := range policies {
		out.Insert(policies[i].Namespace)
	}
	for i := range authorities {
		cluster := authorities[i].Annotations[v1alpha1.AnnotationCluster]
		if namespace, _, found := strings.Cut(cluster, "/"); found && clusters.Has(cluster) {
			out.Insert(namespace)
		}
	}
	return sets.List(out.Delete(own))
}

// selector is a namespaceSelector that reaches these namespaces. The requirements of administrators and platforms are kept,
// and so is their order: a platform that adds its own would write as often as they are removed or moved.
func selector(has *metav1.LabelSelector, namespaces []string) *metav1.LabelSelector {
	requirement := metav1.LabelSelectorRequirement{Key: corev1.LabelMetadataName, Operator: metav1.LabelSelectorOpIn, Values: namespaces}
	if len(namespaces) == 0 {
		// An In of nothing is invalid. Every namespace has the label, so this selects none.
		requirement.Operator, requirement.Values = metav1.LabelSelectorOpDoesNotExist, nil
	}
	out := ptr.Deref(has.DeepCopy(), metav1.LabelSelector{})
	at := slices.IndexFunc(out.MatchExpressions, ours)
	if at < 0 {
		at = len(out.MatchExpressions)
	}
	out.MatchExpressions = slices.Insert(slices.DeleteFunc(out.MatchExpressions, ours), at, requirement)
	return &out
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
	without := func(value string) bool {
		return r.Operator == metav1.LabelSelectorOpNotIn && slices.Equal(r.Values, []string{value})
	}
	switch r.Key {
	case "control-plane":
		return r.Operator == metav1.LabelSelectorOpDoesNotExist || without("true")
	case "kubernetes.azure.com/managedby":
		return without("aks")
	}
	return false
}
