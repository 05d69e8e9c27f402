package app

import (
	"bytes"
	"encoding/json"
	"errors"
	"io"
	"os/exec"
	"path"
	"slices"
	"strings"
	"testing"
)

const module = "github.com/raytls/raytls/"

// levels has the packages of the program, the lowest first. A package imports those of lower levels alone: not one of its own
// level, so that no controller imports another. A folder at the end with /... stands for all packages below it.
func levels() [][]string {
	return [][]string{
		{"api/..."},
		{"internal/pki", "internal/jsonpatch", "internal/limit", "internal/timescale", "internal/golden"},
		{"internal/gencert", "internal/kube", "internal/kuberay", "internal/probe", "internal/listen"},
		{"internal/injection", "internal/gencert/gencerttest", "internal/window", "internal/clockskew"},
		{"internal/injection/injectiontest", "internal/policy", "internal/keys", "internal/kept", "internal/rollout", "internal/servingcert", "internal/hazard"},
		{"internal/cluster", "internal/manifest"},
		{"internal/migration", "internal/cli/input", "internal/cli/text", "internal/cli/exit", "internal/cli/connect", "internal/cli/apply", "internal/cli/fleet"},
		{"internal/cli/follow", "internal/cli/clitest"},
		{"internal/cli/authorities"},
		{
			"internal/webhook", "internal/controller/...", "internal/cli/inject", "internal/cli/migrate", "internal/cli/gencert", "internal/cli/verify",
			"internal/cli/rotate", "internal/cli/revoke", "internal/cli/approve", "internal/cli/status",
		},
		{"internal/app", "internal/cli"},
		{"cmd/..."},
	}
}

// levelOf is the level of a package of this module; -1 for one that has none.
func levelOf(name string) int {
	return slices.IndexFunc(levels(), func(level []string) bool {
		return slices.ContainsFunc(level, func(entry string) bool {
			folder, all := strings.CutSuffix(entry, "/...")
			return name == folder || all && strings.HasPrefix(name, folder+"/")
		})
	})
}

// listed is what go list says of a package.
type listed struct {
	ImportPath   string
	GoFiles      []string
	Imports      []string
	TestImports  []string
	XTestImports []string
}

func goList(t *testing.T, args ...string) []listed {
	t.Helper()
	if testing.Short() {
		t.Skip("go list takes seconds")
	}
	command := exec.CommandContext(t.Context(), "go", append([]string{"list", "-json=ImportPath,GoFiles,Imports,TestImports,XTestImports"}, args...)...)
	command.Dir = path.Join("..", "..")
	var failed bytes.Buffer
	command.Stderr = &failed
	out, err := command.Output()
	if err != nil {
		t.Fatalf("go list: %v\n%s", err, failed.String())
	}
	var packages []listed
	for decoder := json.NewDecoder(bytes.NewReader(out)); ; {
		var p listed
		if err := decoder.Decode(&p); errors.Is(err, io.EOF) {
			return packages
		} else if err != nil {
			t.Fatal(err)
		}
		packages = append(packages, p)
	}
}

// ours are those of the imports that are packages of this module, by their folder.
func ours(imports []string) []string {
	var out []string
	for _, imported := range imports {
		if name, found := strings.CutPrefix(imported, module); found {
			out = append(out, name)
		}
	}
	return out
}

func TestImportsPointDown(t *testing.T) {
	packages := goList(t, "./...")
	if len(packages) < 15 {
		t.Fatalf("go list found %d packages", len(packages))
	}
	for _, p := range packages {
		name := strings.TrimPrefix(p.ImportPath, module)
		if strings.HasPrefix(name, "hack/") || strings.HasPrefix(name, "test/") || len(p.GoFiles) == 0 {
			continue // tools and suites use the program
		}
		level := levelOf(name)
		if level < 0 {
			t.Errorf("%s is not in levels; put it there", name)
		}
		for _, imported := range ours(p.Imports) {
			below := levelOf(imported)
			switch generated := strings.HasPrefix(name, "api/") && strings.HasPrefix(imported, "api/"); {
			case generated: // apply configurations are several packages
			case below < 0:
				t.Errorf("%s imports %s, which is no part of the program", name, imported)
			case below >= level:
				t.Errorf("%s imports %s, which is not below it", name, imported)
			}
		}
	}
}

// Tests may use what is beside the package, and what is below it. Only the wiring and the suites know everything.
func TestOnlyTheWiringKnowsTheWiring(t *testing.T) {
	for _, p := range goList(t, "./...") {
		name := strings.TrimPrefix(p.ImportPath, module)
		if name == "internal/app" || name == "internal/controller/suite" || strings.HasPrefix(name, "cmd/") || strings.HasPrefix(name, "hack/") || strings.HasPrefix(name, "test/") {
			continue
		}
		if imports := slices.Concat(ours(p.Imports), ours(p.TestImports), ours(p.XTestImports)); slices.Contains(imports, "internal/app") {
			t.Errorf("%s imports internal/app", name)
		}
	}
}

// TestFoldersHaveNoLoop is what Go's own rule does not see: two folders whose packages import one another.
func TestFoldersHaveNoLoop(t *testing.T) {
	folder := func(name string) string {
		parts := strings.Split(name, "/")
		return strings.Join(parts[:min(2, len(parts))], "/")
	}
	imports := map[string][]string{}
	for _, p := range goList(t, "./...") {
		name := folder(strings.TrimPrefix(p.ImportPath, module))
		for _, imported := range ours(p.Imports) {
			if to := folder(imported); to != name && !slices.Contains(imports[name], to) {
				imports[name] = append(imports[name], to)
			}
		}
	}
	var visit func(at string, way []string)
	done := map[string]bool{}
	visit = func(at string, way []string) {
		if i := slices.Index(way, at); i >= 0 {
			t.Errorf("folders import one another: %s", strings.Join(append(way[i:], at), " → "))
			return
		}
		if done[at] {
			return
		}
		for _, to := range imports[at] {
			visit(to, append(slices.Clone(way), at))
		}
		done[at] = true
	}
	for name := range imports {
		visit(name, nil)
	}
}

// TestTheToolIsNoOperator: what is linked into the command line tool cannot run as a controller.
func TestTheToolIsNoOperator(t *testing.T) {
	for _, p := range goList(t, "-deps", "./cmd/raytls") {
		for _, denied := range []string{
			module + "internal/app", module + "internal/controller", module + "internal/webhook", module + "internal/cli/clitest",
			"sigs.k8s.io/controller-runtime/pkg/manager", "sigs.k8s.io/controller-runtime/pkg/webhook",
		} {
			if p.ImportPath == denied || strings.HasPrefix(p.ImportPath, denied+"/") {
				t.Errorf("the command line tool links %s", p.ImportPath)
			}
		}
	}
}
