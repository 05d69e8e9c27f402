package gencert

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"regexp"
	"strings"
	"time"
)

// maxReportBytes bounds what is read of a termination message, which any process of the pod's image can write.
const maxReportBytes = 512

var serialPattern = regexp.MustCompile(`^[0-9a-f]{1,40}$`)

// Report is what a pod's init container says of the certificate it made. It is the pod's own word: good for reporting
// and for planning renewals, never for deciding about a key.
type Report struct {
	// Authority and Issuer are the ids that the profile carried when the certificate was signed.
	Authority, Issuer string
	// Serial is the certificate's serial number in lower-case hexadecimal. The scripts write 32 digits, zeros in front included.
	Serial string
	// NotAfter and IssuedAt are in UTC, to the second.
	NotAfter, IssuedAt time.Time
}

type reportJSON struct {
	Authority string `json:"authority"`
	Issuer    string `json:"issuer"`
	Serial    string `json:"serial"`
	NotAfter  string `json:"notAfter"`
	IssuedAt  string `json:"issuedAt"`
}

// ParseReport reads the termination message of an init container: one line of JSON in exactly the form that Message
// gives, of at most 512 bytes. Everything else is an error, which never repeats any of the message.
func ParseReport(message string) (Report, error) {
	if len(message) > maxReportBytes {
		return Report{}, fmt.Errorf("termination message is longer than %d bytes", maxReportBytes)
	}
	decoder := json.NewDecoder(strings.NewReader(message))
	decoder.DisallowUnknownFields()
	var raw reportJSON
	if err := decoder.Decode(&raw); err != nil {
		// The decoder's error quotes what it read.
		return Report{}, errors.New("termination message is not a report in JSON")
	}
	notAfter, err := time.Parse(time.RFC3339, raw.NotAfter)
	if err != nil {
		return Report{}, errors.New("notAfter of the termination message is not an RFC 3339 time")
	}
	issuedAt, err := time.Parse(time.RFC3339, raw.IssuedAt)
	if err != nil {
		return Report{}, errors.New("issuedAt of the termination message is not an RFC 3339 time")
	}
	report := Report{
		Authority: raw.Authority, Issuer: raw.Issuer, Serial: raw.Serial,
		NotAfter: notAfter.UTC(), IssuedAt: issuedAt.UTC(),
	}
	canonical, err := report.Message()
	if err != nil {
		return Report{}, err
	}
	// Refuses what a JSON decoder lets pass: repeated or differently cased names, spaces, more values, other zones.
	if strings.TrimSuffix(message, "\n") != strings.TrimSuffix(canonical, "\n") {
		return Report{}, errors.New("termination message is not in canonical form")
	}
	return report, nil
}

// Message returns the termination message that says this report: one line of JSON with its newline, at most 512 bytes.
// Ids must be lower-case hexadecimal of at most 64 digits, the serial of at most 40, NotAfter after IssuedAt.
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
	line, err := json.Marshal(reportJSON{
		Authority: r.Authority, Issuer: r.Issuer, Serial: r.Serial,
		NotAfter: r.NotAfter.Format(time.RFC3339), IssuedAt: r.IssuedAt.Format(time.RFC3339),
	})
	if err != nil {
		return "", fmt.Errorf("encoding report: %w", err)
	}
	return string(bytes.TrimSpace(line)) + "\n", nil
}
