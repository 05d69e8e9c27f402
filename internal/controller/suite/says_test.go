package suite_test

import (
	. "github.com/onsi/ginkgo/v2"
	. "github.com/onsi/gomega"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	apimeta "k8s.io/apimachinery/pkg/api/meta"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/raytls/raytls/api/v1alpha1"
	"github.com/raytls/raytls/internal/injection"
	"github.com/raytls/raytls/internal/kube"
)

// tls is the cluster's RayClusterTLS; nil if there is none.
func (w *world) tls(cluster string) *v1alpha1.RayClusterTLS {
	GinkgoHelper()
	t := &v1alpha1.RayClusterTLS{}
	err := w.admin.Get(w.ctx, client.ObjectKey{Namespace: w.ns, Name: cluster}, t)
	if apierrors.IsNotFound(err) {
		return nil
	}
	Expect(err).NotTo(HaveOccurred())
	return t
}

// status is that of the cluster's RayClusterTLS; the zero value when there is none.
func (w *world) status(cluster string) v1alpha1.RayClusterTLSStatus {
	GinkgoHelper()
	if t := w.tls(cluster); t != nil {
		return t.Status
	}
	return v1alpha1.RayClusterTLSStatus{}
}

// clusterCondition is one of the cluster's RayClusterTLS; the zero value when there is none.
func (w *world) clusterCondition(cluster, kind string) metav1.Condition {
	GinkgoHelper()
	if c := apimeta.FindStatusCondition(w.status(cluster).Conditions, kind); c != nil {
		return *c
	}
	return metav1.Condition{}
}

// reason is why the cluster is encrypted, or is not.
func (w *world) reason(cluster string) string {
	GinkgoHelper()
	return w.clusterCondition(cluster, v1alpha1.ConditionEncrypted).Reason
}

// blockedBy names what the cluster's restart waits for.
func (w *world) blockedBy(cluster string) string {
	GinkgoHelper()
	if pending := w.status(cluster).PendingRestart; pending != nil {
		return pending.BlockedBy
	}
	return ""
}

func (w *world) condition(policy, kind string) metav1.Condition {
	if c := apimeta.FindStatusCondition(w.getPolicy(policy).Status.Conditions, kind); c != nil {
		return *c
	}
	return metav1.Condition{}
}

// says waits until the RayClusterTLS of a cluster that the policy covers gives that reason and message.
func (w *world) says(policy, cluster, reason string, message ...string) {
	GinkgoHelper()
	w.eventually(func(g Gomega) { w.saying(g, policy, cluster, reason, message...) })
}

func (w *world) saying(g Gomega, policy, cluster, reason string, message ...string) {
	w.current(g, policy, cluster)
	encrypted := w.clusterCondition(cluster, v1alpha1.ConditionEncrypted)
	g.Expect(encrypted.Reason).To(Equal(reason), "message: %s", encrypted.Message)
	for _, part := range message {
		g.Expect(encrypted.Message).To(ContainSubstring(part))
	}
}

// current expects that the RayClusterTLS is about the RayCluster and the policy as they are.
func (w *world) current(g Gomega, policy, cluster string) {
	status := w.status(cluster)
	g.Expect(status.PolicyRef).To(Equal(v1alpha1.PolicyReference{Name: policy, Generation: w.getPolicy(policy).Generation}))
	g.Expect(status.ObservedGeneration).To(Equal(w.get(cluster).GetGeneration()))
}

// readySays waits until the policy's condition Ready is not True for that reason, with that message.
func (w *world) readySays(policy, reason string, message ...string) {
	GinkgoHelper()
	w.eventually(func(g Gomega) {
		condition := w.condition(policy, v1alpha1.ConditionReady)
		g.Expect(condition.Reason).To(Equal(reason), condition.Message)
		g.Expect(condition.Status).To(Equal(metav1.ConditionFalse))
		for _, part := range message {
			g.Expect(condition.Message).To(ContainSubstring(part))
		}
	})
}

// conflicts waits until the policy says that another covers one of its clusters.
func (w *world) conflicts(policy string, message ...string) {
	GinkgoHelper()
	w.readySays(policy, v1alpha1.ReasonPolicyConflict, message...)
	Expect(w.condition(policy, v1alpha1.ConditionStalled).Status).To(Equal(metav1.ConditionTrue))
}

// encrypted waits until the cluster is encrypted for the policy, and checks that it is. A cluster without pods is not called
// encrypted, and its pods will be.
func (w *world) encrypted(policy, cluster string) {
	GinkgoHelper()
	w.eventually(func(g Gomega) {
		w.current(g, policy, cluster)
		condition := w.clusterCondition(cluster, v1alpha1.ConditionEncrypted)
		if len(w.pods(cluster)) > 0 {
			g.Expect(condition.Reason).To(Equal(v1alpha1.ReasonEncrypted), "message: %s", condition.Message)
			g.Expect(condition.Status).To(Equal(metav1.ConditionTrue))
			return
		}
		g.Expect(condition.Reason).To(Or(Equal(v1alpha1.ReasonNoPods), Equal(v1alpha1.ReasonSuspended)), "message: %s", condition.Message)
		g.Expect(condition.Status).To(Equal(metav1.ConditionFalse))
	})
	c := w.get(cluster)
	Expect(injectedTemplates(c)).To(Equal(len(injection.Inspect(c.Object["spec"].(map[string]any), cluster))))
	status := w.status(cluster)
	Expect(status.Injection.Revision).To(BeEquivalentTo(injection.Revision))
	Expect(status.Rollout).To(BeNil())
	Expect(kube.OwnedBy(w.tls(cluster), c.GetUID())).To(BeTrue())
	for _, pod := range w.pods(cluster) {
		Expect(injectedPod(&pod)).To(BeTrue(), "pod %s", pod.Name)
	}
}

// upToDate waits until cluster and policy answer the same to whether the present values are in use.
func (w *world) upToDate(policy, cluster string, status metav1.ConditionStatus, reason string, message ...string) {
	GinkgoHelper()
	w.eventually(func(g Gomega) {
		w.current(g, policy, cluster)
		for _, condition := range []metav1.Condition{w.clusterCondition(cluster, v1alpha1.ConditionUpToDate), w.condition(policy, v1alpha1.ConditionUpToDate)} {
			g.Expect(condition.Status).To(Equal(status), condition.Reason+": "+condition.Message)
			g.Expect(condition.Reason).To(Equal(reason), condition.Message)
			for _, part := range message {
				g.Expect(condition.Message).To(ContainSubstring(part))
			}
		}
	})
}
