package keys

import (
	"fmt"
	"strconv"
	"strings"
	"time"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/types"

	"github.com/raytls/raytls/internal/injection"
	"github.com/raytls/raytls/internal/kube"
)

// IssuerSecretName is the name of the cluster's CA Secret, in the cluster's namespace. Each revocation gives it another name, since
// kubelets may go on mounting the earlier content of a name.
func IssuerSecretName(cluster types.NamespacedName, revokedBefore int64) string {
	return injection.SecretNameSince(cluster.Name, revokedBefore)
}

// ParseIssuerSecretName gives the number that IssuerSecretName made the name with. ok reports whether the name is one of the cluster.
func ParseIssuerSecretName(cluster types.NamespacedName, name string) (revokedBefore int64, ok bool) {
	rest, ok := strings.CutPrefix(name, injection.SecretName(cluster.Name))
	if !ok || rest == "" {
		return 0, ok
	}
	digits, _ := strings.CutPrefix(rest, injection.SecretSuffix)
	number, err := strconv.ParseInt(digits, 10, 64)
	return number, err == nil && number > 0 && IssuerSecretName(cluster, number) == name
}

// RevokedBefore is the number below which every generation is revoked, as the authority's Secret has it; 0 if none is, and without a
// Secret that can be read.
func RevokedBefore(authority *corev1.Secret) int64 {
	var store Store
	if authority == nil || store.readRevoked(authority.Data) != nil {
		return 0
	}
	return store.RevokedBefore
}

// readRevoked reads what an authority's Secret holds of revocations. Secrets of formats 1 and 2 hold nothing.
func (s *Store) readRevoked(data map[string][]byte) error {
	if text := data[keyRevokedBefore]; len(text) > 0 {
		number, err := strconv.ParseInt(string(text), 10, 64)
		if err != nil || number < 2 {
			return fmt.Errorf("its %s is no number from 2 on", keyRevokedBefore)
		}
		s.RevokedBefore = number
	}
	if text := data[keySince]; len(text) > 0 {
		since, err := time.Parse(time.RFC3339, string(text))
		if err != nil {
			return fmt.Errorf("its %s is no time", keySince)
		}
		s.since = since.UTC()
	}
	return nil
}

// writeRevoked is the counterpart of readRevoked.
func (s Store) writeRevoked(data map[string][]byte) {
	if s.RevokedBefore > 0 {
		data[keyRevokedBefore] = strconv.AppendInt(nil, s.RevokedBefore, 10)
	}
	if !s.since.IsZero() && s.bridged() {
		data[keySince] = s.since.UTC().AppendFormat(nil, time.RFC3339)
	}
}

// bridged reports whether bridges connect the authority with earlier ones.
func (s Store) bridged() bool { return len(s.forward) > 0 || len(s.earlier) > 0 }

// trustedSince is when the first authority was issued that pods of the present one may still accept; zero where nobody knows.
func (s Store) trustedSince() time.Time {
	if s.bridged() {
		return s.since
	}
	return s.Authority.IssuedAt()
}

// RevocationAsked is why those settings ask for a revocation; empty if they do not. An authority that replaced another is as old as
// the first of them: running pods accept the others, also those to which no bridge is published any more.
func (s Store) RevocationAsked(settings Settings, now time.Time) string {
	before := settings.RevokeIssuedBefore
	if s.Authority == nil || before.IsZero() || now.Before(before) || !now.Before(s.Authority.NotAfter()) || !s.trustedSince().Before(before) {
		return ""
	}
	if s.Authority.IssuedAt().Before(before) {
		return fmt.Sprintf("the policy revokes the authority, which was issued before %s", kube.FormatTime(before))
	}
	return fmt.Sprintf("the policy revokes the authority, which replaced one that was issued before %s", kube.FormatTime(before))
}

// NextGeneration is the number that an authority would have which is made now.
func (s Store) NextGeneration(pods Pods) int64 {
	return max(s.Generation, pods.Generation, pods.RevokedBefore-1) + 1
}

// causeRevoked is why an authority and its issuer are made anew though they work.
const causeRevoked = "the one before is revoked"

// revoking reports whether a revocation is on record that has not been carried out. Whatever is there then goes, so it does not matter
// where it comes from.
func (s Store) revoking(pods Pods) bool {
	return s.RevokedBefore < pods.RevokedBefore && pods.Generation < pods.RevokedBefore
}
