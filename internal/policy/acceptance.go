package policy

import (
	"fmt"
	"maps"
	"slices"
	"strings"
	"time"

	corev1 "k8s.io/api/core/v1"

	"github.com/raytls/raytls/api/v1alpha1"
	"github.com/raytls/raytls/internal/kube"
	"github.com/raytls/raytls/internal/pki"
	"github.com/raytls/raytls/internal/timescale"
	"github.com/raytls/raytls/internal/window"
)

// Verdict is a reason of the condition Accepted, with its message.
type Verdict struct {
	Accepted        bool
	Reason, Message string
	// RequeueAt is when the verdict may change though nothing else does; zero for never.
	RequeueAt time.Time
	// CAEnds is when the brought CA ends; zero without one that is accepted.
	CAEnds time.Time
}

// Allowlist holds the init images that policies may name. An entry is an image, or a prefix of images if it ends in *.
type Allowlist []string

// Allows reports whether the list has the image. The empty name, which stands for each Ray container's own image, is always allowed.
func (a Allowlist) Allows(image string) bool {
	return image == "" || slices.ContainsFunc(a, func(entry string) bool {
		prefix, open := strings.CutSuffix(entry, "*")
		return entry == image || open && strings.HasPrefix(image, prefix)
	})
}

// Acceptance is what a policy's spec is judged by.
type Acceptance struct {
	// Spec has its defaults.
	Spec   *v1alpha1.RayTLSPolicySpec
	Images Allowlist
	// Served reports whether the API server serves a kind; nil leaves kinds unjudged.
	Served func(v1alpha1.TargetKind) bool
	// CA is the Secret that spec.certificateAuthority.secretRef names; nil if it does not exist. It is judged only if CAKnown.
	CA      *corev1.Secret
	CAKnown bool
	Now     time.Time
	// Scale is how long days are.
	Scale timescale.Scale
}

// Accept judges a policy's spec. The first check that returns a verdict decides.
func Accept(a Acceptance) Verdict {
	for _, check := range []func(*Acceptance) *Verdict{checkSelector, checkImage, checkResources, checkWindows, checkTargetKind, checkCA} {
		if verdict := check(&a); verdict != nil {
			return *verdict
		}
	}
	return accepted()
}

func accepted() Verdict {
	return Verdict{Accepted: true, Reason: v1alpha1.ReasonAccepted, Message: "the policy is in force"}
}

func refuse(reason, format string, args ...any) *Verdict {
	return &Verdict{Reason: reason, Message: fmt.Sprintf(format, args...)}
}

func checkSelector(a *Acceptance) *Verdict {
	if a.Spec.Selector == nil {
		return nil
	}
	if _, err := parseSelector(a.Spec.Selector); err != nil {
		return refuse(v1alpha1.ReasonInvalidSelector, "spec.selector: %v", err)
	}
	return nil
}

func checkImage(a *Acceptance) *Verdict {
	image := a.Spec.Issuance.InitContainer.Image
	if a.Images.Allows(image) {
		return nil
	}
	return refuse(v1alpha1.ReasonImageNotAllowed,
		"spec.issuance.initContainer.image: %s is not among the images that the operator's administrator allows with --allowed-init-image; ask for it to be added, or leave the field out to use each Ray container's own image", image)
}

// checkResources refuses an init container that no API server lets a pod have.
func checkResources(a *Acceptance) *Verdict {
	asked := a.Spec.Issuance.InitContainer.Resources
	if asked == nil {
		return nil
	}
	for _, name := range slices.Sorted(maps.Keys(asked.Requests)) {
		request := asked.Requests[name]
		if limit, limited := asked.Limits[name]; limited && request.Cmp(limit) > 0 {
			return refuse(v1alpha1.ReasonInvalidResources,
				"spec.issuance.initContainer.resources: the request of %s, %s, is more than its limit, %s, so the API server would refuse every pod; lower the request or raise the limit",
				name, request.String(), limit.String())
		}
	}
	return nil
}

