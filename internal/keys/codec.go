package keys

import (
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"strconv"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/types"

	"github.com/raytls/raytls/api/v1alpha1"
	"github.com/raytls/raytls/internal/injection"
	"github.com/raytls/raytls/internal/kube"
	"github.com/raytls/raytls/internal/pki"
)

// FormatVersion is the newest form of both Secrets that this package reads, and the one that it writes.
const FormatVersion = 1

// Keys of both Secrets.
const (
	keyFormatVersion = "formatVersion"
	keyGeneration    = "generation"
)

// Keys of an authority's Secret, in the operator's namespace.
const (
	keyAuthorityCertificate = "authority.crt"
	keyAuthorityKey         = "authority.key"
	keySettings             = "settings"
	keyMade                 = "made"
)

// Keys of a cluster's CA Secret, in the cluster's namespace.
const (
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

// IssuerSecretName is the name of the cluster's CA Secret, in the cluster's namespace.
func IssuerSecretName(cluster types.NamespacedName) string { return injection.SecretName(cluster.Name) }

// Store is what a cluster's two Secrets hold.
type Store struct {
	// Cluster is whose keys they are.
	Cluster types.NamespacedName
	// Authority is nil if there is none, and Generation its number.
	Authority  *pki.Authority
	Generation int64
	// Settings are those that are kept beside the authority, and made those that it was made by.
	Settings Settings
	made     made
	// Issuer is nil if there is none, or if the Secret was altered.
	Issuer *pki.Issuer
	// altered reports whether there is a CA Secret that does not hold what the operator wrote.
	altered bool
}

// Read reads a cluster's Secrets; nil stands for one that does not exist. Where the authority cannot be used, or a newer operator
// wrote a Secret, that is a *kube.Outcome, and nothing is to be written.
func Read(cluster types.NamespacedName, authority, issuer *corev1.Secret) (Store, error) {
	store := Store{Cluster: cluster}
	for _, secret := range []*corev1.Secret{authority, issuer} {
		if secret != nil && newerFormat(secret.Data) {
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

func newerFormat(data map[string][]byte) bool {
	version, err := strconv.Atoi(string(data[keyFormatVersion]))
	return err == nil && version > FormatVersion
}

func (s *Store) readAuthority(secret *corev1.Secret) error {
	if of := secret.Annotations[v1alpha1.AnnotationCluster]; of != s.Cluster.String() {
		return fmt.Errorf("it is annotated as that of %q", of)
	}
	if err := json.Unmarshal(secret.Data[keySettings], &s.Settings); err != nil {
		return fmt.Errorf("its %s cannot be read", keySettings)
	}
	if err := json.Unmarshal(secret.Data[keyMade], &s.made); err != nil {
		return fmt.Errorf("its %s cannot be read", keyMade)
	}
	generation, err := strconv.ParseInt(string(secret.Data[keyGeneration]), 10, 64)
	if err != nil || generation < 1 {
		return fmt.Errorf("its %s is no number from 1 on", keyGeneration)
	}
	s.Generation = generation
	s.Authority, err = pki.ParseAuthority(secret.Data[keyAuthorityCertificate], secret.Data[keyAuthorityKey])
	return err
}

// readIssuer takes the issuer only from a Secret that holds nothing but what belongs to it: anybody in the cluster's namespace
// may have written there.
func (s *Store) readIssuer(data map[string][]byte) {
	s.altered = true
	issuer, err := pki.ParseIssuer(data[keyIssuerCertificate], data[keyIssuerKey])
	if err != nil || s.Authority == nil {
		return
	}
	if string(data[keyChain]) != string(issuer.CertificatePEM()) || string(data[keyBundle]) != string(s.Authority.CertificatePEM()) {
		return
	}
	s.Issuer, s.altered = issuer, false
}

// AuthorityData is what the authority's Secret holds.
func (s Store) AuthorityData() (map[string][]byte, error) {
	key, err := s.Authority.KeyPEM()
	if err != nil {
		return nil, fmt.Errorf("encoding the authority: %w", err)
	}
	settings, err := json.Marshal(s.Settings)
	if err != nil {
		return nil, fmt.Errorf("encoding the authority's settings: %w", err)
	}
	by, err := json.Marshal(s.made)
	if err != nil {
		return nil, fmt.Errorf("encoding the authority's settings: %w", err)
	}
	return s.withFormat(map[string][]byte{
		keyAuthorityCertificate: s.Authority.CertificatePEM(), keyAuthorityKey: key, keySettings: settings, keyMade: by,
	}), nil
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
		keyIssuerKey: key, keyIssuerCertificate: s.Issuer.CertificatePEM(), keyChain: s.Issuer.CertificatePEM(),
		keyBundle: s.Authority.CertificatePEM(), keyProfile: profile,
	}), nil
}

func (s Store) withFormat(data map[string][]byte) map[string][]byte {
	data[keyFormatVersion] = strconv.AppendInt(nil, FormatVersion, 10)
	data[keyGeneration] = strconv.AppendInt(nil, s.Generation, 10)
	return data
}

// Format keeps keys out of whatever prints the value.
func (s Store) Format(state fmt.State, _ rune) {
	fmt.Fprintf(state, "keys of %s, generation %d", s.Cluster, s.Generation)
}
