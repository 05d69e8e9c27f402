// raytls is the command line tool, also installed as the kubectl plugin kubectl-raytls.
package main

import (
	"fmt"
	"os"
	"time"

	"github.com/raytls/raytls/internal/cli"
)

// version is set by the linker.
var version = "unknown"

func main() {
	env := cli.Environment{In: os.Stdin, Out: os.Stdout, Notes: os.Stderr, Now: time.Now}
	if err := cli.Main(version, os.Args, env); err != nil {
		fmt.Fprintln(os.Stderr, "raytls:", err)
		os.Exit(cli.ExitCode(err))
	}
}
