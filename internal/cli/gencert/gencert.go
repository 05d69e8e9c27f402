// Package gencert is the command that writes the certificate scripts.
package gencert

import (
	"errors"
	"fmt"
	"io"
	"maps"
	"os"
	"path/filepath"
	"slices"

	"github.com/spf13/cobra"

	"github.com/raytls/raytls/internal/gencert"
	"github.com/raytls/raytls/internal/injection"
)

// New makes the command.
func New() *cobra.Command {
	var revision int
	var dir string
	command := &cobra.Command{
		Use:   "gencert --output DIR",
		Short: "Write the certificate scripts, to bake them into an image",
		Long: `Writes gencert_head.sh and gencert_worker.sh into a folder.

By default pods get these scripts from a ConfigMap that the operator makes. Whoever would rather have them in an image
copies them there, and points the policy's issuance.initContainer.image and .scriptsPath at it. A pod runs a script
only if it is, byte for byte, the one that the operator knows: the SHA-256 is part of the pod's template.`,
		Example: "  raytls gencert -o scripts",
		Args:    cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			switch dir {
			case "":
				return fmt.Errorf("say which folder to write the scripts to: %s --output DIR", cmd.CommandPath())
			case "-":
				return errors.New("--output must be a folder: the scripts are two files and cannot go to standard output")
			}
			return writeScripts(cmd.OutOrStdout(), dir, revision)
		},
	}
	command.Flags().StringVarP(&dir, "output", "o", "", "The folder to write to; it is made if it does not exist. Scripts that are there are replaced.")
	command.Flags().IntVar(&revision, "revision", injection.Revision, "The revision of the scripts: the one that the operator injects.")
	return command
}

func writeScripts(out io.Writer, dir string, revision int) error {
	scripts, err := gencert.Scripts(revision)
	if err != nil {
		return fmt.Errorf("--revision: %w; the newest is %d", err, injection.Revision)
	}
	if err := os.MkdirAll(dir, 0o755); err != nil { //nolint:gosec // scripts are no secret, and go into images
		return fmt.Errorf("making the folder: %w", err)
	}
	for _, name := range slices.Sorted(maps.Keys(scripts)) {
		path := filepath.Join(dir, name)
		if err := replaceFile(path, scripts[name]); err != nil {
			return fmt.Errorf("writing a script: %w", err)
		}
		sum, err := gencert.SHA256(revision, name)
		if err != nil {
			return err
		}
		if _, err := fmt.Fprintf(out, "wrote %s, SHA-256 %s\n", path, sum); err != nil {
			return err
		}
	}
	_, err = io.WriteString(out, nextSteps)
	return err
}

const nextSteps = `
Copy both, unchanged, into an image that has openssl, allow that image in the operator (--allowed-init-image), and name
the image and the folder in the policy:

  spec:
    issuance:
      initContainer:
        image: registry.example.com/ray-tls-init:1
        scriptsPath: /opt/raytls
`

// replaceFile writes an executable file that any user may read, whatever the umask: an image's user need not be its
// builder. Nobody ever sees half of it.
func replaceFile(path, text string) error {
	file, err := os.CreateTemp(filepath.Dir(path), "."+filepath.Base(path)+"-*")
	if err != nil {
		return err
	}
	_, err = file.WriteString(text)
	err = errors.Join(err, file.Chmod(0o755), file.Close())
	if err == nil {
		err = os.Rename(file.Name(), path)
	}
	if err != nil {
		return errors.Join(err, os.Remove(file.Name()))
	}
	return nil
}
