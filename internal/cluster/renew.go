package cluster

import (
	"cmp"
	"encoding/json"
	"fmt"
	"time"

	"github.com/raytls/raytls/api/v1alpha1"
	"github.com/raytls/raytls/internal/keys"
	"github.com/raytls/raytls/internal/kube"
	"github.com/raytls/raytls/internal/kuberay"
	"github.com/raytls/raytls/internal/rollout"
)

// rolling is how the cluster's pods may be brought onto new certificates.
func (f *Facts) rolling() rollout.Rolling {
	spec := &f.Policy.Rollout
	out := rollout.Rolling{
		OnDelete: spec.Strategy == v1alpha1.StrategyOnDelete, Paused: f.Policy.Paused, MaxUnavailable: int(spec.MaxUnavailable),
		Head: spec.HeadRestart, FaultTolerant: f.Ray.FaultTolerant,
	}
	out.BlockedBy, out.BlockedWhy = busy(f)
	if f.Ray.Provisioned && f.Ray.NoHeadRestart {
		out.HeadBlockedBy = "annotation " + kuberay.AnnotationNoHeadRestart
		out.HeadBlockedWhy = "KubeRay would not make a new head for this cluster"
	}
	out.WorkerHash, out.HeadHash = wishes(&f.Policy.PodCertificate)
	out.Validity = f.Scale.Days(f.Policy.PodCertificate.ValidityDays)
	by := f.signers(f.Keys)
	signersEnd := kube.Earlier(by.IssuerEnd, by.AuthorityEnd)
	out.WorkerEnd = kube.Earlier(f.Now.Add(out.Validity), signersEnd)
	if out.HeadEnd = out.WorkerEnd; f.KeySettings().HeadUntilIssuerEnd {
		out.HeadEnd = signersEnd
	}
	return out
}

// wishes return hashes of the certificate settings of all pods, and of the further settings of the head.
func wishes(c *v1alpha1.PodCertificate) (worker, head string) {
	text := func(values ...any) string {
		out, err := json.Marshal(values)
		if err != nil { // strings, numbers and their lists can be encoded
			panic(err)
		}
		return digest(string(out))
	}
	return text(c.KeyAlgorithm, c.ValidityDays), text(c.HeadDNSNames, c.HeadServiceShortName)
}

// headMayRestart reports whether the operator may restart the head for a new certificate. Otherwise it gets one that lasts until its
// issuer ends.
func (f *Facts) headMayRestart() bool {
	restart := f.Policy.Rollout.HeadRestart
	return restart == v1alpha1.HeadRestartAlways || restart == v1alpha1.HeadRestartIfFaultTolerant && f.Ray.FaultTolerant
}

// judged is what the planner knows of the pod's certificate.
func (f *Facts) judged(pod *Pod, by keys.Signers) rollout.Leaf {
	if !pod.Certified {
		return rollout.Leaf{}
	}
	leaf := f.leaf(pod)
	judged := keys.Judge(leaf, by, f.Now)
	out := rollout.Leaf{IssuedAt: leaf.IssuedAt, End: judged.End}
	if pod.Group == "" && pod.UID == f.Wire.Observed.PodUID {
		out.End = kube.Earlier(out.End, instant(f.Wire.Observed.ExpiryTime)) // what is served proves more than what is said
	}
	// A pod that was made under the present authority says something wrong, and its replacement would too.
	at, why := f.replacedAt(), ""
	if judged.Generation != 0 && !at.IsZero() && !pod.Created.Before(at) {
		at, why = f.mountedAt(), "; its node mounted the CA Secret as it was before"
	}
	switch {
	case at.IsZero() || !pod.Created.Before(at) || f.Now.Before(at.Add(f.tolerance())):
	case judged.Generation != 0:
		out.Outdated = fmt.Sprintf("it has a certificate of generation %d of the authority, which was replaced%s", judged.Generation, why)
	case judged.Reason == v1alpha1.ReasonOutdatedAuthority && pod.Created.Before(f.Keys.Authority.IssuedAt()):
		out.Outdated = "it has a certificate of another authority than the cluster's"
	}
	return out
}

// replacedAt is from when on every new pod has a certificate of the present authority; zero if there is none. Before that, kubelets
// may mount the CA Secret as it was. Pods are judged by it later still: the API server's clock tells when they were created, and a
// replacement would count as older too while that clock is behind.
func (f *Facts) replacedAt() time.Time {
	if f.Keys.Authority == nil {
		return time.Time{}
	}
	return f.Keys.Authority.IssuedAt().Add(f.Scale.Wait(rollout.Settles))
}

