package kube

import "testing"

func TestSteady(t *testing.T) {
	for name, c := range map[string]struct {
		reason   string
		attempts []string
		want     string
	}{
		"local port": {
			"each connection has its own port",
			[]string{"read tcp 10.0.0.5:43210->10.96.0.1:443: i/o timeout", "read tcp 10.0.0.5:50001->10.96.0.1:443: i/o timeout"},
			"read tcp 10.0.0.5->10.96.0.1:443: i/o timeout",
		},
		"local port, IPv6": {
			"as has each of IPv6",
			[]string{"write tcp [fd00::5]:43210->[fd00::1]:443: broken pipe", "write tcp [fd00::5]:1->[fd00::1]:443: broken pipe"},
			"write tcp [fd00::5]->[fd00::1]:443: broken pipe",
		},
		"request id": {
			"webhooks name the request",
			[]string{`denied the request: policy x (request id: 8f3a9c01b2)`, `denied the request: policy x (request id: 77aa1b)`},
			`denied the request: policy x (request id: …)`,
		},
		"requestID in JSON": {
			"in any spelling",
			[]string{`{"requestID":"a1b2","code":403}`, `{"requestID":"zz9","code":403}`},
			`{"requestID":"…","code":403}`,
		},
		"UUID": {
			"pods are named by their UID",
			[]string{"volume of pod 0f8fad5b-d9cb-469f-a165-70867728950e is busy", "volume of pod 7c9e6679-7425-40de-944b-e07fc1f90ae7 is busy"},
			"volume of pod … is busy",
		},
		"time": {
			"a message holds its time",
			[]string{"at 2026-11-27T00:10:11Z: busy", "at 2026-11-27 00:10:12.123 +0000 UTC m=+0.5: busy"},
			"at …: busy",
		},
		"duration": {
			"or how long it took",
			[]string{"gave up after 1.234s", "gave up after 987.6ms"},
			"gave up after …",
		},
		"OpenSSL's thread": {
			"each process of OpenSSL has another",
			[]string{"40E7A2F0B27F0000:error:0A000086:SSL routines", "4007B5F7F67F0000:error:0A000086:SSL routines"},
			"…:error:0A000086:SSL routines",
		},
		"generated name": {
			"KubeRay's next pod has another name",
			[]string{`pods "train-small-worker-x7k2p" is forbidden: exceeded quota: q`, `pods "train-small-worker-9dfgh" is forbidden: exceeded quota: q`},
			`pods "train-small-worker-…" is forbidden: exceeded quota: q`,
		},
	} {
		t.Run(name, func(t *testing.T) {
			for _, attempt := range c.attempts {
				if got := Steady(attempt); got != c.want {
					t.Errorf("%s: %q becomes %q, want %q", c.reason, attempt, got, c.want)
				}
			}
		})
	}
}

func TestSteadyKeepsWhatHelps(t *testing.T) {
	for _, text := range []string{
		"", `RayCluster.ray.io "train-small" is invalid: spec.headGroupSpec: Required value`,
		"dial tcp 10.96.0.1:443: connect: connection refused", "exceeded quota: q, requested: cpu=1, used: cpu=9, limited: cpu=10",
		`admission webhook "validate.kyverno.svc-fail" denied the request: policy 2 needs limits`, "retry after 10s", "request identity is unknown",
	} {
		if got := Steady(text); got != text {
			t.Errorf("%q becomes %q", text, got)
		}
	}
}
