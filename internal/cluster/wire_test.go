package cluster

import (
	"net/netip"
	"strings"
	"testing"
	"time"

	"k8s.io/apimachinery/pkg/api/meta"

	"github.com/raytls/raytls/api/v1alpha1"
	"github.com/raytls/raytls/internal/probe"
)

// onWire are the facts of an encrypted cluster whose head showed something, and the keys of its Secrets.
func onWire(t *testing.T, finding *probe.Finding, change func(*Facts)) *Facts {
	t.Helper()
	f, _ := encryptedFacts(t)
	f.Ray.GCSPort = 6379
	f.Pods[0].Address = netip.MustParseAddr("10.0.0.7")
	change(f)
	if finding != nil {
		finding.Time = epoch()
	}
	g := Gatherer{Finding: func(probe.Target) *probe.Finding { return finding }}
	if err := g.wire(t.Context(), f); err != nil {
		t.Fatal(err)
	}
	return f
}

func unchanged(*Facts) {}

// seenBefore puts what an earlier run of the operator saw of that pod into the status.
func seenBefore(pod string, head v1alpha1.WireState) func(*Facts) {
	return func(f *Facts) {
		f.TLS.Status.ObservedOnWire = v1alpha1.ObservedOnWire{Time: *stamp(epoch().Add(-time.Hour)), PodUID: pod, Port: 6379, Head: head}
	}
}

// TestWeakestSourceDecides has a cluster that is encrypted by all else that is known of it.
func TestWeakestSourceDecides(t *testing.T) {
	ended := epoch().Add(-time.Minute)
	for name, c := range map[string]struct {
		reason  string
		finding *probe.Finding
		change  func(*Facts)
		want    string
		saying  string
	}{
		"TLS":         {"the wire agrees", &probe.Finding{Answer: probe.TLS, ExpiryTime: epoch().Add(time.Hour)}, unchanged, "True Encrypted", "all pods speak TLS"},
		"not seen":    {"a head that was not observed yet is no fault", nil, unchanged, "True Encrypted", "all pods speak TLS"},
		"unknown":     {"an unknown wire changes nothing", &probe.Finding{Answer: probe.Unknown, Cause: probe.TimedOut}, unchanged, "True Encrypted", "all pods speak TLS"},
		"plaintext":   {"plaintext is plaintext, whatever the spec says", &probe.Finding{Answer: probe.Plaintext}, unchanged, "False PlaintextOnWire", "pod pod-, port 6379: the head serves gRPC without TLS"},
		"foreign":     {"another authority's certificate is not the cluster's TLS", &probe.Finding{Answer: probe.ForeignTLS, Cause: probe.ForeignCertificate}, unchanged, "False ForeignTLSOnWire", "did not issue"},
		"any client":  {"TLS that lets anybody in is not mutual", &probe.Finding{Answer: probe.ForeignTLS, Cause: probe.AnyClient}, unchanged, "False ForeignTLSOnWire", "lets in clients without a certificate"},
		"ended":       {"clients refuse a served certificate that has ended", &probe.Finding{Answer: probe.TLS, ExpiryTime: ended}, unchanged, "False CertificateExpired", "ended at"},
		"restarted":   {"what was seen survives a restart of the operator", nil, seenBefore("uid-", v1alpha1.WirePlaintext), "False PlaintextOnWire", "delete the pod"},
		"another pod": {"what was seen of another head does not count", nil, seenBefore("uid-x", v1alpha1.WirePlaintext), "True Encrypted", "all pods speak TLS"},
		"not ready": {"a fault stays while its pod is not ready", nil, func(f *Facts) {
			seenBefore("uid-", v1alpha1.WirePlaintext)(f)
			f.Pods[0].Ready = false
		}, "False PlaintextOnWire", "port 6379"},
		"no port later": {"a fault stays where the port is lost", nil, func(f *Facts) {
			seenBefore("uid-", v1alpha1.WirePlaintext)(f)
			f.Ray.GCSPort = 0
		}, "False PlaintextOnWire", "port 6379"},
		"no port": {"nor is one on a port that nobody can read", nil, func(f *Facts) { f.Ray.GCSPort = 0 }, "True Encrypted", "all pods speak TLS"},
		"node's network": {"a head in its node's network is not observed", nil, func(f *Facts) {
			f.Pods[0].Address, f.Pods[0].HostNetwork = netip.Addr{}, true
		}, "True Encrypted", "all pods speak TLS"},
	} {
		t.Run(name, func(t *testing.T) {
			f := onWire(t, c.finding, c.change)
			d := Decide(f, Settings{Namespace: "raytls-system"})
			status := Status(f, &d, Done{Keys: f.Keys, Recorded: d.Writes()})
			encrypted := meta.FindStatusCondition(status.Conditions, v1alpha1.ConditionEncrypted)
			if got := string(encrypted.Status) + " " + encrypted.Reason; got != c.want || !strings.Contains(encrypted.Message, c.saying) {
				t.Errorf("%s: got %q, %q", c.reason, got, encrypted.Message)
			}
			stalled := meta.FindStatusCondition(status.Conditions, v1alpha1.ConditionStalled)
			if fault := !strings.HasPrefix(c.want, "True"); fault != (stalled.Reason == encrypted.Reason) {
				t.Errorf("%s: Stalled is %s %s", c.reason, stalled.Status, stalled.Reason)
			}
			if len(d.Plan.Delete) > 0 || d.Plan.Progress != nil || d.Edited != nil {
				t.Errorf("%s: what is seen on the wire restarts: %+v", c.reason, d.Plan)
			}
		})
	}
}

