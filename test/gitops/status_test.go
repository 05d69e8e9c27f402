package gitops_test

import (
	"context"
	"errors"
	"fmt"
	"reflect"
	"strings"
	"testing"
	"time"

	"github.com/fluxcd/cli-utils/pkg/kstatus/polling"
	"github.com/fluxcd/cli-utils/pkg/kstatus/polling/engine"
	"github.com/fluxcd/cli-utils/pkg/kstatus/status"
	"github.com/fluxcd/cli-utils/pkg/object"
	"github.com/fluxcd/pkg/runtime/cel"
	"github.com/fluxcd/pkg/ssa"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/apimachinery/pkg/watch"
	"sigs.k8s.io/controller-runtime/pkg/client"
)

// watchStatus notes every status that the namespace's policies are ever given. What it returns ends that, and sees that
// each of them speaks of the generation that was there, in the status and in every condition of it.
func (w *world) watchStatus() func() {
	w.t.Helper()
	list := &unstructured.UnstructuredList{}
	list.SetGroupVersionKind(policyKind)
	ctx, cancel := context.WithCancel(w.ctx)
	events, err := w.c.Watch(ctx, list, client.InNamespace(w.ns))
	w.must(err)
	ended := make(chan []error)
	go func() { ended <- inspect(events) }()
	return func() {
		w.t.Helper()
		w.settles()
		cancel()
		if err := errors.Join(<-ended...); err != nil {
			w.t.Error(err)
		}
	}
}

func inspect(events watch.Interface) (problems []error) {
	last, count := map[string]any{}, 0
	for event := range events.ResultChan() {
		policy, ok := event.Object.(*unstructured.Unstructured)
		if !ok || event.Type == watch.Deleted {
			continue
		}
		now := policy.Object["status"]
		if now == nil || reflect.DeepEqual(now, last[policy.GetName()]) {
			continue // the spec or the metadata was written
		}
		last[policy.GetName()] = now
		count++
		problems = append(problems, conformance(policy)...)
	}
	if count == 0 {
		problems = append(problems, errors.New("no policy was ever given a status"))
	}
	return problems
}

// conformance is what kstatus and people rely on.
func conformance(policy *unstructured.Unstructured) (problems []error) {
	generation := policy.GetGeneration()
	if got := at(policy, "status", "observedGeneration"); got != generation {
		problems = append(problems, fmt.Errorf("a status of generation %v was written to generation %d", got, generation))
	}
	conditions, _ := at(policy, "status", "conditions").([]any)
	seen := map[any]bool{}
	for _, c := range conditions {
		fields, _ := c.(map[string]any)
		seen[fields["type"]] = true
		if fields["observedGeneration"] != generation {
			problems = append(problems, fmt.Errorf("the condition %v of generation %v was written to generation %d", fields["type"], fields["observedGeneration"], generation))
		}
		for _, field := range []string{"status", "reason", "message", "lastTransitionTime"} {
			if text, _ := fields[field].(string); text == "" {
				problems = append(problems, fmt.Errorf("the condition %v has no %s", fields["type"], field))
			}
		}
	}
	for _, kind := range []string{"Accepted", "Ready", "UpToDate", "AdmissionActive", "Stalled"} {
		if !seen[kind] {
			problems = append(problems, fmt.Errorf("a status without the condition %s", kind))
		}
	}
	return problems
}

func kstatus(t *testing.T, policy *unstructured.Unstructured) status.Status {
	t.Helper()
	result, err := status.Compute(policy)
	if err != nil {
		t.Fatal(err)
	}
	return result.Status
}

// What kstatus makes of a policy in each of its states, and what the health checks of docs/tasks/gitops.md make of it.
func TestHealthOfPolicies(t *testing.T) {
	flux, argo := documentedChecks(t)
	health := func(w *world, reason, condition string, kind string, kstatusWants status.Status, fluxWants status.Status, argoWants string) {
		w.t.Helper()
		w.says("sample", kind, condition)
		policy := w.get(policyKind, "sample")
		if got := kstatus(w.t, policy); got != kstatusWants {
			w.t.Errorf("%s: kstatus says %s, not %s", reason, got, kstatusWants)
		}
		if got := flux.evaluate(policy); got != fluxWants {
			w.t.Errorf("%s: Flux with its health check says %s, not %s", reason, got, fluxWants)
		}
		if got := argo.evaluate(w.t, policy); got != argoWants {
			w.t.Errorf("%s: Argo CD with its health check says %s, not %s", reason, got, argoWants)
		}
	}
	w := newWorld(t)
	seen := w.watchStatus()
	policy, cluster := w.manifest("selector.yaml"), w.cluster()

	w.applies(cluster)
	w.eventually("the cluster runs in plaintext", func() error { return w.ray.up(w.ctx, "sample") })
	w.applies(policy)
	health(w, "a policy that waits for an approval is no failure, though kstatus waits for ever", "False/AwaitingApproval", "Ready", status.InProgressStatus, status.CurrentStatus, "Healthy")

	brought := w.manifest("selector.yaml", set("ca-tls", "spec", "certificateAuthority", "secretRef", "name"))
	w.applies(brought)
	health(w, "the Secret may come with the next apply", "False/CASecretNotFound", "Accepted", status.InProgressStatus, status.InProgressStatus, "Progressing")
	ca := &corev1.Secret{ObjectMeta: metav1.ObjectMeta{Namespace: w.ns, Name: "ca-tls"}, StringData: map[string]string{"ca.crt": "none", "ca.key": "none"}}
	w.must(w.c.Create(w.ctx, ca))
	health(w, "a Secret that nobody has allowed to be used is a failure", "False/CASecretNotLabelled", "Accepted", status.FailedStatus, status.FailedStatus, "Degraded")
	ca.Labels = map[string]string{"raytls.io/ca": "true"}
	w.must(w.c.Update(w.ctx, ca))
	health(w, "a policy that names no usable CA is a failure", "False/CASecretInvalid", "Accepted", status.FailedStatus, status.FailedStatus, "Degraded")

	w.applies(policy)
	health(w, "mended, it is in force", "True/Accepted", "Accepted", status.InProgressStatus, status.CurrentStatus, "Healthy")
	w.says("sample", "Stalled", "False/NothingToDo")
	approved := policy.DeepCopy()
	w.approve(approved, "sample")
	w.applies(approved)
	w.encrypted("sample", "sample")
	health(w, "all is done", "True/Encrypted", "Ready", status.CurrentStatus, status.CurrentStatus, "Healthy")
	w.delete(clusterKind, "sample")
	health(w, "nothing is covered, so nothing is in plaintext", "True/NoClusters", "Ready", status.CurrentStatus, status.CurrentStatus, "Healthy")
	seen()
}

