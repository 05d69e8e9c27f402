package cluster

import (
	"fmt"
	"slices"
	"time"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"

	"github.com/raytls/raytls/api/v1alpha1"
	"github.com/raytls/raytls/internal/hazard"
	"github.com/raytls/raytls/internal/injection"
	"github.com/raytls/raytls/internal/kept"
	"github.com/raytls/raytls/internal/kube"
	"github.com/raytls/raytls/internal/kuberay"
	"github.com/raytls/raytls/internal/policy"
	"github.com/raytls/raytls/internal/rollout"
	"github.com/raytls/raytls/internal/window"
)

// Settings are the installation's settings that decisions depend on.
type Settings struct {
	// Namespace is the operator's own.
	Namespace string
	// Images are the init images that policies may name.
	Images policy.Allowlist
	// Served reports whether the API server serves a kind.
	Served func(v1alpha1.TargetKind) bool
}

// Decision is the next step of a cluster.
type Decision struct {
	Plan rollout.Plan
	// Obstacle forbids the plan's writes and is reported instead; nil for none.
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
	// Retires reports whether the CA Secrets of revoked authorities go.
	Retires bool
	// Rebuilt reports whether the cluster has no policy and its lost record is made anew.
	Rebuilt bool
}

// rebuild makes a lost record of a cluster that stays encrypted without a policy. The templates prove it, together with the
// authority, which nobody in the cluster's namespace can write.
func (d *Decision) rebuild(f *Facts) {
	if d.Plan.Enabled || d.Plan.Progress != nil || f.AuthoritySecret == nil || !f.wholly() {
		return
	}
	d.Plan.Enabled, d.Rebuilt = true, true
	for _, t := range f.Templates {
		d.recordGroup(t.Group)
	}
}

// recordGroup puts a worker group on record. KubeRay does not bound its name, and the API does.
func (d *Decision) recordGroup(name string) {
	if name != "" && len(name) <= maxGroupName && !slices.Contains(d.Groups, name) {
		d.Groups = append(d.Groups, name)
	}
}

// Writes reports whether the plan may be carried out.
func (d *Decision) Writes() bool { return d.Obstacle == nil && d.Plan.Reason != "" }

// Decide makes a cluster's next step from its facts.
func Decide(f *Facts, s Settings) Decision {
	var d Decision
	if recorded := recordedParameters(f.Templates); recorded != nil {
		d.Parameters = *recorded
	}
	d.Plan.Record = f.Record()
	switch {
	case f.Deleting():
		if at := f.deletionLasts(); f.Now.Before(at) {
			d.Plan.RequeueAt = at
		}
		return d
	case kept.LeftOut(f.Spec) != "":
		d.Obstacle = kube.UserMustActf(v1alpha1.ReasonInjectionConflict, "RayCluster %s has more than %d worker groups, more than %d containers in one, or takes more than %d MiB of memory to read, which is more than can be injected; use fewer, or shorten its lists",
			f.Key.Name, injection.MaxWorkerGroups, injection.MaxContainers, injection.MaxWeight>>20)
		return d
	case f.Policy != nil:
		d.plan(f, s)
	case f.Orphaned:
		d.release(f)
	default:
		d.rebuild(f)
	}
	d.Plan.RequeueAt = kube.Earlier(d.Plan.RequeueAt, kube.Earlier(f.certificates(f.Keys).Next, f.lives(f.Keys).next))
	if f.ClockSkew != "" {
		d.Plan.RequeueAt = kube.Earlier(d.Plan.RequeueAt, f.Now.Add(kube.UnwatchedRetry))
	}
	carries := kept.MayBeInjected(f.Spec) && !d.Plan.Release
	injects := d.Obstacle == nil && d.injects()
	d.WantsKeys = f.Key.Namespace != s.Namespace && (f.Policy != nil || f.AuthoritySecret != nil) && (carries || injects)
	d.Retires = f.retires(d.Plan.Progress)
	d.WantsScripts = d.WantsKeys && d.Parameters.ScriptsPath == ""
	return d
}

