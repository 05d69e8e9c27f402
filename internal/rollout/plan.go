package rollout

import (
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/raytls/raytls/api/v1alpha1"
)

// RestoreWindow and RestoreLimit bound how often a stripped injection is restored: restoring it each time
// would be a fight with whoever strips it, and each round leaves pods that cannot talk.
const (
	RestoreWindow = time.Hour
	RestoreLimit  = 2
)

// Edit is a change of the cluster's templates.
type Edit string

// The edits. Inject names its templates in Plan.Groups, or all of them with InjectAll.
const (
	NoEdit    Edit = ""
	Inject    Edit = "Inject"
	InjectAll Edit = "InjectAll"
	RemoveAll Edit = "RemoveAll"
)

// Event is something that happened, to be told once the plan's writes have succeeded.
type Event struct {
	Warning bool
	Reason  string
	Message string
}

// Plan is the next step of a cluster and what is to be said of it meanwhile. First the edit and the record
// are written, in one patch; pods are deleted only by a plan that changes neither, so by one that has seen them written.
type Plan struct {
	// Reason is one of the API's reasons; Message says what was found and what to do.
	Reason, Message string
	BlockedBy       string

	Edit Edit
	// Groups are the templates that Inject is for; the head's is the empty name.
	Groups []string

	// What is to be on record on the cluster after this step.
	Progress      *Progress
	Enabled       bool
	FailedAttempt string
	FailedBecause string
	Approval      string
	Restored      []time.Time

	// Upgrade is what the RayService is to be asked for; empty for nothing. It is asked before the rest is written.
	Upgrade string
	// Delete are the pods to be deleted.
	Delete []Pod
	// Released says that nothing of the injection is left in the cluster, so that its keys can go.
	Released bool
	// Again is when to look again though nothing happens; zero for never.
	Again time.Time
	// Event is nil when there is nothing to tell.
	Event *Event
}

// Writes says whether the plan changes the cluster's templates or what is on record.
func (p *Plan) Writes(s *Snapshot) bool {
	return p.Edit != NoEdit || p.Upgrade != "" || p.Enabled != s.Enabled || p.FailedAttempt != s.FailedAttempt || p.Approval != "" ||
		!slices.Equal(p.Restored, s.Restored) || (p.Progress == nil) != (s.Progress == nil) ||
		p.Progress != nil && p.Progress.String() != s.Progress.String()
}

// Make plans the next step.
func Make(s *Snapshot) Plan {
	p := Plan{
		Progress: s.Progress, Enabled: s.Enabled, FailedAttempt: s.FailedAttempt, FailedBecause: s.FailedBecause, Restored: s.Restored,
	}
	if s.Progress != nil && s.Progress.Phase == PhaseUpgrade && !s.upgrading() {
		now := *s
		now.Progress, p.Progress = nil, nil
		s = &now
	}
	switch {
	case s.upgrading():
		planUpgrading(s, &p)
	case s.Progress != nil && s.Progress.Phase == PhaseRevert:
		planRevert(s, &p)
	case s.Progress != nil && s.Progress.Goal == Plaintext:
		planRemoving(s, &p)
	case s.Goal == Plaintext:
		planDisable(s, &p)
	case s.Progress != nil:
		planEnabling(s, &p)
	case s.Enabled && !restartedInPlaintext(s):
		planMaintain(s, &p)
	default:
		planEnable(s, &p)
	}
	var again time.Time
	if p.Delete, again = s.seen(p.Delete); !again.IsZero() {
		p.Again = again
	}
	return p
}

// restartedInPlaintext says that the injection was taken out and the cluster works without it: it has to be
// enabled anew, since putting the injection back would break the cluster.
func restartedInPlaintext(s *Snapshot) bool {
	return !s.allInjected() && s.running() && len(s.live(every)) > 0 && len(s.live(injected)) == 0
}