// The checks must not take an old answer for a new one, nor no answer for any.
func TestHealthOfAPolicyThatNobodyHasLookedAt(t *testing.T) {
	flux, argo := documentedChecks(t)
	because := func(generation int64, reason string, statuses ...string) any {
		var conditions []any
		for i, status := range statuses {
			conditions = append(conditions, map[string]any{
				"type": []string{"Accepted", "Stalled"}[i], "status": status, "reason": reason, "message": "m", "observedGeneration": generation,
			})
		}
		return map[string]any{"observedGeneration": generation, "conditions": conditions}
	}
	accepted := func(generation int64, statuses ...string) any { return because(generation, "R", statuses...) }
	for name, c := range map[string]struct {
		reason string
		status any
		flux   status.Status
		argo   string
	}{
		"none":          {"the operator has not seen it yet, or does not run", nil, status.UnknownStatus, "Progressing"},
		"empty":         {"as above", map[string]any{}, status.InProgressStatus, "Progressing"},
		"no conditions": {"as above", map[string]any{"observedGeneration": int64(2)}, status.InProgressStatus, "Progressing"},
		"old, good":     {"what was said of the spec before says nothing of this one", accepted(1, "True"), status.InProgressStatus, "Progressing"},
		"old, bad":      {"as above", accepted(1, "False"), status.InProgressStatus, "Progressing"},
		"good":          {"it is in force", accepted(2, "True"), status.CurrentStatus, "Healthy"},
		"bad":           {"it is refused", accepted(2, "False"), status.FailedStatus, "Degraded"},
		"stalled":       {"a cluster can go no further", accepted(2, "True", "True"), status.FailedStatus, "Degraded"},
		"not stalled":   {"clusters go on", accepted(2, "True", "False"), status.CurrentStatus, "Healthy"},
		"no CA":         {"the Secret may come with the next apply", because(2, "CASecretNotFound", "False", "False"), status.InProgressStatus, "Progressing"},
		"no kind":       {"KubeRay's CRD may come with the next apply", because(2, "TargetKindNotServed", "False", "False"), status.InProgressStatus, "Progressing"},
	} {
		t.Run(name, func(t *testing.T) {
			policy := &unstructured.Unstructured{Object: map[string]any{"metadata": map[string]any{"name": "p", "generation": int64(2)}}}
			policy.SetGroupVersionKind(policyKind)
			if c.status != nil {
				policy.Object["status"] = c.status
			}
			if got := flux.evaluate(policy); got != c.flux {
				t.Errorf("%s: Flux says %s, not %s", c.reason, got, c.flux)
			}
			if got := argo.evaluate(t, policy); got != c.argo {
				t.Errorf("%s: Argo CD says %s, not %s", c.reason, got, c.argo)
			}
		})
	}
}

// Flux waits for what it applied by the documented checks, objects without any status included.
func TestFluxWaits(t *testing.T) {
	w := newWorld(t)
	reader, err := cel.NewStatusReader(documentedExpressions(t))
	w.must(err)
	poller := polling.NewStatusPoller(w.c, w.c.RESTMapper(), polling.Options{CustomStatusReaders: []engine.StatusReader{reader(w.c.RESTMapper())}})
	flux := ssa.NewResourceManager(w.c, poller, ssa.Owner{Field: fluxManager, Group: "kustomize.toolkit.fluxcd.io"})
	wait := func(timeout time.Duration, manifests ...*unstructured.Unstructured) error {
		set := object.UnstructuredSetToObjMetadataSet(w.commit(manifests...))
		return flux.WaitForSet(set, ssa.WaitOptions{Interval: 100 * time.Millisecond, Timeout: timeout, FailFast: true})
	}
	policy, cluster := w.manifest("selector.yaml"), w.cluster()
	w.ray.away = true
	w.applies(policy, cluster)
	w.must(wait(patience, policy))
	if err := wait(time.Second, policy, cluster); err == nil || !strings.Contains(err.Error(), "timeout") {
		t.Errorf("a cluster without pods is not waited for: %v", err)
	}
	w.ray.away = false
	w.encrypted("sample", "sample")
	w.must(wait(patience, policy, cluster))
	w.must(w.c.Patch(w.ctx, w.get(clusterKind, "sample"), client.RawPatch(types.MergePatchType, []byte(`{"spec":{"suspend":true}}`))))
	w.eventually("KubeRay has seen it", func() error { return wait(time.Second, cluster) })
}
