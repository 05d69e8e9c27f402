//go:build ray

// Package ray proves with the real Ray what the documentation says of a cluster's traffic. It needs a kubeconfig, a running
// KubeRay, and in RAY_IMAGE an image of Ray that the cluster's nodes can get. IMG names an image of the operator, which the suite
// deploys and removes. Without it the suite uses the operator that is installed, so that several runs can share a cluster.
package ray

import (
	"context"
	"os"
	"regexp"
	"testing"
	"time"

	. "github.com/onsi/ginkgo/v2"
	. "github.com/onsi/gomega"
	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/util/rand"
	"sigs.k8s.io/controller-runtime/pkg/log"

	"github.com/raytls/raytls/test/live"
)

// What BeforeSuite connects to.
var (
	target *live.Cluster
	// operatorImage is deployed; if it is empty, an operator runs already.
	operatorImage string
	rayImage      string
	// rayVersion is what the image's tag says.
	rayVersion string
	// redisImage runs redis-server. Without it, the specs of GCS fault tolerance are skipped.
	redisImage string
)

// TestRay runs the suite.
func TestRay(t *testing.T) {
	RegisterFailHandler(Fail)
	SetDefaultEventuallyTimeout(2 * time.Minute)
	SetDefaultEventuallyPollingInterval(500 * time.Millisecond)
	EnforceDefaultTimeoutsWhenUsingContexts()
	RunSpecs(t, "the real Ray")
}

var _ = BeforeSuite(func(ctx SpecContext) {
	log.SetLogger(GinkgoLogr)
	operatorImage = os.Getenv("IMG")
	rayImage, redisImage = os.Getenv("RAY_IMAGE"), os.Getenv("REDIS_IMAGE")
	rayVersion = regexp.MustCompile(`:(\d+\.\d+\.\d+)`).FindStringSubmatch(rayImage + ":0.0.0")[1]
	Expect(rayVersion).NotTo(Equal("0.0.0"), "RAY_IMAGE must name an image of Ray whose tag begins with its version")
	var err error
	target, err = live.Connect("../..")
	Expect(err).NotTo(HaveOccurred())
	if operatorImage != "" {
		Expect(target.Deploy(ctx, operatorImage)).To(Succeed())
		DeferCleanup(func(ctx SpecContext) { Expect(target.Undeploy(ctx)).To(Succeed()) }, NodeTimeout(2*time.Minute))
	}
	// The operator must be there to let go of what the specs leave behind.
	DeferCleanup(func(ctx SpecContext) {
		Eventually(ctx, namespaces).Should(BeEmpty())
	}, NodeTimeout(3*time.Minute))
	Eventually(ctx, target.OperatorRuns).Should(Succeed())
}, NodeTimeout(3*time.Minute))

// suiteLabel marks the namespaces of this suite, with the run as its value.
const suiteLabel = "raytls-ray"

// run tells this run of the suite from others.
var run = rand.String(5)

// namespaces are those of this run that are there.
func namespaces(ctx context.Context) ([]string, error) {
	return target.Namespaces(ctx, suiteLabel+"="+run)
}

// isReady reports whether a pod is Ready and stays.
func isReady(pod *corev1.Pod) bool {
	return pod.DeletionTimestamp == nil && live.IsReady(pod)
}
