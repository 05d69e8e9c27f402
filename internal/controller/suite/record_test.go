package suite_test

import (
	. "github.com/onsi/ginkgo/v2"
	. "github.com/onsi/gomega"
	rbacv1 "k8s.io/api/rbac/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/client-go/rest"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/raytls/raytls/api/v1alpha1"
)

var _ = Describe("A RayClusterTLS", func() {
	var w *world
	BeforeEach(func() { w = newWorld() })

	It("that is lost is rebuilt without a restart", onEveryKubeRay, func() {
		w.policy("p", selecting())
		w.start("p", "a")
		before, lost, pods := w.get("a"), w.tls("a"), uids(w.pods("a"))
		w.mark()
		Expect(w.admin.Delete(w.ctx, lost)).To(Succeed())
		w.eventually(func(g Gomega) {
			now := w.tls("a")
			g.Expect(now).NotTo(BeNil())
			g.Expect(now.UID).NotTo(Equal(lost.UID))
			w.saying(g, "p", "a", v1alpha1.ReasonEncrypted)
		})
		w.encrypted("p", "a")
		w.settle()
		now := w.status("a")
		Expect(now.Injection.Revision).To(Equal(lost.Status.Injection.Revision))
		Expect(now.Injection.Groups).To(Equal(lost.Status.Injection.Groups))
		Expect(now.Authority).To(Equal(lost.Status.Authority))
		Expect(now.Issuer).To(Equal(lost.Status.Issuer))
		Expect(now.Pods).To(Equal(lost.Status.Pods))
		Expect(now.EarliestExpiryTime).To(Equal(lost.Status.EarliestExpiryTime))
		same(Default, before, w.get("a"))
		Expect(uids(w.pods("a"))).To(Equal(pods))
		Expect(w.clusterWrites()).To(BeEmpty())
		Expect(w.deleted()).To(BeEmpty())
	})

	It("goes with its RayCluster, and a cluster created again under the name gets its own", func() {
		w.policy("p", selecting())
		w.start("p", "a")
		cluster, old := w.get("a"), w.tls("a")
		Expect(old.OwnerReferences).To(Equal([]metav1.OwnerReference{
			{APIVersion: "ray.io/v1", Kind: "RayCluster", Name: "a", UID: cluster.GetUID()},
		}), "the garbage collector deletes it, and it holds nobody up")
		operator.kill() // so that the new cluster comes first
		w.ray.deleteCluster(w.ctx, cluster)
		w.ray.frozen = true
		w.create("a")
		restartOperator()
		w.encrypted("p", "a")
		Expect(w.tls("a").UID).NotTo(Equal(old.UID))
		w.ray.deleteCluster(w.ctx, w.get("a"))
		w.eventually(func(g Gomega) {
			g.Expect(w.tls("a")).To(BeNil())
			g.Expect(w.getPolicy("p").Status.Clusters).To(BeZero())
		})
	})

	It("is read by whoever may view the namespace, and written by nobody but the operator", func() {
		w.policy("p", selecting())
		w.create("a", set(true, "spec", "suspend"))
		w.encrypted("p", "a")
		for _, role := range []string{"edit", "admin", "raytls-view", "raytls-edit"} {
			binding := &rbacv1.RoleBinding{
				ObjectMeta: metav1.ObjectMeta{Namespace: w.ns, Name: role}, RoleRef: rbacv1.RoleRef{APIGroup: rbacv1.GroupName, Kind: "ClusterRole", Name: role},
				Subjects: []rbacv1.Subject{{APIGroup: rbacv1.GroupName, Kind: rbacv1.UserKind, Name: "tenant"}},
			}
			Expect(w.admin.Create(w.ctx, binding)).To(Succeed())
		}
		config := rest.CopyConfig(env.server.Config)
		config.Impersonate = rest.ImpersonationConfig{UserName: "tenant", Groups: []string{"system:authenticated"}}
		tenant, err := client.New(config, client.Options{Scheme: w.admin.Scheme()})
		Expect(err).NotTo(HaveOccurred())
		Eventually(func() error { return tenant.Create(w.ctx, w.newPolicy("mine", targeting("b"))) }).Should(Succeed(), "policies are the tenant's to write")

		tls := &v1alpha1.RayClusterTLS{}
		Expect(tenant.Get(w.ctx, client.ObjectKey{Namespace: w.ns, Name: "a"}, tls)).To(Succeed())
		before := tls.DeepCopy()
		patch := client.RawPatch(types.MergePatchType, []byte(`{"status":{"injection":null}}`))
		for what, write := range map[string]func() error{
			"create": func() error {
				return tenant.Create(w.ctx, &v1alpha1.RayClusterTLS{ObjectMeta: metav1.ObjectMeta{Namespace: w.ns, Name: "b"}})
			},
			"update":            func() error { return tenant.Update(w.ctx, tls.DeepCopy()) },
			"patch":             func() error { return tenant.Patch(w.ctx, tls.DeepCopy(), patch) },
			"update the status": func() error { return tenant.Status().Update(w.ctx, tls.DeepCopy()) },
			"patch the status":  func() error { return tenant.Status().Patch(w.ctx, tls.DeepCopy(), patch) },
			"delete":            func() error { return tenant.Delete(w.ctx, tls.DeepCopy()) },
			"delete all":        func() error { return tenant.DeleteAllOf(w.ctx, &v1alpha1.RayClusterTLS{}, client.InNamespace(w.ns)) },
		} {
			err := write()
			Expect(apierrors.IsForbidden(err)).To(BeTrue(), "%s: %v", what, err)
		}
		Expect(w.tls("a")).To(Equal(before))
	})

	DescribeTable("of before costs no restart when a backup brings it back", func(inTheMiddle bool) {
		w.run("a")
		w.ray.certificate = canaryHangs
		w.policy("p", selecting())
		w.says("p", "a", v1alpha1.ReasonAwaitingApproval)
		old := w.status("a")
		w.approve("p", "a")
		if inTheMiddle {
			w.eventually(func(g Gomega) {
				g.Expect(w.status("a").Rollout).NotTo(BeNil())
				g.Expect(w.deleted()).To(HaveLen(1))
				g.Expect(w.status("a").Pods.Plaintext).To(BeEquivalentTo(2), "the canary is there, and waits")
			})
			old = w.status("a")
		}
		w.ray.certificate = nil
		w.encrypted("p", "a")
		w.settle()
		before, pods := w.get("a"), uids(w.pods("a"))
		w.mark()
		Eventually(func(g Gomega) {
			tls := w.tls("a")
			tls.Status = old
			g.Expect(w.admin.Status().Update(w.ctx, tls)).To(Succeed())
		}).Should(Succeed())
		w.encrypted("p", "a")
		w.settle()
		same(Default, before, w.get("a"))
		Expect(uids(w.pods("a"))).To(Equal(pods))
		Expect(w.deleted()).To(BeEmpty())
		Expect(w.clusterWrites()).To(BeEmpty())
	},
		Entry("from before the cluster was enabled", false),
		Entry("from the middle of enabling", true),
	)

	It("that a policy left behind has no scripts created, where the image holds them", func() {
		w.policy("p", selecting(func(s *v1alpha1.RayTLSPolicySpec) { s.Issuance.InitContainer.ScriptsPath = "/opt/raytls" }))
		w.start("p", "a")
		Expect(gone(w.scripts())).To(BeTrue())
		pods := uids(w.pods("a"))
		w.deletePolicy("p")
		w.eventually(func(g Gomega) {
			w.policyGone(g, "p")
			g.Expect(w.status("a").PolicyRef).To(BeZero())
		})
		secret, err := w.caSecret("a")
		Expect(err).NotTo(HaveOccurred())
		Expect(w.admin.Delete(w.ctx, secret)).To(Succeed()) // has the operator look
		w.eventually(func(g Gomega) { g.Expect(gone(w.caSecret("a"))).To(BeFalse()) })
		w.quiet()
		Expect(gone(w.scripts())).To(BeTrue())
		Expect(uids(w.pods("a"))).To(Equal(pods))
		Expect(w.clusterCondition("a", v1alpha1.ConditionEncrypted).Status).To(Equal(metav1.ConditionTrue), "it stays encrypted")
	})
})

