// Package app wires the operator together: the controller, which writes, and the webhook, which answers API servers.
package app

import (
	"cmp"
	"errors"
	"flag"
	"fmt"
	"net/netip"
	"os"
	"strconv"
	"strings"
	"time"

	"k8s.io/apimachinery/pkg/util/validation"
	"k8s.io/utils/clock"
	"sigs.k8s.io/controller-runtime/pkg/log/zap"

	"github.com/raytls/raytls/api/v1alpha1"
	"github.com/raytls/raytls/internal/policy"
	"github.com/raytls/raytls/internal/probe"
	"github.com/raytls/raytls/internal/timescale"
)

// Options are the settings that both processes have.
type Options struct {
	// Namespace is the operator's own: authorities and its lease are kept there.
	Namespace string
	// Metrics and Probes are addresses to listen on; "0" for none.
	Metrics, Probes string
	// MetricsInsecure serves metrics over HTTP to anybody, for tests.
	MetricsInsecure bool
	// Images are the init images that policies may name.
	Images policy.Allowlist
	Log    zap.Options
}

// ControllerOptions are the settings of the controller.
type ControllerOptions struct {
	Options
	// LeaderElect has one of several replicas do the work.
	LeaderElect bool
	// ClusterDomain is the Kubernetes cluster's DNS domain; empty for what the operator's own pod searches.
	ClusterDomain string
	// Dial connects to heads; nil for a plain connection. Tests have no pod network.
	Dial probe.Dial
	// Scale is how long days are: shorter in an installation for tests.
	Scale timescale.Scale
	// Clock tells the time to decisions, which are made by the API servers' clocks: it is moved by how far these are from the machine's.
	// nil is for the machine's clock.
	Clock clock.PassiveClock
}

// WebhookOptions are the settings of the webhook.
type WebhookOptions struct {
	Options
	// Address is where to listen for admission requests.
	Address string
	// CADirectory holds the authority that the controller makes, DNSNames and IPs are the names to be certified.
	CADirectory string
	DNSNames    []string
	IPs         []netip.Addr
	// CertDirectory holds a certificate that somebody else makes; it replaces CADirectory. Empty for none.
	CertDirectory string
	// ControllerUsername is the controller's, as the API server knows it: the webhook edits RayClusters by its orders.
	ControllerUsername string
	// ShutdownDelay is how long requests are answered after the process is told to stop.
	ShutdownDelay time.Duration
}

// newFlags has the flags of both processes.
func newFlags(command string, o *Options) *flag.FlagSet {
	flags := flag.NewFlagSet("manager "+command, flag.ContinueOnError)
	flags.StringVar(&o.Namespace, "namespace", os.Getenv("POD_NAMESPACE"), "The operator's own namespace, where authorities are kept. Defaults to $POD_NAMESPACE.")
	flags.StringVar(&o.Metrics, "metrics-bind-address", ":8443", `The address for metrics over HTTPS, with authentication and authorization by the API server; "0" for none.`)
	flags.BoolVar(&o.MetricsInsecure, "metrics-insecure", false, "Serve metrics over HTTP without authentication.")
	flags.StringVar(&o.Probes, "health-probe-bind-address", ":8081", `The address for /healthz and /readyz; "0" for none.`)
	flags.Func("allowed-init-image", "An init container image that policies may name, or the beginning of images with a * at the end. Can be repeated. Without it, only the Ray containers' own images are used. Controller and webhook must have the same.", func(image string) error {
		if image == "" || strings.Contains(strings.TrimSuffix(image, "*"), "*") {
			return errors.New("must be an image, or the beginning of one with a single * at the end")
		}
		o.Images = append(o.Images, image)
		return nil
	})
	o.Log.BindFlags(flags)
	return flags
}

// parse reads the command line and checks what both processes have.
func (o *Options) parse(flags *flag.FlagSet, args []string) error {
	if err := flags.Parse(args); err != nil {
		return fmt.Errorf("reading the command line: %w", err)
	}
	if flags.NArg() > 0 {
		return fmt.Errorf("reading the command line: unexpected %q", flags.Arg(0))
	}
	if problems := validation.IsDNS1123Label(o.Namespace); len(problems) > 0 {
		return fmt.Errorf("--namespace or $POD_NAMESPACE must name the operator's own namespace: %s", strings.Join(problems, ", "))
	}
	return nil
}