func (d *Decision) injects() bool {
	return d.Plan.Edit == rollout.Inject || d.Plan.Edit == rollout.InjectAll
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
	if snapshot.Revocation.Unusable == "" && !s.Images.Allows(d.Parameters.Image) {
		snapshot.Revocation.Unusable = fmt.Sprintf("the templates carry the init image %s, which the operator's administrator does not allow with --allowed-init-image", d.Parameters.Image)
	}
	d.Plan = rollout.Make(snapshot)
	for _, t := range snapshot.Templates {
		if t.Injected || t.Recorded {
			d.recordGroup(t.Group)
		}
	}
	acts := d.Plan.Changes(snapshot) || len(d.Plan.Delete) > 0 || len(d.Plan.Evict) > 0 || d.Plan.Release
	forbidden := f.initImageNotAllowed(s.Images)
	switch {
	case (d.Plan.Reason == v1alpha1.ReasonEncrypted || d.injects()) && !s.Images.Allows(d.Parameters.Image):
		d.Obstacle = kube.UserMustActf(v1alpha1.ReasonNotAccepted, "the templates carry the init image %s, which is not among those that the operator's administrator allows with --allowed-init-image", d.Parameters.Image)
		return
	case forbidden != nil && d.Plan.Reason == v1alpha1.ReasonEncrypted:
		d.Obstacle = kube.UserMustActf(v1alpha1.ReasonNotAccepted, "the init container of pod %s runs the image %s, which is not among those that the operator's administrator allows with --allowed-init-image; delete the pod, or ask for the image to be added", forbidden.Name, forbidden.InitImage)
		return
	case f.Policy.Paused && acts:
		d.Obstacle = kube.UserMustActf(v1alpha1.ReasonPaused, "spec.paused of RayTLSPolicy %s keeps the operator from this step: %s", f.Decision.Policy.Name, d.Plan.Message)
		return
	}
	d.render(f)
	if d.Edited == nil || !f.Now.Before(f.AdmissionEnd) {
		return
	}
	// Made before admission is active, the change would take over the templates' fields from whoever applies the cluster.
	reason := v1alpha1.ReasonEnabling
	if f.Decision.Goal != v1alpha1.GoalEncrypted {
		reason = v1alpha1.ReasonDisabling
	}
	d.Obstacle = kube.Waitf(reason, "waiting for the admission webhook to cover namespace %s; see the policy's condition %s", f.Key.Namespace, v1alpha1.ConditionAdmissionActive).
		RetryAfter(f.AdmissionEnd.Sub(f.Now))
}

func (d *Decision) obstruct(err error) {
	if d.Obstacle = kube.AsOutcome(err); d.Obstacle == nil {
		d.Obstacle = kube.Waitf(v1alpha1.ReasonError, "%s", kube.Steady(err.Error())).RetryAfter(kube.UnwatchedRetry)
	}
}

