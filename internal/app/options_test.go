package app

import (
	"errors"
	"flag"
	"io"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"k8s.io/apimachinery/pkg/runtime/schema"

	"github.com/raytls/raytls/api/v1alpha1"
	"github.com/raytls/raytls/internal/controller/acceptance"
)

func TestParseOptions(t *testing.T) {
	type settings struct {
		Namespace, Metrics, Probes string
		Insecure, Elect            bool
		Images                     acceptance.Allowlist
		Domain                     string
	}
	for name, c := range map[string]struct {
		reason string
		pod    string
		args   []string
		want   settings
	}{
		"defaults": {
			"a Deployment says only where it runs", "raytls-system", nil,
			settings{Namespace: "raytls-system", Metrics: ":8443", Probes: ":8081", Elect: true},
		},
		"all": {
			"every setting has a flag, and the flag wins over the environment", "elsewhere",
			[]string{
				"--namespace=n", "--metrics-bind-address=0", "--metrics-insecure", "--health-probe-bind-address=:1", "--leader-elect=false",
				"--allowed-init-image=a:1", "--allowed-init-image=b/*", "--cluster-domain=k8s.example",
			},
			settings{Namespace: "n", Metrics: "0", Probes: ":1", Insecure: true, Images: acceptance.Allowlist{"a:1", "b/*"}, Domain: "k8s.example"},
		},
	} {
		t.Run(name, func(t *testing.T) {
			t.Setenv("POD_NAMESPACE", c.pod)
			o, err := ParseOptions(c.args)
			if err != nil {
				t.Fatal(err)
			}
			got := settings{o.Namespace, o.Metrics, o.Probes, o.MetricsInsecure, o.LeaderElect, o.Images, o.ClusterDomain}
			if diff := cmp.Diff(c.want, got); diff != "" {
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

func TestParseOptionsRefuses(t *testing.T) {
	for name, c := range map[string]struct {
		reason, pod string
		args        []string
		want        string
	}{
		"no namespace":       {"authorities need a place", "", nil, "--namespace or $POD_NAMESPACE"},
		"bad namespace":      {"a namespace is a label", "A_B", nil, "own namespace"},
		"unknown flag":       {"a mistyped flag is not ignored", "n", []string{"--leader-elct"}, "leader-elct"},
		"argument":           {"there are no arguments", "n", []string{"run"}, `unexpected "run"`},
		"empty image":        {"an empty image would allow nothing", "n", []string{"--allowed-init-image="}, "must be an image"},
		"bad domain":         {"a domain is made of labels", "n", []string{"--cluster-domain=a_b"}, "--cluster-domain"},
		"star in the middle": {"only the end is open", "n", []string{"--allowed-init-image=a*b"}, "single *"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Setenv("POD_NAMESPACE", c.pod)
			quietly(t, func() {
				_, err := ParseOptions(c.args)
				if err == nil || !strings.Contains(err.Error(), c.want) {
					t.Errorf("%s: got %v, want an error with %q", c.reason, err, c.want)
				}
			})
		})
	}
}

func TestHelpIsNoError(t *testing.T) {
	quietly(t, func() {
		if _, err := ParseOptions([]string{"--help"}); !errors.Is(err, flag.ErrHelp) {
			t.Errorf("ParseOptions: got %v, want flag.ErrHelp", err)
		}
		if err := Main("v0", []string{"--help"}); err != nil {
			t.Errorf("Main: got %v: whoever asks for help gets it and exit code 0", err)
		}
	})
}

// quietly keeps the flag package's usage out of the test's output.
func quietly(t *testing.T, run func()) {
	t.Helper()
	stderr := os.Stderr
	read, write, err := os.Pipe()
	if err != nil {
		t.Fatal(err)
	}
	os.Stderr = write
	drained := make(chan struct{})
	go func() {
		defer close(drained)
		_, _ = io.Copy(io.Discard, read)
	}()
	defer func() {
		os.Stderr = stderr
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
