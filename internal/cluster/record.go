package cluster

import (
	"crypto/sha256"
	"encoding/hex"
	"maps"
	"slices"
	"time"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"

	"github.com/raytls/raytls/api/v1alpha1"
	"github.com/raytls/raytls/internal/injection"
	"github.com/raytls/raytls/internal/kube"
	"github.com/raytls/raytls/internal/rollout"
)

// maxFailedMessage and maxRefusal are how much of an error and of a refusal the record keeps.
const (
	maxFailedMessage = 512
	maxRefusal       = 512
)

// readRecord gives the planner's record in a status.
func readRecord(status *v1alpha1.RayClusterTLSStatus) rollout.Record {
	out := rollout.Record{
		Enabled: status.Injection.Revision > 0, InjectedAt: instant(status.Injection.Since),
		FailedAttempt: status.Injection.FailedHash, FailedBecause: status.Injection.FailedMessage, FailedAt: instant(status.Injection.FailedTime),
	}
	for _, at := range status.Injection.RestoredTimes {
		out.Restored = append(out.Restored, at.Time)
	}
	for _, t := range status.Injection.Templates {
		if out.Changed == nil {
			out.Changed = map[string]rollout.Change{}
		}
		out.Changed[t.Group] = rollout.Change{Goal: t.Goal, At: t.ChangedTime.UTC()}
	}
	out.Attempted = instant(status.Injection.LastAttemptTime)
	out.RevokedBefore = status.Authority.RevokedBeforeGeneration
	c := &status.PodCertificate
	out.WorkerWish = rollout.Wish{Hash: c.WorkerHash, Since: instant(c.WorkerSince)}
	out.HeadWish = rollout.Wish{Hash: c.HeadHash, Since: instant(c.HeadSince)}
	for i := range status.RefusedEvictions {
		r := &status.RefusedEvictions[i]
		out.Refusals = append(out.Refusals, rollout.Refusal{
			Pod: r.Pod, UID: r.PodUID, BlockedBy: r.BlockedBy, Message: r.Message, First: r.FirstTime.UTC(), Last: r.LastTime.UTC(), Attempts: r.Attempts,
		})
	}
	if p := status.Rollout; p != nil {
		out.Progress = &rollout.Progress{
			Goal: p.Goal, Phase: p.Phase, Since: p.PhaseStartTime.UTC(), From: instant(p.DeadlineStartTime), Remaining: p.Remaining,
		}
		if len(p.Canaries) > 0 {
			out.Progress.Canaries = map[string]string{}
		}
		for _, canary := range p.Canaries {
			out.Progress.Canaries[canary.Group] = canary.Pod
		}
	}
	return out
}

// writeRecord is the part of a RayClusterTLS's status that readRecord reads. groups are the worker groups on record.
func writeRecord(record rollout.Record, groups []string) (v1alpha1.InjectionStatus, *v1alpha1.RolloutProgress) {
	out := v1alpha1.InjectionStatus{
		Since: stamp(record.InjectedAt), FailedHash: record.FailedAttempt,
		FailedMessage: kube.Truncate(record.FailedBecause, maxFailedMessage), FailedTime: stamp(record.FailedAt),
	}
	for _, at := range record.Restored {
		out.RestoredTimes = append(out.RestoredTimes, *stamp(at))
	}
	for _, group := range slices.Sorted(maps.Keys(record.Changed)) {
		if change := record.Changed[group]; len(group) <= maxGroupName {
			out.Templates = append(out.Templates, v1alpha1.TemplateChange{Group: group, Goal: change.Goal, ChangedTime: *stamp(change.At)})
		}
	}
	out.LastAttemptTime = stamp(record.Attempted)
	if record.Enabled {
		out.Revision, out.Groups = injection.Revision, groups
	}
	p := record.Progress
	if p == nil {
		return out, nil
	}
	progress := &v1alpha1.RolloutProgress{Goal: p.Goal, Phase: p.Phase, PhaseStartTime: *stamp(p.Since), DeadlineStartTime: stamp(p.From), Remaining: p.Remaining}
	for _, group := range slices.Sorted(maps.Keys(p.Canaries)) {
		progress.Canaries = append(progress.Canaries, v1alpha1.Canary{Group: group, Pod: p.Canaries[group]})
	}
	return out, progress
}

// writeWishes returns the certificate settings in the form that readRecord reads.
func writeWishes(record rollout.Record) v1alpha1.PodCertificateStatus {
	return v1alpha1.PodCertificateStatus{
		WorkerHash: record.WorkerWish.Hash, WorkerSince: stamp(record.WorkerWish.Since),
		HeadHash: record.HeadWish.Hash, HeadSince: stamp(record.HeadWish.Since),
	}
}

// writeRefusals returns the refused evictions in the form that readRecord reads.
func writeRefusals(record rollout.Record) []v1alpha1.RefusedEviction {
	var out []v1alpha1.RefusedEviction
	for _, r := range record.Refusals {
		out = append(out, v1alpha1.RefusedEviction{
			Pod: r.Pod, PodUID: r.UID, FirstTime: *stamp(r.First), LastTime: *stamp(r.Last), Attempts: r.Attempts,
			BlockedBy: kube.Truncate(r.BlockedBy, maxBlockedBy), Message: kube.Truncate(r.Message, maxRefusal),
		})
	}
	return out
}

func instant(at *metav1.Time) time.Time {
	if at == nil {
		return time.Time{}
	}
	return at.UTC()
}

func stamp(at time.Time) *metav1.Time {
	if at.IsZero() {
		return nil
	}
	out := metav1.NewTime(at.UTC().Truncate(time.Second))
	return &out
}

// restartID identifies one restart of one head, so that an approval holds for no other. attempt is when a restart was tried
// before and left the head in place; zero if none was.
func restartID(cluster types.UID, head string, action v1alpha1.RestartAction, attempt time.Time) string {
	text := string(cluster) + "/" + head + "/" + string(action)
	if !attempt.IsZero() {
		text += "/" + kube.FormatTime(attempt)
	}
	return digest(text)[:8]
}

func digest(text string) string {
	sum := sha256.Sum256([]byte(text))
	return hex.EncodeToString(sum[:8])
}
