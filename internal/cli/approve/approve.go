// Package approve is the command that approves a restart of a running RayCluster.
package approve

import (
	"context"
	"errors"
	"fmt"
	"io"
	"slices"

	"github.com/spf13/cobra"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"k8s.io/apimachinery/pkg/api/meta"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"

	"github.com/raytls/raytls/api/v1alpha1"
	applyv1alpha1 "github.com/raytls/raytls/api/v1alpha1/applyconfiguration/api/v1alpha1"
	"github.com/raytls/raytls/internal/cli/apply"
	"github.com/raytls/raytls/internal/cli/connect"
	"github.com/raytls/raytls/internal/cli/exit"
	"github.com/raytls/raytls/internal/cli/follow"
	"github.com/raytls/raytls/internal/cli/text"
	"github.com/raytls/raytls/internal/kube"
	"github.com/raytls/raytls/internal/kuberay"
	"github.com/raytls/raytls/internal/policy"
)

// exitNothing is what the process ends with if there is nothing to approve.
const exitNothing = 2

// manager is the field manager that owns the approvals which the command wrote.
const manager = v1alpha1.ManagedBy + "-approve"

// attempts is how often a policy is read again that somebody changed in between.
const attempts = 5

type flags struct {
	connection    *connect.Flags
	waiting       *follow.Flags
	restart       string
	dryRun, force bool
}

// New makes the command. open connects it.
func New(open connect.Opener) *cobra.Command {
	var f flags
	command := &cobra.Command{
		Use:   "approve CLUSTER",
		Short: "Approve the restart that a running RayCluster waits for",
		Long: `Shows what the RayCluster waits to be restarted for, and adds the restart's id to spec.rollout.approvals of its policy.

An approval is good for one restart of the head that runs now. If the restart changes while the command runs, the
approval matches nothing. With --restart the command approves the restart of that id, or none.

The command owns its entries by server-side apply, as field manager raytls-approve. It refuses if another writer set the
RayCluster's entry, such as a GitOps tool. With --dry-run it writes nothing and prints the policy, to be committed.

The exit code is 0 if the restart is approved, also if it was before, 2 if there is nothing to approve, 3 if --timeout is
over before the end of --wait, and 1 if the command fails.`,
		Example: "  raytls approve train -n ml\n" +
			"  raytls approve train -n ml --restart 3f2a9c --wait",
		Args: cobra.ExactArgs(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			session, err := open(f.connection)
			if err != nil {
				return err
			}
			a := approval{
				Session: session, flags: f, key: types.NamespacedName{Namespace: session.Namespace, Name: args[0]},
				out: text.Writer(cmd.OutOrStdout()), manifest: cmd.OutOrStdout(), command: cmd.CommandPath(),
			}
			if f.dryRun {
				a.out = cmd.ErrOrStderr()
			}
			return a.run(cmd.Context())
		},
	}
	f.connection, f.waiting = connect.AddFlags(command), follow.AddFlags(command, "the restart is over")
	command.Flags().StringVar(&f.restart, "restart", "", "The id of the restart to approve.")
	command.Flags().BoolVar(&f.dryRun, "dry-run", false, "Write nothing, and print the policy as it would be, for Git.")
	command.Flags().BoolVar(&f.force, "force-conflicts", false, "Take the entry over from another writer.")
	command.MarkFlagsMutuallyExclusive("dry-run", "wait")
	return command
}

// approval is one run of the command.
type approval struct {
	*connect.Session
	flags
	key types.NamespacedName
	// out is for what a user reads, manifest for the policy of a dry run.
	out, manifest io.Writer
	// command is how the user calls it.
	command string
}

func (a *approval) run(ctx context.Context) error {
	tls, err := a.read(ctx)
	if err != nil {
		return err
	}
	pending := tls.Status.PendingRestart
	if err := a.approvable(pending); err != nil {
		return err
	}
	if err := a.show(&tls.Status); err != nil {
		return err
	}
	if err := a.approve(ctx, tls); err != nil || a.dryRun || !a.waiting.Wait {
		return err
	}
	look := func(tls *v1alpha1.RayClusterTLS) (follow.Step, error) {
		if tls == nil {
			return follow.Step{}, fmt.Errorf("RayCluster %s was deleted before the restart was over", a.key)
		}
		return a.look(pending, &tls.Status)
	}
	return follow.New(a.Session, a.out, a.waiting).Until(ctx, map[types.NamespacedName]follow.Look{a.key: look})
}

