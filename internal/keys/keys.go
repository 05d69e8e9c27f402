// Package keys decides what a RayCluster's two Secrets hold: its authority, in the operator's namespace, and its issuer with all
// that pods read, in the cluster's. It talks to nobody.
package keys

import (
	"bytes"
	"crypto/sha256"
	"crypto/x509"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"strconv"
	"time"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/types"

	"github.com/raytls/raytls/api/v1alpha1"
	"github.com/raytls/raytls/internal/gencert"
	"github.com/raytls/raytls/internal/injection"
	"github.com/raytls/raytls/internal/kube"
	"github.com/raytls/raytls/internal/pki"
	"github.com/raytls/raytls/internal/timescale"
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
	// ReplaceIssuedBefore has authorities replaced that were issued before it, once that time has come. Only a policy asks for
	// it, so it is not kept.
	ReplaceIssuedBefore time.Time `json:"-"`
	// RevokeIssuedBefore asks for the same without bridges. Revocations begin with the record of them, so it is not kept either.
	RevokeIssuedBefore time.Time `json:"-"`
	// Scale is how long days are. It is the installation's, so it is not kept.
	Scale timescale.Scale `json:"-"`
}

// SettingsOf takes settings from a policy's spec with its defaults. headNames are the cluster's own further names of the head.
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
	if before := spec.CertificateAuthority.ReplaceIssuedBefore; before != nil {
		out.ReplaceIssuedBefore = before.UTC()
	}
	if before := spec.CertificateAuthority.RevokeIssuedBefore; before != nil {
		out.RevokeIssuedBefore = before.UTC()
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

func (s Settings) leafValidity() time.Duration { return s.Scale.Days(s.LeafValidityDays) }

// tolerance is how far clocks may be apart, and settles how long pods and CA Secret must have been as they are.
func (s Settings) tolerance() time.Duration { return s.Scale.Wait(kube.ClockTolerance) }

// Slow reports whether making a key takes so long that others would notice.
func (s Settings) Slow() bool {
	return s.AuthorityKey != pki.ECDSAP256 && s.AuthorityKey != pki.ECDSAP384
}

func (s Settings) settles() time.Duration { return s.Scale.Wait(SettleTime) }

// issuerValidity is twice a leaf's, so that an issuer that is replaced halfway outlives every leaf that it signed.
func (s Settings) issuerValidity() time.Duration { return 2 * s.leafValidity() }

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

// FormatVersion is the newest form of both Secrets that this package reads. It writes the oldest form that holds everything, so
// that an operator of an earlier version, which would drop the bridges or bring the first CA Secret back, works on where there is
// neither a bridge nor a revocation.
const (
	FormatVersion = formatRevoked
	formatPlain   = 1
	formatBridges = 2
	formatRevoked = 3
)

const (
	// Keys of both Secrets.
	keyFormatVersion = "formatVersion"
	keyGeneration    = "generation"

	// Keys of an authority's Secret.
	keyAuthorityCertificate = "authority.crt"
	keyAuthorityKey         = "authority.key"
	keySettings             = "settings"
	keyMade                 = "made"
	keyLeavesEnd            = "leavesEnd"
	keyForward              = "forward.crt"
	keyEarlier              = "earlier"
	keySince                = "since"
	keyRevokedBefore        = "revokedBefore"

	// Keys of a cluster's CA Secret.
	keyIssuerKey         = "ca.key"
	keyIssuerCertificate = "issuer.crt"
	keyChain             = "chain.pem"
	keyBundle            = "ca.crt"
	keyProfile           = "profile"
)

// AuthoritySecretName is the name of the Secret that holds a cluster's authority, in the operator's namespace.
func AuthoritySecretName(cluster types.NamespacedName) string {
	sum := sha256.Sum256([]byte(cluster.String()))
	return "raytls-" + hex.EncodeToString(sum[:16])
}

// Store is what a cluster's two Secrets hold.
type Store struct {
	// Cluster is whose keys they are.
	Cluster types.NamespacedName
	// Authority is nil if there is none, and Generation its number.
	Authority  *pki.Authority
	Generation int64
	// RevokedBefore is the number below which every generation is revoked; 0 if none is. The CA Secret's name holds it.
	RevokedBefore int64
	// Settings are kept beside the authority, and so is made, by which it was made.
	Settings Settings
	made     made
	// Issuer is nil if there is none, or if the CA Secret does not hold what the operator would write.
	Issuer *pki.Issuer

	// forward are the bridges in chains, newest first. The first leads to the authority from the one before, and so on.
	forward []*x509.Certificate
	// earlier are the authorities that were replaced and may still be in use, newest first.
	earlier []earlier
	// since is when the first of the authorities was issued that bridges connect; zero where nobody knows.
	since time.Time
	// leavesEnd is when the last leaf of the authority ends at the latest.
	leavesEnd time.Time
	// fault is why the CA Secret that exists does not count; empty for one that does.
	fault string
	// successor is the ID of a newer authority by which the present one was replaced, as the CA Secret proves; empty for none.
	successor string
}

// Read reads a cluster's Secrets; nil stands for one that does not exist. It returns a *kube.Outcome, upon which nothing may be
// written, if the authority cannot be used or a newer operator wrote a Secret.
func Read(cluster types.NamespacedName, authority, issuer *corev1.Secret) (Store, error) {
	store := Store{Cluster: cluster}
	for _, secret := range []*corev1.Secret{authority, issuer} {
		if secret == nil {
			continue
		}
		if version, err := strconv.Atoi(string(secret.Data[keyFormatVersion])); err == nil && version > FormatVersion {
			return store, kube.UserMustActf(v1alpha1.ReasonFormatUnknown, "Secret %s in namespace %s was written by a newer version of the operator (%s %s), and this version leaves it alone; upgrade the operator",
				secret.Name, secret.Namespace, keyFormatVersion, secret.Data[keyFormatVersion])
		}
	}
	if authority != nil {
		if err := store.readAuthority(authority); err != nil {
			return store, kube.UserMustActf(v1alpha1.ReasonAuthorityLost, "Secret %s in the operator's namespace cannot be used: %v; restore it from a backup, or suspend the cluster and delete the Secret to have a new authority made", authority.Name, err)
		}
	}
	if issuer != nil {
		store.readIssuer(issuer.Data)
	}
	return store, nil
}

func (s *Store) readAuthority(secret *corev1.Secret) error {
	if of := secret.Annotations[v1alpha1.AnnotationCluster]; of != s.Cluster.String() {
		return fmt.Errorf("it is annotated as that of %q", of)
	}
	if json.Unmarshal(secret.Data[keySettings], &s.Settings) != nil {
		return fmt.Errorf("its %s cannot be read", keySettings)
	}
	if json.Unmarshal(secret.Data[keyMade], &s.made) != nil {
		return fmt.Errorf("its %s cannot be read", keyMade)
	}
	generation, err := strconv.ParseInt(string(secret.Data[keyGeneration]), 10, 64)
	if err != nil || generation < 1 {
		return fmt.Errorf("its %s is no number from 1 on", keyGeneration)
	}
	s.Generation = generation
	if err := s.readRevoked(secret.Data); err != nil {
		return err
	}
	if s.Authority, err = pki.ParseAuthority(secret.Data[keyAuthorityCertificate], secret.Data[keyAuthorityKey]); err != nil {
		return err
	}
	if err = s.readBridges(secret.Data); err != nil {
		s.Authority, s.forward, s.earlier = nil, nil, nil // a part of them would part pods
	}
	return err
}

// readIssuer takes the issuer only with its own chain and bundle: anybody in the cluster's namespace may have written the Secret.
func (s *Store) readIssuer(data map[string][]byte) {
	s.fault = "the Secret was altered"
	if s.Authority == nil {
		return
	}
	if chain, err := pki.ParseBundle(data[keyChain]); err == nil {
		s.successor = s.Authority.Successor(chain)
	}
	issuer, err := pki.ParseIssuer(data[keyIssuerCertificate], data[keyIssuerKey])
	switch {
	case err != nil:
	case bytes.Equal(data[keyChain], s.chain(issuer)) && bytes.Equal(data[keyBundle], s.Bundle()):
		s.Issuer, s.fault = issuer, ""
	case slices.ContainsFunc(s.earlier, func(e earlier) bool { return pki.SignerOf(issuer.Certificate()) == e.id() }):
		s.fault = causeReplaced
	}
}

// AuthorityData is what the authority's Secret holds.
func (s Store) AuthorityData() (map[string][]byte, error) {
	key, err := s.Authority.KeyPEM()
	if err != nil {
		return nil, fmt.Errorf("encoding the authority: %w", err)
	}
	settings, err := json.Marshal(s.Settings)
	by, madeErr := json.Marshal(s.made)
	if err := errors.Join(err, madeErr); err != nil {
		return nil, fmt.Errorf("encoding the authority's settings: %w", err)
	}
	data := s.withFormat(map[string][]byte{
		keyAuthorityCertificate: s.Authority.CertificatePEM(), keyAuthorityKey: key, keySettings: settings, keyMade: by,
	})
	s.writeRevoked(data)
	if err := s.writeBridges(data); err != nil {
		return nil, fmt.Errorf("encoding the earlier authorities: %w", err)
	}
	return data, nil
}

// IssuerData is what the cluster's CA Secret holds.
func (s Store) IssuerData() (map[string][]byte, error) {
	key, err := s.Issuer.KeyPEM()
	if err != nil {
		return nil, fmt.Errorf("encoding the issuer: %w", err)
	}
	profile, err := s.Settings.profile(s.Authority, s.Issuer)
	if err != nil {
		return nil, fmt.Errorf("writing the profile: %w", err)
	}
	return s.withFormat(map[string][]byte{
		keyIssuerKey: key, keyIssuerCertificate: s.Issuer.CertificatePEM(), keyChain: s.chain(s.Issuer),
		keyBundle: s.Bundle(), keyProfile: profile,
	}), nil
}

func (s Store) withFormat(data map[string][]byte) map[string][]byte {
	format := int64(formatPlain)
	if len(s.forward) > 0 || len(s.earlier) > 0 {
		format = formatBridges
	}
	if s.RevokedBefore > 0 {
		format = formatRevoked
	}
	data[keyFormatVersion] = strconv.AppendInt(nil, format, 10)
	data[keyGeneration] = strconv.AppendInt(nil, s.Generation, 10)
	return data
}

// Format keeps keys out of whatever prints the value.
func (s Store) Format(state fmt.State, _ rune) {
	fmt.Fprintf(state, "keys of %s, generation %d", s.Cluster, s.Generation)
}
