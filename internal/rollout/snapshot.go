// Package rollout plans how a RayCluster is enabled, kept and disabled: a snapshot goes in, and the next
// step with its reason comes out. It talks to nobody.
package rollout

import (
	"slices"
	"time"
)

// Template is what the planner knows of a head or worker template.
type Template struct {
	// Group is the worker group's name; empty for the head.
	Group string
	// Injected reports whether the template is exactly as the injection renders it.
	Injected bool
	// Pieces reports whether something of the injection is in the template.
	Pieces bool
	// Recorded reports whether the template carried the injection before, so that its absence is somebody's doing.
	Recorded bool
	// Stripped reports whether pieces are missing, other than that what the user changed wants rendering again.
	Stripped bool
	// CanaryKey is equal for templates whose init containers will fare alike (same image and security context).
	CanaryKey string
	// Replicas is how many replicas the group is meant to have; not used for the head.
	Replicas int32
}

// Pod is what the planner knows of one of the cluster's pods.
type Pod struct {
	Name, UID string
	// Group is the worker group's name; empty for the head.
	Group string
	// Injected reports whether the pod was made from an injected template.
	Injected bool
	// Certified reports whether its init container ended well. Expires is when its certificate ends; zero where it does not say.
	Certified bool
	Expires   time.Time
	// Failure says, for people, why its init container cannot make a certificate; empty while it may still.
	Failure string
	// Ready is the pod's readiness.
	Ready bool
	// Terminating pods still speak until they are gone. Deadline says when they are gone at the latest.
	Terminating bool
	Deadline    time.Time
	Created     time.Time
}

// Snapshot is everything the planner decides from.
type Snapshot struct {
	Now  time.Time
	Goal Goal
	// Templates, head first.
	Templates []Template
	Pods      []Pod
	// Ended are pods that run no more and have not been deleted yet.
	Ended []Pod
	// PodsMissing is why KubeRay cannot make pods; empty where it does not say.
	PodsMissing string
	// Suspended: the cluster is meant to have no pods.
	Suspended bool
	// Provisioned: the cluster was ready once. One that was not has no work to lose.
	Provisioned bool
	// Recreate: KubeRay itself restarts the cluster on a change. Observed: KubeRay has seen the newest spec.
	Recreate, Observed bool
	// Queued: Kueue evicts the cluster on a change while it runs, and does the deleting.
	Queued bool
	// Service is the RayService that made the cluster; nil for others.
	Service *Service
	// BlockedBy names what forbids a restart, approved or not; BlockedWhy says why and what to do.
	BlockedBy, BlockedWhy string
	// Immediate allows a restart without approval, and Approved this restart.
	Immediate, Approved bool
	// NoSlot says why the cluster has to wait for others; empty when it may start.
	NoSlot string
	// Record is what is on record of the cluster.
	Record
	// Attempt is the hash of what would be tried.
	Attempt string
	// Manager names who stripped the templates, where that is known.
	Manager string
	// Deadline is how long a canary may take.
	Deadline time.Duration
}

// live are the pods that stay unless somebody deletes them.
func (s *Snapshot) live(keep func(Pod) bool) []Pod {
	return s.pods(func(p Pod) bool { return !p.Terminating && keep(p) })
}

func (s *Snapshot) pods(keep func(Pod) bool) []Pod {
	var out []Pod
	for _, p := range s.Pods {
		if keep(p) {
			out = append(out, p)
		}
	}
	return out
}

func every(Pod) bool       { return true }
func plaintext(p Pod) bool { return !p.Injected }
func injected(p Pod) bool  { return p.Injected }
func head(p Pod) bool      { return p.Group == "" }
func certified(p Pod) bool { return p.Certified }
func failed(p Pod) bool    { return p.Failure != "" }

func and(tests ...func(Pod) bool) func(Pod) bool {
	return func(p Pod) bool {
		return !slices.ContainsFunc(tests, func(t func(Pod) bool) bool { return !t(p) })
	}
}

func in(group string) func(Pod) bool { return func(p Pod) bool { return p.Group == group } }

// running reports whether a restart would cost anybody anything.
func (s *Snapshot) running() bool {
	return s.Provisioned && !s.Suspended && len(s.pods(every)) > 0
}

// betweenPods says of a cluster without pods that it did not stop, as far as enabling goes: KubeRay is about to make its
// pods again, after a failed attempt was put back, or for what must not be disturbed.
func (s *Snapshot) betweenPods() bool {
	return s.Provisioned && !s.Suspended && (s.failedBefore() || s.BlockedBy != "" || s.serves())
}

// leftovers are pods that KubeRay made before it saw that the templates had been put back. They cannot join the others.
func (s *Snapshot) leftovers() []Pod {
	if s.anyPieces() || s.FailedAttempt == "" && len(s.live(and(head, plaintext))) == 0 {
		return nil
	}
	return s.live(injected)
}

// failedBefore reports whether what would be tried has failed already.
func (s *Snapshot) failedBefore() bool { return s.FailedAttempt != "" && s.FailedAttempt == s.Attempt }

func (s *Snapshot) allInjected() bool {
	return !slices.ContainsFunc(s.Templates, func(t Template) bool { return !t.Injected })
}

func (s *Snapshot) anyPieces() bool {
	return slices.ContainsFunc(s.Templates, func(t Template) bool { return t.Pieces })
}

// template finds the template of a group; the head's is that of the empty name.
func (s *Snapshot) template(group string) (Template, bool) {
	i := slices.IndexFunc(s.Templates, func(t Template) bool { return t.Group == group })
	if i < 0 {
		return Template{}, false
	}
	return s.Templates[i], true
}
