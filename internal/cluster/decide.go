package cluster

import (
	"fmt"
	"slices"
	"strings"
	"time"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/raytls/raytls/api/v1alpha1"
	"github.com/raytls/raytls/internal/injection"
	"github.com/raytls/raytls/internal/kube"
	"github.com/raytls/raytls/internal/kuberay"
	"github.com/raytls/raytls/internal/policy"
	"github.com/raytls/raytls/internal/rollout"
)

// Settings are those of the installation that decisions depend on.
type Settings struct {
	// Namespace is the operator's own.
	Namespace string
	// Images are the init images that policies may name.
	Images policy.Allowlist
	// Served reports whether the API server serves a kind.
	Served func(v1alpha1.TargetKind) bool
}

// Decision is what there is to do for a cluster.
type Decision struct {
	// Plan is its next step. Obstacle, if it is not nil, forbids the step's writes, and is reported instead.
	Plan     rollout.Plan
	Obstacle *kube.Outcome
	// Snapshot is what the plan was made from.
	Snapshot rollout.Snapshot
	// Parameters are those that the templates are rendered with.
	Parameters injection.Parameters
	// Edit is the change of the templates that the plan asks for, and Edited the spec that it gives; nil for no change.
	Edit   injection.Edit
	Edited map[string]any
	// WantsKeys reports whether the cluster needs its Secrets, and WantsScripts whether its pods mount the scripts.
	WantsKeys, WantsScripts bool
	// RestartID identifies the restart that the cluster needs or would need.
	RestartID string
	// Groups are the worker groups that are on record as injected after this step.
	Groups []string
	// Rebuilt reports whether the record of a cluster without a policy was lost and is made anew from what the cluster carries.
	Rebuilt bool
}

// rebuild makes a lost record of a cluster that stays encrypted without a policy: templates prove it, and the authority, which is
// kept where nobody in the cluster's namespace can write.
func (d *Decision) rebuild(f *Facts) {
	if first := f.firstEnd(); first.After(f.Now) {
		d.Plan.RequeueAt = first
	}
	if d.Plan.Enabled || d.Plan.Progress != nil || f.AuthoritySecret == nil || !f.wholly() {
		return
	}
	d.Plan.Enabled, d.Rebuilt = true, true
	for _, t := range f.Templates {
		if recordable(t.Group) && !slices.Contains(d.Groups, t.Group) {
			d.Groups = append(d.Groups, t.Group)
		}
	}
}

// Writes reports whether the plan may be carried out.
func (d *Decision) Writes() bool { return d.Obstacle == nil && d.Plan.Reason != "" }

// Decide makes a cluster's next step from its facts.
func Decide(f *Facts, s Settings) Decision {
	d := Decision{Parameters: recordedParameters(f.Templates)}
	d.Plan.Record = f.Record()
	switch {
	case f.Deleting():
		return d
	case f.TooLarge:
		d.Obstacle = kube.UserMustActf(v1alpha1.ReasonInjectionConflict, "RayCluster %s has more than %d worker groups, which is more than can be injected; use fewer", f.Key.Name, injection.MaxWorkerGroups)
		return d
	case f.Policy != nil:
		d.plan(f, s)
	default:
		d.rebuild(f)
	}
	injects := d.Obstacle == nil && (d.Plan.Edit == rollout.Inject || d.Plan.Edit == rollout.InjectAll)
	carries := f.Injected() && !d.Plan.Release
	paused := f.Policy != nil && f.Policy.Paused
	d.WantsKeys = f.Key.Namespace != s.Namespace && (f.Policy != nil || f.AuthoritySecret != nil) && (carries || injects && !paused)
	d.WantsScripts = d.WantsKeys && d.Parameters.ScriptsPath == ""
	return d
}

