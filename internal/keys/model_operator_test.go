package keys

import (
	"bytes"
	"crypto/x509"
	"errors"
	"fmt"
	"maps"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	corev1 "k8s.io/api/core/v1"

	"github.com/raytls/raytls/api/v1alpha1"
	"github.com/raytls/raytls/internal/kube"
	"github.com/raytls/raytls/internal/pki"
)

// replica is a replica of the operator that leads. Its clock may be wrong, and its memory begins when it does.
type replica struct {
	off          time.Duration
	state        string
	settledSince time.Time
	askAgain     time.Time
}

func newReplica(m *model) *replica {
	tolerance := int(kube.ClockTolerance / time.Second)
	return &replica{off: time.Duration(m.r.IntN(2*tolerance+1)-tolerance) * time.Second}
}

// evidence is what the leader sees of pods and record.
func (m *model) evidence(store Store, now time.Time) Pods {
	out := Pods{Generation: m.generation, ID: m.id, RevokedBefore: m.revokedBefore}
	for _, p := range m.pods {
		if !p.certified(now) || p.since < max(m.revokedBefore, store.RevokedBefore) {
			continue
		}
		of := p.read.authority
		if p.silent {
			of = ""
		}
		if !p.terminating {
			out.Authorities = append(out.Authorities, of)
		}
		if of == "" && store.Covers(p.created) {
			of = store.Authority.ID()
		}
		out.InUse = append(out.InUse, of)
	}
	return out
}

// settle notes since when pods and CA Secret are as they are.
func (m *model) settle(seen *version, pods Pods, now time.Time) time.Time {
	l := m.leader
	if seen == nil || m.lost || slices.ContainsFunc(m.pods, func(p *pod) bool { return p.leaf == nil }) {
		l.state = ""
		return time.Time{}
	}
	used := slices.Clone(pods.InUse)
	slices.Sort(used)
	if state := fmt.Sprint(seen.number, slices.Compact(used)); state != l.state {
		l.state, l.settledSince = state, now
	}
	return l.settledSince
}

// see is what the leader reads. Its cache may lag behind each of the Secrets, but not for long.
func (m *model) see() (authority *corev1.Secret, issuer *version) {
	lag := func(n int) int {
		if n > 1 && !m.restored && m.now.Sub(m.written) < time.Minute && m.chance(3) {
			return n - 2
		}
		return n - 1
	}
	if n := len(m.authorities); n > 0 {
		authority = m.authorities[lag(n)]
	}
	versions := m.named(max(m.revokedBefore, RevokedBefore(authority)))
	if n := len(versions); n > 0 && !m.lost {
		issuer = versions[lag(n)]
	}
	return authority, issuer
}

// operate is one reconcile: it reads, decides and writes, and may be killed before or after each write.
func (m *model) operate() error {
	now, kill := m.now.Add(m.leader.off), -1
	if m.chance(5) {
		kill = m.r.IntN(3)
	}
	authority, issuer := m.see()
	var secret *corev1.Secret
	if issuer != nil {
		secret = issuer.secret
	}
	store, err := Read(train(), authority, secret)
	if err != nil {
		return fmt.Errorf("reading: %w", err)
	}
	by := Parent{CA: m.parent}
	if m.parent != nil && !now.Before(m.parent.NotAfter()) {
		by = Parent{Unusable: kube.UserMustActf(v1alpha1.ReasonNotAccepted, "it has ended")}
	}
	pods := m.evidence(store, now)
	pods.Settled = m.settle(issuer, pods, now)
	next, due, askAgain, err := Next(store, m.settings, by, pods, now)
	switch outcome := kube.AsOutcome(err); {
	case outcome != nil:
		m.note("the operator writes nothing: %s", outcome.Reason)
		if outcome.Reason == v1alpha1.ReasonAuthorityRestored {
			m.refused++
		}
		return nil
	case err != nil:
		return fmt.Errorf("deciding: %w", err)
	case m.restored && next.RevokedBefore == store.RevokedBefore && authority == m.authorities[len(m.authorities)-1]:
		return errors.New("a restored authority was taken for the newest")
	}
	if due.Held != nil && due.Held.Reason == v1alpha1.ReasonTooManyGenerations {
		m.held8++
	}
	m.leader.askAgain = askAgain
	return m.write(next, due, authority, issuer, now, kill)
}

