// Package rollout plans how a RayCluster is enabled, maintained and disabled. It computes the next step and its reason from a
// snapshot, without a client.
package rollout

import (
	"slices"
	"time"

	"github.com/raytls/raytls/api/v1alpha1"
	"github.com/raytls/raytls/internal/kube"
	"github.com/raytls/raytls/internal/timescale"
)

// Template describes a head or worker template.
type Template struct {
	// Group is the worker group's name; empty for the head.
	Group string
	// Injected reports whether the template is exactly as the injection renders it.
	Injected bool
	// Pieces reports whether the template holds a piece of the injection.
	Pieces bool
	// Recorded reports whether the template carried the injection before. If it is missing, somebody removed it.
	Recorded bool
	// Stripped reports whether pieces are missing. A template that is only outdated is not stripped.
	Stripped bool
	// Revoked reports whether the template mounts another CA Secret than the cluster's, as before a revocation.
	Revoked bool
	// CanaryKey is equal for templates whose init containers have the same image and security context.
	CanaryKey string
	// Replicas is the group's desired number of replicas, and Hosts the number of pods of each. The head does not use them.
	Replicas, Hosts int32
}

// Pod describes one of the cluster's pods.
type Pod struct {
	Name, UID string
	// Group is the worker group's name; empty for the head.
	Group string
	// Injected reports whether the pod speaks TLS as the injection has it.
	Injected bool
	// Pieces reports whether the pod holds a piece of the injection, and Differs what is not as the injection has it; empty if
	// nothing is.
	Pieces  bool
	Differs string
	// Revoked says which CA Secret the pod mounts; empty if it is the cluster's. Other ones are of revoked authorities. Earlier reports
	// whether the template that the pod was made from named another one too.
	Revoked string
	Earlier bool
	// Certified reports whether its init container succeeded.
	Certified bool
	// Failure says why its init container cannot make a certificate; empty while it still may.
	Failure string
	// ReadySince is since when the pod is Ready.
	Ready      bool
	ReadySince time.Time
	// Terminating pods still speak until they are gone, at Deadline at the latest. Deleted is when somebody deleted them.
	Terminating       bool
	Deleted, Deadline time.Time
	Created           time.Time
	// Replica identifies the multi-host replica that the pod is part of; empty where it is a replica by itself.
	Replica string
	// Leaf is the certificate of a pod that is Certified.
	Leaf Leaf
	// HeldBy names the annotation or object that forbids the eviction of the pod. HeldWhy gives the reason. Both are empty if nothing
	// forbids it.
	HeldBy, HeldWhy string
}

// Snapshot is everything the planner decides from.
type Snapshot struct {
	Now  time.Time
	Goal v1alpha1.RolloutGoal
	// Templates, head first.
	Templates []Template
	Pods      []Pod
	// Ended are stopped pods that are not deleted yet.
	Ended []Pod
	// PodsMissing is why KubeRay cannot create pods; empty if unknown.
	PodsMissing string
	// Suspended reports whether the cluster should have no pods.
	Suspended bool
	// Provisioned reports whether all pods of the cluster were ready at one moment.
	Provisioned bool
	// New reports whether the cluster cannot have work to lose yet.
	New bool
	// Recreate reports whether KubeRay itself restarts the cluster on a change, Observed whether it has seen the newest spec.
	Recreate, Observed bool
	// Queued reports whether Kueue evicts the running cluster on a change and deletes its pods.
	Queued bool
	// Service is the RayService that made the cluster; nil for others.
	Service *Service
	// BlockedBy names the object that forbids a restart, even an approved one. BlockedWhy gives the reason and the remedy.
	BlockedBy, BlockedWhy string
	// ClockSkew is how the clocks of the operator and of an API server differ; empty if they do not. It forbids to begin a restart, and
	// to delete pods outside of one: their times mean nothing.
	ClockSkew string
	// Hazard is the field of the templates that TLS would break, and HazardWhy says how and what to do; empty for none. It forbids
	// to begin enabling a running cluster, approved or not.
	Hazard, HazardWhy string
	// Immediate allows a restart without approval, and Approved this restart.
	Immediate, Approved bool
	// NoSlot says why the cluster must wait for others; empty if it may start. SlotAt is when it need not any more, where that is known.
	NoSlot string
	SlotAt time.Time
	Record
	// Attempt is the hash of the next attempt.
	Attempt string
	// Manager is the field manager that stripped the templates; empty if unknown.
	Manager string
	// Deadline is how long a canary may take, and an evicted replica until it is ready again.
	Deadline time.Duration
	// Opens is when the next window opens in which a restart may begin; zero if it may begin now.
	Opens time.Time
	// Roll is how pods may be brought onto new certificates.
	Roll Rolling
	// Revocation is what the policy asks of the authority.
	Revocation Revocation
	// Scale is how long the waits for caches and clocks are.
	Scale timescale.Scale
}

