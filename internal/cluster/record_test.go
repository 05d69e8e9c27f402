package cluster

import (
	"encoding/json"
	"strings"
	"testing"
	"time"

	"k8s.io/apimachinery/pkg/api/meta"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	corev1 "k8s.io/api/core/v1"

	"github.com/google/go-cmp/cmp"

	"github.com/raytls/raytls/api/v1alpha1"
	"github.com/raytls/raytls/internal/rollout"
)

func TestRecordIsReadAsItWasWritten(t *testing.T) {
	for name, record := range map[string]rollout.Record{
		"empty":   {},
		"enabled": {Enabled: true, InjectedAt: epoch(), Restored: []time.Time{epoch(), epoch().Add(time.Hour)}},
		"failed":  {FailedAttempt: "a", FailedBecause: "no openssl", FailedAt: epoch(), Attempted: epoch()},
		"changed": {Changed: map[string]rollout.Change{"": {Goal: v1alpha1.GoalEncrypted, At: epoch()}, "a": {Goal: v1alpha1.GoalPlaintext, At: epoch().Add(time.Hour)}}},
		"canary": {Progress: &rollout.Progress{
			Goal: v1alpha1.GoalEncrypted, Phase: v1alpha1.PhaseCanary, Since: epoch(), From: epoch().Add(time.Minute), Canaries: map[string]string{"b": "b-1", "a": "a-1"},
		}},
		"roll": {
			Progress:   &rollout.Progress{Goal: v1alpha1.GoalEncrypted, Phase: v1alpha1.PhaseRoll, Since: epoch(), From: epoch().Add(time.Minute), Remaining: 3},
			WorkerWish: rollout.Wish{Hash: "w"}, HeadWish: rollout.Wish{Hash: "h", Since: epoch()},
		},
		"refused": {Refusals: []rollout.Refusal{{Pod: "a-1", UID: "u", BlockedBy: "Pod/a-1", Message: "no", First: epoch(), Last: epoch().Add(time.Hour), Attempts: 7}}},
	} {
		t.Run(name, func(t *testing.T) {
			var status v1alpha1.RayClusterTLSStatus
			status.Injection, status.Rollout = writeRecord(record, []string{"a"})
			status.PodCertificate, status.RefusedEvictions = writeWishes(record), writeRefusals(record)
			text, err := json.Marshal(status)
			if err != nil {
				t.Fatal(err)
			}
			var stored v1alpha1.RayClusterTLSStatus
			if err := json.Unmarshal(text, &stored); err != nil {
				t.Fatal(err)
			}
			read := readRecord(&stored)
			if !read.Equal(&record) {
				t.Errorf("the record changes on its way through %s (-want +got):\n%s", text, cmp.Diff(record, read))
			}
		})
	}
	long := rollout.Record{FailedAttempt: "a", FailedBecause: strings.Repeat("é", maxFailedMessage)}
	if injected, _ := writeRecord(long, nil); len(injected.FailedMessage) > maxFailedMessage {
		t.Errorf("a message of %d bytes is more than the API takes", len(injected.FailedMessage))
	}
}

func TestDeletedClusterTakesNoSlot(t *testing.T) {
	f, store := encryptedFacts(t)
	now := metav1.NewTime(epoch())
	f.Object.SetDeletionTimestamp(&now)
	f.TLS.Status.Rollout, f.TLS.Status.Injection.FailedHash = &v1alpha1.RolloutProgress{Phase: v1alpha1.PhaseHead}, "x"
	d := Decide(f, Settings{})
	status := Status(f, &d, Done{Keys: store})
	if status.Rollout != nil || status.Injection.FailedHash != "" || status.Injection.Revision == 0 {
		t.Errorf("a cluster that waits for its finalizers holds %+v and %+v", status.Rollout, status.Injection)
	}
}

func TestADeletionThatLastsTellsNothing(t *testing.T) {
	f, store := encryptedFacts(t)
	d := Decide(f, Settings{})
	f.TLS.Status = Status(f, &d, Done{Keys: store, Recorded: true})
	now := metav1.NewTime(epoch())
	f.Object.SetDeletionTimestamp(&now)
	for after, want := range map[time.Duration]metav1.ConditionStatus{9 * time.Minute: metav1.ConditionTrue, 10 * time.Minute: metav1.ConditionUnknown} {
		f.Now = epoch().Add(after)
		d := Decide(f, Settings{})
		status := Status(f, &d, Done{Keys: store})
		for _, kind := range []string{v1alpha1.ConditionEncrypted, v1alpha1.ConditionUpToDate} {
			if got := meta.FindStatusCondition(status.Conditions, kind); got.Status != want {
				t.Errorf("after %s: %+v", after, got)
			}
		}
		if wakes := d.Plan.RequeueAt.Equal(epoch().Add(10 * time.Minute)); wakes != (want == metav1.ConditionTrue) {
			t.Errorf("after %s it is looked at again at %s", after, d.Plan.RequeueAt)
		}
	}
}

func TestRestartIDHoldsForOneRestartOfOneHead(t *testing.T) {
	base := restartID("cluster", "head", v1alpha1.ActionEnable, time.Time{})
	if base != restartID("cluster", "head", v1alpha1.ActionEnable, time.Time{}) || len(base) != 8 {
		t.Errorf("the id %q is not stable", base)
	}
	for reason, other := range map[string]string{
		"another cluster":        restartID("other", "head", v1alpha1.ActionEnable, time.Time{}),
		"another head":           restartID("cluster", "next", v1alpha1.ActionEnable, time.Time{}),
		"another action":         restartID("cluster", "head", v1alpha1.ActionDisable, time.Time{}),
		"after a failed attempt": restartID("cluster", "head", v1alpha1.ActionEnable, epoch()),
		"after another":          restartID("cluster", "head", v1alpha1.ActionEnable, epoch().Add(time.Second)),
	} {
		if other == base {
			t.Errorf("%s is approved by the same id", reason)
		}
	}
}

// jsonOf is a value as the API server stores it.
func jsonOf(v any) any {
	text, err := json.Marshal(v)
	if err != nil {
		panic(err)
	}
	var out any
	if err := json.Unmarshal(text, &out); err != nil {
		panic(err)
	}
	return out
}

func secret() *corev1.Secret { return &corev1.Secret{} }
