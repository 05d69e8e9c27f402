// Package gencert holds the scripts that make a pod's certificate in its init container, per revision. Profile is the text
// that they read, Bootstrap the text that starts them, and Report the text that they leave.
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

// A released file never changes: its SHA-256 is in every template that was made with it.
var (
	//go:embed r1/boot.sh
	bootR1 string
	//go:embed r1/head.sh
	headR1 string
	//go:embed r1/worker.sh
	workerR1 string
	//go:embed r1/pod.sh
	podR1 string
	//go:embed r1/main.sh
	mainR1 string
)

// Scripts returns the scripts of a revision by file name. Each is complete by itself and ends in exactly one newline. The
// revision must be 1.
func Scripts(revision int) (map[string]string, error) {
	if revision != 1 {
		return nil, fmt.Errorf("gencert has no revision %d", revision)
	}
	return map[string]string{HeadScript: headR1 + podR1 + mainR1, WorkerScript: workerR1 + podR1 + mainR1}, nil
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

// ConfigMapName returns the name of the ConfigMap that holds a revision's scripts. A hash of their names and contents in
// it keeps apart ConfigMaps with different contents.
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
//	/bin/sh -c <Bootstrap()> raytls-init <script path> <SHA-256 of the script, hexadecimal> <the pod's node type>
//
// It waits until the file exists and has that SHA-256, and then runs exactly the text that it hashed. Nobody who can
// change the file can thus run code beside a key. It is part of the injected template and never changes in a revision.
// It holds nothing that envsubst, Flux or the kubelet would replace.
func Bootstrap() string {
	return strings.TrimSuffix(bootR1, "\n")
}
