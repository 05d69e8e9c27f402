package connect

import (
	"net/http"
	"sync"
	"time"
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

func (c *clock) wrap(next http.RoundTripper) http.RoundTripper { return dated{c, next} }

// dated is a connection that a clock learns from.
type dated struct {
	*clock
	next http.RoundTripper
}

// RoundTrip sends a request.
func (d dated) RoundTrip(request *http.Request) (*http.Response, error) {
	response, err := d.next.RoundTrip(request)
	if err != nil {
		return nil, err
	}
	at, err := http.ParseTime(response.Header.Get("Date"))
	if err != nil { // an answer without a date teaches nothing
		return response, nil
	}
	d.mu.Lock()
	defer d.mu.Unlock()
	if d.ahead = at.Sub(d.machine()); d.ahead.Abs() <= tolerance {
		d.ahead = 0
	}
	return response, nil
}