// planEnable is for a cluster that is not on record as encrypted.
func planEnable(s *Snapshot, p *Plan) {
	if !s.running() && !s.betweenPods() {
		p.inject(s, "the cluster has no work to lose")
		return
	}
	if s.allInjected() && (len(s.live(plaintext)) == 0 || len(s.live(and(head, injected))) > 0) {
		p.Enabled, p.FailedAttempt, p.FailedBecause = true, "", ""
		p.Reason, p.Message = v1alpha1.ReasonEnabling, "the cluster is encrypted already; taking it over"
		return
	}
	if left := s.leftovers(); len(left) > 0 {
		p.Reason, p.Message = v1alpha1.ReasonEnableFailed, fmt.Sprintf("restarting %s made while the templates were being put back", count(len(left)))
		p.Delete = left
		return
	}
	if s.Service != nil {
		planReplace(s, p)
		return
	}
	if len(s.live(and(head, injected))) > 0 {
		p.Reason = v1alpha1.ReasonFieldConflict
		p.Message = fmt.Sprintf("the head is encrypted, but %stook the injection and the record of it out of the RayCluster's spec, so new pods cannot join; let that tool ignore what is named raytls, or suspend the cluster, and it will be injected again", manager(s))
		return
	}
	if !allowed(s, p) {
		return
	}
	p.FailedAttempt, p.FailedBecause, p.Approval = "", "", s.Approval
	if s.Recreate || s.Queued {
		p.Edit, p.Progress = InjectAll, s.next(PhaseAll)
		p.say(v1alpha1.ReasonEnabling, "changing all templates at once; %s deletes the pods", deleter(s))
		return
	}
	if canaries := s.canaries(); len(canaries) > 0 {
		p.startCanaries(s, canaries)
		return
	}
	p.startHead(s, false)
}

// allowed says whether a running cluster may be restarted now, and reports why not.
func allowed(s *Snapshot, p *Plan) bool {
	switch {
	case s.BlockedBy != "":
		p.Reason, p.BlockedBy, p.Message = v1alpha1.ReasonBlocked, s.BlockedBy, s.BlockedWhy
	case s.Approval != "" && s.NoSlot == "":
		return true
	case s.Goal == Encrypted && s.failedBefore() && s.Approval == "":
		p.Reason = v1alpha1.ReasonEnableFailed
		p.Message = fmt.Sprintf("enabling failed and was put back: %s; it is tried again when the cluster's templates or the policy's parameters change, or with a new approval", s.FailedBecause)
	case s.Queued && s.Approval == "":
		p.Reason, p.BlockedBy = v1alpha1.ReasonBlocked, "Kueue"
		p.Message = "the cluster runs in a Kueue queue, and Kueue evicts it when its templates change; suspend it, or approve the eviction"
		if s.Service != nil {
			p.Message = fmt.Sprintf("the cluster runs in a Kueue queue, and the one that RayService %s would replace it by has to be admitted beside it; approve that", s.Service.Name)
		}
	case s.Recreate && s.Approval == "":
		p.Reason = v1alpha1.ReasonAwaitingApproval
		p.Message = "with upgradeStrategy Recreate, KubeRay restarts all pods at once and allows no canary; suspend the cluster, or approve the restart"
	case s.Service != nil && s.Service.Missed && s.Approval == "":
		p.Reason = v1alpha1.ReasonAwaitingApproval
		p.Message = fmt.Sprintf("RayService %s made this cluster to be %s, and moved its traffic to it before it was; approve another one", s.Service.Name, s.adjective())
	case !s.Immediate && s.Approval == "":
		p.Reason = v1alpha1.ReasonAwaitingApproval
		p.Message = fmt.Sprintf("the cluster runs, and to become %s its pods have to be restarted; suspend it, or approve the restart", s.adjective())
		if s.Service != nil {
			p.Message = fmt.Sprintf("the cluster serves, and to become %s RayService %s has to replace it by a new one, without downtime; approve that", s.adjective(), s.Service.Name)
		}
	case s.NoSlot != "":
		p.Reason, p.Message = v1alpha1.ReasonWaitingForSlot, s.NoSlot
	default:
		return true
	}
	return false
}

