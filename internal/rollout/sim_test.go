package rollout

import (
	"fmt"
	"maps"
	"slices"
	"strings"
	"time"

	"github.com/raytls/raytls/api/v1alpha1"
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

	// What the API server holds. They are replaced, never changed in place, so that views can be kept.
	cluster simCluster
	record  simRecord
	pods    []simPod
	// What the operator's caches and KubeRay's cache of clusters show of it. Each lags behind as it likes, but never goes back.
	clusters []simCluster
	stored   []time.Time // when each of the clusters was
	records  []simRecord
	lists    [][]simPod
	seen     struct{ cluster, record, pods, kuberay int }

	// Who is told about changes, the operator is.
	dirty     bool
	requeueAt time.Time

	// What is not in the cluster itself.
	goal      v1alpha1.RolloutGoal
	immediate bool
	approvals []string // the policy's list
	blocked   string
	noSlot    string
	service   *Service          // that made the cluster
	inits     map[string]string // by group; otherwise they succeed
	grace     time.Duration     // how long pods take to go
	period    time.Duration     // how long they may
	restamp   bool              // KubeRay was upgraded, and does not recreate for the next change

	// ahead is how far the operator's clock is ahead of the API server's.
	ahead time.Duration

	// revokeTo is the number below which the policy has every generation revoked, at once if revokeNow. keys is the number since which
	// the Secrets' authority is trusted.
	revokeTo, keys int64
	revokeNow      bool

	// life is how long certificates last; zero for ever. roll is how pods are brought onto new ones. holds are what keeps pods from
	// being evicted, by name. The API server refuses to evict any pod, or these by their names, and opens is when the next window opens.
	life    time.Duration
	roll    Rolling
	holds   map[string]string
	refuses bool
	refused map[string]bool
	opens   time.Time
	// pending are the groups whose new pods get no node, and down those whose pods are not ready.
	pending, down map[string]bool
	// evicted is how often the operator evicted a pod, by place.
	evicted map[string]int

	// admission changes pods when they are made; nil for nothing. turned is when the template of a group last got or lost the
	// injection, and wrong what the operator deleted though it was made later.
	admission func(*simPod)
	turned    map[string]time.Time
	places    map[string]int // deletions, by place and turn
	wrong     error

	serial int
	// restarts are the pods the operator deleted, injected or not, by UID.
	restarts map[string]simPod
	// touched says that the operator changed the cluster or its RayService or deleted a pod, recorded that it wrote the record.
	touched, recorded bool
	// asks is how often the RayService was asked for something else than before.
	asks int
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
}

// simRecord is the RayClusterTLS object: a value. One that was deleted is an empty one.
type simRecord struct {
	version int // resourceVersion
	Record
	groups []string // whose templates carried the injection
}

type simTemplate struct {
	group    string
	injected bool
	stale    bool  // injected, and edited since
	since    int64 // the number in the CA Secret's name
	edition  int   // what the user wrote
	replicas int32
	hosts    int32 // of each replica, where it is not one
	key      string
}

type simPod struct {
	name, uid, group, slot  string
	injected, pieces        bool
	since                   int64
	differs                 string
	made                    string // what the init container does
	created, deadline, gone time.Time
	deleted                 time.Time
	readied                 time.Time
	issued, end             time.Time
	replica                 string
	certified, ready        bool
	failure                 string
	terminating             bool
	hash                    string // of the spec, on heads
	owned                   bool
}

// newWorld is a cluster that was ready, with this many workers per group, seen by everybody.
func newWorld(workers ...int32) *world {
	w := &world{
		now: start(), goal: v1alpha1.GoalEncrypted, immediate: true, inits: map[string]string{}, grace: 2 * time.Second, period: 30 * time.Second,
		roll:  Rolling{MaxUnavailable: 1, Head: v1alpha1.HeadRestartIfFaultTolerant, FaultTolerant: true, WorkerHash: "first", HeadHash: "first"},
		holds: map[string]string{}, pending: map[string]bool{}, down: map[string]bool{}, refused: map[string]bool{}, evicted: map[string]int{},
		restarts: map[string]simPod{}, turned: map[string]time.Time{}, places: map[string]int{}, dirty: true,
	}
	c := simCluster{templates: []simTemplate{{key: "same"}}}
	for i, n := range workers {
		c.templates = append(c.templates, simTemplate{group: string(rune('a' + i)), replicas: n, key: "same"})
	}
	w.store(c, true)
	w.setRecord(simRecord{})
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
	return c
}

func (r simRecord) clone() simRecord {
	r.Restored, r.groups, r.Changed = slices.Clone(r.Restored), slices.Clone(r.groups), maps.Clone(r.Changed)
	r.Refusals = slices.Clone(r.Refusals)
	if r.Progress != nil {
		progress := *r.Progress
		progress.Canaries = maps.Clone(progress.Canaries)
		r.Progress = &progress
	}
	return r
}

func (r simRecord) equal(other simRecord) bool {
	return r.Equal(&other.Record) && slices.Equal(r.groups, other.groups)
}

func (c simCluster) hash() string {
	var b strings.Builder
	for _, t := range c.templates {
		fmt.Fprint(&b, t.group, t.edition, t.injected, t.stale, t.since, ";")
	}
	return b.String()
}

// store is a write to the cluster; spec says that it changes more than metadata and status.
func (w *world) store(c simCluster, spec bool) {
	c.version++
	if spec {
		c.generated++
	}
	for i, t := range c.templates {
		if i >= len(w.cluster.templates) || t.injected != w.cluster.templates[i].injected || t.since != w.cluster.templates[i].since {
			w.turned[t.group] = w.now
		}
	}
	w.cluster = c
	w.clusters, w.stored = append(w.clusters, c), append(w.stored, w.now)
}

// setRecord is a write to the record.
func (w *world) setRecord(r simRecord) {
	r.version = len(w.records)
	w.record = r
	w.records = append(w.records, r)
}

func (w *world) setPods(pods []simPod) {
	w.pods = pods
	w.lists = append(w.lists, pods)
}

// sync lets all caches catch up.
func (w *world) sync() {
	w.syncCluster(len(w.clusters) - 1)
	w.syncRecord(len(w.records) - 1)
	w.syncPods(len(w.lists) - 1)
	w.seen.kuberay = len(w.clusters) - 1
}

func (w *world) syncCluster(to int) {
	w.dirty = w.dirty || to > w.seen.cluster
	w.seen.cluster = max(w.seen.cluster, to)
}

func (w *world) syncRecord(to int) {
	w.dirty = w.dirty || to > w.seen.record
	w.seen.record = max(w.seen.record, to)
}

func (w *world) syncPods(to int) {
	w.dirty = w.dirty || to > w.seen.pods
	w.seen.pods = max(w.seen.pods, to)
}

// due reports whether something wakes the operator.
func (w *world) due() bool {
	return w.dirty || !w.requeueAt.IsZero() && !w.now.Add(w.ahead).Before(w.requeueAt)
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
	p.terminating, p.deleted, p.deadline, p.gone = true, w.now, w.now.Add(w.period), w.now.Add(min(w.grace, w.period))
	w.setPods(pods)
}
