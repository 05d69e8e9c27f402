//go:build hostile

package hostile

import (
	"context"
	"fmt"
	"strings"
	"sync"
	"testing"
	"text/tabwriter"
	"time"

	appsv1 "k8s.io/api/apps/v1"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/util/wait"
	"sigs.k8s.io/controller-runtime/pkg/client"
)

const (
	// dozen is how many large clusters are stored, each in a namespace of its own, and burst how many are created at once.
	dozen, burst = 12, 8
	// watched is how long memory is watched. Kubelets look at it every ten seconds.
	watched = time.Minute
)

// large is a RayCluster of 1.3 MB that takes thirty times as much memory, in small objects.
func large(namespace string) *unstructured.Unstructured {
	out := small(namespace, "large")
	tolerations := make([]any, 110_000)
	for n := range tolerations {
		tolerations[n] = object{"key": "a"}
	}
	out.Object["spec"].(object)["headGroupSpec"].(object)["template"].(object)["spec"].(object)["tolerations"] = tolerations
	return out
}

// Caches read everything that is stored when a process starts, whatever admission said to it.
func TestARestartReadsWhatIsStored(t *testing.T) {
	w := connect(t)
	for n := range dozen {
		namespace := fmt.Sprint("raytls-hostile-stored-", n)
		if err := w.prepare(namespace, true).Create(t.Context(), large(namespace)); err != nil {
			t.Fatal(err)
		}
	}
	w.whileWatched(func(ctx context.Context) {
		w.restart(ctx)
		select {
		case <-ctx.Done():
		case <-time.After(watched):
		}
	})
	w.report(fmt.Sprintf("restarted with %d stored RayClusters of 1.3 MB", dozen), nil)
}

func TestLargeCreationsAtOnce(t *testing.T) {
	w := connect(t)
	before := w.operator(t.Context())
	const namespace = "raytls-hostile-burst"
	api := w.prepare(namespace, true)
	rounds := 0
	w.whileWatched(func(ctx context.Context) {
		for began := time.Now(); time.Since(began) < watched; rounds++ {
			var sending sync.WaitGroup
			for range burst {
				sending.Go(func() { w.count(ctx, namespace, api.Create(ctx, large(namespace), client.DryRunAll)) })
			}
			sending.Wait()
		}
	})
	sent := w.sent[namespace]
	w.report(fmt.Sprintf("%d times %d creations of 1.3 MB at once, %d accepted and %d refused", rounds, burst, sent.accepted, sent.refused), before)
}

// whileWatched does something while the operator's memory is watched.
func (w *world) whileWatched(do func(context.Context)) {
	ctx, cancel := context.WithCancel(w.t.Context())
	var watching sync.WaitGroup
	watching.Go(func() { w.watchMemory(ctx) })
	defer watching.Wait()
	defer cancel()
	do(ctx)
}

// report prints what the operator's pods took, and fails the test where that was too much.
func (w *world) report(what string, before map[string]corev1.Pod) {
	w.t.Helper()
	var out strings.Builder
	table := tabwriter.NewWriter(&out, 0, 0, 2, ' ', 0)
	fmt.Fprintln(table, what)
	after := w.operator(w.t.Context())
	w.mu.Lock()
	defer w.mu.Unlock()
	w.judgePods(table, before, after)
	if err := table.Flush(); err != nil {
		w.t.Error(err)
	}
	w.t.Log("\n" + out.String())
}

// restart restarts the controller and the webhook, as kubectl rollout restart does, and waits until all their pods are new and ready.
func (w *world) restart(ctx context.Context) {
	w.t.Helper()
	for _, deployment := range w.deployments(ctx) {
		patch := client.MergeFrom(deployment.DeepCopy())
		metav1.SetMetaDataAnnotation(&deployment.Spec.Template.ObjectMeta, "kubectl.kubernetes.io/restartedAt", time.Now().Format(time.RFC3339))
		if err := w.api.Patch(ctx, &deployment, patch); err != nil {
			w.t.Fatal(err)
		}
	}
	err := wait.PollUntilContextTimeout(ctx, time.Second, 5*time.Minute, true, func(ctx context.Context) (bool, error) {
		for _, d := range w.deployments(ctx) {
			want := *d.Spec.Replicas
			if d.Status.ObservedGeneration < d.Generation || d.Status.UpdatedReplicas != want || d.Status.Replicas != want || d.Status.AvailableReplicas != want {
				return false, nil
			}
		}
		return true, nil
	})
	if err != nil {
		w.t.Errorf("the operator's pods do not all become ready: %v", err)
	}
}

// deployments are those of the operator.
func (w *world) deployments(ctx context.Context) []appsv1.Deployment {
	w.t.Helper()
	var list appsv1.DeploymentList
	if err := w.api.List(ctx, &list, client.InNamespace(operatorNamespace), client.MatchingLabels{"app.kubernetes.io/name": "raytls"}); err != nil {
		w.t.Fatal(err)
	}
	if len(list.Items) == 0 {
		w.t.Fatalf("the operator is not installed in %s", operatorNamespace)
	}
	return list.Items
}