// ParseControllerOptions reads the controller's command line. It returns flag.ErrHelp after printing the help.
func ParseControllerOptions(args []string) (ControllerOptions, error) {
	var o ControllerOptions
	flags := newFlags(commandController, &o.Options)
	flags.BoolVar(&o.LeaderElect, "leader-elect", true, "Have one of several replicas do the work.")
	flags.StringVar(&o.ClusterDomain, "cluster-domain", "", "The Kubernetes cluster's DNS domain. Defaults to that in the search list of /etc/resolv.conf, or else to cluster.local.")
	flags.Func("testing-minutes-per-day", fmt.Sprintf("For tests alone: how many minutes a day of validityDays is, 1 to %d, and waits are shorter as days are. The controller starts with it only if its namespace has the label %s=true.", timescale.MinutesPerDay, v1alpha1.LabelTesting), func(text string) error {
		minutes, err := strconv.Atoi(text)
		if err != nil || minutes < 1 || minutes > timescale.MinutesPerDay {
			return fmt.Errorf("must be a number from 1 to %d", timescale.MinutesPerDay)
		}
		o.Scale = timescale.Scale{MinutesPerDay: minutes}
		return nil
	})
	if err := o.parse(flags, args); err != nil {
		return o, err
	}
	if problems := validation.IsDNS1123Subdomain(o.ClusterDomain); o.ClusterDomain != "" && (len(problems) > 0 || len(o.ClusterDomain) > maxClusterDomain) {
		return o, fmt.Errorf("--cluster-domain must be a DNS domain of at most %d characters: %s", maxClusterDomain, strings.Join(problems, ", "))
	}
	return o, nil
}

// ParseWebhookOptions reads the webhook's command line. It returns flag.ErrHelp after printing the help.
func ParseWebhookOptions(args []string) (WebhookOptions, error) {
	var o WebhookOptions
	flags := newFlags(commandWebhook, &o.Options)
	flags.StringVar(&o.Address, "webhook-bind-address", ":9443", "The address for admission requests over HTTPS.")
	flags.StringVar(&o.CADirectory, "webhook-ca-dir", "/etc/raytls/webhook", "The folder where the Secret raytls-webhook-ca is mounted. The webhook signs its own certificate with the authority in it.")
	flags.StringVar(&o.CertDirectory, "webhook-cert-dir", "", "A folder with tls.crt and tls.key to serve, which somebody else makes and replaces, as cert-manager does; the caBundle is theirs too then. It replaces --webhook-ca-dir.")
	flags.Func("webhook-dns-name", "A name or IP address that API servers call the webhook by. Can be repeated. Defaults to raytls-webhook.<namespace>.svc.", o.addName)
	flags.StringVar(&o.ControllerUsername, "controller-username", "", "The controller's user name. Defaults to system:serviceaccount:<namespace>:raytls-controller.")
	flags.DurationVar(&o.ShutdownDelay, "shutdown-delay", 3*time.Second, "How long to answer admission requests after being told to stop: API servers hear later that a replica ends.")
	if err := o.parse(flags, args); err != nil {
		return o, err
	}
	if len(o.DNSNames)+len(o.IPs) == 0 {
		o.DNSNames = []string{"raytls-webhook." + o.Namespace + ".svc"}
	}
	o.ControllerUsername = cmp.Or(o.ControllerUsername, "system:serviceaccount:"+o.Namespace+":raytls-controller")
	return o, nil
}

// addName adds a name or address that API servers call the webhook by.
func (o *WebhookOptions) addName(name string) error {
	if ip, err := netip.ParseAddr(name); err == nil {
		o.IPs = append(o.IPs, ip)
		return nil
	}
	if problems := validation.IsDNS1123Subdomain(name); len(problems) > 0 {
		return errors.New(strings.Join(problems, ", "))
	}
	o.DNSNames = append(o.DNSNames, name)
	return nil
}

const (
	// resolvConf is where the kubelet writes in which domains a pod's names are looked for.
	resolvConf           = "/etc/resolv.conf"
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
