package cluster

import (
	"context"
	"fmt"
	"net/netip"
	"time"

	"k8s.io/apimachinery/pkg/types"

	"github.com/raytls/raytls/api/v1alpha1"
	"github.com/raytls/raytls/internal/keys"
	"github.com/raytls/raytls/internal/kube"
	"github.com/raytls/raytls/internal/probe"
	"github.com/raytls/raytls/internal/rollout"
)

// hostNetwork is the reason of an unknown wire where the head has its node's network, and so no address of its own.
const hostNetwork = "HostNetwork"

// unknownPort is the reason of an unknown wire where rayStartParams give the head a port that is none.
const unknownPort = "UnknownPort"

// Wire is what a handshake with the head showed.
type Wire struct {
	// Observed is what is reported; zero if the head was not observed yet. Pod is the head's name.
	Observed v1alpha1.ObservedOnWire
	Pod      string
	// Target is the head to observe, from Due on; nil if there is none.
	Target *probe.Target
	Due    time.Time
}

// wire finds what is known of the head on the wire. A finding counts for the pod that it was made of. The status keeps it when the
// operator restarts.
func (g *Gatherer) wire(_ context.Context, f *Facts) error {
	head := f.pod(func(p *Pod) bool { return p.Group == "" && p.Injected && !p.Terminating })
	if head == nil {
		return nil
	}
	f.Wire.Pod = head.Name
	if before := f.status().ObservedOnWire; before.PodUID == head.UID {
		f.Wire.Observed = before
	}
	if !head.Certified || !head.Ready || f.Keys.Authority == nil {
		return nil
	}
	if head.HostNetwork && f.Wire.Observed.Head == "" {
		f.Wire.Observed = v1alpha1.ObservedOnWire{Time: *stamp(f.Now), PodUID: head.UID, Head: v1alpha1.WireUnknown, Reason: hostNetwork}
	}
	if f.Ray.GCSPort == 0 && f.Wire.Observed.Head == "" {
		f.Wire.Observed = v1alpha1.ObservedOnWire{Time: *stamp(f.Now), PodUID: head.UID, Head: v1alpha1.WireUnknown, Reason: unknownPort}
	}
	if !head.Address.IsValid() || f.Ray.GCSPort == 0 {
		return nil
	}
	f.Wire.Target = &probe.Target{
		Cluster: f.Key, PodName: head.Name, PodUID: types.UID(head.UID),
		Address: netip.AddrPortFrom(head.Address, f.Ray.GCSPort), Bundle: f.Keys.Bundle(),
	}
	switch finding := g.Finding(*f.Wire.Target); {
	case finding != nil:
		f.Wire.Observed, f.Wire.Due = f.observed(finding), finding.Next
	case f.Wire.Observed.Head == v1alpha1.WireTLS && f.Wire.Observed.Port == int32(f.Ray.GCSPort):
		f.Wire.Due = f.Wire.Observed.Time.Add(probe.Interval)
	}
	return nil
}

func (f *Facts) observed(finding *probe.Finding) v1alpha1.ObservedOnWire {
	out := v1alpha1.ObservedOnWire{
		Time: *stamp(finding.Time), PodUID: string(f.Wire.Target.PodUID), Port: int32(f.Ray.GCSPort),
		Head: v1alpha1.WireState(finding.Answer), Reason: string(finding.Cause),
		AuthorityGeneration: f.Keys.GenerationOf(finding.AuthorityID),
	}
	if !finding.ExpiryTime.IsZero() {
		out.ExpiryTime = stamp(finding.ExpiryTime)
	}
	return out
}

// weaken gives the report of a cluster whose pods are encrypted by their specs, but whose head shows something else on the wire.
func (w *Wire) weaken(report rollout.Report, now time.Time) rollout.Report {
	seen := &w.Observed
	if report.Reason != v1alpha1.ReasonEncrypted {
		return report
	}
	found := func(reason, format string, args ...any) rollout.Report {
		begin := fmt.Sprintf("pod %s, port %d: ", w.Pod, seen.Port)
		return rollout.Report{Reason: reason, UserMustAct: true, Message: begin + fmt.Sprintf(format, args...)}
	}
	const remedy = "in the args, the image or the profile of the head's Ray container, find what changes Ray's TLS variables or files, remove it, and delete the pod"
	switch {
	case seen.Head == v1alpha1.WirePlaintext:
		return found(v1alpha1.ReasonPlaintextOnWire, "the head serves gRPC without TLS, although the pod's spec asks for TLS; %s", remedy)
	case seen.Head == v1alpha1.WireForeignTLS && seen.Reason == string(probe.AnyClient):
		return found(v1alpha1.ReasonForeignTLSOnWire, "the head lets in clients without a certificate; %s", remedy)
	case seen.Head == v1alpha1.WireForeignTLS:
		return found(v1alpha1.ReasonForeignTLSOnWire, "the head serves a certificate that the cluster's authority did not issue; `raytls verify` shows it; %s", remedy)
	case keys.Judge(keys.Leaf{NotAfter: instant(seen.ExpiryTime)}, keys.Signers{}, now).Reason == v1alpha1.ReasonCertificateExpired:
		return found(v1alpha1.ReasonCertificateExpired, "the served certificate ended at %s, and peers refuse new connections with it; delete the pod", kube.FormatTime(seen.ExpiryTime.Time))
	}
	return report
}
