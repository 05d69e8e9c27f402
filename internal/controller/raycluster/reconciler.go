// Package raycluster brings each RayCluster to what its policy asks: keys, injection and restarts.
package raycluster

import (
	"context"
	"fmt"
	"sync"
	"time"

	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"k8s.io/utils/clock"
	ctrl "sigs.k8s.io/controller-runtime"
	"sigs.k8s.io/controller-runtime/pkg/cache"
	"sigs.k8s.io/controller-runtime/pkg/client"
	"sigs.k8s.io/controller-runtime/pkg/log"
	"sigs.k8s.io/controller-runtime/pkg/reconcile"
	"sigs.k8s.io/controller-runtime/pkg/recorder"
	"sigs.k8s.io/controller-runtime/pkg/source"

	"github.com/raytls/raytls/api/v1alpha1"
	"github.com/raytls/raytls/internal/cluster"
	"github.com/raytls/raytls/internal/keys"
	"github.com/raytls/raytls/internal/kube"
	"github.com/raytls/raytls/internal/kuberay"
	"github.com/raytls/raytls/internal/probe"
)

// Reconciler reconciles RayClusters.
type Reconciler struct {
	// Client reads from caches and writes. Live reads past them, one object at a time.
	Client client.Client
	Live   client.Reader
	// SecretNames caches the metadata of all Secrets, since those that are not the operator's are not labelled as such.
	SecretNames cache.Cache
	// Kinds has the kinds watched that RayClusters are made for.
	Kinds *kuberay.Kinds
	// Gatherer reads the facts, and Settings are what decisions depend on besides.
	Gatherer cluster.Gatherer
	Settings cluster.Settings
	// Heads observes what heads serve.
	Heads    *probe.Prober
	Clock    clock.PassiveClock
	Recorder recorder.EventRecorder
	// AdmissionChanges enqueues requests when the webhook begins or ceases to admit the RayClusters of their namespace.
	AdmissionChanges func(requests func(ctx context.Context, namespace string) []reconcile.Request) source.Source

	// restarts has the restarts of clusters begin one after another, so that each sees those that began before it.
	restarts sync.Mutex
	issuers  issuers
	makers   makers
	settled  settled
	// unreadable holds since when the facts of clusters cannot be read.
	unreadable kube.Lasting
}

// +kubebuilder:rbac:groups=ray.io,resources=rayclusters,verbs=get;list;watch;patch
// +kubebuilder:rbac:groups=ray.io,resources=rayjobs;rayservices;raycronjobs,verbs=get;list;watch
// +kubebuilder:rbac:groups=ray.io,resources=rayservices,verbs=patch
// +kubebuilder:rbac:groups=raytls.io,resources=raytlspolicies,verbs=get;list;watch
// +kubebuilder:rbac:groups=raytls.io,resources=rayclustertlses,verbs=get;list;watch;create;delete
// +kubebuilder:rbac:groups=raytls.io,resources=rayclustertlses/status,verbs=patch
// +kubebuilder:rbac:groups="",resources=pods,verbs=get;list;watch;patch;delete
// +kubebuilder:rbac:groups="",resources=pods/eviction,verbs=create
// +kubebuilder:rbac:groups=policy,resources=poddisruptionbudgets,verbs=get;list;watch
// +kubebuilder:rbac:groups="",resources=secrets,verbs=get;list;watch;create;update;delete
// +kubebuilder:rbac:groups="",resources=configmaps,verbs=get;list;watch;create;delete
// +kubebuilder:rbac:groups="",resources=secrets,verbs=get;list;watch;create;update;delete,namespace=raytls-system
// +kubebuilder:rbac:groups=events.k8s.io,resources=events,verbs=create;patch

// Reconcile takes one step for one RayCluster: it gathers facts, decides, applies the decision and reports.
func (r *Reconciler) Reconcile(ctx context.Context, request ctrl.Request) (ctrl.Result, error) {
	facts, err := r.gather(ctx, request.NamespacedName)
	switch {
	case apierrors.IsNotFound(err):
		return ctrl.Result{}, r.forget(ctx, request.NamespacedName)
	case kube.IsStale(err):
		return ctrl.Result{RequeueAfter: kube.StaleRequeue}, nil
	case err != nil:
		return r.unread(ctx, request.NamespacedName, err)
	}
	decision := cluster.Decide(facts, r.Settings)
	a := &application{
		Reconciler: r, facts: facts, decision: &decision,
		tls: facts.TLS, keys: facts.Keys, issuerSecret: facts.IssuerSecret, scripts: facts.Scripts,
	}
	err = a.apply(ctx)
	if reportErr := a.writeStatus(ctx, err); reportErr != nil && (err == nil || kube.AsOutcome(err) != nil) {
		err = reportErr
	}
	a.observeHead()
	return a.result(ctx, err)
}

// application is a decision that is being carried out.
type application struct {
	*Reconciler
	facts    *cluster.Facts
	decision *cluster.Decision

	// What the cluster has by now; nil where there is none. The status tells of it.
	tls          *v1alpha1.RayClusterTLS
	keys         keys.Store
	issuerSecret *corev1.Secret
	scripts      *corev1.ConfigMap
	// recorded reports whether the record of the plan is written.
	recorded bool
	// refused are the pods that the API server refused to evict.
	refused []cluster.Refused
	// requeue is when to reconcile though nothing happens; zero for never.
	requeue time.Time
}

// requeueAt asks for a reconcile at that time at the latest.
func (a *application) requeueAt(at time.Time) {
	a.requeue = kube.Earlier(a.requeue, at)
}

// apply carries the decision out. Keys come first, so that no pod waits for them, and they are kept also where the plan may not be
// carried out: running clusters must be able to start pods.
func (a *application) apply(ctx context.Context) error {
	steps := []func(context.Context) error{a.ensureTLS, a.provideKeys, a.provideScripts, a.retireSecrets, a.wakePods}
	if a.decision.Writes() {
		steps = append(steps, a.removeKeys, a.record, a.verifyRecord, a.upgradeService, a.sameKeys, a.edit, a.deletePods, a.evictPods)
	}
	for _, run := range steps {
		if err := run(ctx); err != nil {
			return err
		}
	}
	return nil
}

// result turns what came of a reconcile into when the next one is.
func (a *application) result(ctx context.Context, err error) (ctrl.Result, error) {
	outcome := kube.AsOutcome(err)
	switch {
	case kube.IsStale(err):
		log.FromContext(ctx).V(1).Info("Reading again", "cause", err.Error())
		return ctrl.Result{RequeueAfter: kube.StaleRequeue}, nil
	case err != nil && outcome == nil:
		return ctrl.Result{}, fmt.Errorf("RayCluster %s: %w", a.facts.Key, err)
	case outcome == nil:
		outcome = a.decision.Obstacle
	}
	if outcome != nil && outcome.After > 0 {
		a.requeueAt(a.facts.Now.Add(outcome.After))
	}
	a.requeueAt(a.decision.Plan.RequeueAt)
	if a.requeue.IsZero() {
		return ctrl.Result{}, nil
	}
	return ctrl.Result{RequeueAfter: max(a.requeue.Sub(a.Clock.Now()), time.Second)}, nil
}
