package rollout

import (
	"fmt"
	"strings"
	"time"

	"github.com/raytls/raytls/api/v1alpha1"
	"github.com/raytls/raytls/internal/kube"
)

// Edit is a change of the cluster's templates.
type Edit string

// The edits. Inject names its templates in Actions.Groups.
const (
	NoEdit    Edit = ""
	Inject    Edit = "Inject"
	InjectAll Edit = "InjectAll"
	RemoveAll Edit = "RemoveAll"
)

// Plan is the next step of a cluster. The operator writes the record first and then makes the edit. Only a plan that changes
// neither deletes pods, because it has seen both.
type Plan struct {
	// Record is the cluster's record after this step.
	Record
	Actions
	Report
	// RequeueAt is when to plan next if nothing happens; zero for never.
	RequeueAt time.Time
	// Urgent reports whether a certificate is about to end, so that the restart waits for no window and for no other cluster.
	Urgent bool
}

// Actions are what a plan does.
type Actions struct {
	Edit Edit
	// Groups are the templates that Inject changes. The head's group has the empty name.
	Groups []string
	// Upgrade is the request to the RayService; empty for none.
	Upgrade string
	Delete  []Pod
	// Evict are the pods that are restarted as far as PodDisruptionBudgets allow.
	Evict []Pod
	// Release reports whether the cluster holds no piece of the injection, so the operator can delete its keys.
	Release bool
}

// Report is the cluster's state for its user.
type Report struct {
	// Reason is one of the API's reasons. Message says what is wrong and what to do.
	Reason, Message string
	// BlockedBy names what forbids a restart.
	BlockedBy string
	// RestartWaits reports whether a restart has not begun because it is not allowed yet.
	RestartWaits bool
	// UserMustAct reports whether nothing changes until a user acts.
	UserMustAct bool
	// Roll is why pods that need new certificates are not restarted. It leaves the cluster as encrypted as it is.
	Roll Waiting
	// Event is for after the plan's writes; nil for none.
	Event *Event
}

// Waiting is why a restart waits; zero if none does.
type Waiting struct {
	// Reason is one of the API's reasons. Message says what waits, for what, and what to do.
	Reason, Message string
	// BlockedBy names what forbids the restart; empty for nothing. Approvable reports whether an approval lets it begin.
	BlockedBy  string
	Approvable bool
	// UserMustAct reports whether nothing changes until a user acts.
	UserMustAct bool
}

// Event is something that happened.
type Event struct {
	Warning         bool
	Reason, Message string
}

// Changes reports whether the plan changes the cluster's templates, its RayService or its record.
func (p *Plan) Changes(s *Snapshot) bool {
	return p.Edit != NoEdit || p.Upgrade != "" || !p.Record.Equal(&s.Record)
}

// Make plans the next step.
func Make(s *Snapshot) Plan {
	p, given := Plan{Record: s.Record}, s
	if s.outdated() {
		now := *s
		now.Progress, p.Progress = nil, nil
		s = &now
	}
	if s.Revokes() && !s.renewing() {
		now := *s
		now.Approved, s = false, &now // an approval of the revocation is none of a roll
	}
	switch {
	case s.upgrading() && !s.renewing():
		planUpgrading(s, &p)
	case s.Progress != nil && s.Progress.Phase == v1alpha1.PhaseRevert:
		planRevert(s, &p)
	case s.Progress != nil && s.Progress.Goal == v1alpha1.GoalPlaintext:
		planRemoving(s, &p)
	case s.Goal == v1alpha1.GoalPlaintext:
		planDisable(s, &p)
	case s.Progress != nil && s.Progress.Phase == v1alpha1.PhaseRevoke:
		planRevoking(s, &p)
	case s.Progress != nil && s.Progress.Phase != v1alpha1.PhaseRoll && !s.renewing():
		planEnabling(s, &p)
	case s.Enabled && !restartedInPlaintext(s):
		planMaintain(s, &p)
	default:
		planEnable(s, &p)
	}
	p.revoke(s, given.Approved)
	if s.ClockSkew != "" && s.Progress == nil && len(p.Delete) > 0 {
		p.Delete, p.Reason, p.Message, p.UserMustAct = nil, v1alpha1.ReasonClockSkew, s.ClockSkew, true
	}
	p.change(s)
	p.wish(s)
	p.RequeueAt = kube.Earlier(p.RequeueAt, s.SlotAt)
	var later time.Time
	if p.Delete, later = s.seen(p.Delete); !later.IsZero() {
		p.RequeueAt = later
	}
	if p.Changes(given) {
		p.Evict = nil
	}
	return p
}

// restartedInPlaintext reports whether somebody removed the injection and the cluster works without it. The operator must
// enable it anew, because restoring the injection would break the cluster.
func restartedInPlaintext(s *Snapshot) bool {
	return !s.allInjected() && s.Running() && len(s.live(every)) > 0 && len(s.live(injected)) == 0
}

// NoticeTime is a pod's least age at its deletion, so that KubeRay has seen it. KubeRay waits up to five minutes for a pod
// that was gone before its cache showed it (ray-operator v1.6.2, scale expectations).
const NoticeTime = 3 * time.Second

// seen returns the pods that KubeRay has seen, and when to plan for the others. A pod that was made while a change of its
// template took effect goes when its replacement cannot be like it any more.
func (s *Snapshot) seen(pods []Pod) (old []Pod, later time.Time) {
	for _, p := range pods {
		at := p.Created.Add(NoticeTime)
		if changed, _ := s.changed(p.Group); p.Created.After(changed) && changed.Add(inEffect).After(at) {
			at = changed.Add(inEffect)
		}
		if s.Now.Before(at) {
			later = kube.Earlier(later, at)
			continue
		}
		old = append(old, p)
	}
	return old, later
}

func (p *Plan) say(reason, format string, args ...any) {
	p.Reason, p.Message = reason, fmt.Sprintf(format, args...)
	p.Event = &Event{Reason: reason, Message: p.Message}
}

// Kueue is what blocks the restart of a cluster in a queue.
const Kueue = "Kueue"

func deleter(s *Snapshot) string {
	if s.Queued {
		return Kueue
	}
	return "KubeRay"
}

func count(n int) string {
	if n == 1 {
		return "1 pod"
	}
	return fmt.Sprintf("%d pods", n)
}

func list(pods []string) string { return "pod " + strings.Join(pods, " and pod ") }
