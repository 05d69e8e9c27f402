// Package window decides when the windows of a policy are open.
package window

import (
	"errors"
	"fmt"
	"regexp"
	"time"
	_ "time/tzdata" // the image has no database of time zones

	"github.com/robfig/cron/v3"

	"github.com/raytls/raytls/api/v1alpha1"
	"github.com/raytls/raytls/internal/kube"
)

// fields is what the CRD admits. It keeps out what the parser takes besides: time zones in the schedule, @every and names.
var fields = regexp.MustCompile(`^[0-9A-Za-z*/,?-]{1,64}( [0-9A-Za-z*/,?-]{1,64}){4}$`)

// Check is why a window can never open; nil if it can.
func Check(w v1alpha1.RestartWindow) error {
	_, _, err := parse(w)
	return err
}

// Next is when a restart may begin: the zero time if it may now, because a window is open or there is none. Windows that can never
// open let no restart begin: if there are no others, the time is a century off.
func Next(windows []v1alpha1.RestartWindow, now time.Time) time.Time {
	if len(windows) == 0 {
		return time.Time{}
	}
	next := now.AddDate(100, 0, 0)
	for _, w := range windows {
		schedule, zone, err := parse(w)
		if err != nil {
			continue
		}
		length := time.Duration(w.DurationMinutes) * time.Minute
		if opened := schedule.Next(now.In(zone).Add(-length)); !opened.After(now) {
			return time.Time{}
		}
		next = kube.Earlier(next, schedule.Next(now.In(zone)).UTC())
	}
	return next
}

func parse(w v1alpha1.RestartWindow) (cron.Schedule, *time.Location, error) {
	if !fields.MatchString(w.Schedule) {
		return nil, nil, errors.New("schedule must be cron's five fields: minute, hour, day of the month, month, day of the week")
	}
	if w.TimeZone == "" || w.TimeZone == "Local" {
		return nil, nil, fmt.Errorf("time zone %q is not in the IANA database", w.TimeZone)
	}
	zone, err := time.LoadLocation(w.TimeZone)
	if err != nil {
		return nil, nil, fmt.Errorf("time zone %q is not in the IANA database", w.TimeZone)
	}
	schedule, err := cron.NewParser(cron.Minute | cron.Hour | cron.Dom | cron.Month | cron.Dow).Parse(w.Schedule)
	if err != nil {
		return nil, nil, fmt.Errorf("schedule: %w", err)
	}
	// "30 February" parses, and never comes.
	if schedule.Next(time.Date(2000, 1, 1, 0, 0, 0, 0, zone)).IsZero() {
		return nil, nil, errors.New("schedule never comes")
	}
	return schedule, zone, nil
}
