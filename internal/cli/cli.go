// Package cli is the root of the command line tool raytls. Each command has a package below it.
package cli

import (
	"errors"
	"fmt"
	"io"
	"path/filepath"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"github.com/raytls/raytls/internal/cli/approve"
	"github.com/raytls/raytls/internal/cli/connect"
	"github.com/raytls/raytls/internal/cli/gencert"
	"github.com/raytls/raytls/internal/cli/inject"
	"github.com/raytls/raytls/internal/cli/migrate"
	"github.com/raytls/raytls/internal/cli/revoke"
	"github.com/raytls/raytls/internal/cli/rotate"
	"github.com/raytls/raytls/internal/cli/status"
	"github.com/raytls/raytls/internal/cli/text"
	"github.com/raytls/raytls/internal/cli/verify"
	"github.com/raytls/raytls/internal/injection"
)

// Environment is what commands get from the process.
type Environment struct {
	// In is what - stands for among files.
	In io.Reader
	// Out is for what was asked for, Notes for what a user should know besides.
	Out, Notes io.Writer
	Now        func() time.Time
}

// Main runs the command line args, whose first element is the program's path: under the name kubectl-raytls the help
// speaks of `kubectl raytls`, as kubectl calls its plugins. An error is a sentence for the user, or several, each on a
// line of its own, without the program's name.
func Main(version string, args []string, env Environment) error {
	if len(args) == 0 {
		return errors.New("the command line is empty, even of the program's name")
	}
	root := newRoot(version, args[0], env.Now)
	root.SetArgs(args[1:])
	root.SetIn(env.In)
	root.SetOut(env.Out)
	// Commands write their notes there. Only Main's caller prints errors; the root silences cobra.
	root.SetErr(text.Writer(env.Notes))
	if err := root.Execute(); err != nil {
		return readableError{err}
	}
	return nil
}

// ExitCode is what the process ends with after an error of Main.
func ExitCode(err error) int {
	var coded interface{ ExitCode() int }
	if errors.As(err, &coded) {
		return coded.ExitCode()
	}
	return 1
}

// readableError keeps what an error quotes from steering the terminal that it is printed to.
type readableError struct{ error }

func (e readableError) Error() string { return text.Readable(e.error.Error()) }

func (e readableError) Unwrap() error { return e.error }

func newRoot(version, program string, now func() time.Time) *cobra.Command {
	root := &cobra.Command{
		Use:           "raytls",
		Short:         "Mutual TLS for RayClusters",
		Long:          "raytls is the tool beside the raytls operator, which gives RayClusters mutual TLS.",
		Args:          cobra.NoArgs,
		SilenceErrors: true,
		SilenceUsage:  true,
		Annotations:   map[string]string{cobra.CommandDisplayNameAnnotation: displayName(program)},
		RunE:          func(cmd *cobra.Command, _ []string) error { return cmd.Help() },
	}
	root.SetFlagErrorFunc(func(cmd *cobra.Command, err error) error {
		return fmt.Errorf("%w; `%s --help` lists what there is", err, cmd.CommandPath())
	})
	open := connect.At(now)
	root.AddCommand(
		newVersion(version), gencert.New(), inject.New(), migrate.New(now),
		approve.New(open), revoke.New(open), rotate.New(open), status.New(open), verify.New(now),
	)
	return root
}

// displayName gives the words that a user types to run the program at this path.
func displayName(program string) string {
	name := strings.TrimSuffix(filepath.Base(program), ".exe")
	if plugin, ok := strings.CutPrefix(name, "kubectl-"); ok {
		return "kubectl " + plugin
	}
	return name
}

func newVersion(version string) *cobra.Command {
	return &cobra.Command{
		Use:   "version",
		Short: "Print the version",
		Args:  cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			_, err := fmt.Fprintf(cmd.OutOrStdout(), "raytls %s, injection revision %d\n", version, injection.Revision)
			return err
		},
	}
}
