//go:build e2e

package e2e

import (
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/x509"
	"encoding/pem"
	"fmt"
	"os"
	"slices"
	"strings"
	"time"

	. "github.com/onsi/ginkgo/v2"
	. "github.com/onsi/gomega"
	corev1 "k8s.io/api/core/v1"
	eventsv1 "k8s.io/api/events/v1"
	"k8s.io/apimachinery/pkg/api/meta"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/raytls/raytls/api/v1alpha1"
	"github.com/raytls/raytls/internal/injection"
)

var _ = Describe("The operator", func() {
	It("killed in the middle of enabling, twice, ends with an encrypted cluster, each pod restarted once", func(ctx SpecContext) {
		n := newNamespace(ctx)
		n.create(ctx, newCluster("killed", workers("first", 1), workers("second", 1)))
		n.running(ctx, "killed", 3, plaintext)
		n.ready(ctx, "killed")
		n.create(ctx, newPolicy("killed", "killed", immediate))

		By("killing it when the canary is gone")
		Eventually(ctx, func(g Gomega, ctx context.Context) {
			g.Expect(n.phase(ctx, "killed")).To(Equal(v1alpha1.PhaseCanary))
			g.Expect(n.pods.all("killed", plaintext, func(p podRecord) bool { return !p.live() })).To(HaveLen(1))
		}).WithPolling(50 * time.Millisecond).Should(Succeed())
		killOperator(ctx)
		Expect(n.pods.live("killed", isHead, plaintext)).To(HaveLen(1), "the head was not touched yet")

		By("killing it when the head is gone")
		Eventually(ctx, func(g Gomega, ctx context.Context) {
			g.Expect(n.phase(ctx, "killed")).To(Equal(v1alpha1.PhaseHead))
			g.Expect(n.pods.live("killed", isHead, plaintext)).To(BeEmpty())
		}).WithPolling(50 * time.Millisecond).Should(Succeed())
		killOperator(ctx)
		Expect(n.pods.live("killed", plaintext)).NotTo(BeEmpty(), "the rest was not touched yet")

		n.encrypted(ctx, "killed", "killed", 3)
		for group, count := range n.pods.counts("killed") {
			Expect(count).To(Equal(2), "pods of %s", group)
		}
		for _, worker := range n.pods.live("killed", isWorker) {
			n.joined(ctx, "killed", worker)
		}
		awaitOperator(ctx)
	}, SpecTimeout(4*time.Minute))
})

var _ = Describe("An init image in which no certificate can be made", func() {
	costsOneWorker := func(ctx context.Context, image, saying string) {
		n := newNamespace(ctx)
		asUser := everyPod(func(p *corev1.PodSpec) {
			p.SecurityContext = &corev1.PodSecurityContext{RunAsUser: new(int64(1000))}
		})
		n.create(ctx, newCluster("poor", workers("small", 2), asUser))
		n.running(ctx, "poor", 3, plaintext)
		n.ready(ctx, "poor")
		before := n.spec(ctx, "poor")
		head := n.only("poor", isHead)
		n.create(ctx, newPolicy("poor", "poor", immediate, func(p *v1alpha1.RayTLSPolicy) { p.Spec.Issuance.InitContainer.Image = image }))

		message := n.condition(ctx, "poor", v1alpha1.ConditionReady, metav1.ConditionFalse, v1alpha1.ReasonEnableFailed)
		Expect(message).To(ContainSubstring("poor"))
		Eventually(ctx, func(g Gomega) {
			g.Expect(n.pods.all("poor", podRecord.injected, func(p podRecord) bool { return p.gone.IsZero() })).To(BeEmpty())
		}).Should(Succeed())
		n.running(ctx, "poor", 3, plaintext)
		Expect(n.spec(ctx, "poor")).To(MatchJSON(before))
		Expect(n.only("poor", isHead).pod.UID).To(Equal(head.pod.UID), "the head never restarts")
		lost := n.pods.all("poor", isWorker, plaintext, func(p podRecord) bool { return !p.live() })
		Expect(lost).To(HaveLen(1), "one worker is lost")
		for _, worker := range n.pods.live("poor", isWorker) {
			n.joined(ctx, "poor", worker)
		}
		Expect(failedEvents(ctx, n)).To(ContainElement(ContainSubstring(saying)))

		By("not trying again")
		uids := n.pods.uids("poor")
		Consistently(ctx, func() any { return n.pods.uids("poor") }).WithTimeout(5 * time.Second).Should(Equal(uids))
	}

	It("for it has no shell costs one worker, and the cluster stays healthy in plaintext", func(ctx SpecContext) {
		costsOneWorker(ctx, operatorImage, injection.InitContainerName)
	}, SpecTimeout(3*time.Minute))

	It("for it has a shell and no openssl costs one worker, and the cluster stays healthy in plaintext", func(ctx SpecContext) {
		image := os.Getenv("NO_OPENSSL_IMG")
		if image == "" {
			Skip("NO_OPENSSL_IMG names no image with a shell and without openssl, such as busybox")
		}
		costsOneWorker(ctx, image, "this image has no openssl")
	}, SpecTimeout(3*time.Minute))
})

