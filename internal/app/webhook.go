package app

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"net"
	"path/filepath"
	"strconv"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"golang.org/x/sync/semaphore"
	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/client-go/rest"
	"k8s.io/utils/clock"
	ctrl "sigs.k8s.io/controller-runtime"
	"sigs.k8s.io/controller-runtime/pkg/client"
	"sigs.k8s.io/controller-runtime/pkg/metrics"
	ctrlwebhook "sigs.k8s.io/controller-runtime/pkg/webhook"

	"github.com/raytls/raytls/api/v1alpha1"
	"github.com/raytls/raytls/internal/kuberay"
	"github.com/raytls/raytls/internal/servingcert"
	"github.com/raytls/raytls/internal/webhook"
)

// admissionsAtOnce keeps what is worked on within the memory of the installed Deployment.
const admissionsAtOnce = 8

// RunWebhook answers the admission requests of the API server of config until ctx ends.
func RunWebhook(ctx context.Context, config *rest.Config, options WebhookOptions) error {
	certificates := &servingcert.Server{
		Directory: options.CADirectory, DNSNames: options.DNSNames, IPs: options.IPs, Clock: clock.RealClock{},
		Report: func(err error) { ctrl.Log.Error(err, "Serving the certificate of before") },
	}
	if err := metrics.Registry.Register(certificateMetrics(options.CertDirectory, certificates)); err != nil {
		return fmt.Errorf("registering metrics: %w", err)
	}
	server, err := webhookServer(options, certificates)
	if err != nil {
		return err
	}
	mgr, err := newManager(config, options.Options, ctrl.Options{Cache: webhookCaches(), WebhookServer: server})
	if err != nil {
		return err
	}
	server = mgr.GetWebhookServer() // the first call has the manager start it
	server.Register(webhook.Path, &ctrlwebhook.Admission{Handler: &webhook.Injector{
		Cached: mgr.GetClient(), Live: mgr.GetAPIReader(), Namespace: options.Namespace, Username: options.ControllerUsername,
		Images: options.Images, Limit: semaphore.NewWeighted(admissionsAtOnce),
	}})
	server.Register(webhook.PolicyPath, &ctrlwebhook.Admission{Handler: &webhook.Validator{
		Cached: mgr.GetClient(), Images: options.Images,
	}})
	err = mgr.AddReadyzCheck("webhook", server.StartedChecker())
	if options.CertDirectory == "" {
		err = errors.Join(err, mgr.AddReadyzCheck("webhook-certificate", certificates.Ready))
	}
	if err != nil {
		return fmt.Errorf("adding the readiness probes: %w", err)
	}
	// There is no controller here that has the cache hold what the handlers read.
	for _, object := range []client.Object{&v1alpha1.RayTLSPolicy{}, &v1alpha1.RayClusterTLS{}} {
		if _, err := mgr.GetCache().GetInformer(ctx, object); err != nil {
			return fmt.Errorf("watching %T: %w", object, err)
		}
	}
	kinds := &kuberay.Kinds{Mapper: mgr.GetRESTMapper()}
	kinds.Register(func(ctx context.Context, kind v1alpha1.TargetKind, object *unstructured.Unstructured) error {
		if kind != v1alpha1.TargetRayJob {
			return nil // clusters name their other owners themselves
		}
		_, err := mgr.GetCache().GetInformer(ctx, object)
		return err
	})
	return run(ctx, mgr, kinds)
}

// certificateMetrics says when the certificate ends that the webhook serves; directory is where another program keeps it, empty for
// nowhere.
func certificateMetrics(directory string, certificates *servingcert.Server) prometheus.Collector {
	return prometheus.NewGaugeFunc(prometheus.GaugeOpts{
		Name: "raytls_webhook_certificate_expiration_timestamp_seconds",
		Help: "When the certificate that the admission webhook serves ends, in seconds since 1970; 0 if there is none.",
	}, func() float64 {
		at := certificates.NotAfter
		if directory != "" {
			at = func() time.Time { return servingcert.NotAfterOfFile(filepath.Join(directory, corev1.TLSCertKey)) }
		}
		if end := at(); !end.IsZero() {
			return float64(end.Unix())
		}
		return 0
	})
}

// webhookServer serves the certificate in CertDirectory, or else one under the authority in CADirectory.
func webhookServer(options WebhookOptions, certificates *servingcert.Server) (ctrlwebhook.Server, error) {
	host, text, err := net.SplitHostPort(options.Address)
	if err != nil {
		return nil, fmt.Errorf("--webhook-bind-address: %w", err)
	}
	port, err := strconv.ParseUint(text, 10, 16)
	if err != nil {
		return nil, fmt.Errorf("--webhook-bind-address: port %q: %w", text, err)
	}
	serve := certificates.Configure
	if options.CertDirectory != "" {
		serve = func(config *tls.Config) { config.MinVersion = tls.VersionTLS13 }
	}
	return ctrlwebhook.NewServer(ctrlwebhook.Options{
		Host: host, Port: int(port), CertDir: options.CertDirectory, TLSOpts: []func(*tls.Config){serve},
	}), nil
}

// lingering ends that much later than ctx: API servers send requests to a replica until they have heard that it ends.
func lingering(ctx context.Context, delay time.Duration) (context.Context, context.CancelFunc) {
	out, cancel := context.WithCancel(context.WithoutCancel(ctx))
	context.AfterFunc(ctx, func() { time.AfterFunc(delay, cancel) })
	return out, cancel
}