// canaries picks a ready pod of each kind of worker template.
func (s *Snapshot) canaries() map[string]string {
	out := map[string]string{}
	seen := map[string]bool{}
	for _, t := range s.Templates {
		if t.Group == "" || t.Replicas == 0 || seen[t.CanaryKey] {
			continue
		}
		ready := s.live(and(in(t.Group), plaintext, func(p Pod) bool { return p.Ready }))
		if len(ready) == 0 {
			continue
		}
		// The youngest has the least to lose.
		slices.SortFunc(ready, func(a, b Pod) int {
			if c := b.Created.Compare(a.Created); c != 0 {
				return c
			}
			return strings.Compare(a.Name, b.Name)
		})
		seen[t.CanaryKey] = true
		out[t.Group] = ready[0].Name
	}
	return out
}

// inject is for clusters without work to lose: everything at once. Plaintext pods are deleted afterwards.
func (p *Plan) inject(s *Snapshot, why string) {
	p.Edit, p.Enabled, p.Progress = InjectAll, true, nil
	p.FailedAttempt, p.FailedBecause = "", ""
	if s.allInjected() {
		p.Edit = NoEdit
	}
	p.say(v1alpha1.ReasonEnabling, "injected into all templates: %s", why)
}

// planMaintain is for a cluster on record as encrypted.
func planMaintain(s *Snapshot, p *Plan) {
	if !s.allInjected() {
		planRestore(s, p)
		return
	}
	wrong := s.live(plaintext)
	if len(wrong) == 0 {
		report(s, p)
		return
	}
	if s.Service != nil && s.running() && len(s.live(and(head, plaintext))) > 0 && len(s.live(injected)) > 0 {
		planReplace(s, p)
		return
	}
	if s.Service != nil && s.running() && s.overtaken() {
		// It came to serve before its pods were replaced.
		p.Edit, p.Enabled = RemoveAll, false
		p.Reason, p.Message = v1alpha1.ReasonEnabling, "the cluster serves in plaintext; giving it its templates back, so that new pods can join"
		return
	}
	// They were made before the injection, or while it was stripped, and cannot talk to the others.
	if s.running() && s.BlockedBy != "" && len(s.live(and(head, plaintext))) > 0 {
		p.Reason, p.BlockedBy, p.Message = v1alpha1.ReasonBlocked, s.BlockedBy, s.BlockedWhy
		if len(s.live(injected)) == 0 && s.overtaken() {
			p.Edit, p.Enabled = RemoveAll, false // it works in plaintext, and new pods have to be able to join
		}
		return
	}
	p.Reason, p.Message = v1alpha1.ReasonEnabling, fmt.Sprintf("replacing %s made without the injection", count(len(wrong)))
	p.Delete = wrong
}

// overtakenBy is how much later than the injection a pod may be made of the templates before it: KubeRay's cache lags.
const overtakenBy = 10 * time.Second

// overtaken says that the head is one that was made before the cluster was injected. Of a plaintext head that came later
// nothing follows: whoever may create pods could have made it.
func (s *Snapshot) overtaken() bool {
	heads := s.live(and(head, plaintext))
	return len(heads) > 0 && !slices.ContainsFunc(heads, func(p Pod) bool {
		return s.InjectedAt.IsZero() || p.Created.After(s.InjectedAt.Add(overtakenBy))
	})
}

// NoticeTime is how old a pod is before it is deleted, so that KubeRay has seen it: KubeRay waits up to five minutes for a
// pod that it made and that was gone before its cache showed it (ray-operator v1.6.2, its scale expectations).
const NoticeTime = 3 * time.Second

// seen are those of the pods that KubeRay has seen, and when to look again at the others.
func (s *Snapshot) seen(pods []Pod) (old []Pod, again time.Time) {
	for _, p := range pods {
		if at := p.Created.Add(NoticeTime); s.Now.Before(at) {
			again = at
			continue
		}
		old = append(old, p)
	}
	return old, again
}

