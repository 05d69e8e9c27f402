//go:build ray

package ray

import (
	"bytes"
	"context"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"net"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"

	. "github.com/onsi/ginkgo/v2"
	. "github.com/onsi/gomega"
	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/raytls/raytls/test/ray/expected"
)

// markerBeginning is how every marker begins: a text that specs put into arguments, objects, logs and jobs.
const markerBeginning = "raytlsmarker-"

// marker is a text that nobody may see on the network, unless a spec says so.
func marker(name string) string { return markerBeginning + name }

// captureFile is where specs/capture.py keeps what it has seen.
const captureFile = "/tmp/streams.json"

// capture records the TCP streams of each node, by a pod with the capability NET_RAW.
type capture struct {
	n    *namespace
	pods []*corev1.Pod
	// dropped is how many packets the capture missed so far.
	dropped int
}

// startCapture starts a pod on each node. It is nil where the cluster refuses such pods.
func startCapture(ctx context.Context) *capture {
	GinkgoHelper()
	c := &capture{n: newNamespace(ctx)}
	script, err := os.ReadFile(filepath.Join("specs", "capture.py"))
	Expect(err).NotTo(HaveOccurred())
	var nodes corev1.NodeList
	Expect(target.API.List(ctx, &nodes)).To(Succeed())
	for i, node := range nodes.Items {
		pod := &corev1.Pod{
			ObjectMeta: metav1.ObjectMeta{Name: fmt.Sprint("capture-", i)},
			Spec: corev1.PodSpec{
				NodeName: node.Name, HostNetwork: true, TerminationGracePeriodSeconds: new(int64(0)),
				Tolerations: []corev1.Toleration{{Operator: corev1.TolerationOpExists}},
				Containers: []corev1.Container{{
					Name: "capture", Image: rayImage, Command: []string{"python", "-u", "-c", string(script), captureFile, markerBeginning},
					SecurityContext: &corev1.SecurityContext{RunAsUser: new(int64(0)), Capabilities: &corev1.Capabilities{Add: []corev1.Capability{"NET_RAW", "NET_ADMIN"}}},
				}},
			},
		}
		pod.Namespace = c.n.name
		err := target.API.Create(ctx, pod)
		if apierrors.IsForbidden(err) {
			AddReportEntry("the cluster refuses the capture's pods", err.Error())
			return nil
		}
		Expect(err).NotTo(HaveOccurred())
		c.pods = append(c.pods, pod)
	}
	for _, pod := range c.pods {
		Eventually(ctx, func(ctx context.Context) (int, error) {
			ended, err := c.n.sh(ctx, pod, "cat "+captureFile)
			return ended.Code, err
		}).Should(BeZero(), "the capture of node %s has to start", pod.Spec.NodeName)
	}
	return c
}

// stream is a TCP connection that was seen on the network.
type stream struct {
	Client, Server string
	// Complete reports whether its first packet was seen.
	Complete bool
	// ClientBegins and ServerBegins are the first bytes that each sent, in hex.
	ClientBegins, ServerBegins string
	// Bytes is the number of bytes both ways, and Lost how many of them the capture missed.
	Bytes, Lost int64
	// Markers are those that the stream carried in clear.
	Markers []string
}

// isThere skips a spec that needs the capture where the cluster refuses it.
func (c *capture) isThere() {
	GinkgoHelper()
	if c == nil {
		if os.Getenv("CI") != "" {
			Fail("a check in CI must not pass without the capture, and the cluster refuses its pods")
		}
		Skip("the cluster refuses pods in the node's network with the capability NET_RAW")
	}
}

// streams are those that were seen so far.
func (c *capture) streams(ctx context.Context) []stream {
	GinkgoHelper()
	var out []stream
	c.dropped = 0
	for _, pod := range c.pods {
		ended, err := c.n.sh(ctx, pod, "cat "+captureFile)
		Expect(err).NotTo(HaveOccurred())
		Expect(ended.Code).To(BeZero(), ended.Stderr)
		var seen struct {
			Dropped int
			Streams []stream
		}
		Expect(json.Unmarshal([]byte(ended.Stdout), &seen)).To(Succeed())
		c.dropped += seen.Dropped
		out = append(out, seen.Streams...)
	}
	return out
}

