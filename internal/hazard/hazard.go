// Package hazard finds what in a RayCluster's templates dials, probes or names Ray outside the injection, and so stops working
// once Ray speaks TLS.
package hazard

import (
	"fmt"
	"slices"
	"strings"

	"github.com/raytls/raytls/api/v1alpha1"
	"github.com/raytls/raytls/internal/injection"
	"github.com/raytls/raytls/internal/jsonpatch"
)

// Hazard is a part of a spec that TLS breaks, or that depends on what a migration takes out.
type Hazard struct {
	injection.Finding
	// Blocking reports whether a pod or a container would stop working. Otherwise it is something to look at.
	Blocking bool
	// Depends reports whether it depends on a mount in Options.Gone.
	Depends bool
}

func (h Hazard) String() string { return h.Field + " " + h.Message }

// Options are what a policy gives the cluster, and what a migration takes from it.
type Options struct {
	// Additional are further containers with certificates, by name.
	Additional []string
	// HeadDNSNames and HeadServiceShortName are the head's further names, as in a policy's podCertificate.
	HeadDNSNames         []string
	HeadServiceShortName bool
	// Gone are the paths of the mounts that a migration takes out of a container, by the container's field.
	Gone map[string][]string
}

// OptionsOf are those of a policy's spec.
func OptionsOf(spec *v1alpha1.RayTLSPolicySpec) Options {
	return Options{
		Additional: spec.AdditionalContainers, HeadDNSNames: spec.PodCertificate.HeadDNSNames,
		HeadServiceShortName: spec.PodCertificate.HeadServiceShortName,
	}
}

// Max is how many hazards Find lists at most. One is enough to act on.
const Max = 16

// Find lists the hazards of a spec, in its order, Max at most. It reads each template once. The operator's own pieces are none.
func Find(spec map[string]any, o Options) []Hazard {
	f := &finder{Options: o}
	head := jsonpatch.Map(spec["headGroupSpec"])
	f.ports = ports(jsonpatch.Map(head["rayStartParams"]))
	f.group("spec.headGroupSpec", head, true)
	f.depends("spec.autoscalerOptions", jsonpatch.Map(spec["autoscalerOptions"]), true)
	for i, group := range jsonpatch.List(spec["workerGroupSpecs"]) {
		if f.full() {
			break
		}
		f.group(fmt.Sprintf("spec.workerGroupSpecs[%d]", i), jsonpatch.Map(group), false)
	}
	return f.found
}

// Blocking gives the first hazard that breaks something; nil for none.
func Blocking(found []Hazard) *Hazard {
	i := slices.IndexFunc(found, func(h Hazard) bool { return h.Blocking })
	if i < 0 {
		return nil
	}
	return &found[i]
}

type finder struct {
	Options
	// ports are those on which the head's Ray serves TLS.
	ports []string
	found []Hazard
}

func (f *finder) full() bool { return len(f.found) >= Max }

func (f *finder) add(blocking bool, field, format string, args ...any) {
	h := Hazard{Blocking: blocking}
	h.Field, h.Message = field, fmt.Sprintf(format, args...)
	same := func(other Hazard) bool { return other.Finding == h.Finding }
	if !f.full() && !slices.ContainsFunc(f.found, same) {
		f.found = append(f.found, h)
	}
}

// ports are the defaults of Ray's gRPC ports, or what the head is started with.
func ports(params map[string]any) []string {
	all := []string{"6379", "10001"}
	for i, key := range []string{"port", "ray-client-server-port", "node-manager-port", "object-manager-port", "dashboard-agent-grpc-port"} {
		switch value := jsonpatch.String(params[key]); {
		case value == "":
		case i < len(all) && i < 2:
			all[i] = value
		default:
			all = append(all, value)
		}
	}
	return all
}

