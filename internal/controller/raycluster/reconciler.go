// Package raycluster brings each RayCluster to what its policy asks: keys, injection and restarts.
package raycluster

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"time"

	rayv1 "github.com/ray-project/kuberay/ray-operator/apis/ray/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/utils/clock"
	ctrl "sigs.k8s.io/controller-runtime"
	"sigs.k8s.io/controller-runtime/pkg/cache"
	"sigs.k8s.io/controller-runtime/pkg/client"
	"sigs.k8s.io/controller-runtime/pkg/log"
	"sigs.k8s.io/controller-runtime/pkg/reconcile"
	"sigs.k8s.io/controller-runtime/pkg/recorder"
	"sigs.k8s.io/controller-runtime/pkg/source"

	"github.com/raytls/raytls/api/v1alpha1"
	"github.com/raytls/raytls/internal/controller/acceptance"
	"github.com/raytls/raytls/internal/controller/observed"
	"github.com/raytls/raytls/internal/rollout"
)

// RayClusterKind is the version of RayCluster that is read and written. KubeRay has served it since v1.0.
func RayClusterKind() schema.GroupVersionKind { return rayv1.GroupVersion.WithKind("RayCluster") }

const (
	// soon is when to look again after the cache was found to lag behind the API server.
	soon = 500 * time.Millisecond
	// later is when to look again at what nothing that is watched tells of.
	later = time.Minute
)

// Reconciler reconciles RayClusters.
type Reconciler struct {
	// Client reads from caches and writes. Live reads past them, one object at a time.
	Client client.Client
	Live   client.Reader
	// SecretNames caches the metadata of all Secrets, since what is not the operator's is not labelled as such.
	SecretNames cache.Cache
	// Namespace is the operator's own, where authorities are kept.
	Namespace string
	// Kinds has the kinds watched that RayClusters are made for.
	Kinds *Kinds
	// ClusterDomain is the Kubernetes cluster's DNS domain.
	ClusterDomain string
	// Images are the init images that policies may name.
	Images   acceptance.Allowlist
	Clock    clock.PassiveClock
	Recorder recorder.EventRecorder
	Observed *observed.Clusters
	// Admission says where admission is active.
	Admission Admission
	// began is when the reconciler was set up.
	began  time.Time
	slots  slots
	issues issues
}

// Admission knows the namespaces in which RayClusters are admitted by the operator.
type Admission interface {
	// Active says whether the namespace is one of them, and why.
	Active(namespace string) (active bool, reason string)
	// Source asks to look at clusters again when that changes for their namespace.
	Source(requests func(ctx context.Context, namespace string) []reconcile.Request) source.Source
}

// step is a part of a reconcile. It reads and adds to the state; what it returns ends the reconcile.
type step func(context.Context, *state) error

// +kubebuilder:rbac:groups=ray.io,resources=rayclusters,verbs=get;list;watch;patch
// +kubebuilder:rbac:groups=ray.io,resources=rayjobs;rayservices;raycronjobs,verbs=get;list;watch
// +kubebuilder:rbac:groups=ray.io,resources=rayservices,verbs=patch
// +kubebuilder:rbac:groups=raytls.io,resources=raytlspolicies,verbs=get;list;watch
// +kubebuilder:rbac:groups="",resources=pods,verbs=get;list;watch;patch;delete
// +kubebuilder:rbac:groups="",resources=secrets,verbs=get;list;watch;create;update;delete
// +kubebuilder:rbac:groups="",resources=configmaps,verbs=get;list;watch;create;delete
// +kubebuilder:rbac:groups="",resources=secrets,verbs=get;list;watch;create;update;delete,namespace=raytls-system
// +kubebuilder:rbac:groups=events.k8s.io,resources=events,verbs=create;patch

