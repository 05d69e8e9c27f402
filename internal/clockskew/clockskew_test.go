package clockskew

import (
	"errors"
	"net/http"
	"strings"
	"testing"
	"time"

	"github.com/go-logr/logr/funcr"
	utilnet "k8s.io/apimachinery/pkg/util/net"
	clocktesting "k8s.io/utils/clock/testing"
)

const tolerance = 5 * time.Minute

// lab is an operator with a clock of its own, and API servers that are ahead of it.
type lab struct {
	clock *clocktesting.FakeClock
	meter *Meter
	logs  []string
	// takes is how long an answer is under way, each way. noDate leaves the header out, and fails answers nothing.
	takes         time.Duration
	noDate, fails bool
	ahead         time.Duration
}

func newLab() *lab {
	l := &lab{clock: clocktesting.NewFakeClock(time.Date(2026, 1, 2, 3, 4, 5, 400e6, time.UTC))}
	l.meter = NewMeter(l.clock, tolerance, funcr.New(func(_, args string) { l.logs = append(l.logs, args) }, funcr.Options{}))
	return l
}

func (l *lab) RoundTrip(*http.Request) (*http.Response, error) {
	l.clock.Step(l.takes)
	header := http.Header{}
	if !l.noDate {
		header.Set("Date", l.clock.Now().Add(l.ahead).UTC().Format(http.TimeFormat))
	}
	l.clock.Step(l.takes)
	if l.fails {
		return nil, errors.New("connection refused")
	}
	return &http.Response{Header: header}, nil
}

// ask has a server that is so far ahead answer.
func (l *lab) ask(t *testing.T, ahead time.Duration) {
	t.Helper()
	l.ahead = ahead
	response, err := l.meter.Wrap(l).RoundTrip(nil)
	if (err != nil) != l.fails {
		t.Fatal(err)
	}
	if err == nil && response.Body != nil {
		response.Body.Close()
	}
}

func TestBeyond(t *testing.T) {
	for name, c := range map[string]struct {
		reason string
		ahead  time.Duration
		change func(*lab)
		want   bool
	}{
		"same":              {"the clocks agree", 0, nil, false},
		"five minutes":      {"as much is tolerated", tolerance, nil, false},
		"minus five":        {"either way", -tolerance, nil, false},
		"ahead":             {"more is not", tolerance + 2*time.Second, nil, true},
		"behind":            {"either way", -tolerance - 2*time.Second, nil, true},
		"a second more":     {"the header has no fractions, so a second may be none", tolerance + 300*time.Millisecond, nil, false},
		"slow, within":      {"what took a minute may have been written at any moment of it", tolerance + 30*time.Second, func(l *lab) { l.takes = time.Minute }, false},
		"slow, beyond":      {"but not at any other", tolerance + 3*time.Minute, func(l *lab) { l.takes = time.Minute }, true},
		"no date":           {"who says nothing is not judged", time.Hour, func(l *lab) { l.noDate = true }, false},
		"no answer":         {"nor is who does not answer", time.Hour, func(l *lab) { l.fails = true }, false},
		"a clock of 1970":   {"however far it is off", -56 * 365 * 24 * time.Hour, nil, true},
		"one among servers": {"each pod is stamped by one of them", tolerance + time.Minute, func(l *lab) { l.ask(t, 0) }, true},
	} {
		t.Run(name, func(t *testing.T) {
			l := newLab()
			if c.change != nil {
				c.change(l)
			}
			l.ask(t, c.ahead)
			if got := l.meter.Beyond(); (got != nil) != c.want {
				t.Errorf("%s: got %v", c.reason, got)
			}
		})
	}
}

