package cluster

import (
	"fmt"
	"slices"
	"strings"
	"time"

	"k8s.io/apimachinery/pkg/api/meta"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/raytls/raytls/api/v1alpha1"
	"github.com/raytls/raytls/internal/injection"
	"github.com/raytls/raytls/internal/kept"
	"github.com/raytls/raytls/internal/keys"
	"github.com/raytls/raytls/internal/kube"
	"github.com/raytls/raytls/internal/policy"
	"github.com/raytls/raytls/internal/rollout"
)

// Bounds in bytes. A condition could hold a longer message, but nobody would read it. The API sets the others.
const (
	maxMessage   = 1024
	maxBlockedBy = 320
	maxGroupName = 253
)

// Done is the outcome of a decision's writes.
type Done struct {
	// Keys are what the cluster's Secrets hold now.
	Keys keys.Store
	// Recorded reports whether the status takes the record of the plan. Otherwise the record stays as it was.
	Recorded bool
	// Refused are the pods that the API server refused to evict.
	Refused []Refused
	// Err ended the writes; nil if nothing did. A lagging cache is not reported as an error.
	Err error
}

// Refused is a pod that the API server refused to evict. BlockedBy names what refuses, and Message is the API server's text.
type Refused struct {
	Pod                *rollout.Pod
	BlockedBy, Message string
}

// deletionPatience is how long the last state of a cluster counts that is being deleted. Its pods end meanwhile.
const deletionPatience = 10 * time.Minute

// deletionLasts is when the deletion of the cluster has taken so long that its last state does not count any more.
func (f *Facts) deletionLasts() time.Time {
	return f.Object.GetDeletionTimestamp().Add(deletionPatience)
}

// Status makes a cluster's status. It is the only place that makes one.
func Status(f *Facts, d *Decision, done Done) v1alpha1.RayClusterTLSStatus {
	before := f.status()
	if f.Deleting() { // the status stays as it was but holds no slot
		out := *before.DeepCopy()
		out.Rollout, out.PendingRestart = nil, nil
		out.Injection.FailedHash, out.Injection.FailedMessage, out.Injection.FailedTime = "", "", nil
		if !f.Now.Before(f.deletionLasts()) {
			for _, was := range before.Conditions {
				if was.Type == v1alpha1.ConditionStalled {
					continue
				}
				now := condition(was.Type, metav1.ConditionUnknown, v1alpha1.ReasonDeleting,
					"the RayCluster was deleted at %s and a finalizer still holds it; the operator does not look at its pods any more", kube.FormatTime(f.Object.GetDeletionTimestamp().Time))
				now.ObservedGeneration = f.Object.GetGeneration()
				meta.SetStatusCondition(&out.Conditions, now)
			}
		}
		return out
	}
	out := v1alpha1.RayClusterTLSStatus{
		ObservedGeneration: f.Object.GetGeneration(),
		Conditions:         slices.Clone(before.Conditions),
		Injection:          before.Injection, Rollout: before.Rollout, PodCertificate: before.PodCertificate,
		RefusedEvictions: before.RefusedEvictions,
		Authority:        before.Authority, Issuer: before.Issuer, ObservedOnWire: f.Wire.Observed,
	}
	if p := f.Decision.Policy; p != nil {
		out.PolicyRef = v1alpha1.PolicyReference{Name: p.Name, Generation: p.Generation}
	}
	if done.Recorded || d.Rebuilt {
		record := d.Plan.Record
		for _, r := range done.Refused {
			record = record.Refused(r.Pod, r.BlockedBy, r.Message, f.Now)
		}
		out.Injection, out.Rollout = writeRecord(record, d.Groups)
		out.PodCertificate, out.RefusedEvictions = writeWishes(record), writeRefusals(record)
		out.Authority.RevokedBeforeGeneration = record.RevokedBefore
	}
	found := f.certificates(done.Keys)
	describeKeys(&out, done.Keys, found.Earlier)
	out.Pods, out.EarliestExpiryTime = f.counts(d, done.Keys, &found), stamp(found.First)
	lives := f.lives(done.Keys)
	out.RestartBy, out.ExpiryStage = stamp(lives.by), lives.stage
	report := f.Wire.weaken(f.weaken(d.report(f, done), &found), f.Now)
	out.PendingRestart = pendingRestart(f, d, report, done)
	due := f.due(done.Keys)
	for _, condition := range []metav1.Condition{
		encrypted(f, report, &found), certified(f, &found, &out), upToDate(f, d, done, due, report, &found, &out), stalled(f, d, due, report),
	} {
		condition.ObservedGeneration = out.ObservedGeneration
		condition.LastTransitionTime = metav1.NewTime(f.Now.Truncate(time.Second))
		condition.Message = kube.Truncate(condition.Message, maxMessage)
		meta.SetStatusCondition(&out.Conditions, condition)
	}
	return out
}

