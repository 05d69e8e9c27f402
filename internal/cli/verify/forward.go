package verify

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/client-go/kubernetes"
	"k8s.io/client-go/rest"
	"k8s.io/client-go/tools/portforward"
	"k8s.io/client-go/transport/spdy"
	"k8s.io/streaming/pkg/httpstream"

	"github.com/raytls/raytls/internal/probe"
)

// forward gives connections to a port of a pod until ctx ends.
type forward func(ctx context.Context, pod *corev1.Pod, port uint16) (probe.Dial, error)

// forwarder connects through the API server.
func forwarder(config *rest.Config) forward {
	return func(ctx context.Context, pod *corev1.Pod, port uint16) (probe.Dial, error) {
		dialer, err := streamDialer(config, pod)
		if err != nil {
			return nil, err
		}
		ready := make(chan struct{})
		forwarding, err := portforward.NewForStreaming(dialer, []string{fmt.Sprintf("0:%d", port)}, ctx.Done(), ready, io.Discard, io.Discard)
		if err != nil {
			return nil, fmt.Errorf("preparing a port-forward: %w", err)
		}
		ended := make(chan error, 1)
		go func() { ended <- forwarding.ForwardPorts() }()
		select {
		case <-ready:
		case err := <-ended:
			return nil, fmt.Errorf("forwarding a port to pod %s, which takes the right to create pods/portforward: %w", pod.Name, err)
		case <-ctx.Done():
			return nil, ctx.Err()
		}
		ports, err := forwarding.GetPorts()
		if err != nil || len(ports) != 1 {
			return nil, errors.Join(errors.New("the port-forward has no port"), err)
		}
		local := fmt.Sprintf("localhost:%d", ports[0].Local)
		return func(ctx context.Context, network, _ string) (net.Conn, error) {
			return (&net.Dialer{}).DialContext(ctx, network, local)
		}, nil
	}
}

// streamDialer prefers WebSockets, as kubectl does, and falls back to SPDY for older API servers.
func streamDialer(config *rest.Config, pod *corev1.Pod) (httpstream.Dialer, error) {
	clientset, err := kubernetes.NewForConfig(config)
	if err != nil {
		return nil, fmt.Errorf("connecting to the API server: %w", err)
	}
	url := clientset.CoreV1().RESTClient().Post().Resource("pods").Namespace(pod.Namespace).Name(pod.Name).SubResource("portforward").URL()
	transport, upgrader, err := spdy.RoundTripperFor(config)
	if err != nil {
		return nil, fmt.Errorf("preparing a port-forward: %w", err)
	}
	tunnel, err := portforward.NewSPDYOverWebsocketDialerForStreaming(url, config)
	if err != nil {
		return nil, fmt.Errorf("preparing a port-forward: %w", err)
	}
	return portforward.NewFallbackDialerForStreaming(tunnel, spdy.NewDialerForStreaming(upgrader, &http.Client{Transport: transport}, http.MethodPost, url), func(err error) bool {
		return httpstream.IsUpgradeFailure(err) || httpstream.IsHTTPSProxyError(err)
	}), nil
}
