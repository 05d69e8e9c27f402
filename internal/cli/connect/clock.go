package connect

import (
	"net/http"
	"sync"
	"time"

	"github.com/raytls/raytls/internal/clockskew"
)

// tolerance is how far a clock may be off before its time counts for nothing. The API server tells whole seconds, and its answer is
// on its way for a while.
const tolerance = 5 * time.Second

// clock is the API server's, by the dates of its answers. A time that goes into a policy is compared with what the operator wrote by
// a clock that agrees with the API server's, and a user's machine may be hours off.
type clock struct {
	machine func() time.Time
	mu      sync.Mutex
	ahead   time.Duration
}

// now is the machine's time unless the API server's differs.
func (c *clock) now() time.Time {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.machine().Add(c.ahead)
}

func (c *clock) wrap(next http.RoundTripper) http.RoundTripper {
	return clockskew.Dates(next, c.machine, c.observe)
}

func (c *clock) observe(_, answered, server time.Time) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.ahead = server.Sub(answered); c.ahead.Abs() <= tolerance {
		c.ahead = 0
	}
}
