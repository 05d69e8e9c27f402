package inject

import (
	"encoding/json"
	"errors"
	"fmt"
	"net/netip"

	corev1 "k8s.io/api/core/v1"
	apivalidation "k8s.io/apimachinery/pkg/api/validation"
	"k8s.io/apimachinery/pkg/util/validation"

	"github.com/raytls/raytls/api/v1alpha1"
	"github.com/raytls/raytls/internal/jsonpatch"
	"github.com/raytls/raytls/internal/manifest"
)

// checkPolicy returns what the API server refuses a policy for, where people err. A cluster that it covers here would be covered
// by nothing there.
func checkPolicy(p *v1alpha1.RayTLSPolicy) error {
	var wrong error
	add := func(format string, args ...any) { wrong = errors.Join(wrong, fmt.Errorf(format, args...)) }
	if (p.Spec.Selector == nil) == (p.Spec.TargetRef == nil) {
		add("spec: exactly one of selector and targetRef must be set")
	}
	for i, name := range p.Spec.PodCertificate.HeadDNSNames {
		at := fmt.Sprintf("spec.podCertificate.headDNSNames[%d]", i)
		if _, err := netip.ParseAddr(name); err == nil {
			add("%s: %s is an address, and the head's certificate holds those of its pod alone: give the address a DNS name, and connect to that", at, name)
			continue
		}
		if found := validation.IsDNS1123Subdomain(name); len(found) > 0 {
			add("%s: %q: %s", at, name, found[0])
		}
	}
	if spec := p.Spec.WithDefaults(); spec.CertificateAuthority.ValidityDays < 4*spec.PodCertificate.ValidityDays {
		add("spec.certificateAuthority.validityDays: is %d, and must be at least four times podCertificate.validityDays, which is %d", spec.CertificateAuthority.ValidityDays, spec.PodCertificate.ValidityDays)
	}
	return wrong
}

// sizeNote says so if kubectl cannot keep a copy of the object in its annotation, as it does unless it applies server-side.
func sizeNote(o *manifest.Object) string {
	annotations := 0
	for key, value := range jsonpatch.Map(jsonpatch.Map(o.Object["metadata"])["annotations"]) {
		if key != corev1.LastAppliedConfigAnnotation {
			annotations += len(key) + len(jsonpatch.String(value))
		}
	}
	text, err := json.Marshal(o.Object)
	size := len(text) + 1 // kubectl ends it with a line feed
	if err != nil || annotations+len(corev1.LastAppliedConfigAnnotation)+size <= apivalidation.TotalAnnotationSizeLimitB {
		return ""
	}
	return fmt.Sprintf("has %d bytes as JSON, and kubectl's annotation %s holds at most %d with all others: use `kubectl apply --server-side`", size, corev1.LastAppliedConfigAnnotation, apivalidation.TotalAnnotationSizeLimitB)
}
