package app

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"net"

	"github.com/prometheus/client_golang/prometheus"
	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/meta"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/client-go/rest"
	toolscache "k8s.io/client-go/tools/cache"
	"k8s.io/utils/clock"
	ctrl "sigs.k8s.io/controller-runtime"
	"sigs.k8s.io/controller-runtime/pkg/client"
	"sigs.k8s.io/controller-runtime/pkg/metrics"

	"github.com/raytls/raytls/api/v1alpha1"
	"github.com/raytls/raytls/internal/clockskew"
	"github.com/raytls/raytls/internal/cluster"
	"github.com/raytls/raytls/internal/controller/raycluster"
	"github.com/raytls/raytls/internal/controller/raytlspolicy"
	"github.com/raytls/raytls/internal/controller/webhookconfig"
	"github.com/raytls/raytls/internal/kept"
	"github.com/raytls/raytls/internal/kube"
	"github.com/raytls/raytls/internal/kuberay"
	"github.com/raytls/raytls/internal/timescale"
)

// +kubebuilder:rbac:groups=coordination.k8s.io,resources=leases,verbs=get;create;update,namespace=raytls-system
// The leader election tells of its changes by events of the old API.
// +kubebuilder:rbac:groups="",resources=events,verbs=create;patch,namespace=raytls-system
// The API server authenticates and authorizes every reader of the metrics.
// +kubebuilder:rbac:groups=authentication.k8s.io,resources=tokenreviews,verbs=create
// +kubebuilder:rbac:groups=authorization.k8s.io,resources=subjectaccessreviews,verbs=create

// RunController runs the controller against the API server of config until ctx ends.
func RunController(ctx context.Context, config *rest.Config, options ControllerOptions) error {
	keeper := kept.New()
	caches, err := controllerCaches(keeper)
	if err != nil {
		return err
	}
	meter := clockskew.NewMeter(clock.RealClock{}, kube.ClockTolerance, ctrl.Log.WithName("clock"))
	config = rest.CopyConfig(config)
	config.Wrap(meter.Wrap)
	mgr, err := newManager(config, options.Options, ctrl.Options{
		Cache:                         caches,
		LeaderElection:                options.LeaderElect,
		LeaderElectionID:              "raytls.io",
		LeaderElectionNamespace:       options.Namespace,
		LeaderElectionReleaseOnCancel: true,
	})
	if err != nil {
		return err
	}
	if err := errors.Join(checkServed(mgr.GetRESTMapper()), checkScale(ctx, mgr.GetAPIReader(), options)); err != nil {
		return err
	}
	kinds := &kuberay.Kinds{Mapper: mgr.GetRESTMapper()}
	if err := errors.Join(addControllers(ctx, mgr, kinds, meter, options), keepAccount(ctx, mgr, keeper), reportSkew(meter)); err != nil {
		return err
	}
	return run(ctx, mgr, kinds)
}

func addControllers(ctx context.Context, mgr ctrl.Manager, kinds *kuberay.Kinds, meter *clockskew.Meter, options ControllerOptions) error {
	names, err := secretNames(mgr)
	if err != nil {
		return err
	}
	now, recorder := options.Clock, mgr.GetEventRecorder(v1alpha1.ManagedBy)
	if now == nil {
		now = clock.RealClock{}
	}
	now = meter.Clock(now)
	dial := options.Dial
	if dial == nil {
		dial = (&net.Dialer{}).DialContext
	}
	heads := raycluster.NewHeads(dial, now, mgr.GetAPIReader())
	registration := &webhookconfig.Reconciler{
		Client: mgr.GetClient(), Live: mgr.GetAPIReader(), Namespace: options.Namespace, Clock: now,
	}
	clusters := &raycluster.Reconciler{
		Client: mgr.GetClient(), Live: mgr.GetAPIReader(), SecretNames: names, Kinds: kinds,
		Gatherer: cluster.Gatherer{
			Cached: mgr.GetClient(), Live: mgr.GetAPIReader(), Namespace: options.Namespace,
			ClusterDomain: cmp.Or(options.ClusterDomain, clusterDomain(resolvConf)), Served: kinds.Served,
			Admission: func(namespace string) string { return registration.Condition(namespace).Reason },
			Finding:   heads.Finding,
			ClockSkew: func() string {
				if beyond := meter.Beyond(); beyond != nil {
					return beyond.String()
				}
				return ""
			},
			Scale:   options.Scale,
			Started: now.Now(),
		},
		Settings: cluster.Settings{Namespace: options.Namespace, Images: options.Images, Served: kinds.Served},
		Heads:    heads, Clock: now, Recorder: recorder, AdmissionChanges: registration.Source,
	}
	policies := &raytlspolicy.Reconciler{
		Client: mgr.GetClient(), Live: mgr.GetAPIReader(), SecretNames: names, Kinds: kinds, Images: options.Images,
		Clock: now, Recorder: recorder, Admission: registration, Scale: options.Scale,
	}
	return errors.Join(registration.SetupWithManager(mgr), clusters.SetupWithManager(ctx, mgr), policies.SetupWithManager(mgr), report(ctx, mgr, policies.Metrics()))
}

