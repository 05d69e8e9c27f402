package faults_test

import (
	"testing"
	"time"

	"github.com/raytls/raytls/api/v1alpha1"
	"github.com/raytls/raytls/internal/timescale"
)

// TestLifetimes has a cluster live for twenty lifetimes of its certificates: leaves, issuers and authorities are renewed, each in its
// time, and no pod ever has a certificate that has ended or that another pod refuses.
func TestLifetimes(t *testing.T) {
	const lifetimes = 20
	for name, c := range map[string]struct {
		scale             timescale.Scale
		pods, authorities int32
		// lifetime is that of a certificate. The clock goes forward by most at a time.
		lifetime, most time.Duration
		generations    int64
	}{
		// The init container knows nothing of short days, so a certificate ends with its issuer: after 20 to 40 minutes.
		"days of a minute": {scale: timescale.Scale{MinutesPerDay: 1}, pods: 20, authorities: 120, lifetime: 30 * time.Minute, most: 30 * time.Second, generations: 10},
		"real days":        {pods: 365, authorities: 3650, lifetime: 365 * 24 * time.Hour, most: 48 * time.Hour, generations: 4},
	} {
		t.Run(name, func(t *testing.T) {
			w := newWorld(epoch())
			w.scale = c.scale
			create(t, w, rayCluster(map[string]string{"ray.io/ft-enabled": "true"}))
			create(t, w, policyNamed("p", func(s *v1alpha1.RayTLSPolicySpec) {
				s.PodCertificate.ValidityDays, s.CertificateAuthority.ValidityDays = c.pods, c.authorities
			}))
			o := newOperator(w, fault{})
			if err := w.settle(t.Context(), func() bool { return encryptedBy(1)(t, w) }, o); err != nil {
				t.Fatal(err)
			}
			w.restarts = map[string]int{}
			for end := w.now().Add(lifetimes * c.lifetime); w.now().Before(end); w.pass(w.stride(c.most, o)) {
				if err := w.step(t.Context(), o); err != nil {
					t.Fatalf("after %s: %v", w.now().Sub(epoch()), err)
				}
				pods, err := w.pods(t.Context())
				if err != nil {
					t.Fatal(err)
				}
				for _, pod := range pods {
					if id := w.identities[string(pod.UID)]; id != nil && !w.now().Before(id.chain[0].NotAfter) {
						t.Fatalf("after %s, the certificate of pod %s has ended", w.now().Sub(epoch()), pod.Name)
					}
				}
			}
			authority := w.status(t).Authority
			t.Logf("generation %d of the authority, %d before it, restarts %v", authority.Generation, len(authority.Earlier), w.restarts)
			if authority.Generation < c.generations {
				t.Errorf("an authority is replaced in its second half, and this is generation %d", authority.Generation)
			}
			if len(w.restarts) != 3 {
				t.Errorf("three pods are renewed: %v", w.restarts)
			}
			// A certificate is due after two thirds of its life, and a replaced authority costs one restart more.
			for place, n := range w.restarts {
				if n < lifetimes || n > 3*lifetimes/2+int(authority.Generation) {
					t.Errorf("%s was restarted %d times in %d lifetimes", place, n, lifetimes)
				}
			}
		})
	}
}
