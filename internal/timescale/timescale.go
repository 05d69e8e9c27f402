// Package timescale tells how long days are. An installation for tests has shorter ones, so that certificates which real pods verify by
// their real clocks end within minutes.
package timescale

import (
	"time"

	"github.com/raytls/raytls/api/v1alpha1"
)

// Least is the shortest wait of a Scale. Kubelets mount Secrets from caches, and clocks differ by seconds, however short a day is.
const Least = 30 * time.Second

// MinutesPerDay is how many minutes a real day has.
const MinutesPerDay = 24 * 60

// Scale is how long a day is. The zero value is that of every installation but those for tests.
type Scale struct {
	// MinutesPerDay is how many minutes a day has; zero for the 24 hours of a real one.
	MinutesPerDay int
}

// Days is how long so many days are.
func (s Scale) Days(n int32) time.Duration {
	if s.MinutesPerDay == 0 {
		return v1alpha1.Days(n)
	}
	return time.Duration(n) * time.Duration(s.MinutesPerDay) * time.Minute
}

// Wait is how long a wait is that is as long with days of 24 hours: shorter as days are, and no shorter than Least.
func (s Scale) Wait(long time.Duration) time.Duration {
	if s.MinutesPerDay == 0 {
		return long
	}
	return min(long, max(Least, long*time.Duration(s.MinutesPerDay)/MinutesPerDay))
}
