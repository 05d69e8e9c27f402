package connect

import (
	"net/http"
	"net/http/httptest"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/spf13/cobra"
	"k8s.io/client-go/tools/clientcmd"
	clientcmdapi "k8s.io/client-go/tools/clientcmd/api"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/raytls/raytls/api/v1alpha1"
)

// The time that a command writes is compared with times of the operator's, and a user's machine may be hours off.
func TestTheClockIsTheServers(t *testing.T) {
	t.Parallel()
	server := time.Date(2026, 11, 27, 10, 0, 0, 0, time.UTC)
	for name, c := range map[string]struct {
		reason        string
		machine, want time.Time
		silent        bool
	}{
		"ahead":   {"an authority would be replaced in an hour", server.Add(time.Hour), server, false},
		"behind":  {"an authority that was made today would not be replaced", server.Add(-24 * time.Hour), server, false},
		"right":   {"whole seconds and the way of the answer are no difference", server.Add(3 * time.Second), server.Add(3 * time.Second), false},
		"no date": {"nothing is known", server.Add(time.Hour), server.Add(time.Hour), true},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			api := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
				w.Header().Set("Date", server.Format(http.TimeFormat))
				if c.silent {
					w.Header()["Date"] = nil
				}
				w.WriteHeader(http.StatusNotFound)
			}))
			t.Cleanup(api.Close)
			file := filepath.Join(t.TempDir(), "kubeconfig")
			config := clientcmdapi.Config{
				Clusters:       map[string]*clientcmdapi.Cluster{"c": {Server: api.URL}},
				Contexts:       map[string]*clientcmdapi.Context{"ctx": {Cluster: "c", Namespace: "ml"}},
				CurrentContext: "ctx",
			}
			if err := clientcmd.WriteToFile(config, file); err != nil {
				t.Fatal(err)
			}
			command := &cobra.Command{}
			flags := AddFlags(command)
			if err := command.ParseFlags([]string{"--kubeconfig", file}); err != nil {
				t.Fatal(err)
			}
			session, err := flags.Open(func() time.Time { return c.machine })
			if err != nil {
				t.Fatal(err)
			}
			if session.Namespace != "ml" {
				t.Errorf("the namespace is %q, and the context's is ml", session.Namespace)
			}
			if err := session.Client.Get(t.Context(), client.ObjectKey{Namespace: "ml", Name: "default"}, &v1alpha1.RayTLSPolicy{}); err == nil {
				t.Error("the server has nothing")
			}
			if got := session.Now(); !got.Equal(c.want) {
				t.Errorf("%s: it is %s, want %s", c.reason, got, c.want)
			}
		})
	}
}

func TestAMissingKubeconfigIsNamed(t *testing.T) {
	t.Parallel()
	command := &cobra.Command{}
	flags := AddFlags(command)
	missing := filepath.Join(t.TempDir(), "missing")
	if err := command.ParseFlags([]string{"--kubeconfig", missing}); err != nil {
		t.Fatal(err)
	}
	if _, err := flags.Open(time.Now); err == nil || !strings.Contains(err.Error(), missing) {
		t.Errorf("got %v", err)
	}
}
