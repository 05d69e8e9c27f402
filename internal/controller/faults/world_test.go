package faults_test

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"slices"
	"testing"
	"time"

	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/raytls/raytls/api/v1alpha1"
	"github.com/raytls/raytls/internal/kuberay"
	"github.com/raytls/raytls/internal/timescale"
)

// world is a RayCluster with KubeRay, a kubelet and users around it.
type world struct {
	api    *apiServer
	kinds  *kuberay.Kinds
	serial int
	// ready is how many pods are, and rested how much was written when KubeRay and the kubelet had nothing left to do.
	ready, rested int
	// quiet counts the steps since the last one that wrote something.
	quiet int
	// identities are what pods present and trust, by UID, and verified the pairs that hold.
	identities map[string]*identity
	verified   map[[2]string]bool
	// parted reports whether pods of two authorities are not to talk.
	parted bool
	// scale is how long days are.
	scale timescale.Scale
	// restarts is how often the operator restarted each place.
	restarts map[string]int
}

func newWorld(now time.Time, objects ...client.Object) *world {
	return &world{
		api: newAPIServer(now, objects), kinds: &kuberay.Kinds{}, identities: map[string]*identity{}, verified: map[[2]string]bool{}, restarts: map[string]int{},
	}
}

// clone is the same world, in which something else may happen.
func (w *world) clone() *world {
	out := newWorld(w.now(), w.api.objects()...)
	out.api.admits, out.parted = w.api.admits, w.parted
	out.serial, out.identities = w.serial, maps.Clone(w.identities)
	return out
}

func (w *world) now() time.Time { return w.api.clock.Now() }

func (w *world) pass(d time.Duration) { w.api.clock.SetTime(w.now().Add(d)) }

// step has KubeRay and the kubelet do what there is to do, and then the operators.
func (w *world) step(ctx context.Context, operators ...*operator) error {
	before := w.api.writes
	if before != w.rested {
		if err := errors.Join(w.kubelet(ctx), w.kubeRay(ctx), w.pairs(ctx)); err != nil {
			return err
		}
		if w.rested = -1; w.ready == 3 && w.api.writes == before {
			w.rested = before
		}
	}
	for range 50 {
		again := false
		for _, o := range operators {
			looked, err := o.reconcile(ctx)
			if err != nil {
				return err
			}
			again = again || looked
		}
		if !again {
			if w.quiet++; w.api.writes != before {
				w.quiet = 0
			}
			return nil
		}
	}
	return errors.New("the operator acts without end")
}

// patience is how many quiet steps last a second each. Later ones last longer.
const patience = 6

// settle lets time pass until it is done and nothing happens any more.
func (w *world) settle(ctx context.Context, done func() bool, operators ...*operator) error {
	w.quiet = 0
	for end := w.now().Add(6 * time.Hour); w.now().Before(end); w.pass(w.stride(10*time.Minute, operators...)) {
		if err := w.step(ctx, operators...); err != nil {
			return err
		}
		if w.quiet > patience && done() {
			return nil
		}
	}
	return errors.New("it is not done within hours")
}

// stride is how far the clock goes forward. After many quiet steps it goes to where an operator looks again, but not further than most.
func (w *world) stride(most time.Duration, operators ...*operator) time.Duration {
	if w.quiet <= patience {
		return time.Second
	}
	for _, o := range operators {
		if next := o.nextLook(); !next.IsZero() {
			most = min(most, max(time.Second, next.Sub(w.now())))
		}
	}
	return most
}

func (w *world) get(t testing.TB, name string, into client.Object) bool {
	t.Helper()
	err := w.api.Get(t.Context(), client.ObjectKey{Namespace: namespace, Name: name}, into)
	if err != nil && !apierrors.IsNotFound(err) {
		t.Fatal(err)
	}
	return err == nil
}

func (w *world) status(t testing.TB) v1alpha1.RayClusterTLSStatus {
	t.Helper()
	var tls v1alpha1.RayClusterTLS
	w.get(t, "train", &tls)
	return tls.Status
}

// state is how everything ended, without what may differ: names, times, numbers of versions and keys.
func (w *world) state(t testing.TB) string {
	t.Helper()
	out := map[string]any{"restarts": w.restarts}
	var names []string
	for _, secret := range list[*corev1.Secret](t, w.api, &corev1.SecretList{}) {
		names = append(names, fmt.Sprintf("Secret %s/%s with %v", secret.Namespace, secret.Name, slices.Sorted(maps.Keys(secret.Data))))
	}
	for _, scripts := range list[*corev1.ConfigMap](t, w.api, &corev1.ConfigMapList{}) {
		names = append(names, "ConfigMap "+scripts.Name)
	}
	for _, policy := range list[*v1alpha1.RayTLSPolicy](t, w.api, &v1alpha1.RayTLSPolicyList{}) {
		names = append(names, fmt.Sprintf("policy %s: %s", policy.Name, conditionsOf(policy.Status.Conditions)))
	}
	out["objects"] = names
	for _, cluster := range list[*unstructured.Unstructured](t, w.api, kuberay.NewRayClusterList()) {
		out["cluster"], out["annotations"] = cluster.Object["spec"], cluster.GetAnnotations()
	}
	var pods []string
	for _, pod := range list[*corev1.Pod](t, w.api, &corev1.PodList{}) {
		pods = append(pods, fmt.Sprintf("%s injected %t certified %t ready %t", pod.Labels[labelPlace], isInjected(pod), w.identities[string(pod.UID)] != nil, isReady(pod)))
	}
	slices.Sort(pods)
	out["pods"] = pods
	status := w.status(t)
	groups := slices.Sorted(slices.Values(status.Injection.Groups))
	for i := range status.Injection.Templates {
		status.Injection.Templates[i].ChangedTime = metav1.Time{}
	}
	out["status"] = []any{
		status.Injection.Templates, len(status.Injection.RestoredTimes), status.Injection.Since != nil, status.Injection.LastAttemptTime != nil,
		conditionsOf(status.Conditions), status.Injection.Revision, groups, status.Injection.FailedHash, status.Rollout, status.PendingRestart, status.Pods,
		status.Authority.Generation, len(status.Authority.Earlier), status.RefusedEvictions, status.PodCertificate.WorkerHash,
	}
	text, err := json.MarshalIndent(out, "", " ")
	if err != nil {
		t.Fatal(err)
	}
	return string(text)
}

func conditionsOf(conditions []metav1.Condition) string {
	var out []string
	for _, c := range conditions {
		out = append(out, fmt.Sprintf("%s=%s/%s", c.Type, c.Status, c.Reason))
	}
	slices.Sort(out)
	return fmt.Sprint(out)
}
