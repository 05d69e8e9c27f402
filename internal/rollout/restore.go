package rollout

import (
	"fmt"
	"slices"
	"time"

	"github.com/raytls/raytls/api/v1alpha1"
)

// RestoreWindow and RestoreLimit bound how often a stripped injection is restored: restoring it each time
// would be a fight with whoever strips it, and each round leaves pods that cannot talk.
const (
	RestoreWindow = time.Hour
	RestoreLimit  = 2
)

// planRestore puts the injection back where it is missing or no longer fits what the user changed.
func planRestore(s *Snapshot, p *Plan) {
	stripped := slices.DeleteFunc(slices.Clone(s.Templates), func(t Template) bool { return !t.Recorded || !t.Stripped })
	if len(stripped) == 0 {
		p.Edit = InjectAll
		p.Reason, p.Message = v1alpha1.ReasonEnabling, "following a change of the cluster's templates"
		return
	}
	if len(s.pods(every)) == 0 || s.Suspended {
		p.Edit = InjectAll
		p.Reason, p.Message = v1alpha1.ReasonEnabling, "injecting again, since the cluster has no pods"
		return
	}
	p.Edit = InjectAll
	p.Reason, p.Message = v1alpha1.ReasonEnabling, "restoring the injection"
	p.Event = &Event{Warning: true, Reason: "InjectionRestored", Message: manager(s) + "took the injection out of the RayCluster's spec; restored it"}
	if slices.ContainsFunc(s.Restored, func(t time.Time) bool { return s.Now.Before(t.Add(overtakenBy)) }) {
		return // that is on record, and the templates were not written or are not seen
	}
	recent := slices.DeleteFunc(slices.Clone(s.Restored), func(t time.Time) bool { return !s.Now.Before(t.Add(RestoreWindow)) })
	if len(recent) >= RestoreLimit {
		p.Edit, p.Event, p.UserMustAct = NoEdit, nil, true
		p.Reason = v1alpha1.ReasonFieldConflict
		p.RequeueAt = slices.MinFunc(recent, time.Time.Compare).Add(RestoreWindow)
		p.Message = fmt.Sprintf("%stook the injection out of the RayCluster's spec again, and it was restored %d times within the hour, so the operator leaves it out until %s and new pods cannot join; let that tool ignore the pod templates, or put what is injected into its manifest", manager(s), len(recent), p.RequeueAt.UTC().Format(time.RFC3339))
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
