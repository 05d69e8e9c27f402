package gencerttest

import (
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"pgregory.net/rapid"

	"github.com/raytls/raytls/internal/gencert"
)

func validProfile() gencert.Profile {
	start := time.Date(2030, 1, 2, 3, 4, 5, 0, time.UTC)
	return gencert.Profile{
		Revision: 1, Authority: "0a1b", Issuer: "2c3d", IssuerNotBefore: start, IssuerNotAfter: start.Add(time.Hour),
		KeyAlgorithm: "ECDSAP256", ValidityDays: 365, HeadDNSNames: []string{"ray.example.com", "r2"},
		HeadServiceShortName: true, CAKeyAlgorithm: "RSA4096",
	}
}

func TestParseProfileRefuses(t *testing.T) {
	text, err := validProfile().Marshal()
	if err != nil {
		t.Fatal(err)
	}
	cases := map[string]struct{ reason, from, to string }{
		"another order":   {"one form only", "revision=1\nauthority=0a1b\n", "authority=0a1b\nrevision=1\n"},
		"repeated":        {"one of the two would be ignored", "revision=1\n", "revision=1\nrevision=1\n"},
		"replaced":        {"every line is needed", "issuer=2c3d", "authority=2c3d"},
		"unknown":         {"no line is passed over", "issuer=2c3d", "other=2c3d"},
		"missing":         {"every line is needed", "issuer=2c3d\n", ""},
		"space":           {"one form only", "revision=1", "revision= 1"},
		"plus":            {"one form only", "revision=1", "revision=+1"},
		"leading zero":    {"one form only", "validityDays=365", "validityDays=0365"},
		"boolean":         {"one form only", "=true", "=yes"},
		"carriage return": {"one form only", "issuer=2c3d\n", "issuer=2c3d\r\n"},
		"no last newline": {"it may have been cut off", "RSA4096\n", "RSA4096"},
		"comment":         {"no line is passed over", "revision=1", "# a comment\nrevision=1"},
	}
	for name, test := range cases {
		t.Run(name, func(t *testing.T) {
			spoilt := strings.Replace(string(text), test.from, test.to, 1)
			if spoilt == string(text) {
				t.Fatalf("the profile has no %q", test.from)
			}
			if _, err := ParseProfile([]byte(spoilt)); err == nil {
				t.Error(test.reason)
			}
		})
	}
}

func TestProfileRoundTrip(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		start := rapid.Int64Range(1, 1<<33).Draw(t, "start")
		algorithms := []string{"ECDSAP256", "ECDSAP384", "RSA2048", "RSA3072", "RSA4096"}
		hexID := rapid.StringMatching(`[0-9a-f]{1,64}`)
		want := gencert.Profile{
			Revision: 1, Authority: hexID.Draw(t, "authority"), Issuer: hexID.Draw(t, "issuer"),
			IssuerNotBefore: time.Unix(start, 0).UTC(), IssuerNotAfter: time.Unix(start+rapid.Int64Range(1, 1<<33).Draw(t, "life"), 0).UTC(),
			KeyAlgorithm: rapid.SampledFrom(algorithms).Draw(t, "key"), ValidityDays: rapid.IntRange(1, 36500).Draw(t, "days"),
			HeadDNSNames:         rapid.SliceOfN(rapid.StringMatching(`([a-z0-9]([-a-z0-9]{0,20}[a-z0-9])?\.){0,4}[a-z]`), 1, 64).Draw(t, "names"),
			HeadServiceShortName: rapid.Bool().Draw(t, "short"), HeadUntilIssuerEnd: rapid.Bool().Draw(t, "end"),
			CAKeyAlgorithm: rapid.SampledFrom(algorithms).Draw(t, "CA key"),
		}
		if rapid.Bool().Draw(t, "no bound") {
			want.IssuerNotBefore, want.HeadDNSNames = time.Time{}, nil
		}
		text, err := want.Marshal()
		if err != nil {
			t.Fatal(err)
		}
		got, err := ParseProfile(text)
		if err != nil {
			t.Fatal(err)
		}
		if diff := cmp.Diff(want, got); diff != "" {
			t.Errorf("(-want +got):\n%s", diff)
		}
	})
}

func FuzzParseProfile(f *testing.F) {
	text, err := validProfile().Marshal()
	if err != nil {
		f.Fatal(err)
	}
	f.Add(text)
	f.Add([]byte(strings.Replace(string(text), "0a1b", "$(id)", 1)))
	f.Fuzz(func(t *testing.T, text []byte) {
		defer time.AfterFunc(time.Minute, func() { panic("one input takes longer than a minute") }).Stop()
		profile, err := ParseProfile(text)
		if err != nil {
			return
		}
		again, err := profile.Marshal()
		if err != nil || string(again) != string(text) {
			t.Errorf("%q reads as %+v, which writes as %q: %v", text, profile, again, err)
		}
		if i := strings.IndexFunc(string(text), func(r rune) bool {
			return !strings.ContainsRune("abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789=,.-\n", r)
		}); i >= 0 {
			t.Errorf("a character that means something to a shell gets through: %q", text[i])
		}
	})
}
