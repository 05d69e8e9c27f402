package rollout

import (
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/raytls/raytls/api/v1alpha1"
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

// Plan is the next step of a cluster. The record is written first, then the edit is made; pods are deleted only by a plan that
// changes neither, so by one that has seen both written.
type Plan struct {
	// Record is what is on record of the cluster after this step.
	Record
	Actions
	Report
	// RequeueAt is when to plan again though nothing happens; zero for never.
	RequeueAt time.Time
}

// Actions are what a plan does.
type Actions struct {
	Edit Edit
	// Groups are the templates that Inject is for; the head's is the empty name.
	Groups []string
	// Upgrade is what the RayService is asked for; empty for nothing.
	Upgrade string
	// Delete are the pods to delete.
	Delete []Pod
	// Release reports whether nothing of the injection is left in the cluster, so that its keys can go.
	Release bool
}

// Report is what there is to say of a cluster meanwhile.
type Report struct {
	// Reason is one of the API's reasons; Message says what was found and what to do.
	Reason, Message string
	// BlockedBy names what forbids a restart.
	BlockedBy string
	// RestartWaits reports whether a restart has not begun, since it is not allowed yet.
	RestartWaits bool
	// UserMustAct reports whether nothing changes until somebody acts.
	UserMustAct bool
	// Event is what happened, once the plan's writes have succeeded; nil when there is nothing to tell.
	Event *Event
}

// Event is something that happened.
type Event struct {
	Warning bool
	Reason  string
	Message string
}

// Changes reports whether the plan changes the cluster's templates, its RayService or its record.
func (p *Plan) Changes(s *Snapshot) bool {
	return p.Edit != NoEdit || p.Upgrade != "" || !p.Record.Equal(&s.Record)
}

// Make plans the next step.
func Make(s *Snapshot) Plan {
	p := Plan{Record: s.Record}
	if s.outdated() {
		now := *s
		now.Progress, p.Progress = nil, nil
		s = &now
	}
	switch {
	case s.upgrading():
		planUpgrading(s, &p)
	case s.Progress != nil && s.Progress.Phase == v1alpha1.PhaseRevert:
		planRevert(s, &p)
	case s.Progress != nil && s.Progress.Goal == v1alpha1.GoalPlaintext:
		planRemoving(s, &p)
	case s.Goal == v1alpha1.GoalPlaintext:
		planDisable(s, &p)
	case s.Progress != nil:
		planEnabling(s, &p)
	case s.Enabled && !restartedInPlaintext(s):
		planMaintain(s, &p)
	default:
		planEnable(s, &p)
	}
	var later time.Time
	if p.Delete, later = s.seen(p.Delete); !later.IsZero() {
		p.RequeueAt = later
	}
	return p
}

// restartedInPlaintext reports whether the injection was taken out and the cluster works without it: it has to be
// enabled anew, since putting the injection back would break the cluster.
func restartedInPlaintext(s *Snapshot) bool {
	return !s.allInjected() && s.running() && len(s.live(every)) > 0 && len(s.live(injected)) == 0
}

// NoticeTime is how old a pod is before it is deleted, so that KubeRay has seen it: KubeRay waits up to five minutes for a
// pod that it made and that was gone before its cache showed it (ray-operator v1.6.2, its scale expectations).
const NoticeTime = 3 * time.Second

// seen are those of the pods that KubeRay has seen, and when to plan for the others.
func (s *Snapshot) seen(pods []Pod) (old []Pod, later time.Time) {
	for _, p := range pods {
		if at := p.Created.Add(NoticeTime); s.Now.Before(at) {
			later = at
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
