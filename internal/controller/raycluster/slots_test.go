package raycluster

import (
	"errors"
	"testing"
	"time"

	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/apimachinery/pkg/types"

	"github.com/raytls/raytls/internal/rollout"
)

func TestSlotsSettle(t *testing.T) {
	conflict := apierrors.NewConflict(schema.GroupResource{Resource: "rayclusters"}, "x", errors.New("changed"))
	progress := &rollout.Progress{}
	cases := map[string]struct {
		reason  string
		seen    *rollout.Progress
		planned *rollout.Progress
		written bool
		err     error
		kept    bool
	}{
		"started":         {reason: "the cache does not show yet what was written", planned: progress, written: true, kept: true},
		"seen":            {reason: "the cache shows the restart, which is counted from there", seen: progress, planned: progress},
		"conflict":        {reason: "an earlier write may be what the cache does not show", planned: progress, err: conflict, kept: true},
		"cache lags":      {reason: "so may one that could not be read", planned: progress, err: errStale, kept: true},
		"refused":         {reason: "what could not be started must not keep others waiting", planned: progress, err: errors.New("refused")},
		"a user's matter": {reason: "nor what a user has to mend first", err: problemf("NameConflict", "taken")},
		"not started":     {reason: "nothing was started"},
	}
	for name, test := range cases {
		t.Run(name, func(t *testing.T) {
			cluster := types.NamespacedName{Namespace: "ns", Name: "x"}
			s := &slots{taken: map[types.NamespacedName]types.NamespacedName{cluster: {Namespace: "ns", Name: "policy"}}}
			st := &state{key: cluster, written: test.written}
			st.snapshot.Progress, st.planned.Progress = test.seen, test.planned
			s.settle(st, test.err)
			if _, kept := s.taken[cluster]; kept != test.kept {
				t.Errorf("%s: kept %v, want %v", test.reason, kept, test.kept)
			}
		})
	}
}

func TestIssuesKeepTheirInterval(t *testing.T) {
	now := time.Date(2026, 1, 2, 3, 4, 5, 0, time.UTC)
	cluster, other := types.NamespacedName{Name: "x"}, types.NamespacedName{Name: "y"}
	var i issues
	if wait := i.wait(cluster, now); wait != 0 {
		t.Errorf("the first issuer waits %s", wait)
	}
	i.made(cluster, now)
	if wait := i.wait(cluster, now.Add(time.Second)); wait != issueInterval-time.Second {
		t.Errorf("a second later the next waits %s, want the rest of the interval", wait)
	}
	if wait := i.wait(other, now.Add(time.Second)); wait != 0 {
		t.Errorf("another cluster waits %s", wait)
	}
	if wait := i.wait(cluster, now.Add(issueInterval)); wait != 0 {
		t.Errorf("after the interval the next waits %s", wait)
	}
	i.forget(cluster)
	if wait := i.wait(cluster, now); wait != 0 {
		t.Errorf("a cluster made anew waits %s", wait)
	}
}