// report has every replica report, also one that does not lead, where no controller has the cache hold what is reported.
func report(ctx context.Context, mgr ctrl.Manager, collector prometheus.Collector) error {
	if err := watchOwnKinds(ctx, mgr); err != nil {
		return err
	}
	if err := metrics.Registry.Register(collector); err != nil {
		return fmt.Errorf("registering metrics: %w", err)
	}
	return nil
}

// keepAccount has the keeper learn what leaves the cache of RayClusters, and reports what it does not keep.
func keepAccount(ctx context.Context, mgr ctrl.Manager, keeper *kept.Keeper) error {
	informer, err := mgr.GetCache().GetInformer(ctx, kuberay.NewRayCluster())
	if err != nil {
		return fmt.Errorf("watching RayClusters: %w", err)
	}
	if _, err := informer.AddEventHandler(toolscache.ResourceEventHandlerFuncs{DeleteFunc: keeper.Forget}); err != nil {
		return fmt.Errorf("watching RayClusters: %w", err)
	}
	left := prometheus.NewGaugeFunc(prometheus.GaugeOpts{
		Name: "raytls_rayclusters_not_cached", Help: "RayClusters that this replica does not cache, because they or all of their namespace are too large.",
	}, func() float64 { return float64(keeper.Left()) })
	if err := metrics.Registry.Register(left); err != nil {
		return fmt.Errorf("registering metrics: %w", err)
	}
	return nil
}

// reportSkew reports how far the API servers' clocks are from the operator's.
func reportSkew(meter *clockskew.Meter) error {
	skew := prometheus.NewGaugeFunc(prometheus.GaugeOpts{
		Name: "raytls_clock_skew_seconds", Help: "How far the API servers' clocks are ahead of this replica's at least, in seconds; negative if they are behind.",
	}, func() float64 { return meter.Offset().Seconds() })
	if err := metrics.Registry.Register(skew); err != nil {
		return fmt.Errorf("registering metrics: %w", err)
	}
	return nil
}

// checkScale refuses short days outside of an installation for tests: certificates would end within minutes.
func checkScale(ctx context.Context, live client.Reader, options ControllerOptions) error {
	if options.Scale == (timescale.Scale{}) {
		return nil
	}
	var own corev1.Namespace
	if err := live.Get(ctx, client.ObjectKey{Name: options.Namespace}, &own); err != nil {
		return fmt.Errorf("reading the namespace %s, which has to be labelled for tests: %w", options.Namespace, err)
	}
	if own.Labels[v1alpha1.LabelTesting] != "true" {
		return fmt.Errorf("--testing-minutes-per-day is for tests alone: it has certificates end within minutes, so the controller starts with it only if the namespace %s has the label %s=true", options.Namespace, v1alpha1.LabelTesting)
	}
	ctrl.Log.Info("Making days shorter, for tests", "day", options.Scale.Days(1).String())
	return nil
}

// checkServed fails where a CRD is missing that the controller cannot do without.
func checkServed(mapper meta.RESTMapper) error {
	for _, gvk := range []schema.GroupVersionKind{
		kuberay.RayClusterGVK(), v1alpha1.GroupVersion.WithKind("RayTLSPolicy"), v1alpha1.GroupVersion.WithKind("RayClusterTLS"),
	} {
		if _, err := mapper.RESTMapping(gvk.GroupKind(), gvk.Version); err != nil {
			return fmt.Errorf("the cluster does not serve %s of %s, so install KubeRay and this operator's CRDs first: %w", gvk.Kind, gvk.GroupVersion(), err)
		}
	}
	return nil
}
