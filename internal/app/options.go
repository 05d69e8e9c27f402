// Package app wires the operator together.
package app

import (
	"errors"
	"flag"
	"fmt"
	"net/netip"
	"os"
	"strings"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"k8s.io/apimachinery/pkg/util/validation"
	"sigs.k8s.io/controller-runtime/pkg/log/zap"

	"github.com/raytls/raytls/internal/controller/acceptance"
	"github.com/raytls/raytls/internal/webhook/serving"
)

// Options are the operator's settings.
type Options struct {
	// Namespace is the operator's own: authorities and its lease are kept there.
	Namespace string
	// Metrics and Probes are addresses to listen on; "0" for none.
	Metrics, Probes string
	// MetricsInsecure serves metrics over HTTP to anybody, for tests.
	MetricsInsecure bool
	// Webhook is the address for admission requests; "0" for none. WebhookProfile says what certificates are made for it;
	// nil to serve those in WebhookCertDir, which somebody else makes.
	Webhook        string
	WebhookProfile *serving.Profile
	WebhookCertDir string
	// ShutdownDelay is how long requests are answered after the operator is told to stop.
	ShutdownDelay time.Duration
	// LeaderElect has one of several replicas do the work.
	LeaderElect bool
	// Images are the init images that policies may name.
	Images acceptance.Allowlist
	// ClusterDomain is the Kubernetes cluster's DNS domain; empty for what the operator's own pod searches.
	ClusterDomain string
	// Registry takes the operator's own metrics; nil for none.
	Registry prometheus.Registerer
	// Log is how to log.
	Log zap.Options
}

// ParseOptions reads the command line. It returns flag.ErrHelp after printing the help that was asked for.
func ParseOptions(args []string) (Options, error) {
	var o Options
	flags := flag.NewFlagSet("manager", flag.ContinueOnError)
	flags.StringVar(&o.Namespace, "namespace", os.Getenv("POD_NAMESPACE"), "The operator's own namespace, where authorities are kept. Defaults to $POD_NAMESPACE.")
	flags.StringVar(&o.Metrics, "metrics-bind-address", ":8443", `The address for metrics over HTTPS, with authentication and authorization by the API server; "0" for none.`)
	flags.BoolVar(&o.MetricsInsecure, "metrics-insecure", false, "Serve metrics over HTTP without authentication.")
	flags.StringVar(&o.Probes, "health-probe-bind-address", ":8081", `The address for /healthz and /readyz; "0" for none.`)
	flags.StringVar(&o.Webhook, "webhook-bind-address", ":9443", `The address for admission requests over HTTPS; "0" for none.`)
	flags.StringVar(&o.WebhookCertDir, "webhook-cert-dir", "", "A folder with tls.crt and tls.key for admission requests, which somebody else makes and replaces, as cert-manager does; the caBundle is theirs too then. Without it, the operator makes certificates itself.")
	var names []string
	flags.Func("webhook-dns-name", "A name or IP address that API servers call the operator by. Can be repeated. Defaults to raytls-webhook.<namespace>.svc.", func(name string) error {
		names = append(names, name)
		return nil
	})
	flags.DurationVar(&o.ShutdownDelay, "shutdown-delay", 3*time.Second, "How long to answer admission requests after being told to stop: API servers hear later that a replica ends.")
	flags.BoolVar(&o.LeaderElect, "leader-elect", true, "Have one of several replicas do the work.")
	flags.Func("allowed-init-image", "An init container image that policies may name, or the beginning of images with a * at the end. Can be repeated. Without it, only the Ray containers' own images are used.", func(image string) error {
		if image == "" || strings.Contains(strings.TrimSuffix(image, "*"), "*") {
			return errors.New("must be an image, or the beginning of one with a single * at the end")
		}
		o.Images = append(o.Images, image)
		return nil
	})
	flags.StringVar(&o.ClusterDomain, "cluster-domain", "", "The Kubernetes cluster's DNS domain. Defaults to that in the search list of /etc/resolv.conf, or else to cluster.local.")
	o.Log.BindFlags(flags)
	if err := flags.Parse(args); err != nil {
		return o, fmt.Errorf("reading the command line: %w", err)
	}
	if flags.NArg() > 0 {
		return o, fmt.Errorf("reading the command line: unexpected %q", flags.Arg(0))
	}
	if problems := validation.IsDNS1123Label(o.Namespace); len(problems) > 0 {
		return o, fmt.Errorf("--namespace or $POD_NAMESPACE must name the operator's own namespace: %s", strings.Join(problems, ", "))
	}
	if o.WebhookCertDir == "" {
		profile, err := webhookProfile(o.Namespace, names)
		if err != nil {
			return o, err
		}
		o.WebhookProfile = &profile
	}
	if problems := validation.IsDNS1123Subdomain(o.ClusterDomain); o.ClusterDomain != "" && (len(problems) > 0 || len(o.ClusterDomain) > maxClusterDomain) {
		return o, fmt.Errorf("--cluster-domain must be a DNS domain of at most %d characters: %s", maxClusterDomain, strings.Join(problems, ", "))
	}
	return o, nil
}

// webhookProfile is the profile of the webhook's certificates, for its Service where no other name is given.
func webhookProfile(namespace string, names []string) (serving.Profile, error) {
	profile := serving.NewProfile("raytls-webhook", namespace)
	if len(names) == 0 {
		return profile, nil
	}
	profile.DNSNames = nil
	for _, name := range names {
		if ip, err := netip.ParseAddr(name); err == nil {
			profile.IPs = append(profile.IPs, ip)
			continue
		}
		if problems := validation.IsDNS1123Subdomain(name); len(problems) > 0 {
			return profile, fmt.Errorf("--webhook-dns-name %q: %s", name, strings.Join(problems, ", "))
		}
		profile.DNSNames = append(profile.DNSNames, name)
	}
	return profile, nil
}

// resolvConf is where the kubelet writes in which domains a pod's names are looked for.
const resolvConf = "/etc/resolv.conf"

const (
	defaultClusterDomain = "cluster.local"
	// maxClusterDomain leaves room for the names of a Service and a namespace before it.
	maxClusterDomain = 120
)

// clusterDomain takes the Kubernetes cluster's DNS domain from the search list that the kubelet writes for pods.
func clusterDomain(path string) string {
	text, err := os.ReadFile(path)
	if err != nil {
		return defaultClusterDomain
	}
	for line := range strings.Lines(string(text)) {
		fields := strings.Fields(line)
		if len(fields) == 0 || fields[0] != "search" {
			continue
		}
		for _, entry := range fields[1:] {
			domain, found := strings.CutPrefix(strings.ToLower(strings.TrimSuffix(entry, ".")), "svc.")
			if found && len(domain) <= maxClusterDomain && len(validation.IsDNS1123Subdomain(domain)) == 0 {
				return domain
			}
		}
	}
	return defaultClusterDomain
}
