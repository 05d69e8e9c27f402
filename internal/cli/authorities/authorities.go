// Package authorities is what the commands rotate and revoke have in common: they name the time before which authorities were issued that
// the operator replaces.
package authorities

import (
	"context"
	"errors"
	"fmt"
	"io"
	"time"

	"github.com/spf13/cobra"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/raytls/raytls/api/v1alpha1"
	applyv1alpha1 "github.com/raytls/raytls/api/v1alpha1/applyconfiguration/api/v1alpha1"
	"github.com/raytls/raytls/internal/cli/apply"
	"github.com/raytls/raytls/internal/cli/connect"
	"github.com/raytls/raytls/internal/cli/fleet"
	"github.com/raytls/raytls/internal/cli/follow"
	"github.com/raytls/raytls/internal/kube"
)

// Field is the field of certificateAuthority that a command sets.
type Field struct {
	// Name is the field's, and Manager the field manager that owns it.
	Name, Manager string
	// Get returns the field, and Set sets it and what goes with it.
	Get func(*v1alpha1.CertificateAuthority) *metav1.Time
	Set func(*applyv1alpha1.CertificateAuthorityApplyConfiguration, metav1.Time)
	// Unset are the paths of fields that Set sets too and that hold their default in that policy; nil for none.
	Unset func(*v1alpha1.CertificateAuthority) []string
	// Effect says what the operator does then, after "the operator".
	Effect string
	// Replaced reports whether the authority of a cluster was replaced since it was the one before, for a field of that time.
	Replaced func(before, now *v1alpha1.AuthorityStatus, at time.Time) bool
	// Confirm asks the user before anything is written; nil asks nothing. Its error is why the command ends.
	Confirm func(clusters []fleet.Cluster) error
}

// Flags are those of the commands.
type Flags struct {
	connection             *connect.Flags
	waiting                *follow.Flags
	all, namespaces, force bool
	policy                 string
	// DryRun is whether nothing is written.
	DryRun bool
}

// AddFlags adds the flags to a command. until says until when it can wait.
func AddFlags(command *cobra.Command, until string) *Flags {
	f := &Flags{connection: connect.AddFlags(command), waiting: follow.AddFlags(command, until)}
	flags := command.Flags()
	flags.BoolVar(&f.all, "all", false, "Every policy of the namespace, with all of its RayClusters.")
	flags.BoolVarP(&f.namespaces, "all-namespaces", "A", false, "With --all, every policy of every namespace.")
	flags.StringVar(&f.policy, "policy", "", "The RayTLSPolicy of that name, with all of its RayClusters.")
	flags.BoolVar(&f.DryRun, "dry-run", false, "Write nothing, and print each policy as it would be, for Git.")
	flags.BoolVar(&f.force, "force-conflicts", false, "Take the field over from another writer.")
	command.Args = func(_ *cobra.Command, args []string) error { return f.check(args) }
	return f
}

func (f *Flags) check(args []string) error {
	given := len(args)
	for _, flag := range []bool{f.all, f.policy != ""} {
		if flag {
			given++
		}
	}
	switch {
	case given != 1:
		return fmt.Errorf("say which authorities to replace: those of one RayCluster (CLUSTER), of one policy (--policy NAME), or of all policies (--all)")
	case f.namespaces && !f.all:
		return fmt.Errorf("--all-namespaces goes with --all")
	case f.DryRun && f.waiting.Wait:
		return fmt.Errorf("--dry-run writes nothing, so there is nothing to wait for; leave out --wait")
	}
	return nil
}

// Run carries the command out. args has the name of the cluster, if one was given.
func Run(cmd *cobra.Command, args []string, flags *Flags, field Field, open connect.Opener) error {
	session, err := open(flags.connection)
	if err != nil {
		return err
	}
	r := replacement{
		Session: session, flags: flags, field: field,
		out: cmd.OutOrStdout(), notes: cmd.ErrOrStderr(), program: cmd.Root().CommandPath(),
	}
	if flags.namespaces {
		session.Namespace = ""
	}
	name := ""
	if len(args) > 0 {
		name = args[0]
	}
	return r.run(cmd.Context(), name)
}

