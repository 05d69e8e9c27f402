// Package revoke is the command that has authorities revoked.
package revoke

import (
	"bufio"
	"errors"
	"fmt"
	"io"
	"os"
	"strings"
	"time"

	"github.com/spf13/cobra"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/raytls/raytls/api/v1alpha1"
	applyv1alpha1 "github.com/raytls/raytls/api/v1alpha1/applyconfiguration/api/v1alpha1"
	"github.com/raytls/raytls/internal/cli/authorities"
	"github.com/raytls/raytls/internal/cli/connect"
	"github.com/raytls/raytls/internal/cli/fleet"
)

// New makes the command. open connects it.
func New(open connect.Opener) *cobra.Command {
	var flags *authorities.Flags
	var now, yes bool
	command := &cobra.Command{
		Use:   "revoke CLUSTER | --policy NAME | --all",
		Short: "Revoke the authorities of RayClusters, after a key was stolen",
		Long: `Sets spec.certificateAuthority.revokeIssuedBefore of the policy to the present time. The operator gives each RayCluster an
unrelated authority and restarts all of its pods together. A stolen key of the old authority then opens nothing. If no key
was stolen, use raytls rotate, which stops nothing.

The restart waits as the policy's rollout.enablePolicy says, and for jobs, queues and holds. The old authority stays
trusted until it begins. With --now it waits for nothing, and running jobs fail.

The field acts on every RayCluster of the policy. So the command refuses a CLUSTER whose policy covers others.

On a terminal the command asks before it writes. Elsewhere it needs --yes. It owns revokeIssuedBefore and revokeNow, by
server-side apply as field manager raytls-revoke. It refuses if another writer set them, such as a GitOps tool. With
--dry-run it writes nothing and prints the policy, to be committed.

The exit code is 0 if it is done, 3 if --timeout is over before, and 1 if the command fails.`,
		Example: "  raytls revoke train -n ml --wait\n" +
			"  raytls revoke train -n ml --now --yes\n" +
			"  raytls revoke --all --all-namespaces --dry-run",
		RunE: func(cmd *cobra.Command, args []string) error {
			field := field(now)
			if !yes {
				field.Confirm = func(clusters []fleet.Cluster) error {
					return confirm(cmd.InOrStdin(), cmd.ErrOrStderr(), clusters, now)
				}
			}
			return authorities.Run(cmd, args, flags, field, open)
		},
	}
	flags = authorities.AddFlags(command, "all pods have certificates of the new authorities")
	command.Flags().BoolVar(&now, "now", false, "Begin the restart at once, although jobs run, and without any approval.")
	command.Flags().BoolVar(&yes, "yes", false, "Do not ask.")
	return command
}

func field(now bool) authorities.Field {
	return authorities.Field{
		Name: "revokeIssuedBefore", Manager: v1alpha1.ManagedBy + "-revoke",
		Get: func(c *v1alpha1.CertificateAuthority) *metav1.Time { return c.RevokeIssuedBefore },
		// revokeNow is always said: one that was left from another time would let this restart begin at once.
		Set: func(c *applyv1alpha1.CertificateAuthorityApplyConfiguration, at metav1.Time) {
			c.WithRevokeIssuedBefore(at).WithRevokeNow(now)
		},
		Unset: func(c *v1alpha1.CertificateAuthority) []string {
			if c.RevokeNow {
				return nil
			}
			return []string{"spec.certificateAuthority.revokeNow"}
		},
		Effect: "revokes these authorities",
		// The age of an authority proves nothing: one that replaced another in the meantime trusts it.
		Replaced: func(before, now *v1alpha1.AuthorityStatus, _ time.Time) bool {
			return now.RevokedBeforeGeneration > before.Generation && now.Generation >= now.RevokedBeforeGeneration
		},
	}
}

// confirm asks whether to go on.
func confirm(in io.Reader, out io.Writer, clusters []fleet.Cluster, now bool) error {
	pods := int32(0)
	for _, c := range clusters {
		pods += c.Status().Pods.Total
	}
	what := fmt.Sprintf("Revoking restarts all %d pods of %s", pods, fleet.Names(clusters))
	if !isTerminal(in) {
		return fmt.Errorf("%s; run the command with --yes, since it cannot ask here", lower(what))
	}
	when := "once that is allowed"
	if now {
		when = "at once, and running jobs fail"
	}
	if _, err := fmt.Fprintf(out, "%s, those of a cluster together, %s.\n", what, when); err != nil {
		return err
	}
	return ask(in, out)
}

func lower(sentence string) string { return strings.ToLower(sentence[:1]) + sentence[1:] }

// ask waits for the word yes.
func ask(in io.Reader, out io.Writer) error {
	if _, err := io.WriteString(out, "Type yes to go on: "); err != nil {
		return err
	}
	answer, err := bufio.NewReader(in).ReadString('\n')
	if err != nil && !errors.Is(err, io.EOF) {
		return fmt.Errorf("reading the answer: %w", err)
	}
	if strings.TrimSpace(answer) != "yes" {
		return errors.New("nothing was changed, because the answer was not yes")
	}
	return nil
}

// isTerminal reports whether somebody can answer.
func isTerminal(in io.Reader) bool {
	file, ok := in.(*os.File)
	if !ok {
		return false
	}
	info, err := file.Stat()
	return err == nil && info.Mode()&os.ModeCharDevice != 0
}
