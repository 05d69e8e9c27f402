// Command page writes the blocks of the page that it is given anew, from the tables of package expected.
package main

import (
	"fmt"
	"os"

	"github.com/raytls/raytls/test/ray/expected"
)

func main() {
	if err := write(os.Args[1:]); err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
}

func write(args []string) error {
	if len(args) != 1 {
		return fmt.Errorf("usage: page FILE")
	}
	old, err := os.ReadFile(args[0])
	if err != nil {
		return err
	}
	text, err := expected.Page(string(old))
	if err != nil {
		return fmt.Errorf("%s: %w", args[0], err)
	}
	return os.WriteFile(args[0], []byte(text), 0o600)
}
