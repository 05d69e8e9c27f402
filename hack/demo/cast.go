package main

import (
	"context"
	"errors"
	"fmt"
	"slices"

	"google.golang.org/grpc/credentials"
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

func (s *story) handshakes() error {
	s.indented(`The certificates that the init containers made, over gRPC with the files and settings that Ray uses. The names and
addresses lead to servers on this machine; what is verified are the names and addresses themselves. gRPC for Go stands
in for Ray's gRPC, so errors read a little otherwise: Ray says "Peer name ... is not in peer certificate".

A second RayCluster in the same namespace, with a policy of its own, is the stranger.

`)
	if err := s.apply(clusterFile, other); err != nil {
		return err
	}
	// KubeRay waits long for pods that are deleted before it has seen them, and here no kubelet slows that down.
	if err := s.env.until("the second cluster is ready in plaintext", func() (string, error) { return s.provisioned(other) }); err != nil {
		return err
	}
	if err := s.apply(policyFile, other); err != nil {
		return err
	}
	if err := s.env.until("the second cluster is encrypted", func() (string, error) { return s.encrypted(other) }); err != nil {
		return err
	}
	cast, err := s.cast()
	if err != nil {
		return err
	}
	checks, err := cast.play(s.env.ctx)
	s.show(checks...)
	return err
}

// cast picks those who talk: heads and workers that have a certificate.
func (s *story) cast() (*cast, error) {
	c := &cast{}
	pods, err := s.podsOf(sample)
	if err != nil {
		return nil, err
	}
	strangers, err := s.podsOf(other)
	if err != nil {
		return nil, err
	}
	if len(pods) < samplePods || len(strangers) < samplePods {
		return nil, errors.New("pods went away that nobody deleted")
	}
	for _, role := range []struct {
		member *member
		pod    *startedPod
	}{{&c.head, pods[0]}, {&c.worker, pods[1]}, {&c.colleague, pods[2]}, {&c.stranger, strangers[1]}} {
		if *role.member, err = newMember(role.pod); err != nil {
			return nil, err
		}
	}
	return c, nil
}