var _ = Describe("A change of the policy that running clusters do not follow", func() {
	var w *world
	BeforeEach(func() {
		w = newWorld()
		w.policy("p", selecting())
		group := workerGroup("small", 2, image)
		pod := group["template"].(map[string]any)["spec"].(map[string]any)
		pod["containers"] = append(pod["containers"].([]any), map[string]any{"name": "sidecar", "image": image})
		w.start("p", "a", groups(group))
		w.upToDate("p", "a", metav1.ConditionTrue, v1alpha1.ReasonUpToDate)
		w.mark()
	})

	It("is reported as not up to date: of the templates, until the cluster was suspended", func() {
		before, pods := w.get("a"), uids(w.pods("a"))
		w.updatePolicy("p", func(p *v1alpha1.RayTLSPolicy) { p.Spec.AdditionalContainers = []string{"sidecar"} })
		w.upToDate("p", "a", metav1.ConditionFalse, v1alpha1.ReasonTemplateChangePending, "additionalContainers")
		w.encrypted("p", "a")
		w.quiet()
		same(Default, before, w.get("a"))
		Expect(uids(w.pods("a"))).To(Equal(pods))
		w.update("a", set(true, "spec", "suspend"))
		w.eventually(func(g Gomega) { g.Expect(w.pods("a")).To(BeEmpty()) })
		w.upToDate("p", "a", metav1.ConditionTrue, v1alpha1.ReasonUpToDate)
		w.eventually(func(g Gomega) {
			ready := w.condition("p", v1alpha1.ConditionReady)
			g.Expect(ready.Status).To(Equal(metav1.ConditionTrue), "a suspended cluster is no obstacle")
			g.Expect(ready.Reason).To(Equal(v1alpha1.ReasonSuspended))
		})
		w.update("a", set(false, "spec", "suspend"))
		w.eventually(func(g Gomega) { g.Expect(w.status("a").Pods.Certified).To(BeEquivalentTo(3)) })
		w.upToDate("p", "a", metav1.ConditionTrue, v1alpha1.ReasonUpToDate)
	})

	It("is reported as not up to date: of the authority", func() {
		before, pods := w.get("a"), uids(w.pods("a"))
		authority, err := w.authority("a")
		Expect(err).NotTo(HaveOccurred())
		w.updatePolicy("p", func(p *v1alpha1.RayTLSPolicy) { p.Spec.CertificateAuthority.KeyAlgorithm = v1alpha1.KeyECDSAP384 })
		w.upToDate("p", "a", metav1.ConditionFalse, v1alpha1.ReasonAuthorityChangePending, "keyAlgorithm")
		w.encrypted("p", "a")
		Expect(w.condition("p", v1alpha1.ConditionStalled).Status).To(Equal(metav1.ConditionFalse))
		w.quiet()
		now, err := w.authority("a")
		Expect(err).NotTo(HaveOccurred())
		Expect(now.Data["authority.crt"]).To(Equal(authority.Data["authority.crt"]))
		same(Default, before, w.get("a"))
		Expect(uids(w.pods("a"))).To(Equal(pods))
		w.updatePolicy("p", func(p *v1alpha1.RayTLSPolicy) { p.Spec.CertificateAuthority.KeyAlgorithm = v1alpha1.KeyECDSAP256 })
		w.upToDate("p", "a", metav1.ConditionTrue, v1alpha1.ReasonUpToDate)
	})

	It("is none of the label that excludes: another value than true is reported and excludes nothing", func() {
		w.update("a", label(v1alpha1.LabelExclude, "yes"))
		w.eventually(func(g Gomega) {
			for _, stalled := range []metav1.Condition{w.clusterCondition("a", v1alpha1.ConditionStalled), w.condition("p", v1alpha1.ConditionStalled)} {
				g.Expect(stalled.Status).To(Equal(metav1.ConditionTrue))
				g.Expect(stalled.Reason).To(Equal(v1alpha1.ReasonInvalidExclude))
				g.Expect(stalled.Message).To(ContainSubstring(`is "yes", which excludes nothing`))
			}
		})
		w.encrypted("p", "a")
	})
})
