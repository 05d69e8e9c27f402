package cluster

import (
	"fmt"
	"slices"
	"time"

	"k8s.io/apimachinery/pkg/api/meta"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/raytls/raytls/api/v1alpha1"
	"github.com/raytls/raytls/internal/injection"
	"github.com/raytls/raytls/internal/keys"
	"github.com/raytls/raytls/internal/kube"
	"github.com/raytls/raytls/internal/policy"
	"github.com/raytls/raytls/internal/rollout"
)

// maxMessage is how long a message may be. A condition would take more, but nobody reads it.
const maxMessage = 1024

// Bounds that the API sets, for text that comes from objects of users.
const (
	maxBlockedBy = 320
	maxGroupName = 253
)

// Done is what became of a decision's writes.
type Done struct {
	// Keys are what the cluster's Secrets hold now.
	Keys keys.Store
	// Recorded reports whether the status takes the record of the plan. Otherwise the record stays as it was.
	Recorded bool
	// Err is what ended the writes; nil if nothing did. A lagging cache is no error here.
	Err error
}

// Status is a cluster's status: what was found, decided and done. It is the only place that makes one.
func Status(f *Facts, d *Decision, done Done) v1alpha1.RayClusterTLSStatus {
	before := &v1alpha1.RayClusterTLSStatus{}
	if f.TLS != nil {
		before = &f.TLS.Status
	}
	if f.Deleting() {
		return leaving(before)
	}
	out := v1alpha1.RayClusterTLSStatus{
		ObservedGeneration: f.Object.GetGeneration(),
		Conditions:         slices.Clone(before.Conditions),
		Injection:          before.Injection, Rollout: before.Rollout,
		Authority: before.Authority, Issuer: before.Issuer,
	}
	if p := f.Decision.Policy; p != nil {
		out.PolicyRef = v1alpha1.PolicyReference{Name: p.Name, Generation: p.Generation}
	}
	if done.Recorded || d.Rebuilt {
		out.Injection, out.Rollout = writeRecord(d.Plan.Record, d.Groups)
	}
	describeKeys(&out, done.Keys)
	countPods(&out, f, done.Keys)
	report := d.report(f, done)
	out.PendingRestart = pendingRestart(f, d, report)
	for _, condition := range []metav1.Condition{
		encrypted(report, out.Pods), certified(f, &out), upToDate(f, d, done, report, &out), stalled(f, report),
	} {
		condition.ObservedGeneration = out.ObservedGeneration
		condition.LastTransitionTime = metav1.NewTime(f.Now.Truncate(time.Second))
		condition.Message = kube.Truncate(condition.Message, maxMessage)
		meta.SetStatusCondition(&out.Conditions, condition)
	}
	return out
}

// leaving is the status of a cluster that is being deleted: as it was, but it takes no slot from others.
func leaving(before *v1alpha1.RayClusterTLSStatus) v1alpha1.RayClusterTLSStatus {
	out := *before.DeepCopy()
	out.Rollout, out.PendingRestart = nil, nil
	out.Injection.FailedHash, out.Injection.FailedMessage, out.Injection.FailedTime = "", "", nil
	return out
}

// report is what there is to say of the cluster: an error, an obstacle, the plan, or what is seen without a policy.
func (d *Decision) report(f *Facts, done Done) rollout.Report {
	switch outcome := kube.AsOutcome(done.Err); {
	case outcome != nil:
		return reported(outcome)
	case done.Err != nil && !kube.IsStale(done.Err):
		return rollout.Report{Reason: v1alpha1.ReasonError, Message: done.Err.Error()}
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
		UserMustAct: outcome.Kind == kube.UserMustAct && outcome.Reason != v1alpha1.ReasonPaused,
	}
}

// uncovered is for a cluster that no policy covers. An encrypted one stays encrypted.
func uncovered(f *Facts) rollout.Report {
	if ended := endedPod(f); ended != nil && f.Injected() {
		return rollout.Report{
			Reason: v1alpha1.ReasonCertificateExpired, UserMustAct: true,
			Message: fmt.Sprintf("the certificate of pod %s ended at %s, and peers refuse new connections with it; delete the pod", ended.Name, ended.Expires.UTC().Format(time.RFC3339)),
		}
	}
	plaintext, certifiedHead := false, false
	for i := range f.Pods {
		plaintext = plaintext || !f.Pods[i].Injected
		certifiedHead = certifiedHead || f.Pods[i].Group == "" && f.Pods[i].Certified
	}
	if f.wholly() && certifiedHead && !plaintext {
		return rollout.Report{Reason: v1alpha1.ReasonEncrypted, Message: "no policy covers the cluster, which stays encrypted"}
	}
	return rollout.Report{Reason: v1alpha1.ReasonNotCovered, Message: "no policy covers the cluster"}
}

