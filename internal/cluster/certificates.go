package cluster

import (
	"fmt"

	"k8s.io/apimachinery/pkg/api/meta"

	"github.com/raytls/raytls/api/v1alpha1"
	"github.com/raytls/raytls/internal/injection"
	"github.com/raytls/raytls/internal/keys"
	"github.com/raytls/raytls/internal/rollout"
)

// certificates judges the certificates of the pods with TLS by those keys.
func (f *Facts) certificates(store keys.Store) keys.Census {
	var holders []keys.Holder
	for i := range f.Pods {
		if pod := &f.Pods[i]; pod.Injected {
			holders = append(holders, keys.Holder{
				Name: pod.Name, Created: pod.Created, Terminating: pod.Terminating,
				Certified: pod.Certified, Reports: pod.Report != nil, Leaf: f.leaf(pod), Altered: pod.Differs != "",
			})
		}
	}
	return keys.Count(holders, f.signers(store), f.Now)
}

// counts are the numbers of pods in each state. A pod whose certificate is outdated in two ways counts once.
func (f *Facts) counts(d *Decision, store keys.Store, found *keys.Census) v1alpha1.PodCounts {
	out := v1alpha1.PodCounts{Total: int32(min(len(f.Pods), 1<<30)), Certified: found.Certified, Outdated: found.Outdated}
	by := f.signers(store)
	for i := range f.Pods {
		pod := &f.Pods[i]
		switch {
		case !pod.Injected:
			out.Plaintext++
		case pod.Terminating || !d.Snapshot.Unlike(pod.Pod):
		case keys.Judge(f.leaf(pod), by, f.Now).Present():
			out.Outdated++
		}
	}
	return out
}

// Judge is what peers think of the pod's certificate, and the generation of the authority that it is of; 0 where that is not known.
func (f *Facts) Judge(pod *Pod) (judged keys.Judgement, generation int64) {
	by := f.signers(f.Keys)
	judged = keys.Judge(f.leaf(pod), by, f.Now)
	switch {
	case judged.Generation != 0:
		return judged, judged.Generation
	case pod.Report != nil && pod.Report.Authority == by.Authority:
		return judged, max(f.Keys.Generation, f.status().Authority.Generation)
	}
	return judged, 0
}

// leaf is what is known of the pod's certificate. Of a head that does not report, a handshake may show the end.
func (f *Facts) leaf(p *Pod) keys.Leaf {
	if r := p.Report; r != nil {
		return keys.Leaf{Authority: r.Authority, Issuer: r.Issuer, IssuedAt: r.IssuedAt, NotAfter: r.NotAfter}
	}
	out := f.KeySettings().Assumed(p.Created)
	if served := f.Wire.Observed.ExpiryTime; p.Group == "" && p.UID == f.Wire.Observed.PodUID && served != nil {
		out.NotAfter = served.Time
	}
	return out
}

// signers are those of the keys. If the authority's Secret is gone, its pods are still those of the authorities on record.
func (f *Facts) signers(store keys.Store) keys.Signers {
	out := store.Signers()
	if recorded := &f.status().Authority; out.Authority == "" {
		out.Authority, out.AuthorityEnd = recorded.ID, instant(recorded.ExpiryTime)
		for _, e := range recorded.Earlier {
			out.Earlier = append(out.Earlier, keys.Earlier{Generation: e.Generation, ID: e.ID, End: instant(e.ExpiryTime)})
		}
	}
	return out
}

// weaken gives the report of a cluster whose pods were all made with TLS, but whose certificates or pods show that it is not
// encrypted, or not wholly.
func (f *Facts) weaken(report rollout.Report, found *keys.Census) rollout.Report {
	if report.Reason != v1alpha1.ReasonEncrypted {
		return report
	}
	was := meta.IsStatusConditionTrue(f.status().Conditions, v1alpha1.ConditionEncrypted)
	missing := f.missing()
	starting := func(message string) rollout.Report {
		return rollout.Report{Reason: v1alpha1.ReasonPodsStarting, Message: message}
	}
	switch {
	case len(found.Expired) > 0:
		return rollout.Report{
			Reason: v1alpha1.ReasonCertificateExpired, UserMustAct: true,
			Message: fmt.Sprintf("%s, and peers refuse new connections with it; delete %s", found.Expired.Ended(), found.Expired.These()),
		}
	case len(found.Foreign) > 0:
		return rollout.Report{
			Reason: v1alpha1.ReasonOutdatedAuthority, UserMustAct: true,
			Message: fmt.Sprintf("pod %s has a certificate of another authority than the cluster's, so pods of the cluster's authority refuse it; delete %s", found.Foreign[0].Pod, found.Foreign.These()),
		}
	case missing != "" && f.Ray.PodsMissing != "":
		return starting(fmt.Sprintf("%s; KubeRay cannot create more: %s", missing, f.Ray.PodsMissing))
	case found.Overdue != "":
		return starting(f.pending(found) + "; " + f.waits(found.Overdue))
	case was:
		return report
	case found.Waiting > 0:
		return starting(f.pending(found))
	case missing != "":
		return starting(missing)
	}
	return report
}

// missing names the first worker group that has fewer pods than replicas; empty if none has.
func (f *Facts) missing() string {
	if f.Ray.Suspended {
		return ""
	}
	have := map[string]int32{}
	for i := range f.Pods {
		if !f.Pods[i].Terminating {
			have[f.Pods[i].Group]++
		}
	}
	for _, t := range f.Templates {
		if wanted := f.Ray.Replicas[t.Group]; t.Group != "" && have[t.Group] < wanted {
			return fmt.Sprintf("worker group %s has %d pods for %d replicas", t.Group, have[t.Group], wanted)
		}
	}
	return ""
}

func (f *Facts) pending(found *keys.Census) string {
	return fmt.Sprintf("%d of %d pods have no certificate yet", found.Waiting, len(f.Pods))
}

// waits says what the pod waits for, and where to look.
func (f *Facts) waits(name string) string {
	if pod := f.pod(func(p *Pod) bool { return p.Name == name }); pod != nil && pod.Node == "" {
		return fmt.Sprintf("pod %s has no node yet, as its events say", name)
	}
	return fmt.Sprintf("init container %s of pod %s has not ended; see its log and the pod's events", injection.InitContainerName, name)
}
