//go:build e2e

package e2e

import (
	"context"
	"fmt"
	"strings"
	"time"

	. "github.com/onsi/ginkgo/v2"
	. "github.com/onsi/gomega"
	rayv1 "github.com/ray-project/kuberay/ray-operator/apis/ray/v1"
	authorizationv1 "k8s.io/api/authorization/v1"
	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/raytls/raytls/api/v1alpha1"
	"github.com/raytls/raytls/internal/injection"
)

var _ = Describe("The sample", Label("core"), Ordered, func() {
	const cluster, policy = "sample", "sample"
	var (
		n, other *namespace
		before   string
		head     podRecord
		ready    []podRecord
	)

	BeforeAll(func(ctx SpecContext) {
		n, other = newNamespace(ctx), newNamespace(ctx)
		c := sample("raycluster.yaml", &rayv1.RayCluster{})
		Expect(c.Name).To(Equal(cluster))
		c.Spec.RayVersion = rayVersion
		everyPod(func(p *corev1.PodSpec) {
			p.TerminationGracePeriodSeconds = new(int64(2))
			p.Containers[0].Image = rayImage
		})(c)
		n.create(ctx, c)
		// Meanwhile a cluster that never knew plaintext comes up under a policy that asks for the head's short name.
		other.create(ctx, newPolicy("short", "", shortName))
		other.condition(ctx, "short", v1alpha1.ConditionReady, metav1.ConditionTrue, v1alpha1.ReasonNoClusters)
		other.createInjected(ctx, newCluster("other", workers("small", 1)))
		n.running(ctx, cluster, 3, plaintext)
		n.ready(ctx, cluster)
		before = n.spec(ctx, cluster)
	}, NodeTimeout(3*time.Minute))

	It("is encrypted, each pod restarted once", func(ctx SpecContext) {
		p := sample("raytls_v1alpha1_raytlspolicy.yaml", &v1alpha1.RayTLSPolicy{})
		Expect(p.Name).To(Equal(policy))
		p.Spec.Issuance = newPolicy("", "").Spec.Issuance
		n.create(ctx, p)

		By("making Secret and ConfigMap")
		Eventually(ctx, func(g Gomega, ctx context.Context) {
			var secret corev1.Secret
			g.Expect(api.Get(ctx, n.key(injection.SecretName(cluster)), &secret)).To(Succeed())
			g.Expect(secret.Data).To(And(HaveKey("ca.key"), HaveKey("issuer.crt"), HaveKey("chain.pem"), HaveKey("ca.crt"), HaveKey("profile")))
			var scripts corev1.ConfigMapList
			g.Expect(api.List(ctx, &scripts, client.InNamespace(n.name), client.MatchingLabels{v1alpha1.LabelManagedBy: v1alpha1.ManagedBy})).To(Succeed())
			g.Expect(scripts.Items).To(HaveLen(1))
			g.Expect(scripts.Items[0].BinaryData).To(And(HaveKey("gencert_head.sh"), HaveKey("gencert_worker.sh")))
			g.Expect(scripts.Items[0].Immutable).To(HaveValue(BeTrue()))
		}).Should(Succeed())

		By("restarting canary, head and the rest")
		n.encrypted(ctx, policy, cluster, 3)
		counts := n.pods.counts(cluster)
		Expect(counts["head"]).To(Equal(2))
		Expect(counts["large"]).To(Equal(2))
		Expect(counts["small"]).To(Or(Equal(2), Equal(3)), "the canary restarts at most twice")
		for _, pod := range n.pods.live(cluster) {
			Expect(pod.restarts()).To(BeZero(), pod.pod.Name)
		}
		head, ready = n.only(cluster, isHead), n.pods.live(cluster, isWorker)
	}, SpecTimeout(3*time.Minute))

	It("carries the injection in all templates", func(ctx SpecContext) {
		var c rayv1.RayCluster
		Expect(api.Get(ctx, n.key(cluster), &c)).To(Succeed())
		templates := []corev1.PodSpec{c.Spec.HeadGroupSpec.Template.Spec}
		for _, group := range c.Spec.WorkerGroupSpecs {
			templates = append(templates, group.Template.Spec)
		}
		mount := corev1.VolumeMount{Name: injection.CertsVolume, MountPath: injection.MountPath, ReadOnly: true}
		for _, t := range templates {
			Expect(t.InitContainers).NotTo(BeEmpty())
			Expect(t.InitContainers[0].Name).To(Equal(injection.InitContainerName))
			Expect(t.Volumes).To(ContainElements(
				HaveField("Name", injection.CertsVolume), HaveField("Name", injection.IssuerVolume), HaveField("Name", injection.ScriptsVolume)))
			Expect(t.Containers[0].Env).To(ContainElements(rayEnv()))
			Expect(t.Containers[0].VolumeMounts).To(ContainElement(mount))
		}
		Expect(c.Spec.AutoscalerOptions.Env).To(ContainElements(rayEnv()))
		Expect(c.Spec.AutoscalerOptions.VolumeMounts).To(ContainElement(mount))
	}, SpecTimeout(30*time.Second))

	It("is reported by the policy", func(ctx SpecContext) {
		n.condition(ctx, policy, v1alpha1.ConditionAccepted, metav1.ConditionTrue, v1alpha1.ReasonAccepted)
		n.condition(ctx, policy, v1alpha1.ConditionReady, metav1.ConditionTrue, v1alpha1.ReasonEncrypted)
		lines := strings.Split(strings.TrimSpace(kubectl(ctx, "-n", n.name, "get", "raytlspolicy")), "\n")
		Expect(lines).To(HaveLen(2))
		Expect(strings.Fields(lines[0])).To(Equal([]string{"NAME", "READY", "ENCRYPTED", "CLUSTERS", "EXPIRES", "AGE"}))
		row := strings.Fields(lines[1])
		Expect(row).To(HaveLen(6))
		Expect(row[:4]).To(Equal([]string{policy, "True", "1", "1"}))
		expires, err := time.Parse(time.RFC3339, row[4])
		Expect(err).NotTo(HaveOccurred())
		Expect(expires).To(BeTemporally("~", time.Now().Add(365*24*time.Hour), time.Hour), "the leaves of the workers end first")
		status := n.policy(ctx, policy).Status
		Expect([]int32{status.Clusters, status.EncryptedClusters, status.Pods, status.PlaintextPods, status.OutdatedPods}).To(Equal([]int32{1, 1, 3, 0, 0}))
		By("the cluster's own report")
		lines = strings.Split(strings.TrimSpace(kubectl(ctx, "-n", n.name, "get", "rctls")), "\n")
		Expect(lines).To(HaveLen(2))
		Expect(strings.Fields(lines[0])).To(Equal([]string{"NAME", "POLICY", "ENCRYPTED", "REASON", "PODS", "EXPIRES", "RESTART-BY", "AGE"}))
		Expect(strings.Fields(lines[1])[:7]).To(Equal([]string{cluster, policy, "True", v1alpha1.ReasonEncrypted, "3", row[4], row[4]}))
		Expect(n.annotations(ctx, cluster)).To(BeEmpty())
	}, SpecTimeout(time.Minute))

	It("talks with mutual TLS", func(ctx SpecContext) {
		worker := ready[0].pod.Name
		for _, w := range ready {
			n.joined(ctx, cluster, w)
		}
		By("the autoscaler reaching the head by its pod IP")
		said, err := n.logs(ctx, head.pod.Name, "autoscaler")
		Expect(err).NotTo(HaveOccurred())
		if strings.Contains(said, "autoscaler") {
			Eventually(ctx, func(ctx context.Context) (string, error) { return n.logs(ctx, head.pod.Name, "autoscaler") }).
				Should(And(ContainSubstring("autoscaler ok"), Not(ContainSubstring("autoscaler FAILED"))))
		}
		By("the short name being refused")
		Expect(n.healthCheck(ctx, worker, "", "$RAY_IP")).To(refused(`is not in peer certificate|Hostname Verification Check failed`))
		By("plaintext being refused")
		Expect(n.healthCheck(ctx, worker, "RAY_USE_TLS=0", "$FQ_RAY_IP")).To(refused(""))
		By("a client without a certificate being refused")
		with, err := n.sh(ctx, worker, workerContainer, sClient("-cert "+leafFile+" -key "+keyFile+" -cert_chain "+leafFile), "")
		Expect(err).NotTo(HaveOccurred())
		Expect(with.Output()).To(And(ContainSubstring("Verify return code: 0 (ok)"), Not(ContainSubstring("alert"))), "with its certificate it is let in")
		without, err := n.sh(ctx, worker, workerContainer, sClient(""), "")
		Expect(err).NotTo(HaveOccurred())
		Expect(without.Code).NotTo(Or(BeZero(), Equal(124)), "the server ends the connection: %s", without.Output())
		Expect(without.Output()).To(MatchRegexp(`alert (certificate required|handshake failure|bad certificate)|unexpected eof`))
	}, SpecTimeout(2*time.Minute))

	It("refuses another cluster's certificate", func(ctx SpecContext) {
		other.encrypted(ctx, "short", "other", 2)
		foreign := other.only("other", isWorker).pod.Name
		worker := ready[0].pod.Name
		for file, to := range map[string]string{leafFile: "/tmp/other.crt", keyFile: "/tmp/other.key"} {
			n.mustSh(ctx, worker, workerContainer, "cat >"+to, other.mustSh(ctx, foreign, workerContainer, "cat "+file, ""))
		}
		const swapped = "RAY_TLS_SERVER_CERT=/tmp/other.crt RAY_TLS_SERVER_KEY=/tmp/other.key"
		Expect(n.healthCheck(ctx, worker, swapped, "$FQ_RAY_IP")).To(refused(""))
		// With its own files the very same command passes.
		Expect(n.healthCheck(ctx, worker, "", "$FQ_RAY_IP")).To(endsWell())
	}, SpecTimeout(2*time.Minute))

	It("accepts the short name where the policy asks for it, in a cluster encrypted from its start", func(ctx SpecContext) {
		other.encrypted(ctx, "short", "other", 2)
		worker := other.only("other", isWorker)
		Expect(other.healthCheck(ctx, worker.pod.Name, "", "$RAY_IP")).To(endsWell())
		other.joined(ctx, "other", worker)
		Expect(other.pods.all("other", plaintext)).To(BeEmpty(), "no pod of it ever ran in plaintext")
		Expect(api.DeleteAllOf(ctx, &rayv1.RayCluster{}, client.InNamespace(other.name))).To(Succeed())
	}, SpecTimeout(time.Minute))

	It("shows no CA key to a container that runs Ray", func(ctx SpecContext) {
		needle := keyLine(n.secret(ctx, injection.SecretName(cluster)))
		for _, p := range n.pods.live(cluster) {
			for _, container := range p.pod.Spec.Containers {
				noCAKey(ctx, n, p.pod.Name, container.Name, needle)
			}
			mountedOnlyInInit(&p.pod)
			noSecretsFor(ctx, n.name, p.pod.Spec.ServiceAccountName)
		}
	}, SpecTimeout(2*time.Minute))

	It("takes in one worker more, and one in place of one deleted by hand", func(ctx SpecContext) {
		known := n.pods.uids(cluster)
		n.scale(ctx, cluster, 0, 2)
		n.encrypted(ctx, policy, cluster, 4)
		victim := ready[0].pod
		Expect(api.Delete(ctx, &victim)).To(Succeed())
		Eventually(ctx, func() []types.UID { return n.pods.uids(cluster) }).ShouldNot(ContainElement(victim.UID))
		n.encrypted(ctx, policy, cluster, 4)
		fresh := n.pods.live(cluster, func(p podRecord) bool { return !containsUID(known, p.pod.UID) })
		Expect(fresh).To(HaveLen(2), "nobody else restarted")
		for _, w := range fresh {
			n.joined(ctx, cluster, w)
		}
		// KubeRay leaves it to the autoscaler to take workers away, so there are two of them from here on.
		before = strings.Replace(before, `"replicas":1,`, `"replicas":2,`, 1)
	}, SpecTimeout(3*time.Minute))

	It("gets its spec back exactly when the policy goes, and runs in plaintext", func(ctx SpecContext) {
		Expect(n.policy(ctx, policy).Spec.DeletionPolicy).To(Equal(v1alpha1.DeletionDisable))
		counts := n.pods.counts(cluster)
		n.deletePolicy(ctx, policy)
		n.running(ctx, cluster, 4, plaintext)
		n.ready(ctx, cluster)
		Eventually(ctx, func(ctx context.Context) bool {
			return apierrors.IsNotFound(api.Get(ctx, n.key(policy), &v1alpha1.RayTLSPolicy{}))
		}).Should(BeTrue(), "the policy is gone")
		Expect(n.spec(ctx, cluster)).To(MatchJSON(before))
		Expect(n.annotations(ctx, cluster)).To(BeEmpty())
		nothingLeft(ctx, n, cluster)
		for group, restarted := range map[string]int{"head": 1, "small": 2, "large": 1} {
			Expect(n.pods.counts(cluster)[group]).To(Equal(counts[group]+restarted), "each pod of %s restarts once", group)
		}
		worker := n.pods.live(cluster, isWorker)[0]
		n.joined(ctx, cluster, worker) // the new head's address may be a few seconds late in DNS
		Expect(n.mustSh(ctx, worker.pod.Name, workerContainer, "env", "")).NotTo(ContainSubstring("RAY_TLS"))
	}, SpecTimeout(3*time.Minute))
})

