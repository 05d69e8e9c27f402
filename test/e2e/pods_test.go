//go:build e2e

package e2e

import (
	"context"
	"slices"
	"sync"
	"time"

	. "github.com/onsi/ginkgo/v2"
	. "github.com/onsi/gomega"
	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/client-go/informers"
	"k8s.io/client-go/tools/cache"

	"github.com/raytls/raytls/internal/injection"
	"github.com/raytls/raytls/test/live"
)

// podRecord is what was seen of one pod. Times are when this process was told, since those in the API are whole seconds.
type podRecord struct {
	pod         corev1.Pod
	added, gone time.Time
	ready       time.Time
}

func (r podRecord) group() string {
	if r.pod.Labels["ray.io/node-type"] == "head" {
		return "head"
	}
	return r.pod.Labels["ray.io/group"]
}

func (r podRecord) cluster() string { return r.pod.Labels["ray.io/cluster"] }

func (r podRecord) cleanup() bool { return r.pod.Labels["ray.io/node-type"] == "redis-cleanup" }

func (r podRecord) injected() bool { return initContainer(&r.pod) != nil }

func (r podRecord) isReady() bool { return !r.ready.IsZero() }

func (r podRecord) live() bool { return r.gone.IsZero() && r.pod.DeletionTimestamp == nil }

// restarts counts over all containers.
func (r podRecord) restarts() int {
	n := 0
	for _, status := range slices.Concat(r.pod.Status.InitContainerStatuses, r.pod.Status.ContainerStatuses) {
		n += int(status.RestartCount)
	}
	return n
}

func initContainer(pod *corev1.Pod) *corev1.Container {
	for i := range pod.Spec.InitContainers {
		if pod.Spec.InitContainers[i].Name == injection.InitContainerName {
			return &pod.Spec.InitContainers[i]
		}
	}
	return nil
}

func initStatus(pod *corev1.Pod, name string) *corev1.ContainerStatus {
	for i := range pod.Status.InitContainerStatuses {
		if pod.Status.InitContainerStatuses[i].Name == name {
			return &pod.Status.InitContainerStatuses[i]
		}
	}
	return nil
}

// recorder remembers every pod that a namespace ever had.
type recorder struct {
	mu   sync.Mutex
	pods map[types.UID]*podRecord
}

// record watches the pods of a namespace until ctx ends.
func record(ctx context.Context, namespace string) *recorder {
	GinkgoHelper()
	r := &recorder{pods: map[types.UID]*podRecord{}}
	factory := informers.NewSharedInformerFactoryWithOptions(target.Clients, 0, informers.WithNamespace(namespace))
	informer := factory.Core().V1().Pods().Informer()
	_, err := informer.AddEventHandler(cache.ResourceEventHandlerFuncs{
		AddFunc:    func(o any) { r.see(o, false) },
		UpdateFunc: func(_, o any) { r.see(o, false) },
		DeleteFunc: func(o any) { r.see(o, true) },
	})
	Expect(err).NotTo(HaveOccurred())
	factory.Start(ctx.Done())
	Expect(cache.WaitForCacheSync(ctx.Done(), informer.HasSynced)).To(BeTrue())
	return r
}

func (r *recorder) see(o any, gone bool) {
	if last, ok := o.(cache.DeletedFinalStateUnknown); ok {
		o = last.Obj
	}
	pod, ok := o.(*corev1.Pod)
	if !ok {
		return
	}
	now := time.Now()
	r.mu.Lock()
	defer r.mu.Unlock()
	known := r.pods[pod.UID]
	if known == nil {
		known = &podRecord{added: now}
		r.pods[pod.UID] = known
	}
	known.pod = *pod.DeepCopy()
	switch {
	case gone:
		known.gone = now
	case live.IsReady(pod) && known.ready.IsZero():
		known.ready = now
	case !live.IsReady(pod):
		known.ready = time.Time{}
	}
}

// all are the pods of the cluster that were ever seen, oldest first.
func (r *recorder) all(cluster string, keep ...func(podRecord) bool) []podRecord {
	r.mu.Lock()
	defer r.mu.Unlock()
	var out []podRecord
	for _, p := range r.pods {
		if p.cluster() != cluster || slices.ContainsFunc(keep, func(k func(podRecord) bool) bool { return !k(*p) }) {
			continue
		}
		out = append(out, *p)
	}
	slices.SortFunc(out, func(a, b podRecord) int { return a.added.Compare(b.added) })
	return out
}

// live are the cluster's pods that stay.
func (r *recorder) live(cluster string, keep ...func(podRecord) bool) []podRecord {
	return r.all(cluster, append(keep, podRecord.live)...)
}

// there are the cluster's pods that are not gone.
func (r *recorder) there(cluster string) []podRecord {
	return r.all(cluster, func(p podRecord) bool { return p.gone.IsZero() })
}

// counts says how many pods each group ever had.
func (r *recorder) counts(cluster string) map[string]int {
	out := map[string]int{}
	for _, p := range r.all(cluster) {
		out[p.group()]++
	}
	return out
}

func (r *recorder) uids(cluster string) []types.UID {
	var out []types.UID
	for _, p := range r.live(cluster) {
		out = append(out, p.pod.UID)
	}
	slices.Sort(out)
	return out
}

func isHead(p podRecord) bool { return p.group() == "head" }

func isWorker(p podRecord) bool { return !isHead(p) && !p.cleanup() }

func plaintext(p podRecord) bool { return !p.injected() }

func containsUID(uids []types.UID, uid types.UID) bool { return slices.Contains(uids, uid) }
