package main

import (
	"fmt"
	"net"
	"slices"
	"strings"
	"time"

	corev1 "k8s.io/api/core/v1"

	"github.com/raytls/raytls/internal/injection"
)

func (s *story) difference() error {
	now, err := s.spec(sample)
	if err != nil {
		return err
	}
	before, err := withFirstGroup(s.applied)
	if err != nil {
		return err
	}
	after, err := withFirstGroup(now)
	if err != nil {
		return err
	}
	diff, err := specDiff(before, after)
	if err != nil {
		return err
	}
	s.indented(diff)
	s.printf("\n   Every other worker group gets what the first one gets.\n")
	return nil
}

func (s *story) pods() error {
	pods, err := s.podsOf(sample)
	if err != nil {
		return err
	}
	rows := [][]string{{"POD", "IP", "INIT CONTAINERS", "CONTAINERS WITH TLS", "CERTIFICATE MADE IN"}}
	holders := [][]string{{"CERTIFICATE OF", "FOR", "UNTIL"}}
	var readers []string
	certified := true
	for _, p := range pods {
		rows = append(rows, []string{
			p.pod.Name, p.ip, names(p.pod.Spec.InitContainers), names(encrypted(p.pod)), fmt.Sprintf("%d ms", p.took.Milliseconds()),
		})
		id, err := readIdentity(p.tls())
		if err != nil {
			return fmt.Errorf("pod %s: %w", p.pod.Name, err)
		}
		leaf := id.certificate.Leaf
		holders = append(holders, []string{p.pod.Name, subjects(leaf), leaf.NotAfter.Format(time.DateOnly)})
		readers = append(readers, mounting(p.pod, injection.IssuerVolume)...)
		certified = certified && slices.ContainsFunc(leaf.IPAddresses, func(ip net.IP) bool { return ip.String() == p.ip })
	}
	s.indented(align(rows))
	s.printf("\n")
	s.indented(align(holders))
	s.printf("\n   The operator learns of them by the init containers' termination messages, such as the head's:\n\n   %s\n", pods[0].message)
	slices.Sort(readers)
	keyless := strings.Join(slices.Compact(readers), ", ")
	s.show(
		check{"each pod has a certificate for its own address", "yes", yesNo(certified), certified},
		check{"the containers that the CA Secret is mounted in", injection.InitContainerName, keyless, keyless == injection.InitContainerName},
	)
	return nil
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
