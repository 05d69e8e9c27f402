package timescale

import (
	"testing"
	"time"
)

func TestScale(t *testing.T) {
	for name, c := range map[string]struct {
		reason     string
		scale      Scale
		days, wait time.Duration // of ten days, and of five minutes
	}{
		"real":        {"by default a day is a day", Scale{}, 240 * time.Hour, 5 * time.Minute},
		"a minute":    {"waits have a floor, which kubelets need", Scale{MinutesPerDay: 1}, 10 * time.Minute, Least},
		"six hours":   {"waits are shorter as days are", Scale{MinutesPerDay: 360}, 60 * time.Hour, 75 * time.Second},
		"a whole day": {"a day of 1440 minutes is a day", Scale{MinutesPerDay: 1440}, 240 * time.Hour, 5 * time.Minute},
	} {
		scale := c.scale
		if got := scale.Days(10); got != c.days {
			t.Errorf("%s: %s: ten days are %s", name, c.reason, got)
		}
		if got := scale.Wait(5 * time.Minute); got != c.wait {
			t.Errorf("%s: %s: five minutes are %s", name, c.reason, got)
		}
	}
	short := Scale{MinutesPerDay: 1}
	if got := short.Wait(time.Second); got != time.Second {
		t.Errorf("no wait becomes longer: %s", got)
	}
}
