// Package v1alpha1 is the first version of the raytls.io API: RayTLSPolicy, its conditions and
// their reasons, and the defaults that the operator applies.
// +kubebuilder:object:generate=true
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

	// SchemeBuilder collects the functions that register this package's kinds.
	SchemeBuilder = runtime.NewSchemeBuilder(addKnownTypes)

	// AddToScheme registers this package's kinds with a scheme.
	AddToScheme = SchemeBuilder.AddToScheme
)

func addKnownTypes(scheme *runtime.Scheme) error {
	scheme.AddKnownTypes(GroupVersion, &RayTLSPolicy{}, &RayTLSPolicyList{})
	metav1.AddToGroupVersion(scheme, GroupVersion)
	return nil
}
