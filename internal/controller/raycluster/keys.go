package raycluster

import (
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"slices"
	"time"

	corev1 "k8s.io/api/core/v1"
	apiequality "k8s.io/apimachinery/pkg/api/equality"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"

	"github.com/raytls/raytls/api/v1alpha1"
	"github.com/raytls/raytls/internal/controller/acceptance"
	"github.com/raytls/raytls/internal/gencert"
	"github.com/raytls/raytls/internal/injection"
	"github.com/raytls/raytls/internal/pki"
)

// Keys of an authority's Secret, in the operator's namespace.
const (
	keyAuthorityCertificate = "authority.crt"
	keyAuthorityKey         = "authority.key"
	keyAuthoritySettings    = "settings"
)

// Keys of a cluster's CA Secret, in the cluster's namespace.
const (
	keyIssuerKey         = "ca.key"
	keyIssuerCertificate = "issuer.crt"
	keyChain             = "chain.pem"
	keyBundle            = "ca.crt"
	keyProfile           = "profile"
)

// AuthorityName is the name of the Secret that holds a cluster's authority, in the operator's namespace.
func AuthorityName(cluster types.NamespacedName) string {
	sum := sha256.Sum256([]byte(cluster.String()))
	return "raytls-" + hex.EncodeToString(sum[:16])
}

// settings are what keys are made by. They are kept beside the authority, where nobody in the cluster's namespace
// can write, so that a cluster whose policy is gone gets new issuers by the same rules.
type settings struct {
	AuthorityKey          pki.KeyAlgorithm `json:"authorityKey"`
	AuthorityValidityDays int32            `json:"authorityValidityDays"`
	LeafKey               string           `json:"leafKey"`
	LeafValidityDays      int32            `json:"leafValidityDays"`
	HeadDNSNames          []string         `json:"headDNSNames,omitempty"`
	HeadServiceShortName  bool             `json:"headServiceShortName,omitempty"`
}

// settingsOf takes them from a policy's spec with its defaults. further are names of the head that are the cluster's own.
func settingsOf(spec *v1alpha1.RayTLSPolicySpec, further ...string) settings {
	names := append(slices.Clone(spec.PodCertificate.HeadDNSNames), further...)
	slices.Sort(names)
	names = slices.Compact(names)
	return settings{
		AuthorityKey:          pki.KeyAlgorithm(spec.CertificateAuthority.KeyAlgorithm),
		AuthorityValidityDays: spec.CertificateAuthority.ValidityDays,
		LeafKey:               string(spec.PodCertificate.KeyAlgorithm),
		LeafValidityDays:      spec.PodCertificate.ValidityDays,
		HeadDNSNames:          names,
		HeadServiceShortName:  spec.PodCertificate.HeadServiceShortName,
	}
}

func (s settings) leafValidity() time.Duration { return acceptance.Days(s.LeafValidityDays) }

// profile is what the scripts read.
func (s settings) profile(a *pki.Authority, i *pki.Issuer, headUntilIssuerEnd bool) ([]byte, error) {
	return gencert.Profile{
		Revision: injection.Revision, Authority: a.ID(), Issuer: i.ID(),
		IssuerNotBefore: i.NotBefore(), IssuerNotAfter: i.NotAfter(),
		KeyAlgorithm: s.LeafKey, ValidityDays: int(s.LeafValidityDays),
		HeadDNSNames: s.HeadDNSNames, HeadServiceShortName: s.HeadServiceShortName, HeadUntilIssuerEnd: headUntilIssuerEnd,
		CAKeyAlgorithm: string(s.AuthorityKey),
	}.Marshal()
}

// newAuthority makes the Secret with a new authority for the cluster.
func newAuthority(cluster types.NamespacedName, namespace string, s settings, parent *pki.Parent, now time.Time) (*corev1.Secret, error) {
	authority, err := pki.NewAuthority(pki.AuthorityOptions{
		Name: cluster.String(), KeyAlgorithm: s.AuthorityKey, Validity: acceptance.Days(s.AuthorityValidityDays), Now: now, Parent: parent,
	})
	if err != nil {
		return nil, fmt.Errorf("making the authority: %w", err)
	}
	key, err := authority.KeyPEM()
	if err != nil {
		return nil, fmt.Errorf("making the authority: %w", err)
	}
	text, err := json.Marshal(s)
	if err != nil {
		return nil, fmt.Errorf("keeping the authority's settings: %w", err)
	}
	return &corev1.Secret{
		ObjectMeta: metav1.ObjectMeta{
			Namespace: namespace, Name: AuthorityName(cluster), Labels: labelsFor(v1alpha1.ComponentAuthority),
			Annotations: map[string]string{v1alpha1.AnnotationCluster: cluster.String()},
		},
		Type: corev1.SecretTypeOpaque,
		Data: map[string][]byte{keyAuthorityCertificate: authority.CertificatePEM(), keyAuthorityKey: key, keyAuthoritySettings: text},
	}, nil
}

// parseAuthority reads what newAuthority made.
func parseAuthority(cluster types.NamespacedName, secret *corev1.Secret) (*pki.Authority, settings, error) {
	var s settings
	if of := secret.Annotations[v1alpha1.AnnotationCluster]; of != cluster.String() {
		return nil, s, fmt.Errorf("it is annotated as that of %q", of)
	}
	if err := json.Unmarshal(secret.Data[keyAuthoritySettings], &s); err != nil {
		return nil, s, errors.New("its settings cannot be read")
	}
	authority, err := pki.ParseAuthority(secret.Data[keyAuthorityCertificate], secret.Data[keyAuthorityKey])
	return authority, s, err
}

