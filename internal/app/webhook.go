package app

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"net"
	"net/http"
	"strconv"

	"golang.org/x/sync/semaphore"
	"k8s.io/client-go/rest"
	"k8s.io/utils/clock"
	ctrl "sigs.k8s.io/controller-runtime"
	ctrlwebhook "sigs.k8s.io/controller-runtime/pkg/webhook"

	"github.com/raytls/raytls/internal/controller/admission"
	"github.com/raytls/raytls/internal/webhook"
	"github.com/raytls/raytls/internal/webhook/serving"
)

const (
	noAddress = "0"
	// admissionsAtOnce keeps what is worked on within the memory of the installed Deployment.
	admissionsAtOnce = 8
)

// webhookServer serves what the certificates hold; nil where admission requests are not answered.
func webhookServer(options Options, certificates *serving.Certificates) (ctrlwebhook.Server, error) {
	if options.Webhook == noAddress {
		return nil, nil
	}
	host, text, err := net.SplitHostPort(options.Webhook)
	if err != nil {
		return nil, fmt.Errorf("--webhook-bind-address: %w", err)
	}
	port, err := strconv.ParseUint(text, 10, 16)
	if err != nil {
		return nil, fmt.Errorf("--webhook-bind-address: port %q: %w", text, err)
	}
	return ctrlwebhook.NewServer(ctrlwebhook.Options{
		Host: host, Port: int(port), TLSOpts: []func(*tls.Config){certificates.Configure},
	}), nil
}

// addAdmission adds the webhook's handlers, its certificates and its registration with the API server.
func addAdmission(ctx context.Context, mgr ctrl.Manager, config *rest.Config, options Options, certificates *serving.Certificates) (*admission.Reconciler, error) {
	registration := &admission.Reconciler{
		Client: mgr.GetClient(), Live: mgr.GetAPIReader(), Namespace: options.Namespace, Clock: clock.RealClock{},
		Certificates: certificates, Profile: options.WebhookProfile, Elected: mgr.Elected(), Off: options.Webhook == noAddress,
	}
	if registration.Off {
		return registration, nil
	}
	user, err := username(ctx, config)
	if err != nil {
		return nil, err
	}
	server := mgr.GetWebhookServer()
	server.Register(webhook.Path, &ctrlwebhook.Admission{Handler: &webhook.Injector{
		Cached: mgr.GetClient(), Live: mgr.GetAPIReader(), Namespace: options.Namespace, Username: user, Images: options.Images,
		Limit: semaphore.NewWeighted(admissionsAtOnce),
	}})
	server.Register(webhook.PolicyPath, &ctrlwebhook.Admission{Handler: &webhook.Validator{
		Cached: mgr.GetClient(), Images: options.Images,
	}})
	if options.WebhookCertDir != "" {
		watcher, err := serving.Files(certificates, options.WebhookCertDir)
		if err != nil {
			return nil, err
		}
		if err := mgr.Add(watcher); err != nil {
			return nil, fmt.Errorf("adding the watch of the webhook's certificate: %w", err)
		}
	}
	if err := registration.SetupWithManager(mgr); err != nil {
		return nil, err
	}
	for name, check := range map[string]func(*http.Request) error{"webhook": server.StartedChecker(), "webhook-certificate": certificates.Ready} {
		if err := mgr.AddReadyzCheck(name, check); err != nil {
			return nil, errors.Join(fmt.Errorf("adding the readiness probe %s", name), err)
		}
	}
	return registration, nil
}