// live returns the pods that stay unless somebody deletes them.
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

// settles is Settles, and tolerance how far clocks may be apart.
func (s *Snapshot) settles() time.Duration   { return s.Scale.Wait(Settles) }
func (s *Snapshot) tolerance() time.Duration { return s.Scale.Wait(kube.ClockTolerance) }

func every(Pod) bool       { return true }
func plaintext(p Pod) bool { return !p.Injected }
func injected(p Pod) bool  { return p.Injected }
func head(p Pod) bool      { return p.Group == "" }
func certified(p Pod) bool { return p.Certified && p.Injected && p.Differs == "" }
func failed(p Pod) bool    { return p.Failure != "" }
func revoked(p Pod) bool   { return p.Revoked != "" }

func and(tests ...func(Pod) bool) func(Pod) bool {
	return func(p Pod) bool {
		return !slices.ContainsFunc(tests, func(t func(Pod) bool) bool { return !t(p) })
	}
}

func in(group string) func(Pod) bool { return func(p Pod) bool { return p.Group == group } }

// Running reports whether a restart would interrupt work.
func (s *Snapshot) Running() bool {
	return !s.New && !s.Suspended && len(s.Pods) > 0
}

// Enables reports whether the next restart would enable the cluster without an approval. It waits then if enabling another cluster
// failed.
func (s *Snapshot) Enables() bool {
	return s.Goal == v1alpha1.GoalEncrypted && !s.Enabled && !s.Approved
}

// betweenPods reports whether a cluster has no pods only because KubeRay is about to recreate them: after a failed attempt, or
// for work that must not be disturbed.
func (s *Snapshot) betweenPods() bool {
	return !s.Suspended && (s.failedBefore() || s.Provisioned && (s.BlockedBy != "" || s.Service != nil && s.Service.Serving))
}

// leftovers returns pods that KubeRay made before it saw the reverted templates. They cannot join the others.
func (s *Snapshot) leftovers() []Pod {
	if s.anyPieces() || s.FailedAttempt == "" && len(s.live(and(head, plaintext))) == 0 {
		return nil
	}
	return s.live(and(injected, s.stale))
}

// failedBefore reports whether the same attempt failed before.
func (s *Snapshot) failedBefore() bool { return s.FailedAttempt != "" && s.FailedAttempt == s.Attempt }

func (s *Snapshot) allInjected() bool {
	return !slices.ContainsFunc(s.Templates, func(t Template) bool { return !t.Injected })
}

func (s *Snapshot) anyPieces() bool {
	return slices.ContainsFunc(s.Templates, func(t Template) bool { return t.Pieces })
}

// template finds a group's template. The head's group has the empty name.
func (s *Snapshot) template(group string) (Template, bool) {
	i := slices.IndexFunc(s.Templates, func(t Template) bool { return t.Group == group })
	if i < 0 {
		return Template{}, false
	}
	return s.Templates[i], true
}