func rayEnv() []corev1.EnvVar {
	return []corev1.EnvVar{
		{Name: injection.EnvUseTLS, Value: "1"},
		{Name: injection.EnvServerCert, Value: "/etc/ray/tls/tls.crt"},
		{Name: injection.EnvServerKey, Value: "/etc/ray/tls/tls.key"},
		{Name: injection.EnvCACert, Value: "/etc/ray/tls/ca.crt"},
	}
}

// nothingLeft checks that a cluster's Secrets, and the scripts, are gone, and so is what is on record of the injection.
func nothingLeft(ctx context.Context, n *namespace, cluster string) {
	GinkgoHelper()
	Eventually(ctx, func(g Gomega, ctx context.Context) {
		ours := client.MatchingLabels{v1alpha1.LabelManagedBy: v1alpha1.ManagedBy}
		var secrets corev1.SecretList
		g.Expect(api.List(ctx, &secrets, client.InNamespace(n.name), ours)).To(Succeed())
		g.Expect(secrets.Items).To(BeEmpty())
		var scripts corev1.ConfigMapList
		g.Expect(api.List(ctx, &scripts, client.InNamespace(n.name), ours)).To(Succeed())
		g.Expect(scripts.Items).To(BeEmpty())
		var authorities corev1.SecretList
		g.Expect(api.List(ctx, &authorities, client.InNamespace(operatorNamespace), ours)).To(Succeed())
		for _, authority := range authorities.Items {
			g.Expect(authority.Annotations[v1alpha1.AnnotationCluster]).NotTo(Equal(n.name + "/" + cluster))
		}
		tls := &v1alpha1.RayClusterTLS{}
		if err := api.Get(ctx, n.key(cluster), tls); apierrors.IsNotFound(err) {
			return
		}
		g.Expect(api.Get(ctx, n.key(cluster), &rayv1.RayCluster{})).To(Succeed(), "a RayClusterTLS goes with its RayCluster")
		g.Expect(tls.Status.Injection.Revision).To(BeZero())
		g.Expect(tls.Status.Rollout).To(BeNil())
	}).Should(Succeed())
}