// wholly reports whether every template carries the injection.
func (f *Facts) wholly() bool {
	return len(f.Templates) > 0 && !slices.ContainsFunc(f.Templates, func(t injection.Template) bool { return t.State != injection.Injected })
}

func encrypted(report rollout.Report, pods v1alpha1.PodCounts) metav1.Condition {
	condition := metav1.Condition{Type: v1alpha1.ConditionEncrypted, Status: metav1.ConditionFalse, Reason: report.Reason, Message: report.Message}
	if report.Reason == v1alpha1.ReasonEncrypted {
		condition.Status = metav1.ConditionTrue
		if condition.Message == "" {
			condition.Message = "all pods speak TLS"
			if waiting := pods.Total - pods.Certified - pods.Outdated; waiting > 0 {
				condition.Message = fmt.Sprintf("all pods that have started speak TLS; %d of %d pods have no certificate yet", waiting, pods.Total)
			}
		}
	}
	return condition
}

func certified(f *Facts, status *v1alpha1.RayClusterTLSStatus) metav1.Condition {
	condition := metav1.Condition{Type: v1alpha1.ConditionCertified, Status: metav1.ConditionFalse}
	pods := status.Pods
	condition.Message = fmt.Sprintf("%d of %d pods have a valid certificate of the current authority", pods.Certified, pods.Total)
	switch failed, ended := failedPod(f), endedPod(f); {
	case pods.Total == 0:
		condition.Reason, condition.Message = v1alpha1.ReasonNoPods, "the cluster has no pods"
	case ended != nil:
		condition.Reason = v1alpha1.ReasonCertificateExpired
		condition.Message = fmt.Sprintf("the certificate of pod %s ended at %s", ended.Name, ended.Expires.UTC().Format(time.RFC3339))
	case failed != nil:
		condition.Reason, condition.Message = v1alpha1.ReasonCertificateFailed, fmt.Sprintf("pod %s: %s", failed.Name, failed.Failure)
	case pods.Certified < pods.Total:
		condition.Reason = v1alpha1.ReasonCertificatesPending
	default:
		condition.Status, condition.Reason = metav1.ConditionTrue, v1alpha1.ReasonCertified
	}
	return condition
}

func failedPod(f *Facts) *Pod {
	for i := range f.Pods {
		if f.Pods[i].Failure != "" {
			return &f.Pods[i]
		}
	}
	return nil
}

func endedPod(f *Facts) *Pod {
	for i := range f.Pods {
		if end := f.Pods[i].Expires; !end.IsZero() && !f.Now.Before(end) {
			return &f.Pods[i]
		}
	}
	return nil
}

func upToDate(f *Facts, d *Decision, done Done, report rollout.Report, status *v1alpha1.RayClusterTLSStatus) metav1.Condition {
	condition := metav1.Condition{Type: v1alpha1.ConditionUpToDate, Status: metav1.ConditionFalse}
	switch {
	case f.Policy == nil:
		condition.Status, condition.Reason, condition.Message = metav1.ConditionUnknown, v1alpha1.ReasonNotCovered, "no policy covers the cluster"
	case f.Decision.Goal != v1alpha1.GoalEncrypted || d.Obstacle != nil || !d.Snapshot.Enabled && d.Plan.Reason != v1alpha1.ReasonEncrypted && !d.Plan.Enabled:
		condition.Reason, condition.Message = report.Reason, report.Message
	case done.Keys.AuthorityOutdated(f.settings()):
		condition.Reason = v1alpha1.ReasonAuthorityChangePending
		condition.Message = fmt.Sprintf("secretRef, keyAlgorithm or validityDays of certificateAuthority in RayTLSPolicy %s changed after the cluster's authority was made; the cluster keeps its authority", f.Decision.Policy.Name)
	case !d.Parameters.Equal(policy.Parameters(f.Policy)):
		condition.Reason = v1alpha1.ReasonTemplateChangePending
		condition.Message = fmt.Sprintf("issuance.initContainer or additionalContainers in RayTLSPolicy %s changed after the cluster was injected; the change reaches the templates when the cluster has no pods, so suspend and resume it", f.Decision.Policy.Name)
	case status.Pods.Outdated > 0:
		condition.Reason, condition.Message = v1alpha1.ReasonPodsOutdated, fmt.Sprintf("%d of %d pods have a certificate of another authority", status.Pods.Outdated, status.Pods.Total)
	default:
		condition.Status, condition.Reason, condition.Message = metav1.ConditionTrue, v1alpha1.ReasonUpToDate, "the cluster runs with the policy's present values"
	}
	return condition
}

