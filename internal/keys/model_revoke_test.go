package keys

import (
	"crypto/x509"
	"fmt"
	"slices"
	"time"

	"github.com/raytls/raytls/internal/pki"
)

// revoke puts a revocation on record, as the operator does before anything else.
func (m *model) revoke() {
	if m.restored || len(m.authorities) == 0 {
		return
	}
	store, err := Read(train(), m.authorities[len(m.authorities)-1], nil)
	if err != nil || store.RevokedBefore < m.revokedBefore {
		return
	}
	m.revokedBefore = store.NextGeneration(Pods{Generation: m.generation, RevokedBefore: m.revokedBefore})
	m.note("every generation below %d is revoked", m.revokedBefore)
}

// carriedOut notes that the keys since a revocation are written. New pods are made from templates that name them.
func (m *model) carriedOut(next Store) {
	if next.RevokedBefore > m.template {
		m.template, m.restored = next.RevokedBefore, false
		m.revoked++
		m.note("the templates name the CA Secret of the generations since %d", m.template)
	}
}

// restartRevoked has all pods of revoked authorities go, or some of them, since their grace periods differ.
func (m *model) restartRevoked() {
	for i := len(m.pods) - 1; i >= 0; i-- {
		if p := m.pods[i]; p.since < m.template && !m.chance(4) {
			m.pods = slices.Delete(m.pods, i, i+1)
			m.note("%s of a revoked authority is replaced", p.name)
			m.create(p.head)
		}
	}
}

// accepted reports whether any verifier accepts the chain, as a client or as a server. Go's tries every path.
func accepted(chain, bundle []*x509.Certificate, at time.Time) bool {
	options := x509.VerifyOptions{
		Roots: x509.NewCertPool(), Intermediates: x509.NewCertPool(), CurrentTime: at, KeyUsages: []x509.ExtKeyUsage{x509.ExtKeyUsageAny},
	}
	for _, certificate := range bundle {
		options.Roots.AddCert(certificate)
	}
	for _, certificate := range chain[1:] {
		options.Intermediates.AddCert(certificate)
	}
	_, err := chain[0].Verify(options)
	return err == nil || pki.VerifyPair(chain, bundle, at) == nil
}

// checkStrangers expects that a pod refuses one that mounts the CA Secret of another name, whatever the time.
func (m *model) checkStrangers(a, b *pod) error {
	key := [2]int{a.read.number, b.read.number}
	if !m.held[key].IsZero() {
		return nil // what a path needs does not change
	}
	m.strangers++
	m.held[key] = m.now
	chain := append([]*x509.Certificate{a.leaf}, a.read.chain...)
	if accepted(chain, b.read.bundle, m.now) || m.original != nil && m.original(chain, b.read.bundle, m.now) == nil {
		return fmt.Errorf("%s of the generations since %d is accepted by %s of those since %d", a.name, a.since, b.name, b.since)
	}
	return nil
}
