// Package input reads the manifests that a command is given.
package input

import (
	"errors"
	"fmt"
	"io"
	"os"
	"slices"

	"github.com/spf13/cobra"

	"github.com/raytls/raytls/internal/manifest"
)

// maxBytes is far above what the API server would take.
const maxBytes = 64 << 20

// Flag adds -f to a command.
func Flag(cmd *cobra.Command) *[]string {
	return cmd.Flags().StringArrayP("filename", "f", nil, "A file of manifests, YAML or JSON, or - for standard input. Can be repeated.")
}

// Files reads the documents of all files, in order. There is at least one.
func Files(cmd *cobra.Command, files []string) ([]*manifest.Document, error) {
	if len(files) == 0 {
		return nil, fmt.Errorf("say which manifest to read: %s -f FILE, or -f - for standard input", cmd.CommandPath())
	}
	if first := slices.Index(files, "-"); slices.Contains(files[first+1:], "-") {
		return nil, errors.New("standard input can be read once; give -f - once")
	}
	var documents []*manifest.Document
	for _, file := range files {
		read, err := File(cmd, file)
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

// File reads the documents of one file; - is the command's standard input.
func File(cmd *cobra.Command, file string) ([]*manifest.Document, error) {
	name, in := "standard input", cmd.InOrStdin()
	if file != "-" {
		opened, err := os.Open(file)
		if err != nil {
			return nil, fmt.Errorf("reading a manifest: %w", err)
		}
		defer opened.Close() //nolint:errcheck // nothing was written
		name, in = file, opened
	}
	text, err := io.ReadAll(io.LimitReader(in, maxBytes+1))
	if err != nil {
		return nil, fmt.Errorf("reading a manifest: %w", err)
	}
	if len(text) > maxBytes {
		return nil, fmt.Errorf("%s is longer than %d MiB", name, maxBytes>>20)
	}
	return manifest.Read(name, text)
}
