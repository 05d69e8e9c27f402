package app

import (
	"io"
	"net/netip"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"
	"k8s.io/apimachinery/pkg/runtime/schema"

	"github.com/raytls/raytls/api/v1alpha1"
	"github.com/raytls/raytls/internal/policy"
	"github.com/raytls/raytls/internal/timescale"
)

func TestParseControllerOptions(t *testing.T) {
	for name, c := range map[string]struct {
		reason string
		pod    string
		args   []string
		want   ControllerOptions
	}{
		"defaults": {
			"a Deployment says only where it runs", "raytls-system", nil,
			ControllerOptions{Options: Options{Namespace: "raytls-system", Metrics: ":8443", Probes: ":8081"}, LeaderElect: true},
		},
		"all": {
			"every setting has a flag, and the flag wins over the environment", "elsewhere",
			[]string{
				"--namespace=n", "--metrics-bind-address=0", "--metrics-insecure", "--health-probe-bind-address=:1", "--leader-elect=false",
				"--allowed-init-image=a:1", "--allowed-init-image=b/*", "--cluster-domain=k8s.example",
				"--testing-minutes-per-day=2",
			},
			ControllerOptions{
				Options: Options{Namespace: "n", Metrics: "0", Probes: ":1", MetricsInsecure: true, Images: policy.Allowlist{"a:1", "b/*"}}, ClusterDomain: "k8s.example",
				Scale: timescale.Scale{MinutesPerDay: 2},
			},
		},
	} {
		t.Run(name, func(t *testing.T) {
			t.Setenv("POD_NAMESPACE", c.pod)
			got, err := ParseControllerOptions(c.args)
			if err != nil {
				t.Fatal(err)
			}
			if diff := cmp.Diff(c.want, got, cmpopts.IgnoreFields(Options{}, "Log")); diff != "" {
				t.Errorf("%s (-want +got):\n%s", c.reason, diff)
			}
		})
	}
}

func TestParseWebhookOptions(t *testing.T) {
	for name, c := range map[string]struct {
		reason string
		pod    string
		args   []string
		want   WebhookOptions
	}{
		"defaults": {
			"a Deployment says only where it runs", "raytls-system", nil,
			WebhookOptions{
				Options: Options{Namespace: "raytls-system", Metrics: ":8443", Probes: ":8081"}, Address: ":9443", CADirectory: "/etc/raytls/webhook",
				DNSNames: []string{"raytls-webhook.raytls-system.svc"}, ControllerUsername: "system:serviceaccount:raytls-system:raytls-controller", ShutdownDelay: 3 * time.Second,
			},
		},
		"all": {
			"every setting has a flag, and the flag wins over the default", "n",
			[]string{
				"--webhook-bind-address=127.0.0.1:1", "--webhook-ca-dir=/ca", "--webhook-cert-dir=/cert", "--webhook-dns-name=h.example", "--webhook-dns-name=127.0.0.1",
				"--controller-username=me", "--shutdown-delay=1s", "--allowed-init-image=a:1",
			},
			WebhookOptions{
				Options: Options{Namespace: "n", Metrics: ":8443", Probes: ":8081", Images: policy.Allowlist{"a:1"}}, Address: "127.0.0.1:1", CADirectory: "/ca", CertDirectory: "/cert",
				DNSNames: []string{"h.example"}, IPs: []netip.Addr{netip.MustParseAddr("127.0.0.1")}, ControllerUsername: "me", ShutdownDelay: time.Second,
			},
		},
	} {
		t.Run(name, func(t *testing.T) {
			t.Setenv("POD_NAMESPACE", c.pod)
			got, err := ParseWebhookOptions(c.args)
			if err != nil {
				t.Fatal(err)
			}
			if diff := cmp.Diff(c.want, got, cmpopts.IgnoreFields(Options{}, "Log"), cmpopts.EquateComparable(netip.Addr{})); diff != "" {
				t.Errorf("%s (-want +got):\n%s", c.reason, diff)
			}
		})
	}
}

