// Package golden compares texts with files that hold what is expected, for tests.
package golden

import (
	"os"
	"path/filepath"
	"testing"

	"github.com/google/go-cmp/cmp"
)

// Diff is how a text differs from the file (-want +got); empty if it does not. With update the file gets the text first.
func Diff(t testing.TB, update bool, file, got string) string {
	t.Helper()
	if update {
		if err := os.MkdirAll(filepath.Dir(file), 0o750); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(file, []byte(got), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	want, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	return cmp.Diff(string(want), got)
}
