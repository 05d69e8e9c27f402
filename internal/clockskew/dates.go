package clockskew

import (
	"net/http"
	"time"
)

// Dates has told called with each answer to a connection's requests that has a Date: when it was asked and answered by a clock, and the
// time that the server's clock showed, cut to the second. That is when the headers arrive, so a watch counts for the moment at which it
// was opened.
func Dates(next http.RoundTripper, now func() time.Time, told func(asked, answered, server time.Time)) http.RoundTripper {
	return &transport{next, now, told}
}

type transport struct {
	next http.RoundTripper
	now  func() time.Time
	told func(asked, answered, server time.Time)
}

// RoundTrip implements http.RoundTripper.
func (t *transport) RoundTrip(request *http.Request) (*http.Response, error) {
	asked := t.now()
	response, err := t.next.RoundTrip(request)
	if err != nil {
		return response, err
	}
	if server, err := http.ParseTime(response.Header.Get("Date")); err == nil {
		t.told(asked, t.now(), server)
	}
	return response, nil
}

// WrappedRoundTripper lets client-go find the connection below.
func (t *transport) WrappedRoundTripper() http.RoundTripper { return t.next }
