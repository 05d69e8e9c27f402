package suite_test

import (
	"context"
	"fmt"
	"net"
	"os"
	"path/filepath"
	"slices"
	"sync"
	"time"

	. "github.com/onsi/ginkgo/v2"
	. "github.com/onsi/gomega"
	admissionregistrationv1 "k8s.io/api/admissionregistration/v1"
	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/types"
	"sigs.k8s.io/controller-runtime/pkg/client"
	sigsyaml "sigs.k8s.io/yaml"

	"github.com/raytls/raytls/api/v1alpha1"
	"github.com/raytls/raytls/internal/injection"
)

// freeAddress is one that nobody listens on.
func freeAddress() (string, error) {
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return "", err
	}
	return listener.Addr().String(), listener.Close()
}

// configuration is the installed one, as it is in the API server.
func configuration() *admissionregistrationv1.MutatingWebhookConfiguration {
	c := &admissionregistrationv1.MutatingWebhookConfiguration{}
	Expect(env.admin.Get(context.Background(), client.ObjectKey{Name: "raytls"}, c)).To(Succeed())
	return c
}

// installAdmission installs the chart's webhook as it is, but that the API server finds the operator on this machine, and removes
// it in the end.
func installAdmission() {
	GinkgoHelper()
	text, err := os.ReadFile(filepath.Join(root, "charts", "raytls", "files", "webhook.yaml"))
	Expect(err).NotTo(HaveOccurred())
	c := &admissionregistrationv1.MutatingWebhookConfiguration{}
	Expect(sigsyaml.UnmarshalStrict(text, c)).To(Succeed())
	for i := range c.Webhooks {
		to := &c.Webhooks[i].ClientConfig
		url := "https://" + env.webhook + *to.Service.Path
		to.Service, to.URL = nil, &url
	}
	Expect(env.admin.Create(context.Background(), c)).To(Succeed())
	DeferCleanup(func() {
		Expect(env.admin.Delete(context.Background(), c)).To(Succeed())
	})
}

// admitting is a world with a policy, in which admission is active.
func admitting(spec v1alpha1.RayTLSPolicySpec) *world {
	GinkgoHelper()
	w := newWorld()
	w.policy("p", spec)
	w.admitted("p")
	return w
}

func (w *world) admitted(policy string) {
	GinkgoHelper()
	w.eventually(func(g Gomega) {
		g.Expect(w.condition(policy, v1alpha1.ConditionAdmissionActive).Reason).To(Equal(v1alpha1.ReasonAdmissionActive))
	})
}

// bornEncrypted expects that a cluster was stored with everything, and nothing is left to be written to it.
func (w *world) bornEncrypted(name string) *unstructured.Unstructured {
	GinkgoHelper()
	c := w.get(name)
	Expect(injectedTemplates(c)).To(Equal(len(injection.Inspect(c.Object["spec"].(map[string]any), name))))
	Expect(c.GetAnnotations()).NotTo(HaveKey(v1alpha1.AnnotationEdit))
	return c
}

// clusterWrites are the operator's writes to RayClusters.
func (w *world) clusterWrites() []string {
	GinkgoHelper()
	return slices.DeleteFunc(w.writes(), func(s string) bool {
		return !slices.ContainsFunc([]string{"PATCH rayclusters/", "PUT rayclusters/"}, func(prefix string) bool { return len(s) > len(prefix) && s[:len(prefix)] == prefix })
	})
}

