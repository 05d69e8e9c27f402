package raycluster

import (
	"context"
	"errors"
	"net/http"
	"strings"
	"testing"

	corev1 "k8s.io/api/core/v1"
	policyv1 "k8s.io/api/policy/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"sigs.k8s.io/controller-runtime/pkg/client"
	"sigs.k8s.io/controller-runtime/pkg/client/interceptor"

	"github.com/raytls/raytls/api/v1alpha1"
	"github.com/raytls/raytls/internal/kube"
	"github.com/raytls/raytls/internal/rollout"
)

// refused is the API server's answer to an eviction that a budget forbids.
func refused(cause string) error {
	err := apierrors.NewTooManyRequests("Cannot evict pod as it would violate the pod's disruption budget.", 10)
	err.ErrStatus.Details.Causes = []metav1.StatusCause{{Type: policyv1.DisruptionBudgetCause, Message: cause}}
	return err
}

func TestEvict(t *testing.T) {
	pods := schema.GroupResource{Resource: "pods"}
	for name, c := range map[string]struct {
		reason    string
		answer    error
		blockedBy string
		stale     bool
		failed    bool
		told      int
	}{
		"evicted":        {reason: "somebody is told", told: 1},
		"gone":           {reason: "a pod that is gone needs no eviction", answer: apierrors.NewNotFound(pods, "a-1"), told: 1},
		"another":        {reason: "another pod of that name is not meant", answer: apierrors.NewConflict(pods, "a-1", errors.New("uid")), stale: true},
		"budget":         {reason: "the budget is named", answer: refused("The disruption budget keep.me needs 2 healthy pods and has 2 currently"), blockedBy: "PodDisruptionBudget/keep.me"},
		"unknown budget": {reason: "where none is named, the pod is", answer: refused("no"), blockedBy: "Pod/a-1"},
		"busy":           {reason: "a server that is busy says no more", answer: apierrors.NewTooManyRequests("later", 1), blockedBy: "Pod/a-1"},
		"forbidden":      {reason: "a guard's refusal keeps the cluster encrypted", answer: apierrors.NewForbidden(pods, "a-1", errors.New("guard")), blockedBy: "Pod/a-1"},
		"invalid":        {reason: "a policy chooses the code of its refusal", answer: apierrors.NewInvalid(schema.GroupKind{Kind: "Pod"}, "a-1", nil), blockedBy: "Pod/a-1"},
		"webhook down":   {reason: "and so does a webhook that fails", answer: apierrors.NewInternalError(errors.New("failed calling webhook")), blockedBy: "Pod/a-1"},
		"denied as gone": {reason: "whatever code that is", answer: &apierrors.StatusError{ErrStatus: metav1.Status{Status: metav1.StatusFailure, Code: 404, Reason: metav1.StatusReasonNotFound, Message: `admission webhook "x" denied the request: no`}}, blockedBy: "Pod/a-1"},
		"denied as old":  {reason: "a guard's too", answer: apierrors.NewConflict(pods, "a-1", errors.New("ValidatingAdmissionPolicy 'x' with binding 'y' denied request: no")), blockedBy: "Pod/a-1"},
		"failed":         {reason: "an unknown error is tried again", answer: errors.New("connection refused"), failed: true},
	} {
		t.Run(name, func(t *testing.T) {
			a, stored, recorder := keyed(t, epoch())
			var evictions []*policyv1.Eviction
			a.Client = interceptor.NewClient(stored, interceptor.Funcs{
				SubResourceCreate: func(_ context.Context, _ client.Client, kind string, object, sub client.Object, _ ...client.SubResourceCreateOption) error {
					if pod, ok := object.(*corev1.Pod); !ok || kind != "eviction" || pod.Name != "a-1" || pod.Namespace != "ml" {
						t.Errorf("%s of %v", kind, object)
					}
					eviction, _ := sub.(*policyv1.Eviction)
					evictions = append(evictions, eviction)
					return c.answer
				},
			})
			a.decision.Plan.Evict = []rollout.Pod{{Name: "a-1", UID: "uid-1"}}
			err := a.evictPods(t.Context())
			if len(evictions) != 1 || evictions[0].DeleteOptions == nil || *evictions[0].DeleteOptions.Preconditions.UID != "uid-1" {
				t.Fatalf("%s: a pod goes by its UID: %v", c.reason, evictions)
			}
			outcome := kube.AsOutcome(err)
			if (outcome != nil) != (len(a.refused) == 1) || outcome != nil && (a.refused[0].BlockedBy != outcome.BlockedBy || a.refused[0].Pod.UID != "uid-1") {
				t.Errorf("%s: a refusal goes on record: %+v", c.reason, a.refused)
			}
			switch {
			case (outcome != nil) != (c.blockedBy != "") || kube.IsStale(err) != c.stale || (err != nil && outcome == nil && !kube.IsStale(err)) != c.failed:
				t.Errorf("%s: got %v", c.reason, err)
			case outcome != nil && (outcome.BlockedBy != c.blockedBy || !outcome.OfRestart || outcome.UserMustAct || outcome.After == 0 || outcome.Reason != v1alpha1.ReasonBlocked):
				t.Errorf("%s: got %+v", c.reason, outcome)
			}
			if told := drain(recorder); len(told) != c.told || c.told > 0 && !strings.Contains(told[0], "Normal EvictedPods evicted a-1") {
				t.Errorf("%s: told %q", c.reason, told)
			}
		})
	}
	a, stored, recorder := keyed(t, epoch())
	a.Client = interceptor.NewClient(stored, interceptor.Funcs{
		SubResourceCreate: func(_ context.Context, _ client.Client, _ string, object, _ client.Object, _ ...client.SubResourceCreateOption) error {
			if object.GetName() == "a-2" || object.GetName() == "host" {
				return nil
			}
			return refused("no")
		},
	})
	a.decision.Plan.Evict = []rollout.Pod{{Name: "a-1", Replica: "r"}, {Name: "host", Replica: "r"}, {Name: "a-2"}, {Name: "a-3"}}
	outcome, told := kube.AsOutcome(a.evictPods(t.Context())), drain(recorder)
	if outcome == nil || outcome.BlockedBy != "Pod/a-1" || len(told) != 1 || !strings.Contains(told[0], "evicted a-2 for") {
		t.Errorf("a pod that may not be evicted keeps none but the hosts of its replica, and the first is named: got %+v, told %q", outcome, told)
	}
	a, _, _ = keyed(t, epoch())
	a.decision.Plan.Evict, a.decision.Plan.Enabled = []rollout.Pod{{Name: "a-1"}}, true
	if err := a.evictPods(t.Context()); err != nil {
		t.Errorf("a plan that writes evicts nothing: %v", err)
	}
	if budgetIn(&apierrors.StatusError{ErrStatus: metav1.Status{Code: http.StatusTooManyRequests}}) != "" || budgetIn(refused("The disruption budget <script> needs")) != "" {
		t.Error("what is no name names no budget")
	}
}