// fill makes the planner's snapshot.
func (d *Decision) fill(f *Facts, accepted bool) {
	record := d.Plan.Record
	s := rollout.Snapshot{
		Now: f.Now, Goal: f.Decision.Goal, Record: record,
		Suspended: f.Ray.Suspended, Provisioned: f.Ray.Provisioned, PodsMissing: f.Ray.PodsMissing, Service: f.serviceFor(),
		Recreate: f.Ray.Recreate, Observed: f.Ray.Observed, Queued: f.Ray.Queued,
		Immediate: f.Policy.Rollout.EnablePolicy == v1alpha1.EnableImmediate,
		Deadline:  deadline(&f.Policy.Rollout),
	}
	s.New = f.isNew(s.Deadline)
	s.BlockedBy, s.BlockedWhy = blocked(f)
	s.ClockSkew, s.Scale = f.ClockSkew, f.Scale
	if s.Service != nil && s.Service.Serving {
		s.Provisioned, s.New = true, false // KubeRay moves the traffic when the applications answer, before all pods are up
	}
	by := f.signers(f.Keys)
	for i := range f.Pods {
		pod := f.Pods[i].Pod
		pod.Leaf, pod.Revoked = f.judged(&f.Pods[i], by), f.mountsOther(&f.Pods[i])
		pod.Earlier = f.Pods[i].RevokedBefore != f.RevokedBefore()
		s.Pods = append(s.Pods, pod)
	}
	for i := range f.Ended {
		s.Ended = append(s.Ended, f.Ended[i].Pod)
	}
	// The templates stay as they are until the cluster has no pods: a change of the policy restarts nobody. Nor does a policy that
	// is not accepted.
	keep := recordedParameters(f.Templates) != nil && (record.Enabled || record.Progress != nil) && (len(s.Pods) > 0 || !accepted)
	if !keep {
		d.Parameters = f.wanted()
	}
	d.Parameters.RevokedBefore = f.RevokedBefore()
	s.Attempt = injection.Hash(f.Spec, d.Parameters)
	for _, t := range f.Templates {
		s.Templates = append(s.Templates, rollout.Template{
			Group:    t.Group,
			Injected: t.State == injection.Injected && t.Parameters != nil && t.Parameters.Equal(d.Parameters),
			Pieces:   t.State != injection.None, Stripped: t.Stripped,
			Revoked:   t.Parameters != nil && t.Parameters.RevokedBefore != d.Parameters.RevokedBefore,
			Recorded:  t.Group == "" || slices.Contains(f.status().Injection.Groups, t.Group),
			CanaryKey: t.CanaryKey, Replicas: f.Ray.Replicas[t.Group], Hosts: f.Ray.Hosts[t.Group],
		})
	}
	if slices.ContainsFunc(s.Templates, func(t rollout.Template) bool { return t.Stripped }) {
		s.Manager = kube.LastManager(f.Object)
	}
	if s.Goal == v1alpha1.GoalEncrypted && !s.New && !record.Enabled && record.Progress == nil {
		options := hazard.OptionsOf(f.Policy)
		options.HeadDNSNames = slices.Concat(options.HeadDNSNames, f.HeadNames)
		if h := hazard.Blocking(hazard.Find(f.Spec, options)); h != nil {
			s.Hazard, s.HazardWhy = h.Field, h.Message
		}
	}
	s.Roll, s.Revocation = f.rolling(), f.revocation()
	d.RestartID = restart(f, &s)
	s.Approved = d.RestartID != "" && slices.Contains(f.Policy.Rollout.Approvals, v1alpha1.Approval{Cluster: f.Key.Name, Restart: d.RestartID})
	s.NoSlot, s.SlotAt = f.Slots().NoSlot(f.Siblings, s.Enables(), f.Now)
	s.Opens = window.Next(f.Policy.Rollout.Windows, f.Now)
	d.Snapshot = s
}

// Slots are how many clusters of the cluster's policy may be restarted at a time.
func (f *Facts) Slots() rollout.Slots {
	of := &f.Policy.Rollout
	return rollout.Slots{Policy: f.Decision.Policy.Name, Most: of.MaxConcurrentClusters, Deadline: deadline(of)}
}

func deadline(of *v1alpha1.Rollout) time.Duration {
	return time.Duration(of.ProgressDeadlineSeconds) * time.Second
}

// restart identifies the restart that the cluster needs; empty without a head. An approval of a restart without a head would
// count at each moment without one.
func restart(f *Facts, s *rollout.Snapshot) string {
	head := f.pod(func(p *Pod) bool { return p.Group == "" && !p.Terminating })
	if head == nil {
		return ""
	}
	return restartID(f.Object.GetUID(), head.UID, action(s), s.Attempted)
}

