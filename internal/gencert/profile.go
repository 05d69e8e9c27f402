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
	maxHeadDNSNames  = 64
	maxValidityDays  = 36500
	profileRevision1 = 1
)

var (
	idPattern    = regexp.MustCompile(`^[0-9a-f]{1,64}$`)
	labelPattern = regexp.MustCompile(`^[a-z0-9]([-a-z0-9]{0,61}[a-z0-9])?$`)
	digits       = regexp.MustCompile(`^[0-9]+$`)
)

// keyAlgorithms lists the key algorithms that the scripts of revision 1 support.
func keyAlgorithms() []string {
	return []string{"ECDSAP256", "ECDSAP384", "RSA2048", "RSA3072", "RSA4096"}
}

// Profile holds every parameter that a script reads. It is the key `profile` of a CA Secret.
type Profile struct {
	// Revision is the revision of the scripts that understand this profile: 1.
	Revision int
	// Authority and Issuer are ids, lower-case hexadecimal of at most 64 digits. The scripts only repeat them in the report.
	Authority, Issuer string
	// IssuerNotBefore is the issuer's start, before which no leaf starts. The zero time sets no bound. Whole seconds.
	IssuerNotBefore time.Time
	// IssuerNotAfter is the issuer's end, which no leaf outlives. Whole seconds.
	IssuerNotAfter time.Time
	// KeyAlgorithm is the leaf's: ECDSAP256, ECDSAP384, RSA2048, RSA3072 or RSA4096.
	KeyAlgorithm string
	// ValidityDays is the number of days that a leaf is valid, 1 to 36500.
	ValidityDays int
	// HeadDNSNames are further names of the head: at most 64 lower-case DNS names without wildcard or closing dot.
	// The last label of a name is not all digits, as that of an address is.
	HeadDNSNames []string
	// HeadServiceShortName adds the bare name of the head's service to the head's certificate.
	HeadServiceShortName bool
	// HeadUntilIssuerEnd makes the head's leaf valid until the issuer's end, whatever ValidityDays says.
	HeadUntilIssuerEnd bool
	// CAKeyAlgorithm is the issuer's and the authority's. No script uses it.
	CAKeyAlgorithm string
}

// Marshal returns the profile's canonical text: one `key=value` line per field, in fixed order, times in Unix seconds
// without fractions. It refuses values outside the fields' documented ranges, so a shell can read the text safely. The
// error names the field.
func (p Profile) Marshal() ([]byte, error) {
	if err := p.validate(); err != nil {
		return nil, fmt.Errorf("profile: %w", err)
	}
	var notBefore int64
	if !p.IssuerNotBefore.IsZero() {
		notBefore = p.IssuerNotBefore.Unix()
	}
	var text strings.Builder
	for _, line := range [][2]string{
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
	case !slices.Contains(keyAlgorithms(), p.KeyAlgorithm):
		return fmt.Errorf("keyAlgorithm must be one of %s", strings.Join(keyAlgorithms(), ", "))
	case !slices.Contains(keyAlgorithms(), p.CAKeyAlgorithm):
		return fmt.Errorf("caKeyAlgorithm must be one of %s", strings.Join(keyAlgorithms(), ", "))
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

// isDNSName applies the same rule as is_dns_name in the scripts.
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

// isEncodable reports whether both a certificate and RFC 3339 can hold the time.
func isEncodable(t time.Time) bool {
	return t.Unix() > 0 && t.UTC().Year() <= 9999
}
