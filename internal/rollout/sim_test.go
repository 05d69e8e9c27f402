package rollout

import (
	"fmt"
	"slices"
	"strings"
	"time"
)

// What the init containers of a world's groups do.
const (
	succeeds = "succeeds"
	fails    = "fails"
	hangs    = "hangs"
)

// world is a RayCluster with KubeRay, kubelets and users around it, as far as the planner can tell them apart. Who acts
// when is the test's: nothing happens by itself.
type world struct {
	now time.Time

	// What the API server holds. cluster and pods are replaced, never changed in place, so that views can be kept.
	cluster simCluster
	pods    []simPod
	// What the operator's caches and KubeRay's cache of clusters show of it. They lag behind, but never go back.
	clusters []simCluster
	lists    [][]simPod
	seen     struct{ cluster, pods, kuberay int }

	// Who is told about changes, the operator is.
	dirty bool
	again time.Time

	// What is not in the cluster itself.
	goal      Goal
	immediate bool
	approval  string
	blocked   string
	noSlot    string
	service   *Service          // that made the cluster
	inits     map[string]string // by group; otherwise they succeed
	grace     time.Duration     // how long pods take to go
	period    time.Duration     // how long they may
	restamp   bool              // KubeRay was upgraded, and does not recreate for the next change

	serial int
	// restarts are the pods the operator deleted, injected or not, by UID.
	restarts map[string]simPod
	// touched says that the operator wrote or deleted.
	touched bool
	// certified says that a worker made a certificate in this attempt, eligible that one might have.
	certified, eligible bool
}

// simCluster is the RayCluster object: a value.
type simCluster struct {
	version   int // resourceVersion
	generated int // generation
	observed  int // status.observedGeneration
	templates []simTemplate
	suspend   bool
	// suspension is KubeRay's latch: "", "Suspending", "Suspended".
	suspension  string
	provisioned bool
	ready       int // any other field of the status
	recreate    bool
	queued      bool
	// The operator's annotations.
	progress, failed, because, approved string
	enabled                             bool
	restored                            []time.Time
	groups                              []string
}

type simTemplate struct {
	group    string
	injected bool
	stale    bool // injected, and edited since
	edition  int  // what the user wrote
	replicas int32
	key      string
}

type simPod struct {
	name, uid, group, slot  string
	injected                bool
	made                    string // what the init container does
	created, deadline, gone time.Time
	certified, ready        bool
	failure                 string
	terminating             bool
	hash                    string // of the spec, on heads
	owned                   bool
}

// newWorld is a cluster that was ready, with this many workers per group, seen by everybody.
func newWorld(workers ...int32) *world {
	w := &world{
		now: start(), goal: Encrypted, immediate: true, inits: map[string]string{}, grace: 2 * time.Second, period: 30 * time.Second,
		restarts: map[string]simPod{}, dirty: true,
	}
	c := simCluster{templates: []simTemplate{{key: "same"}}}
	for i, n := range workers {
		c.templates = append(c.templates, simTemplate{group: string(rune('a' + i)), replicas: n, key: "same"})
	}
	w.store(c, true)
	w.setPods([]simPod{{name: "stranger", uid: "stranger", group: "a", ready: true}}) // carries the labels and not the owner
	w.sync()
	return w
}

// running brings the cluster up.
func (w *world) running() *world {
	for range 100 {
		w.kuberay()
		w.now = w.now.Add(time.Second)
		w.kubelet()
		w.sync()
	}
	w.dirty = true
	return w
}

func (c simCluster) clone() simCluster {
	c.templates = slices.Clone(c.templates)
	c.restored, c.groups = slices.Clone(c.restored), slices.Clone(c.groups)
	return c
}

func (c simCluster) hash() string {
	var b strings.Builder
	for _, t := range c.templates {
		fmt.Fprint(&b, t.group, t.edition, t.injected, t.stale, ";")
	}
	return b.String()
}

// store is a write to the cluster; spec says that it changes more than metadata and status.
func (w *world) store(c simCluster, spec bool) {
	c.version++
	if spec {
		c.generated++
	}
	w.cluster = c
	w.clusters = append(w.clusters, c)
}

func (w *world) setPods(pods []simPod) {
	w.pods = pods
	w.lists = append(w.lists, pods)
}

// sync lets all caches catch up.
func (w *world) sync() {
	w.syncCluster(len(w.clusters) - 1)
	w.syncPods(len(w.lists) - 1)
	w.seen.kuberay = len(w.clusters) - 1
}

func (w *world) syncCluster(to int) {
	w.dirty = w.dirty || to > w.seen.cluster
	w.seen.cluster = max(w.seen.cluster, to)
}

func (w *world) syncPods(to int) {
	w.dirty = w.dirty || to > w.seen.pods
	w.seen.pods = max(w.seen.pods, to)
}

// due says whether something wakes the operator.
func (w *world) due() bool {
	return w.dirty || !w.again.IsZero() && !w.now.Before(w.again)
}