// failedEvents are the notes of the warnings that enabling failed.
func failedEvents(ctx context.Context, n *namespace) []string {
	GinkgoHelper()
	var events eventsv1.EventList
	Expect(api.List(ctx, &events, client.InNamespace(n.name))).To(Succeed())
	var notes []string
	for _, e := range events.Items {
		if e.Reason == v1alpha1.ReasonEnableFailed && e.Type == corev1.EventTypeWarning && e.Regarding.Kind == "RayCluster" {
			notes = append(notes, e.Note)
		}
	}
	return notes
}

var _ = Describe("The issuer", func() {
	It("is replaced under running pods, while workers are added, and nobody restarts", func(ctx SpecContext) {
		n := newNamespace(ctx)
		n.create(ctx, newPolicy("all", ""))
		n.createEncrypted(ctx, "all", newCluster("growing", workers("small", 1)), 2)
		name := injection.SecretName("growing")
		first := n.secret(ctx, name)
		uids := n.pods.uids("growing")

		By("deleting the CA Secret")
		Expect(api.Delete(ctx, first.DeepCopy())).To(Succeed())
		n.scale(ctx, "growing", 0, 2)
		n.encrypted(ctx, "all", "growing", 3)
		second := n.secret(ctx, name)
		Expect(second.Data["ca.key"]).NotTo(Equal(first.Data["ca.key"]))
		Expect(second.Data["ca.crt"]).To(Equal(first.Data["ca.crt"]), "the authority stays")

		By("altering the key in it")
		forged := otherKey()
		altered := second.DeepCopy()
		altered.Data["ca.key"] = forged
		Expect(api.Update(ctx, altered)).To(Succeed())
		n.scale(ctx, "growing", 0, 3)
		n.encrypted(ctx, "all", "growing", 4)
		third := n.secret(ctx, name)
		Expect(third.Data["ca.key"]).NotTo(Or(Equal(forged), Equal(second.Data["ca.key"])))
		Expect(third.Data["ca.crt"]).To(Equal(first.Data["ca.crt"]))

		Expect(n.pods.uids("growing")).To(ContainElements(uids))
		for _, worker := range n.pods.live("growing", isWorker) {
			n.joined(ctx, "growing", worker)
		}
		By("old and new workers having certificates of different issuers")
		issuers := map[string]bool{}
		for _, worker := range n.pods.live("growing", isWorker) {
			issuers[reportedIssuer(&worker.pod)] = true
		}
		Expect(issuers).To(HaveLen(3), fmt.Sprint(issuers))
	}, SpecTimeout(3*time.Minute))
})