func checkWindows(a *Acceptance) *Verdict {
	for i, w := range a.Spec.Rollout.Windows {
		if err := window.Check(w); err != nil {
			return refuse(v1alpha1.ReasonInvalidWindow, "spec.rollout.windows[%d]: %v; correct it, or no restart begins in it", i, err)
		}
	}
	return nil
}

func checkTargetKind(a *Acceptance) *Verdict {
	ref := a.Spec.TargetRef
	if ref == nil || a.Served == nil || a.Served(ref.Kind) {
		return nil
	}
	verdict := refuse(v1alpha1.ReasonTargetKindNotServed,
		"spec.targetRef: the API server does not serve %s of ray.io/v1, so the KubeRay that is installed does not have this kind; upgrade KubeRay with its CRDs, which the operator notices within two minutes, or name a kind that it has", ref.Kind)
	verdict.RequeueAt = a.Now.Add(time.Minute)
	return verdict
}

func checkCA(a *Acceptance) *Verdict {
	if a.Spec.CertificateAuthority.SecretRef == nil || !a.CAKnown {
		return nil
	}
	_, verdict := BroughtCA(a.Spec, a.CA, a.Scale, a.Now)
	return &verdict
}

// BroughtCA judges the Secret that spec.certificateAuthority.secretRef names; nil if it does not exist. The spec has its defaults.
// The CA is nil unless it is accepted.
func BroughtCA(spec *v1alpha1.RayTLSPolicySpec, secret *corev1.Secret, scale timescale.Scale, now time.Time) (*pki.Parent, Verdict) {
	const field = "spec.certificateAuthority.secretRef: Secret %s "
	name := spec.CertificateAuthority.SecretRef.Name
	if secret == nil {
		return nil, *refuse(v1alpha1.ReasonCASecretNotFound,
			field+"does not exist in this namespace; create it with ca.crt and ca.key, or tls.crt and tls.key, and the label %s: %q", name, v1alpha1.LabelCA, v1alpha1.CATrue)
	}
	if secret.Labels[v1alpha1.LabelCA] != v1alpha1.CATrue {
		return nil, *refuse(v1alpha1.ReasonCASecretNotLabelled,
			field+"lacks the label %s: %q, which allows policies to sign with it; label it with: kubectl label secret %[1]s -n %[4]s %[2]s=%[3]s", name, v1alpha1.LabelCA, v1alpha1.CATrue, secret.Namespace)
	}
	certificate, key := secret.Data["ca.crt"], secret.Data["ca.key"]
	if key == nil {
		// cert-manager writes the CA's own issuer to ca.crt, beside tls.crt and tls.key.
		certificate, key = secret.Data[corev1.TLSCertKey], secret.Data[corev1.TLSPrivateKeyKey]
	}
	if certificate == nil || key == nil {
		return nil, *refuse(v1alpha1.ReasonCASecretInvalid, field+"holds neither ca.crt and ca.key nor tls.crt and tls.key", name)
	}
	parent, err := pki.ParseParent(certificate, key, now)
	if err != nil {
		return nil, *refuse(v1alpha1.ReasonCASecretInvalid, field+"cannot be used: %v", name, err)
	}
	verdict := accepted()
	verdict.RequeueAt, verdict.CAEnds = parent.NotAfter(), parent.NotAfter()
	// An issuer lives twice as long as a leaf, so that it is replaced halfway and no leaf outlives it.
	cut := parent.NotAfter().Add(-2 * scale.Days(spec.PodCertificate.ValidityDays))
	if now.Before(cut) {
		verdict.RequeueAt = cut
		return parent, verdict
	}
	verdict.Reason = v1alpha1.ReasonValidityCut
	verdict.Message = fmt.Sprintf("the policy is in force; the CA in Secret %s ends at %s, so issuers and pod certificates end then at the latest, earlier than podCertificate.validityDays asks",
		name, kube.FormatTime(parent.NotAfter()))
	return parent, verdict
}
