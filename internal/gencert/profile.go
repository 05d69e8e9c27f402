package gencert

import (
	"errors"
	"fmt"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"time"
)

const (
	maxProfileBytes  = 32 << 10
	maxHeadDNSNames  = 64
	maxValidityDays  = 36500
	profileFieldsR1  = 11
	profileRevision1 = 1
)

var (
	idPattern    = regexp.MustCompile(`^[0-9a-f]{1,64}$`)
	labelPattern = regexp.MustCompile(`^[a-z0-9]([-a-z0-9]{0,61}[a-z0-9])?$`)
	digits       = regexp.MustCompile(`^[0-9]+$`)
)

// KeyAlgorithms lists the key algorithms that the scripts of revision 1 can make.
func KeyAlgorithms() []string {
	return []string{"ECDSAP256", "ECDSAP384", "RSA2048", "RSA3072", "RSA4096"}
}

// Profile is every parameter that a script reads, and what renews an issuer when there is no policy any more. It is
// the key `profile` of a CA Secret.
type Profile struct {
	// Revision is that of the scripts which understand this profile: 1.
	Revision int
	// Authority and Issuer are ids, lower-case hexadecimal of at most 64 digits; scripts only repeat them in the report.
	Authority, Issuer string
	// IssuerNotBefore is the issuer's start, so that no leaf starts before it. The zero time means: no bound. Whole seconds.
	IssuerNotBefore time.Time
	// IssuerNotAfter is the issuer's end, which no leaf outlives. Whole seconds.
	IssuerNotAfter time.Time
	// KeyAlgorithm is that of the leaf, one of KeyAlgorithms.
	KeyAlgorithm string
	// ValidityDays is how long a leaf lives, 1 to 36500.
	ValidityDays int
	// HeadDNSNames are further names of the head: at most 64 lower-case DNS names without wildcard or closing dot,
	// none of which ends in a label of digits, which would be an address.
	HeadDNSNames []string
	// HeadServiceShortName puts the bare name of the head's service in the head's certificate.
	HeadServiceShortName bool
	// HeadUntilIssuerEnd gives the head a leaf to the issuer's end instead of ValidityDays.
	HeadUntilIssuerEnd bool
	// CAKeyAlgorithm is that of the issuer and the authority; no script uses it.
	CAKeyAlgorithm string
}

// Marshal returns the profile's canonical text: one `key=value` line per field, in fixed order, times in Unix seconds
// (fractions are cut). It fails for a value outside of what the fields' comments allow, so that whatever it returns
// is harmless to a shell that reads it. The error names the field.
func (p Profile) Marshal() ([]byte, error) {
	if err := p.validate(); err != nil {
		return nil, fmt.Errorf("profile: %w", err)
	}
	var notBefore int64
	if !p.IssuerNotBefore.IsZero() {
		notBefore = p.IssuerNotBefore.Unix()
	}
	var text strings.Builder
	for _, line := range [profileFieldsR1][2]string{
		{"revision", strconv.Itoa(p.Revision)},
		{"authority", p.Authority},
		{"issuer", p.Issuer},
		{"issuerNotBefore", strconv.FormatInt(notBefore, 10)},
		{"issuerNotAfter", strconv.FormatInt(p.IssuerNotAfter.Unix(), 10)},
		{"keyAlgorithm", p.KeyAlgorithm},
		{"validityDays", strconv.Itoa(p.ValidityDays)},
		{"headDNSNames", strings.Join(p.HeadDNSNames, ",")},
		{"headServiceShortName", strconv.FormatBool(p.HeadServiceShortName)},
		{"headUntilIssuerEnd", strconv.FormatBool(p.HeadUntilIssuerEnd)},
		{"caKeyAlgorithm", p.CAKeyAlgorithm},
	} {
		text.WriteString(line[0] + "=" + line[1] + "\n")
	}
	return []byte(text.String()), nil
}

