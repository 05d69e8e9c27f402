package migration

import (
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"
)

func TestMigrate_refuses(t *testing.T) {
	t.Parallel()
	const (
		pod       = "spec.headGroupSpec.template.spec."
		worker    = "spec.workerGroupSpecs[0].template.spec."
		generator = `command: ["/bin/sh", "-c", "cp -R /etc/ca/tls /etc/ray && /etc/gen/tls/gencert_head.sh"]`
		caEnv     = "- {name: RAY_TLS_CA_CERT, value: /etc/ca/tls/ca.crt}"
		headData  = `        - name: ca-tls
          secret: {secretName: ca-tls}
`
	)
	now := time.Now()
	sample := kubeRaySample(t, now)
	for name, c := range map[string]struct {
		reason string
		old    string
		new    string
		field  string
		want   string
	}{
		"more than the guide's": {
			"what a shell does besides would be lost", generator,
			`command: ["/bin/sh", "-c", "cp -R /etc/ca/tls /etc/ray && /etc/gen/tls/gencert_head.sh && touch /tmp/done"]`,
			pod + "initContainers[0].command", "to a container of its own",
		},
		"substitution": {
			"a path is a path", generator, `command: ["/bin/sh", "-c", "$(id)/gencert_head.sh"]`, pod + "initContainers[0].command", "something else",
		},
		"other shell flags": {
			"what is not known is not guessed", generator, `command: ["/bin/sh", "-ec", "/etc/gen/tls/gencert_head.sh"]`,
			pod + "initContainers[0].command", "something else",
		},
		"copied elsewhere": {
			"the certificates would be made of something else", generator,
			`command: ["/bin/sh", "-c", "cp -R /etc/ca/tls /etc/other && /etc/gen/tls/gencert_head.sh"]`,
			pod + "initContainers[0].volumeMounts[/etc/ray/tls]", "none of what the guide's init container mounts",
		},
		"scripts from elsewhere": {
			"a ConfigMap that is not run is somebody else's", generator,
			`command: ["/bin/sh", "-c", "cp -R /etc/ca/tls /etc/ray && /opt/gencert_head.sh"]`,
			pod + "initContainers[0].volumeMounts[/etc/gen/tls]", "none of what the guide's init container mounts",
		},
		"no init container": {
			"certificates from elsewhere are not the guide's", generator, `command: ["make-certificates"]`,
			pod + "containers[0].env[RAY_USE_TLS]", "is set by somebody else",
		},
		"other CA file": {
			"a path that the guide does not have", caEnv, "- {name: RAY_TLS_CA_CERT, value: /etc/ssl/ca.crt}",
			pod + "containers[0].env[RAY_TLS_CA_CERT]", "is not /etc/ca/tls/ca.crt or /etc/ray/tls/ca.crt",
		},
		"missing variable": {
			"three of four are no working TLS", caEnv + "\n", "\n", pod + "containers[0].env", "sets 3 of the guide's four variables",
		},
		"value from elsewhere": {
			"who knows what it is", caEnv, "- {name: RAY_TLS_CA_CERT, valueFrom: {configMapKeyRef: {name: x, key: z}}}",
			pod + "containers[0].env[RAY_TLS_CA_CERT]", "is not /etc/ca",
		},
		"a Secret's name for a shell": {
			"it goes into a command that a user is told to type", "secret: {secretName: ca-tls}", `secret: {secretName: "x; id"}`,
			pod + "volumes[ca-tls].secret.secretName", "is not the name of a Secret",
		},
		"switched off": {
			"somebody switched it off for a reason", `- {name: RAY_USE_TLS, value: "1"}`, `- {name: RAY_USE_TLS, value: "0"}`,
			pod + "containers[0].env[RAY_USE_TLS]", "is not 1",
		},
		"mounted elsewhere": {
			"somebody else reads the CA there", "  - {mountPath: /tmp/ray, name: ray-logs}", "  - {mountPath: /tmp/ca, name: ca-tls}",
			pod + "containers[0].volumeMounts[/tmp/ca]", "elsewhere than the guide does",
		},
		"a part of a volume": {
			"a subPath is not the guide's", "  - {mountPath: /tmp/ray, name: ray-logs}", "  - {mountPath: /tmp/ray, name: ray-tls, subPath: x}",
			pod + "containers[0].volumeMounts[/tmp/ray]", "elsewhere than the guide does",
		},
		"a sidecar's mount": {
			"it would lose its volume", "        volumes:\n", "        - name: proxy\n          volumeMounts: [{mountPath: /certs, name: ray-tls}]\n        volumes:\n",
			pod + "containers[1].volumeMounts[/certs]", "does not set RAY_USE_TLS",
		},
		"two CAs": {
			"a policy brings one", headData, strings.Replace(headData, "secretName: ca-tls", "secretName: another", 1),
			worker + "volumes[ca-tls].secret.secretName", "is ca-tls, but other templates have another",
		},
		"renamed keys": {
			"the operator could not read them", headData, strings.Replace(headData, "secretName: ca-tls", "secretName: ca-tls, items: [{key: root, path: ca.crt}]", 1),
			pod + "volumes[ca-tls].secret.items", "name them ca.crt and ca.key",
		},
		"projected CA": {
			"what is mixed with other things is not told apart", headData,
			"        - name: ca-tls\n          projected: {sources: [{secret: {name: ca-tls}}]}\n",
			pod + "initContainers[0].volumeMounts[/etc/ca/tls]", "none of what",
		},
		"kept on a disk": {
			"certificates that outlive a pod are not the guide's", "        - name: ray-tls\n          emptyDir: {}\n",
			"        - name: ray-tls\n          persistentVolumeClaim: {claimName: x}\n",
			pod + "initContainers[0].volumeMounts[/etc/ray/tls]", "none of what",
		},
		"KubeRay's TLS": {
			"two ways at once", "  rayVersion:", "  tlsOptions: {enabled: true}\n  rayVersion:", "spec.tlsOptions.enabled", "KubeRay's own TLS is in use",
		},
		"no name": {
			"a policy could not name it", "  name: raycluster-tls", "  generateName: raycluster-", "metadata.name", "give the object a name",
		},
		"command in a name": {
			"the notes have a command to type", "  name: raycluster-tls", "  name: x;reboot", "", "metadata.name: a lowercase",
		},
		"CA without a key": {
			"the operator could not sign", "  ca.key:", "  other.key:", "data", "holds neither ca.crt and ca.key nor",
		},
		"CA in plain text": {
			"data is base64", `  ca.key: "`, `  ca.key: "!`, "data[ca.key]", "is not base64",
		},
		"CA that is none": {
			"the operator would refuse it", `  ca.key: "`, `  ca.key: "LS0t`, "data", "CA's private key",
		},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			if !strings.Contains(sample, c.old) {
				t.Fatalf("the sample has no %q", c.old)
			}
			documents, _, err := Migrate(read(t, "in.yaml", strings.Replace(sample, c.old, c.new, 1)), now)
			var first *Finding
			if !errors.As(err, &first) {
				t.Fatalf("%s: got %v, %v", c.reason, documents, err)
			}
			if first.Field != c.field || !strings.Contains(first.Message, c.want) {
				t.Errorf("%s: got %q: %q, want %q: %q", c.reason, first.Field, first.Message, c.field, c.want)
			}
			if strings.Contains(err.Error(), "LS0t") || strings.Contains(err.Error(), "BEGIN C") {
				t.Errorf("the error holds parts of the Secret: %v", err)
			}
		})
	}
}

