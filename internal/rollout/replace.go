package rollout

import (
	"fmt"
	"time"

	"github.com/raytls/raytls/api/v1alpha1"
	"github.com/raytls/raytls/internal/kube"
)

// Service describes the RayService that made the cluster. The operator does not restart its serving clusters: the RayService
// replaces them without downtime.
type Service struct {
	Name string
	// Serving reports whether requests are sent to this cluster.
	Serving bool
	// Next is the RayCluster that takes over from this one or has done so; empty for none.
	Next string
	// Refuses says why the RayService would not make the requested cluster, and what to do; empty if it would.
	Refuses string
	// Missed reports whether the RayService made this cluster on request, and it serves without being as requested. Another
	// request would repeat that for ever.
	Missed bool
	// Ask is the request that the operator would make, Asked the last one, and AskedAt its time.
	Ask, Asked string
	AskedAt    time.Time
}

// upgrading reports whether the cluster still waits for a recorded replacement.
func (s *Snapshot) upgrading() bool {
	return s.Progress != nil && s.Progress.Phase == v1alpha1.PhaseUpgrade && s.Progress.Goal == s.Goal && s.Service != nil &&
		(s.Running() || s.betweenPods())
}

// planReplace asks the RayService to replace a running cluster that is not in its desired state.
func planReplace(s *Snapshot, p *Plan) {
	service := s.Service
	p.Reason = s.becoming()
	switch {
	case p.notServing(s):
	case service.Refuses != "":
		p.blockedByService(s, service.Refuses)
	case service.Asked == service.Ask:
		p.resume(s)
		p.Message = s.upgraded()
	case service.Next != "":
		p.Message = s.upgraded()
	case allowed(s, p):
		p.ask(s)
		p.forgetFailure()
		p.say(s.becoming(), "asked RayService %s for a new cluster, which is %s from its start and takes over when it is ready", service.Name, s.adjective())
	}
}

// resume puts a request to the RayService on record that was made and is not on it: its record was lost or never written.
func (p *Plan) resume(s *Snapshot) {
	at := s.Service.AskedAt
	p.Progress, p.Attempted = &Progress{Goal: s.Goal, Phase: v1alpha1.PhaseUpgrade, Since: at}, at
}

// planUpgrading waits for the RayService. The operator asks once, because another new cluster would meet the same obstacle.
func planUpgrading(s *Snapshot, p *Plan) {
	service, asked := s.Service, kube.FormatTime(s.Progress.Since)
	lost, mayAsk := service.Asked != service.Ask && service.Next == "", s.BlockedBy == "" && service.Refuses == ""
	end, settled := s.Progress.Since.Add(s.Deadline), s.Progress.Since.Add(RecreatePatience)
	p.Reason, p.Message = s.becoming(), s.upgraded()
	switch {
	case p.notServing(s):
	case lost && s.Now.Before(settled):
		p.RequeueAt = settled // the caches may not show the request yet
		if mayAsk {
			p.Upgrade = service.Ask // the operator may have ended before it made this same request
		}
	case lost && s.Approved && mayAsk:
		p.ask(s)
		p.say(s.becoming(), "asked RayService %s for a new cluster again", service.Name)
	case lost:
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

// ask requests a new cluster.
func (p *Plan) ask(s *Snapshot) {
	p.Upgrade, p.Progress, p.Attempted = s.Service.Ask, s.next(v1alpha1.PhaseUpgrade), s.stamp()
}

// notServing reports whether the cluster serves no requests, and puts in the plan whether it will take over or go.
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

// upgraded returns a sentence on the RayService's progress.
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
