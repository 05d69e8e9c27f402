// Package observed holds what the cluster reconciler found of each RayCluster, for the policy reconciler to sum up.
package observed

import (
	"context"
	"maps"
	"slices"
	"sync"
	"time"

	apiequality "k8s.io/apimachinery/pkg/api/equality"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/client-go/util/workqueue"
	"sigs.k8s.io/controller-runtime/pkg/reconcile"
	"sigs.k8s.io/controller-runtime/pkg/source"

	"github.com/raytls/raytls/api/v1alpha1"
	"github.com/raytls/raytls/internal/controller/coverage"
)

// coalesce is how long changes of a policy's clusters are gathered before its status is written.
const coalesce = 200 * time.Millisecond

// Cluster is what was found of one RayCluster. It is made anew after each start of the operator, from what is in the
// cluster: nothing is remembered, only not computed twice.
type Cluster struct {
	UID types.UID
	// Decision is what the cluster was looked at by.
	Decision Decision
	// Policy is the name of the policy the cluster follows; empty for none.
	Policy string
	// Status is what that policy says of the cluster.
	Status v1alpha1.ClusterStatus
	// Encrypted says that the cluster is encrypted as asked.
	Encrypted bool
	// Conflicts are the names of further policies that cover the cluster and what each says of it.
	Conflicts map[string]v1alpha1.ClusterStatus
}

// Decision is who a cluster followed, and whom not, when it was looked at.
type Decision struct {
	// Policy is the UID of the policy, Generation that of its spec.
	Policy     types.UID
	Generation int64
	// Losers are the names of further policies that cover the cluster.
	Losers string
}

// DecisionOf makes a decision comparable.
func DecisionOf(d coverage.Decision) Decision {
	var out Decision
	if d.Policy != nil {
		out.Policy, out.Generation = d.Policy.UID, d.Policy.Generation
	}
	for _, loser := range d.Losers {
		out.Losers += loser.Name + "/"
	}
	return out
}

// Clusters is the set of all that was found. It is safe for concurrent use, and a source of policy requests.
type Clusters struct {
	mu       sync.Mutex
	clusters map[string]map[string]Cluster // by namespace and name
	queue    workqueue.TypedRateLimitingInterface[reconcile.Request]
	missed   map[types.NamespacedName]bool
	// awaiting are the policies that miss something, by namespace.
	awaiting map[string]map[string]bool
	metrics  descriptions
}

var _ source.Source = &Clusters{}

// New is an empty set.
func New() *Clusters {
	return &Clusters{clusters: map[string]map[string]Cluster{}, missed: map[types.NamespacedName]bool{}, awaiting: map[string]map[string]bool{}, metrics: newDescriptions()}
}

// Start keeps the queue in which policies are put whose clusters changed.
func (c *Clusters) Start(_ context.Context, queue workqueue.TypedRateLimitingInterface[reconcile.Request]) error {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.queue = queue
	for policy := range c.missed {
		c.queue.AddAfter(reconcile.Request{NamespacedName: policy}, coalesce)
	}
	c.missed = nil
	return nil
}

// Set records what was found of a cluster.
func (c *Clusters) Set(key types.NamespacedName, found Cluster) {
	c.mu.Lock()
	defer c.mu.Unlock()
	namespace := c.clusters[key.Namespace]
	if namespace == nil {
		namespace = map[string]Cluster{}
		c.clusters[key.Namespace] = namespace
	}
	before, known := namespace[key.Name]
	if known && apiequality.Semantic.DeepEqual(before, found) {
		return
	}
	namespace[key.Name] = found
	c.notify(key.Namespace, before, found)
	for policy := range c.awaiting[key.Namespace] {
		c.wake(types.NamespacedName{Namespace: key.Namespace, Name: policy})
	}
}

// Delete forgets a cluster.
func (c *Clusters) Delete(key types.NamespacedName) {
	c.mu.Lock()
	defer c.mu.Unlock()
	before, known := c.clusters[key.Namespace][key.Name]
	if !known {
		return
	}
	delete(c.clusters[key.Namespace], key.Name)
	if len(c.clusters[key.Namespace]) == 0 {
		delete(c.clusters, key.Namespace)
	}
	c.notify(key.Namespace, before)
}

// Await has the policy put in the queue whenever something is found in its namespace, until it misses nothing any more.
// It is to be called before looking, so that nothing is found in between.
func (c *Clusters) Await(policy types.NamespacedName, missing bool) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if missing {
		if c.awaiting[policy.Namespace] == nil {
			c.awaiting[policy.Namespace] = map[string]bool{}
		}
		c.awaiting[policy.Namespace][policy.Name] = true
		return
	}
	delete(c.awaiting[policy.Namespace], policy.Name)
	if len(c.awaiting[policy.Namespace]) == 0 {
		delete(c.awaiting, policy.Namespace)
	}
}

// Get returns what was found of a cluster.
func (c *Clusters) Get(key types.NamespacedName) (Cluster, bool) {
	c.mu.Lock()
	defer c.mu.Unlock()
	found, ok := c.clusters[key.Namespace][key.Name]
	return found, ok
}

// Namespace returns what was found of a namespace's clusters, by name.
func (c *Clusters) Namespace(namespace string) map[string]Cluster {
	c.mu.Lock()
	defer c.mu.Unlock()
	return maps.Clone(c.clusters[namespace])
}

// Waiting lists the namespace's clusters that wait for others to end their restart.
func (c *Clusters) Waiting(namespace string) []types.NamespacedName {
	c.mu.Lock()
	defer c.mu.Unlock()
	var out []types.NamespacedName
	for name, found := range c.clusters[namespace] {
		if found.Status.Reason == v1alpha1.ReasonWaitingForSlot {
			out = append(out, types.NamespacedName{Namespace: namespace, Name: name})
		}
	}
	slices.SortFunc(out, func(a, b types.NamespacedName) int {
		if a.Name < b.Name {
			return -1
		}
		return 1
	})
	return out
}

func (c *Clusters) notify(namespace string, found ...Cluster) {
	for _, f := range found {
		for _, name := range append(slices.Collect(maps.Keys(f.Conflicts)), f.Policy) {
			if name == "" {
				continue
			}
			c.wake(types.NamespacedName{Namespace: namespace, Name: name})
		}
	}
}

func (c *Clusters) wake(policy types.NamespacedName) {
	if c.queue == nil {
		c.missed[policy] = true
		return
	}
	c.queue.AddAfter(reconcile.Request{NamespacedName: policy}, coalesce)
}
