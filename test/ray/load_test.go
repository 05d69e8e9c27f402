//go:build ray

package ray

import (
	"context"
	"encoding/json"
	"fmt"
	"slices"
	"strings"
	"sync"
	"time"

	. "github.com/onsi/ginkgo/v2"
	. "github.com/onsi/gomega"
	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/apimachinery/pkg/util/rand"

	"github.com/raytls/raytls/test/live"
)

// load has a driver on every worker of a cluster call all workers each second. It also keeps the history of the cluster's pods.
type load struct {
	n       *namespace
	cluster string
	// enough is the file that ends the drivers.
	enough string

	driving sync.WaitGroup
	mu      sync.Mutex
	// pods are all that were there, and said is what the driver on each printed.
	pods map[types.UID]*life
	said map[types.UID]live.Result
}

// life is what was seen of a pod.
type life struct {
	name, ip, nodeType string
	created, ready     time.Time
	// asked is when somebody asked for its deletion; zero for a pod that stays.
	asked   time.Time
	driving bool
}

// call is one of a driver's calls, as specs/calls.py prints it.
type call struct {
	To, What    string
	Began, Took float64
	Problem     string
}

func (c call) ended() time.Time {
	return time.UnixMilli(int64(1000 * (c.Began + c.Took)))
}

func (n *namespace) load(cluster string) *load {
	return &load{n: n, cluster: cluster, enough: "/tmp/raytls-enough-" + rand.String(5), pods: map[types.UID]*life{}, said: map[types.UID]live.Result{}}
}

// watch notes what became of the pods, and starts a driver on each worker that has become Ready.
func (l *load) watch(ctx context.Context) {
	GinkgoHelper()
	pods, err := l.n.find(ctx, l.cluster, "")
	Expect(err).NotTo(HaveOccurred())
	gone := map[types.UID]bool{}
	for uid := range l.pods {
		gone[uid] = true
	}
	for i := range pods {
		pod := &pods[i]
		delete(gone, pod.UID)
		seen := l.pods[pod.UID]
		if seen == nil {
			seen = &life{name: pod.Name, nodeType: pod.Labels["ray.io/node-type"], created: pod.CreationTimestamp.Time}
			l.pods[pod.UID] = seen
		}
		if pod.Status.PodIP != "" {
			seen.ip = pod.Status.PodIP
		}
		if seen.asked.IsZero() && pod.DeletionTimestamp != nil {
			seen.asked = pod.DeletionTimestamp.Add(-time.Duration(*pod.DeletionGracePeriodSeconds) * time.Second)
		}
		if seen.ready.IsZero() && isReady(pod) {
			seen.ready = time.Now()
		}
		if seen.nodeType == "worker" && isReady(pod) && !seen.driving {
			seen.driving = true
			l.drive(ctx, pod)
		}
	}
	for uid := range gone {
		if seen := l.pods[uid]; seen.asked.IsZero() {
			seen.asked = time.Now().Add(-leastGrace)
		}
	}
}

// leastGrace is how long ago the deletion of a pod was asked for that nobody saw ending.
const leastGrace = 5 * time.Second

// drive starts a driver on a pod. The driver goes on until the pod ends, or until stop, and outlives the node that started it.
func (l *load) drive(ctx context.Context, pod *corev1.Pod) {
	ctx = context.WithoutCancel(ctx)
	uid := pod.UID
	pod = pod.DeepCopy()
	l.driving.Go(func() {
		defer GinkgoRecover()
		said, err := l.n.python(ctx, pod, "calls.py", l.enough)
		if err != nil {
			said.Stderr += err.Error()
		}
		l.mu.Lock()
		defer l.mu.Unlock()
		l.said[uid] = said
	})
}

// stop ends the drivers.
func (l *load) stop(ctx context.Context) {
	GinkgoHelper()
	for _, pod := range l.n.workers(ctx, l.cluster) {
		ended, err := l.n.sh(ctx, &pod, "touch "+l.enough)
		Expect(err).NotTo(HaveOccurred())
		Expect(ended.Code).To(BeZero(), ended.Output())
	}
	l.driving.Wait()
}

// judge asserts that no call failed but those to a pod whose deletion had been asked for, and those of a driver on such a pod. It
// reports how many calls there were.
func (l *load) judge() {
	GinkgoHelper()
	// Addresses are used again, so a call was to the pod that was the last to be created before it ended.
	asked := func(c call) time.Time {
		var called *life
		for _, pod := range l.pods {
			if pod.ip == c.To && pod.created.Before(c.ended()) && (called == nil || pod.created.After(called.created)) {
				called = pod
			}
		}
		if called == nil {
			return time.Time{}
		}
		return called.asked
	}
	over := func(at time.Time, c call) bool { return !at.IsZero() && c.ended().After(at) }
	well, excused, longest, wrong := 0, 0, 0.0, []string{}
	for uid, said := range l.said {
		from := l.pods[uid]
		calls := 0
		for line := range strings.Lines(said.Stdout) {
			var c call
			if json.Unmarshal([]byte(line), &c) != nil {
				continue // the last line of a pod that ended
			}
			calls++
			switch {
			case c.Problem == "":
				well++
				longest = max(longest, c.Took)
			case over(from.asked, c) || over(asked(c), c):
				excused++
			default:
				wrong = append(wrong, fmt.Sprintf("%s: %s from %s to %s after %.1f s: %s", c.ended().Format(time.TimeOnly), c.What, from.name, c.To, c.Took, c.Problem))
			}
		}
		if from.asked.IsZero() {
			Expect(said.Code).To(BeZero(), "the driver on %s: %s", from.name, said.Stderr)
		}
		Expect(calls).To(BeNumerically(">", 0), "calls of the driver on %s: %s", from.name, said.Output())
	}
	slices.Sort(wrong)
	AddReportEntry("calls", fmt.Sprintf("%d calls, the longest %.1f s; %d more failed on pods that were being restarted", well, longest, excused))
	Expect(wrong).To(BeEmpty())
}

// restarted asserts that each of so many pods was restarted once since then, and the head last.
func (l *load) restarted(since time.Time, pods int) {
	GinkgoHelper()
	var story []string
	var old, young, fresh int
	var head, lastWorker time.Time
	for _, pod := range l.pods {
		story = append(story, fmt.Sprintf("%s %s: created %s, ready %s, asked to end %s",
			pod.nodeType, pod.name, pod.created.Format(time.TimeOnly), pod.ready.Format(time.TimeOnly), pod.asked.Format(time.TimeOnly)))
		switch {
		case pod.created.Before(since) && pod.asked.After(since):
			old++
			if pod.nodeType == "head" {
				head = pod.asked
			} else if pod.asked.After(lastWorker) {
				lastWorker = pod.asked
			}
		case pod.created.After(since) && pod.asked.IsZero():
			young++
		case pod.created.After(since):
			fresh++
		}
	}
	slices.Sort(story)
	AddReportEntry("pods", strings.Join(story, "\n"))
	Expect(old).To(Equal(pods), "old pods that were evicted:\n%s", strings.Join(story, "\n"))
	Expect(young).To(Equal(pods), "new pods:\n%s", strings.Join(story, "\n"))
	Expect(fresh).To(BeZero(), "new pods that were restarted again:\n%s", strings.Join(story, "\n"))
	Expect(head).To(BeTemporally(">", lastWorker), "the head goes last:\n%s", strings.Join(story, "\n"))
}
