// Package injection turns the raw JSON of a RayCluster's spec into the same spec with mutual TLS, and back.
package injection

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"strings"

	corev1 "k8s.io/api/core/v1"
)

// Revision is the newest injection this package renders. A revision is a promise: its bytes never change, because a
// changed template restarts pods.
const Revision = 1

// Names and paths of what is added to a pod template. They are reserved: a template in which somebody else uses them is
// refused.
const (
	// InitContainerName is the init container that makes the pod's key and certificate.
	InitContainerName = "raytls-init"

	// CertsVolume is the memory emptyDir that holds the pod's key, certificate and trust bundle.
	CertsVolume = "raytls-certs"
	// IssuerVolume is the CA Secret, mounted in the init container alone.
	IssuerVolume = "raytls-issuer"
	// ScriptsVolume is the gencert ConfigMap, mounted in the init container alone.
	ScriptsVolume = "raytls-scripts"

	// MountPath is where Ray containers find tls.crt, tls.key and ca.crt, read-only.
	MountPath = "/etc/ray/tls"
	// IssuerMountPath is where the init container reads the CA Secret.
	IssuerMountPath = "/etc/raytls/issuer"
	// ScriptsMountPath is where the init container reads the scripts unless Parameters.ScriptsPath says otherwise.
	ScriptsMountPath = "/etc/raytls/scripts"

	// EnvInjection is the init container's variable that records, as JSON, what was injected and what was there before.
	EnvInjection = "RAYTLS_INJECTION"
	// EnvPodIPs holds the pod's addresses, separated by commas.
	EnvPodIPs = "RAYTLS_POD_IPS"
	// EnvNodeType holds the pod's ray.io/node-type label.
	EnvNodeType = "RAYTLS_NODE_TYPE"

	// EnvUseTLS, EnvServerCert, EnvServerKey and EnvCACert are what Ray reads
	// (https://docs.ray.io/en/latest/ray-core/configure.html#tls-authentication).
	EnvUseTLS     = "RAY_USE_TLS"
	EnvServerCert = "RAY_TLS_SERVER_CERT"
	EnvServerKey  = "RAY_TLS_SERVER_KEY"
	EnvCACert     = "RAY_TLS_CA_CERT"
)

// reservedPrefix starts every volume name that belongs to this project.
const reservedPrefix = "raytls-"

// SecretName gives the name of the CA Secret of a cluster, in the cluster's namespace.
func SecretName(clusterName string) string { return reservedPrefix + clusterName }

// Parameters are the few choices that reach the template. They are recorded in it, so that carrying an injection
// forward needs nothing but the object.
type Parameters struct {
	// Image of the init container; empty for the Ray container's own image and pull policy.
	Image string `json:"image,omitempty"`
	// ImagePullPolicy goes with Image and is ignored without it.
	ImagePullPolicy string `json:"imagePullPolicy,omitempty"`
	// Resources of the init container; nil for requests equal to limits (250m CPU, 64Mi memory), which leaves a
	// Guaranteed pod Guaranteed.
	Resources *corev1.ResourceRequirements `json:"resources,omitempty"`
	// ScriptsPath is the absolute folder of scripts baked into the init image; empty for the ConfigMap's.
	ScriptsPath string `json:"scriptsPath,omitempty"`
	// AdditionalContainers are the names of further containers, init containers too, that speak Ray's gRPC. Order and
	// repetition have no meaning.
	AdditionalContainers []string `json:"additionalContainers,omitempty"`
}

// Equal reports whether both render the same template.
func (p Parameters) Equal(q Parameters) bool { return string(p.canonical()) == string(q.canonical()) }

func (p Parameters) normalised() Parameters {
	if p.Image == "" {
		p.ImagePullPolicy = ""
	}
	if trimmed := strings.TrimRight(p.ScriptsPath, "/"); trimmed != "" {
		p.ScriptsPath = trimmed
	}
	names := slices.Clone(p.AdditionalContainers)
	slices.Sort(names)
	p.AdditionalContainers = slices.Compact(names)
	if len(p.AdditionalContainers) == 0 {
		p.AdditionalContainers = nil
	}
	return p
}

func (p Parameters) canonical() []byte { return canonicalJSON(p.normalised()) }

// Options say what Apply renders.
type Options struct {
	// ClusterName is the RayCluster's metadata.name; the CA Secret is named by it.
	ClusterName string
	// Revision to render; zero for the newest.
	Revision   int
	Parameters Parameters
}

// rendering is Options with their defaults, and the revision's texts.
type rendering struct {
	Options
	scripts scripts
}

func (o Options) rendering() (rendering, error) {
	if o.ClusterName == "" {
		return rendering{}, errors.New("injection: the cluster has no name")
	}
	if o.Revision == 0 {
		o.Revision = Revision
	}
	if o.Revision < 1 || o.Revision > Revision {
		return rendering{}, fmt.Errorf("injection: revision %d is unknown, this operator renders 1 to %d", o.Revision, Revision)
	}
	texts, err := scriptsOf(o.Revision)
	if err != nil {
		return rendering{}, fmt.Errorf("injection: %w", err)
	}
	o.Parameters = o.Parameters.normalised()
	return rendering{Options: o, scripts: texts}, nil
}

// Scope selects pod templates. The zero value selects none.
type Scope struct {
	// All selects every template, whatever the other fields say.
	All bool `json:"all,omitempty"`
	// Head selects the head's template and, with it, spec.autoscalerOptions.
	Head bool `json:"head,omitempty"`
	// Groups selects worker groups by groupName.
	Groups []string `json:"groups,omitempty"`
}

// All selects every template.
func All() Scope { return Scope{All: true} }

// Only selects the head, if asked for, and the named worker groups.
func Only(head bool, groups ...string) Scope { return Scope{Head: head, Groups: groups} }

func (s Scope) has(t template) bool {
	if s.All {
		return true
	}
	if t.kind == Head {
		return s.Head
	}
	return slices.Contains(s.Groups, t.group)
}

// ConflictError says that the spec cannot be injected until somebody changes it.
type ConflictError struct {
	// Field is the path of what is in the way, such as spec.headGroupSpec.template.spec.containers[0].env[RAY_USE_TLS].
	Field string
	// Message is one sentence that says what is wrong and what to do.
	Message string
}

func (e *ConflictError) Error() string { return e.Field + ": " + e.Message }

func conflict(field, format string, args ...any) *ConflictError {
	return &ConflictError{Field: field, Message: fmt.Sprintf(format, args...)}
}

// canonicalJSON gives JSON with sorted keys, whatever order the Go type has. What is passed here came out of JSON or
// is one of our own structs, so that nothing in it can fail to encode.
func canonicalJSON(v any) []byte {
	first, err := json.Marshal(v)
	if err != nil {
		return []byte("null")
	}
	decoder := json.NewDecoder(bytes.NewReader(first))
	decoder.UseNumber()
	var tree any
	if err := decoder.Decode(&tree); err != nil {
		return first
	}
	sorted, err := json.Marshal(tree)
	if err != nil {
		return first
	}
	return sorted
}
