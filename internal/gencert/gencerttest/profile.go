// Package gencerttest reads a profile back, for tests. Only the scripts read it outside of them.
package gencerttest

import (
	"errors"
	"strconv"
	"strings"
	"time"

	"github.com/raytls/raytls/internal/gencert"
)

// ParseProfile reads a text that Marshal wrote, and refuses any other. Times are in UTC.
func ParseProfile(text []byte) (gencert.Profile, error) {
	values := map[string]string{}
	for line := range strings.Lines(string(text)) {
		key, value, _ := strings.Cut(strings.TrimSuffix(line, "\n"), "=")
		values[key] = value
	}
	// A value that is not a number becomes zero here, which the comparison below refuses.
	number := func(key string) int64 {
		n, _ := strconv.ParseInt(values[key], 10, 64)
		return n
	}
	p := gencert.Profile{
		Revision: int(number("revision")), Authority: values["authority"], Issuer: values["issuer"],
		IssuerNotAfter: time.Unix(number("issuerNotAfter"), 0).UTC(),
		KeyAlgorithm:   values["keyAlgorithm"], ValidityDays: int(number("validityDays")),
		HeadServiceShortName: values["headServiceShortName"] == "true", HeadUntilIssuerEnd: values["headUntilIssuerEnd"] == "true",
		CAKeyAlgorithm: values["caKeyAlgorithm"],
	}
	if start := number("issuerNotBefore"); start != 0 {
		p.IssuerNotBefore = time.Unix(start, 0).UTC()
	}
	if names := values["headDNSNames"]; names != "" {
		p.HeadDNSNames = strings.Split(names, ",")
	}
	canonical, err := p.Marshal()
	if err != nil {
		return gencert.Profile{}, err
	}
	if string(canonical) != string(text) {
		return gencert.Profile{}, errors.New("profile is not in canonical form")
	}
	return p, nil
}