// read gives the cluster's own RayClusterTLS.
func (a *approval) read(ctx context.Context) (*v1alpha1.RayClusterTLS, error) {
	object := &metav1.PartialObjectMetadata{}
	object.SetGroupVersionKind(kuberay.RayClusterGVK())
	if err := a.Client.Get(ctx, a.key, object); err != nil {
		return nil, fmt.Errorf("reading RayCluster %s: %w", a.key, err)
	}
	tls := &v1alpha1.RayClusterTLS{}
	err := a.Client.Get(ctx, a.key, tls)
	if apierrors.IsNotFound(err) || err == nil && !kube.OwnedBy(tls, object.UID) {
		return nil, exit.With(exitNothing, fmt.Errorf("nothing to approve: the operator reports nothing of RayCluster %s; no RayTLSPolicy covers it, or the operator does not run", a.key))
	}
	if err != nil {
		return nil, fmt.Errorf("reading RayClusterTLS %s: %w", a.key, err)
	}
	return tls, nil
}

// approvable says why an approval would come to nothing; nil if it would not.
func (a *approval) approvable(pending *v1alpha1.PendingRestart) error {
	nothing := func(format string, args ...any) error {
		return exit.With(exitNothing, fmt.Errorf("nothing to approve: "+format, args...))
	}
	switch {
	case pending == nil:
		return nothing("no restart of RayCluster %s waits", a.key)
	case a.restart != "" && a.restart != pending.ID:
		return nothing("RayCluster %s waits for restart %s (%s) and no longer for %s; its head was replaced, or what it waits for changed", a.key, pending.ID, pending.Action, a.restart)
	case pending.Reason == v1alpha1.ReasonOnDelete, pending.BlockedBy == "rollout.headRestart":
		obstacle, _ := policy.Obstacle(pending.Message)
		return nothing("the policy leaves the restart of RayCluster %s to you: %s", a.key, obstacle)
	}
	return nil
}

// show says what would be restarted, and why.
func (a *approval) show(status *v1alpha1.RayClusterTLSStatus) error {
	p := status.PendingRestart
	obstacle, approvable := policy.Obstacle(p.Message)
	lines := fmt.Sprintf("RayCluster   %s\nrestart      %s, %s\nrestarts     %s\nwaits        %s: %s\n", a.key, p.ID, p.Action, restarts(status), reason(p), obstacle)
	if !approvable {
		lines += "             The approval does not lift this. The restart begins when it is over.\n"
	}
	_, err := io.WriteString(a.out, lines)
	return err
}

func reason(p *v1alpha1.PendingRestart) string {
	if p.BlockedBy != "" {
		return p.Reason + " by " + p.BlockedBy
	}
	return p.Reason
}

func restarts(status *v1alpha1.RayClusterTLSStatus) string {
	switch status.PendingRestart.Action {
	case v1alpha1.ActionEnable:
		return fmt.Sprintf("all %d pods, with TLS: one worker of each kind first where there can be one, then the head, then the rest", status.Pods.Total)
	case v1alpha1.ActionDisable:
		return fmt.Sprintf("all %d pods, in plaintext", status.Pods.Total)
	case v1alpha1.ActionRevoke:
		return fmt.Sprintf("all %d pods together, with an unrelated authority", status.Pods.Total)
	case v1alpha1.ActionRoll:
		return "the head, for a new certificate; workers need no approval"
	}
	return "pods; this version of the tool does not know the action"
}

// approve writes the approval into the policy, or prints the policy with it.
func (a *approval) approve(ctx context.Context, tls *v1alpha1.RayClusterTLS) error {
	key := types.NamespacedName{Namespace: a.key.Namespace, Name: tls.Status.PolicyRef.Name}
	wanted := v1alpha1.Approval{Cluster: a.key.Name, Restart: tls.Status.PendingRestart.ID}
	var err error
	for range attempts {
		found := &v1alpha1.RayTLSPolicy{}
		if err := a.Client.Get(ctx, key, found); err != nil {
			return fmt.Errorf("reading RayTLSPolicy %s: %w", key, err)
		}
		if slices.Contains(found.Spec.Rollout.Approvals, wanted) {
			_, err := fmt.Fprintf(a.out, "approved     before, in RayTLSPolicy %s\n", key)
			return err
		}
		var change apply.Change
		if change, err = a.change(found, wanted); err != nil {
			return err
		}
		if a.dryRun {
			return change.Print(ctx, a.Client, a.manifest)
		}
		if err = change.Write(ctx, a.Client); !errors.Is(err, apply.ErrStale) {
			break
		}
	}
	if err != nil {
		return err
	}
	_, err = fmt.Fprintf(a.out, "approved     in RayTLSPolicy %s\n", key)
	return err
}