// mountedAt is from when on no pod can have mounted the CA Secret as it was before the present authority: kubelets cache it for an hour at
// the very most.
func (f *Facts) mountedAt() time.Time {
	return f.Keys.Authority.IssuedAt().Add(f.Scale.Wait(keys.SettleTime))
}

// tolerance is how far clocks may be apart.
func (f *Facts) tolerance() time.Duration { return f.Scale.Wait(kube.ClockTolerance) }

// lives is what the ends of the certificates in use come to.
type lives struct {
	// by is when the first pod must have been restarted; zero if none must.
	by time.Time
	// stage is the last part of its life that a certificate has reached. pod and end are those of the first such certificate, the
	// head's before others.
	stage v1alpha1.ExpiryStage
	pod   string
	end   time.Time
	// ended is a pod whose certificate has ended; empty for none. It has the last stage, where no other pod has one.
	ended string
	// next is when a certificate enters its next stage.
	next time.Time
}

// stages are the parts of a certificate's life in which the operator warns, the last first.
func stages() []struct {
	stage v1alpha1.ExpiryStage
	part  time.Duration
} {
	return []struct {
		stage v1alpha1.ExpiryStage
		part  time.Duration
	}{{v1alpha1.StageLastTwelfth, 12}, {v1alpha1.StageLastSixth, 6}, {v1alpha1.StageLastThird, 3}}
}

// lives judges the certificates of the pods that stay.
func (f *Facts) lives(store keys.Store) lives {
	var out lives
	by := f.signers(store)
	reached, ofHead := len(stages()), false // the index of the latest stage, and whether it is of the head
	if f.Keys.Generation > 1 && f.Keys.Authority != nil {
		for _, at := range []time.Time{f.replacedAt(), f.mountedAt()} {
			if due := at.Add(f.tolerance()); f.Now.Before(due) {
				out.next = kube.Earlier(out.next, due)
			}
		}
	}
	for i := range f.Pods {
		pod := &f.Pods[i]
		leaf := f.judged(pod, by)
		life := leaf.End.Sub(leaf.IssuedAt)
		if !pod.Injected || pod.Terminating || leaf.End.IsZero() {
			continue
		}
		out.by = kube.Earlier(out.by, leaf.End)
		if !f.Now.Before(leaf.End) {
			out.ended = cmp.Or(out.ended, pod.Name)
			continue // what has ended must not hide what is about to
		}
		for at, s := range stages() {
			from := leaf.End.Add(-life / s.part)
			if f.Now.Before(from) {
				out.next = kube.Earlier(out.next, from)
				continue
			}
			isHead := pod.Group == ""
			if at < reached || at == reached && (isHead && !ofHead || isHead == ofHead && leaf.End.Before(out.end)) {
				reached, out.stage, out.pod, out.end, ofHead = at, s.stage, pod.Name, leaf.End, isHead
			}
			break
		}
	}
	if out.stage == "" && out.ended != "" {
		out.stage, out.pod = v1alpha1.StageLastTwelfth, out.ended
	}
	return out
}

// ending warns of the certificate that has reached the last part of its life.
func (l lives) ending() string {
	part := map[v1alpha1.ExpiryStage]string{
		v1alpha1.StageLastThird: "third", v1alpha1.StageLastSixth: "sixth", v1alpha1.StageLastTwelfth: "twelfth",
	}[l.stage]
	return fmt.Sprintf("the certificate of pod %s is in the last %s of its life and ends at %s", l.pod, part, kube.FormatTime(l.end))
}

// Warning is an event that the change of a status calls for: a certificate has entered a later part of its life. It is empty if none
// has.
func Warning(f *Facts, before, after *v1alpha1.RayClusterTLSStatus, store keys.Store) string {
	later := func(stage v1alpha1.ExpiryStage) int {
		for at, s := range stages() {
			if s.stage == stage {
				return len(stages()) - at
			}
		}
		return 0
	}
	now := f.lives(store)
	switch {
	case now.stage == "" || now.pod == now.ended:
		return "" // the conditions tell of what has ended
	case later(after.ExpiryStage) > later(before.ExpiryStage):
	case now.ended != "" && after.ExpiryStage != before.ExpiryStage: // the stage before was that of what has ended
	default:
		return ""
	}
	return now.ending()
}
