package main

import (
	"context"
	"fmt"
	"slices"
	"strings"

	"google.golang.org/grpc/credentials"
	corev1 "k8s.io/api/core/v1"

	"github.com/raytls/raytls/internal/injection"
)

// member is a pod as its peers meet it.
type member struct {
	*identity
	ip string
	// fqdn and short are FQ_RAY_IP and RAY_IP: how the pod was told to call its head.
	fqdn, short string
}

func newMember(p *startedPod) (member, error) {
	id, err := readIdentity(p.tls())
	if err != nil {
		return member{}, fmt.Errorf("pod %s: %w", p.pod.Name, err)
	}
	m := member{identity: id, ip: p.ip}
	i := slices.IndexFunc(p.pod.Spec.InitContainers, isOurs)
	for _, v := range p.pod.Spec.InitContainers[i].Env {
		switch v.Name {
		case "FQ_RAY_IP":
			m.fqdn = v.Value
		case "RAY_IP":
			m.short = v.Value
		}
	}
	return m, nil
}

// cast are those who talk: a cluster's head and two of its workers, and a worker of another cluster.
type cast struct {
	head, worker, colleague, stranger member
}

// play has everybody call everybody, as the last step of the TLS guide does and beyond.
func (c *cast) play(ctx context.Context) ([]check, error) {
	// In the second, somebody has led the head's name to a worker.
	n, poisoned := newNetwork(), newNetwork()
	defer n.stop()
	defer poisoned.stop()
	for _, server := range []struct {
		network *network
		member  member
		names   []string
	}{
		{n, c.head, []string{c.worker.fqdn, c.worker.short, c.head.ip}},
		{n, c.worker, []string{c.worker.ip}},
		{n, c.colleague, []string{c.colleague.ip}},
		{n, c.stranger, []string{c.stranger.ip}},
		{poisoned, c.worker, []string{c.worker.fqdn}},
	} {
		if err := server.network.serve(ctx, server.member.server(), server.names...); err != nil {
			return nil, err
		}
	}
	const notIn, unknown = "x509: certificate is valid for ", "x509: certificate signed by unknown authority"
	var checks []check
	for _, call := range []struct {
		what    string
		network *network
		name    string
		client  func() credentials.TransportCredentials
		expect  expectation
	}{
		{"worker → head, $FQ_RAY_IP", n, c.worker.fqdn, c.worker.client, works()},
		{"worker → head, pod IP", n, c.head.ip, c.worker.client, works()},
		{"head → worker, pod IP", n, c.worker.ip, c.head.client, works()},
		{"worker → worker of the other group, pod IP", n, c.colleague.ip, c.worker.client, works()},
		{"worker → head, $RAY_IP", n, c.worker.short, c.worker.client, refused(byClient, notIn, "name not in certificate")},
		{"plaintext client → head", n, c.worker.fqdn, plaintextClient, refused(byServer, "first record does not look like a TLS handshake", "no TLS")},
		{"client without a certificate → head", n, c.worker.fqdn, c.worker.anonymousClient, refused(byServer, "client didn't provide a certificate", "no certificate")},
		{"other cluster's worker → head", n, c.worker.fqdn, c.stranger.client, refused(byClient, unknown, "not its authority")},
		{"the same, trusting this head on purpose", n, c.worker.fqdn, c.trickster, refused(byServer, unknown, "not its authority")},
		{"head → other cluster's worker", n, c.stranger.ip, c.head.client, refused(byClient, unknown, "not its authority")},
		{"worker → a worker that poses as the head", poisoned, c.worker.fqdn, c.colleague.client, refused(byClient, notIn, "name not in certificate")},
	} {
		o, err := call.network.call(ctx, call.name, call.client())
		if err != nil {
			return checks, err
		}
		checks = append(checks, judge(call.what, call.expect, o))
	}
	return checks, nil
}

func (c *cast) trickster() credentials.TransportCredentials {
	return c.stranger.trustingClient(c.head.authorities)
}

// names joins the containers' names.
func names(containers []corev1.Container) string {
	var out []string
	for _, c := range containers {
		out = append(out, c.Name)
	}
	return strings.Join(out, ", ")
}

// encrypted are the containers, but init containers, in which Ray is told to use TLS.
func encrypted(pod *corev1.Pod) []corev1.Container {
	return slices.DeleteFunc(slices.Clone(pod.Spec.Containers), func(c corev1.Container) bool {
		return !slices.ContainsFunc(c.Env, func(v corev1.EnvVar) bool { return v.Name == injection.EnvUseTLS && v.Value == "1" })
	})
}

// mounting names the containers, init containers first, that a volume is mounted in.
func mounting(pod *corev1.Pod, volume string) []string {
	var out []string
	for _, c := range slices.Concat(pod.Spec.InitContainers, pod.Spec.Containers) {
		if slices.ContainsFunc(c.VolumeMounts, func(m corev1.VolumeMount) bool { return m.Name == volume }) {
			out = append(out, c.Name)
		}
	}
	return out
}
