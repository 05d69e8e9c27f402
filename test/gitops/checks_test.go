package gitops_test

import (
	"context"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/fluxcd/cli-utils/pkg/kstatus/status"
	"github.com/fluxcd/pkg/apis/kustomize"
	"github.com/fluxcd/pkg/runtime/cel"
	lua "github.com/yuin/gopher-lua"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"sigs.k8s.io/yaml"
)

// page is what the examples are read from.
const page = "docs/tasks/gitops.md"

// documented are the YAML examples of the page of that kind that have the field.
func documented(t *testing.T, kind string, field ...any) []*unstructured.Unstructured {
	t.Helper()
	text, err := os.ReadFile(filepath.Join("..", "..", filepath.FromSlash(page)))
	if err != nil {
		t.Fatal(err)
	}
	var out []*unstructured.Unstructured
	for i, block := range strings.Split(string(text), "```") {
		block, isYAML := strings.CutPrefix(block, "yaml\n")
		if i%2 == 0 || !isYAML {
			continue
		}
		o := &unstructured.Unstructured{}
		if err := yaml.Unmarshal([]byte(block), &o.Object); err != nil {
			t.Fatalf("an example of %s: %v\n%s", page, err, block)
		}
		if o.GetKind() == kind && at(o, field...) != nil {
			out = append(out, o)
		}
	}
	if len(out) == 0 {
		t.Fatalf("%s has no example of a %s with %v", page, kind, field)
	}
	return out
}

// documentedChecks are the health checks of the page for policies.
func documentedChecks(t *testing.T) (fluxCheck, argoCheck) {
	t.Helper()
	return fluxCheckOf(t, "RayTLSPolicy"), argoCheckOf(t, "raytls.io_RayTLSPolicy")
}

// documentedExpressions are Flux's health checks of the page.
func documentedExpressions(t *testing.T) []kustomize.CustomHealthCheck {
	t.Helper()
	text, err := yaml.Marshal(documented(t, "Kustomization", "spec", "healthCheckExprs")[0].Object["spec"])
	if err != nil {
		t.Fatal(err)
	}
	var spec struct {
		HealthCheckExprs []kustomize.CustomHealthCheck `json:"healthCheckExprs"`
	}
	if err := yaml.Unmarshal(text, &spec); err != nil {
		t.Fatal(err)
	}
	return spec.HealthCheckExprs
}

// fluxCheck is evaluated by the code that kustomize-controller evaluates healthCheckExprs with.
type fluxCheck struct{ evaluator *cel.StatusEvaluator }

func fluxCheckOf(t *testing.T, kind string) fluxCheck {
	t.Helper()
	for _, check := range documentedExpressions(t) {
		if check.Kind != kind {
			continue
		}
		evaluator, err := cel.NewStatusEvaluator(&check.HealthCheckExpressions)
		if err != nil {
			t.Fatal(err)
		}
		return fluxCheck{evaluator}
	}
	t.Fatalf("%s has no health check of Flux for a %s", page, kind)
	return fluxCheck{}
}

// evaluate gives Unknown where an expression fails, as Flux's poller does. It looks again then.
func (c fluxCheck) evaluate(object *unstructured.Unstructured) status.Status {
	result, err := c.evaluator.Evaluate(context.Background(), object)
	if err != nil {
		return status.UnknownStatus
	}
	return result.Status
}

// argoCheck is a script that is run as Argo CD runs it: with the object as obj, and without a library that could do harm.
type argoCheck struct{ script string }

func argoCheckOf(t *testing.T, kind string) argoCheck {
	t.Helper()
	key := "resource.customizations.health." + kind
	script, _ := at(documented(t, "ConfigMap", "data", key)[0], "data", key).(string)
	return argoCheck{script}
}

func (c argoCheck) evaluate(t *testing.T, object *unstructured.Unstructured) string {
	t.Helper()
	state := lua.NewState(lua.Options{SkipOpenLibs: true})
	defer state.Close()
	for _, library := range []struct {
		name string
		open lua.LGFunction
	}{{lua.LoadLibName, lua.OpenPackage}, {lua.BaseLibName, lua.OpenBase}, {lua.TabLibName, lua.OpenTable}} {
		if err := state.CallByParam(lua.P{Fn: state.NewFunction(library.open), Protect: true}, lua.LString(library.name)); err != nil {
			t.Fatal(err)
		}
	}
	state.SetGlobal("obj", luaValue(state, object.Object))
	if err := state.DoString(c.script); err != nil {
		t.Fatalf("the health check fails: %v", err)
	}
	health, ok := state.Get(-1).(*lua.LTable)
	if !ok {
		t.Fatalf("the health check returns no table")
	}
	return health.RawGetString("status").String()
}

func luaValue(state *lua.LState, value any) lua.LValue {
	switch value := value.(type) {
	case map[string]any:
		table := state.NewTable()
		for key, field := range value {
			table.RawSetString(key, luaValue(state, field))
		}
		return table
	case []any:
		table := state.NewTable()
		for _, entry := range value {
			table.Append(luaValue(state, entry))
		}
		return table
	case string:
		return lua.LString(value)
	case bool:
		return lua.LBool(value)
	case int64:
		return lua.LNumber(value)
	case float64:
		return lua.LNumber(value)
	}
	return lua.LNil
}