// keyLine is the last line of the issuer's key, which no other key has.
func keyLine(secret *corev1.Secret) string {
	GinkgoHelper()
	lines := strings.Split(strings.TrimSpace(string(secret.Data["ca.key"])), "\n")
	Expect(len(lines)).To(BeNumerically(">", 2))
	return lines[len(lines)-2]
}

// noCAKey looks into a container: at its files, whatever their names, and at what it was started with.
func noCAKey(ctx context.Context, n *namespace, pod, container, needle string) {
	GinkgoHelper()
	found := n.mustSh(ctx, pod, container, `
		find / -xdev \( -name ca.key -o -name issuer.crt -o -name chain.pem \) 2>/dev/null
		cut -d' ' -f2 /proc/mounts | grep -vE '^/(proc|sys|dev)?(/|$)' | while read -r mount; do
			find "$mount" -name '*.key' ! -path '/etc/ray/tls/tls.key' 2>/dev/null
		done
		if [ -e /etc/raytls ]; then echo /etc/raytls; fi
		env | grep 'PRIVATE KEY' && echo environment
		true`, "")
	Expect(strings.TrimSpace(found)).To(BeEmpty(), "%s/%s", pod, container)
	found = n.mustSh(ctx, pod, container,
		`grep -rlFs -f - /etc /tmp /run /var /home /dev/shm /mnt /opt/raytls /proc/1/environ /proc/self/environ; true`, needle+"\n")
	Expect(strings.TrimSpace(found)).To(BeEmpty(), "%s/%s", pod, container)
	// The search finds what there is to find: the pod's own key.
	own := n.mustSh(ctx, pod, container, `grep -rlFs 'PRIVATE KEY' /etc/ray`, "")
	Expect(strings.TrimSpace(own)).To(Equal(keyFile))
}

