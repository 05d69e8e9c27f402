package suite_test

import (
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"time"

	. "github.com/onsi/ginkgo/v2"
	. "github.com/onsi/gomega"
	admissionregistrationv1 "k8s.io/api/admissionregistration/v1"
	corev1 "k8s.io/api/core/v1"
	policyv1 "k8s.io/api/policy/v1"
	apimeta "k8s.io/apimachinery/pkg/api/meta"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/raytls/raytls/api/v1alpha1"
	"github.com/raytls/raytls/internal/kube"
)

// evicted are the pods that the operator evicted since mark, in order. A pod is named once: asking again for the end of a pod that is
// ending changes nothing.
func (w *world) evicted() []string {
	GinkgoHelper()
	var out []string
	for _, write := range w.writes() {
		if name, found := strings.CutPrefix(write, "POST pods/"); found {
			if name, rest, _ := strings.Cut(name, "/"); rest == "eviction 201" && !slices.Contains(out, name) {
				out = append(out, name)
			}
		}
	}
	return out
}

// changeCertificates changes what the policy asks of certificates, and has the time pass after which pods are restarted for it: the
// operator's clock is as far ahead of the API server's as it may be, so that each pod is restarted once by such a clock too.
func (w *world) changeCertificates(policy, cluster string) {
	GinkgoHelper()
	before := w.status(cluster).PodCertificate.WorkerHash
	Expect(before).NotTo(BeEmpty())
	w.mark()
	w.updatePolicy(policy, func(p *v1alpha1.RayTLSPolicy) { p.Spec.PodCertificate.KeyAlgorithm = v1alpha1.KeyECDSAP384 })
	w.eventually(func(g Gomega) { g.Expect(w.status(cluster).PodCertificate.WorkerHash).NotTo(Equal(before)) })
	Expect(w.status(cluster).PodCertificate.WorkerSince.Time).To(BeTemporally(">", time.Now()), "pods that start now may lack it")
	Expect(w.evicted()).To(BeEmpty())
	DeferCleanup(os.Remove, filepath.Join(env.heads, clockFile))
	Expect(os.WriteFile(filepath.Join(env.heads, clockFile), []byte(kube.ClockTolerance.String()), 0o600)).To(Succeed())
	w.changeCertificatesOf(cluster)
}

// changeCertificatesOf has all pods of the cluster be older than the last change of what the policy asks.
func (w *world) changeCertificatesOf(cluster string) {
	GinkgoHelper()
	Eventually(func(g Gomega) {
		tls := w.tls(cluster)
		since := metav1.Now()
		for _, pod := range w.pods(cluster) {
			g.Expect(since.Time).To(BeTemporally(">", pod.CreationTimestamp.Add(time.Second)))
		}
		tls.Status.PodCertificate.WorkerSince = &since
		g.Expect(w.admin.Status().Update(w.ctx, tls)).To(Succeed())
	}).Should(Succeed())
}

// refuseEvictions has the API server refuse to evict the pods of the cluster a of this namespace.
func (w *world) refuseEvictions(name string) {
	GinkgoHelper()
	fail, deny := admissionregistrationv1.Fail, []admissionregistrationv1.ValidationAction{admissionregistrationv1.Deny}
	policy := &admissionregistrationv1.ValidatingAdmissionPolicy{
		ObjectMeta: metav1.ObjectMeta{Name: w.ns + "-" + name},
		Spec: admissionregistrationv1.ValidatingAdmissionPolicySpec{
			FailurePolicy: &fail,
			MatchConstraints: &admissionregistrationv1.MatchResources{ResourceRules: []admissionregistrationv1.NamedRuleWithOperations{{
				RuleWithOperations: admissionregistrationv1.RuleWithOperations{
					Operations: []admissionregistrationv1.OperationType{admissionregistrationv1.Create},
					Rule:       admissionregistrationv1.Rule{APIGroups: []string{""}, APIVersions: []string{"v1"}, Resources: []string{"pods/eviction"}},
				},
			}}},
			Validations: []admissionregistrationv1.Validation{{
				Expression: fmt.Sprintf("request.namespace != %q || !request.name.startsWith('a-')", w.ns), Message: "not on a weekday",
			}},
		},
	}
	binding := &admissionregistrationv1.ValidatingAdmissionPolicyBinding{
		ObjectMeta: metav1.ObjectMeta{Name: policy.Name},
		Spec:       admissionregistrationv1.ValidatingAdmissionPolicyBindingSpec{PolicyName: policy.Name, ValidationActions: deny},
	}
	for _, object := range []client.Object{policy, binding} {
		Expect(w.admin.Create(w.ctx, object)).To(Succeed())
		DeferCleanup(w.admin.Delete, w.ctx, object)
	}
	probe := &corev1.Pod{ObjectMeta: metav1.ObjectMeta{Namespace: w.ns, Name: "a-probe"}}
	Eventually(func() error {
		return w.admin.SubResource("eviction").Create(w.ctx, probe, &policyv1.Eviction{ObjectMeta: probe.ObjectMeta})
	}).Should(MatchError(ContainSubstring("not on a weekday")))
}

