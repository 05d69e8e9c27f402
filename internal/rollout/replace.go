package rollout

import (
	"fmt"
	"time"

	"github.com/raytls/raytls/api/v1alpha1"
)

// Service is what the planner knows of the RayService that made the cluster. Its clusters are not restarted while they serve:
// the RayService replaces them, without downtime.
type Service struct {
	Name string
	// Serving reports whether requests are sent to this cluster.
	Serving bool
	// Next is the RayCluster that is to take over from this one or has done so; empty when there is none.
	Next string
	// Refuses says why the RayService would not make a cluster that is as asked, and what to do; empty when it would.
	Refuses string
	// Missed reports whether this cluster was made as asked and serves all the same without being so. Asking on would go on for ever.
	Missed bool
	// Ask is what it would be asked for, Asked what it was asked for last, and AskedAt when.
	Ask, Asked string
	AskedAt    time.Time
}

// serves reports whether the cluster must not lose a pod: requests are sent to it.
func (s *Snapshot) serves() bool { return s.Service != nil && s.Service.Serving }

// upgrading reports whether a replacement which is on record still is what the cluster waits for.
func (s *Snapshot) upgrading() bool {
	return s.Progress != nil && s.Progress.Phase == v1alpha1.PhaseUpgrade && s.Progress.Goal == s.Goal && s.Service != nil &&
		(s.running() || s.betweenPods())
}

// planReplace is for a running cluster of a RayService that is not what it is meant to be.
func planReplace(s *Snapshot, p *Plan) {
	service := s.Service
	p.Reason = s.becoming()
	switch {
	case p.notServing(s):
	case service.Refuses != "":
		p.blockedByService(s, service.Refuses)
	case service.Asked == service.Ask:
		// The record of it was lost with the cluster's annotations, or was not written any more.
		p.Progress = &Progress{Goal: s.Goal, Phase: v1alpha1.PhaseUpgrade, Since: service.AskedAt}
		p.Message = s.upgraded()
	case service.Next != "":
		p.Message = s.upgraded()
	case allowed(s, p):
		p.Upgrade, p.Progress = service.Ask, s.next(v1alpha1.PhaseUpgrade)
		p.forgetFailure()
		p.say(s.becoming(), "asked RayService %s for a new cluster, which is %s from its start and takes over when it is ready", service.Name, s.adjective())
	}
}

// planUpgrading waits for the RayService. It is asked once: whatever keeps the new cluster from taking over, another one
// would meet it too.
func planUpgrading(s *Snapshot, p *Plan) {
	service, asked := s.Service, s.Progress.Since.UTC().Format(time.RFC3339)
	end, settled := s.Progress.Since.Add(s.Deadline), s.Progress.Since.Add(RecreatePatience)
	p.Reason, p.Message = s.becoming(), s.upgraded()
	switch {
	case p.notServing(s):
	case service.Asked != service.Ask && service.Next == "" && s.Now.Before(settled):
		p.RequeueAt = settled // the request may not be seen yet
		if s.BlockedBy == "" && service.Refuses == "" {
			p.Upgrade = service.Ask // or not be made, if the operator ended before: it is the same request
		}
	case service.Asked != service.Ask && service.Next == "" && s.Approved && s.BlockedBy == "" && service.Refuses == "":
		p.Upgrade, p.Progress = service.Ask, s.next(v1alpha1.PhaseUpgrade)
		p.say(s.becoming(), "asked RayService %s for a new cluster again", service.Name)
	case service.Asked != service.Ask && service.Next == "":
		p.blockedByService(s, fmt.Sprintf("RayService %s was asked for a new cluster at %s, and somebody took the annotation %s out of its spec.rayClusterConfig.headGroupSpec.template before there was one; it is asked again when you approve the restart", service.Name, asked, v1alpha1.AnnotationRestartedFor))
	case service.Refuses != "" && service.Next == "":
		p.blockedByService(s, service.Refuses)
	case s.Now.Before(end):
		p.RequeueAt = end
	case service.Next == "":
		p.blockedByService(s, fmt.Sprintf("RayService %s was asked for a new cluster at %s and has made none within %s; see its status and events, and whether KubeRay runs with ENABLE_ZERO_DOWNTIME=false, which has it make none; this cluster serves on, and the RayService is not asked again", service.Name, asked, s.Deadline))
	default:
		p.blockedByService(s, fmt.Sprintf("RayService %s was asked for a new cluster at %s, and RayCluster %s has not become ready to take over within %s; see its pods and the RayService's status; this cluster serves on, and the RayService is not asked again", service.Name, asked, service.Next, s.Deadline))
	}
}

// notServing reports on a cluster to which no requests are sent: it is about to take over, or to go.
func (p *Plan) notServing(s *Snapshot) bool {
	switch service := s.Service; {
	case service.Serving:
		return false
	case service.Next == "":
		p.Message = fmt.Sprintf("RayService %s may move its traffic to this cluster at any time, so it is looked at when that is over", service.Name)
	default:
		p.Message = fmt.Sprintf("RayService %s has moved its traffic to RayCluster %s and deletes this one", service.Name, service.Next)
	}
	return true
}

func (p *Plan) blockedByService(s *Snapshot, why string) {
	p.Reason, p.BlockedBy, p.Message = v1alpha1.ReasonBlocked, "RayService/"+s.Service.Name, why
	p.RestartWaits, p.UserMustAct = true, true
}

// upgraded says how far the RayService is.
func (s *Snapshot) upgraded() string {
	if s.Service.Next == "" {
		return fmt.Sprintf("RayService %s is being upgraded: it was asked for a new cluster and has yet to make it", s.Service.Name)
	}
	return fmt.Sprintf("RayService %s is being upgraded: RayCluster %s takes over when it is ready", s.Service.Name, s.Service.Next)
}

func (s *Snapshot) becoming() string {
	if s.Goal == v1alpha1.GoalPlaintext {
		return v1alpha1.ReasonDisabling
	}
	return v1alpha1.ReasonEnabling
}

func (s *Snapshot) adjective() string {
	if s.Goal == v1alpha1.GoalPlaintext {
		return "plaintext"
	}
	return "encrypted"
}
