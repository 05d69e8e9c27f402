package app

import (
	"cmp"
	"context"
	"errors"
	"flag"
	"fmt"
	"maps"
	"net/http"

	rayv1 "github.com/ray-project/kuberay/ray-operator/apis/ray/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/runtime/schema"
	clientgoscheme "k8s.io/client-go/kubernetes/scheme"
	"k8s.io/client-go/rest"
	"k8s.io/utils/clock"
	ctrl "sigs.k8s.io/controller-runtime"
	"sigs.k8s.io/controller-runtime/pkg/cache"
	"sigs.k8s.io/controller-runtime/pkg/client"
	"sigs.k8s.io/controller-runtime/pkg/healthz"
	"sigs.k8s.io/controller-runtime/pkg/log/zap"
	"sigs.k8s.io/controller-runtime/pkg/metrics"
	"sigs.k8s.io/controller-runtime/pkg/metrics/filters"
	metricsserver "sigs.k8s.io/controller-runtime/pkg/metrics/server"

	"github.com/raytls/raytls/api/v1alpha1"
	"github.com/raytls/raytls/internal/controller/admission"
	"github.com/raytls/raytls/internal/controller/observed"
	"github.com/raytls/raytls/internal/controller/policy"
	"github.com/raytls/raytls/internal/controller/raycluster"
	"github.com/raytls/raytls/internal/webhook/serving"
)

// Main runs the operator until it is told to stop. args are the command line without the program's name.
func Main(version string, args []string) error {
	options, err := ParseOptions(args)
	if errors.Is(err, flag.ErrHelp) {
		return nil
	}
	if err != nil {
		return err
	}
	options.Registry = metrics.Registry
	ctrl.SetLogger(zap.New(zap.UseFlagOptions(&options.Log)))
	ctrl.Log.Info("Starting operator", "version", version, "namespace", options.Namespace)
	config, err := ctrl.GetConfig()
	if err != nil {
		return fmt.Errorf("finding the Kubernetes API server: %w", err)
	}
	ctx, cancel := lingering(ctrl.SetupSignalHandler(), options.ShutdownDelay)
	defer cancel()
	return Run(ctx, config, options)
}

// Run runs the operator against the API server of config until ctx ends.
func Run(ctx context.Context, config *rest.Config, options Options) error {
	mgr, err := NewManager(ctx, config, options)
	if err != nil {
		return err
	}
	if err := mgr.Start(ctx); err != nil {
		return fmt.Errorf("running the operator: %w", err)
	}
	return nil
}

// Scheme knows the kinds that the operator reads and writes.
func Scheme() (*runtime.Scheme, error) {
	scheme := runtime.NewScheme()
	for _, add := range []func(*runtime.Scheme) error{clientgoscheme.AddToScheme, rayv1.AddToScheme, v1alpha1.AddToScheme} {
		if err := add(scheme); err != nil {
			return nil, fmt.Errorf("registering kinds: %w", err)
		}
	}
	return scheme, nil
}

// +kubebuilder:rbac:groups=coordination.k8s.io,resources=leases,verbs=get;create;update,namespace=raytls-system
// The leader election tells of its changes by events of the old API.
// +kubebuilder:rbac:groups="",resources=events,verbs=create;patch,namespace=raytls-system
// +kubebuilder:rbac:groups=authentication.k8s.io,resources=tokenreviews,verbs=create
// +kubebuilder:rbac:groups=authorization.k8s.io,resources=subjectaccessreviews,verbs=create

// NewManager makes the manager with both controllers, ready to be started.
func NewManager(ctx context.Context, config *rest.Config, options Options) (ctrl.Manager, error) {
	scheme, err := Scheme()
	if err != nil {
		return nil, err
	}
	byObject, err := raycluster.CacheOptions()
	if err != nil {
		return nil, err
	}
	maps.Copy(byObject, admission.CacheOptions())
	config = rest.CopyConfig(config)
	config.QPS = -1 // the API server's priority and fairness limits clients better
	certificates := &serving.Certificates{}
	server, err := webhookServer(options, certificates)
	if err != nil {
		return nil, err
	}
	mgr, err := ctrl.NewManager(config, ctrl.Options{
		Scheme: scheme,
		Cache: cache.Options{
			ByObject:         byObject,
			DefaultTransform: raycluster.SlimOwner,
			// What nobody asked for here is not to be watched by accident.
			ReaderFailOnMissingInformer: true,
		},
		Client: client.Options{Cache: &client.CacheOptions{Unstructured: true}},
		Metrics: metricsserver.Options{
			BindAddress: options.Metrics, SecureServing: !options.MetricsInsecure, FilterProvider: metricsFilter(options),
		},
		WebhookServer:                 server,
		HealthProbeBindAddress:        options.Probes,
		LeaderElection:                options.LeaderElect,
		LeaderElectionID:              "raytls.io",
		LeaderElectionNamespace:       options.Namespace,
		LeaderElectionReleaseOnCancel: true,
	})
	if err != nil {
		return nil, fmt.Errorf("making the manager: %w", err)
	}
	registration, err := addAdmission(ctx, mgr, config, options, certificates)
	if err != nil {
		return nil, err
	}
	if err := addControllers(ctx, mgr, config, options, registration); err != nil {
		return nil, err
	}
	return mgr, addProbes(mgr)
}