var _ = Describe("Rolling", func() {
	var w *world
	var old []string
	faultTolerant := annotation("ray.io/ft-enabled", "true")
	begin := func(policy v1alpha1.RayTLSPolicySpec) {
		GinkgoHelper()
		w.policy("p", policy)
		w.start("p", "a", faultTolerant)
		w.eventually(func(g Gomega) { g.Expect(w.status("a").Pods.Certified).To(BeEquivalentTo(3)) })
		old = names(w.pods("a"))
	}
	outdated := func(g Gomega, count int) {
		status := w.status("a")
		g.Expect(status.Pods.Outdated).To(BeEquivalentTo(count))
		upToDate := apimeta.FindStatusCondition(status.Conditions, v1alpha1.ConditionUpToDate)
		want := metav1.ConditionTrue
		if count > 0 {
			want = metav1.ConditionFalse
		}
		g.Expect(upToDate.Status).To(Equal(want), upToDate.Message)
	}
	BeforeEach(func() { w = newWorld() })

	It("evicts each pod once, one worker at a time and the head last", func() {
		begin(selecting())
		Expect(w.status("a").RestartBy.Time).To(BeTemporally("~", time.Now().AddDate(1, 0, 0), time.Hour), "it is shown from the first day")
		w.changeCertificates("p", "a")
		w.eventually(func(g Gomega) {
			working := 0
			pods := w.pods("a")
			for i := range pods {
				if pods[i].Labels["ray.io/node-type"] == "worker" && pods[i].DeletionTimestamp == nil {
					working++
				}
			}
			Expect(working).To(BeNumerically(">=", 1), "one of two workers stays")
			g.Expect(w.evicted()).To(HaveLen(3))
			outdated(g, 0)
			g.Expect(w.status("a").Rollout).To(BeNil())
		})
		evicted := w.evicted()
		Expect(evicted).To(ConsistOf(old))
		Expect(evicted[2]).To(ContainSubstring("headgroup"))
		Expect(w.deleted()).To(BeEmpty(), "an eviction is no deletion")
		w.encrypted("p", "a")
		Expect(w.events()).To(ContainElements(HavePrefix("Normal Rolling: 3 pods need new certificates"), ContainSubstring("evicted "+evicted[0]), HavePrefix("Normal Rolled: ")))
		w.quiet()
	})

	It("restarts nothing with OnDelete, and takes what a user deletes for renewed", func() {
		begin(selecting(func(s *v1alpha1.RayTLSPolicySpec) { s.Rollout.Strategy = v1alpha1.StrategyOnDelete }))
		w.changeCertificates("p", "a")
		w.eventually(func(g Gomega) {
			g.Expect(w.status("a").PendingRestart).To(HaveValue(And(HaveField("Reason", v1alpha1.ReasonOnDelete), HaveField("Action", v1alpha1.ActionRoll))))
			outdated(g, 3)
		})
		w.quiet()
		w.encrypted("p", "a")
		Expect(names(w.pods("a"))).To(ConsistOf(old))
		worker := w.pods("a")[0]
		for _, pod := range w.pods("a") {
			if pod.Labels["ray.io/node-type"] == "worker" {
				worker = pod
			}
		}
		Expect(w.admin.Delete(w.ctx, &worker, gracePeriod0)).To(Succeed())
		w.eventually(func(g Gomega) { outdated(g, 2) })
		Expect(w.evicted()).To(BeEmpty())
	})

	It("waits for a PodDisruptionBudget, by its name", func() {
		budget := &policyv1.PodDisruptionBudget{
			ObjectMeta: metav1.ObjectMeta{Namespace: w.ns, Name: "keep"},
			Spec:       policyv1.PodDisruptionBudgetSpec{Selector: &metav1.LabelSelector{MatchLabels: map[string]string{"ray.io/cluster": "a"}}},
		}
		Expect(w.admin.Create(w.ctx, budget)).To(Succeed())
		begin(selecting())
		w.changeCertificates("p", "a")
		w.eventually(func(g Gomega) {
			g.Expect(w.blockedBy("a")).To(Equal("PodDisruptionBudget/keep"))
			g.Expect(w.events()).To(ContainElement(And(HavePrefix("Normal Blocked: "), ContainSubstring("PodDisruptionBudget keep allows no disruption now"))))
		})
		w.quiet()
		Expect(w.evicted()).To(BeEmpty())
		budget.Status = policyv1.PodDisruptionBudgetStatus{ObservedGeneration: budget.Generation, DisruptionsAllowed: 1, ExpectedPods: 3, CurrentHealthy: 3, DesiredHealthy: 2}
		Expect(w.admin.Status().Update(w.ctx, budget)).To(Succeed())
		w.eventually(func(g Gomega) {
			g.Expect(w.evicted()).To(HaveLen(1))
			g.Expect(w.blockedBy("a")).To(Equal("PodDisruptionBudget/keep"), "the eviction has used it up")
			outdated(g, 2)
		})
	})

	It("puts evictions that a policy refuses on record, and lets other clusters have their turn", func() {
		w.refuseEvictions("of-a")
		begin(selecting(func(s *v1alpha1.RayTLSPolicySpec) { s.Rollout.MaxConcurrentClusters = 1 }))
		w.start("p", "b", faultTolerant)
		w.eventually(func(g Gomega) { g.Expect(w.status("b").Pods.Certified).To(BeEquivalentTo(3)) })
		w.changeCertificates("p", "a")
		w.eventually(func(g Gomega) {
			status := w.status("a")
			g.Expect(status.RefusedEvictions).To(HaveLen(3), "the workers and the head are tried")
			g.Expect(status.RefusedEvictions[0].Message).To(ContainSubstring("not on a weekday"))
			g.Expect(status.Rollout).To(BeNil())
			g.Expect(status.PendingRestart).To(HaveValue(And(
				HaveField("Reason", v1alpha1.ReasonBlocked), HaveField("BlockedBy", HavePrefix("Pod/a-")), HaveField("Message", ContainSubstring("not on a weekday")))))
		})
		w.encrypted("p", "a")
		w.changeCertificatesOf("b")
		w.eventually(func(g Gomega) {
			g.Expect(w.evicted()).To(HaveLen(3))
			g.Expect(w.evicted()).To(HaveEach(HavePrefix("b-")))
			g.Expect(w.status("b").Rollout).To(BeNil())
		})
		Expect(names(w.pods("a"))).To(ConsistOf(old))
	})

	It("rolls the workers of a serving cluster in place, and has the RayService replace a head that would lose its state", func() {
		installAdmission()
		w = admitting(forOwner(v1alpha1.TargetRayService, "serve"))
		serving := w.serve("serve")
		w.eventually(func(g Gomega) { g.Expect(w.status(serving).Pods.Certified).To(BeEquivalentTo(3)) })
		w.encrypted("p", serving)
		w.ray.holdTraffic = true
		w.changeCertificates("p", serving)
		w.eventually(func(g Gomega) {
			g.Expect(w.upcoming("serve")).NotTo(BeEmpty())
			g.Expect(w.status(serving).Rollout).To(HaveValue(HaveField("Phase", v1alpha1.PhaseUpgrade)))
		})
		w.says("p", serving, v1alpha1.ReasonEncrypted)
		evicted := w.evicted()
		Expect(evicted).To(HaveLen(2))
		Expect(evicted).NotTo(ContainElement(ContainSubstring("headgroup")))
		w.ray.holdTraffic = false
		next := w.takenOver("serve", serving)
		w.encrypted("p", next)
		w.settle()
		Expect(w.asked()).To(HaveLen(1), "the RayService is asked once")
		Expect(w.status(next).Pods.Outdated).To(BeZero())
	})
})
