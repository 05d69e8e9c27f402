package gencert

import (
	"encoding/json"
	"errors"
	"fmt"
	"regexp"
	"strings"
	"time"
)

// maxReportBytes bounds a termination message, which any process in the pod can write.
const maxReportBytes = 512

var serialPattern = regexp.MustCompile(`^[0-9a-f]{1,40}$`)

// Report describes the certificate that a pod's init container made. It is the pod's own claim: the operator may report it
// and plan renewals by it, but must not decide about a key by it.
type Report struct {
	// Authority and Issuer are the ids from the profile at the time of signing.
	Authority string `json:"authority"`
	Issuer    string `json:"issuer"`
	// Serial is the certificate's serial number in lower-case hexadecimal. The scripts write 32 digits with leading zeros.
	Serial string `json:"serial"`
	// NotAfter and IssuedAt are in UTC, to the second.
	NotAfter time.Time `json:"notAfter"`
	IssuedAt time.Time `json:"issuedAt"`
}

// ParseReport reads the termination message of an init container. It accepts only one line of at most 512 bytes, exactly
// as Message writes it. The error repeats nothing of the message.
func ParseReport(message string) (Report, error) {
	if len(message) > maxReportBytes {
		return Report{}, fmt.Errorf("termination message is longer than %d bytes", maxReportBytes)
	}
	var report Report
	if json.Unmarshal([]byte(message), &report) != nil {
		// The decoder's error quotes its input.
		return Report{}, errors.New("termination message is not a report in JSON")
	}
	canonical, err := report.Message()
	if err != nil {
		return Report{}, err
	}
	// This refuses what a JSON decoder accepts: unknown, repeated or differently cased names, spaces, other zones.
	if strings.TrimSuffix(message, "\n") != strings.TrimSuffix(canonical, "\n") {
		return Report{}, errors.New("termination message is not in canonical form")
	}
	return report, nil
}

// Message returns the report as a termination message: one line of JSON with its newline, at most 512 bytes. Ids must
// be lower-case hexadecimal of at most 64 digits, the serial of at most 40. NotAfter must be after IssuedAt.
func (r Report) Message() (string, error) {
	r.NotAfter, r.IssuedAt = r.NotAfter.UTC().Truncate(time.Second), r.IssuedAt.UTC().Truncate(time.Second)
	switch {
	case !idPattern.MatchString(r.Authority):
		return "", errors.New("authority of the report is not a hexadecimal id")
	case !idPattern.MatchString(r.Issuer):
		return "", errors.New("issuer of the report is not a hexadecimal id")
	case !serialPattern.MatchString(r.Serial):
		return "", errors.New("serial of the report is not hexadecimal")
	case !isEncodable(r.NotAfter) || !isEncodable(r.IssuedAt):
		return "", errors.New("a time of the report is outside of the years 1970 to 9999")
	case !r.NotAfter.After(r.IssuedAt):
		return "", errors.New("notAfter of the report is not after issuedAt")
	}
	line, err := json.Marshal(r)
	if err != nil {
		return "", fmt.Errorf("encoding report: %w", err)
	}
	return string(line) + "\n", nil
}
