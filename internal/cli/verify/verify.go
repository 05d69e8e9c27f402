// Package verify is the command that shows what a head serves on the wire.
package verify

import (
	"context"
	"time"

	"github.com/spf13/cobra"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/raytls/raytls/internal/cli/connect"
)

// Exit codes beside 0, for the cluster's mutual TLS, and 1, for a command that failed.
const (
	exitFault   = 2
	exitUnknown = 3
)

// New makes the command. now is the clock.
func New(now func() time.Time) *cobra.Command {
	var connection *connect.Flags
	var ca string
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
			session, err := connection.Open(now)
			if err != nil {
				return err
			}
			v := verifier{reader: session.Client, forward: forwarder(session.Config), now: now, out: cmd.OutOrStdout(), notes: cmd.ErrOrStderr()}
			return v.verify(cmd.Context(), client.ObjectKey{Namespace: session.Namespace, Name: args[0]}, ca)
		},
	}
	connection = connect.AddFlags(command)
	command.Flags().StringVar(&ca, "ca-file", "", "A file with the trust bundle, in place of the CA Secret.")
	command.SetContext(context.Background())
	return command
}
