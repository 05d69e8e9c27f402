// raytls is the command line tool, also installed as the kubectl plugin kubectl-raytls.
package main

import (
	"fmt"
	"os"

	"github.com/raytls/raytls/internal/cli"
)

// version is set by the linker.
var version = "unknown"

func main() {
	if err := cli.Main(version, os.Args, os.Stdout); err != nil {
		fmt.Fprintln(os.Stderr, "raytls:", err)
		os.Exit(1)
	}
}