// report describes the cluster by an error, an obstacle, the plan, or, without a policy, by its pods.
func (d *Decision) report(f *Facts, done Done) rollout.Report {
	switch outcome := kube.AsOutcome(done.Err); {
	case outcome != nil && !outcome.OfRestart:
		return reported(outcome)
	case outcome == nil && done.Err != nil && !kube.IsStale(done.Err):
		return rollout.Report{Reason: v1alpha1.ReasonError, Message: kube.Steady(done.Err.Error())}
	case d.Obstacle != nil:
		out := reported(d.Obstacle)
		out.RestartWaits = d.Plan.RestartWaits
		return out
	case d.Plan.Reason != "":
		return d.Plan.Report
	}
	return uncovered(f)
}

func reported(outcome *kube.Outcome) rollout.Report {
	return rollout.Report{
		Reason: outcome.Reason, Message: outcome.Message, BlockedBy: outcome.BlockedBy,
		UserMustAct: outcome.UserMustAct && outcome.Reason != v1alpha1.ReasonPaused,
	}
}

// uncovered is for a cluster that no policy covers. An encrypted one stays encrypted.
func uncovered(f *Facts) rollout.Report {
	if f.Orphaned {
		return rollout.Report{
			Reason: v1alpha1.ReasonNotCovered, UserMustAct: true,
			Message: "no policy covers the cluster, and its templates carry the injection, so its pods wait for keys that nobody makes; create a RayTLSPolicy for it, or remove the injection from its manifest",
		}
	}
	if altered := f.pod(func(p *Pod) bool { return p.Pieces && p.Differs != "" }); altered != nil && kept.MayBeInjected(f.Spec) {
		return rollout.Report{
			Reason: v1alpha1.ReasonPodsAltered, UserMustAct: true,
			Message: fmt.Sprintf("pod %s is not as its template: %s; correct the webhook or admission policy that changes pods, then delete the pod", altered.Name, altered.Differs),
		}
	}
	plaintext := f.pod(func(p *Pod) bool { return !p.Injected })
	certifiedHead := f.pod(func(p *Pod) bool { return p.Group == "" && p.Certified })
	if f.wholly() && certifiedHead != nil && plaintext == nil {
		return rollout.Report{Reason: v1alpha1.ReasonEncrypted, Message: "no policy covers the cluster, which stays encrypted"}
	}
	return rollout.Report{Reason: v1alpha1.ReasonNotCovered, Message: "no policy covers the cluster"}
}

// wholly reports whether every template carries the injection.
func (f *Facts) wholly() bool {
	return len(f.Templates) > 0 && !slices.ContainsFunc(f.Templates, func(t injection.Template) bool { return t.State != injection.Injected })
}

// condition gives a condition of that kind, whose message is formatted if there are arguments.
func condition(kind string, status metav1.ConditionStatus, reason, message string, args ...any) metav1.Condition {
	if len(args) > 0 {
		message = fmt.Sprintf(message, args...)
	}
	return metav1.Condition{Type: kind, Status: status, Reason: reason, Message: message}
}

func encrypted(f *Facts, report rollout.Report, found *keys.Census) metav1.Condition {
	const kind = v1alpha1.ConditionEncrypted
	switch {
	case report.Reason != v1alpha1.ReasonEncrypted:
		return condition(kind, metav1.ConditionFalse, report.Reason, report.Message)
	case report.Message != "":
		return condition(kind, metav1.ConditionTrue, report.Reason, report.Message)
	case found.Waiting > 0:
		return condition(kind, metav1.ConditionTrue, report.Reason, "all pods that have started speak TLS; %s", f.pending(found))
	}
	return condition(kind, metav1.ConditionTrue, report.Reason, "all pods speak TLS")
}