// issuance is what a cluster's CA Secret is to hold.
type issuance struct {
	issuer *pki.Issuer
	data   map[string][]byte
	// why says why a new issuer was made; empty if the one that was there is kept.
	why string
	// renew is when the issuer is to be replaced.
	renew time.Time
}

// issue keeps the issuer in the CA Secret (nil when there is none) if it is the authority's, unaltered and young enough,
// and makes a new one otherwise. Nothing is returned that the verifiers do not take.
func issue(authority *pki.Authority, secret *corev1.Secret, s settings, headUntilIssuerEnd bool, now time.Time) (*issuance, error) {
	out := &issuance{}
	out.issuer, out.why = keep(authority, secret, s, now)
	if out.why != "" {
		var err error
		out.issuer, err = authority.NewIssuer(pki.IssuerOptions{KeyAlgorithm: s.AuthorityKey, Validity: 2 * s.leafValidity(), Now: now})
		if err != nil {
			return nil, fmt.Errorf("making the issuer: %w", err)
		}
	}
	key, err := out.issuer.KeyPEM()
	if err != nil {
		return nil, fmt.Errorf("making the issuer: %w", err)
	}
	profile, err := s.profile(authority, out.issuer, headUntilIssuerEnd)
	if err != nil {
		return nil, fmt.Errorf("writing the profile: %w", err)
	}
	out.data = map[string][]byte{
		keyIssuerKey: key, keyIssuerCertificate: out.issuer.CertificatePEM(), keyChain: out.issuer.CertificatePEM(),
		keyBundle: authority.CertificatePEM(), keyProfile: profile,
	}
	out.renew = renewal(authority, out.issuer, s)
	if secret != nil && maps.EqualFunc(secret.Data, out.data, slices.Equal) {
		return out, nil
	}
	if err := pki.Publishable(out.issuer, out.data[keyChain], out.data[keyBundle], now); err != nil {
		return nil, fmt.Errorf("checking the issuer before it is published: %w", err)
	}
	return out, nil
}

// keep returns the issuer of the CA Secret, or why it cannot stay.
func keep(authority *pki.Authority, secret *corev1.Secret, s settings, now time.Time) (*pki.Issuer, string) {
	if secret == nil {
		return nil, "there was none"
	}
	issuer, err := pki.ParseIssuer(secret.Data[keyIssuerCertificate], secret.Data[keyIssuerKey])
	if err != nil {
		return nil, "the Secret was altered"
	}
	if err := authority.CheckIssuer(issuer, now); err != nil {
		return nil, fmt.Sprintf("the one that was there is not usable: %v", err)
	}
	if !slices.Equal(secret.Data[keyChain], issuer.CertificatePEM()) || !slices.Equal(secret.Data[keyBundle], authority.CertificatePEM()) {
		return nil, "the Secret was altered"
	}
	if !now.Before(renewal(authority, issuer, s)) {
		return nil, "it was due"
	}
	return issuer, ""
}

// renewal is when an issuer is to be replaced: halfway, so that a leaf signed just before still ends before it. One that
// is cut to its authority's end cannot be made to last longer by replacing it.
func renewal(authority *pki.Authority, issuer *pki.Issuer, s settings) time.Time {
	if !issuer.NotAfter().Before(authority.NotAfter()) {
		return issuer.NotAfter()
	}
	due := issuer.IssuedAt().Add(s.leafValidity())
	if last := issuer.NotAfter().Add(-s.leafValidity()); last.Before(due) {
		due = last
	}
	// Up to a fiftieth earlier, so that clusters enabled together do not renew together.
	spread := s.leafValidity() / 50 / 256 * time.Duration(issuer.Certificate().SerialNumber.Bytes()[0])
	return due.Add(-spread)
}

// issuerSecret is the cluster's CA Secret with that data: a new one, or a changed copy of the one that is there.
func issuerSecret(cluster metav1.Object, existing *corev1.Secret, data map[string][]byte) *corev1.Secret {
	secret := &corev1.Secret{Type: corev1.SecretTypeOpaque}
	if existing != nil {
		secret = existing.DeepCopy()
	}
	secret.Namespace, secret.Name = cluster.GetNamespace(), injection.SecretName(cluster.GetName())
	if secret.Labels == nil {
		secret.Labels = map[string]string{}
	}
	maps.Copy(secret.Labels, labelsFor(v1alpha1.ComponentIssuer))
	secret.OwnerReferences = append(slices.DeleteFunc(secret.OwnerReferences, func(o metav1.OwnerReference) bool {
		return o.Kind == RayClusterKind().Kind && o.UID != cluster.GetUID() // of an earlier cluster of the name
	}), ownerReference(cluster))
	if existing != nil && ownedByUID(existing, cluster.GetUID()) {
		secret.OwnerReferences = secret.OwnerReferences[:len(secret.OwnerReferences)-1]
	}
	secret.Data = data
	return secret
}

// ownerReference has the garbage collector delete what the cluster owns with it. It does not block the cluster's
// deletion, which would take a permission on its finalizers.
func ownerReference(cluster metav1.Object) metav1.OwnerReference {
	gvk := RayClusterKind()
	return metav1.OwnerReference{
		APIVersion: gvk.GroupVersion().String(), Kind: gvk.Kind, Name: cluster.GetName(), UID: cluster.GetUID(),
	}
}

func sameSecret(a, b *corev1.Secret) bool {
	return a != nil && b != nil && apiequality.Semantic.DeepEqual(a.Data, b.Data) &&
		apiequality.Semantic.DeepEqual(a.Labels, b.Labels) && apiequality.Semantic.DeepEqual(a.OwnerReferences, b.OwnerReferences)
}

func labelsFor(component string) map[string]string {
	return map[string]string{v1alpha1.LabelManagedBy: v1alpha1.ManagedBy, v1alpha1.LabelComponent: component}
}