func metricsFilter(options Options) func(*rest.Config, *http.Client) (metricsserver.Filter, error) {
	if options.MetricsInsecure {
		return nil
	}
	return filters.WithAuthenticationAndAuthorization
}

func addControllers(ctx context.Context, mgr ctrl.Manager, config *rest.Config, options Options, registration *admission.Reconciler) error {
	for _, gvk := range []schema.GroupVersionKind{raycluster.RayClusterKind(), v1alpha1.GroupVersion.WithKind("RayTLSPolicy")} {
		if _, err := mgr.GetRESTMapper().RESTMapping(gvk.GroupKind(), gvk.Version); err != nil {
			return fmt.Errorf("the cluster does not serve %s of %s, so install KubeRay and this operator's CRD first: %w", gvk.Kind, gvk.GroupVersion(), err)
		}
	}
	names, err := secretNames(mgr, config)
	if err != nil {
		return err
	}
	found := observed.New()
	if options.Registry != nil {
		if err := options.Registry.Register(found); err != nil {
			return fmt.Errorf("registering metrics: %w", err)
		}
	}
	recorder := mgr.GetEventRecorder(v1alpha1.ManagedBy)
	kinds := &raycluster.Kinds{Mapper: mgr.GetRESTMapper()}
	clusters := &raycluster.Reconciler{
		Client: mgr.GetClient(), Live: mgr.GetAPIReader(), SecretNames: names, Namespace: options.Namespace, Images: options.Images,
		Kinds: kinds, ClusterDomain: cmp.Or(options.ClusterDomain, clusterDomain(resolvConf)),
		Clock: clock.RealClock{}, Recorder: recorder, Observed: found, Admission: registration,
	}
	if err := clusters.SetupWithManager(ctx, mgr); err != nil {
		return err
	}
	policies := &policy.Reconciler{
		Client: mgr.GetClient(), Live: mgr.GetAPIReader(), SecretNames: names, Kinds: kinds, Images: options.Images,
		Clock: clock.RealClock{}, Recorder: recorder, Observed: found, Admission: registration,
	}
	if err := policies.SetupWithManager(ctx, mgr); err != nil {
		return err
	}
	if err := kinds.Look(ctx); err != nil {
		return err
	}
	if err := mgr.Add(kinds); err != nil {
		return fmt.Errorf("adding the look-out for kinds of KubeRay: %w", err)
	}
	return nil
}

// secretNames is a cache of which Secrets there are, and nothing else of them.
func secretNames(mgr ctrl.Manager, config *rest.Config) (cache.Cache, error) {
	names, err := cache.New(config, cache.Options{
		HTTPClient: mgr.GetHTTPClient(), Scheme: mgr.GetScheme(), Mapper: mgr.GetRESTMapper(),
		DefaultTransform: func(object any) (any, error) {
			if o, ok := object.(metav1.Object); ok {
				o.SetManagedFields(nil)
				o.SetAnnotations(nil)
				o.SetLabels(nil)
				o.SetOwnerReferences(nil)
			}
			return object, nil
		},
	})
	if err != nil {
		return nil, fmt.Errorf("making the cache of Secret names: %w", err)
	}
	if err := mgr.Add(names); err != nil {
		return nil, fmt.Errorf("adding the cache of Secret names: %w", err)
	}
	return names, nil
}

func addProbes(mgr ctrl.Manager) error {
	if err := mgr.AddHealthzCheck("ping", healthz.Ping); err != nil {
		return fmt.Errorf("adding the liveness probe: %w", err)
	}
	err := mgr.AddReadyzCheck("caches", func(r *http.Request) error {
		if !mgr.GetCache().WaitForCacheSync(r.Context()) {
			return errors.New("caches are not in sync yet")
		}
		return nil
	})
	if err != nil {
		return fmt.Errorf("adding the readiness probe: %w", err)
	}
	return nil
}