func (d *Decision) plan(f *Facts, s Settings) {
	candidate := policy.Candidate{Key: f.Key, Spec: f.Spec, ManagedBy: f.Ray.ManagedBy, OperatorNamespace: s.Namespace}
	if d.Obstacle = candidate.Untouchable(); d.Obstacle != nil {
		return
	}
	verdict := policy.Accept(policy.Acceptance{Spec: f.Policy, Images: s.Images, Served: s.Served, Now: f.Now})
	d.fill(f, verdict.Accepted)
	snapshot := &d.Snapshot
	if snapshot.Goal == v1alpha1.GoalEncrypted && !snapshot.Enabled && snapshot.Progress == nil {
		if _, err := policy.Inject(candidate, f.Policy, verdict, d.Parameters, f.EnvFrom); err != nil {
			d.obstruct(err)
			return
		}
	}
	d.Plan = rollout.Make(snapshot)
	d.Groups = d.groups(f)
	switch {
	case d.Plan.Reason == v1alpha1.ReasonEncrypted && !s.allows(d.Parameters.Image), d.Plan.Edit != rollout.NoEdit && d.Plan.Edit != rollout.RemoveAll && !s.allows(d.Parameters.Image):
		d.Obstacle = kube.UserMustActf(v1alpha1.ReasonNotAccepted, "the templates carry the init image %s, which is not among those that the operator's administrator allows with --allowed-init-image", d.Parameters.Image)
		return
	case f.Policy.Paused && d.acts():
		d.Obstacle = kube.UserMustActf(v1alpha1.ReasonPaused, "spec.paused of RayTLSPolicy %s keeps the operator from this step: %s", f.Decision.Policy.Name, d.Plan.Message)
		return
	}
	d.render(f)
	if d.Edited != nil && f.Admission == v1alpha1.ReasonAdmissionPending && f.Now.Before(f.AdmissionEnd) {
		d.awaitAdmission(f)
	}
}

func (s Settings) allows(image string) bool { return image == "" || s.Images.Allows(image) }

// acts reports whether the plan does anything.
func (d *Decision) acts() bool {
	return d.Plan.Changes(&d.Snapshot) || len(d.Plan.Delete) > 0 || d.Plan.Release
}

// awaitAdmission puts a change of the templates off: made a moment before admission is active, it would take them from
// whoever applies the cluster.
func (d *Decision) awaitAdmission(f *Facts) {
	reason := v1alpha1.ReasonEnabling
	if f.Decision.Goal != v1alpha1.GoalEncrypted {
		reason = v1alpha1.ReasonDisabling
	}
	d.Obstacle = kube.Waitf(reason, "waiting for the admission webhook to cover namespace %s; see the policy's condition %s", f.Key.Namespace, v1alpha1.ConditionAdmissionActive).
		RetryAfter(f.AdmissionEnd.Sub(f.Now))
}

func (d *Decision) obstruct(err error) {
	if d.Obstacle = kube.AsOutcome(err); d.Obstacle == nil {
		d.Obstacle = kube.Waitf(v1alpha1.ReasonError, "%v", err).RetryAfter(kube.UnwatchedRetry)
	}
}

