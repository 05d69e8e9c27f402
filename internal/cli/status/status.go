// Package status is the command that shows how RayClusters are encrypted, and what each pod runs with.
package status

import (
	"fmt"
	"io"
	"slices"
	"strings"

	"github.com/spf13/cobra"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"

	"github.com/raytls/raytls/internal/cli/connect"
	"github.com/raytls/raytls/internal/kube"
)

// The formats of -o.
const (
	formatTable = ""
	formatWide  = "wide"
	formatJSON  = "json"
	formatYAML  = "yaml"
	formatCSV   = "csv"
)

// New makes the command. open connects it.
func New(open connect.Opener) *cobra.Command {
	var connection *connect.Flags
	var format string
	var namespaces, pods bool
	command := &cobra.Command{
		Use:   "status [CLUSTER]",
		Short: "Show how RayClusters are encrypted, and what each pod runs with",
		Long: `Without CLUSTER, prints one line for each RayCluster of the namespace. With CLUSTER, prints what the operator reports
of it, what a restart waits for, and what each of its pods runs with.

The command gathers facts and decides as the operator does. If the operator has not reported the present state, the
command prints what it computes itself. It reads no Secret, so no key leaves the API server, and it takes the right to
read RayClusters, RayClusterTLSes, RayTLSPolicies and pods. It names the kinds that it may not read.

A pod's issuer, serial and times are what the pod's init container reported.`,
		Example: "  raytls status --all-namespaces\n" +
			"  raytls status train -n ml -o wide\n" +
			"  raytls status --all-namespaces --pods -o csv > certificates.csv",
		Args: func(_ *cobra.Command, args []string) error { return check(args, format, namespaces, pods) },
		RunE: func(cmd *cobra.Command, args []string) error {
			session, err := open(connection)
			if err != nil {
				return err
			}
			key := types.NamespacedName{Namespace: session.Namespace}
			if namespaces {
				key.Namespace = ""
			}
			if len(args) > 0 {
				key.Name = args[0]
			}
			from := newSource(session.Client, session.Now)
			found, err := from.read(cmd.Context(), key, pods)
			if apierrors.IsNotFound(err) && key.Name != "" {
				return fmt.Errorf("RayCluster %s does not exist", key)
			}
			if err != nil {
				return err
			}
			p := printer{
				out: cmd.OutOrStdout(), namespaces: namespaces, one: key.Name != "", pods: key.Name != "" || pods,
				approve: func(cluster *clusterReport) string {
					return fmt.Sprintf("%s approve %s %s", cmd.Root().CommandPath(), cluster.Name, connection.Repeat(cluster.Namespace))
				},
			}
			if err := p.print(found, format); err != nil {
				return err
			}
			return notes(cmd.ErrOrStderr(), found)
		},
	}
	connection = connect.AddFlags(command)
	flags := command.Flags()
	flags.StringVarP(&format, "output", "o", formatTable, "The format: wide, json, yaml or csv.")
	flags.BoolVarP(&namespaces, "all-namespaces", "A", false, "The RayClusters of all namespaces.")
	flags.BoolVar(&pods, "pods", false, "Without CLUSTER, each pod of each RayCluster.")
	return command
}

func check(args []string, format string, namespaces, pods bool) error {
	formats := []string{formatWide, formatJSON, formatYAML, formatCSV}
	switch {
	case len(args) > 1:
		return fmt.Errorf("name one RayCluster, or none for all of the namespace")
	case len(args) > 0 && namespaces:
		return fmt.Errorf("a RayCluster is in one namespace: leave out --all-namespaces, or the name")
	case len(args) > 0 && pods:
		return fmt.Errorf("the pods of a RayCluster are printed anyway: leave out --pods")
	case format != formatTable && !slices.Contains(formats, format):
		return fmt.Errorf("--output: there is no format %q; use %s", format, strings.Join(formats, ", "))
	}
	return nil
}

// notes says what is missing in what was printed.
func notes(to io.Writer, found *report) error {
	if len(found.Unread) > 0 {
		if _, err := fmt.Fprintf(to, "You may not read these kinds, so what depends on them is missing: %s.\n", strings.Join(found.Unread, ", ")); err != nil {
			return err
		}
	}
	if len(found.Clusters) == 0 {
		_, err := fmt.Fprintln(to, "There is no RayCluster.")
		return err
	}
	return nil
}

// stamp is a time as it is printed; empty for none.
func stamp(at *metav1.Time) string {
	if at == nil || at.IsZero() {
		return ""
	}
	return kube.FormatTime(at.Time)
}
