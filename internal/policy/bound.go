package policy

import "github.com/raytls/raytls/api/v1alpha1"

// Bound names the policy on whose behalf the cluster of a status is injected, or in the middle of a restart; empty for none.
func Bound(status *v1alpha1.RayClusterTLSStatus) string {
	if status.Injection.Revision == 0 && status.Rollout == nil && status.Injection.FailedHash == "" {
		return ""
	}
	return status.PolicyRef.Name
}

// UnderWay reports whether the cluster of a status is in the middle of a restart, in which half of its pods cannot talk to the
// rest. A cluster that its RayService replaces works until it is gone.
func UnderWay(status *v1alpha1.RayClusterTLSStatus) bool {
	return status.Rollout != nil && status.Rollout.Phase != v1alpha1.PhaseUpgrade
}
