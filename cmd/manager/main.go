// The manager is the operator: it gives RayClusters mutual TLS.
package main

import (
	"fmt"
	"os"

	"github.com/raytls/raytls/internal/app"
)

// version is set by the linker.
var version = "unknown"

func main() {
	if err := app.Main(version, os.Args[1:]); err != nil {
		fmt.Fprintln(os.Stderr, "manager:", err)
		os.Exit(1)
	}
}
