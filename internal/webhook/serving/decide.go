// Package serving makes, replaces and serves the certificate of the admission webhook.
//
// API servers must trust a certificate before any replica serves it, and until none does. Each generation has an
// authority of its own, so replacing it takes these steps, each seen to be done before the next: the next generation is
// stored, its authority is trusted beside the current one's, the next becomes the current, the old authority is dropped.
package serving

import (
	"crypto/x509"
	"maps"
	"net/netip"
	"slices"
	"time"
)

// maxAuthorities bounds the bundle, whatever happens to the Secret again and again.
const maxAuthorities = 16

// Profile says what certificates are made, and when they are replaced.
type Profile struct {
	// DNSNames and IPs are what API servers call the webhook by.
	DNSNames []string
	IPs      []netip.Addr
	// Validity is how long a certificate and its authority last. They are replaced after two thirds of it.
	Validity time.Duration
	// Settling is how long a caBundle is seen to hold an authority before its certificate is served: API servers learn of
	// it by a watch.
	Settling time.Duration
	// Retiring is how long an authority is trusted after its certificate was replaced: replicas learn of that by a watch, and
	// then wait Settling themselves if they have not watched for as long.
	Retiring time.Duration
}

// NewProfile is the profile for a Service: its name as API servers call it.
func NewProfile(service, namespace string) Profile {
	return Profile{
		DNSNames: []string{service + "." + namespace + ".svc"},
		Validity: 90 * 24 * time.Hour, Settling: time.Minute, Retiring: 10 * time.Minute,
	}
}

// Memory is what a process has seen happen, by its own clock. It is not stored: an operator that starts anew waits anew,
// and no wait is cut short by another machine's clock.
type Memory struct {
	// trusted is since when every webhook's caBundle holds an authority.
	trusted map[string]time.Time
	// current is the generation that replicas are to serve, since when.
	current string
	since   time.Time
}

// See adds what is there now. Both Decide and Adopt take a memory that has seen what they are given.
func (m Memory) See(now time.Time, stored Stored, observed Observed) Memory {
	out := Memory{trusted: map[string]time.Time{}, current: m.current, since: m.since}
	for _, authority := range observed.all() {
		if !observed.holds(authority) {
			continue
		}
		since, known := m.trusted[id(authority)]
		if !known {
			since = now
		}
		out.trusted[id(authority)] = since
	}
	return out.serve(now, stored.Current)
}

func (m Memory) serve(now time.Time, current *Generation) Memory {
	if m.current == current.ID() {
		return m
	}
	return Memory{trusted: maps.Clone(m.trusted), current: current.ID(), since: now}
}

// settled is when a generation will have been trusted for long enough; zero if it is not trusted.
func (p Profile) settled(m Memory, g *Generation) time.Time {
	since, trusted := m.trusted[g.ID()]
	if !trusted {
		return time.Time{}
	}
	return since.Add(p.Settling)
}

// Decision is what is to be, to be written in this order: the Secret, then the caBundle of every webhook.
type Decision struct {
	Stored Stored
	// Why says what was changed, for the log; empty if nothing was.
	Why string
	// Again is when to look again, if nothing happens before.
	Again time.Time
	// Memory is the memory to go on with.
	Memory Memory
}

// Decide says what the Secret and caBundle are to hold.
func (p Profile) Decide(now time.Time, stored Stored, observed Observed, memory Memory) (Decision, error) {
	current, next := stored.Current, stored.Next
	if !current.usable(now) {
		current = nil
	}
	if !next.usable(now) || !p.named(next.leaf) {
		next = nil
	}
	trusted := valid(observed.all(), now)
	d := Decision{}
	if current != nil && len(trusted) > 0 && !contains(trusted, current.authority) {
		// Somebody put it there. Replicas go on with what is trusted until this is too.
		d.Why = "the current certificate is not the one that is trusted"
		if next == nil && p.named(current.leaf) {
			next = current
		}
		current = nil
	}
	if next == nil && (current == nil || !p.named(current.leaf) || !now.Before(p.renewal(current))) {
		made, err := p.newGeneration(now)
		if err != nil {
			return d, err
		}
		d.Why = "made the next certificate"
		next = made
	}
	others := slices.DeleteFunc(valid(unique(append(trusted, stored.Authorities...)), now), func(a *x509.Certificate) bool {
		return current != nil && a.Equal(current.authority) || next != nil && a.Equal(next.authority)
	})
	if next != nil {
		settled := p.settled(memory, next)
		// Where nobody trusts anything, and where nobody serves what is trusted, there is nothing to wait for.
		alone := !observed.kept() || current == nil && len(others) == 0
		switch {
		case alone, !settled.IsZero() && !now.Before(settled):
			if current != nil {
				others = append(others, current.authority)
			}
			current, next, d.Why = next, nil, "the next certificate becomes the current one"
		case !settled.IsZero():
			d.again(settled)
		}
	}
	d.Memory = memory.serve(now, current)
	if retired := d.Memory.since.Add(p.Retiring); current != nil && now.Before(retired) {
		if len(others) > 0 {
			d.again(retired)
		}
	} else if current != nil {
		others = nil
	}
	d.Stored = Stored{Current: current, Next: next, Authorities: authorities(current, next, others)}
	if current != nil && next == nil {
		d.again(p.renewal(current))
	}
	return d, nil
}

// again asks for a further look, at that time at the latest.
func (d *Decision) again(at time.Time) {
	if d.Again.IsZero() || at.Before(d.Again) {
		d.Again = at
	}
}

// authorities are what is to be trusted: that of each generation, and the newest of the others.
func authorities(current, next *Generation, others []*x509.Certificate) []*x509.Certificate {
	var out []*x509.Certificate
	for _, g := range []*Generation{current, next} {
		if g != nil {
			out = append(out, g.authority)
		}
	}
	others = unique(others)
	return unique(append(out, others[:min(len(others), maxAuthorities-len(out))]...))
}

// Adopt says whether a process that serves one generation, or nil, is to serve the stored one from now on; if not, when to
// look again. It does not rely on who wrote the Secret: what was put there by somebody else is served only once it is trusted.
func (p Profile) Adopt(now time.Time, serves *Generation, stored Stored, observed Observed, memory Memory) (adopt bool, again time.Time) {
	current := stored.Current
	if !current.usable(now) || current.ID() == serves.ID() {
		return false, time.Time{}
	}
	trusted := observed.holds(current.authority)
	switch {
	case !observed.kept():
		return true, time.Time{}
	case !serves.usable(now):
		return trusted || len(valid(observed.all(), now)) == 0, time.Time{}
	case !trusted:
		return false, time.Time{}
	case !observed.holds(serves.authority):
		return true, time.Time{}
	}
	settled := p.settled(memory, current)
	return !now.Before(settled), settled
}

// renewal is when a generation is to be replaced.
func (p Profile) renewal(g *Generation) time.Time {
	made := g.leaf.NotBefore.Add(backdating)
	return made.Add(g.leaf.NotAfter.Sub(made) * 2 / 3)
}

// named says whether the certificate is for exactly the profile's names.
func (p Profile) named(leaf *x509.Certificate) bool {
	var has, wants []string
	has = append(has, leaf.DNSNames...)
	for _, ip := range leaf.IPAddresses {
		has = append(has, ip.String())
	}
	wants = append(wants, p.DNSNames...)
	for _, ip := range p.IPs {
		wants = append(wants, ip.Unmap().String())
	}
	slices.Sort(has)
	slices.Sort(wants)
	return slices.Equal(has, slices.Compact(wants))
}
