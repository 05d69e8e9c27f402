package gencert

import (
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
)

var fixed = time.Date(2030, 1, 2, 3, 4, 5, 0, time.UTC)

func validProfile() Profile {
	return Profile{
		Revision: 1, Authority: "0a1b", Issuer: "2c3d", IssuerNotBefore: fixed, IssuerNotAfter: fixed.Add(time.Hour),
		KeyAlgorithm: "ECDSAP256", ValidityDays: 365, HeadDNSNames: []string{"ray.example.com", "r2"},
		HeadServiceShortName: true, CAKeyAlgorithm: "RSA4096",
	}
}

func TestProfileText(t *testing.T) {
	got, err := validProfile().Marshal()
	if err != nil {
		t.Fatal(err)
	}
	want := "revision=1\nauthority=0a1b\nissuer=2c3d\nissuerNotBefore=1893553445\nissuerNotAfter=1893557045\n" +
		"keyAlgorithm=ECDSAP256\nvalidityDays=365\nheadDNSNames=ray.example.com,r2\nheadServiceShortName=true\n" +
		"headUntilIssuerEnd=false\ncaKeyAlgorithm=RSA4096\n"
	if diff := cmp.Diff(want, string(got)); diff != "" {
		t.Errorf("released scripts read this text (-want +got):\n%s", diff)
	}
}

func TestProfileRefuses(t *testing.T) {
	cases := map[string]struct {
		reason string
		edit   func(*Profile)
	}{
		"revision":           {"no other revision is known", func(p *Profile) { p.Revision = 2 }},
		"authority":          {"ids are hexadecimal", func(p *Profile) { p.Authority = "x" }},
		"upper case":         {"ids have one form", func(p *Profile) { p.Authority = "AB" }},
		"issuer":             {"ids are not empty", func(p *Profile) { p.Issuer = "" }},
		"long issuer":        {"the report has 512 bytes", func(p *Profile) { p.Issuer = strings.Repeat("a", 65) }},
		"no end":             {"nothing outlives its issuer", func(p *Profile) { p.IssuerNotAfter = time.Time{} }},
		"end before start":   {"such an issuer never signs", func(p *Profile) { p.IssuerNotAfter = fixed }},
		"year 10000":         {"certificates end in 9999", func(p *Profile) { p.IssuerNotAfter = fixed.AddDate(8000, 0, 0) }},
		"before 1970":        {"the scripts count from there", func(p *Profile) { p.IssuerNotBefore = fixed.AddDate(-100, 0, 0) }},
		"key":                {"Ray refuses it", func(p *Profile) { p.KeyAlgorithm = "Ed25519" }},
		"CA key":             {"Ray refuses it", func(p *Profile) { p.CAKeyAlgorithm = "" }},
		"no days":            {"a leaf lives", func(p *Profile) { p.ValidityDays = 0 }},
		"many days":          {"a bound", func(p *Profile) { p.ValidityDays = 36501 }},
		"many names":         {"a bound", func(p *Profile) { p.HeadDNSNames = make([]string, 65) }},
		"empty name":         {"not a name", func(p *Profile) { p.HeadDNSNames = []string{""} }},
		"shell name":         {"a shell reads it", func(p *Profile) { p.HeadDNSNames = []string{"$(id)"} }},
		"two names in one":   {"a name is one", func(p *Profile) { p.HeadDNSNames = []string{"a,b"} }},
		"line in a name":     {"a line is one", func(p *Profile) { p.HeadDNSNames = []string{"a\nvalidityDays=9"} }},
		"wildcard":           {"it covers names the pod does not hold", func(p *Profile) { p.HeadDNSNames = []string{"*.a"} }},
		"upper-case name":    {"names have one form", func(p *Profile) { p.HeadDNSNames = []string{"A"} }},
		"closing dot":        {"no certificate carries it", func(p *Profile) { p.HeadDNSNames = []string{"a."} }},
		"address":            {"an address the pod does not hold", func(p *Profile) { p.HeadDNSNames = []string{"10.0.0.1"} }},
		"long label":         {"labels have 63 characters", func(p *Profile) { p.HeadDNSNames = []string{strings.Repeat("a", 64)} }},
		"long name":          {"names have 253", func(p *Profile) { p.HeadDNSNames = []string{strings.Repeat("a.", 127) + "b"} }},
		"hyphen at an end":   {"not a name", func(p *Profile) { p.HeadDNSNames = []string{"a-.b"} }},
		"hyphen at a start":  {"not a name", func(p *Profile) { p.HeadDNSNames = []string{"a.-b"} }},
		"underscore in name": {"not a host name", func(p *Profile) { p.HeadDNSNames = []string{"a_b"} }},
	}
	for name, test := range cases {
		t.Run(name, func(t *testing.T) {
			p := validProfile()
			test.edit(&p)
			if text, err := p.Marshal(); err == nil {
				t.Errorf("%s, but there is a text:\n%s", test.reason, text)
			}
		})
	}
}