// change adds the approval to those that the command has written before, because an apply takes back an entry that it leaves out.
func (a *approval) change(found *v1alpha1.RayTLSPolicy, wanted v1alpha1.Approval) (apply.Change, error) {
	config, err := applyv1alpha1.ExtractRayTLSPolicy(found, manager)
	if err != nil {
		return apply.Change{}, fmt.Errorf("reading which approvals of RayTLSPolicy %s/%s are the command's: %w", found.Namespace, found.Name, err)
	}
	entry := applyv1alpha1.Approval().WithCluster(wanted.Cluster).WithRestart(wanted.Restart)
	rollout := applyv1alpha1.Rollout()
	if config.Spec != nil && config.Spec.Rollout != nil {
		for _, before := range config.Spec.Rollout.Approvals {
			if before.Cluster != nil && *before.Cluster != wanted.Cluster {
				rollout.WithApprovals(&before)
			}
		}
	}
	config.WithSpec(applyv1alpha1.RayTLSPolicySpec().WithRollout(rollout.WithApprovals(entry)))
	// With the version, entries that another run adds at the same time survive.
	return apply.Change{Manager: manager, Config: config.WithResourceVersion(found.ResourceVersion), Force: a.force}, nil
}

// look tells how far the approved restart is.
func (a *approval) look(approved *v1alpha1.PendingRestart, status *v1alpha1.RayClusterTLSStatus) (follow.Step, error) {
	encrypted := meta.FindStatusCondition(status.Conditions, v1alpha1.ConditionEncrypted)
	if encrypted == nil {
		encrypted = &metav1.Condition{}
	}
	said := fmt.Sprintf("%s=%s, %s: %s", encrypted.Type, encrypted.Status, encrypted.Reason, encrypted.Message)
	pending := status.PendingRestart
	switch waits := follow.Waits(status, a.command+" "+a.key.Name+" "+a.connection.Repeat(a.key.Namespace)); {
	case pending != nil && pending.ID == approved.ID:
		if obstacle, _ := policy.Obstacle(pending.Message); pending.Reason != v1alpha1.ReasonAwaitingApproval {
			return follow.Step{Text: fmt.Sprintf("approved; it still waits, %s: %s", reason(pending), obstacle)}, nil
		}
		return follow.Step{Text: "approved"}, nil
	case encrypted.Reason == v1alpha1.ReasonEnableFailed:
		return follow.Step{}, fmt.Errorf("RayCluster %s: the restart failed and was taken back; %s", a.key, said)
	case pending != nil:
		return follow.Step{}, fmt.Errorf("RayCluster %s: the restart is over, and another waits%s", a.key, waits)
	case status.Rollout != nil:
		return follow.Step{Text: fmt.Sprintf("%s, phase %s; %s", approved.Action, status.Rollout.Phase, said)}, nil
	}
	return follow.Step{Text: said, Done: over(approved.Action, status, encrypted)}, nil
}

// over reports whether a restart has had its effect.
func over(action v1alpha1.RestartAction, status *v1alpha1.RayClusterTLSStatus, encrypted *metav1.Condition) bool {
	switch action {
	case v1alpha1.ActionDisable:
		return status.Injection.Revision == 0 && status.Pods.Plaintext == status.Pods.Total
	case v1alpha1.ActionEnable:
		return encrypted.Status == metav1.ConditionTrue
	case v1alpha1.ActionRoll, v1alpha1.ActionRevoke:
		return status.Authority.Generation >= status.Authority.RevokedBeforeGeneration && status.Pods.Outdated == 0 && encrypted.Status == metav1.ConditionTrue && status.Pods.Certified == status.Pods.Total
	}
	return true // it no longer waits, and this version of the tool knows no more of it
}
