//go:build e2e

package e2e

import (
	"bytes"
	"context"
	"errors"
	"io"
	"strings"
	"time"

	. "github.com/onsi/ginkgo/v2"
	. "github.com/onsi/gomega"
	corev1 "k8s.io/api/core/v1"
	"k8s.io/client-go/kubernetes/scheme"
	"k8s.io/client-go/tools/remotecommand"
	"k8s.io/client-go/util/exec"
	"k8s.io/streaming/pkg/httpstream"
)

// result is how a command in a container ended.
type result struct {
	code           int
	stdout, stderr string
}

func (r result) ended() int { return r.code }

func (r result) output() string { return r.stdout + r.stderr }

// sh runs a shell script, which is given stdin, in a container of a pod.
func (n *namespace) sh(ctx context.Context, pod, container, script, stdin string) (result, error) {
	ctx, cancel := context.WithTimeout(ctx, 30*time.Second)
	defer cancel()
	request := clientset.CoreV1().RESTClient().Post().Resource("pods").Namespace(n.name).Name(pod).SubResource("exec").
		VersionedParams(&corev1.PodExecOptions{
			Container: container, Command: []string{"/bin/sh", "-c", script}, Stdin: stdin != "", Stdout: true, Stderr: true,
		}, scheme.ParameterCodec)
	spdy, err := remotecommand.NewSPDYExecutor(config, "POST", request.URL())
	if err != nil {
		return result{}, err
	}
	websocket, err := remotecommand.NewWebSocketExecutor(config, "GET", request.URL().String())
	if err != nil {
		return result{}, err
	}
	executor, err := remotecommand.NewFallbackExecutor(websocket, spdy, func(err error) bool {
		return httpstream.IsUpgradeFailure(err) || httpstream.IsHTTPSProxyError(err)
	})
	if err != nil {
		return result{}, err
	}
	var stdout, stderr bytes.Buffer
	streams := remotecommand.StreamOptions{Stdout: &stdout, Stderr: &stderr}
	if stdin != "" {
		streams.Stdin = strings.NewReader(stdin)
	}
	err = executor.StreamWithContext(ctx, streams)
	ended := result{stdout: stdout.String(), stderr: stderr.String()}
	var exit exec.CodeExitError
	if errors.As(err, &exit) {
		ended.code, err = exit.Code, nil
	}
	return ended, err
}

// mustSh is sh for scripts that end well.
func (n *namespace) mustSh(ctx context.Context, pod, container, script, stdin string) string {
	GinkgoHelper()
	ended, err := n.sh(ctx, pod, container, script, stdin)
	Expect(err).NotTo(HaveOccurred())
	Expect(ended.code).To(BeZero(), "%s in %s/%s: %s", script, pod, container, ended.stderr)
	return ended.stdout
}

// logs are what a container has said so far.
func (n *namespace) logs(ctx context.Context, pod, container string) (string, error) {
	stream, err := clientset.CoreV1().Pods(n.name).GetLogs(pod, &corev1.PodLogOptions{Container: container}).Stream(ctx)
	if err != nil {
		return "", err
	}
	defer stream.Close()
	text, err := io.ReadAll(stream)
	return string(text), err
}
