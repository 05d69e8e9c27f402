package probe

import (
	"testing"

	corev1 "k8s.io/api/core/v1"
)

func TestAddress(t *testing.T) {
	for name, c := range map[string]struct {
		reason string
		ips    []string
		host   bool
		want   string
	}{
		"IPv4":        {"the pod's address", []string{"10.0.0.7"}, false, "10.0.0.7"},
		"IPv6":        {"in either family", []string{"fd00::7"}, false, "fd00::7"},
		"dual":        {"Ray listens on the first", []string{"fd00::7", "10.0.0.7"}, false, "fd00::7"},
		"mapped":      {"in one form only", []string{"::ffff:10.0.0.7"}, false, "10.0.0.7"},
		"none":        {"a pod that has not started has none", nil, false, ""},
		"node":        {"the node's ports are not the tenant's", []string{"192.0.2.1"}, true, ""},
		"loopback":    {"never the operator itself", []string{"127.0.0.1"}, false, ""},
		"loopback 6":  {"in either family", []string{"::1"}, false, ""},
		"mapped self": {"nor in disguise", []string{"::ffff:127.0.0.1"}, false, ""},
		"metadata":    {"never a cloud's metadata service", []string{"169.254.169.254"}, false, ""},
		"multicast":   {"never many", []string{"224.0.0.1"}, false, ""},
		"unspecified": {"never any", []string{"0.0.0.0"}, false, ""},
		"zone":        {"never an interface of the operator's choice", []string{"fd00::7%eth0"}, false, ""},
		"a name":      {"never a name", []string{"example.com"}, false, ""},
	} {
		t.Run(name, func(t *testing.T) {
			pod := &corev1.Pod{Spec: corev1.PodSpec{HostNetwork: c.host}}
			for _, ip := range c.ips {
				pod.Status.PodIPs = append(pod.Status.PodIPs, corev1.PodIP{IP: ip})
			}
			address, err := Address(pod)
			if (err == nil) != (c.want != "") || err == nil && address.String() != c.want {
				t.Errorf("%s: got %v, %v; want %q", c.reason, address, err, c.want)
			}
		})
	}
}
