// Package verify is the command that shows what a head serves on the wire.
package verify

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/spf13/cobra"
	"k8s.io/apimachinery/pkg/runtime"
	clientgoscheme "k8s.io/client-go/kubernetes/scheme"
	"k8s.io/client-go/tools/clientcmd"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/raytls/raytls/api/v1alpha1"
)

// Exit codes beside 0, for the cluster's mutual TLS, and 1, for a command that failed.
const (
	exitFault   = 2
	exitUnknown = 3
)

// fault is a verdict that is not the cluster's mutual TLS.
type fault struct {
	error
	code int
}

// ExitCode is what the process ends with.
func (f fault) ExitCode() int { return f.code }

// New makes the command. now is the clock.
func New(now func() time.Time) *cobra.Command {
	var kubeconfig, ca string
	var overrides clientcmd.ConfigOverrides
	command := &cobra.Command{
		Use:   "verify CLUSTER",
		Short: "Make a TLS handshake with a RayCluster's head, and show which certificate it serves",
		Long: `Makes a TLS handshake with the GCS port of the RayCluster's head and shows the served certificate. It needs no key: a
server presents its certificate before it asks for the client's. The connection runs through the API server's
port-forward, so NetworkPolicies do not apply to it.

The certificate is compared with the trust bundle in the cluster's CA Secret, or in --ca-file. Without access to the Secret
it is compared with the authority that the RayClusterTLS names, which proves less.

The exit code is 0 for mutual TLS with a certificate of the cluster's authority, 2 for anything else that the head is
proven to serve, 3 if the head does not show what it serves, and 1 if the command fails.`,
		Example: "  raytls verify train -n ml\n" +
			"  raytls verify train -n ml --ca-file ca.crt",
		Args: cobra.ExactArgs(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			rules := clientcmd.NewDefaultClientConfigLoadingRules()
			rules.ExplicitPath = kubeconfig
			loaded := clientcmd.NewNonInteractiveDeferredLoadingClientConfig(rules, &overrides)
			config, err := loaded.ClientConfig()
			if err != nil {
				return fmt.Errorf("reading the kubeconfig: %w", err)
			}
			namespace, _, err := loaded.Namespace()
			if err != nil {
				return fmt.Errorf("reading the kubeconfig: %w", err)
			}
			scheme := runtime.NewScheme()
			if err := errors.Join(clientgoscheme.AddToScheme(scheme), v1alpha1.AddToScheme(scheme)); err != nil {
				return fmt.Errorf("registering kinds: %w", err)
			}
			reader, err := client.New(config, client.Options{Scheme: scheme})
			if err != nil {
				return fmt.Errorf("connecting to the API server: %w", err)
			}
			v := verifier{reader: reader, forward: forwarder(config), now: now, out: cmd.OutOrStdout(), notes: cmd.ErrOrStderr()}
			return v.verify(cmd.Context(), client.ObjectKey{Namespace: namespace, Name: args[0]}, ca)
		},
	}
	flags := command.Flags()
	flags.StringVar(&kubeconfig, "kubeconfig", "", "The kubeconfig file.")
	flags.StringVar(&overrides.CurrentContext, "context", "", "The context of the kubeconfig.")
	flags.StringVarP(&overrides.Context.Namespace, "namespace", "n", "", "The RayCluster's namespace. Defaults to that of the context.")
	flags.StringVar(&ca, "ca-file", "", "A file with the trust bundle, in place of the CA Secret.")
	command.SetContext(context.Background())
	return command
}