func TestBeyondIsSaidOnceAndEnds(t *testing.T) {
	l := newLab()
	l.ask(t, time.Hour)
	first := l.meter.Beyond().String()
	if !strings.Contains(first, "operator's clock read 2026-01-02T03:04:05Z, that of an API server read 2026-01-02T04:04:05Z") {
		t.Errorf("both times are given: %s", first)
	}
	for range 5 {
		l.clock.Step(time.Minute)
		l.ask(t, time.Hour+time.Second)
		if got := l.meter.Beyond(); got == nil || got.String() != first {
			t.Fatalf("the text stays the same while the clocks differ: %v", got)
		}
	}
	l.ask(t, 0) // another server, whose clock is right
	if l.meter.Beyond() == nil {
		t.Error("one right clock among several does not help")
	}
	minutes := 0
	for ; l.meter.Beyond() != nil && minutes < 10; minutes++ {
		l.clock.Step(time.Minute)
		l.ask(t, 0)
	}
	if minutes < 2 || minutes > 4 {
		t.Errorf("corrected clocks count after %d minutes", minutes)
	}
	if len(l.logs) != 2 || !strings.Contains(l.logs[0], "Refusing to make keys") || !strings.Contains(l.logs[1], "Making keys again") {
		t.Errorf("beginning and end are logged once: %q", l.logs)
	}
	l.clock.Step(time.Hour)
	l.ask(t, -time.Hour)
	if got := l.meter.Beyond(); got == nil || got.String() == first {
		t.Errorf("another time is said anew: %v", got)
	}
}

func TestOffset(t *testing.T) {
	for name, c := range map[string]struct {
		reason string
		ahead  []time.Duration
		takes  time.Duration
		want   time.Duration
	}{
		"none":          {"nothing is known", nil, 0, 0},
		"same":          {"clocks that agree are left alone", []time.Duration{0, 900 * time.Millisecond, -time.Second}, 0, 0},
		"ahead":         {"it is known to the second", []time.Duration{3 * time.Minute}, 0, 3*time.Minute - 400*time.Millisecond},
		"behind":        {"either way", []time.Duration{-3 * time.Minute}, 0, -3*time.Minute + 600*time.Millisecond},
		"two servers":   {"never more than what the nearest is off", []time.Duration{3 * time.Minute, time.Minute}, 0, time.Minute - 400*time.Millisecond},
		"both sides":    {"between them is the operator", []time.Duration{3 * time.Minute, -time.Minute}, 0, 0},
		"slow":          {"slow answers tell little", []time.Duration{3 * time.Minute}, 2 * time.Second, 0},
		"quick enough":  {"others tell within their time", []time.Duration{3 * time.Minute}, 300 * time.Millisecond, 3*time.Minute - time.Second},
		"beyond, ahead": {"it is known beyond the tolerance too", []time.Duration{time.Hour}, 0, time.Hour - 400*time.Millisecond},
	} {
		l := newLab()
		l.takes = c.takes
		for _, ahead := range c.ahead {
			l.ask(t, ahead)
		}
		if got := l.meter.Offset(); got != c.want {
			t.Errorf("%s: %s: got %s, want %s", name, c.reason, got, c.want)
		}
		if got, want := l.meter.Clock(l.clock).Now(), l.clock.Now().Add(c.want); !got.Equal(want) {
			t.Errorf("%s: the clock shows %s, want %s", name, got, want)
		}
	}
	l := newLab()
	l.ask(t, time.Minute)
	l.clock.Step(time.Hour)
	if l.meter.Offset() == 0 {
		t.Error("what was measured holds until there is another answer")
	}
	for range 3 {
		l.clock.Step(length)
		l.ask(t, 0)
	}
	if got := l.meter.Offset(); got != 0 {
		t.Errorf("a corrected clock is off by nothing, and not by %s", got)
	}
	start := l.clock.Now()
	if got := l.meter.Clock(l.clock).Since(start.Add(-time.Minute)); got != time.Minute {
		t.Errorf("a minute lasts %s", got)
	}
}

func TestClientsFindTheConnection(t *testing.T) {
	l := newLab()
	wrapped, ok := l.meter.Wrap(l).(utilnet.RoundTripperWrapper)
	if !ok || wrapped.WrappedRoundTripper() != http.RoundTripper(l) {
		t.Error("client-go finds the settings of a connection below what wraps it")
	}
}
