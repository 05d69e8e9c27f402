package app

import (
	"os"
	"strings"

	"k8s.io/apimachinery/pkg/util/validation"
)

// resolvConf is where the kubelet writes in which domains a pod's names are looked for.
const resolvConf = "/etc/resolv.conf"

const (
	defaultClusterDomain = "cluster.local"
	// maxClusterDomain leaves room for the names of a Service and a namespace before it.
	maxClusterDomain = 120
)

// clusterDomain takes the Kubernetes cluster's DNS domain from the search list that the kubelet writes for pods.
func clusterDomain(path string) string {
	text, err := os.ReadFile(path)
	if err != nil {
		return defaultClusterDomain
	}
	for line := range strings.Lines(string(text)) {
		fields := strings.Fields(line)
		if len(fields) == 0 || fields[0] != "search" {
			continue
		}
		for _, entry := range fields[1:] {
			domain, found := strings.CutPrefix(strings.ToLower(strings.TrimSuffix(entry, ".")), "svc.")
			if found && len(domain) <= maxClusterDomain && len(validation.IsDNS1123Subdomain(domain)) == 0 {
				return domain
			}
		}
	}
	return defaultClusterDomain
}
