// Package acceptance judges whether a policy's spec makes sense and what it refers to is usable.
package acceptance

import (
	"fmt"
	"strings"
	"time"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/raytls/raytls/api/v1alpha1"
	"github.com/raytls/raytls/internal/pki"
)

// Verdict is a reason of the condition Accepted, with its message.
type Verdict struct {
	Accepted bool
	Reason   string
	Message  string
	// Again is when the verdict may change though nothing else does; zero for never.
	Again time.Time
}

// Allowlist holds the init images that policies may name. An entry is an image, or the beginning of images if it
// ends in *.
type Allowlist []string

// Allows says whether the list has the image.
func (a Allowlist) Allows(image string) bool {
	for _, entry := range a {
		prefix, open := strings.CutSuffix(entry, "*")
		if entry == image || open && strings.HasPrefix(image, prefix) {
			return true
		}
	}
	return false
}

// Spec judges what can be judged without looking anything up.
func Spec(spec *v1alpha1.RayTLSPolicySpec, images Allowlist) Verdict {
	if spec.Selector != nil {
		if _, err := metav1.LabelSelectorAsSelector(spec.Selector); err != nil {
			return refuse(v1alpha1.ReasonInvalidSelector, "spec.selector: %v", err)
		}
	}
	if image := spec.Issuance.InitContainer.Image; image != "" && !images.Allows(image) {
		return refuse(v1alpha1.ReasonImageNotAllowed,
			"spec.issuance.initContainer.image: %s is not among the images that the operator's administrator allows with --allowed-init-image; ask for it to be added, or leave the field out to use each Ray container's own image", image)
	}
	return Verdict{Accepted: true, Reason: v1alpha1.ReasonAccepted, Message: "the policy is in force"}
}

// Installed judges the spec by the KubeRay that is installed too.
func Installed(spec *v1alpha1.RayTLSPolicySpec, images Allowlist, served func(v1alpha1.TargetKind) bool, now time.Time) Verdict {
	if verdict := Spec(spec, images); !verdict.Accepted {
		return verdict
	}
	return target(spec, served, now)
}

// target judges whether the kind in spec.targetRef is one that KubeRay, as it is installed, has.
func target(spec *v1alpha1.RayTLSPolicySpec, served func(v1alpha1.TargetKind) bool, now time.Time) Verdict {
	if ref := spec.TargetRef; ref != nil && !served(ref.Kind) {
		verdict := refuse(v1alpha1.ReasonTargetKindNotServed,
			"spec.targetRef: the API server does not serve %s of ray.io/v1, so the KubeRay that is installed does not have this kind; upgrade KubeRay with its CRDs, which is noticed within two minutes, or name a kind that it has", ref.Kind)
		verdict.Again = now.Add(time.Minute)
		return verdict
	}
	return Verdict{Accepted: true, Reason: v1alpha1.ReasonAccepted, Message: "the policy is in force"}
}

// BroughtCA judges the Secret that spec.certificateAuthority.secretRef names; nil when it does not exist.
// The spec has its defaults. The CA is nil unless the verdict is to accept it.
func BroughtCA(spec *v1alpha1.RayTLSPolicySpec, secret *corev1.Secret, now time.Time) (*pki.Parent, Verdict) {
	name := spec.CertificateAuthority.SecretRef.Name
	if secret == nil {
		return nil, refuse(v1alpha1.ReasonCASecretNotFound,
			"spec.certificateAuthority.secretRef: Secret %s does not exist in this namespace; create it with ca.crt and ca.key, or tls.crt and tls.key", name)
	}
	certificate, key := secret.Data["ca.crt"], secret.Data["ca.key"]
	if key == nil {
		// cert-manager writes the CA's own issuer to ca.crt, beside tls.crt and tls.key.
		certificate, key = secret.Data[corev1.TLSCertKey], secret.Data[corev1.TLSPrivateKeyKey]
	}
	if certificate == nil || key == nil {
		return nil, refuse(v1alpha1.ReasonCASecretInvalid,
			"spec.certificateAuthority.secretRef: Secret %s holds neither ca.crt and ca.key nor tls.crt and tls.key", name)
	}
	parent, err := pki.ParseParent(certificate, key, now)
	if err != nil {
		return nil, refuse(v1alpha1.ReasonCASecretInvalid, "spec.certificateAuthority.secretRef: Secret %s: %v", name, err)
	}
	verdict := Verdict{Accepted: true, Reason: v1alpha1.ReasonAccepted, Message: "the policy is in force", Again: parent.NotAfter()}
	cut := parent.NotAfter().Add(-IssuerValidity(spec))
	if now.Before(cut) {
		verdict.Again = cut
		return parent, verdict
	}
	verdict.Reason = v1alpha1.ReasonValidityCut
	verdict.Message = fmt.Sprintf("the policy is in force; the CA in Secret %s ends at %s, so issuers and pod certificates end then at the latest, earlier than podCertificate.validityDays asks",
		name, parent.NotAfter().UTC().Format(time.RFC3339))
	return parent, verdict
}

// IssuerValidity is how long an issuer lives: twice as long as what it signs, so that it can be replaced
// halfway while every leaf still ends before its issuer. The spec has its defaults.
func IssuerValidity(spec *v1alpha1.RayTLSPolicySpec) time.Duration {
	return 2 * Days(spec.PodCertificate.ValidityDays)
}

// Days is so many days of 24 hours.
func Days(n int32) time.Duration { return time.Duration(n) * 24 * time.Hour }

func refuse(reason, format string, args ...any) Verdict {
	return Verdict{Reason: reason, Message: fmt.Sprintf(format, args...)}
}
