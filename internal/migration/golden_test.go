package migration

import (
	"bytes"
	"encoding/base64"
	"flag"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/raytls/raytls/internal/golden"
	"github.com/raytls/raytls/internal/injection"
	"github.com/raytls/raytls/internal/manifest"
)

var update = flag.Bool("update", false, "rewrite the golden files")

func read(t testing.TB, name, text string) []*manifest.Document {
	t.Helper()
	documents, err := manifest.Read(name, []byte(text))
	if err != nil {
		t.Fatal(err)
	}
	return documents
}

func written(t testing.TB, documents []*manifest.Document) string {
	t.Helper()
	var out bytes.Buffer
	if err := manifest.Write(&out, documents); err != nil {
		t.Fatal(err)
	}
	return out.String()
}

// caText puts a CA into a text with placeholders, and back.
func caText(t testing.TB, now time.Time) (in, back *strings.Replacer) {
	t.Helper()
	_, _, certPEM, keyPEM := broughtCA(t, now)
	crt, key := base64.StdEncoding.EncodeToString(certPEM), base64.StdEncoding.EncodeToString(keyPEM)
	return strings.NewReplacer("@CRT@", crt, "@KEY@", key), strings.NewReplacer(crt, "@CRT@", key, "@KEY@")
}

// TestMigrate_golden has KubeRay's sample, in the minimal form of each revision in which the stanza or what surrounds it
// differs, the owners of clusters, and what users made of the guide.
func TestMigrate_golden(t *testing.T) {
	t.Parallel()
	now := time.Now()
	in, back := caText(t, now)
	cases, err := filepath.Glob(filepath.Join("testdata", "*", "in.yaml"))
	if err != nil || len(cases) < 6 {
		t.Fatalf("%d cases, %v", len(cases), err)
	}
	for _, file := range cases {
		t.Run(filepath.Base(filepath.Dir(file)), func(t *testing.T) {
			t.Parallel()
			text, err := os.ReadFile(file)
			if err != nil {
				t.Fatal(err)
			}
			documents, notes, err := Migrate(read(t, "in.yaml", in.Replace(string(text))), now)
			if err != nil {
				t.Fatal(err)
			}
			out := written(t, documents)
			compare(t, filepath.Join(filepath.Dir(file), "out.yaml"), back.Replace(out))
			compare(t, filepath.Join(filepath.Dir(file), "notes.txt"), strings.Join(notes, "\n\n")+"\n")
			checkMigrated(t, out, now)
		})
	}
}

func compare(t *testing.T, file, got string) {
	t.Helper()
	if diff := golden.Diff(t, *update, file, got); diff != "" {
		t.Errorf("%s (-want +got):\n%s", file, diff)
	}
}

// checkMigrated makes sure that an output is what it claims: free of TLS, fit for the operator, and final.
func checkMigrated(t *testing.T, out string, now time.Time) {
	t.Helper()
	documents := read(t, "out.yaml", out)
	for _, o := range manifest.Objects(documents) {
		spec, at := o.ClusterSpec()
		if spec == nil {
			continue
		}
		if findings := injection.ForeignTLS(spec, nil); len(findings) > 0 {
			t.Errorf("%s still has %v", o, findings)
		}
		if _, err := injection.Apply(spec, injection.Options{ClusterName: "x"}, injection.All()); err != nil {
			t.Errorf("%s: the operator refuses %s: %v", o, at, err)
		}
	}
	second, _, err := Migrate(documents, now)
	if err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(out, written(t, second)); diff != "" {
		t.Errorf("the second time it changes (-first +second):\n%s", diff)
	}
}

// TestMigrate_kubeRaySamples takes the samples of each KubeRay version that is in the module cache. The one of go.mod is.
func TestMigrate_kubeRaySamples(t *testing.T) {
	t.Parallel()
	folder, err := exec.Command("go", "list", "-m", "-f", "{{.Dir}}", "github.com/ray-project/kuberay/ray-operator").Output()
	if err != nil {
		t.Fatal(err)
	}
	versions := filepath.Join(filepath.Dir(strings.TrimSpace(string(folder))), "ray-operator@v*")
	files, err := filepath.Glob(filepath.Join(versions, "config", "samples", "ray-cluster.*tls.yaml"))
	if err != nil || len(files) == 0 {
		t.Fatalf("%d samples, %v", len(files), err)
	}
	// The published CA ends in 2033.
	now := time.Date(2026, 11, 25, 0, 0, 0, 0, time.UTC)
	for _, file := range files {
		version, _, _ := strings.Cut(filepath.ToSlash(strings.TrimPrefix(file, filepath.Dir(strings.TrimSpace(string(folder))))), "/config")
		t.Run(version+" "+filepath.Base(file), func(t *testing.T) {
			t.Parallel()
			text, err := os.ReadFile(file)
			if err != nil {
				t.Fatal(err)
			}
			documents, notes, err := Migrate(read(t, "sample.yaml", string(text)), now)
			if err != nil {
				t.Fatal(err)
			}
			if !strings.Contains(strings.Join(notes, "\n"), "whose private key is published") {
				t.Errorf("nobody learns that anybody has the CA's key:\n%s", strings.Join(notes, "\n"))
			}
			var kinds []string
			for _, o := range manifest.Objects(documents) {
				kinds = append(kinds, o.GetKind())
			}
			if diff := cmp.Diff([]string{"Secret", "RayTLSPolicy", "RayCluster"}, kinds); diff != "" {
				t.Errorf("objects (-want +got):\n%s", diff)
			}
			out := written(t, documents)
			// The samples have comments about TLS, which are the user's.
			settings := regexp.MustCompile(`(?m)^\s*#.*$`).ReplaceAllString(out, "")
			for _, rest := range []string{"/etc/ray/tls", "/etc/ca/tls", "gencert", "RAY_TLS", "emptyDir: null"} {
				if strings.Contains(settings, rest) {
					t.Errorf("%s is left in\n%s", rest, settings)
				}
			}
			checkMigrated(t, out, now)
		})
	}
}
