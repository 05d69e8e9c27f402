// Package keys decides what a RayCluster's two Secrets hold: its authority, in the operator's namespace, and its issuer with all
// that pods read, in the cluster's. It talks to nobody.
package keys

import (
	"slices"
	"time"

	"github.com/raytls/raytls/api/v1alpha1"
	"github.com/raytls/raytls/internal/gencert"
	"github.com/raytls/raytls/internal/injection"
	"github.com/raytls/raytls/internal/pki"
)

// Settings are what keys are made by. They are kept beside the authority, where nobody in the cluster's namespace
// can write, so that a cluster whose policy is gone gets new issuers by the same rules.
type Settings struct {
	AuthorityKey          pki.KeyAlgorithm `json:"authorityKey"`
	AuthorityValidityDays int32            `json:"authorityValidityDays"`
	// CASecret names the Secret of the brought CA; empty for a self-signed authority.
	CASecret             string   `json:"caSecret,omitempty"`
	LeafKey              string   `json:"leafKey"`
	LeafValidityDays     int32    `json:"leafValidityDays"`
	HeadDNSNames         []string `json:"headDNSNames,omitempty"`
	HeadServiceShortName bool     `json:"headServiceShortName,omitempty"`
	// HeadUntilIssuerEnd gives the head a leaf up to the issuer's end: such a head may not be restarted.
	HeadUntilIssuerEnd bool `json:"headUntilIssuerEnd,omitempty"`
}

// SettingsOf takes them from a policy's spec with its defaults. headNames are the cluster's own further names of the head.
func SettingsOf(spec *v1alpha1.RayTLSPolicySpec, headNames []string, headUntilIssuerEnd bool) Settings {
	names := slices.Concat(spec.PodCertificate.HeadDNSNames, headNames)
	slices.Sort(names)
	out := Settings{
		AuthorityKey:          pki.KeyAlgorithm(spec.CertificateAuthority.KeyAlgorithm),
		AuthorityValidityDays: spec.CertificateAuthority.ValidityDays,
		LeafKey:               string(spec.PodCertificate.KeyAlgorithm),
		LeafValidityDays:      spec.PodCertificate.ValidityDays,
		HeadDNSNames:          slices.Compact(names),
		HeadServiceShortName:  spec.PodCertificate.HeadServiceShortName,
		HeadUntilIssuerEnd:    headUntilIssuerEnd,
	}
	if ref := spec.CertificateAuthority.SecretRef; ref != nil {
		out.CASecret = ref.Name
	}
	return out
}

// made are those of the settings that an authority is made by.
type made struct {
	Key          pki.KeyAlgorithm `json:"key"`
	ValidityDays int32            `json:"validityDays"`
	CASecret     string           `json:"caSecret,omitempty"`
}

func (s Settings) made() made {
	return made{Key: s.AuthorityKey, ValidityDays: s.AuthorityValidityDays, CASecret: s.CASecret}
}

func (s Settings) leafValidity() time.Duration { return v1alpha1.Days(s.LeafValidityDays) }

// profile is what the scripts read.
func (s Settings) profile(a *pki.Authority, i *pki.Issuer) ([]byte, error) {
	return gencert.Profile{
		Revision: injection.Revision, Authority: a.ID(), Issuer: i.ID(),
		IssuerNotBefore: i.NotBefore(), IssuerNotAfter: i.NotAfter(),
		KeyAlgorithm: s.LeafKey, ValidityDays: int(s.LeafValidityDays),
		HeadDNSNames: s.HeadDNSNames, HeadServiceShortName: s.HeadServiceShortName, HeadUntilIssuerEnd: s.HeadUntilIssuerEnd,
		CAKeyAlgorithm: string(s.AuthorityKey),
	}.Marshal()
}