var _ = Describe("The authority", func() {
	It("is replaced under running pods: old and new ones connect both ways, and nobody restarts", func(ctx SpecContext) {
		n := newNamespace(ctx)
		n.create(ctx, newPolicy("all", ""))
		n.createEncrypted(ctx, "all", newCluster("renewed", workers("small", 2)), 3)
		uids := n.pods.uids("renewed")
		before := n.spec(ctx, "renewed")
		// generations waits until so many pods have certificates of the present authority and of the first.
		generations := func(present, first int32) {
			GinkgoHelper()
			n.running(ctx, "renewed", 3, podRecord.injected)
			Eventually(ctx, func(g Gomega, ctx context.Context) {
				status := n.tls(ctx, "renewed").Status
				g.Expect(status.Authority.Generation).To(BeEquivalentTo(2))
				g.Expect(status.Authority.Earlier).To(HaveLen(1))
				g.Expect(status.Authority.Earlier[0].Generation).To(BeEquivalentTo(1))
				g.Expect(status.Authority.Earlier[0].Pods).To(Equal(first))
				g.Expect(status.Pods).To(Equal(v1alpha1.PodCounts{Total: 3, Certified: present, Outdated: first}))
				encrypted := meta.FindStatusCondition(status.Conditions, v1alpha1.ConditionEncrypted)
				g.Expect(encrypted.Status).To(Equal(metav1.ConditionTrue), encrypted.Message)
				upToDate := meta.FindStatusCondition(status.Conditions, v1alpha1.ConditionUpToDate)
				g.Expect(upToDate.Reason).To(Equal(v1alpha1.ReasonPodsOutdated), upToDate.Message)
			}).Should(Succeed())
		}
		// renew recreates a pod, and gives the new one.
		renew := func(old podRecord) podRecord {
			GinkgoHelper()
			Expect(api.Delete(ctx, &old.pod)).To(Succeed())
			like := func(p podRecord) bool { return p.group() == old.group() && !slices.Contains(uids, p.pod.UID) }
			Eventually(ctx, func() int { return len(n.pods.live("renewed", like)) }).Should(Equal(1))
			n.running(ctx, "renewed", 3, podRecord.injected)
			return n.only("renewed", like)
		}

		By("asking for it")
		n.patch(ctx, &v1alpha1.RayTLSPolicy{}, "all", fmt.Sprintf(`{"spec":{"certificateAuthority":{"replaceIssuedBefore":%q}}}`, time.Now().UTC().Format(time.RFC3339)))
		generations(0, 3)
		Expect(n.pods.uids("renewed")).To(ConsistOf(uids))
		Expect(n.spec(ctx, "renewed")).To(MatchJSON(before))

		By("recreating one worker, beside a head and a worker of the first generation")
		old := n.pods.live("renewed", isWorker)
		kept := old[1]
		fresh := renew(old[0])
		generations(1, 2)
		n.joined(ctx, "renewed", fresh)
		n.joined(ctx, "renewed", kept)

		By("recreating the head, which a worker of the first generation joins again")
		renew(n.only("renewed", isHead))
		generations(2, 1)
		n.ready(ctx, "renewed")
		Expect(n.pods.uids("renewed")).To(ContainElement(kept.pod.UID))
		n.joined(ctx, "renewed", kept)
		n.joined(ctx, "renewed", fresh)
		Eventually(ctx, func(g Gomega, ctx context.Context) {
			g.Expect(n.observed(ctx, "renewed", v1alpha1.WireTLS).AuthorityGeneration).To(BeEquivalentTo(2))
		}).Should(Succeed())

		By("recreating the last")
		Expect(api.Delete(ctx, &kept.pod)).To(Succeed())
		n.encrypted(ctx, "all", "renewed", 3)
	}, SpecTimeout(5*time.Minute))
})

// reportedIssuer is the issuer in the init container's report.
func reportedIssuer(pod *corev1.Pod) string {
	GinkgoHelper()
	status := initStatus(pod, injection.InitContainerName)
	Expect(status).NotTo(BeNil())
	Expect(status.State.Terminated).NotTo(BeNil())
	_, rest, found := strings.Cut(status.State.Terminated.Message, `"issuer":"`)
	Expect(found).To(BeTrue())
	issuer, _, _ := strings.Cut(rest, `"`)
	return issuer
}

// otherKey is a key that fits no certificate.
func otherKey() []byte {
	GinkgoHelper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	Expect(err).NotTo(HaveOccurred())
	der, err := x509.MarshalPKCS8PrivateKey(key)
	Expect(err).NotTo(HaveOccurred())
	return pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: der})
}
