package migration

import (
	"strings"
	"testing"
	"time"
)

// TestMigrate_tells names what has no counterpart with the operator, and what TLS breaks besides.
func TestMigrate_tells(t *testing.T) {
	t.Parallel()
	const (
		generator = `command: ["/bin/sh", "-c", "cp -R /etc/ca/tls /etc/ray && /etc/gen/tls/gencert_head.sh"]`
		caEnv     = "- {name: RAY_TLS_CA_CERT, value: /etc/ca/tls/ca.crt}"
	)
	now := time.Now()
	sample := kubeRaySample(t, now)
	for name, c := range map[string]struct {
		reason, old, new string
		want             string
		// refused reports whether nothing is migrated.
		refused bool
	}{
		"image":      {reason: "Ray's image may have no openssl", old: "image: rayproject/ray:2.52.0\n          command", new: "image: mine/openssl:3\n          command", want: "an image of its own, mine/openssl:3"},
		"resources":  {reason: "they were needed for something", old: generator, new: generator + "\n          resources: {limits: {cpu: \"3\"}}", want: `had resources {"limits":{"cpu":"3"}}`},
		"variables":  {reason: "the script read them", old: "- name: POD_IP", new: "- {name: EXTRA_SANS, value: DNS:x}\n          - name: POD_IP", want: "had the variables EXTRA_SANS"},
		"no script":  {reason: "its names are lost", old: "  gencert_head.sh: |", new: "  gencert_top.sh: |", want: "has no text gencert_head.sh"},
		"by a name":  {reason: "what is in the variable is not known", old: "  gencert_head.sh: |\n    #!/bin/sh\n", new: "  gencert_head.sh: |\n    #!/bin/sh\n    echo subjectAltName=$NAMES > x\n", want: `not understood: "echo subjectAltName=$NAMES > x"`},
		"one line":   {reason: "openssl reads it so", old: "  gencert_head.sh: |\n    #!/bin/sh\n", new: "  gencert_head.sh: |\n    #!/bin/sh\n    openssl req -addext 'subjectAltName=DNS:*.example.com,DNS:localhost' > x\n", want: `puts "*.example.com" into the head's certificate`},
		"worker's":   {reason: "the operator's workers have none", old: "  gencert_worker.sh: |\n    #!/bin/sh\n", new: "  gencert_worker.sh: |\n    #!/bin/sh\n    printf '[alt_names]\\nDNS.7 = w.example.com\\n'\n", want: `puts "w.example.com" into the workers' certificates`},
		"gRPC probe": {reason: "it worked in plaintext alone", old: caEnv, new: caEnv + "\n          livenessProbe: {grpc: {port: 6379}}", want: "look at this before you apply the output: spec.headGroupSpec.template.spec.containers[0].livenessProbe.grpc probes port 6379"},
		"probe":      {reason: "a file of that name is there again", old: caEnv, new: caEnv + "\n          livenessProbe: {exec: {command: [test, -s, /etc/ray/tls/tls.crt]}}", want: "of the cluster's own authority"},
		"Redis":      {reason: "Redis is not reached without it", old: caEnv, new: caEnv + "\n          - {name: RAY_REDIS_CA_CERT, value: /etc/ca/tls/ca.crt}", want: "env[RAY_REDIS_CA_CERT]: reads /etc/ca/tls/ca.crt", refused: true},
		"hook":       {reason: "it fails without the file", old: caEnv, new: caEnv + "\n          lifecycle: {postStart: {exec: {command: [sh, -c, \"cat /etc/ca/tls/ca.crt >> ~/bundle\"]}}}", want: "containers[0].lifecycle.postStart.exec: reads /etc/ca/tls/ca.crt", refused: true},
		"bundle":     {reason: "the file of that name is another CA's", old: caEnv, new: caEnv + "\n          - {name: SSL_CERT_FILE, value: /etc/ray/tls/ca.crt}", want: "env[SSL_CERT_FILE]: reads /etc/ray/tls/ca.crt", refused: true},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			if !strings.Contains(sample, c.old) {
				t.Fatalf("the sample has no %q", c.old)
			}
			_, notes, err := Migrate(read(t, "in.yaml", strings.Replace(sample, c.old, c.new, 1)), now)
			if c.refused {
				if err == nil || !strings.Contains(err.Error(), c.want) {
					t.Errorf("%s: error is %v, want %q in it", c.reason, err, c.want)
				}
				return
			}
			if err != nil {
				t.Fatalf("%s: %v", c.reason, err)
			}
			if all := strings.Join(notes, "\n"); !strings.Contains(all, c.want) {
				t.Errorf("%s: %q is missing in\n%s", c.reason, c.want, all)
			}
		})
	}
}