func (f *finder) group(at string, group map[string]any, head bool) {
	pod := jsonpatch.Map(jsonpatch.Map(group["template"])["spec"])
	secrets := map[string]string{}
	for _, volume := range jsonpatch.List(pod["volumes"]) {
		secrets[jsonpatch.Name(volume)] = jsonpatch.String(jsonpatch.Map(jsonpatch.Map(volume)["secret"])["secretName"])
	}
	params := jsonpatch.Map(group["rayStartParams"])
	if address := plainVariables(jsonpatch.String(params["address"])); !head {
		f.headName(at+".rayStartParams.address", hostOf(address))
	}
	f.nodeName(at+".rayStartParams.node-ip-address", plainVariables(jsonpatch.String(params["node-ip-address"])), pod)
	for _, list := range []string{"initContainers", "containers"} {
		for i, item := range jsonpatch.List(pod[list]) {
			if f.full() {
				return
			}
			c := jsonpatch.Map(item)
			if c == nil || jsonpatch.Name(c) == injection.InitContainerName {
				continue
			}
			field := fmt.Sprintf("%s.template.spec.%s[%d]", at, list, i)
			equipped := list == "containers" && i == 0 || slices.Contains(f.Additional, jsonpatch.Name(c))
			makes := f.container(field, c, pod, equipped, list == "initContainers")
			if makes && list == "initContainers" {
				f.leftover(field, c, secrets)
			}
		}
	}
}

// container looks at a container, and reports whether it runs openssl.
func (f *finder) container(at string, c, pod map[string]any, equipped, init bool) (openssl bool) {
	f.grpcProbes(at, c)
	f.depends(at, c, equipped)
	for _, t := range textsOf(at, c) {
		words := wordsOf(t.text)
		if t.variable == "RAY_ADDRESS" && !strings.HasPrefix(t.text, "http") && t.text != "" {
			f.address(t.field, plainVariables(t.text), c, equipped, init)
		}
		f.words(t, words, c, pod, equipped, init)
		openssl = openssl || t.variable == "" && slices.ContainsFunc(words, func(w string) bool { return base(w) == "openssl" })
	}
	return openssl
}

// words looks at a command, a script or the value of a variable, once from its begin to its end.
func (f *finder) words(t text, words []string, c, pod map[string]any, equipped, init bool) {
	runs := t.variable == ""
	plain := runs && f.dialsPort(words)
	assigned := map[string]bool{}
	for _, name := range injection.TLSVariables() {
		assigned[name] = strings.Contains(t.text, name+"=") && !strings.Contains(t.text, injection.EnvUseTLS+"=1")
	}
	previous, ray := "", false
	for i, word := range words {
		if f.full() {
			return
		}
		next := ""
		if i+1 < len(words) {
			next = words[i+1]
		}
		name := base(word)
		ray = ray || name == "ray"
		switch {
		case strings.Contains(word, "ray://"):
			_, host, _ := strings.Cut(word, "ray://")
			f.address(t.field, host, c, equipped, init)
		case !runs:
		case name == "ray" && slices.Contains(dialing(), next) && !equipped:
			f.dials(t.field, "runs `ray "+next+"`", c, init)
		case (strings.HasPrefix(word, "ray.init") || strings.HasPrefix(word, "ray.util.connect")) && !equipped:
			f.dials(t.field, "connects to Ray", c, init)
		case word == "RAY_ADDRESS" && !strings.HasPrefix(next, "http") && !strings.Contains(next, "ray://"):
			f.address(t.field, next, c, equipped, init)
		case word == "--address" && equipped && ray:
			f.headName(t.field, hostOf(next))
		case word == "--node-ip-address" && equipped:
			f.nodeName(t.field, next, pod)
		case plain && plaintextTool(name):
			f.add(true, t.field, "runs %s without TLS against a port of Ray's: use `ray health-check`, or an httpGet probe", name)
		case equipped && isTLSVariable(word) && slices.Contains([]string{"unset", "-u", "export"}, previous),
			equipped && isTLSVariable(word) && assigned[word]:
			f.add(true, t.field, "sets or unsets %s in a command, which overrides what the operator sets: take it out", word)
		}
		previous = word
	}
}

// dialing are the commands of Ray's command line that speak gRPC.
func dialing() []string {
	return []string{"health-check", "status", "start", "list", "get", "summary", "memory", "timeline", "stack", "drain-node", "microbenchmark"}
}

