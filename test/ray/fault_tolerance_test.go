//go:build ray

package ray

import (
	"context"
	"os"
	"strings"
	"time"

	. "github.com/onsi/ginkgo/v2"
	. "github.com/onsi/gomega"
	rayv1 "github.com/ray-project/kuberay/ray-operator/apis/ray/v1"
	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
)

// faultTolerant keeps the state of the GCS in the namespace's Redis.
func faultTolerant(c *rayv1.RayCluster) {
	c.Spec.GcsFaultToleranceOptions = &rayv1.GcsFaultToleranceOptions{RedisAddress: "redis:6379"}
}

// redis starts a Redis and its Service.
func (n *namespace) redis(ctx context.Context) *corev1.Pod {
	GinkgoHelper()
	if redisImage == "" {
		if filter := GinkgoLabelFilter(); os.Getenv("CI") != "" || strings.Contains(filter, lifeLabel) || strings.Contains(filter, daysLabel) {
			Fail("REDIS_IMAGE must name an image: who asks for these specs must not get none of them")
		}
		Skip("REDIS_IMAGE names no image")
	}
	// Ray speaks to Redis without TLS.
	labels := map[string]string{"app": "redis", outsiderLabel: "redis"}
	pod := &corev1.Pod{
		ObjectMeta: metav1.ObjectMeta{Name: "redis", Labels: labels},
		Spec: corev1.PodSpec{
			TerminationGracePeriodSeconds: new(int64(0)),
			Containers: []corev1.Container{{
				Name: "redis", Image: redisImage, Command: []string{"redis-server", "--protected-mode", "no", "--save", "", "--dir", "/tmp"},
			}},
		},
	}
	n.create(ctx, pod)
	n.create(ctx, &corev1.Service{
		ObjectMeta: metav1.ObjectMeta{Name: "redis"},
		Spec:       corev1.ServiceSpec{Selector: labels, Ports: []corev1.ServicePort{{Port: 6379}}},
	})
	Eventually(ctx, func(g Gomega, ctx context.Context) {
		found := &corev1.Pod{}
		g.Expect(target.API.Get(ctx, n.key("redis"), found)).To(Succeed())
		g.Expect(isReady(found)).To(BeTrue())
	}).Should(Succeed())
	return pod
}

// faultSpecs end the head of a cluster with GCS fault tolerance in each way.
func faultSpecs(seen *census) {
	It("keeps its state over the end of the GCS and of the head", Label("ci"), func(ctx SpecContext) {
		n := newTLSNamespace(ctx)
		redis := n.redis(ctx)
		n.create(ctx, newCluster("lasting", faultTolerant, workers("small", 1, 1)))
		n.encrypted(ctx, "lasting", 2)
		seen.count(ctx)
		actor := func() (name string) {
			GinkgoHelper()
			Eventually(ctx, func(g Gomega, ctx context.Context) {
				ctx, cancel := context.WithTimeout(ctx, time.Minute)
				defer cancel()
				ended, err := n.python(ctx, n.head(ctx, "lasting"), "lasting.py")
				g.Expect(err).NotTo(HaveOccurred())
				g.Expect(ended.Code).To(BeZero(), ended.Output())
				_, said, found := strings.Cut(ended.Stdout, "lasting actor: ")
				g.Expect(found).To(BeTrue(), ended.Output())
				name, _, _ = strings.Cut(said, "\n")
			}).Should(Succeed())
			return name
		}
		first := actor()

		By("killing the GCS, upon which the container is started again")
		old := n.head(ctx, "lasting")
		n.passes(ctx, old, "kill_gcs.py")
		Eventually(ctx, func(g Gomega, ctx context.Context) {
			head := n.head(ctx, "lasting")
			g.Expect(head.UID).To(Equal(old.UID))
			g.Expect(head.Status.ContainerStatuses[0].RestartCount).To(BeNumerically(">", 0))
			g.Expect(isReady(head)).To(BeTrue())
		}).Should(Succeed())
		Expect(actor()).To(Equal(first), "the actor must not be made anew")

		By("deleting the head's pod, upon which a new one gets a certificate of its own")
		Expect(target.API.Delete(ctx, old)).To(Succeed())
		Eventually(ctx, func(g Gomega, ctx context.Context) {
			heads, err := n.find(ctx, "lasting", "head")
			g.Expect(err).NotTo(HaveOccurred())
			g.Expect(heads).To(HaveLen(1))
			g.Expect(heads[0].UID).NotTo(Equal(old.UID))
			g.Expect(isReady(&heads[0])).To(BeTrue())
		}).Should(Succeed())
		Expect(actor()).To(Equal(first), "the actor must not be made anew")
		n.encrypted(ctx, "lasting", 2)
		seen.count(ctx)

		By("deleting the cluster, upon which KubeRay's job empties Redis")
		keys := func(ctx context.Context) (string, error) {
			ended, err := n.sh(ctx, redis, "redis-cli dbsize")
			return strings.TrimSpace(ended.Stdout), err
		}
		Expect(keys(ctx)).NotTo(Equal("0"))
		Expect(target.API.Delete(ctx, &rayv1.RayCluster{ObjectMeta: metav1.ObjectMeta{Namespace: n.name, Name: "lasting"}})).To(Succeed())
		Eventually(ctx, func(ctx context.Context) bool {
			return apierrors.IsNotFound(target.API.Get(ctx, n.key("lasting"), &rayv1.RayCluster{}))
		}).Should(BeTrue())
		Expect(keys(ctx)).To(Equal("0"))
	}, SpecTimeout(8*time.Minute))
}

// autoscalerSpecs have Ray's autoscaler add workers, and remove them when they are idle.
func autoscalerSpecs(seen *census) {
	scales := func(version rayv1.AutoscalerVersion) func(ctx SpecContext) {
		return func(ctx SpecContext) {
			n := newTLSNamespace(ctx)
			n.create(ctx, newCluster("scaled", workers("small", 0, 2), func(c *rayv1.RayCluster) {
				c.Spec.EnableInTreeAutoscaling = new(true)
				c.Spec.AutoscalerOptions = &rayv1.AutoscalerOptions{Version: &version, IdleTimeoutSeconds: new(int32(5))}
			}))
			n.encrypted(ctx, "scaled", 1)
			for range 2 {
				n.passes(ctx, n.head(ctx, "scaled"), "pending.py", "2")
				Eventually(ctx, func(ctx context.Context) []corev1.Pod {
					seen.count(ctx)
					return n.workers(ctx, "scaled")
				}).Should(BeEmpty())
			}
			n.encrypted(ctx, "scaled", 1)
			n.remove(ctx, "scaled")
		}
	}
	It("scales up and down twice with the autoscaler's version 2", Label("ci"), scales(rayv1.AutoscalerVersionV2), SpecTimeout(8*time.Minute))
	It("scales up and down twice with the autoscaler's version 1", scales(rayv1.AutoscalerVersionV1), SpecTimeout(8*time.Minute))
}