// snapshot is what the operator makes of its caches, as the controller does.
func (w *world) snapshot() *Snapshot {
	c := w.clusters[w.seen.cluster]
	progress, err := ParseProgress(c.progress)
	if err != nil {
		panic(err)
	}
	s := &Snapshot{
		Now: w.now, Goal: w.goal, Suspended: c.suspend, Provisioned: c.provisioned, Recreate: c.recreate,
		Observed: c.observed >= c.generated, Queued: c.queued, Immediate: w.immediate, NoSlot: w.noSlot, Enabled: c.enabled,
		FailedAttempt: c.failed, FailedBecause: c.because, Restored: c.restored, Progress: progress, Deadline: 10 * time.Minute, BlockedBy: w.blocked,
	}
	if w.service != nil {
		service := *w.service
		service.Ask = string(w.goal)
		s.Service = &service
	}
	if w.blocked != "" {
		s.BlockedWhy = w.blocked + " runs on it"
	}
	if w.approval != c.approved {
		s.Approval = w.approval
	}
	var attempt strings.Builder
	for _, t := range c.templates {
		fmt.Fprint(&attempt, t.group, t.edition, ";")
		s.Templates = append(s.Templates, Template{
			Group: t.group, Injected: t.injected && !t.stale, Pieces: t.injected, Recorded: t.group == "" || slices.Contains(c.groups, t.group),
			Stripped: !t.injected, CanaryKey: t.key, Replicas: t.replicas,
		})
	}
	s.Attempt = attempt.String()
	for _, p := range w.lists[w.seen.pods] {
		if p.owned {
			s.Pods = append(s.Pods, Pod{
				Name: p.name, UID: p.uid, Group: p.group, Injected: p.injected, Certified: p.certified, Failure: p.failure,
				Ready: p.ready, Terminating: p.terminating, Deadline: p.deadline, Created: p.created,
			})
		}
	}
	return s
}

// operate is one reconcile. survives is how many of its API calls it lives to make.
func (w *world) operate(survives int) (*Snapshot, Plan) {
	s := w.snapshot()
	w.dirty, w.again = false, time.Time{}
	p := Make(s)
	w.again = p.Again
	c := w.clusters[w.seen.cluster]
	if p.Upgrade != "" {
		w.service.Asked, w.service.AskedAt = p.Upgrade, p.Progress.Since
		survives--
	}
	if next := w.recorded(c, s, &p); survives > 0 && w.differs(c, next) {
		if c.version != w.cluster.version {
			w.dirty = true // a conflict: read again
			return s, p
		}
		w.touched = true
		if s.Progress == nil && p.Progress != nil {
			w.certified = false
		}
		if p.Progress != nil && p.Progress.Phase == PhaseHead {
			w.eligible = len(s.canaries()) > 0 && (s.Progress == nil || s.Progress.Phase == PhaseCanary)
		}
		next.version = c.version
		w.store(next, next.hash() != c.hash())
	}
	if p.Writes(s) {
		return s, p
	}
	for i, pod := range p.Delete {
		if i >= survives {
			w.dirty = true
			break
		}
		if at := w.find(pod.UID); at >= 0 {
			w.touched = true
			if !w.pods[at].terminating {
				w.restarts[pod.UID] = w.pods[at]
			}
			w.terminate(at)
		}
	}
	return s, p
}

func (w *world) differs(a, b simCluster) bool {
	return a.hash() != b.hash() || a.progress != b.progress || a.failed != b.failed || a.because != b.because || a.approved != b.approved || a.enabled != b.enabled ||
		!slices.Equal(a.restored, b.restored) || !slices.Equal(a.groups, b.groups)
}

// recorded is the cluster with the plan's edit and record, as the controller writes them.
func (w *world) recorded(c simCluster, s *Snapshot, p *Plan) simCluster {
	next := c.clone()
	for i := range next.templates {
		t := &next.templates[i]
		switch {
		case p.Edit == InjectAll, p.Edit == Inject && slices.Contains(p.Groups, t.group):
			t.injected, t.stale = true, false
		case p.Edit == RemoveAll:
			t.injected, t.stale = false, false
		}
	}
	if p.Released {
		next.progress, next.failed, next.because, next.approved, next.enabled, next.restored, next.groups = "", "", "", "", false, nil, nil
		return next
	}
	next.failed, next.because, next.enabled, next.progress = p.FailedAttempt, p.FailedBecause, p.Enabled, ""
	if p.Approval != "" {
		next.approved = p.Approval
	}
	if p.Progress != nil {
		next.progress = p.Progress.String()
	}
	next.restored, next.groups = nil, nil
	if p.Enabled {
		next.restored, next.groups = c.restored, c.groups
		if c.groups == nil || p.Edit == InjectAll {
			next.restored, next.groups = p.Restored, []string{}
			for _, t := range s.Templates[1:] {
				next.groups = append(next.groups, t.Group)
			}
		}
	}
	return next
}

func (w *world) find(uid string) int {
	return slices.IndexFunc(w.pods, func(p simPod) bool { return p.uid == uid })
}

// terminate is the API server's part of a deletion.
func (w *world) terminate(at int) {
	if w.pods[at].terminating {
		return
	}
	pods := slices.Clone(w.pods)
	p := &pods[at]
	p.terminating, p.deadline, p.gone = true, w.now.Add(w.period), w.now.Add(min(w.grace, w.period))
	w.setPods(pods)
}
