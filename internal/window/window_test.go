package window

import (
	"testing"
	"time"

	"github.com/raytls/raytls/api/v1alpha1"
)

func of(schedule, zone string, minutes int32) v1alpha1.RestartWindow {
	return v1alpha1.RestartWindow{Schedule: schedule, TimeZone: zone, DurationMinutes: minutes}
}

func at(text string) time.Time {
	out, err := time.Parse(time.RFC3339, text)
	if err != nil {
		panic(err)
	}
	return out
}

func TestNext(t *testing.T) {
	saturday := of("0 2 * * 6", "Europe/Berlin", 240)
	nightly := of("30 23 * * *", "UTC", 60)
	for name, c := range map[string]struct {
		reason  string
		windows []v1alpha1.RestartWindow
		now     string
		want    string // empty for now
	}{
		"none":              {"without windows a restart begins at any time", nil, "2026-11-27T12:00:00Z", ""},
		"before":            {"the window opens by the clock of its zone", []v1alpha1.RestartWindow{saturday}, "2026-11-27T12:00:00Z", "2026-11-28T01:00:00Z"},
		"its first moment":  {"it is open from its first moment", []v1alpha1.RestartWindow{saturday}, "2026-11-28T01:00:00Z", ""},
		"one second before": {"and not before", []v1alpha1.RestartWindow{saturday}, "2026-11-28T00:59:59Z", "2026-11-28T01:00:00Z"},
		"its last moment":   {"until its last", []v1alpha1.RestartWindow{saturday}, "2026-11-28T04:59:59Z", ""},
		"after":             {"it is closed when its length is over", []v1alpha1.RestartWindow{saturday}, "2026-11-28T05:00:00Z", "2026-12-05T01:00:00Z"},
		"over midnight":     {"a window may go on the next day", []v1alpha1.RestartWindow{nightly}, "2026-11-28T00:10:00Z", ""},
		"the first":         {"the first of several counts", []v1alpha1.RestartWindow{saturday, nightly}, "2026-11-27T12:00:00Z", "2026-11-27T23:30:00Z"},
		"one of them":       {"and any that is open", []v1alpha1.RestartWindow{saturday, nightly}, "2026-11-27T23:40:00Z", ""},
		"summer":            {"summer time moves it", []v1alpha1.RestartWindow{saturday}, "2026-07-03T12:00:00Z", "2026-07-04T00:00:00Z"},
	} {
		t.Run(name, func(t *testing.T) {
			var want time.Time
			if c.want != "" {
				want = at(c.want)
			}
			if got := Next(c.windows, at(c.now)); !got.Equal(want) {
				t.Errorf("%s: got %s, want %s", c.reason, got, want)
			}
		})
	}
}

func TestCheck(t *testing.T) {
	for _, w := range []v1alpha1.RestartWindow{of("0 2 * * 6", "UTC", 1), of("*/5 0-6 1,15 JAN-MAR MON", "America/Argentina/Buenos_Aires", 1), of("0 0 29 2 *", "Etc/GMT+1", 1)} {
		if err := Check(w); err != nil {
			t.Errorf("%v: %v", w, err)
		}
	}
	for reason, w := range map[string]v1alpha1.RestartWindow{
		"four fields":                     of("0 2 * *", "UTC", 1),
		"six fields":                      of("0 0 2 * * 6", "UTC", 1),
		"a descriptor":                    of("@every 1s x x x", "UTC", 1),
		"a zone in the schedule":          of("TZ=UTC 2 * * 6", "UTC", 1),
		"a zone that makes parsers panic": of("TZ=", "UTC", 1),
		"out of range":                    of("60 2 * * 6", "UTC", 1),
		"a step of zero":                  of("*/0 2 * * 6", "UTC", 1),
		"a day that never comes":          of("0 0 30 2 *", "UTC", 1),
		"an unknown zone":                 of("0 2 * * 6", "Europe/Atlantis", 1),
		"a path":                          of("0 2 * * 6", "../etc/passwd", 1),
		"the machine's zone":              of("0 2 * * 6", "Local", 1),
		"no zone":                         of("0 2 * * 6", "", 1),
	} {
		if err := Check(w); err == nil {
			t.Errorf("%s is accepted: %v", reason, w)
		}
		if next := Next([]v1alpha1.RestartWindow{w}, at("2026-11-27T12:00:00Z")); !next.After(at("2126-01-01T00:00:00Z")) {
			t.Errorf("%s opens at %s, and what cannot be read must let nothing begin", reason, next)
		}
	}
}
