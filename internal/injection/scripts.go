package injection

import "fmt"

func bootstrap() string { return "exit 1" }

func scriptSHA256(revision int, name string) string { return fmt.Sprintf("%d-%s", revision, name) }

func configMapName(revision int) string {
	return fmt.Sprintf("raytls-gencert-r%d-0000000000", revision)
}