func stalled(f *Facts, report rollout.Report) metav1.Condition {
	condition := metav1.Condition{Type: v1alpha1.ConditionStalled, Status: metav1.ConditionFalse, Reason: v1alpha1.ReasonNothingToDo, Message: "no user needs to act"}
	if wrong := policy.InvalidExclude(f.Object); wrong != "" && f.Policy != nil {
		condition.Status, condition.Reason, condition.Message = metav1.ConditionTrue, v1alpha1.ReasonInvalidExclude, wrong
	}
	if report.UserMustAct {
		condition.Status, condition.Reason, condition.Message = metav1.ConditionTrue, report.Reason, report.Message
	}
	return condition
}

// settings are those that the policy asks keys to be made by. The cluster has a policy.
func (f *Facts) settings() keys.Settings {
	return keys.SettingsOf(f.Policy, f.HeadNames, !f.Ray.FaultTolerant)
}

// KeySettings are the settings for new keys: those of the policy, or, without a policy, those kept beside the authority.
func (f *Facts) KeySettings() keys.Settings {
	if f.Policy == nil {
		return f.Keys.Settings
	}
	return f.settings()
}

// KeyPods is what the cluster's pods and its record say of its keys.
func (f *Facts) KeyPods() keys.Pods {
	var out keys.Pods
	for i := range f.Pods {
		pod := &f.Pods[i]
		if !pod.Certified || pod.Terminating {
			continue
		}
		id := ""
		if pod.Report != nil {
			id = pod.Report.Authority
		}
		out.Authorities = append(out.Authorities, id)
	}
	if f.TLS != nil {
		out.Generation = f.TLS.Status.Authority.Generation
	}
	return out
}

func describeKeys(out *v1alpha1.RayClusterTLSStatus, store keys.Store) {
	if a := store.Authority; a != nil && store.Generation >= out.Authority.Generation {
		out.Authority = v1alpha1.AuthorityStatus{
			Generation: store.Generation, ID: a.ID(), IssuedTime: stamp(a.IssuedAt()), ExpiryTime: stamp(a.NotAfter()),
		}
	}
	out.Issuer = v1alpha1.IssuerStatus{}
	if i := store.Issuer; i != nil {
		out.Issuer = v1alpha1.IssuerStatus{ID: i.ID(), ExpiryTime: stamp(i.NotAfter())}
	}
}

func countPods(out *v1alpha1.RayClusterTLSStatus, f *Facts, store keys.Store) {
	authority := ""
	if store.Authority != nil {
		authority = store.Authority.ID()
	}
	for i := range f.Pods {
		pod := &f.Pods[i]
		out.Pods.Total++
		switch {
		case !pod.Injected:
			out.Pods.Plaintext++
		case pod.Report == nil:
		case pod.Report.Authority != authority:
			out.Pods.Outdated++
		case f.Now.Before(pod.Report.NotAfter):
			out.Pods.Certified++
		}
		if end := pod.Expires; pod.Injected && !end.IsZero() && (out.EarliestExpiryTime == nil || end.Before(out.EarliestExpiryTime.Time)) {
			out.EarliestExpiryTime = stamp(end)
		}
	}
}

// pendingRestart describes a restart that waits; nil if none does.
func pendingRestart(f *Facts, d *Decision, report rollout.Report) *v1alpha1.PendingRestart {
	if f.Policy == nil || !report.RestartWaits {
		return nil
	}
	out := &v1alpha1.PendingRestart{
		ID: d.RestartID, Action: action(f.Decision.Goal), Reason: report.Reason, BlockedBy: kube.Truncate(report.BlockedBy, maxBlockedBy),
		Message: kube.Truncate(report.Message, maxMessage),
	}
	if report.BlockedBy == "" || report.BlockedBy == "Kueue" {
		out.Message += "; to approve it, run: " + ApproveCommand(f.Decision.Policy, f.Key.Name, d.RestartID)
	}
	return out
}

// ApproveCommand is the command that approves a restart of a cluster.
func ApproveCommand(p *v1alpha1.RayTLSPolicy, cluster, restart string) string {
	approvals := p.Spec.Rollout.Approvals
	command := fmt.Sprintf("kubectl patch raytlspolicy %s -n %s ", p.Name, p.Namespace)
	approval := fmt.Sprintf(`{"cluster":%q,"restart":%q}`, cluster, restart)
	at := slices.IndexFunc(approvals, func(a v1alpha1.Approval) bool { return a.Cluster == cluster })
	switch {
	case at >= 0:
		return command + fmt.Sprintf(`--type=json -p '[{"op":"test","path":"/spec/rollout/approvals/%[1]d/cluster","value":%[3]q},{"op":"replace","path":"/spec/rollout/approvals/%[1]d","value":%[2]s}]'`, at, approval, cluster)
	case len(approvals) > 0:
		return command + fmt.Sprintf(`--type=json -p '[{"op":"add","path":"/spec/rollout/approvals/-","value":%s}]'`, approval)
	}
	return command + fmt.Sprintf(`--type=merge -p '{"spec":{"rollout":{"approvals":[%s]}}}'`, approval)
}
