// Package hack has the tests of the scripts of this folder.
package hack

import (
	"bytes"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"testing"
)

// stubGo stands for the go command. Each process has asked for the environment before it builds. A build ends after all have,
// and after they had time to begin one too.
const stubGo = `#!/bin/sh
case $* in
*env*) mktemp "$STUB/asked.XXXXXX" >/dev/null && echo go1.0 ;;
*build*)
  mktemp "$STUB/built.XXXXXX" >/dev/null
  while [ "$1" != -o ]; do shift; done
  until [ "$(find "$STUB" -name 'asked.*' | wc -l)" -ge "$PROCESSES" ]; do sleep 0.01; done
  for _ in 1 2 3 4 5 6 7 8 9 10; do sleep 0.01; done
  echo tool >"$2" && chmod +x "$2"
  ;;
esac
`

func TestBuiltBuildsOnce(t *testing.T) {
	for _, tool := range []string{"bash", "flock"} {
		if _, err := exec.LookPath(tool); err != nil {
			t.Skipf("%s is not installed on this machine: install it to run this test", tool)
		}
	}
	if _, err := os.Stat("built"); err != nil { // it also tells go test that a change of the script is a change of the test
		t.Fatal(err)
	}
	bin, stub, cache, module := t.TempDir(), t.TempDir(), t.TempDir(), t.TempDir()
	for path, text := range map[string]string{
		filepath.Join(bin, "go"): stubGo, filepath.Join(module, "go.mod"): "module m\n", filepath.Join(module, "go.sum"): "",
	} {
		if err := os.WriteFile(path, []byte(text), 0o755); err != nil {
			t.Fatal(err)
		}
	}
	run := func(args ...string) (out, said string, err error) {
		command := exec.CommandContext(t.Context(), "bash", append([]string{"./built"}, args...)...)
		command.Env = []string{"PATH=" + bin + ":" + os.Getenv("PATH"), "XDG_CACHE_HOME=" + cache, "STUB=" + stub, "PROCESSES=4"}
		var stdout, stderr bytes.Buffer
		command.Stdout, command.Stderr = &stdout, &stderr
		err = command.Run()
		return stdout.String(), stderr.String(), err
	}
	if _, _, err := run("-n", module, "tool=example.com/tool"); err == nil {
		t.Error("without a build there is no tool")
	}
	if left, err := os.ReadDir(cache); err != nil || len(left) > 0 {
		t.Errorf("a question leaves nothing behind: %v %v", left, err)
	}
	asked, err := filepath.Glob(filepath.Join(stub, "asked.*"))
	if err != nil || len(asked) != 1 {
		t.Fatalf("the stub counts %v: %v", asked, err)
	}
	if err := os.Remove(asked[0]); err != nil {
		t.Fatal(err)
	}
	var all sync.WaitGroup
	dirs := make([]string, 4)
	for i := range dirs {
		all.Go(func() {
			out, said, err := run(module, "tool=example.com/tool")
			if err != nil {
				t.Errorf("%v: %s", err, said)
			}
			dirs[i] = strings.TrimSpace(out)
		})
	}
	all.Wait()
	for _, dir := range dirs {
		if _, err := os.Stat(filepath.Join(dir, "tool")); err != nil || dir != dirs[0] {
			t.Errorf("a process has no tool: %v", err)
		}
	}
	if built, err := filepath.Glob(filepath.Join(stub, "built.*")); err != nil || len(built) != 1 {
		t.Errorf("the tool was built %d times at once: %v", len(built), err)
	}
	if left, err := filepath.Glob(filepath.Join(dirs[0], "part.*")); err != nil || len(left) > 0 {
		t.Errorf("left behind: %v %v", left, err)
	}
}
