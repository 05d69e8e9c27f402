// Package follow waits for clusters and tells how far they are.
package follow

import (
	"context"
	"errors"
	"fmt"
	"io"
	"slices"
	"strings"
	"time"

	"github.com/spf13/cobra"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"k8s.io/apimachinery/pkg/types"

	"github.com/raytls/raytls/api/v1alpha1"
	"github.com/raytls/raytls/internal/cli/connect"
	"github.com/raytls/raytls/internal/cli/exit"
	"github.com/raytls/raytls/internal/cli/text"
)

// ExitTimeout is what the process ends with if clusters still wait when the time is up.
const ExitTimeout = 3

// interval is how often clusters are looked at. A restart takes minutes.
const interval = 2 * time.Second

// Flags are those of a command that can wait.
type Flags struct {
	// Wait is whether the command waits.
	Wait    bool
	timeout time.Duration
}

// AddFlags adds the flags to a command.
func AddFlags(command *cobra.Command, until string) *Flags {
	f := &Flags{}
	command.Flags().BoolVar(&f.Wait, "wait", false, "Wait until "+until+", and print the progress.")
	command.Flags().DurationVar(&f.timeout, "timeout", 0, "How long to wait, such as 30m. 0 waits for ever.")
	return f
}

// Step is how far a cluster is.
type Step struct {
	// Text is printed when it changes.
	Text string
	Done bool
}

// Look tells how far the cluster with that RayClusterTLS is, which is nil if the cluster was deleted. An error ends the wait for all.
type Look func(tls *v1alpha1.RayClusterTLS) (Step, error)

// Follower waits for clusters.
type Follower struct {
	session *connect.Session
	out     io.Writer
	flags   *Flags
}

// New makes a Follower with those flags, which prints to out.
func New(session *connect.Session, out io.Writer, flags *Flags) Follower {
	return Follower{session, text.Writer(out), flags}
}

// Until waits until all clusters are done. The error has ExitTimeout if they are not in time.
func (f Follower) Until(ctx context.Context, looks map[types.NamespacedName]Look) error {
	if f.flags.timeout > 0 {
		var cancel context.CancelFunc
		ctx, cancel = context.WithTimeout(ctx, f.flags.timeout)
		defer cancel()
	}
	told, done := map[types.NamespacedName]string{}, map[types.NamespacedName]bool{}
	for keys := sorted(looks); ; {
		for _, key := range keys {
			if done[key] {
				continue
			}
			step, err := f.look(ctx, key, looks[key])
			if err != nil {
				return err
			}
			done[key] = step.Done
			if step.Text == told[key] {
				continue
			}
			told[key] = step.Text
			if _, err := fmt.Fprintf(f.out, "%s: %s\n", key, step.Text); err != nil {
				return err
			}
		}
		keys = slices.DeleteFunc(keys, func(key types.NamespacedName) bool { return done[key] })
		if len(keys) == 0 {
			return nil
		}
		switch err := f.session.Sleep(ctx, interval); {
		case errors.Is(err, context.DeadlineExceeded):
			return f.late(keys)
		case err != nil:
			return err
		}
	}
}

func sorted(looks map[types.NamespacedName]Look) []types.NamespacedName {
	var keys []types.NamespacedName
	for key := range looks {
		keys = append(keys, key)
	}
	slices.SortFunc(keys, func(a, b types.NamespacedName) int { return strings.Compare(a.String(), b.String()) })
	return keys
}

// look reads a cluster. An error that may pass, such as that of an API server that starts again, ends no wait of hours.
func (f Follower) look(ctx context.Context, key types.NamespacedName, look Look) (Step, error) {
	var tls v1alpha1.RayClusterTLS
	switch err := f.session.Client.Get(ctx, key, &tls); {
	case apierrors.IsNotFound(err):
		return look(nil)
	case apierrors.IsForbidden(err), apierrors.IsUnauthorized(err):
		return Step{}, fmt.Errorf("reading RayClusterTLS %s: %w", key, err)
	case err != nil && ctx.Err() == nil:
		return Step{Text: fmt.Sprintf("cannot be read, trying again: %v", err)}, nil
	case err != nil:
		return Step{}, f.late([]types.NamespacedName{key})
	}
	return look(&tls)
}

func (f Follower) late(waiting []types.NamespacedName) error {
	var names []string
	for _, key := range waiting {
		names = append(names, key.String())
	}
	return exit.With(ExitTimeout, fmt.Errorf("not done after %s: %s; the operator goes on", f.flags.timeout, strings.Join(names, ", ")))
}
