// Package rotate is the command that has authorities replaced without an outage.
package rotate

import (
	"time"

	"github.com/spf13/cobra"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/raytls/raytls/api/v1alpha1"
	applyv1alpha1 "github.com/raytls/raytls/api/v1alpha1/applyconfiguration/api/v1alpha1"
	"github.com/raytls/raytls/internal/cli/authorities"
	"github.com/raytls/raytls/internal/cli/connect"
)

// New makes the command. open connects it.
func New(open connect.Opener) *cobra.Command {
	var flags *authorities.Flags
	command := &cobra.Command{
		Use:   "rotate CLUSTER | --policy NAME | --all",
		Short: "Replace the authorities of RayClusters, without an outage",
		Long: `Sets spec.certificateAuthority.replaceIssuedBefore of the policy to the present time. The operator replaces each authority
of the policy that it issued before. Old and new pods accept each other, and each pod restarts once, as the policy's
rollout says. It does not end a stolen key: see raytls revoke.

The field acts on every RayCluster of the policy. So the command refuses a CLUSTER whose policy covers others.

The command owns this one field, by server-side apply as field manager raytls-rotate. It refuses if another writer set
the field, such as a GitOps tool. With --dry-run it writes nothing and prints the policy, to be committed.

With --wait it prints how many pods have a certificate of the new authority, until all RayClusters are up to date, and
what a restart waits for.

The exit code is 0 if it is done, 3 if --timeout is over before, and 1 if the command fails.`,
		Example: "  raytls rotate train -n ml --wait --timeout 1h\n" +
			"  raytls rotate --policy default -n ml --dry-run > policy.yaml\n" +
			"  raytls rotate --all --all-namespaces",
		RunE: func(cmd *cobra.Command, args []string) error {
			return authorities.Run(cmd, args, flags, field(), open)
		},
	}
	flags = authorities.AddFlags(command, "all pods have certificates of the new authorities")
	return command
}

func field() authorities.Field {
	return authorities.Field{
		Name: "replaceIssuedBefore", Manager: v1alpha1.ManagedBy + "-rotate",
		Get: func(c *v1alpha1.CertificateAuthority) *metav1.Time { return c.ReplaceIssuedBefore },
		Set: func(c *applyv1alpha1.CertificateAuthorityApplyConfiguration, at metav1.Time) {
			c.WithReplaceIssuedBefore(at)
		},
		Effect: "replaces these authorities",
		Replaced: func(_, now *v1alpha1.AuthorityStatus, at time.Time) bool {
			return now.IssuedTime != nil && !now.IssuedTime.Time.Before(at)
		},
	}
}
