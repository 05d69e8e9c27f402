// Package clockskew measures how far the clocks of API servers are from the operator's, by the Date of their answers. It talks to
// nobody: it looks at the answers that the operator gets anyway.
package clockskew

import (
	"fmt"
	"net/http"
	"sync"
	"time"

	"github.com/go-logr/logr"
	"k8s.io/utils/clock"

	"github.com/raytls/raytls/internal/kube"
)

const (
	// second is the resolution of the header Date.
	second = time.Second
	// quick is how long an answer may take that the offset is measured by. What took longer tells less.
	quick = time.Second
	// small is an offset that is as good as none.
	small = 2 * time.Second
	// length is how long answers of one period are collected. Measures hold for one to two periods.
	length = 2 * time.Minute
)

// Meter measures by all answers of the last minutes. Several API servers may answer, whose clocks differ.
type Meter struct {
	clock     clock.PassiveClock
	tolerance time.Duration
	log       logr.Logger

	mu                sync.Mutex
	present, previous period
	answer            *Answer
}

// period is what answers of some minutes come to.
type period struct {
	since time.Time
	// The API servers are ahead of the operator by least to most, as far as seen.
	seen        bool
	least, most time.Duration
	// beyond reports whether an answer was beyond the tolerance.
	beyond bool
}

// Answer is one answer of an API server that is beyond the tolerance.
type Answer struct {
	// Operator is what the operator's clock showed at the answer, and APIServer what the API server's did.
	Operator, APIServer time.Time
}

// String says how the clocks differ, and what to do. It is the same as long as they do.
func (a *Answer) String() string {
	return fmt.Sprintf("when the operator's clock read %s, that of an API server read %s, and the operator makes no keys and begins no restart while the two differ by more than %g minutes; correct the clock of the controller's node, or that of the API server",
		kube.FormatTime(a.Operator), kube.FormatTime(a.APIServer), kube.ClockTolerance.Minutes())
}

// NewMeter makes a meter of how far API servers are from a clock. It logs when they come to differ by more than the tolerance, and
// when they cease to.
func NewMeter(of clock.PassiveClock, tolerance time.Duration, log logr.Logger) *Meter {
	return &Meter{clock: of, tolerance: tolerance, log: log}
}

// Wrap has the meter look at the answers to a connection's requests.
func (m *Meter) Wrap(next http.RoundTripper) http.RoundTripper {
	return Dates(next, m.clock.Now, m.observe)
}

// observe takes the time of an answer to what was asked then.
func (m *Meter) observe(asked, answered, server time.Time) {
	// The server wrote a time that its clock showed between the two moments, cut to the second.
	least, most := server.Sub(answered), server.Add(second).Sub(asked)
	m.mu.Lock()
	defer m.mu.Unlock()
	m.turn(answered)
	p := &m.present
	if answered.Sub(asked) <= quick {
		if !p.seen {
			p.seen, p.least, p.most = true, least, most
		}
		p.least, p.most = min(p.least, least), max(p.most, most)
	}
	if least <= m.tolerance && most >= -m.tolerance {
		return
	}
	p.beyond = true
	if m.answer == nil {
		m.answer = &Answer{Operator: answered, APIServer: server}
		m.log.Error(nil, "Refusing to make keys, since the operator's clock and an API server's differ too much",
			"operator", kube.FormatTime(answered), "apiServer", kube.FormatTime(server))
	}
}

// turn begins another period where the present one is over.
func (m *Meter) turn(now time.Time) {
	age := now.Sub(m.present.since)
	if age < length {
		return
	}
	if m.previous = m.present; age >= 2*length {
		m.previous = period{}
	}
	m.present = period{since: now}
	if m.answer != nil && !m.previous.beyond {
		m.answer = nil
		m.log.Info("Making keys again, since the operator's clock and the API servers' agree")
	}
}

// Beyond is an answer that was beyond the tolerance within the last minutes; nil if none was.
func (m *Meter) Beyond() *Answer {
	m.mu.Lock()
	defer m.mu.Unlock()
	return m.answer
}

// Offset is how far API servers are ahead of the clock at least; negative if they are behind. It is zero if that is not known.
func (m *Meter) Offset() time.Duration {
	m.mu.Lock()
	defer m.mu.Unlock()
	least, most := m.present.least, m.present.most
	switch {
	case !m.present.seen:
		least, most = m.previous.least, m.previous.most
	case m.previous.seen:
		least, most = min(least, m.previous.least), max(most, m.previous.most)
	}
	switch {
	case least >= small:
		return least
	case most <= -small:
		return most
	}
	return 0
}

// Clock tells the time by the API servers' clocks, as far as they are known: it is that of base, moved by the offset. So the creation
// of a pod and the operator's records are times of one clock.
func (m *Meter) Clock(base clock.PassiveClock) clock.PassiveClock { return moved{base, m} }

type moved struct {
	clock.PassiveClock
	meter *Meter
}

func (c moved) Now() time.Time                   { return c.PassiveClock.Now().Add(c.meter.Offset()) }
func (c moved) Since(at time.Time) time.Duration { return c.Now().Sub(at) }
