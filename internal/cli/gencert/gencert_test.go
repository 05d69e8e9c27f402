package gencert

import (
	"os"
	"path/filepath"
	"testing"

	"github.com/raytls/raytls/internal/gencert"
)

func TestReplaceFile_leavesNothingBehind(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	path := filepath.Join(dir, gencert.HeadScript)
	if err := os.MkdirAll(filepath.Join(path, "in the way"), 0o700); err != nil {
		t.Fatal(err)
	}
	if err := replaceFile(path, "text"); err == nil {
		t.Error("a folder was replaced by a file")
	}
	entries, err := os.ReadDir(dir)
	if err != nil {
		t.Fatal(err)
	}
	if len(entries) != 1 {
		t.Errorf("a failed write left %v", entries)
	}
}
