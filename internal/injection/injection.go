// Package injection turns the raw JSON of a RayCluster's spec into the same spec with mutual TLS, and back.
package injection

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"strconv"
	"strings"
)

// Revision is the newest injection that this package renders. The bytes of a revision never change, because a changed
// template restarts pods.
const Revision = 1

// Reserved names and paths in a pod template. Apply refuses a template in which somebody else uses them.
const (
	InitContainerName = "raytls-init" // makes the pod's key and certificate

	CertsVolume   = "raytls-certs"   // the memory emptyDir with the pod's key, certificate and trust bundle
	IssuerVolume  = "raytls-issuer"  // the CA Secret, mounted in the init container alone
	ScriptsVolume = "raytls-scripts" // the gencert ConfigMap, mounted in the init container alone

	MountPath        = "/etc/ray/tls"        // tls.crt, tls.key and ca.crt in Ray containers, read-only
	IssuerMountPath  = "/etc/raytls/issuer"  // the CA Secret in the init container
	ScriptsMountPath = "/etc/raytls/scripts" // the scripts in the init container, unless Parameters.ScriptsPath is set

	EnvInjection = "RAYTLS_INJECTION" // the record, in JSON, of the injection and of the state before it
	EnvPodIPs    = "RAYTLS_POD_IPS"   // the pod's addresses, separated by commas
	EnvNodeType  = "RAYTLS_NODE_TYPE" // the pod's ray.io/node-type label
	EnvCluster   = "RAYTLS_CLUSTER"   // the pod's ray.io/cluster label, for the log
	EnvNamespace = "RAYTLS_NAMESPACE" // the pod's namespace
	EnvPod       = "RAYTLS_POD"       // the pod's name, for the log

	// reservedPrefix starts every volume name that belongs to this project.
	reservedPrefix = "raytls-"
)

// Ray's own variables (https://docs.ray.io/en/latest/ray-core/configure.html#tls-authentication).
const (
	EnvUseTLS     = "RAY_USE_TLS"
	EnvServerCert = "RAY_TLS_SERVER_CERT"
	EnvServerKey  = "RAY_TLS_SERVER_KEY"
	EnvCACert     = "RAY_TLS_CA_CERT"
)

// SecretName returns the name of the CA Secret of a cluster whose authority was never revoked, in the cluster's namespace.
func SecretName(clusterName string) string { return reservedPrefix + clusterName }

// SecretSuffix begins what SecretNameSince appends. KubeRay runs no cluster with a dot in its name, so no other cluster's Secret has
// such a name.
const SecretSuffix = ".g"

// MaxSecretSuffix is the length of the longest text that SecretNameSince appends.
const MaxSecretSuffix = len(SecretSuffix) + 19

// SecretNameSince returns the name of the CA Secret of a cluster in which all generations below that number are revoked; 0 stands
// for none.
func SecretNameSince(clusterName string, revokedBefore int64) string {
	if revokedBefore == 0 {
		return SecretName(clusterName)
	}
	return SecretName(clusterName) + SecretSuffix + strconv.FormatInt(revokedBefore, 10)
}

// Parameters are the choices that reach the template. The template records them, so carrying an injection forward needs
// only the object.
type Parameters struct {
	// Image of the init container. If it is empty, the init container has the Ray container's image and pull policy.
	Image string `json:"image,omitempty"`
	// ImagePullPolicy goes with Image and is ignored without it.
	ImagePullPolicy string `json:"imagePullPolicy,omitempty"`
	// Resources of the init container. Nil stands for the Ray container's CPU, memory and ephemeral storage.
	Resources *Resources `json:"resources,omitempty"`
	// ScriptsPath is the absolute folder of scripts in the init image. If it is empty, a ConfigMap holds them.
	ScriptsPath string `json:"scriptsPath,omitempty"`
	// AdditionalContainers names further containers, init containers included, that speak Ray's gRPC. Order and repetition
	// have no meaning.
	AdditionalContainers []string `json:"additionalContainers,omitempty"`
	// RevokedBefore is the number below which all generations of the cluster's authority are revoked; 0 for none. SecretNameSince makes
	// the CA Secret's name with it.
	RevokedBefore int64 `json:"revokedBefore,omitempty"`
}

// Resources are amounts by the names of resources. They are text: whoever can write a template writes its record, and a
// quantity with a large exponent takes seconds to parse.
type Resources struct {
	Requests map[string]string `json:"requests,omitempty"`
	Limits   map[string]string `json:"limits,omitempty"`
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
	p.AdditionalContainers = slices.Compact(slices.Sorted(slices.Values(p.AdditionalContainers)))
	return p
}

func (p Parameters) canonical() []byte { return canonicalJSON(p.normalised()) }

// Options describe an injection.
type Options struct {
	// ClusterName is the RayCluster's metadata.name, from which SecretNameSince makes the CA Secret's name.
	ClusterName string
	// Revision to render. Zero stands for the newest.
	Revision   int
	Parameters Parameters
}

// rendering is Options with defaults, and the revision's texts.
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
	// All selects every template, whatever the other fields hold.
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

// ConflictError is a part of the spec that somebody must change before the injection.
type ConflictError Finding

func (e *ConflictError) Error() string { return e.Field + ": " + e.Message }

func conflict(field, format string, args ...any) *ConflictError {
	return &ConflictError{Field: field, Message: fmt.Sprintf(format, args...)}
}

// canonicalJSON returns JSON with sorted keys, whatever the order in the Go type. v came out of JSON or is one of this
// package's structs, so encoding cannot fail.
func canonicalJSON(v any) []byte {
	text, _ := json.Marshal(v)
	decoder := json.NewDecoder(bytes.NewReader(text))
	decoder.UseNumber()
	var tree any
	_ = decoder.Decode(&tree)
	sorted, _ := json.Marshal(tree)
	return sorted
}