// planRestore puts the injection back where it is missing or no longer fits what the user changed.
func planRestore(s *Snapshot, p *Plan) {
	stripped := slices.DeleteFunc(slices.Clone(s.Templates), func(t Template) bool { return !t.Recorded || !t.Stripped })
	if len(stripped) == 0 {
		p.Edit = InjectAll
		p.Reason, p.Message = v1alpha1.ReasonEnabling, "following a change of the cluster's templates"
		return
	}
	if len(s.pods(every)) == 0 || s.Suspended {
		p.Edit = InjectAll
		p.Reason, p.Message = v1alpha1.ReasonEnabling, "injecting again, since the cluster has no pods"
		return
	}
	recent := slices.DeleteFunc(slices.Clone(s.Restored), func(t time.Time) bool { return !s.Now.Before(t.Add(RestoreWindow)) })
	if len(recent) >= RestoreLimit {
		p.Reason = v1alpha1.ReasonFieldConflict
		p.Again = slices.MinFunc(recent, time.Time.Compare).Add(RestoreWindow)
		p.Message = fmt.Sprintf("%stook the injection out of the RayCluster's spec again, and it was restored %d times within the hour, so it is left out until %s and new pods cannot join; let that tool ignore the pod templates, or put what is injected into its manifest; to have it restored now, remove the annotation %s", manager(s), len(recent), p.Again.UTC().Format(time.RFC3339), v1alpha1.AnnotationRestored)
		return
	}
	p.Edit = InjectAll
	p.Restored = append(recent, s.Now.UTC().Truncate(time.Second))
	p.Reason, p.Message = v1alpha1.ReasonEnabling, "restoring the injection"
	p.Event = &Event{Warning: true, Reason: "InjectionRestored", Message: manager(s) + "took the injection out of the RayCluster's spec; restored it"}
}

func manager(s *Snapshot) string {
	if s.Manager == "" {
		return "somebody "
	}
	return fmt.Sprintf("field manager %q ", s.Manager)
}

// report says how a cluster stands whose templates are all injected and whose restart is over.
func report(s *Snapshot, p *Plan) {
	plain := s.pods(plaintext)
	bad := s.live(and(injected, failed))
	for _, p := range s.Ended {
		if p.Injected && p.Failure != "" {
			bad = append(bad, p) // with restartPolicy Never, it is made anew again and again
		}
	}
	switch {
	case len(plain) > 0:
		p.Reason, p.Message = v1alpha1.ReasonEnabling, fmt.Sprintf("waiting until %s without TLS ended", count(len(plain)))
	case len(bad) > 0:
		p.Reason, p.Message = v1alpha1.ReasonCertificateFailed, fmt.Sprintf("pod %s: %s", bad[0].Name, bad[0].Failure)
	case len(s.live(every)) > 0 && len(s.live(and(head, certified))) == 0:
		p.Reason, p.Message = v1alpha1.ReasonPodsStarting, "the head has yet to make its certificate"
	default:
		p.Reason = v1alpha1.ReasonEncrypted
	}
}

func (p *Plan) say(reason, format string, args ...any) {
	p.Reason, p.Message = reason, fmt.Sprintf(format, args...)
	p.Event = &Event{Reason: reason, Message: p.Message}
}

func (p *Plan) warn(reason, format string, args ...any) {
	p.say(reason, format, args...)
	p.Event.Warning = true
}

func deleter(s *Snapshot) string {
	if s.Queued {
		return "Kueue"
	}
	return "KubeRay"
}

func count(n int) string {
	if n == 1 {
		return "1 pod"
	}
	return fmt.Sprintf("%d pods", n)
}

func names(pods []Pod) string {
	out := make([]string, 0, len(pods))
	for _, p := range pods {
		out = append(out, "pod "+p.Name)
	}
	return strings.Join(out, " and ")
}

func keys(m map[string]string) []string {
	out := make([]string, 0, len(m))
	for k := range m {
		out = append(out, k)
	}
	slices.Sort(out)
	return out
}

func values(m map[string]string) []string {
	out := make([]string, 0, len(m))
	for _, k := range keys(m) {
		out = append(out, m[k])
	}
	return out
}
