package gencert

import (
	"crypto/sha256"
	"fmt"
	"maps"
	"os"
	"slices"
	"testing"

	"github.com/google/go-cmp/cmp"
)

// TestRevision1IsFrozen fails when a byte of revision 1 changes. Before its first release, put the new text in the
// file; after it, make another revision: templates and running pods ask for these very hashes.
func TestRevision1IsFrozen(t *testing.T) {
	got := fmt.Sprintf("%x  bootstrap\n", sha256.Sum256([]byte(Bootstrap())))
	scripts, err := Scripts(1)
	if err != nil {
		t.Fatal(err)
	}
	for _, name := range slices.Sorted(maps.Keys(scripts)) {
		sum, err := SHA256(1, name)
		if err != nil {
			t.Fatal(err)
		}
		got += sum + "  " + name + "\n"
	}
	name, err := ConfigMapName(1)
	if err != nil {
		t.Fatal(err)
	}
	got += name + "\n"
	want, err := os.ReadFile("testdata/r1.txt")
	if err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(string(want), got); diff != "" {
		t.Errorf("testdata/r1.txt (-want +got):\n%s", diff)
	}
}
