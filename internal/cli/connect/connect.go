// Package connect connects a command to the API server that the user's kubeconfig names.
package connect

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/spf13/cobra"
	"k8s.io/apimachinery/pkg/runtime"
	clientgoscheme "k8s.io/client-go/kubernetes/scheme"
	"k8s.io/client-go/rest"
	"k8s.io/client-go/tools/clientcmd"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/raytls/raytls/api/v1alpha1"
)

// Flags are those by which kubectl chooses an API server and a namespace.
type Flags struct {
	kubeconfig string
	overrides  clientcmd.ConfigOverrides
}

// AddFlags adds the flags to a command.
func AddFlags(command *cobra.Command) *Flags {
	f := &Flags{}
	flags := command.Flags()
	flags.StringVar(&f.kubeconfig, "kubeconfig", "", "The kubeconfig file.")
	flags.StringVar(&f.overrides.CurrentContext, "context", "", "The context of the kubeconfig.")
	flags.StringVarP(&f.overrides.Context.Namespace, "namespace", "n", "", "The RayCluster's namespace. Defaults to that of the context.")
	return f
}

// Repeat are the flags with which another command reaches the same namespace of the same API server.
func (f *Flags) Repeat(namespace string) string {
	out := "-n " + namespace
	if f.overrides.CurrentContext != "" {
		out += " --context " + f.overrides.CurrentContext
	}
	if f.kubeconfig != "" {
		out += " --kubeconfig " + f.kubeconfig
	}
	return out
}

// Session is a connection.
type Session struct {
	Config *rest.Config
	Client client.Client
	// Namespace is the one that the user asked for.
	Namespace string
	// Now is the API server's clock, as far as its answers told.
	Now func() time.Time
	// Sleep returns after that time, or earlier with the error of the context.
	Sleep func(context.Context, time.Duration) error
}

// Opener opens the session that flags ask for.
type Opener func(*Flags) (*Session, error)

// At opens sessions on a machine with that clock.
func At(now func() time.Time) Opener {
	return func(f *Flags) (*Session, error) { return f.Open(now) }
}

// Open connects. Nothing is sent before the first request. now is this machine's clock.
func (f *Flags) Open(now func() time.Time) (*Session, error) {
	rules := clientcmd.NewDefaultClientConfigLoadingRules()
	rules.ExplicitPath = f.kubeconfig
	loaded := clientcmd.NewNonInteractiveDeferredLoadingClientConfig(rules, &f.overrides)
	config, err := loaded.ClientConfig()
	if err != nil {
		return nil, fmt.Errorf("reading the kubeconfig: %w", err)
	}
	namespace, _, err := loaded.Namespace()
	if err != nil {
		return nil, fmt.Errorf("reading the kubeconfig: %w", err)
	}
	scheme, err := Scheme()
	if err != nil {
		return nil, err
	}
	clock := &clock{machine: now}
	config.Wrap(clock.wrap)
	connection, err := client.New(config, client.Options{Scheme: scheme})
	if err != nil {
		return nil, fmt.Errorf("connecting to the API server: %w", err)
	}
	return &Session{Config: config, Client: connection, Namespace: namespace, Now: clock.now, Sleep: sleep}, nil
}

func sleep(ctx context.Context, during time.Duration) error {
	timer := time.NewTimer(during)
	defer timer.Stop()
	select {
	case <-timer.C:
		return nil
	case <-ctx.Done():
		return ctx.Err()
	}
}

// Scheme has the kinds that commands read and write as Go types.
func Scheme() (*runtime.Scheme, error) {
	scheme := runtime.NewScheme()
	if err := errors.Join(clientgoscheme.AddToScheme(scheme), v1alpha1.AddToScheme(scheme)); err != nil {
		return nil, fmt.Errorf("registering kinds: %w", err)
	}
	return scheme, nil
}