var _ = Describe("Admission", Ordered, onEveryKubeRay, func() {
	BeforeAll(installAdmission)

	It("has clusters born with TLS, and writes nothing to them afterwards", func() {
		w := admitting(selecting())
		created := w.create("born")
		w.bornEncrypted("born")
		w.encrypted("p", "born")
		w.eventually(func(g Gomega) { g.Expect(w.provisioned("born")).To(BeTrue()) })
		w.encrypted("p", "born")
		Expect(w.clusterWrites()).To(BeEmpty())
		Expect(w.deleted()).To(BeEmpty(), "each pod starts once")
		Expect(w.get("born").GetGeneration()).To(Equal(created.GetGeneration()))
		w.quiet()
	})

	It("reaches the namespaces with a policy or an injected cluster, and no other", func() {
		selector := func() []string {
			r := configuration().Webhooks[0].NamespaceSelector.MatchExpressions
			Expect(r).To(HaveLen(1))
			return append([]string{string(r[0].Operator)}, r[0].Values...)
		}
		w, other := admitting(selecting()), newWorld()
		Expect(selector()).To(And(ContainElement(w.ns), Not(ContainElement(other.ns))))
		other.create("plain")
		Expect(injectedTemplates(other.get("plain"))).To(BeZero())
		w.create("kept")
		w.encrypted("p", "kept")
		w.deletePolicy("p")
		w.eventually(func(g Gomega) { w.policyGone(g, "p") })
		w.settle()
		Expect(selector()).To(ContainElement(w.ns), "the injection of what is kept is carried forward")
		w.update("kept", groups(workerGroup("small", 2, image), workerGroup("new", 1, image)))
		Expect(injectedTemplates(w.get("kept"))).To(Equal(3))
		Expect(env.admin.Delete(w.ctx, w.get("kept"))).To(Succeed())
		w.eventually(func(g Gomega) { g.Expect(selector()).NotTo(ContainElement(w.ns)) })
		Expect(selector()).To(Or(Equal([]string{"DoesNotExist"}), HaveLen(2), HaveLen(3)), "an empty In is invalid")
	})

	It("carries the injection through whatever others write", func() {
		w := admitting(selecting())
		plain := w.rayCluster("c")
		w.create("c")
		w.encrypted("p", "c")
		before := w.get("c")
		w.mark()
		for what, write := range map[string]func(){
			"a tool that replaces the whole spec": func() {
				w.update("c", func(c *unstructured.Unstructured) { c.Object["spec"] = plain.DeepCopy().Object["spec"] })
			},
			"a merge patch of the worker groups": func() {
				body := `{"spec":{"workerGroupSpecs":[{"groupName":"small","replicas":2,"minReplicas":0,"maxReplicas":10,"rayStartParams":{},"template":{"spec":{"containers":[{"name":"ray-worker","image":"rayproject/ray:2.52.0"}]}}}]}}`
				Expect(w.admin.Patch(w.ctx, w.get("c"), client.RawPatch(types.MergePatchType, []byte(body)))).To(Succeed())
			},
			"a forced server-side apply": func() {
				o := plain.DeepCopy()
				Expect(w.admin.Apply(w.ctx, client.ApplyConfigurationFromUnstructured(o), client.ForceOwnership, client.FieldOwner("some-tool"))).To(Succeed())
			},
		} {
			write()
			after := w.get("c")
			same(Default, before, after)
			Expect(after.GetGeneration()).To(Equal(before.GetGeneration()), what)
		}
		w.settle()
		Expect(w.clusterWrites()).To(BeEmpty())

		w.update("c", groups(workerGroup("small", 5, image)))
		Expect(injectedTemplates(w.get("c"))).To(Equal(2), "replicas change, and a plain template is injected")
		w.update("c", groups(workerGroup("small", 5, "other:1"), workerGroup("more", 1, image)))
		Expect(injectedTemplates(w.get("c"))).To(Equal(3))
		w.encrypted("p", "c")
		Expect(w.status("c").Injection.Groups).To(ConsistOf("small", "more"))
		Expect(w.clusterWrites()).To(BeEmpty())
	})

	It("does not convert a running plaintext cluster by half", func() {
		w := newWorld()
		w.run("c")
		w.policy("p", selecting())
		w.admitted("p")
		w.says("p", "c", v1alpha1.ReasonAwaitingApproval)
		before, pods := w.get("c"), uids(w.pods("c"))
		w.update("c", groups(workerGroup("small", 2, image), workerGroup("new", 1, image)))
		Expect(injectedTemplates(w.get("c"))).To(BeZero())
		injected, err := injection.Apply(w.get("c").Object["spec"].(map[string]any), injection.Options{ClusterName: "c"}, injection.All())
		Expect(err).NotTo(HaveOccurred())
		w.update("c", func(c *unstructured.Unstructured) { c.Object["spec"] = injected })
		Expect(injectedTemplates(w.get("c"))).To(BeZero())
		w.update("c", groups(workerGroup("small", 2, image)))
		w.update("c", annotation(v1alpha1.AnnotationEdit, injection.Edit{Scope: injection.All()}.String()))
		same(Default, before, w.get("c"))
		w.untouched(w.get("c"), pods)
	})

	It("enables and disables a running cluster by orders, so that the templates stay with whoever applies them", func() {
		w := newWorld()
		applied := func() {
			GinkgoHelper()
			o := w.rayCluster("c")
			Expect(w.admin.Apply(w.ctx, client.ApplyConfigurationFromUnstructured(o), client.FieldOwner("some-tool"))).To(Succeed())
		}
		applied()
		w.eventually(func(g Gomega) { g.Expect(w.provisioned("c")).To(BeTrue()) })
		plain := w.get("c")
		w.policy("p", targeting("c", immediately, disabling))
		w.encrypted("p", "c")
		before := w.get("c")
		for _, entry := range before.GetManagedFields() {
			if entry.Manager == v1alpha1.ManagedBy {
				Expect(entry.FieldsV1.GetRawString()).NotTo(ContainSubstring("f:spec"))
			}
		}
		applied() // without force
		same(Default, before, w.get("c"))
		Expect(w.get("c").GetGeneration()).To(Equal(before.GetGeneration()))
		w.deletePolicy("p")
		w.eventually(func(g Gomega) {
			w.policyGone(g, "p")
			same(g, plain, w.get("c"))
		})
		applied()
		same(Default, plain, w.get("c"))
	})

	It("keeps fields that it does not know, also in list elements", func() {
		if !newestKubeRay() {
			Skip("this CRD prunes what it does not know")
		}
		w := admitting(targeting("c", immediately, disabling))
		future := func(c *unstructured.Unstructured) {
			spec := c.Object["spec"].(map[string]any)
			spec["fromTheFuture"] = map[string]any{"list": []any{map[string]any{"kept": true}}}
			group := spec["workerGroupSpecs"].([]any)[0].(map[string]any)
			group["fromTheFuture"], group["numOfHosts"] = "kept", int64(1) // the CRD has a default
			container := group["template"].(map[string]any)["spec"].(map[string]any)["containers"].([]any)[0].(map[string]any)
			container["fromTheFuture"] = []any{int64(1), "kept"}
		}
		asked := w.rayCluster("c", future)
		w.create("c", future)
		w.encrypted("p", "c")
		w.update("c", future, set("2.53.0", "spec", "rayVersion"))
		w.encrypted("p", "c")
		w.deletePolicy("p")
		w.eventually(func(g Gomega) { w.policyGone(g, "p") })
		Expect(unstructured.SetNestedField(asked.Object, "2.53.0", "spec", "rayVersion")).To(Succeed())
		Expect(w.get("c").Object["spec"]).To(Equal(asked.Object["spec"]))
	})

	It("lets pass what a user writes beside, however much", func() {
		// Two updates with 20,000 annotations. A match condition with a loop over them would show in the printed times.
		updates := func(w *world) time.Duration {
			c := w.get("c")
			many := map[string]string{}
			for n := range 20000 {
				many[fmt.Sprint("k", n)] = "v"
			}
			c.SetAnnotations(many)
			began := time.Now()
			Expect(w.admin.Update(w.ctx, c)).To(Succeed())
			c.SetLabels(map[string]string{"a": "b"})
			Expect(w.admin.Update(w.ctx, c)).To(Succeed())
			return time.Since(began)
		}
		w, other := admitting(selecting()), newWorld()
		w.create("c")
		w.encrypted("p", "c")
		other.create("c")
		without, with := updates(other), updates(w)
		_, _ = fmt.Fprintf(GinkgoWriter, "measured: two updates with 20,000 annotations take %s, and %s without admission\n", with, without)
	})

	It("is asked about a cluster without a spec too, and lets it pass", func() {
		w := admitting(selecting())
		empty := &unstructured.Unstructured{Object: map[string]any{"metadata": map[string]any{"name": "empty", "namespace": w.ns}}}
		empty.SetGroupVersionKind(w.rayCluster("x").GroupVersionKind())
		Expect(w.admin.Create(w.ctx, empty)).To(Succeed())
		empty.SetLabels(map[string]string{"a": "b"})
		Expect(w.admin.Update(w.ctx, empty)).To(Succeed())
		Expect(w.admin.Delete(w.ctx, empty)).To(Succeed())
	})

	It("carries an order out that was stored and not heard", func() {
		w := newWorld()
		w.run("c", annotation(v1alpha1.AnnotationEdit, injection.Edit{Scope: injection.All(), Revision: 1}.String()))
		w.policy("p", targeting("c", immediately))
		w.encrypted("p", "c")
		Expect(w.get("c").GetAnnotations()).NotTo(HaveKey(v1alpha1.AnnotationEdit))
	})

	It("names what is to be named, in a dry run too", func() {
		w := admitting(selecting())
		c := w.rayCluster("")
		c.SetGenerateName("gen-")
		dry := c.DeepCopy()
		Expect(w.admin.Create(w.ctx, dry, client.DryRunAll)).To(Succeed())
		Expect(w.admin.Create(w.ctx, c)).To(Succeed())
		Expect(c.GetName()).To(HavePrefix("gen-"))
		Expect(dry.GetName()).To(HavePrefix("gen-"))
		w.bornEncrypted(c.GetName())
		w.encrypted("p", c.GetName())
	})

	It("refuses a change that cannot be carried, and a policy that makes no sense", func() {
		w := admitting(selecting())
		w.create("c")
		w.encrypted("p", "c")
		c := w.get("c")
		inHead(func(container map[string]any) {
			container["env"] = append(container["env"].([]any), map[string]any{"name": "RAY_USE_TLS", "value": "0"})
		})(c)
		err := w.admin.Update(w.ctx, c)
		Expect(apierrors.IsForbidden(err) || apierrors.IsInvalid(err)).To(BeTrue(), "%v", err)
		bad := w.newPolicy("bad", selecting(func(s *v1alpha1.RayTLSPolicySpec) { s.Issuance.InitContainer.Image = "elsewhere/openssl:1" }))
		err = w.admin.Create(w.ctx, bad)
		Expect(err).To(MatchError(ContainSubstring("elsewhere/openssl:1 is not among the images that the operator's administrator allows")))
	})

	for _, order := range []string{"aaa-queue", "zzz-queue"} {
		It("goes with a queue whose webhook suspends clusters, named "+order, func() {
			webhook := startQueue(order)
			w := admitting(selecting())
			w.create("c", queue())
			Expect(webhook.asked()).To(BeNumerically(">", 0))
			c := w.bornEncrypted("c")
			Expect(c.Object["spec"].(map[string]any)["suspend"]).To(BeTrue())
			w.encrypted("p", "c")
			By("the queue starting it, with a node selector")
			w.update("c", set(false, "spec", "suspend"), set("gpu", "spec", "headGroupSpec", "template", "spec", "nodeSelector", "pool"))
			w.eventually(func(g Gomega) { g.Expect(w.provisioned("c")).To(BeTrue()) })
			w.encrypted("p", "c")
			Expect(w.deleted()).To(BeEmpty())
		})
	}
})

