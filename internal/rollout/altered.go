package rollout

import (
	"cmp"
	"fmt"
	"maps"
	"slices"
	"time"

	"github.com/raytls/raytls/api/v1alpha1"
	"github.com/raytls/raytls/internal/kube"
)

// A pod is deleted for what it holds only if it may come from an earlier template. Its replacement would hold the same
// otherwise: something changes pods at admission, and deleting them would never end.

// written is how long the operator may take from recording a change of a template to writing it. A later plan records it anew.
const written = 5 * time.Second

// inEffect is how long after a recorded change KubeRay may still make pods from the earlier template.
const inEffect = written + overtakenBy

// changed returns when the operator made the template of a group what it is. For a pod without a template, that is the last
// change of any. Nothing is found if somebody else made the template so.
func (s *Snapshot) changed(group string) (at time.Time, found bool) {
	if t, known := s.template(group); known {
		change, found := s.Changed[group]
		return change.At, found && change.Goal == t.goal()
	}
	for _, change := range s.Changed {
		if change.At.After(at) {
			at = change.At
		}
	}
	return at, !at.IsZero()
}

// goal returns what a pod of the template is meant to be.
func (t Template) goal() v1alpha1.RolloutGoal {
	if t.Pieces {
		return v1alpha1.GoalEncrypted
	}
	return v1alpha1.GoalPlaintext
}

// settled reports whether the pod was made from the present template. Pieces of the injection prove it if the template has
// them. Without that proof, the time has to be long enough after the change.
func (s *Snapshot) settled(p Pod) bool {
	at, found := s.changed(p.Group)
	t, _ := s.template(p.Group)
	made := t.Pieces && (p.Pieces || p.Injected)
	switch {
	case !found:
		return made
	case made:
		return p.Created.After(at)
	}
	return !p.Created.Before(at.Add(inEffect))
}

// stale reports whether the pod may come from an earlier template.
func (s *Snapshot) stale(p Pod) bool { return !s.settled(p) }

// belated reports whether the pod may come from an earlier template although the present one was written before.
func (s *Snapshot) belated(p Pod) bool {
	at, found := s.changed(p.Group)
	return found && p.Created.After(at) && s.stale(p)
}

// altered reports whether the pod is not as its template, which carries the injection.
func (s *Snapshot) altered(p Pod) bool {
	if revoked(p) && !s.superseded(p) {
		return true
	}
	t, known := s.template(p.Group)
	return p.Differs != "" && (p.Injected || (t.Pieces || !known && s.anyPieces()) && s.settled(p))
}

// touched reports whether the pod holds a piece of the injection.
func touched(p Pod) bool { return p.Injected || p.Pieces }

// change records when the plan's edit changes the templates, before the edit is made. The first deletion from a group without
// such a record is put off until there is one.
func (p *Plan) change(s *Snapshot) {
	due := map[string]v1alpha1.RolloutGoal{}
	for _, t := range s.Templates {
		switch {
		case (t.Stripped || t.Revoked) && (p.Edit == InjectAll || p.Edit == Inject && slices.Contains(p.Groups, t.Group)):
			due[t.Group] = v1alpha1.GoalEncrypted
		case t.Pieces && p.Edit == RemoveAll:
			due[t.Group] = v1alpha1.GoalPlaintext
		}
	}
	for _, pod := range p.Delete {
		if _, found := s.changed(pod.Group); found {
			continue
		}
		_, known := s.template(pod.Group)
		for _, t := range s.Templates {
			if t.Group == pod.Group || !known {
				due[t.Group] = t.goal()
			}
		}
	}
	next := map[string]Change{}
	for _, t := range s.Templates {
		change, found := s.Changed[t.Group]
		unseen := s.Now.Before(change.At.Add(inEffect)) // the caches may lag
		switch goal := due[t.Group]; {
		case goal != "" && (change.Goal != goal || !s.Now.Before(change.At.Add(written))):
			next[t.Group] = Change{Goal: goal, At: s.before()}
		case found && change.Goal == t.goal():
			next[t.Group] = change
		case found && unseen:
			next[t.Group] = change
			p.RequeueAt = kube.Earlier(p.RequeueAt, change.At.Add(inEffect))
		}
	}
	if !maps.EqualFunc(next, s.Changed, Change.equal) {
		p.Changed, p.Delete = next, nil
	}
}

// before is a time at which all pods that are seen were made and, if the operator's clock allows it, no later one. Pods' times are
// whole seconds.
func (s *Snapshot) before() time.Time {
	at := s.stamp().Add(-time.Second)
	for _, pod := range s.Pods {
		if pod.Created.After(at) {
			at = pod.Created
		}
	}
	return at
}

// alter reports pods that admission changed. Only a user can help: the operator does not know what changes them.
func (p *Plan) alter(pods []Pod) {
	first, more := pods[0], ""
	if len(pods) > 1 {
		more = fmt.Sprintf(", and %s more", count(len(pods)-1))
	}
	p.Reason, p.UserMustAct = v1alpha1.ReasonPodsAltered, true
	p.Message = fmt.Sprintf("pod %s is not as its template: %s%s; the operator does not delete it, since KubeRay would create the same again; correct the webhook or admission policy that changes pods, then delete the pod", first.Name, cmp.Or(first.Differs, first.Revoked), more)
}
