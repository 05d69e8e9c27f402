//go:build ray

package ray

import (
	"context"
	"encoding/json"
	"fmt"
	"math/rand/v2"
	"strings"
	"time"

	. "github.com/onsi/ginkgo/v2"
	. "github.com/onsi/gomega"
	rayv1 "github.com/ray-project/kuberay/ray-operator/apis/ray/v1"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/raytls/raytls/api/v1alpha1"
	"github.com/raytls/raytls/internal/injection"
	"github.com/raytls/raytls/internal/pki"
	"github.com/raytls/raytls/test/live"
)

// lifeLabel is that of the specs of replacements, which run only where a label filter asks for them.
const lifeLabel = "life"

// rolling is how long a roll may take: seven minutes until it begins, and the restarts.
const rolling = 20 * time.Minute

// lifeSpecs replace the authorities of running clusters and renew certificates, while Ray works. Rolls begin minutes after their
// cause, so the clusters wait together.
func lifeSpecs() {
	var lasting, stays, manual, busy *namespace
	var replacedAt time.Time
	replaced := func(ctx context.Context, n *namespace) {
		GinkgoHelper()
		n.change(ctx, map[string]any{"certificateAuthority": map[string]any{"replaceIssuedBefore": replacedAt.UTC().Format(time.RFC3339)}})
	}
	var calling *load

	BeforeAll(func(ctx SpecContext) {
		if !strings.Contains(GinkgoLabelFilter(), lifeLabel) {
			Skip("LABELS=" + lifeLabel + " runs these specs")
		}
		lasting, stays, manual, busy = newTLSNamespace(ctx), newTLSNamespace(ctx), newNamespace(ctx), newTLSNamespace(ctx)
		manual.encrypt(ctx, func(policy *v1alpha1.RayTLSPolicy) { policy.Spec.Rollout.Strategy = v1alpha1.StrategyOnDelete })
		lasting.redis(ctx)
		lasting.create(ctx, newCluster("lasting", faultTolerant, workers("small", 3, 3)))
		stays.create(ctx, newCluster("stays", workers("small", 1, 1)))
		manual.create(ctx, newCluster("manual", workers("small", 1, 1)))
		busy.create(ctx, busy.newJob(ctx, rayv1.HTTPMode))
		lasting.encrypted(ctx, "lasting", 4)
		stays.encrypted(ctx, "stays", 2)
		manual.encrypted(ctx, "manual", 2)
		busy.encrypted(ctx, busy.jobCluster(ctx, ""), 2)
		calling = lasting.load("lasting")
		calling.watch(ctx)
		// Authorities are replaced that were issued before a time, of which the API keeps the second.
		replacedAt = time.Now().Truncate(time.Second)
		for _, n := range []*namespace{lasting, stays, manual, busy} {
			replaced(ctx, n)
		}
	}, NodeTimeout(8*time.Minute))

	It("loses no call while an authority is replaced, and restarts each pod once, the head last", func(ctx SpecContext) {
		calling.until(ctx, func(g Gomega, status *v1alpha1.RayClusterTLSStatus) {
			g.Expect(status.Authority.Generation).To(BeEquivalentTo(2))
		})
		lasting.servesPresent(ctx, "lasting")
		calling.restarted(replacedAt, 4)
		calling.stop(ctx)
		calling.judge()
	}, SpecTimeout(rolling))

	It("lets a job go on while the authority of its cluster is replaced", func(ctx SpecContext) {
		cluster := busy.jobCluster(ctx, "")
		before := uids(busy.made(ctx, cluster))
		Eventually(ctx, func(g Gomega, ctx context.Context) {
			status := busy.status(ctx, g, cluster)
			g.Expect(status.Authority.Generation).To(BeEquivalentTo(2))
			g.Expect(status.PendingRestart).NotTo(BeNil())
			g.Expect(status.PendingRestart.BlockedBy).To(Equal("RayJob/" + jobName))
		}).WithTimeout(rolling).Should(Succeed())
		Expect(uids(busy.made(ctx, cluster))).To(Equal(before))
		ended, err := busy.sh(ctx, busy.head(ctx, cluster), "echo succeed >/tmp/outcome")
		Expect(err).NotTo(HaveOccurred())
		Expect(ended.Code).To(BeZero(), ended.Output())
		busy.jobEnds(ctx)
		busy.deleteOwner(ctx, &rayv1.RayJob{ObjectMeta: metav1.ObjectMeta{Namespace: busy.name, Name: jobName}})
	}, SpecTimeout(rolling))

	It("restarts the workers alone of a head that would lose its state", func(ctx SpecContext) {
		old := stays.made(ctx, "stays")
		Eventually(ctx, func(g Gomega, ctx context.Context) {
			status := stays.status(ctx, g, "stays")
			g.Expect(status.Authority.Generation).To(BeEquivalentTo(2))
			g.Expect(status.Pods.Certified).To(BeEquivalentTo(1))
			g.Expect(status.Pods.Outdated).To(BeEquivalentTo(1))
			g.Expect(status.PendingRestart).NotTo(BeNil())
			g.Expect(status.PendingRestart.Action).To(Equal(v1alpha1.ActionRoll))
			g.Expect(status.PendingRestart.Reason).To(Equal(v1alpha1.ReasonAwaitingApproval))
			g.Expect(status.PendingRestart.Message).To(ContainSubstring("approvals"))
			g.Expect(status.RestartBy).NotTo(BeNil())
		}).WithTimeout(rolling).Should(Succeed())
		stays.ready(ctx, "stays", 2)
		Expect(uids(old)).To(ContainElement(string(stays.head(ctx, "stays").UID)), "the head")
		stays.works(ctx, "stays")
		stays.remove(ctx, "stays")
	}, SpecTimeout(rolling))

	It("restarts nothing with OnDelete, and pods deleted by hand come back with the new authority", func(ctx SpecContext) {
		before := uids(manual.made(ctx, "manual"))
		Eventually(ctx, func(g Gomega, ctx context.Context) {
			status := manual.status(ctx, g, "manual")
			g.Expect(status.PendingRestart).NotTo(BeNil())
			g.Expect(status.PendingRestart.Reason).To(Equal(v1alpha1.ReasonOnDelete))
		}).WithTimeout(rolling).Should(Succeed())
		Expect(uids(manual.made(ctx, "manual"))).To(Equal(before))
		for _, nodeType := range []string{"worker", "head"} {
			pods, err := manual.find(ctx, "manual", nodeType)
			Expect(err).NotTo(HaveOccurred())
			Expect(pods).To(HaveLen(1))
			Expect(target.API.Delete(ctx, &pods[0])).To(Succeed())
			Eventually(ctx, func(g Gomega, ctx context.Context) {
				found, err := manual.find(ctx, "manual", "")
				g.Expect(err).NotTo(HaveOccurred())
				g.Expect(uids(found)).NotTo(ContainElement(string(pods[0].UID)))
			}).Should(Succeed())
			manual.ready(ctx, "manual", 2)
			manual.works(ctx, "manual")
		}
		Eventually(ctx, func(g Gomega, ctx context.Context) {
			g.Expect(manual.status(ctx, g, "manual").Pods.Certified).To(BeEquivalentTo(2))
		}).Should(Succeed())
		manual.remove(ctx, "manual")
	}, SpecTimeout(rolling))

	It("loses no call while certificates are renewed and the operator is killed ten times", func(ctx SpecContext) {
		calling = lasting.load("lasting")
		calling.watch(ctx)
		since := time.Now().Truncate(time.Second)
		lasting.change(ctx, map[string]any{"podCertificate": map[string]any{"validityDays": 300}})
		kills := make(chan error, 1)
		go func() { kills <- killOperator(ctx, 10, rand.New(rand.NewPCG(uint64(GinkgoRandomSeed()), 0))) }()
		calling.until(ctx, func(g Gomega, status *v1alpha1.RayClusterTLSStatus) {
			g.Expect(status.PodCertificate.WorkerSince).NotTo(BeNil())
			g.Expect(status.PodCertificate.WorkerSince.Time).To(BeTemporally(">=", since))
		})
		Eventually(ctx, func(ctx context.Context) chan error {
			calling.watch(ctx)
			return kills
		}).WithTimeout(rolling).WithPolling(time.Second).Should(Receive(BeNil()))
		calling.until(ctx, func(Gomega, *v1alpha1.RayClusterTLSStatus) {})
		lasting.servesPresent(ctx, "lasting")
		calling.restarted(since, 4)
		calling.stop(ctx)
		calling.judge()
		lasting.remove(ctx, "lasting")
	}, SpecTimeout(2*rolling))
}

