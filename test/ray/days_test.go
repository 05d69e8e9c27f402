//go:build ray

package ray

import (
	"context"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"time"

	. "github.com/onsi/ginkgo/v2"
	. "github.com/onsi/gomega"
	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/types"

	"github.com/raytls/raytls/api/v1alpha1"
	"github.com/raytls/raytls/internal/pki"
)

// daysLabel is that of the spec with short days, which runs only where a label filter asks for it.
const daysLabel = "days"

var _ = Describe("The real Ray with days of a minute", Label(daysLabel), func() {
	It("never has a certificate that has ended, and loses no call, for as long as DAYS_DURATION says", func(ctx SpecContext) {
		if !strings.Contains(GinkgoLabelFilter(), daysLabel) {
			Skip("LABELS=" + daysLabel + " runs this spec")
		}
		duration, err := time.ParseDuration(os.Getenv("DAYS_DURATION"))
		Expect(err).NotTo(HaveOccurred(), "DAYS_DURATION must be a duration such as 7h")
		const cluster = "short"
		shortenDays(ctx)
		n := newNamespace(ctx)
		n.encrypt(ctx, func(policy *v1alpha1.RayTLSPolicy) {
			policy.Spec.PodCertificate.ValidityDays, policy.Spec.CertificateAuthority.ValidityDays = 20, 120
		})
		n.redis(ctx)
		n.create(ctx, newCluster(cluster, faultTolerant, workers("small", 3, 3)))
		n.encrypted(ctx, cluster, 4)
		// Leaves live for twice their validity at most, and the authority as long as it is valid.
		const longest, authority = 40 * time.Minute, 2 * time.Hour
		calling, ends := n.load(cluster), map[types.UID]time.Time{}
		Consistently(ctx, func(g Gomega, ctx context.Context) {
			calling.watch(ctx)
			pods, err := n.find(ctx, cluster, "")
			g.Expect(err).NotTo(HaveOccurred())
			for i := range pods {
				pod := &pods[i]
				if _, known := ends[pod.UID]; !known && isReady(pod) {
					ends[pod.UID] = n.ends(ctx, g, pod)
					g.Expect(ends[pod.UID]).To(BeTemporally("<", time.Now().Add(longest+time.Minute)), "the days are short")
				}
				if end, known := ends[pod.UID]; known && pod.DeletionTimestamp == nil {
					g.Expect(time.Now()).To(BeTemporally("<", end), "the certificate of %s has ended", pod.Name)
				}
			}
		}).WithTimeout(duration).WithPolling(time.Second).Should(Succeed())
		status := n.status(ctx, Default, cluster)
		Expect(len(ends)).To(BeNumerically(">=", 4*(1+int(duration/longest))), "pods are created anew")
		Expect(status.Authority.Generation).To(BeNumerically(">=", 1+int64(duration/authority)), "authorities are replaced")
		AddReportEntry("short days", fmt.Sprintf("%d pods in four places, generation %d of the authority", len(ends), status.Authority.Generation))
		calling.stop(ctx)
		calling.judge()
		n.remove(ctx, cluster)
	}, SpecTimeout(12*time.Hour))
})

// ends is when the certificate in a pod's files ends.
func (n *namespace) ends(ctx context.Context, g Gomega, pod *corev1.Pod) time.Time {
	found, err := n.sh(ctx, pod, "cat "+filepath.Join(certificateFiles, "tls.crt"))
	g.Expect(err).NotTo(HaveOccurred())
	chain, err := pki.ParseBundle([]byte(found.Stdout))
	g.Expect(err).NotTo(HaveOccurred(), found.Output())
	return chain[0].NotAfter
}

// shortenDays has the operator take a minute for a day. It takes a day again when the spec ends.
func shortenDays(ctx context.Context) {
	GinkgoHelper()
	Expect(operatorImage).NotTo(BeEmpty(), "IMG must name the operator's image")
	deploy := func(ctx context.Context, values ...string) {
		GinkgoHelper()
		Expect(target.Deploy(ctx, operatorImage, values...)).To(Succeed())
		Eventually(ctx, target.OperatorRuns).Should(Succeed())
	}
	DeferCleanup(func(ctx SpecContext) { deploy(ctx) }, NodeTimeout(2*time.Minute))
	deploy(ctx, "--set=testing.minutesPerDay=1")
}