func certified(f *Facts, found *keys.Census, status *v1alpha1.RayClusterTLSStatus) metav1.Condition {
	const kind, counts = v1alpha1.ConditionCertified, "%d of %d pods have a valid certificate of the current authority"
	pods := &status.Pods
	failed := f.pod(func(p *Pod) bool { return p.Failure != "" })
	switch {
	case pods.Total == 0:
		return condition(kind, metav1.ConditionFalse, v1alpha1.ReasonNoPods, "the cluster has no pods")
	case len(found.Expired) > 0:
		return condition(kind, metav1.ConditionFalse, v1alpha1.ReasonCertificateExpired, "%s", found.Expired.Ended())
	case failed != nil:
		return condition(kind, metav1.ConditionFalse, v1alpha1.ReasonCertificateFailed, "pod %s: %s", failed.Name, failed.Failure)
	case len(found.Foreign) > 0:
		return condition(kind, metav1.ConditionFalse, v1alpha1.ReasonOutdatedAuthority, "%d of %d pods have a certificate of another authority, the first is pod %s", pods.Outdated, pods.Total, found.Foreign[0].Pod)
	case found.Certified+found.Outdated < pods.Total:
		return condition(kind, metav1.ConditionFalse, v1alpha1.ReasonCertificatesPending, counts, pods.Certified, pods.Total)
	case len(found.Ending) > 0:
		state := metav1.ConditionTrue
		if found.Outdated > 0 {
			state = metav1.ConditionFalse
		}
		return condition(kind, state, v1alpha1.ReasonCertificateEnding, "the certificate of pod %s ends at %s; restart the pod before", found.Ending[0].Pod, kube.FormatTime(found.Ending[0].At))
	case found.Outdated > 0:
		return condition(kind, metav1.ConditionFalse, v1alpha1.ReasonPodsOutdated, "%s", outdated(found, status))
	}
	return condition(kind, metav1.ConditionTrue, v1alpha1.ReasonCertified, counts, pods.Certified, pods.Total)
}

// pod is the first pod that passes the test; nil if none does.
func (f *Facts) pod(test func(*Pod) bool) *Pod {
	for i := range f.Pods {
		if test(&f.Pods[i]) {
			return &f.Pods[i]
		}
	}
	return nil
}

// outdated says in what the certificates of pods are outdated.
func outdated(found *keys.Census, status *v1alpha1.RayClusterTLSStatus) string {
	var parts []string
	earlier := int32(0)
	for _, pods := range found.Earlier {
		earlier += pods
	}
	if earlier > 0 {
		parts = append(parts, fmt.Sprintf("%d of %d pods still have a certificate of an earlier generation of the authority (%s; the present one is %d); they connect to all others, and get a new one when they are created anew",
			earlier, status.Pods.Total, found.Generations(), status.Authority.Generation))
	}
	if foreign := found.Outdated - earlier; foreign > 0 {
		parts = append(parts, fmt.Sprintf("%d of %d pods have a certificate of another authority", foreign, status.Pods.Total))
	}
	if unlike := status.Pods.Outdated - found.Outdated; unlike > 0 {
		parts = append(parts, fmt.Sprintf("%d of %d pods have a certificate of an earlier podCertificate", unlike, status.Pods.Total))
	}
	return strings.Join(parts, "; ")
}

func upToDate(f *Facts, d *Decision, done Done, due keys.Due, report rollout.Report, found *keys.Census, status *v1alpha1.RayClusterTLSStatus) metav1.Condition {
	const kind = v1alpha1.ConditionUpToDate
	asked := d.Snapshot.Revocation.Asked
	switch {
	case f.Policy == nil:
		return condition(kind, metav1.ConditionUnknown, v1alpha1.ReasonNotCovered, "no policy covers the cluster")
	case f.Decision.Goal != v1alpha1.GoalEncrypted || d.Obstacle != nil || !d.Snapshot.Enabled && d.Plan.Reason != v1alpha1.ReasonEncrypted && !d.Plan.Enabled:
		return condition(kind, metav1.ConditionFalse, report.Reason, report.Message)
	case d.Plan.Progress != nil && d.Plan.Progress.Phase == v1alpha1.PhaseRevoke:
		return condition(kind, metav1.ConditionFalse, v1alpha1.ReasonRevoking, "%s", d.Plan.Message)
	case asked != "" && d.Plan.Roll.Message != "":
		return condition(kind, metav1.ConditionFalse, v1alpha1.ReasonRevocationPending, "%s", d.Plan.Roll.Message)
	case asked != "":
		return condition(kind, metav1.ConditionFalse, v1alpha1.ReasonRevocationPending, "%s; until all pods are replaced, they trust it", asked)
	case due.Held != nil && (due.Held.Reason == v1alpha1.ReasonTooManyGenerations || due.Held.Reason == v1alpha1.ReasonClockSkew):
		return condition(kind, metav1.ConditionFalse, due.Held.Reason, "%s", due.Held.Message)
	case due.Held != nil:
		return condition(kind, metav1.ConditionFalse, v1alpha1.ReasonAuthorityChangePending, "%s; until then the cluster keeps its authority", due.Held.Message)
	case due.Authority == "" && done.Keys.AuthorityEnding(f.KeySettings(), f.Now):
		return condition(kind, metav1.ConditionFalse, v1alpha1.ReasonAuthorityEnding, "%s", f.authorityEnding(done.Keys))
	case done.Keys.AuthorityOutdated(f.KeySettings()):
		return condition(kind, metav1.ConditionFalse, v1alpha1.ReasonAuthorityChangePending,
			"keyAlgorithm or validityDays of certificateAuthority in RayTLSPolicy %s changed after the cluster's authority was made; set replaceIssuedBefore to have it replaced", f.Decision.Policy.Name)
	case !d.Parameters.Equal(f.wanted()):
		return condition(kind, metav1.ConditionFalse, v1alpha1.ReasonTemplateChangePending,
			"issuance.initContainer or additionalContainers in RayTLSPolicy %s changed after the cluster was injected; the change reaches the templates when the cluster has no pods, so suspend and resume it", f.Decision.Policy.Name)
	case d.Snapshot.Unrecorded():
		return condition(kind, metav1.ConditionFalse, v1alpha1.ReasonPodsOutdated,
			"podCertificate in RayTLSPolicy %s changed while spec.paused was true; pods that are created now have it already, and the others get it when the policy goes on", f.Decision.Policy.Name)
	case status.Pods.Outdated > 0:
		waits := ""
		if d.Plan.Roll.Message != "" {
			waits = "; " + d.Plan.Roll.Message
		}
		return condition(kind, metav1.ConditionFalse, v1alpha1.ReasonPodsOutdated, "%s%s", outdated(found, status), waits)
	}
	return condition(kind, metav1.ConditionTrue, v1alpha1.ReasonUpToDate, "the cluster runs with the policy's present values")
}

