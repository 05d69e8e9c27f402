package rollout

import (
	"fmt"
	"slices"
	"time"

	"github.com/raytls/raytls/api/v1alpha1"
	"github.com/raytls/raytls/internal/kube"
)

// RestoreWindow and RestoreLimit bound how often the operator restores a stripped injection. Restoring it each time would be
// a fight with another writer, and each round leaves pods that cannot talk.
const (
	RestoreWindow = time.Hour
	RestoreLimit  = 2
)

// planRestore restores the injection where it is missing or does not fit the user's changes.
func planRestore(s *Snapshot, p *Plan) {
	p.Edit, p.Reason = InjectAll, v1alpha1.ReasonEnabling
	if !slices.ContainsFunc(s.Templates, func(t Template) bool { return t.Recorded && t.Stripped }) {
		p.Message = "following a change of the cluster's templates"
		return
	}
	if len(s.Pods) == 0 || s.Suspended {
		p.Message = "injecting again, since the cluster has no pods"
		return
	}
	p.Message = "restoring the injection"
	p.Event = &Event{Warning: true, Reason: "InjectionRestored", Message: manager(s) + "took the injection out of the RayCluster's spec; restored it"}
	if slices.ContainsFunc(s.Restored, func(t time.Time) bool { return s.Now.Before(t.Add(overtakenBy)) }) {
		return // the restoration is on record, but the templates were not written or are not seen
	}
	recent := slices.DeleteFunc(slices.Clone(s.Restored), func(t time.Time) bool { return !s.Now.Before(t.Add(RestoreWindow)) })
	if len(recent) >= RestoreLimit {
		p.Edit, p.Event, p.UserMustAct = NoEdit, nil, true
		p.Reason = v1alpha1.ReasonFieldConflict
		p.RequeueAt = slices.MinFunc(recent, time.Time.Compare).Add(RestoreWindow)
		p.Message = fmt.Sprintf("%stook the injection out of the RayCluster's spec again, and it was restored %d times within the hour, so the operator leaves it out until %s and new pods cannot join; let that tool ignore the pod templates, or put what is injected into its manifest", manager(s), len(recent), kube.FormatTime(p.RequeueAt))
		return
	}
	p.Restored = append(recent, s.stamp())
}

func manager(s *Snapshot) string {
	if s.Manager == "" {
		return "somebody "
	}
	return fmt.Sprintf("field manager %q ", s.Manager)
}