// replacement is one run of a command. The empty namespace stands for all.
type replacement struct {
	*connect.Session
	flags      *Flags
	field      Field
	out, notes io.Writer
	// program is how the user calls the tool.
	program string
}

// run replaces the authorities of the named cluster, or those that the flags choose.
func (r *replacement) run(ctx context.Context, name string) error {
	found, err := fleet.Read(ctx, r.Client, r.Namespace)
	if err != nil {
		return err
	}
	targets, err := r.targets(found, name)
	if err != nil {
		return err
	}
	var clusters []fleet.Cluster
	for i := range targets {
		clusters = append(clusters, targets[i].clusters...)
	}
	if !r.flags.DryRun && r.field.Confirm != nil {
		if err := r.field.Confirm(clusters); err != nil {
			return err
		}
	}
	looks := map[types.NamespacedName]follow.Look{}
	var failed error
	for i := range targets {
		at, err := r.apply(ctx, &targets[i])
		failed = errors.Join(failed, err)
		for _, c := range targets[i].clusters {
			looks[c.NamespacedName] = r.look(c, at)
		}
	}
	switch {
	case failed != nil || r.flags.DryRun:
		return failed
	case !r.flags.waiting.Wait:
		_, err := fmt.Fprintf(r.notes, "`%s` shows how far they are.\n", r.command("status", r.Namespace))
		return err
	}
	return follow.New(r.Session, r.out, r.flags.waiting).Until(ctx, looks)
}

// apply sets the field of the target's policy, or prints it, and returns the time that it sets.
func (r *replacement) apply(ctx context.Context, t *target) (time.Time, error) {
	at := r.time(t)
	policy := client.ObjectKeyFromObject(t.policy)
	if before := r.field.Get(&t.policy.Spec.CertificateAuthority); before != nil && before.After(at) {
		return at, fmt.Errorf("RayTLSPolicy %s: spec.certificateAuthority.%s asks for authorities to be replaced at %s, which this would take back; wait for that time, or change the policy by hand",
			policy, r.field.Name, kube.FormatTime(before.Time))
	}
	authority := applyv1alpha1.CertificateAuthority()
	r.field.Set(authority, metav1.NewTime(at))
	change := apply.Change{
		Manager: r.field.Manager, Force: r.flags.force,
		// With the UID, a policy that was deleted meanwhile is not made anew.
		Config: applyv1alpha1.RayTLSPolicy(policy.Name, policy.Namespace).WithUID(t.policy.UID).
			WithSpec(applyv1alpha1.RayTLSPolicySpec().WithCertificateAuthority(authority)),
	}
	if r.field.Unset != nil {
		change.Unset = r.field.Unset(&t.policy.Spec.CertificateAuthority)
	}
	verb, to := "is", r.out
	if r.flags.DryRun {
		verb, to = "would be", r.notes
		if err := change.Print(ctx, r.Client, r.out); err != nil {
			return at, err
		}
	} else if err := change.Write(ctx, r.Client); err != nil {
		return at, err
	}
	if _, err := fmt.Fprintf(to, "RayTLSPolicy %s: spec.certificateAuthority.%s %s %s, so the operator %s: %s\n",
		policy, r.field.Name, verb, kube.FormatTime(at), r.field.Effect, generations(t.clusters)); err != nil {
		return at, err
	}
	if t.policy.Spec.Paused {
		_, err := fmt.Fprintf(r.notes, "RayTLSPolicy %s is paused, so the operator restarts no pod until spec.paused is false.\n", policy)
		return at, err
	}
	return at, nil
}

// time is now, and later than every authority of the target: an operator whose clock is ahead may have made one a moment ago.
func (r *replacement) time(t *target) time.Time {
	at := r.Now().UTC().Truncate(time.Second)
	for _, c := range t.clusters {
		if issued := c.Status().Authority.IssuedTime; issued != nil && !issued.Time.Before(at) {
			at = issued.UTC().Add(time.Second)
		}
	}
	return at
}

// command is another command of the tool for that namespace; the empty one stands for all.
func (r *replacement) command(words, namespace string) string {
	if namespace == "" {
		return r.program + " " + words + " --all-namespaces"
	}
	return r.program + " " + words + " " + r.flags.connection.Repeat(namespace)
}