// Reconcile takes one step for one RayCluster.
func (r *Reconciler) Reconcile(ctx context.Context, request ctrl.Request) (ctrl.Result, error) {
	st, err := r.gather(ctx, request.NamespacedName)
	if apierrors.IsNotFound(err) {
		r.Observed.Delete(request.NamespacedName)
		r.slots.release(request.NamespacedName)
		r.issues.forget(request.NamespacedName)
		return ctrl.Result{}, r.forget(ctx, request.NamespacedName)
	}
	if err != nil {
		return ctrl.Result{}, err
	}
	planned := r.plan(ctx, st)
	if planned != nil {
		// Nothing is changed then, but the cluster's keys are seen to all the same: its pods must be able to start.
		st.planned, st.edited = rollout.Plan{}, nil
	}
	for _, run := range []step{r.provideKeys, r.wakePods} {
		err = errors.Join(err, run(ctx, st))
	}
	if planned == nil && err == nil {
		for _, run := range []step{r.removeKeys, r.upgradeService, r.write, r.deletePods} {
			if err = run(ctx, st); err != nil {
				break
			}
		}
	}
	r.slots.settle(st, err)
	r.observe(st, cmp.Or(planned, err))
	return r.result(ctx, st, cmp.Or(err, planned))
}

// problem is what a user has to mend. It is reported, and tried again when something changes.
type problem struct {
	reason, message string
	// again asks to look again, where nothing that is watched tells that it was mended.
	again time.Duration
}

func (p *problem) Error() string { return p.message }

func problemf(reason, format string, args ...any) *problem {
	return &problem{reason: reason, message: fmt.Sprintf(format, args...)}
}

// errStale says that the cache lags behind the API server.
var errStale = errors.New("the cache lags behind the API server")

// result turns the outcome of a reconcile into when the next one is.
func (r *Reconciler) result(ctx context.Context, st *state, err error) (ctrl.Result, error) {
	var user *problem
	switch {
	case err == nil:
	case errors.Is(err, errStale), apierrors.IsConflict(err):
		log.FromContext(ctx).V(1).Info("Reading again", "cause", err.Error())
		return ctrl.Result{RequeueAfter: soon}, nil
	case errors.As(err, &user):
		if user.again > 0 {
			st.again(r.Clock.Now().Add(user.again))
		}
	default:
		return ctrl.Result{}, err
	}
	if st.next.IsZero() {
		return ctrl.Result{}, nil
	}
	return ctrl.Result{RequeueAfter: max(st.next.Sub(r.Clock.Now()), time.Second)}, nil
}

// observe tells what was found of the cluster.
func (r *Reconciler) observe(st *state, err error) {
	var user *problem
	status := &st.status
	switch {
	case errors.As(err, &user):
		status.Reason, status.Message, status.BlockedBy = user.reason, user.message, ""
	case err == nil, errors.Is(err, errStale), apierrors.IsConflict(err):
	default:
		status.Reason, status.Message, status.BlockedBy = v1alpha1.ReasonError, err.Error(), ""
	}
	status.Message = cut(status.Message, maxMessage)
	found := observed.Cluster{UID: st.cluster.UID, Decision: observed.DecisionOf(st.decision)}
	if policy := st.decision.Policy; policy != nil && st.cluster.DeletionTimestamp.IsZero() && status.Reason != "" {
		found.Policy, found.Status = policy.Name, *status
		found.Encrypted = st.decision.Goal == rollout.Encrypted && status.Reason == v1alpha1.ReasonEncrypted
	}
	for _, loser := range st.decision.Losers {
		if found.Conflicts == nil {
			found.Conflicts = map[string]v1alpha1.ClusterStatus{}
		}
		found.Conflicts[loser.Name] = v1alpha1.ClusterStatus{
			Name: st.cluster.Name, Reason: v1alpha1.ReasonPolicyConflict, Pods: status.Pods,
			Message: fmt.Sprintf("RayTLSPolicy %s covers this RayCluster already; narrow one of the two, or single the cluster out with a targetRef", st.decision.Policy.Name),
		}
	}
	r.Observed.Set(st.key, found)
}
