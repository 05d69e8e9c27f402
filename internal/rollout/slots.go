package rollout

import (
	"fmt"
	"time"

	"github.com/raytls/raytls/api/v1alpha1"
	"github.com/raytls/raytls/internal/kube"
)

// Slots are how many clusters of a policy may be restarted at a time.
type Slots struct {
	Policy string
	Most   int32
	// Deadline is how long a restart that makes no progress keeps its slot.
	Deadline time.Duration
}

// NoSlot is why no further cluster of the policy may begin a restart now; empty if one may. until is when one is free at the latest, where
// that is known. others are the namespace's other RayClusterTLSes. enables reports whether the restart enables the cluster without an
// approval, which waits for failures elsewhere.
func (l Slots) NoSlot(others []v1alpha1.RayClusterTLS, enables bool, now time.Time) (why string, until time.Time) {
	busy := int32(0)
	for i := range others {
		status := &others[i].Status
		if status.PolicyRef.Name != l.Policy || !others[i].DeletionTimestamp.IsZero() {
			continue
		}
		if status.Rollout != nil {
			if end := l.end(status.Rollout); now.Before(end) {
				busy++
				until = kube.Earlier(until, end)
			}
		}
		if status.Injection.FailedHash != "" && enables {
			return fmt.Sprintf("enabling RayCluster %s failed, and no further running cluster is started until that is mended; approve this one to start it all the same", others[i].Name), time.Time{}
		}
	}
	if busy >= l.Most {
		return fmt.Sprintf("%d of at most %d clusters (rollout.maxConcurrentClusters) are being restarted; this one comes later", busy, l.Most), until
	}
	return "", time.Time{}
}

// graceful is how long pods may take to end that a restart deletes. Their users choose that, and no record holds it.
const graceful = time.Hour

// end is when a restart that makes no progress gives up its slot. One that is stuck may last for ever, and whoever may create pods can
// make one so: other clusters' certificates end meanwhile.
func (l Slots) end(progress *v1alpha1.RolloutProgress) time.Time {
	begun := progress.PhaseStartTime.Time
	if from := progress.DeadlineStartTime; from != nil && from.After(begun) {
		begun = from.Time
	}
	if progress.Phase == v1alpha1.PhaseRoll || progress.Phase == v1alpha1.PhaseUpgrade {
		return begun.Add(l.Deadline)
	}
	return begun.Add(l.Deadline + graceful)
}