func isTLSVariable(word string) bool { return slices.Contains(injection.TLSVariables(), word) }

func plaintextTool(name string) bool {
	return slices.Contains([]string{"grpc_health_probe", "grpc-health-probe", "grpcurl"}, name)
}

// dialsPort reports whether a command names a port of Ray's and no TLS.
func (f *finder) dialsPort(words []string) bool {
	onPort := false
	for _, word := range words {
		if strings.HasPrefix(strings.TrimLeft(word, "-"), "tls") || word == "-cacert" || word == "-insecure" {
			return false
		}
		onPort = onPort || strings.Contains(word, ":") && slices.ContainsFunc(f.ports, func(port string) bool { return strings.HasSuffix(word, ":"+port) })
	}
	return onPort
}

// address looks at an address of Ray that a container dials.
func (f *finder) address(at, address string, c map[string]any, equipped, init bool) {
	switch host := hostOf(address); {
	case equipped:
		f.headName(at, host)
	case isOwn(host):
		f.dials(at, "connects to Ray at "+quoted(host), c, init)
	default:
		f.add(false, at, "connects to Ray at %s. If that is this cluster, add container %s to additionalContainers of the policy", quoted(host), quoted(jsonpatch.Name(c)))
	}
}

func (f *finder) dials(at, what string, c map[string]any, init bool) {
	effect := "and is refused"
	if init {
		effect = "and waits for ever, so that the pod does not start,"
	}
	f.add(true, at, "%s without the cluster's certificates, %s once Ray speaks TLS: add container %s to additionalContainers of the policy", what, effect, quoted(jsonpatch.Name(c)))
}

// grpcProbes finds probes of the kubelet, which speaks plaintext gRPC only.
func (f *finder) grpcProbes(at string, c map[string]any) {
	for _, probe := range []string{"startupProbe", "livenessProbe", "readinessProbe"} {
		grpc := jsonpatch.Map(jsonpatch.Map(c[probe])["grpc"])
		if port := fmt.Sprint(grpc["port"]); grpc != nil && slices.Contains(f.ports, port) {
			f.add(true, at+"."+probe+".grpc", "probes port %s of Ray in plaintext, which fails once Ray speaks TLS: use exec with `ray health-check`, or httpGet", clip(port))
		}
	}
}

// leftover finds hand-made certificates that nothing uses. Where the four variables are set too, injection.ForeignTLS has them.
func (f *finder) leftover(at string, c map[string]any, secrets map[string]string) {
	for _, mount := range jsonpatch.List(c["volumeMounts"]) {
		if secret := secrets[jsonpatch.Name(mount)]; secret != "" {
			f.add(false, at, "makes certificates by hand with Secret %s. Ray does not use them: take the init container and its volumes out, with their mounts in other containers, which can read the Secret's key", quoted(secret))
			return
		}
	}
}

// depends finds what reads files of a mount that goes away.
func (f *finder) depends(at string, c map[string]any, equipped bool) {
	for _, gone := range f.Gone[at] {
		for _, t := range append(textsOf(at, c), text{field: at + ".workingDir", text: jsonpatch.String(c["workingDir"])}) {
			if isTLSVariable(t.variable) {
				continue
			}
			for _, file := range mentions(t.text, gone) {
				if equipped && slices.Contains([]string{injection.MountPath + "/tls.crt", injection.MountPath + "/tls.key"}, file) {
					f.addDependent(false, t.field, fmt.Sprintf("reads %s, where the operator puts the pod's certificate of the cluster's own authority: check that it still serves its purpose", file))
					continue
				}
				f.addDependent(true, t.field, fmt.Sprintf("reads %s, in a mount that goes away with the hand-made TLS: give it a volume of its own, at another path", file))
			}
		}
	}
}

func (f *finder) addDependent(blocking bool, field, message string) {
	before := len(f.found)
	f.add(blocking, field, "%s", message)
	if len(f.found) > before {
		f.found[before].Depends = true
	}
}
