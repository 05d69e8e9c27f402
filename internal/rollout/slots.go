package rollout

import (
	"fmt"

	"github.com/raytls/raytls/api/v1alpha1"
)

// NoSlot is why no further cluster of the policy may begin a restart now; empty if one may. others are the namespace's other
// RayClusterTLSes. enables reports whether the restart enables the cluster without an approval, which waits for failures elsewhere.
func NoSlot(policyName string, most int32, others []v1alpha1.RayClusterTLS, enables bool) string {
	busy := int32(0)
	for i := range others {
		status := &others[i].Status
		if status.PolicyRef.Name != policyName || !others[i].DeletionTimestamp.IsZero() {
			continue
		}
		if status.Rollout != nil {
			busy++
		}
		if status.Injection.FailedHash != "" && enables {
			return fmt.Sprintf("enabling RayCluster %s failed, and no further running cluster is started until that is mended; approve this one to start it all the same", others[i].Name)
		}
	}
	if busy >= most {
		return fmt.Sprintf("%d of at most %d clusters (rollout.maxConcurrentClusters) are being restarted; this one comes later", busy, most)
	}
	return ""
}