var _ = Describe("Admission that comes and goes", Ordered, func() {
	It("is said by the policy, and the operator patches templates itself meanwhile", func() {
		w := newWorld()
		w.policy("p", selecting())
		w.eventually(func(g Gomega) {
			g.Expect(w.condition("p", v1alpha1.ConditionAdmissionActive).Reason).To(Equal(v1alpha1.ReasonAdmissionNotInstalled))
		})
		w.create("before")
		w.encrypted("p", "before")
		installAdmission()
		w.admitted("p")
		w.create("during")
		w.bornEncrypted("during")
	})

	It("is said not to be relied on where the webhook is not as shipped", func() {
		installAdmission()
		w := admitting(selecting())
		patch := func(value string) {
			GinkgoHelper()
			body := `[{"op":"replace","path":"/webhooks/0/failurePolicy","value":"` + value + `"}]`
			Expect(env.admin.Patch(w.ctx, configuration(), client.RawPatch(types.JSONPatchType, []byte(body)))).To(Succeed())
		}
		patch("Ignore")
		w.eventually(func(g Gomega) {
			condition := w.condition("p", v1alpha1.ConditionAdmissionActive)
			g.Expect(condition.Reason).To(Equal(v1alpha1.ReasonAdmissionNarrowed))
			g.Expect(condition.Message).To(ContainSubstring("failurePolicy"))
		})
		patch("Fail")
		w.admitted("p")
	})

	It("trusts another authority when its Secret is altered", func() {
		// The next configuration does not name the old authority, under which the webhook serves for some seconds.
		DeferCleanup(restartAdmission)
		installAdmission()
		w := admitting(selecting())
		before := configuration().Webhooks[0].ClientConfig.CABundle
		secret := &corev1.Secret{ObjectMeta: metav1.ObjectMeta{Namespace: operatorNamespace, Name: "raytls-webhook-ca"}}
		Expect(env.admin.Patch(w.ctx, secret, client.RawPatch(types.MergePatchType, []byte(`{"data":{"tls.key":null}}`)))).To(Succeed())
		w.eventually(func(g Gomega) {
			bundle := string(configuration().Webhooks[0].ClientConfig.CABundle)
			g.Expect(bundle).NotTo(Equal(string(before)))
			g.Expect(bundle).To(ContainSubstring(string(before[:500])), "pods serve under the old one for a moment")
		})
		w.admitted("p")
		w.create("during")
		w.bornEncrypted("during")
	})

	It("refuses to create clusters while it is down, with a reason, and only where there is a policy", func() {
		installAdmission()
		w, other := admitting(selecting()), newWorld()
		w.create("c")
		w.encrypted("p", "c")
		operator.kill()
		err := w.admin.Create(w.ctx, w.rayCluster("refused"))
		Expect(err).To(MatchError(And(
			ContainSubstring("rayclusters-in-namespaces-with-a-raytlspolicy.raytls.io"),
			ContainSubstring("refused-while-the-raytls-operator-is-down/see-its-pods"))))
		other.create("elsewhere")
		w.update("c", set(true, "spec", "suspend"), groupsReplicas(3))
		w.update("c", set(false, "spec", "suspend"))
		w.ray.step(w.ctx) // KubeRay's status is not the webhook's business
		c := w.get("c")
		c.SetLabels(map[string]string{"a": "b"})
		c.SetFinalizers([]string{"ray.io/gcs-ft-redis-cleanup-finalizer"})
		Expect(w.admin.Update(w.ctx, c)).To(Succeed(), "what leaves spec and record alone passes")
		c.SetFinalizers(nil)
		Expect(w.admin.Update(w.ctx, c)).To(Succeed())
		w.policy("later", targeting("nobody", immediately)) // policies can be written
		Expect(env.admin.Delete(w.ctx, w.get("c"))).To(Succeed())
		restartAdmission()
		w.create("accepted")
		w.bornEncrypted("accepted")
	})

	It("loses no cluster while the operator is restarted and its authority is replaced", func() {
		installAdmission()
		w := admitting(selecting())
		w.ray.frozen = true
		const clusters = 100
		first := configuration().Webhooks[0].ClientConfig.CABundle
		secret := &corev1.Secret{ObjectMeta: metav1.ObjectMeta{Namespace: operatorNamespace, Name: "raytls-webhook-ca"}}
		var wait sync.WaitGroup
		var mu sync.Mutex
		refused := 0
		for worker := range 4 {
			wait.Go(func() {
				defer GinkgoRecover()
				for n := worker; n < clusters; n += 4 {
					name := fmt.Sprintf("c-%03d", n)
					Eventually(func() error {
						err := w.admin.Create(w.ctx, w.rayCluster(name))
						if err != nil {
							mu.Lock()
							refused++
							mu.Unlock()
						}
						return err
					}).WithPolling(200 * time.Millisecond).Should(Succeed())
					c := w.get(name)
					Expect(injectedTemplates(c)).To(Equal(2), name)
					time.Sleep(300 * time.Millisecond)
				}
			})
		}
		ended := make(chan struct{})
		go func() {
			wait.Wait()
			close(ended)
		}()
		restarts := 0
		for running := true; running; {
			select {
			case <-ended:
				running = false
			case <-time.After(2 * time.Second):
				Expect(client.IgnoreNotFound(env.admin.Delete(w.ctx, secret))).To(Succeed())
				restartAdmission()
				restarts++
			}
		}
		_, _ = fmt.Fprintf(GinkgoWriter, "measured: %d clusters created during %d restarts, %d refusals retried\n", clusters, restarts, refused)
		var list unstructured.UnstructuredList
		list.SetGroupVersionKind(w.rayCluster("x").GroupVersionKind())
		Expect(w.admin.List(w.ctx, &list, client.InNamespace(w.ns))).To(Succeed())
		Expect(list.Items).To(HaveLen(clusters))
		for i := range list.Items {
			Expect(injectedTemplates(&list.Items[i])).To(Equal(2))
		}
		Expect(string(configuration().Webhooks[0].ClientConfig.CABundle)).NotTo(Equal(string(first)), "the authority is another")
	})
})

// restartAdmission restarts the operator and waits until it answers admission requests.
func restartAdmission() {
	GinkgoHelper()
	restartOperator()
	Eventually(operator.works).Should(BeTrue())
}

// groupsReplicas scales all worker groups, as the autoscaler does.
func groupsReplicas(n int64) edit {
	return func(c *unstructured.Unstructured) {
		list, _, err := unstructured.NestedSlice(c.Object, "spec", "workerGroupSpecs")
		Expect(err).NotTo(HaveOccurred())
		for _, group := range list {
			group.(map[string]any)["replicas"] = n
		}
		set(list, "spec", "workerGroupSpecs")(c)
	}
}
