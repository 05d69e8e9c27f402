package hazard

import (
	"net/netip"
	"slices"
	"strings"
	"unicode/utf8"

	"github.com/raytls/raytls/internal/jsonpatch"
)

// hostOf is the host of an address such as ray://head:10001, head:6379 or [::1]:6379. Variables are spelt $NAME.
func hostOf(address string) string {
	if _, after, found := strings.Cut(address, "://"); found {
		address = after
	}
	address, _, _ = strings.Cut(address, "/")
	if inside, found := strings.CutPrefix(address, "["); found {
		host, _, _ := strings.Cut(inside, "]")
		return host
	}
	if strings.Count(address, ":") > 1 {
		return address
	}
	host, _, _ := strings.Cut(address, ":")
	return host
}

// isOwn reports whether a host is this very pod, or the head of this cluster.
func isOwn(host string) bool {
	if address, err := netip.ParseAddr(host); err == nil {
		return address.IsLoopback() || address.IsUnspecified()
	}
	ours := []string{"", "auto", "localhost", "$RAY_IP", "$FQ_RAY_IP", "$POD_IP", "$HOSTNAME", "$HOST_IP"}
	return slices.Contains(ours, host)
}

// headName finds a host that is none of the head's names in its certificate: addresses of the pod, localhost, the full name of
// the head's Service, and what the policy adds. A variable that is not known may be one of them.
func (f *finder) headName(at, host string) {
	_, notAddress := netip.ParseAddr(host)
	full := strings.Contains(host, ".svc.")
	switch {
	case notAddress == nil && isOwn(host), host == "", host == "auto", host == "local", host == "localhost", full, slices.Contains(f.HeadDNSNames, host):
	case notAddress == nil:
		f.add(true, at, "names the head by the address %s, which the head's certificate holds only if it is the pod's own: use $FQ_RAY_IP", quoted(host))
	case host == "$RAY_IP", !strings.Contains(host, ".") && !strings.HasPrefix(host, "$"), strings.HasPrefix(host, "$") && strings.HasSuffix(host, "-head-svc"):
		if !f.HeadServiceShortName {
			f.add(true, at, "names the head by the short name %s, which its certificate does not hold: use $FQ_RAY_IP, or set podCertificate.headServiceShortName of the policy, or add the name to podCertificate.headDNSNames", quoted(host))
		}
	case strings.HasPrefix(host, "$"):
	default:
		f.add(true, at, "names the head %s, which its certificate does not hold: use $FQ_RAY_IP, or add the name to podCertificate.headDNSNames of the policy", quoted(host))
	}
}

// nodeName finds a node that is known by a DNS name. Peers verify the name, and a pod's certificate holds its addresses, and
// its full name where the pod has a subdomain.
func (f *finder) nodeName(at, value string, pod map[string]any) {
	_, notAddress := netip.ParseAddr(value)
	subdomain := jsonpatch.String(pod["subdomain"])
	variable, isVariable := strings.CutPrefix(value, "$")
	known := strings.Contains(variable, "HOSTNAME") || strings.Contains(variable, "POD_NAME")
	switch {
	case value == "", notAddress == nil, value == "localhost":
	case subdomain != "" && (value == "$HOSTNAME" || strings.Contains(value, "."+subdomain+".")):
	case isVariable && !strings.Contains(variable, ".") && !known: // it may hold an address
	default:
		f.add(true, at, "makes Ray known by the name %s, which the pod's certificate does not hold: use the pod's address, as KubeRay does by default", quoted(value))
	}
}

// maxQuoted is how much of a manifest's text goes into a message. Before the API server has judged it, a name may have any length.
const maxQuoted = 80

func clip(s string) string {
	if len(s) <= maxQuoted {
		return s
	}
	end := maxQuoted
	for end > 0 && !utf8.RuneStart(s[end]) {
		end--
	}
	return s[:end] + "…"
}

func quoted(s string) string { return `"` + clip(s) + `"` }