// protocol names what a stream's first bytes are, and for HTTP gives the request's path.
func (s stream) protocol() (name, path string) {
	sent, _ := hex.DecodeString(s.ClientBegins)
	answered, _ := hex.DecodeString(s.ServerBegins)
	tls := func(b []byte) bool { return len(b) == 0 || b[0] == 0x16 && (len(b) == 1 || b[1] == 3) }
	switch {
	case len(sent) == 0 && len(answered) == 0:
		return "nothing", ""
	case tls(sent) && tls(answered):
		return "TLS", ""
	case len(sent) > 0 && tls(sent):
		return "TLS that the server does not speak", ""
	case bytes.HasPrefix(sent, []byte("PRI * HTTP/2.0")):
		return "gRPC", ""
	case bytes.HasPrefix(answered, []byte("HTTP/1.")) || bytes.Contains(sent, []byte(" HTTP/1.")):
		return "HTTP", httpPath(sent)
	case bytes.HasPrefix(sent, []byte("*")) && bytes.ContainsAny(answered[:min(1, len(answered))], "+-:$*%"):
		return "RESP", ""
	}
	return fmt.Sprintf("%q answered by %q", sent, answered), ""
}

// httpPath is the path in the beginning of a request.
func httpPath(request []byte) string {
	fields := strings.Fields(string(request))
	if len(fields) < 2 {
		return ""
	}
	path, _, _ := strings.Cut(fields[1], "?")
	return path
}

// expectedBy is the row of a table that expects the stream in clear; nil if none does.
func (s stream) expectedBy(table expected.Table) *expected.Stream {
	name, path := s.protocol()
	_, text, err := net.SplitHostPort(s.Server)
	if err != nil {
		return nil
	}
	port, err := strconv.Atoi(text)
	if err != nil {
		return nil
	}
	i := slices.IndexFunc(table.Plaintext, func(e expected.Stream) bool {
		return e.Protocol == name && (e.Port == text || e.Port == expected.Random && random(port) && e.Path == path)
	})
	if i < 0 {
		return nil
	}
	return &table.Plaintext[i]
}

// host is the address of one end of a stream, without the port.
func host(end string) string {
	address, _, err := net.SplitHostPort(end)
	if err != nil {
		return end
	}
	return address
}

// census remembers the address of every pod of the suite's namespaces whose traffic counts. Earlier are the namespaces that other
// specs left: the capture missed how their streams began, and not all of their clusters are raytls'.
type census struct {
	of      map[string]string
	earlier []string
}

// begin starts the census, before the first namespace whose traffic counts is made.
func (c *census) begin(ctx context.Context) {
	GinkgoHelper()
	var err error
	c.earlier, err = namespaces(ctx)
	Expect(err).NotTo(HaveOccurred())
}

// count adds the pods that are there now. Pods with the label raytls-ray/outsider speak what they like.
func (c *census) count(ctx context.Context) {
	GinkgoHelper()
	names, err := namespaces(ctx)
	Expect(err).NotTo(HaveOccurred())
	for _, name := range names {
		if slices.Contains(c.earlier, name) {
			continue
		}
		var pods corev1.PodList
		Expect(target.API.List(ctx, &pods, client.InNamespace(name))).To(Succeed())
		for _, pod := range pods.Items {
			if pod.Status.PodIP != "" && !pod.Spec.HostNetwork && pod.Labels[outsiderLabel] == "" {
				c.of[pod.Status.PodIP] = pod.Namespace + "/" + pod.Name
			}
		}
	}
}

// outsiderLabel marks pods whose streams the audit does not judge: those that knock on doors, and clusters without TLS.
const outsiderLabel = "raytls-ray/outsider"
