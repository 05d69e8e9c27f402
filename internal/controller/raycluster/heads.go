package raycluster

import (
	"context"
	"slices"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/client-go/util/workqueue"
	"k8s.io/utils/clock"
	"sigs.k8s.io/controller-runtime/pkg/client"
	"sigs.k8s.io/controller-runtime/pkg/reconcile"

	"github.com/raytls/raytls/internal/probe"
)

// NewHeads makes the prober of the clusters' heads. live reads past caches.
func NewHeads(dial probe.Dial, now clock.PassiveClock, live client.Reader) *probe.Prober {
	return probe.NewProber(dial, now, func(ctx context.Context, target probe.Target) bool {
		var pod corev1.Pod
		if err := live.Get(ctx, types.NamespacedName{Namespace: target.Cluster.Namespace, Name: target.PodName}, &pod); err != nil {
			return false
		}
		address, err := probe.Address(&pod)
		ended := slices.Contains([]corev1.PodPhase{corev1.PodSucceeded, corev1.PodFailed}, pod.Status.Phase)
		return err == nil && !ended && pod.UID == target.PodUID && address == target.Address.Addr()
	})
}

// observeHeads is a source of requests: it observes heads until ctx ends, and enqueues the cluster of each that was observed.
func (r *Reconciler) observeHeads(ctx context.Context, queue workqueue.TypedRateLimitingInterface[reconcile.Request]) error {
	go r.Heads.Run(ctx, func(cluster types.NamespacedName) { queue.Add(reconcile.Request{NamespacedName: cluster}) })
	return nil
}

// observeHead asks for a handshake with the head where one is due. Nothing waits for it.
func (a *application) observeHead() {
	wire := &a.facts.Wire
	if wire.Target == nil {
		return
	}
	if a.facts.Now.Before(wire.Due) {
		a.requeueAt(wire.Due)
		return
	}
	a.Heads.Ask(*wire.Target)
}