// fill makes the planner's snapshot.
func (d *Decision) fill(f *Facts, accepted bool) {
	record := f.Record()
	s := rollout.Snapshot{
		Now: f.Now, Goal: f.Decision.Goal, Record: record,
		Suspended: f.Ray.Suspended, Provisioned: f.Ray.Provisioned, PodsMissing: f.Ray.PodsMissing, Service: f.serviceFor(),
		Recreate: f.Ray.Recreate, Observed: f.Ray.Observed, Queued: f.Ray.Queued,
		Immediate: f.Policy.Rollout.EnablePolicy == v1alpha1.EnableImmediate,
		Deadline:  time.Duration(f.Policy.Rollout.ProgressDeadlineSeconds) * time.Second,
	}
	s.BlockedBy, s.BlockedWhy = blocked(f)
	if s.Service != nil && s.Service.Serving {
		s.Provisioned = true // KubeRay moves the traffic when the applications answer, which all pods need not be up for
	}
	for i := range f.Pods {
		s.Pods = append(s.Pods, f.Pods[i].Pod)
	}
	for i := range f.Ended {
		s.Ended = append(s.Ended, f.Ended[i].Pod)
	}
	// What was injected stays as it is until the cluster has no pods: a change of the policy restarts nobody.
	// Nor does a policy that is not accepted.
	keep := hasParameters(f.Templates) && (record.Enabled || record.Progress != nil) && (len(s.Pods) > 0 || !accepted)
	if !keep {
		d.Parameters = policy.Parameters(f.Policy)
	}
	s.Attempt = injection.Hash(f.Spec, d.Parameters)
	var groups []string
	if f.TLS != nil {
		groups = f.TLS.Status.Injection.Groups
	}
	for _, t := range f.Templates {
		s.Templates = append(s.Templates, rollout.Template{
			Group:    t.Group,
			Injected: t.State == injection.Injected && t.Parameters != nil && t.Parameters.Equal(d.Parameters),
			Pieces:   t.State != injection.None, Stripped: t.Stripped,
			Recorded:  t.Group == "" || slices.Contains(groups, t.Group),
			CanaryKey: t.CanaryKey, Replicas: f.Ray.Replicas[t.Group],
		})
	}
	if slices.ContainsFunc(s.Templates, func(t rollout.Template) bool { return t.Stripped }) {
		s.Manager = manager(f.Object)
	}
	s.NoSlot = NoSlot(f.Decision.Policy.Name, f.Policy.Rollout.MaxConcurrentClusters, f.Siblings, s.Goal)
	d.RestartID = restart(f, &s)
	s.Approved = slices.Contains(f.Policy.Rollout.Approvals, v1alpha1.Approval{Cluster: f.Key.Name, Restart: d.RestartID})
	if s.Approved {
		// An approval is for this cluster, whatever became of others.
		s.NoSlot = NoSlot(f.Decision.Policy.Name, f.Policy.Rollout.MaxConcurrentClusters, f.Siblings, v1alpha1.GoalPlaintext)
	}
	d.Snapshot = s
}

// NoSlot is why no further cluster of the policy may begin a restart now; empty if one may. others are the RayClusterTLSes of
// the policy's other clusters.
func NoSlot(policyName string, most int32, others []v1alpha1.RayClusterTLS, goal v1alpha1.RolloutGoal) string {
	busy := int32(0)
	for i := range others {
		status := &others[i].Status
		if status.PolicyRef.Name != policyName || !others[i].DeletionTimestamp.IsZero() {
			continue
		}
		if status.Rollout != nil {
			busy++
		}
		if status.Injection.FailedHash != "" && goal == v1alpha1.GoalEncrypted {
			return fmt.Sprintf("enabling RayCluster %s failed, and no further running cluster is started until that is mended; approve this one to start it all the same", others[i].Name)
		}
	}
	if busy >= most {
		return fmt.Sprintf("%d of at most %d clusters (rollout.maxConcurrentClusters) are being restarted; this one comes later", busy, most)
	}
	return ""
}

// restart identifies the restart that the cluster needs.
func restart(f *Facts, s *rollout.Snapshot) string {
	head := ""
	for i := range f.Pods {
		if f.Pods[i].Group == "" && !f.Pods[i].Terminating {
			head = f.Pods[i].UID
		}
	}
	var attempt time.Time
	switch {
	case s.Progress != nil && s.Progress.Phase == v1alpha1.PhaseUpgrade:
		attempt = s.Progress.Since
	case s.FailedAttempt != "":
		attempt = s.FailedAt
	}
	return restartID(f.Object.GetUID(), head, action(s.Goal), attempt)
}

func action(goal v1alpha1.RolloutGoal) v1alpha1.RestartAction {
	if goal == v1alpha1.GoalPlaintext {
		return v1alpha1.ActionDisable
	}
	return v1alpha1.ActionEnable
}

