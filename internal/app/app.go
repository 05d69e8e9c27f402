package app

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"net/http"
	"os"

	rayv1 "github.com/ray-project/kuberay/ray-operator/apis/ray/v1"
	"k8s.io/apimachinery/pkg/runtime"
	clientgoscheme "k8s.io/client-go/kubernetes/scheme"
	"k8s.io/client-go/rest"
	ctrl "sigs.k8s.io/controller-runtime"
	"sigs.k8s.io/controller-runtime/pkg/client"
	"sigs.k8s.io/controller-runtime/pkg/healthz"
	"sigs.k8s.io/controller-runtime/pkg/log/zap"
	"sigs.k8s.io/controller-runtime/pkg/metrics/filters"
	metricsserver "sigs.k8s.io/controller-runtime/pkg/metrics/server"

	"github.com/raytls/raytls/api/v1alpha1"
	"github.com/raytls/raytls/internal/kuberay"
)

// Commands of the manager.
const (
	commandController = "controller"
	commandWebhook    = "webhook"
)

const usage = `Manager gives RayClusters mutual TLS.

Usage:
  manager controller [flags]   Run the controller: it writes Secrets, RayClusters and statuses. One of its replicas leads.
  manager webhook [flags]      Run the admission webhook: it answers API servers and writes nothing. All replicas serve.

Run "manager controller --help" or "manager webhook --help" for the flags.
`

// Main runs the process that the first argument names until it is told to stop. args are the command line without the
// program's name.
func Main(version string, args []string) error {
	if len(args) == 0 {
		args = []string{""}
	}
	var err error
	switch command := args[0]; command {
	case commandController:
		err = mainController(version, args[1:])
	case commandWebhook:
		err = mainWebhook(version, args[1:])
	case "help", "-h", "-help", "--help":
		fmt.Print(usage)
	default:
		fmt.Fprint(os.Stderr, usage)
		err = fmt.Errorf("%q is not a command; run it with %q or %q", command, commandController, commandWebhook)
	}
	if errors.Is(err, flag.ErrHelp) {
		return nil
	}
	return err
}

func mainController(version string, args []string) error {
	options, err := ParseControllerOptions(args)
	if err != nil {
		return err
	}
	config, err := begin(commandController, version, options.Options)
	if err != nil {
		return err
	}
	return RunController(ctrl.SetupSignalHandler(), config, options)
}

func mainWebhook(version string, args []string) error {
	options, err := ParseWebhookOptions(args)
	if err != nil {
		return err
	}
	config, err := begin(commandWebhook, version, options.Options)
	if err != nil {
		return err
	}
	return RunWebhook(ctrl.SetupSignalHandler(), config, options)
}

// begin sets up logging and finds the API server.
func begin(command, version string, options Options) (*rest.Config, error) {
	ctrl.SetLogger(zap.New(zap.UseFlagOptions(&options.Log)))
	ctrl.Log.Info("Starting "+command, "version", version, "namespace", options.Namespace)
	config, err := ctrl.GetConfig()
	if err != nil {
		return nil, fmt.Errorf("finding the Kubernetes API server: %w", err)
	}
	return config, nil
}

// Scheme knows the kinds that the operator reads and writes.
func Scheme() (*runtime.Scheme, error) {
	scheme := runtime.NewScheme()
	kinds := runtime.NewSchemeBuilder(clientgoscheme.AddToScheme, rayv1.AddToScheme, v1alpha1.AddToScheme)
	if err := kinds.AddToScheme(scheme); err != nil {
		return nil, fmt.Errorf("registering kinds: %w", err)
	}
	return scheme, nil
}

// newManager makes a manager of what both processes have, and of what more is said.
func newManager(config *rest.Config, options Options, more ctrl.Options) (ctrl.Manager, error) {
	scheme, err := Scheme()
	if err != nil {
		return nil, err
	}
	config = rest.CopyConfig(config)
	config.QPS = -1 // the API server's priority and fairness limits clients better
	more.Scheme = scheme
	more.Client = client.Options{Cache: &client.CacheOptions{Unstructured: true}}
	more.Metrics = metricsserver.Options{BindAddress: options.Metrics, SecureServing: !options.MetricsInsecure}
	if !options.MetricsInsecure {
		more.Metrics.FilterProvider = filters.WithAuthenticationAndAuthorization
	}
	more.HealthProbeBindAddress = options.Probes
	mgr, err := ctrl.NewManager(config, more)
	if err != nil {
		return nil, fmt.Errorf("making the manager: %w", err)
	}
	err = errors.Join(mgr.AddHealthzCheck("ping", healthz.Ping), mgr.AddReadyzCheck("caches", func(r *http.Request) error {
		if !mgr.GetCache().WaitForCacheSync(r.Context()) {
			return errors.New("caches are not in sync yet")
		}
		return nil
	}))
	if err != nil {
		return nil, fmt.Errorf("adding the probes: %w", err)
	}
	return mgr, nil
}

// watchOwnKinds has the cache hold the kinds of raytls in a process or a replica in which no controller does.
func watchOwnKinds(ctx context.Context, mgr ctrl.Manager) error {
	for _, object := range []client.Object{&v1alpha1.RayTLSPolicy{}, &v1alpha1.RayClusterTLS{}} {
		if _, err := mgr.GetCache().GetInformer(ctx, object); err != nil {
			return fmt.Errorf("watching %T: %w", object, err)
		}
	}
	return nil
}

// run watches KubeRay's kinds and runs a manager until ctx ends.
func run(ctx context.Context, mgr ctrl.Manager, kinds *kuberay.Kinds) error {
	if err := kinds.Discover(ctx); err != nil {
		return err
	}
	if err := mgr.Add(kinds); err != nil {
		return fmt.Errorf("adding the look-out for kinds of KubeRay: %w", err)
	}
	if err := mgr.Start(ctx); err != nil {
		return fmt.Errorf("running the operator: %w", err)
	}
	return nil
}