func TestClusterDomain(t *testing.T) {
	for name, c := range map[string]struct{ reason, text, want string }{
		"pod":       {"the kubelet lists the namespace's domain, the services' and the cluster's", "nameserver 10.0.0.1\nsearch ns.svc.k8s.example svc.k8s.example k8s.example\noptions ndots:5\n", "k8s.example"},
		"dot":       {"a closing dot does not count, nor does case", "search SVC.Cluster.Local.\n", "cluster.local"},
		"node":      {"outside of a pod there is none", "search example.com\n", "cluster.local"},
		"not a DNS": {"what is no domain is not taken", "search svc.a_b\n", "cluster.local"},
		"empty":     {"nor is nothing", "search svc.\n", "cluster.local"},
	} {
		t.Run(name, func(t *testing.T) {
			path := filepath.Join(t.TempDir(), "resolv.conf")
			if err := os.WriteFile(path, []byte(c.text), 0o600); err != nil {
				t.Fatal(err)
			}
			if got := clusterDomain(path); got != c.want {
				t.Errorf("%s: got %q, want %q", c.reason, got, c.want)
			}
		})
	}
	if got := clusterDomain(filepath.Join(t.TempDir(), "none")); got != "cluster.local" {
		t.Errorf("without the file: got %q", got)
	}
}

func TestMainRefuses(t *testing.T) {
	for name, c := range map[string]struct {
		reason, pod string
		args        []string
		want        string
	}{
		"no command":         {"nobody says what to run", "n", nil, `"" is not a command`},
		"unknown command":    {"a mistyped command is not ignored", "n", []string{"controler"}, `"controler" is not a command`},
		"no namespace":       {"authorities need a place", "", []string{"controller"}, "--namespace or $POD_NAMESPACE"},
		"bad namespace":      {"a namespace is a label", "A_B", []string{"controller"}, "own namespace"},
		"unknown flag":       {"a mistyped flag is not ignored", "n", []string{"controller", "--leader-elct"}, "leader-elct"},
		"argument":           {"there are no arguments", "n", []string{"controller", "run"}, `unexpected "run"`},
		"empty image":        {"an empty image would allow nothing", "n", []string{"webhook", "--allowed-init-image="}, "must be an image"},
		"bad domain":         {"a domain is made of labels", "n", []string{"controller", "--cluster-domain=a_b"}, "--cluster-domain"},
		"bad name":           {"a certificate is for a name", "n", []string{"webhook", "--webhook-dns-name=a_b"}, "webhook-dns-name"},
		"another's flag":     {"a setting without effect is a mistake", "n", []string{"controller", "--webhook-bind-address=:1"}, "webhook-bind-address"},
		"no minutes":         {"a day without minutes is none", "n", []string{"controller", "--testing-minutes-per-day=0"}, "1 to 1440"},
		"long days":          {"days become no longer", "n", []string{"controller", "--testing-minutes-per-day=1441"}, "1 to 1440"},
		"star in the middle": {"only the end is open", "n", []string{"controller", "--allowed-init-image=a*b"}, "single *"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Setenv("POD_NAMESPACE", c.pod)
			quietly(t, func() {
				err := Main("v0", c.args)
				if err == nil || !strings.Contains(err.Error(), c.want) {
					t.Errorf("%s: got %v, want an error with %q", c.reason, err, c.want)
				}
			})
		})
	}
}

func TestHelpIsNoError(t *testing.T) {
	for _, args := range [][]string{{"--help"}, {"controller", "--help"}, {"webhook", "--help"}} {
		quietly(t, func() {
			if err := Main("v0", args); err != nil {
				t.Errorf("Main(%q): got %v: whoever asks for help gets it and exit code 0", args, err)
			}
		})
	}
}

// quietly keeps usages out of the test's output.
func quietly(t *testing.T, run func()) {
	t.Helper()
	stdout, stderr := os.Stdout, os.Stderr
	read, write, err := os.Pipe()
	if err != nil {
		t.Fatal(err)
	}
	os.Stdout, os.Stderr = write, write
	drained := make(chan struct{})
	go func() {
		defer close(drained)
		_, _ = io.Copy(io.Discard, read)
	}()
	defer func() {
		os.Stdout, os.Stderr = stdout, stderr
		_ = write.Close()
		<-drained
	}()
	run()
}

func TestSchemeKnowsWhatIsReadAndWritten(t *testing.T) {
	scheme, err := Scheme()
	if err != nil {
		t.Fatal(err)
	}
	for _, kind := range []schema.GroupVersionKind{
		v1alpha1.GroupVersion.WithKind("RayTLSPolicy"),
		v1alpha1.GroupVersion.WithKind("RayClusterTLS"),
		{Group: "ray.io", Version: "v1", Kind: "RayCluster"},
		{Group: "ray.io", Version: "v1", Kind: "RayJob"},
		{Version: "v1", Kind: "Secret"},
		{Group: "events.k8s.io", Version: "v1", Kind: "Event"},
	} {
		if !scheme.Recognizes(kind) {
			t.Errorf("the scheme does not know %s", kind)
		}
	}
}