// blocked names the object that forbids a restart even if it is approved, and gives the reason.
func blocked(f *Facts) (by, why string) {
	for i := range f.Jobs {
		if name := f.Jobs[i].GetName(); kuberay.JobUnfinished(&f.Jobs[i]) {
			return "RayJob/" + name, fmt.Sprintf("RayJob %s runs on the cluster, and a restart would fail it; the cluster goes on when the job has finished", name)
		}
	}
	if f.Service != nil {
		return "", "" // nothing is restarted: the RayService makes another cluster
	}
	if owner, found := kuberay.Owner(f.Object); found && owner.Kind == v1alpha1.TargetRayService && metav1.GetControllerOf(f.Object) != nil {
		return "RayService/" + owner.Name, fmt.Sprintf("the cluster belongs to RayService %s, which does not exist any more, so it is about to be deleted; if it stays, remove its owner reference", owner.Name)
	}
	if f.Ray.Provisioned && f.Ray.NoHeadRestart {
		return "annotation " + kuberay.AnnotationNoHeadRestart, "KubeRay would not make a new head for this cluster; a cluster created anew is encrypted from its start"
	}
	return "", ""
}

// render makes the spec that the plan asks for.
func (d *Decision) render(f *Facts) {
	scope := injection.All()
	switch d.Plan.Edit {
	case rollout.NoEdit:
		return
	case rollout.RemoveAll:
		d.Edit = injection.Edit{Remove: true, Scope: scope}
	default:
		if d.Plan.Edit == rollout.Inject {
			groups := slices.DeleteFunc(slices.Clone(d.Plan.Groups), func(g string) bool { return g == "" })
			scope = injection.Only(len(groups) < len(d.Plan.Groups), groups...)
		}
		d.Edit = injection.Edit{Scope: scope, Revision: injection.Revision, Parameters: d.Parameters}
	}
	edited, err := d.Edit.Render(f.Spec, f.Key.Name)
	if err != nil {
		d.obstruct(policy.Conflict(err))
		return
	}
	d.Edited = edited
}

// groups are the worker groups that are on record as injected: those that were, as long as they exist, and those that are.
func (d *Decision) groups(f *Facts) []string {
	var out []string
	for _, t := range d.Snapshot.Templates {
		had := f.TLS != nil && slices.Contains(f.TLS.Status.Injection.Groups, t.Group)
		if recordable(t.Group) && (had || t.Injected) && !slices.Contains(out, t.Group) {
			out = append(out, t.Group)
		}
	}
	return out
}

// recordable reports whether the record can hold the name of a worker group. KubeRay bounds it by nothing but what it makes of it.
func recordable(group string) bool { return group != "" && len(group) <= maxGroupName }

// firstEnd is when the first certificate of a pod ends; zero where none says.
func (f *Facts) firstEnd() time.Time {
	var first time.Time
	for i := range f.Pods {
		if end := f.Pods[i].Expires; !end.IsZero() && (first.IsZero() || end.Before(first)) {
			first = end
		}
	}
	return first
}

// recordedParameters are those that the head's template, or else the first that has any, was rendered with.
func recordedParameters(described []injection.Template) injection.Parameters {
	for _, t := range described {
		if t.Parameters != nil {
			return *t.Parameters
		}
	}
	return injection.Parameters{}
}

func hasParameters(described []injection.Template) bool {
	return slices.ContainsFunc(described, func(t injection.Template) bool { return t.Parameters != nil })
}

// manager names the last field manager, other than the operator, that wrote to the object's spec.
func manager(object metav1.Object) string {
	var last metav1.ManagedFieldsEntry
	for _, entry := range object.GetManagedFields() {
		if entry.Manager == v1alpha1.ManagedBy || entry.Subresource != "" || entry.FieldsV1 == nil || entry.Time == nil ||
			!strings.Contains(entry.FieldsV1.GetRawString(), `"f:spec"`) {
			continue
		}
		if last.Time == nil || last.Time.Before(entry.Time) {
			last = entry
		}
	}
	return last.Manager
}