// mountedOnlyInInit checks that only the init container mounts the issuer.
func mountedOnlyInInit(pod *corev1.Pod) {
	GinkgoHelper()
	mounting := map[string][]string{}
	for _, c := range append(pod.Spec.InitContainers, pod.Spec.Containers...) {
		for _, m := range c.VolumeMounts {
			mounting[m.Name] = append(mounting[m.Name], c.Name)
		}
		for _, e := range c.EnvFrom {
			Expect(e.SecretRef).To(BeNil(), c.Name)
		}
	}
	Expect(mounting[injection.IssuerVolume]).To(Equal([]string{injection.InitContainerName}))
	Expect(mounting[injection.ScriptsVolume]).To(Equal([]string{injection.InitContainerName}))
	for _, volume := range pod.Spec.Volumes {
		if volume.Secret != nil {
			Expect(volume.Name).To(Equal(injection.IssuerVolume))
		}
	}
}

// noSecretsFor checks that a pod's own account cannot read Secrets either.
func noSecretsFor(ctx context.Context, namespace, account string) {
	GinkgoHelper()
	for _, where := range []string{namespace, operatorNamespace} {
		for _, verb := range []string{"get", "list", "watch"} {
			review := &authorizationv1.SubjectAccessReview{Spec: authorizationv1.SubjectAccessReviewSpec{
				User: fmt.Sprintf("system:serviceaccount:%s:%s", namespace, account), Groups: []string{"system:authenticated", "system:serviceaccounts"},
				ResourceAttributes: &authorizationv1.ResourceAttributes{Namespace: where, Verb: verb, Resource: "secrets"},
			}}
			Expect(api.Create(ctx, review)).To(Succeed())
			Expect(review.Status.Allowed).To(BeFalse(), "%s may %s Secrets in %s", account, verb, where)
		}
	}
}
