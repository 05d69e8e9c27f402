package live

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"os/exec"
	"strings"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/client-go/kubernetes/scheme"
	"k8s.io/client-go/tools/remotecommand"
	clientexec "k8s.io/client-go/util/exec"
	"k8s.io/streaming/pkg/httpstream"
)

// Result is how a command ended.
type Result struct {
	Code           int
	Stdout, Stderr string
}

// Output is all that the command printed.
func (r Result) Output() string { return r.Stdout + r.Stderr }

// Exec runs a command in a container of a pod, and gives it stdin. A command that ends badly is no error.
func (c *Cluster) Exec(ctx context.Context, pod types.NamespacedName, container, stdin string, command ...string) (Result, error) {
	request := c.Clients.CoreV1().RESTClient().Post().Resource("pods").Namespace(pod.Namespace).Name(pod.Name).SubResource("exec").
		VersionedParams(&corev1.PodExecOptions{
			Container: container, Command: command, Stdin: stdin != "", Stdout: true, Stderr: true,
		}, scheme.ParameterCodec)
	spdy, err := remotecommand.NewSPDYExecutor(c.Config, "POST", request.URL())
	if err != nil {
		return Result{}, err
	}
	websocket, err := remotecommand.NewWebSocketExecutor(c.Config, "GET", request.URL().String())
	if err != nil {
		return Result{}, err
	}
	executor, err := remotecommand.NewFallbackExecutor(websocket, spdy, func(err error) bool {
		return httpstream.IsUpgradeFailure(err) || httpstream.IsHTTPSProxyError(err)
	})
	if err != nil {
		return Result{}, err
	}
	var stdout, stderr bytes.Buffer
	streams := remotecommand.StreamOptions{Stdout: &stdout, Stderr: &stderr}
	if stdin != "" {
		streams.Stdin = strings.NewReader(stdin)
	}
	err = executor.StreamWithContext(ctx, streams)
	ended := Result{Stdout: stdout.String(), Stderr: stderr.String()}
	var exit clientexec.CodeExitError
	if errors.As(err, &exit) {
		ended.Code, err = exit.Code, nil
	}
	return ended, err
}

// Logs are what a container has said so far.
func (c *Cluster) Logs(ctx context.Context, pod types.NamespacedName, container string) (string, error) {
	stream, err := c.Clients.CoreV1().Pods(pod.Namespace).GetLogs(pod.Name, &corev1.PodLogOptions{Container: container}).Stream(ctx)
	if err != nil {
		return "", err
	}
	defer stream.Close()
	text, err := io.ReadAll(stream)
	return string(text), err
}

// Run runs a command on this machine, in the repository's root.
func (c *Cluster) Run(ctx context.Context, name string, args ...string) (string, error) {
	command := exec.CommandContext(ctx, name, args...)
	command.Dir = c.Root
	out, err := command.CombinedOutput()
	if err != nil {
		return string(out), fmt.Errorf("%s %s: %w: %s", name, strings.Join(args, " "), err, out)
	}
	return string(out), nil
}
