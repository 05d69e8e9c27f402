package raycluster

import (
	"strings"
	"testing"
)

func TestTheClustersOfACASecret(t *testing.T) {
	for secret, want := range map[string]string{
		"raytls-train": "train", "raytls-train.g3": "train.g3 train", "raytls-a.g2.g3": "a.g2.g3 a.g2", "raytls-.g3": ".g3",
		"raytls-": "", "train": "", "ca-tls": "",
	} {
		var got []string
		for _, r := range ofSecret("ml", secret) {
			if r.Namespace != "ml" {
				t.Errorf("%s: namespace %s", secret, r.Namespace)
			}
			got = append(got, r.Name)
		}
		if strings.Join(got, " ") != want {
			t.Errorf("%s is of %q, want %q", secret, got, want)
		}
	}
}
