package app

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"net/http"
	"path/filepath"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/client-go/rest"
	"k8s.io/utils/clock"
	ctrl "sigs.k8s.io/controller-runtime"
	"sigs.k8s.io/controller-runtime/pkg/certwatcher"
	"sigs.k8s.io/controller-runtime/pkg/manager"
	"sigs.k8s.io/controller-runtime/pkg/metrics"
	"sigs.k8s.io/controller-runtime/pkg/webhook/admission"

	"github.com/raytls/raytls/api/v1alpha1"
	"github.com/raytls/raytls/internal/kuberay"
	"github.com/raytls/raytls/internal/limit"
	"github.com/raytls/raytls/internal/listen"
	"github.com/raytls/raytls/internal/servingcert"
	"github.com/raytls/raytls/internal/webhook"
)

// RunWebhook answers the admission requests of the API server of config until the options' ShutdownDelay after ctx ends.
func RunWebhook(ctx context.Context, config *rest.Config, options WebhookOptions) error {
	told := ctx.Done()
	ctx, cancel := lingering(ctx, options.ShutdownDelay)
	defer cancel()
	certificates := &servingcert.Server{
		Directory: options.CADirectory, DNSNames: options.DNSNames, IPs: options.IPs, Clock: clock.RealClock{},
		Report: func(err error) { ctrl.Log.Error(err, "Serving the certificate of before") },
	}
	mgr, err := newManager(config, options.Options, ctrl.Options{Cache: webhookCaches()})
	if err != nil {
		return err
	}
	limiter := limit.New(webhook.Limits())
	handler, err := admissions(map[string]admission.Handler{
		webhook.Path: &webhook.Limited{Limiter: limiter, Handler: &webhook.Injector{
			Cached: mgr.GetClient(), Live: mgr.GetAPIReader(), Namespace: options.Namespace, Username: options.ControllerUsername,
			Images: options.Images,
		}},
		webhook.PolicyPath: &webhook.Limited{Limiter: limiter, Handler: &webhook.Validator{
			Cached: mgr.GetClient(), Images: options.Images,
		}},
	})
	if err != nil {
		return err
	}
	serving, err := servingConfig(mgr.Add, options.CertDirectory, certificates)
	if err != nil {
		return err
	}
	if err := metrics.Registry.Register(certificateMetrics(serving)); err != nil {
		return fmt.Errorf("registering metrics: %w", err)
	}
	server := &listen.Server{Address: options.Address, Handler: handler, TLS: serving, Limits: listen.DefaultLimits(), Draining: told}
	if err := mgr.Add(server); err != nil {
		return fmt.Errorf("adding the admission server: %w", err)
	}
	err = mgr.AddReadyzCheck("webhook", server.Ready)
	if options.CertDirectory == "" {
		err = errors.Join(err, mgr.AddReadyzCheck("webhook-certificate", certificates.Ready))
	}
	if err != nil {
		return fmt.Errorf("adding the readiness probes: %w", err)
	}
	if err := watchOwnKinds(ctx, mgr); err != nil {
		return err
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

// certificateMetrics says when the certificate ends that the webhook serves.
func certificateMetrics(serving *tls.Config) prometheus.Collector {
	return prometheus.NewGaugeFunc(prometheus.GaugeOpts{
		Name: "raytls_webhook_certificate_expiration_timestamp_seconds",
		Help: "When the certificate that the admission webhook serves ends, in seconds since 1970; 0 if there is none.",
	}, func() float64 {
		certificate, err := serving.GetCertificate(nil)
		if err != nil {
			return 0
		}
		return float64(certificate.Leaf.NotAfter.Unix())
	})
}

// admissions serves handlers by their paths.
func admissions(handlers map[string]admission.Handler) (http.Handler, error) {
	mux := http.NewServeMux()
	for path, handler := range handlers {
		hook, err := admission.StandaloneWebhook(&admission.Webhook{Handler: handler}, admission.StandaloneOptions{MetricsPath: path})
		if err != nil {
			return nil, fmt.Errorf("serving %s: %w", path, err)
		}
		mux.Handle(path, hook)
	}
	return mux, nil
}

// servingConfig has the certificate in directory, where another program keeps it, and hands what looks out for another one to add.
// Without a directory, it has one of certificates.
func servingConfig(add func(manager.Runnable) error, directory string, certificates *servingcert.Server) (*tls.Config, error) {
	config := &tls.Config{MinVersion: tls.VersionTLS13}
	if directory == "" {
		certificates.Configure(config)
		return config, nil
	}
	watcher, err := certwatcher.New(filepath.Join(directory, corev1.TLSCertKey), filepath.Join(directory, corev1.TLSPrivateKeyKey))
	if err != nil {
		return nil, fmt.Errorf("reading the certificate in --webhook-cert-dir: %w", err)
	}
	if err := add(watcher); err != nil {
		return nil, fmt.Errorf("adding the look-out for another certificate: %w", err)
	}
	config.GetCertificate = watcher.GetCertificate
	return config, nil
}

// lingering ends that much later than ctx: API servers send requests to a replica until they have heard that it ends.
func lingering(ctx context.Context, delay time.Duration) (context.Context, context.CancelFunc) {
	out, cancel := context.WithCancel(context.WithoutCancel(ctx))
	context.AfterFunc(ctx, func() { time.AfterFunc(delay, cancel) })
	return out, cancel
}
