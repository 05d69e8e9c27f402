package gencert

import (
	"encoding/json"
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
)

// TestLogLine reads the line that tells of a certificate, by which a log is searched.
func TestLogLine(t *testing.T) {
	cases := map[string]struct {
		reason string
		env    map[string]string
		edit   func(map[string]string)
		want   map[string]any
	}{
		"ordinary": {reason: "a line tells whose certificate it is, and who issued it"},
		"no generation": {
			reason: "a certificate is worth more than a line about it", want: map[string]any{"generation": nil},
			edit: func(secret map[string]string) { delete(secret, "generation") },
		},
		"malformed generation": {
			reason: "nothing but a number stands without quotes", want: map[string]any{"generation": nil},
			edit: func(secret map[string]string) { secret["generation"] = `3,"serial":"1"` },
		},
		"hostile names": {
			reason: "a line stays one value, whatever the environment holds", want: map[string]any{"cluster": "", "pod": ""},
			env: map[string]string{"RAYTLS_POD": "a\"\n{}", "RAYTLS_CLUSTER": "x"},
		},
	}
	for name, test := range cases {
		t.Run(name, func(t *testing.T) {
			eachShell(t, func(t *testing.T, shell []string) {
				a := year(t)
				p := newPod(t, shell, WorkerScript)
				for name, value := range test.env {
					p.env[name] = value
				}
				secret := a.secret(t, a.profile(nil))
				if test.edit != nil {
					test.edit(secret)
				}
				p.publish("issuer", "..1", secret)
				o := p.run()
				leaf := p.issued(o).chain[0]
				if strings.Count(o.stdout, "\n") != 1 {
					t.Errorf("standard output holds one line and nothing else:\n%s", o.stdout)
				}
				var got map[string]any
				if err := json.Unmarshal([]byte(o.stdout), &got); err != nil {
					t.Fatalf("%s: %v in\n%s", test.reason, err, o.stdout)
				}
				want := map[string]any{
					"level": "info", "msg": "Issued certificate", "ts": leaf.NotBefore.Add(5 * time.Minute).Format(time.RFC3339),
					"cluster": "ml/rayc", "pod": "rayc-abcde", "serial": fmt.Sprintf("%032x", leaf.SerialNumber),
					"issuer": "4e5f6071", "authority": "0a1b2c3d", "generation": 3.0, "notAfter": leaf.NotAfter.Format(time.RFC3339),
				}
				for key, value := range test.want {
					want[key] = value
				}
				if diff := cmp.Diff(want, got); diff != "" {
					t.Errorf("%s (-want +got):\n%s", test.reason, diff)
				}
			})
		})
	}
}
