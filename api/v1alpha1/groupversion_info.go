// Package v1alpha1 is the first version of the raytls.io API. It holds the kinds RayTLSPolicy and RayClusterTLS, their
// conditions with every reason, and the defaults of a policy's spec.
// +kubebuilder:object:generate=true
// +kubebuilder:ac:generate=true
// +kubebuilder:ac:output:package=applyconfiguration
// +groupName=raytls.io
package v1alpha1

import (
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/runtime/schema"
)

var (
	// GroupVersion is the group and version of every kind in this package.
	GroupVersion = schema.GroupVersion{Group: "raytls.io", Version: "v1alpha1"}

	// SchemeGroupVersion is GroupVersion, under the name that generated code expects.
	SchemeGroupVersion = GroupVersion

	// SchemeBuilder collects the functions that register this package's kinds.
	SchemeBuilder = runtime.NewSchemeBuilder(addKnownTypes)

	// AddToScheme registers this package's kinds with a scheme.
	AddToScheme = SchemeBuilder.AddToScheme
)

func addKnownTypes(scheme *runtime.Scheme) error {
	scheme.AddKnownTypes(GroupVersion, &RayTLSPolicy{}, &RayTLSPolicyList{}, &RayClusterTLS{}, &RayClusterTLSList{})
	metav1.AddToGroupVersion(scheme, GroupVersion)
	return nil
}