func TestAPortThatIsNoneIsSaid(t *testing.T) {
	f := onWire(t, nil, func(f *Facts) { f.Ray.GCSPort = 0 })
	if f.Wire.Observed.Head != v1alpha1.WireUnknown || f.Wire.Observed.Reason != unknownPort {
		t.Errorf("got %+v", f.Wire.Observed)
	}
	f = onWire(t, nil, func(next *Facts) {
		next.Ray.GCSPort, next.TLS.Status.ObservedOnWire = 0, f.Wire.Observed
		next.Now = next.Now.Add(time.Hour)
	})
	if !f.Wire.Observed.Time.Time.Equal(epoch()) {
		t.Error("the status is written anew each time")
	}
}

func TestWireTarget(t *testing.T) {
	for name, c := range map[string]struct {
		reason string
		change func(*Facts)
		want   string
	}{
		"head":          {"a ready head with a certificate", unchanged, "pod- 10.0.0.7:6379"},
		"port":          {"on its own port", func(f *Facts) { f.Ray.GCSPort = 7000 }, "pod- 10.0.0.7:7000"},
		"no port":       {"not where no port can be", func(f *Facts) { f.Ray.GCSPort = 0 }, ""},
		"no address":    {"not without an address", func(f *Facts) { f.Pods[0].Address = netip.Addr{} }, ""},
		"starting":      {"not before Ray listens", func(f *Facts) { f.Pods[0].Ready = false }, ""},
		"not certified": {"not before there is a certificate", func(f *Facts) { f.Pods[0].Certified = false }, ""},
		"terminating":   {"not when it ends", func(f *Facts) { f.Pods[0].Terminating = true }, ""},
		"plaintext":     {"not where the spec says it already", func(f *Facts) { f.Pods[0].Injected = false }, ""},
		"worker":        {"never a worker", func(f *Facts) { f.Pods[0].Group = "small" }, ""},
	} {
		t.Run(name, func(t *testing.T) {
			got := ""
			if target := onWire(t, nil, c.change).Wire.Target; target != nil {
				got = target.PodName + " " + target.Address.String()
			}
			if got != c.want {
				t.Errorf("%s: got %q, want %q", c.reason, got, c.want)
			}
		})
	}
}

func TestWireDue(t *testing.T) {
	next := epoch().Add(7 * time.Hour)
	if due := onWire(t, &probe.Finding{Answer: probe.TLS, Next: next}, unchanged).Wire.Due; !due.Equal(next) {
		t.Errorf("a finding says when the next is due: got %s", due)
	}
	if due := onWire(t, nil, seenBefore("uid-", v1alpha1.WireTLS)).Wire.Due; !due.Equal(epoch().Add(23 * time.Hour)) {
		t.Errorf("a restart of the operator does not repeat a good observation of an hour ago: got %s", due)
	}
	if due := onWire(t, nil, seenBefore("uid-", v1alpha1.WirePlaintext)).Wire.Due; due.After(epoch()) {
		t.Errorf("a fault is observed anew at once: got %s", due)
	}
	if due := onWire(t, nil, unchanged).Wire.Due; due.After(epoch()) {
		t.Errorf("a head that was never observed is due at once: got %s", due)
	}
}

func TestObservedOnWire(t *testing.T) {
	f := onWire(t, nil, unchanged)
	seen := f.observed(&probe.Finding{Time: epoch(), Answer: probe.TLS, AuthorityID: f.Keys.Authority.ID(), ExpiryTime: epoch().Add(time.Hour)})
	if seen.PodUID != "uid-" || seen.Port != 6379 || seen.AuthorityGeneration != 1 || seen.ExpiryTime == nil || seen.Reason != "" {
		t.Errorf("got %+v", seen)
	}
	if seen := f.observed(&probe.Finding{Time: epoch(), Answer: probe.ForeignTLS, Cause: probe.ForeignCertificate}); seen.AuthorityGeneration != 0 || seen.ExpiryTime != nil {
		t.Errorf("a stranger's certificate has no generation and no end: got %+v", seen)
	}
}