// change merges something into the spec of the namespace's policy.
func (n *namespace) change(ctx context.Context, spec map[string]any) {
	GinkgoHelper()
	patch, err := json.Marshal(map[string]any{"spec": spec})
	Expect(err).NotTo(HaveOccurred())
	policy := &v1alpha1.RayTLSPolicy{ObjectMeta: metav1.ObjectMeta{Namespace: n.name, Name: "default"}}
	Expect(target.API.Patch(ctx, policy, client.RawPatch(types.MergePatchType, patch))).To(Succeed())
}

// until waits, with the drivers calling, until every pod of the cluster is Ready and has a certificate of today, so does the head on
// the wire, and what else is to hold does.
func (l *load) until(ctx context.Context, holds func(Gomega, *v1alpha1.RayClusterTLSStatus)) {
	GinkgoHelper()
	Eventually(ctx, func(g Gomega, ctx context.Context) {
		l.watch(ctx)
		status := l.n.status(ctx, g, l.cluster)
		g.Expect(status.Rollout).To(BeNil())
		g.Expect(status.PendingRestart).To(BeNil())
		isTrue(g, status, v1alpha1.ConditionUpToDate)
		g.Expect(status.Pods.Certified).To(Equal(status.Pods.Total))
		g.Expect(status.Pods.Outdated).To(BeZero())
		g.Expect(status.ObservedOnWire.Head).To(Equal(v1alpha1.WireTLS))
		g.Expect(status.ObservedOnWire.AuthorityGeneration).To(Equal(status.Authority.Generation))
		head := l.n.head(ctx, l.cluster)
		g.Expect(status.ObservedOnWire.PodUID).To(Equal(string(head.UID)))
		for _, pod := range append(l.n.workers(ctx, l.cluster), *head) {
			g.Expect(isReady(&pod)).To(BeTrue(), "%s is not Ready", pod.Name)
		}
		holds(g, status)
	}).WithTimeout(rolling).WithPolling(time.Second).Should(Succeed())
}

