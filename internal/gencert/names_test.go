package gencert

import (
	"slices"
	"testing"

	"github.com/google/go-cmp/cmp"
)

func TestNames(t *testing.T) {
	own := []string{"127.0.0.1", "::1", "localhost"}
	cases := map[string]struct {
		reason string
		script string
		env    map[string]string
		hosts  string
		edit   func(*Profile)
		want   []string
	}{
		"head": {
			reason: "a head is dialled by its service and by its address", script: HeadScript,
			want: []string{"10.1.2.3", headService},
		},
		"head with everything": {
			reason: "aliases and the short name are added when asked for, once each", script: HeadScript,
			env: map[string]string{"RAYTLS_POD_IPS": "10.1.2.3,fd00::7"},
			edit: func(p *Profile) {
				p.HeadServiceShortName = true
				p.HeadDNSNames = []string{"ray.example.com", "localhost", "1st.example", headService}
			},
			want: []string{"10.1.2.3", "fd00::7", "1st.example", "ray.example.com", "rayc-head-svc", headService},
		},
		"head with a closing dot": {
			reason: "a cluster domain may be written with its closing dot, which no certificate carries", script: HeadScript,
			env: map[string]string{"FQ_RAY_IP": headService + "."}, want: []string{"10.1.2.3", headService},
		},
		"worker": {
			reason: "a worker with the head's names could pose as the head, whatever profile and environment say",
			script: WorkerScript,
			env:    map[string]string{"FQ_RAY_IP": headService, "RAY_IP": "rayc-head-svc"},
			edit: func(p *Profile) {
				p.HeadServiceShortName = true
				p.HeadDNSNames = []string{"ray.example.com"}
			},
			want: []string{"10.1.2.3"},
		},
		"IPv6 alone": {
			reason: "IPv6 pods have no IPv4 address", script: WorkerScript,
			env: map[string]string{"RAYTLS_POD_IPS": "2001:db8:0:1:2:3:4:5"}, want: []string{"2001:db8:0:1:2:3:4:5"},
		},
		"dual-stack": {
			reason: "both families dial", script: WorkerScript,
			env: map[string]string{"RAYTLS_POD_IPS": "fd00::a,192.168.255.254"}, want: []string{"192.168.255.254", "fd00::a"},
		},
		"addresses from the hosts file": {
			reason: "the kubelet may fill status.podIPs after the container's environment is made", script: WorkerScript,
			env: map[string]string{"RAYTLS_POD_IPS": ""},
			hosts: "# Kubernetes-managed hosts file.\n127.0.0.1\tlocalhost\n127.0.1.1\trayc-abcde\n10.9.9.9\tother\n" +
				"10.8.8.8\trayc-abcdefg\n10.7.7.7\trayc-abcde.svc.ns\trayc-abcde\nfd00::8 rayc-abcde\n",
			want: []string{"10.7.7.7", "fd00::8"},
		},
		"subdomain": {
			reason: "clients dial a pod with a subdomain by the name that the cluster's DNS has for it", script: WorkerScript,
			hosts: "127.0.0.1\tlocalhost\n10.1.2.3\trayc-abcde.rayc-headless.ml.svc.cluster.local\trayc-abcde\n",
			want:  []string{"10.1.2.3", "rayc-abcde.rayc-headless.ml.svc.cluster.local"},
		},
		"subdomain of a head": {
			reason: "it comes with the head's other names", script: HeadScript,
			hosts: "10.1.2.3\trayc-abcde.rayc-headless.ml.svc.example.com\trayc-abcde\n",
			want:  []string{"10.1.2.3", "rayc-abcde.rayc-headless.ml.svc.example.com", headService},
		},
		"qualified host name": {
			reason: "with setHostnameAsFQDN the host name is the whole name", script: WorkerScript,
			env:   map[string]string{"HOSTNAME": "rayc-abcde.rayc-headless.ml.svc.cluster.local", "RAYTLS_POD_IPS": "10.1.2.3,fd00::7"},
			hosts: "fd00::7\trayc-abcde.rayc-headless.ml.svc.cluster.local\trayc-abcde\n",
			want:  []string{"10.1.2.3", "fd00::7", "rayc-abcde.rayc-headless.ml.svc.cluster.local"},
		},
		"names that are not the pod's": {
			reason: "a hosts file can hold names of others, on a node's network even the node's own", script: WorkerScript,
			hosts: "10.9.9.9\trayc-abcde.of-another-address.ml.svc.cluster.local\n" +
				"10.1.2.3\trayc-abcde.rayc-headless.other.svc.cluster.local\trayc-abcde\n" +
				"10.1.2.3\tother.rayc-headless.ml.svc.cluster.local\tRAYC-ABCDE.x.ml.svc.cluster.local\n" +
				"10.1.2.3\trayc-abcde.two.labels.ml.svc.cluster.local\trayc-abcde.ml.svc.cluster.local\trayc-abcde.example.com\n" +
				"10.1.2.3\trayc-abcde.-x.ml.svc.cluster.local\trayc-abcde.x.ml.svc.1\trayc-abcde.*.ml.svc.cluster.local\n" +
				"\n# Entries added by HostAliases.\n10.1.2.3\trayc-abcde.alias.ml.svc.cluster.local\n",
			want: []string{"10.1.2.3"},
		},
		"alias of the host name": {
			reason: "an alias is a wish of the template, and says nothing about addresses", script: WorkerScript,
			env:   map[string]string{"RAYTLS_POD_IPS": ""},
			hosts: "10.7.7.7\trayc-abcde\n\n# Entries added by HostAliases.\n10.6.6.6\trayc-abcde\n",
			want:  []string{"10.7.7.7"},
		},
		"no namespace": {
			reason: "without its namespace, no name is certain to be the pod's", script: WorkerScript,
			env:   map[string]string{"RAYTLS_NAMESPACE": ""},
			hosts: "10.1.2.3\trayc-abcde.rayc-headless.ml.svc.cluster.local\trayc-abcde\n",
			want:  []string{"10.1.2.3"},
		},
		"pattern for a namespace": {
			reason: "a value is text and no pattern", script: WorkerScript,
			env:   map[string]string{"RAYTLS_NAMESPACE": "*"},
			hosts: "10.1.2.3\trayc-abcde.rayc-headless.ml.svc.cluster.local\trayc-abcde\n",
			want:  []string{"10.1.2.3"},
		},
	}
	for name, test := range cases {
		t.Run(name, func(t *testing.T) {
			eachShell(t, func(t *testing.T, shell []string) {
				p := newPod(t, shell, test.script)
				for name, value := range test.env {
					p.env[name] = value
				}
				if test.hosts != "" {
					p.write("hosts", test.hosts, 0o644)
				}
				a := year(t)
				p.publish("issuer", "..1", a.secret(t, a.profile(test.edit)))
				o := p.run()
				want := slices.Sorted(slices.Values(append(slices.Clone(own), test.want...)))
				if diff := cmp.Diff(want, p.issued(o).addresses()); diff != "" {
					t.Errorf("%s (-want +got):\n%s", test.reason, diff)
				}
				if o.sleeps != 0 {
					t.Errorf("script slept %d times with everything there", o.sleeps)
				}
			})
		})
	}
}
