//go:build hostile

package hostile

import (
	"context"
	"regexp"
	"strconv"
	"time"

	corev1 "k8s.io/api/core/v1"
)

// watchMemory asks the kubelets every five seconds what the operator's pods take.
func (w *world) watchMemory(ctx context.Context, pods map[string]corev1.Pod) {
	nodes := map[string]bool{}
	for _, pod := range pods {
		nodes[pod.Spec.NodeName] = true
	}
	tick := time.NewTicker(5 * time.Second)
	defer tick.Stop()
	for {
		for node := range nodes {
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