// isNew reports whether the cluster cannot have work to lose yet. That KubeRay does not call it provisioned proves nothing: a
// single pod that stays pending keeps it so.
func (f *Facts) isNew(deadline time.Duration) bool {
	worked := f.pod(func(p *Pod) bool {
		return p.Group == "" && !p.ReadySince.IsZero() && f.Now.Sub(p.ReadySince) > readyForWork
	})
	used := slices.ContainsFunc(f.Jobs, func(job unstructured.Unstructured) bool { return kuberay.JobStarted(&job) })
	return !f.Ray.Provisioned && worked == nil && !used && f.Now.Before(f.Object.GetCreationTimestamp().Add(deadline))
}

// readyForWork is how long a head is ready before somebody can have given it work that matters.
const readyForWork = time.Minute

func action(s *rollout.Snapshot) v1alpha1.RestartAction {
	plaintext := slices.ContainsFunc(s.Pods, func(p rollout.Pod) bool { return !p.Injected })
	switch {
	case s.Goal == v1alpha1.GoalPlaintext:
		return v1alpha1.ActionDisable
	case s.Revokes():
		return v1alpha1.ActionRevoke
	case s.Enabled && !plaintext:
		return v1alpha1.ActionRoll
	}
	return v1alpha1.ActionEnable
}

// blocked names the object that forbids a restart of all pods even if it is approved, and gives the reason.
func blocked(f *Facts) (by, why string) {
	if by, why := busy(f); by != "" || f.Service != nil {
		return by, why // a RayService makes another cluster instead of a restart
	}
	if f.Ray.Provisioned && f.Ray.NoHeadRestart {
		return "annotation " + kuberay.AnnotationNoHeadRestart, "KubeRay would not make a new head for this cluster; a cluster created anew is encrypted from its start"
	}
	return "", ""
}

// busy names the object that forbids the restart of any pod, and gives the reason.
func busy(f *Facts) (by, why string) {
	for i := range f.Jobs {
		if name := f.Jobs[i].GetName(); kuberay.JobUnfinished(&f.Jobs[i]) {
			return "RayJob/" + name, fmt.Sprintf("RayJob %s runs on the cluster, and a restart would fail it; the cluster goes on when the job has finished", name)
		}
	}
	if f.Service != nil {
		return "", ""
	}
	if owner, found := kuberay.Owner(f.Object); found && owner.Kind == v1alpha1.TargetRayService && metav1.GetControllerOf(f.Object) != nil {
		return "RayService/" + owner.Name, fmt.Sprintf("the cluster belongs to RayService %s, which does not exist any more, so it is about to be deleted; if it stays, remove its owner reference", owner.Name)
	}
	return "", ""
}

// render makes the spec that the plan asks for.
func (d *Decision) render(f *Facts) {
	switch d.Plan.Edit {
	case rollout.NoEdit:
		return
	case rollout.RemoveAll:
		d.Edit = injection.Edit{Remove: true, Scope: injection.All()}
	case rollout.InjectAll:
		d.Edit = injection.Edit{Scope: injection.All(), Revision: injection.Revision, Parameters: d.Parameters}
	case rollout.Inject:
		groups := slices.DeleteFunc(slices.Clone(d.Plan.Groups), func(g string) bool { return g == "" })
		scope := injection.Only(len(groups) < len(d.Plan.Groups), groups...)
		d.Edit = injection.Edit{Scope: scope, Revision: injection.Revision, Parameters: d.Parameters}
	}
	var err error
	if d.Edited, err = d.Edit.Render(f.Spec, f.Key.Name); err != nil {
		d.obstruct(policy.Conflict(err))
	}
}

// recordedParameters are those that the head's template, or else the first that has any, was rendered with; nil for none.
func recordedParameters(templates []injection.Template) *injection.Parameters {
	for _, t := range templates {
		if t.Parameters != nil {
			return t.Parameters
		}
	}
	return nil
}
