package faults_test

import (
	"testing"
	"time"

	"github.com/raytls/raytls/api/v1alpha1"
	"github.com/raytls/raytls/internal/timescale"
)

// TestShortDays has a cluster live for hours with days of a minute: its leaves, issuers and authorities are renewed, each in its time, and
// no pod ever has a certificate that has ended or that another pod refuses. The init container knows nothing of short days: a leaf
// ends with its issuer.
func TestShortDays(t *testing.T) {
	w := newWorld(epoch())
	w.scale = timescale.Scale{MinutesPerDay: 1}
	create(t, w, rayCluster(map[string]string{"ray.io/ft-enabled": "true"}))
	create(t, w, policyNamed("p", func(s *v1alpha1.RayTLSPolicySpec) {
		s.PodCertificate.ValidityDays, s.CertificateAuthority.ValidityDays = 20, 120
	}))
	o := newOperator(w, fault{})
	if err := w.settle(t.Context(), func() bool { return encryptedBy(1)(t, w) }, o); err != nil {
		t.Fatal(err)
	}
	w.restarts = map[string]int{}
	const hours = 3
	for end := w.now().Add(hours * time.Hour); w.now().Before(end); w.pass(5 * time.Second) {
		w.rested = -1
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
	status := w.status(t)
	t.Logf("in %d hours: generation %d of the authority, %d before it, restarts %v", hours, status.Authority.Generation, len(status.Authority.Earlier), w.restarts)
	if status.Authority.Generation < 3 {
		t.Errorf("an authority of two hours is replaced in its second half, and this is generation %d", status.Authority.Generation)
	}
	// A leaf lasts 20 to 40 minutes and is due after two thirds of that; a replaced authority costs one restart more.
	for place, n := range w.restarts {
		if n < 2*hours || n > 5*hours {
			t.Errorf("%s was restarted %d times in %d hours", place, n, hours)
		}
	}
	if len(w.restarts) != 3 {
		t.Errorf("three pods are renewed: %v", w.restarts)
	}
}
