package cli

import (
	"bytes"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"io"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/raytls/raytls/internal/gencert"
)

func environment(out io.Writer) Environment {
	return Environment{In: strings.NewReader(""), Out: out, Notes: io.Discard, Now: time.Now}
}

func TestMain_output(t *testing.T) {
	t.Parallel()
	for name, c := range map[string]struct {
		reason string
		args   []string
		want   []string
	}{
		"version":  {"the version that the linker set is what is printed", []string{"raytls", "version"}, []string{"raytls v1.2.3,"}},
		"no word":  {"without a command there is help and no error", []string{"raytls"}, []string{"Usage:\n  raytls", "gencert", "version"}},
		"path":     {"the program's folder is not part of its name", []string{"/usr/local/bin/raytls", "--help"}, []string{"Usage:\n  raytls"}},
		"plugin":   {"kubectl runs plugins by another name", []string{"/bin/kubectl-raytls", "gencert", "--help"}, []string{"kubectl raytls gencert --output DIR"}},
		"windows":  {"the suffix of programs is not typed", []string{"kubectl-raytls.exe", "--help"}, []string{"Usage:\n  kubectl raytls"}},
		"renamed":  {"a user may name the file at will", []string{"rtls", "--help"}, []string{"Usage:\n  rtls"}},
		"defaults": {"help says which revision is the default", []string{"raytls", "gencert", "-h"}, []string{"(default 1)"}},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			var out bytes.Buffer
			if err := Main("v1.2.3", c.args, environment(&out)); err != nil {
				t.Fatalf("%s: %v", c.reason, err)
			}
			for _, want := range c.want {
				if !strings.Contains(out.String(), want) {
					t.Errorf("%s: %q is missing in\n%s", c.reason, want, out.String())
				}
			}
		})
	}
}

func TestMain_errors(t *testing.T) {
	t.Parallel()
	file := filepath.Join(t.TempDir(), "file")
	if err := os.WriteFile(file, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	for name, c := range map[string]struct {
		reason string
		args   []string
		want   string
	}{
		"no arguments":     {"a program can be run without its name", nil, "the command line is empty"},
		"unknown command":  {"a typing error is named", []string{"raytls", "gencrt"}, `unknown command "gencrt" for "raytls"`},
		"unknown flag":     {"the user learns where to look", []string{"raytls", "gencert", "--out", "x"}, "unknown flag: --out; `raytls gencert --help` lists what there is"},
		"no output":        {"nothing is written where nobody said", []string{"raytls", "gencert"}, "say which folder to write the scripts to: raytls gencert --output DIR"},
		"plugin's words":   {"the sentence can be typed as it is", []string{"kubectl-raytls", "gencert"}, "kubectl raytls gencert --output DIR"},
		"standard output":  {"two scripts in one stream are none", []string{"raytls", "gencert", "-o", "-"}, "cannot go to standard output"},
		"revision":         {"the scripts must be the operator's", []string{"raytls", "gencert", "-o", file + "-no", "--revision", "2"}, "gencert has no revision 2; the newest is 1"},
		"revision's kind":  {"a word is no number", []string{"raytls", "gencert", "-o", file + "-no", "--revision", "r1"}, `invalid argument "r1" for "--revision"`},
		"more words":       {"what would be ignored is refused", []string{"raytls", "gencert", "-o", file + "-no", "x"}, `unknown command "x"`},
		"file":             {"a file is not overwritten by a folder", []string{"raytls", "gencert", "-o", file}, "making the folder: mkdir " + file + ": not a directory"},
		"version's words":  {"version takes none", []string{"raytls", "version", "x"}, `unknown command "x" for "raytls version"`},
		"folder in a file": {"the path that cannot be made is named", []string{"raytls", "gencert", "-o", file + "/x"}, "not a directory"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			var out bytes.Buffer
			env := environment(&out)
			env.Notes = &out
			err := Main("v1.2.3", c.args, env)
			if err == nil || !strings.Contains(err.Error(), c.want) {
				t.Errorf("%s: error is %q, want %q in it", c.reason, err, c.want)
			}
			if out.Len() > 0 {
				t.Errorf("%s: beside its error it printed\n%s", c.reason, out.String())
			}
		})
	}
	if _, err := os.Stat(file + "-no"); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("a refused command made its folder")
	}
}

func TestGencert_writesWhatPodsCheck(t *testing.T) {
	t.Parallel()
	dir := filepath.Join(t.TempDir(), "new", "folder")
	var out bytes.Buffer
	// The second time replaces, and so must give the same.
	for range 2 {
		out.Reset()
		if err := Main("v1.2.3", []string{"raytls", "gencert", "-o", dir}, environment(&out)); err != nil {
			t.Fatal(err)
		}
	}
	entries, err := os.ReadDir(dir)
	if err != nil {
		t.Fatal(err)
	}
	var names []string
	for _, entry := range entries {
		names = append(names, entry.Name())
		text, err := os.ReadFile(filepath.Join(dir, entry.Name()))
		if err != nil {
			t.Fatal(err)
		}
		sum := sha256.Sum256(text)
		want, err := gencert.SHA256(1, entry.Name())
		if err != nil {
			t.Fatal(err)
		}
		if got := hex.EncodeToString(sum[:]); got != want {
			t.Errorf("%s has SHA-256 %s, and pods ask for %s", entry.Name(), got, want)
		}
		if line := filepath.Join(dir, entry.Name()) + ", SHA-256 " + want + "\n"; !strings.Contains(out.String(), line) {
			t.Errorf("%q is not told in\n%s", line, out.String())
		}
		info, err := entry.Info()
		if err != nil {
			t.Fatal(err)
		}
		if info.Mode() != 0o755 {
			t.Errorf("%s has mode %v: any user of the image must be able to read it", entry.Name(), info.Mode())
		}
	}
	if diff := cmp.Diff([]string{gencert.HeadScript, gencert.WorkerScript}, names); diff != "" {
		t.Errorf("files (-want +got):\n%s", diff)
	}
	for _, want := range []string{"image: ", "scriptsPath: ", "--allowed-init-image"} {
		if !strings.Contains(out.String(), want) {
			t.Errorf("%q, which a user needs next, is missing in\n%s", want, out.String())
		}
	}
}