// write writes what differs from what was seen. The API server refuses a write of what is not the newest.
func (m *model) write(next Store, due Due, authority *corev1.Secret, issuer *version, now time.Time, kill int) error {
	if kill == 0 {
		m.note("the operator is killed before it writes")
		return nil
	}
	wanted, issuerWanted := mustStore(next)
	if authority == nil || !maps.EqualFunc(authority.Data, wanted.Data, bytes.Equal) {
		if n := len(m.authorities); n > 0 && m.authorities[n-1] != authority {
			m.conflicts++
			return nil
		}
		m.authorities, m.written = append(m.authorities, wanted), m.now
		m.note("authority: generation %d, %d before it (%s)", next.Generation, len(next.earlier), due.Authority)
		if due.Authority != "" {
			m.generations++
		}
		m.dropped += len(due.Unused)
		if n := bytes.Count(slices.Concat(slices.Collect(maps.Values(wanted.Data))...), []byte("-----BEGIN PRIVATE KEY")); n != 1 {
			return fmt.Errorf("the authority's Secret holds %d private keys", n)
		}
	}
	if kill == 1 {
		m.note("the operator is killed between its writes")
		return nil
	}
	if m.lost || issuer == nil || !maps.EqualFunc(issuer.secret.Data, issuerWanted.Data, bytes.Equal) {
		if versions := m.named(next.RevokedBefore); !m.lost && len(versions) > 0 && versions[len(versions)-1] != issuer {
			m.conflicts++
			return nil
		}
		if err := m.publish(next, issuerWanted, now); err != nil {
			return err
		}
	}
	m.carriedOut(next)
	if kill != 2 {
		m.generation, m.id, m.revokedBefore = next.Generation, next.Authority.ID(), max(m.revokedBefore, next.RevokedBefore)
	}
	return nil
}

func (m *model) publish(next Store, secret *corev1.Secret, now time.Time) error {
	v := &version{number: len(m.versions), from: m.now, secret: secret, issuer: next.Issuer, authority: next.Authority.ID(), since: next.RevokedBefore}
	var err error
	if v.chain, err = pki.ParseBundle(secret.Data[keyChain]); err != nil {
		return err
	}
	if v.bundle, err = pki.ParseBundle(secret.Data[keyBundle]); err != nil {
		return err
	}
	m.versions, m.lost, m.written = append(m.versions, v), false, m.now
	m.note("CA Secret: version %d of generation %d, chain %d, bundle %d", v.number, next.Generation, len(v.chain), len(v.bundle))
	if bridges, older := len(v.chain)-1, int(next.Generation-next.oldest()); len(v.bundle) > maxGenerations || bridges > max(older, maxGenerations-1) {
		return fmt.Errorf("there are %d and %d certificates in the files", len(v.chain), len(v.bundle))
	}
	for what, file := range map[string][]*x509.Certificate{"chain": v.chain, "bundle": v.bundle} {
		subjects := map[string]bool{}
		for _, certificate := range file {
			if !now.Before(certificate.NotAfter) {
				return fmt.Errorf("the %s holds a certificate that ended at %s", what, certificate.NotAfter)
			}
			subjects[string(certificate.RawSubject)] = true
		}
		if len(subjects) != len(file) {
			return fmt.Errorf("the %s holds %d certificates of %d subjects", what, len(file), len(subjects))
		}
	}
	return nil
}

// mustStore are the Secrets of a store.
func mustStore(store Store) (authority, issuer *corev1.Secret) {
	authority, issuer = &corev1.Secret{}, &corev1.Secret{}
	var authorityErr, issuerErr error
	authority.Data, authorityErr = store.AuthorityData()
	issuer.Data, issuerErr = store.IssuerData()
	if err := errors.Join(authorityErr, issuerErr); err != nil {
		panic(err)
	}
	authority.Annotations = map[string]string{v1alpha1.AnnotationCluster: store.Cluster.String()}
	return authority, issuer
}

// boringSSL asks BoringSSL itself where the checker of hack/boringssl is built; nil where it is not.
func boringSSL(t *testing.T) func(chain, bundle []*x509.Certificate, at ...time.Time) error {
	t.Helper()
	binary := os.Getenv("RAYTLS_BORINGSSL_VERIFY")
	if binary == "" {
		t.Log("RAYTLS_BORINGSSL_VERIFY is not set, so BoringSSL is not asked: build the checker with hack/boringssl/build.sh")
		return nil
	}
	chainFile, bundleFile := filepath.Join(t.TempDir(), "chain.pem"), filepath.Join(t.TempDir(), "bundle.pem")
	return func(chain, bundle []*x509.Certificate, at ...time.Time) error {
		arguments := []string{chainFile, bundleFile}
		for _, moment := range at {
			arguments = append(arguments, strconv.FormatInt(moment.Unix(), 10))
		}
		if err := errors.Join(os.WriteFile(chainFile, pki.EncodeBundle(chain...), 0o600), os.WriteFile(bundleFile, pki.EncodeBundle(bundle...), 0o600)); err != nil {
			return err
		}
		out, err := exec.CommandContext(t.Context(), binary, arguments...).CombinedOutput()
		if err != nil {
			return fmt.Errorf("%w: %s", err, strings.TrimSpace(string(out)))
		}
		return nil
	}
}
