// Package expected holds, for each release of Ray, which ports its pods listen on, what they answer to whom, and what crosses
// the network without TLS. The suite of the real Ray compares a cluster with it, and the documentation shows it.
package expected

import (
	"embed"
	"fmt"
	"slices"
	"strings"

	"k8s.io/apimachinery/pkg/util/version"
	"sigs.k8s.io/yaml"
)

//go:embed *.yaml
var files embed.FS

// Table is what is expected of one release of Ray.
type Table struct {
	// Ports are the ports on which pods listen, by node type: head and worker.
	Ports map[string][]Port `json:"ports"`
	// Serve are the ports with fixed numbers on which pods listen besides while Ray Serve runs, by node type.
	Serve map[string][]Port `json:"serve"`
	// Plaintext are the streams between pods that are not TLS.
	Plaintext []Stream `json:"plaintext"`
	// Faults are the known faults of the release that the suite asserts.
	Faults []Fault `json:"faults,omitempty"`
}

// Random is the number of a port that Ray chooses anew at each start.
const Random = "random"

// Port is a port that other pods can reach.
type Port struct {
	// Port is its number, or Random.
	Port string `json:"port"`
	// Process is the kind of process that listens on it.
	Process string `json:"process"`
	// The answers of the port to an HTTP/2 preface or an HTTP request without TLS, to TLS without a client certificate, with a
	// certificate of another cluster, and with one of the cluster.
	Plaintext     string `json:"plaintext"`
	NoCertificate string `json:"noCertificate"`
	Foreign       string `json:"foreign"`
	Own           string `json:"own"`
}

// Stream is a kind of stream between pods.
type Stream struct {
	// Port is the server's port, or Random.
	Port string `json:"port"`
	// Protocol is what the client's first bytes are, such as HTTP. Path is the HTTP request's, without its query.
	Protocol string `json:"protocol"`
	Path     string `json:"path,omitempty"`
	// What describes the stream for readers.
	What string `json:"what"`
}

// Fault is a known fault of Ray.
type Fault struct {
	// Name is how specs ask for it.
	Name string `json:"name"`
	// Issue is where Ray's maintainers know of it.
	Issue string `json:"issue"`
	// What describes the fault for readers.
	What string `json:"what"`
}

// Versions are the releases with a table, the newest first.
func Versions() ([]string, error) {
	entries, err := files.ReadDir(".")
	if err != nil {
		return nil, err
	}
	var out []string
	for _, entry := range entries {
		out = append(out, strings.TrimSuffix(entry.Name(), ".yaml"))
	}
	slices.SortFunc(out, func(a, b string) int {
		if version.MustParseGeneric(a).LessThan(version.MustParseGeneric(b)) {
			return 1
		}
		return -1
	})
	return out, nil
}

// Of is the table of a release. A release without one is expected to be like the newest before it.
func Of(release string) (Table, error) {
	var table Table
	wanted, err := version.ParseGeneric(release)
	if err != nil {
		return table, err
	}
	all, err := Versions()
	if err != nil {
		return table, err
	}
	i := slices.IndexFunc(all, func(v string) bool { return wanted.AtLeast(version.MustParseGeneric(v)) })
	if i < 0 {
		return table, fmt.Errorf("no table is as old as Ray %s", release)
	}
	text, err := files.ReadFile(all[i] + ".yaml")
	if err != nil {
		return table, err
	}
	if err := yaml.UnmarshalStrict(text, &table); err != nil {
		return table, fmt.Errorf("reading the table of Ray %s: %w", all[i], err)
	}
	return table, nil
}

// Fault finds a known fault; nil if the release has none of that name.
func (t Table) Fault(name string) *Fault {
	i := slices.IndexFunc(t.Faults, func(f Fault) bool { return f.Name == name })
	if i < 0 {
		return nil
	}
	return &t.Faults[i]
}
