// Package migrate is the command that replaces the TLS of KubeRay's TLS guide.
package migrate

import (
	"fmt"
	"time"

	"github.com/spf13/cobra"

	"github.com/raytls/raytls/internal/cli/input"
	"github.com/raytls/raytls/internal/manifest"
	"github.com/raytls/raytls/internal/migration"
)

// New makes the command. now is the clock.
func New(now func() time.Time) *cobra.Command {
	var files *[]string
	command := &cobra.Command{
		Use:   "migrate -f FILE",
		Short: "Turn the hand-made TLS of KubeRay's TLS guide into a plain manifest and a policy",
		Long: `Prints the input with the TLS of KubeRay's TLS guide (its sample ray-cluster.tls.yaml, any revision since v0.5.0) taken
out of each RayCluster, RayJob, RayService and RayCronJob, and with a RayTLSPolicy for each that brings the same CA. The
ConfigMap with the guide's scripts is left out. Nothing is applied or restarted.

Only what is recognised for sure is taken out. If anything is left that sets up TLS, it is named, nothing is printed, and
the exit code is 1.

Notes on what applying the output will do, which pods restart, what clients have to change and how to approve go to standard
error; docs/tasks/migrate.md has more. Comments, quotes and the order of keys survive.`,
		Example: "  raytls migrate -f ray-cluster.tls.yaml > cluster.yaml\n" +
			"  kubectl diff -f cluster.yaml",
		Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			documents, err := input.Files(cmd, *files)
			if err != nil {
				return err
			}
			documents, notes, err := migration.Migrate(documents, now())
			if err != nil {
				return err
			}
			for _, paragraph := range notes {
				if _, err := fmt.Fprintf(cmd.ErrOrStderr(), "%s\n\n", paragraph); err != nil {
					return err
				}
			}
			return manifest.Write(cmd.OutOrStdout(), documents)
		},
	}
	files = input.Flag(command)
	return command
}