func validReport() Report {
	return Report{Authority: "0a1b", Issuer: "2c3d", Serial: "00ff", NotAfter: fixed.Add(time.Hour), IssuedAt: fixed}
}

const reportText = `{"authority":"0a1b","issuer":"2c3d","serial":"00ff","notAfter":"2030-01-02T04:04:05Z","issuedAt":"2030-01-02T03:04:05Z"}`

func TestReportText(t *testing.T) {
	got, err := validReport().Message()
	if err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(reportText+"\n", got); diff != "" {
		t.Errorf("released scripts write this text (-want +got):\n%s", diff)
	}
	for _, text := range []string{got, reportText} {
		parsed, err := ParseReport(text)
		if err != nil {
			t.Fatal(err)
		}
		if diff := cmp.Diff(validReport(), parsed); diff != "" {
			t.Errorf("(-want +got):\n%s", diff)
		}
	}
	longest := Report{
		Authority: strings.Repeat("f", 64), Issuer: strings.Repeat("f", 64), Serial: strings.Repeat("f", 40),
		NotAfter: fixed.Add(1), IssuedAt: fixed.Add(-time.Hour).In(time.FixedZone("", 3600)),
	}
	text, err := longest.Message()
	if err != nil {
		t.Fatal(err)
	}
	if _, err := ParseReport(text); err != nil || len(text) > maxReportBytes {
		t.Errorf("the longest report has %d bytes: %v", len(text), err)
	}
}

func TestParseReportRefuses(t *testing.T) {
	const secret = "5eC7e7"
	cases := map[string]struct{ reason, message string }{
		"nothing":           {"a pod that did not end well says nothing", ""},
		"a sentence":        {"failures are sentences", "raytls-init: " + secret},
		"null":              {"no report", "null"},
		"a list":            {"no report", "[" + reportText + "]"},
		"unknown field":     {"not of this revision", strings.Replace(reportText, "{", `{"`+secret+`":1,`, 1)},
		"repeated field":    {"two readers could differ", strings.Replace(reportText, "{", `{"authority":"ff",`, 1)},
		"other case":        {"two readers could differ", strings.Replace(reportText, "authority", "Authority", 1)},
		"escapes":           {"two readers could differ", strings.Replace(reportText, "0a1b", `0a1\u0062`, 1)},
		"space":             {"one form only", strings.Replace(reportText, ":", ": ", 1)},
		"two values":        {"one line", reportText + reportText},
		"two lines":         {"one line", reportText + "\n\n"},
		"no authority":      {"every field is needed", strings.Replace(reportText, `"authority":"0a1b",`, "", 1)},
		"id":                {"ids are hexadecimal", strings.Replace(reportText, "0a1b", secret, 1)},
		"serial":            {"serials are hexadecimal", strings.Replace(reportText, "00ff", secret, 1)},
		"long serial":       {"serials have 20 bytes", strings.Replace(reportText, "00ff", strings.Repeat("0", 41), 1)},
		"time":              {"times are times", strings.Replace(reportText, "2030-01-02T04:04:05Z", secret, 1)},
		"issued at no time": {"times are times", strings.Replace(reportText, "2030-01-02T03:04:05Z", secret, 1)},
		"zone":              {"times are UTC", strings.Replace(reportText, "04:05Z", "04:05+00:00", 1)},
		"fraction":          {"times are seconds", strings.Replace(reportText, "04:05Z", "04:05.5Z", 1)},
		"end before start":  {"no certificate", strings.Replace(reportText, "2030-01-02T04", "2030-01-02T01", 1)},
		"number":            {"fields are text", strings.Replace(reportText, `"00ff"`, "12", 1)},
		"long":              {"a bound", reportText + strings.Repeat(" ", 512)},
	}
	for name, test := range cases {
		t.Run(name, func(t *testing.T) {
			report, err := ParseReport(test.message)
			if err == nil {
				t.Fatalf("%s, but it reads as %+v", test.reason, report)
			}
			if strings.Contains(err.Error(), secret) {
				t.Errorf("the error repeats the message: %v", err)
			}
		})
	}
}

func FuzzParseReport(f *testing.F) {
	f.Add(reportText)
	f.Add(reportText + "\n")
	f.Add(strings.Replace(reportText, "2030", "0000", 1))
	f.Fuzz(func(t *testing.T, message string) {
		defer time.AfterFunc(time.Minute, func() { panic("one input takes longer than a minute") }).Stop()
		report, err := ParseReport(message)
		if err != nil {
			if len(message) > 20 && strings.Contains(err.Error(), message) {
				t.Errorf("the error repeats the message: %v", err)
			}
			return
		}
		again, err := report.Message()
		if err != nil || again != strings.TrimSuffix(message, "\n")+"\n" || len(message) > maxReportBytes {
			t.Errorf("%q reads as %+v, which writes as %q: %v", message, report, again, err)
		}
	})
}