// ParseProfile reads what Marshal wrote. Text that is not exactly what Marshal would write is an error, which never
// repeats any of the text. Times come back in UTC.
func ParseProfile(text []byte) (Profile, error) {
	if len(text) > maxProfileBytes {
		return Profile{}, fmt.Errorf("profile is longer than %d bytes", maxProfileBytes)
	}
	lines := strings.Split(string(text), "\n")
	if len(lines) != profileFieldsR1+1 {
		return Profile{}, fmt.Errorf("profile does not have %d lines", profileFieldsR1)
	}
	values := make(map[string]string, profileFieldsR1)
	for i, line := range lines[:profileFieldsR1] {
		key, value, found := strings.Cut(line, "=")
		if !found {
			return Profile{}, fmt.Errorf("profile: line %d is not key=value", i+1)
		}
		values[key] = value
	}
	var p Profile
	var err error
	if p.Revision, err = strconv.Atoi(values["revision"]); err != nil {
		return Profile{}, errors.New("profile: revision is not a number")
	}
	if p.IssuerNotBefore, err = parseSeconds(values["issuerNotBefore"]); err != nil {
		return Profile{}, errors.New("profile: issuerNotBefore is not a number of seconds")
	}
	if p.IssuerNotAfter, err = parseSeconds(values["issuerNotAfter"]); err != nil {
		return Profile{}, errors.New("profile: issuerNotAfter is not a number of seconds")
	}
	if p.ValidityDays, err = strconv.Atoi(values["validityDays"]); err != nil {
		return Profile{}, errors.New("profile: validityDays is not a number")
	}
	if names := values["headDNSNames"]; names != "" {
		p.HeadDNSNames = strings.Split(names, ",")
	}
	p.Authority, p.Issuer = values["authority"], values["issuer"]
	p.KeyAlgorithm, p.CAKeyAlgorithm = values["keyAlgorithm"], values["caKeyAlgorithm"]
	p.HeadServiceShortName = values["headServiceShortName"] == "true"
	p.HeadUntilIssuerEnd = values["headUntilIssuerEnd"] == "true"
	canonical, err := p.Marshal()
	if err != nil {
		return Profile{}, err
	}
	if string(canonical) != string(text) {
		return Profile{}, errors.New("profile is not in canonical form")
	}
	return p, nil
}

func (p Profile) validate() error {
	switch {
	case p.Revision != profileRevision1:
		return errors.New("revision must be 1")
	case !idPattern.MatchString(p.Authority):
		return errors.New("authority must be lower-case hexadecimal of at most 64 digits")
	case !idPattern.MatchString(p.Issuer):
		return errors.New("issuer must be lower-case hexadecimal of at most 64 digits")
	case !p.IssuerNotBefore.IsZero() && !isEncodable(p.IssuerNotBefore):
		return errors.New("issuerNotBefore must be zero or within the years 1970 to 9999")
	case !isEncodable(p.IssuerNotAfter):
		return errors.New("issuerNotAfter must be within the years 1970 to 9999")
	case !p.IssuerNotBefore.Before(p.IssuerNotAfter):
		return errors.New("issuerNotBefore must be before issuerNotAfter")
	case !slices.Contains(KeyAlgorithms(), p.KeyAlgorithm):
		return fmt.Errorf("keyAlgorithm must be one of %s", strings.Join(KeyAlgorithms(), ", "))
	case !slices.Contains(KeyAlgorithms(), p.CAKeyAlgorithm):
		return fmt.Errorf("caKeyAlgorithm must be one of %s", strings.Join(KeyAlgorithms(), ", "))
	case p.ValidityDays < 1 || p.ValidityDays > maxValidityDays:
		return fmt.Errorf("validityDays must be 1 to %d", maxValidityDays)
	case len(p.HeadDNSNames) > maxHeadDNSNames:
		return fmt.Errorf("headDNSNames must be at most %d names", maxHeadDNSNames)
	}
	for i, name := range p.HeadDNSNames {
		if !isDNSName(name) {
			return fmt.Errorf("headDNSNames[%d] must be a lower-case DNS name that does not end in a label of digits", i)
		}
	}
	return nil
}

// isDNSName holds Go and the scripts to the same rule: is_dns_name there.
func isDNSName(name string) bool {
	if len(name) > 253 {
		return false
	}
	labels := strings.Split(name, ".")
	for _, label := range labels {
		if !labelPattern.MatchString(label) {
			return false
		}
	}
	return !digits.MatchString(labels[len(labels)-1])
}

// isEncodable reports whether a time can be in a certificate and in RFC 3339 alike.
func isEncodable(t time.Time) bool {
	return t.Unix() > 0 && t.UTC().Year() <= 9999
}

func parseSeconds(text string) (time.Time, error) {
	seconds, err := strconv.ParseInt(text, 10, 64)
	if err != nil || seconds == 0 {
		return time.Time{}, err
	}
	return time.Unix(seconds, 0).UTC(), nil
}