// servesPresent asserts that every pod of the cluster serves a certificate of the present issuer on each port of Ray's core.
func (n *namespace) servesPresent(ctx context.Context, cluster string) {
	GinkgoHelper()
	secret := &corev1.Secret{}
	Expect(target.API.Get(ctx, n.key(injection.SecretName(cluster)), secret)).To(Succeed())
	issuer, err := pki.ParseBundle(secret.Data["issuer.crt"])
	Expect(err).NotTo(HaveOccurred())
	pods, err := n.find(ctx, cluster, "")
	Expect(err).NotTo(HaveOccurred())
	for i := range pods {
		for _, certificate := range n.served(ctx, &pods[i]) {
			Expect(certificate.CheckSignatureFrom(issuer[0])).To(Succeed(), "a certificate that %s serves", pods[i].Name)
		}
	}
}

// killOperator kills all pods of the controller so many times, at random, from the minute on in which a roll begins.
func killOperator(ctx context.Context, times int, random *rand.Rand) error {
	wait := 6*time.Minute + 30*time.Second
	for range times {
		select {
		case <-ctx.Done():
			return ctx.Err()
		case <-time.After(wait):
		}
		err := target.API.DeleteAllOf(ctx, &corev1.Pod{}, client.InNamespace(live.OperatorNamespace),
			client.MatchingLabels{"app.kubernetes.io/component": "controller"}, client.GracePeriodSeconds(0))
		if err != nil {
			return fmt.Errorf("killing the operator: %w", err)
		}
		wait = time.Duration(20+random.IntN(40)) * time.Second
	}
	return nil
}
