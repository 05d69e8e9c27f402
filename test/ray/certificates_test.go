//go:build ray

package ray

import (
	"context"
	"fmt"
	"net/netip"
	"strings"
	"time"

	. "github.com/onsi/ginkgo/v2"
	. "github.com/onsi/gomega"
	rayv1 "github.com/ray-project/kuberay/ray-operator/apis/ray/v1"
	corev1 "k8s.io/api/core/v1"

	"github.com/raytls/raytls/internal/pki"
)

// Clusters whose certificates end within a minute: a policy's are valid for days. Their templates are the spec's, an init
// container waits, and the spec signs what it waits for as the operator's scripts do.
const (
	certificateFiles     = "/etc/ray/tls"
	certificateContainer = "wait-for-certificate"
)

// withSpecsCertificates has all pods wait for a certificate of the spec's, and run with it.
func withSpecsCertificates(cluster *rayv1.RayCluster) {
	change := func(template *corev1.PodTemplateSpec) {
		files := corev1.VolumeMount{Name: "certificates", MountPath: certificateFiles}
		pod := &template.Spec
		pod.Volumes = append(pod.Volumes, corev1.Volume{Name: files.Name, VolumeSource: corev1.VolumeSource{
			EmptyDir: &corev1.EmptyDirVolumeSource{Medium: corev1.StorageMediumMemory},
		}})
		pod.InitContainers = append(pod.InitContainers, corev1.Container{
			Name: certificateContainer, Image: rayImage, VolumeMounts: []corev1.VolumeMount{files},
			Command: []string{"/bin/sh", "-c", "until [ -e " + certificateFiles + "/tls.crt ]; do sleep 0.2; done"},
		})
		container := &pod.Containers[0]
		container.VolumeMounts = append(container.VolumeMounts, files)
		for name, value := range map[string]string{
			"RAY_USE_TLS": "1", "RAY_TLS_SERVER_CERT": certificateFiles + "/tls.crt", "RAY_TLS_SERVER_KEY": certificateFiles + "/tls.key",
			"RAY_TLS_CA_CERT": certificateFiles + "/ca.crt",
		} {
			container.Env = append(container.Env, corev1.EnvVar{Name: name, Value: value})
		}
	}
	change(&cluster.Spec.HeadGroupSpec.Template)
	for i := range cluster.Spec.WorkerGroupSpecs {
		change(&cluster.Spec.WorkerGroupSpecs[i].Template)
	}
}

// signer signs the certificates of a cluster's pods.
type signer struct {
	issuer *pki.Issuer
	// chain is what follows a leaf in tls.crt, and bundle what pods trust.
	chain, bundle []byte
}

// newSigner makes an authority and its issuer.
func newSigner(name string) (*pki.Authority, *signer) {
	GinkgoHelper()
	authority, err := pki.NewAuthority(pki.AuthorityOptions{Name: name, KeyAlgorithm: pki.ECDSAP256, Validity: 24 * time.Hour, Now: time.Now()})
	Expect(err).NotTo(HaveOccurred())
	issuer, err := authority.NewIssuer(pki.IssuerOptions{KeyAlgorithm: pki.ECDSAP256, Validity: 12 * time.Hour, Now: time.Now()})
	Expect(err).NotTo(HaveOccurred())
	return authority, &signer{issuer: issuer, chain: issuer.CertificatePEM(), bundle: authority.CertificatePEM()}
}

// write makes a certificate for a pod, valid from now on, and writes its files in one of the pod's containers. It returns when
// the certificate ends.
func (s *signer) write(ctx context.Context, n *namespace, pod *corev1.Pod, container string, validity time.Duration) time.Time {
	GinkgoHelper()
	options := pki.LeafOptions{
		CommonName: pod.Name, DNSNames: []string{"localhost"}, KeyAlgorithm: pki.ECDSAP256, Validity: validity, Now: time.Now(),
		IPs: []netip.Addr{netip.MustParseAddr(pod.Status.PodIP), netip.MustParseAddr("127.0.0.1")},
	}
	if pod.Labels["ray.io/node-type"] == "head" {
		options.DNSNames = append(options.DNSNames, fmt.Sprintf("%s-head-svc.%s.svc.cluster.local", pod.Labels["ray.io/cluster"], n.name))
	}
	leaf, key, err := s.issuer.NewLeaf(options)
	Expect(err).NotTo(HaveOccurred())
	var script strings.Builder
	script.WriteString("set -eu; cd " + certificateFiles + "\n")
	// The certificate comes last: it is what the init container waits for.
	for _, file := range []struct {
		name    string
		content []byte
	}{{"ca.crt", s.bundle}, {"tls.key", key}, {"tls.crt", append(leaf, s.chain...)}} {
		fmt.Fprintf(&script, "cat >%s.new <<'END'\n%sEND\nmv %[1]s.new %[1]s\n", file.name, file.content)
	}
	ended, err := target.Exec(ctx, n.key(pod.Name), container, script.String(), "/bin/sh")
	Expect(err).NotTo(HaveOccurred())
	// The init container ends as soon as it has what it waits for, and takes the shell along if that is still there.
	const killed = 137
	if container != certificateContainer || ended.Code != killed {
		Expect(ended.Code).To(BeZero(), ended.Stderr)
	}
	return options.Now.Add(validity)
}

// certify gives the only pod of a group its first certificate, as soon as the pod waits for it.
func (s *signer) certify(ctx context.Context, n *namespace, cluster, group string, validity time.Duration) (*corev1.Pod, time.Time) {
	GinkgoHelper()
	var waiting *corev1.Pod
	Eventually(ctx, func(g Gomega, ctx context.Context) {
		pods, err := n.find(ctx, cluster, "")
		g.Expect(err).NotTo(HaveOccurred())
		for i, pod := range pods {
			for _, status := range pod.Status.InitContainerStatuses {
				if pod.Labels["ray.io/group"] == group && pod.Status.PodIP != "" && status.Name == certificateContainer && status.State.Running != nil {
					waiting = &pods[i]
				}
			}
		}
		g.Expect(waiting).NotTo(BeNil(), "no pod of group %s waits for a certificate", group)
	}).Should(Succeed())
	return waiting, s.write(ctx, n, waiting, certificateContainer, validity)
}
