package keys

import (
	"errors"
	"slices"
	"time"

	"github.com/raytls/raytls/internal/kube"
)

// boundaries are the moments at which something changes by itself.
func (m *model) boundaries() []time.Time {
	var out []time.Time
	// The leader's clock may be off, so each of them has a moment of its own for the leader.
	add := func(at time.Time) {
		for _, at := range []time.Time{at, at.Add(-m.leader.off)} {
			if at.After(m.now) {
				out = append(out, at)
			}
		}
	}
	for _, p := range m.pods {
		if p.leaf != nil {
			add(p.leaf.NotAfter)
		}
	}
	for _, v := range m.versions[max(0, len(m.versions)-3):] {
		add(v.from.Add(m.staleness))
		for _, certificate := range slices.Concat(v.chain, v.bundle) {
			add(certificate.NotAfter)
			add(certificate.NotAfter.Add(-kube.ClockTolerance))
		}
	}
	add(m.leader.askAgain)
	add(m.leader.settledSince.Add(SettleTime))
	add(m.settings.ReplaceIssuedBefore)
	slices.SortFunc(out, time.Time.Compare)
	return out
}

// pass lets time pass: a little, a lot, or to one second either side of the next boundary.
func (m *model) pass() {
	to := m.now.Add(time.Duration(1+m.r.IntN(90)) * time.Minute)
	switch boundaries := m.boundaries(); m.r.IntN(7) {
	case 0, 1:
		to = m.now.Add(time.Duration(1+m.r.IntN(60)) * time.Second)
	case 2:
		to = m.now.Add(time.Duration(1+m.r.IntN(60)) * time.Hour)
	case 3, 4, 5:
		if len(boundaries) > 0 {
			to = boundaries[m.r.IntN(min(6, len(boundaries)))].Add(time.Duration(m.r.IntN(3)-1) * time.Second)
		}
	}
	if !to.After(m.now) {
		return
	}
	m.now = to.Truncate(time.Second)
	m.note("time passes")
	for i := len(m.pods) - 1; i >= 0; i-- {
		if p := m.pods[i]; p.leaf != nil && !p.certified(m.now) && m.chance(2) {
			m.pods = slices.Delete(m.pods, i, i+1)
			m.note("%s, whose certificate has ended, is replaced", p.name)
			m.create(p.head)
		}
	}
}

// hurry asks for one new authority after another.
func (m *model) hurry() error {
	for range 1 + m.r.IntN(4) {
		m.now = m.now.Add(time.Minute)
		m.settings.ReplaceIssuedBefore = m.now.Add(m.leader.off)
		if err := m.operate(); err != nil {
			return err
		}
		if err := m.progress(m.r.IntN(2)); err != nil {
			return err
		}
	}
	return nil
}

// renewAll replaces the authority and then every pod, within minutes, and has pods read what is newest and what is oldest when the
// operator may think that nobody needs the authority before.
func (m *model) renewAll() error {
	if m.lost || m.restored || len(m.versions) == 0 {
		return nil
	}
	m.settings.ReplaceIssuedBefore = m.now.Add(m.leader.off)
	m.note("everything is renewed")
	for range 3 {
		if err := m.operate(); err != nil {
			return err
		}
	}
	m.pods = nil
	for i := range 2 + m.r.IntN(3) {
		if err := m.start(i == 0, true); err != nil {
			return err
		}
	}
	for range 4 {
		m.now = m.now.Add(time.Duration(1+m.r.IntN(25)) * time.Minute)
		m.note("time passes")
		if err := m.operate(); err != nil {
			return err
		}
	}
	return errors.Join(m.start(false, false), m.start(false, true))
}

// start creates a pod that gets a certificate at once, of the newest or the oldest state of the CA Secret that it can read.
func (m *model) start(head, newest bool) error {
	m.create(head)
	p := m.pods[len(m.pods)-1]
	versions := m.mountable(p)
	if len(versions) == 0 {
		return nil
	}
	v := versions[0]
	if newest {
		v = versions[len(versions)-1]
	}
	m.read(p, v)
	return m.certify(p)
}

// calm lets all pods get their certificates and then nothing happens for more than an hour, if the leader lives.
func (m *model) calm() error {
	if m.lost || m.restored {
		return nil
	}
	for range 4 {
		if err := m.operate(); err != nil {
			return err
		}
		if len(m.pods) < 12 && m.chance(3) {
			m.create(false)
		}
		if err := m.progress(0); err != nil {
			return err
		}
		if err := m.check(); err != nil {
			return err
		}
		m.now = m.now.Add(time.Duration(5+m.r.IntN(50)) * time.Minute)
		m.note("time passes")
	}
	return nil
}
