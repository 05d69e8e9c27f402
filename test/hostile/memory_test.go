//go:build hostile

package hostile

import (
	"context"
	"fmt"
	"maps"
	"regexp"
	"slices"
	"strconv"
	"text/tabwriter"
	"time"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
)

// watchMemory asks the kubelets every five seconds what the operator's pods take.
func (w *world) watchMemory(ctx context.Context) {
	nodes, err := w.kube.CoreV1().Nodes().List(ctx, metav1.ListOptions{})
	if err != nil {
		w.t.Errorf("listing nodes: %v", err)
		return
	}
	tick := time.NewTicker(5 * time.Second)
	defer tick.Stop()
	for {
		for i := range nodes.Items {
			node := nodes.Items[i].Name
			if err := w.readMemory(ctx, node); err != nil && ctx.Err() == nil {
				w.t.Errorf("asking the kubelet of node %s for memory: %v", node, err)
				return
			}
		}
		select {
		case <-ctx.Done():
			return
		case <-tick.C:
		}
	}
}

func (w *world) readMemory(ctx context.Context, node string) error {
	text, err := w.kube.CoreV1().RESTClient().Get().Resource("nodes").Name(node).SubResource("proxy").Suffix("metrics/resource").DoRaw(ctx)
	if err != nil {
		return err
	}
	w.mu.Lock()
	defer w.mu.Unlock()
	for _, found := range workingSet.FindAllStringSubmatch(string(text), -1) {
		bytes, err := strconv.ParseFloat(found[3], 64)
		if err != nil {
			return err
		}
		if found[1] == operatorNamespace {
			w.memory[found[2]] = max(w.memory[found[2]], uint64(bytes))
		}
	}
	return nil
}

var workingSet = regexp.MustCompile(`(?m)^container_memory_working_set_bytes\{.*namespace="([^"]*)",pod="([^"]*)"\} ([^ ]+)`)

// judgePods prints what the operator's pods took, and fails the test where that was too much. Of the pods before there is none if
// the test restarted the operator.
func (w *world) judgePods(table *tabwriter.Writer, before, after map[string]corev1.Pod) {
	fmt.Fprintln(table, "\npod of the operator\tmemory\tlimit\trestarts")
	for _, name := range slices.Sorted(maps.Keys(after)) {
		pod := after[name]
		limit, restarts := memoryLimit(&pod), restartsOf(&pod)
		fmt.Fprintf(table, "%s\t%d MiB\t%d MiB\t%d\n", name, w.memory[name]>>20, limit>>20, restarts)
		old, known := before[name]
		switch {
		case !known && before != nil:
			w.t.Errorf("pod %s is new, so one of the operator's pods was lost", name)
		case restarts != restartsOf(&old):
			w.t.Errorf("pod %s was restarted", name)
		case w.memory[name] == 0:
			w.t.Errorf("nothing is known of the memory of pod %s", name)
		case limit > 0 && w.memory[name] >= limit:
			w.t.Errorf("pod %s took all of its memory", name)
		}
	}
}

// memoryLimit is that of the operator's container in bytes; zero for none.
func memoryLimit(pod *corev1.Pod) uint64 {
	return uint64(max(0, pod.Spec.Containers[0].Resources.Limits.Memory().Value()))
}

func restartsOf(pod *corev1.Pod) int32 {
	restarts := int32(0)
	for i := range pod.Status.ContainerStatuses {
		restarts += pod.Status.ContainerStatuses[i].RestartCount
	}
	return restarts
}
