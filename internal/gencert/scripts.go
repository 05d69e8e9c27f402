// Package gencert holds the scripts that make a pod's certificate in its own init container, per revision, with the
// text they read (Profile), the text that starts them (Bootstrap) and the text they leave behind (Report).
package gencert

import (
	"crypto/sha256"
	_ "embed" // the scripts are files, so that shellcheck and editors see them
	"encoding/hex"
	"fmt"
	"maps"
	"slices"
	"strings"
)

const (
	// HeadScript is the file name of a head's script, and its key in the gencert ConfigMap.
	HeadScript = "gencert_head.sh"
	// WorkerScript is the file name of a worker's script, and its key in the gencert ConfigMap.
	WorkerScript = "gencert_worker.sh"
)

// A released file never changes: the SHA-256 in every template made with it would no longer match.
var (
	//go:embed r1/boot.sh
	bootR1 string
	//go:embed r1/head.sh
	headR1 string
	//go:embed r1/worker.sh
	workerR1 string
	//go:embed r1/main.sh
	mainR1 string
)

// Scripts returns the scripts of a revision, file name to content, each complete by itself and ending in exactly one
// newline. The revision must be one that this package has: 1.
func Scripts(revision int) (map[string]string, error) {
	if revision != 1 {
		return nil, fmt.Errorf("gencert has no revision %d", revision)
	}
	return map[string]string{HeadScript: headR1 + mainR1, WorkerScript: workerR1 + mainR1}, nil
}

// SHA256 returns the lower-case hexadecimal SHA-256 of one script of a revision, as Bootstrap expects it.
func SHA256(revision int, name string) (string, error) {
	scripts, err := Scripts(revision)
	if err != nil {
		return "", err
	}
	script, ok := scripts[name]
	if !ok {
		return "", fmt.Errorf("gencert revision %d has no script %q", revision, name)
	}
	sum := sha256.Sum256([]byte(script))
	return hex.EncodeToString(sum[:]), nil
}

// ConfigMapName returns the name of the ConfigMap that holds a revision's scripts. It contains a hash of their names
// and contents, so that another content can never be taken for it.
func ConfigMapName(revision int) (string, error) {
	scripts, err := Scripts(revision)
	if err != nil {
		return "", err
	}
	hash := sha256.New()
	for _, name := range slices.Sorted(maps.Keys(scripts)) {
		fmt.Fprintf(hash, "%s\x00%s\x00", name, scripts[name])
	}
	return fmt.Sprintf("raytls-gencert-r%d-%s", revision, hex.EncodeToString(hash.Sum(nil))[:10]), nil
}

// Bootstrap returns the shell text that an init container runs as
//
//	/bin/sh -c <Bootstrap()> raytls-init <script path> <SHA-256 of the script, hexadecimal>
//
// It waits in its own process until the file is there and has that SHA-256, and then runs the very text it has
// hashed, so that whoever can change the file never gets code of theirs to run beside a key. It is part of the
// injected template and never changes within a revision.
func Bootstrap() string {
	return strings.TrimSuffix(bootR1, "\n")
}