func TestMigrate_fieldsOfOwners(t *testing.T) {
	t.Parallel()
	const template = `
apiVersion: ray.io/v1
kind: RayCronJob
metadata: {name: train}
spec:
  jobTemplate:
    rayClusterSpec:
      headGroupSpec:
        template:
          spec:
            containers:
            - name: ray-head
              env: [{name: RAY_USE_TLS, value: "1"}]
              envFrom: [{prefix: RAY_, secretRef: {name: settings}}]
---
apiVersion: v1
kind: Secret
metadata: {name: settings}
stringData: {USE_TLS: "1"}
`
	_, _, err := Migrate(read(t, "in.yaml", template), time.Now())
	const at = "RayCronJob train (document 1 of in.yaml): spec.jobTemplate.rayClusterSpec.headGroupSpec.template.spec.containers[0]"
	if err == nil || !strings.Contains(err.Error(), at+".env[RAY_USE_TLS]: ") || !strings.Contains(err.Error(), "\n"+at+".envFrom[0].secretRef: ") {
		t.Errorf("both findings, under the fields that the user has, are expected; got %v", err)
	}
}

// kubeRaySample is KubeRay's sample of TLS by hand, with a CA that is valid at a time.
func kubeRaySample(t *testing.T, at time.Time) string {
	t.Helper()
	in, _ := caText(t, at)
	text, err := os.ReadFile(filepath.Join("testdata", "kuberay-1.3", "in.yaml"))
	if err != nil {
		t.Fatal(err)
	}
	return in.Replace(string(text))
}