func stalled(f *Facts, d *Decision, due keys.Due, report rollout.Report) metav1.Condition {
	const kind = v1alpha1.ConditionStalled
	switch wrong, roll := policy.InvalidExclude(f.Object), d.Plan.Roll; {
	case report.UserMustAct:
		return condition(kind, metav1.ConditionTrue, report.Reason, report.Message)
	case roll.UserMustAct:
		return condition(kind, metav1.ConditionTrue, roll.Reason, roll.Message)
	case due.Held != nil && due.Held.Reason == v1alpha1.ReasonClockSkew:
		return condition(kind, metav1.ConditionTrue, due.Held.Reason, "%s", due.Held.Message)
	case wrong != "" && f.Policy != nil:
		return condition(kind, metav1.ConditionTrue, v1alpha1.ReasonInvalidExclude, wrong)
	}
	return condition(kind, metav1.ConditionFalse, v1alpha1.ReasonNothingToDo, "no user needs to act")
}

// authorityEnding says when the authority ends, and what to do before.
func (f *Facts) authorityEnding(store keys.Store) string {
	remedy := "ask for more certificateAuthority.validityDays"
	if ref := f.Policy.CertificateAuthority.SecretRef; ref != nil {
		remedy = fmt.Sprintf("bring a CA in Secret %s that ends later", ref.Name)
	}
	return fmt.Sprintf("the cluster's authority ends at %s, and all certificates end with it; a new one would end no later, so %s, and the operator replaces it", kube.FormatTime(store.Authority.NotAfter()), remedy)
}

// pendingRestart describes a restart that waits; nil if none does.
func pendingRestart(f *Facts, d *Decision, report rollout.Report, done Done) *v1alpha1.PendingRestart {
	waits := rollout.Waiting{
		Reason: report.Reason, BlockedBy: report.BlockedBy, Message: report.Message,
		Approvable: report.BlockedBy == "" && report.Reason != v1alpha1.ReasonClockSkew || report.BlockedBy == rollout.Kueue,
	}
	if !report.RestartWaits {
		waits = d.Plan.Roll
	}
	if outcome := kube.AsOutcome(done.Err); outcome != nil && outcome.OfRestart {
		waits = rollout.Waiting{Reason: outcome.Reason, BlockedBy: outcome.BlockedBy, Message: outcome.Message}
	}
	if f.Policy == nil || waits.Reason == "" || d.RestartID == "" {
		return nil
	}
	out := &v1alpha1.PendingRestart{
		ID: d.RestartID, Action: action(&d.Snapshot), Reason: waits.Reason, BlockedBy: kube.Truncate(waits.BlockedBy, maxBlockedBy),
		Message: kube.Truncate(waits.Message, maxMessage),
	}
	if waits.Approvable {
		out.Message = policy.Approvable(out.Message, f.Decision.Policy, f.Key.Name, d.RestartID)
	}
	return out
}
