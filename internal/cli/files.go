package cli

import (
	"errors"
	"fmt"
	"io"
	"os"

	"github.com/spf13/cobra"

	"github.com/raytls/raytls/internal/manifest"
)

// maxInputBytes is far above what the API server would take.
const maxInputBytes = 64 << 20

// filesFlag adds -f to a command.
func filesFlag(command *cobra.Command, files *[]string) {
	command.Flags().StringArrayVarP(files, "filename", "f", nil, "A file of manifests, YAML or JSON, or - for standard input. Can be repeated.")
}

// readFiles reads the documents of all files, in order.
func readFiles(cmd *cobra.Command, files []string) ([]*manifest.Document, error) {
	if len(files) == 0 {
		return nil, fmt.Errorf("say which manifest to read: %s -f FILE, or -f - for standard input", cmd.CommandPath())
	}
	var documents []*manifest.Document
	stdin := false
	for _, file := range files {
		if file == "-" && stdin {
			return nil, errors.New("standard input can be read once; give -f - once")
		}
		stdin = stdin || file == "-"
		read, err := readFile(cmd, file)
		if err != nil {
			return nil, err
		}
		documents = append(documents, read...)
	}
	if len(documents) == 0 {
		return nil, errors.New("there is no object in the input")
	}
	return documents, nil
}

func readFile(cmd *cobra.Command, file string) ([]*manifest.Document, error) {
	if file == "-" {
		return readManifests("standard input", cmd.InOrStdin())
	}
	opened, err := os.Open(file)
	if err != nil {
		return nil, fmt.Errorf("reading a manifest: %w", err)
	}
	defer opened.Close() //nolint:errcheck // nothing was written
	return readManifests(file, opened)
}

func readManifests(name string, in io.Reader) ([]*manifest.Document, error) {
	text, err := io.ReadAll(io.LimitReader(in, maxInputBytes+1))
	if err != nil {
		return nil, fmt.Errorf("reading a manifest: %w", err)
	}
	if len(text) > maxInputBytes {
		return nil, fmt.Errorf("%s is longer than %d MiB", name, maxInputBytes>>20)
	}
	return manifest.Read(name, text)
}
