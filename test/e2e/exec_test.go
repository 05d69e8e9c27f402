//go:build e2e

package e2e

import (
	"context"
	"time"

	. "github.com/onsi/ginkgo/v2"
	. "github.com/onsi/gomega"

	"github.com/raytls/raytls/test/live"
)

// sh runs a shell script, which is given stdin, in a container of a pod.
func (n *namespace) sh(ctx context.Context, pod, container, script, stdin string) (live.Result, error) {
	ctx, cancel := context.WithTimeout(ctx, 30*time.Second)
	defer cancel()
	return target.Exec(ctx, n.key(pod), container, stdin, "/bin/sh", "-c", script)
}

// mustSh is sh for scripts that end well.
func (n *namespace) mustSh(ctx context.Context, pod, container, script, stdin string) string {
	GinkgoHelper()
	ended, err := n.sh(ctx, pod, container, script, stdin)
	Expect(err).NotTo(HaveOccurred())
	Expect(ended.Code).To(BeZero(), "%s in %s/%s: %s", script, pod, container, ended.Stderr)
	return ended.Stdout
}

// logs are what a container has said so far.
func (n *namespace) logs(ctx context.Context, pod, container string) (string, error) {
	return target.Logs(ctx, n.key(pod), container)
}
