//go:build e2e

// Package e2e proves on a real cluster, with KubeRay running, what the operator promises. It needs a kubeconfig and, in
// IMG, an image of the operator that the cluster's nodes can get, and brings the rest itself.
package e2e

import (
	"cmp"
	"context"
	"fmt"
	"os"
	"strings"
	"testing"
	"time"

	. "github.com/onsi/ginkgo/v2"
	. "github.com/onsi/gomega"
	corev1 "k8s.io/api/core/v1"
	"sigs.k8s.io/controller-runtime/pkg/client"
	"sigs.k8s.io/controller-runtime/pkg/log"

	"github.com/raytls/raytls/test/live"
)

const (
	// root is the repository's, where the Makefile and the samples are.
	root              = "../.."
	operatorNamespace = live.OperatorNamespace
	controllerName    = live.ControllerName
	webhookName       = live.WebhookName
	// specLabel marks the namespaces of this suite.
	specLabel = "raytls-e2e"
)

// rayImage is RAY_IMAGE, or the image that a test cluster's stand-in has. KubeRay takes the probes that suit rayVersion, and those
// for this one suit every Ray.
var rayImage = cmp.Or(os.Getenv("RAY_IMAGE"), "rayproject/ray:2.52.0")

const rayVersion = "2.52.0"

// What BeforeSuite connects to.
var (
	target *live.Cluster
	api    client.WithWatch
	// operatorImage has no shell and no openssl.
	operatorImage string
)

// TestEndToEnd runs the suite.
func TestEndToEnd(t *testing.T) {
	RegisterFailHandler(Fail)
	SetDefaultEventuallyTimeout(90 * time.Second)
	SetDefaultEventuallyPollingInterval(200 * time.Millisecond)
	SetDefaultConsistentlyPollingInterval(500 * time.Millisecond)
	EnforceDefaultTimeoutsWhenUsingContexts()
	RunSpecs(t, "raytls on a cluster")
}

var _ = BeforeSuite(func(ctx SpecContext) {
	log.SetLogger(GinkgoLogr)
	operatorImage = os.Getenv("IMG")
	Expect(operatorImage).NotTo(BeEmpty(), "IMG must name the operator's image")
	var err error
	target, err = live.Connect(root)
	Expect(err).NotTo(HaveOccurred())
	api = target.API

	By("deploying the operator")
	values := []string{"--set=allowedInitImages[0]=" + operatorImage}
	if image := os.Getenv("NO_OPENSSL_IMG"); image != "" {
		values = append(values, "--set=allowedInitImages[1]="+image)
	}
	Expect(target.Deploy(ctx, operatorImage, values...)).To(Succeed())
	DeferCleanup(func(ctx SpecContext) {
		Expect(target.Undeploy(ctx)).To(Succeed())
	}, NodeTimeout(2*time.Minute))
	// The operator must be there to let go of what the specs leave behind.
	DeferCleanup(func(ctx SpecContext) {
		Eventually(ctx, leftNamespaces).WithTimeout(2 * time.Minute).Should(BeEmpty())
	}, NodeTimeout(3*time.Minute))
	awaitOperator(ctx)
}, NodeTimeout(3*time.Minute))

// run runs a command in the repository's root.
func run(ctx context.Context, name string, args ...string) string {
	GinkgoHelper()
	out, err := target.Run(ctx, name, args...)
	Expect(err).NotTo(HaveOccurred())
	return out
}

// awaitOperator waits until exactly the operator that was asked for runs.
func awaitOperator(ctx context.Context) {
	GinkgoHelper()
	Eventually(ctx, target.OperatorRuns).Should(Succeed())
}

// scale scales one of the operator's Deployments, and has it as it was when the spec ends. It waits until no pod is left
// where none is to be.
func scale(ctx context.Context, name string, replicas int) {
	GinkgoHelper()
	to := func(ctx context.Context, replicas int) {
		run(ctx, "kubectl", "-n", operatorNamespace, "scale", "deployment/"+name, fmt.Sprintf("--replicas=%d", replicas))
	}
	DeferCleanup(func(ctx SpecContext) {
		to(ctx, 2)
		awaitOperator(ctx)
	}, NodeTimeout(time.Minute))
	to(ctx, replicas)
	if replicas == 0 {
		Eventually(ctx, func(ctx context.Context) []corev1.Pod { return operatorPods(ctx, name) }).Should(BeEmpty())
	}
}

// operatorPods are the pods of one of the operator's Deployments, also those that end.
func operatorPods(ctx context.Context, deployment string) []corev1.Pod {
	GinkgoHelper()
	var list corev1.PodList
	Expect(api.List(ctx, &list, client.InNamespace(operatorNamespace), client.MatchingLabels{
		"app.kubernetes.io/name": "raytls", "app.kubernetes.io/component": strings.TrimPrefix(deployment, "raytls-"),
	})).To(Succeed())
	return list.Items
}

// killOperator kills controller and webhook without any time to end well.
func killOperator(ctx context.Context) {
	GinkgoHelper()
	Expect(api.DeleteAllOf(ctx, &corev1.Pod{}, client.InNamespace(operatorNamespace),
		client.MatchingLabels{"app.kubernetes.io/name": "raytls"}, client.GracePeriodSeconds(0))).To(Succeed())
}

func leftNamespaces(ctx context.Context) ([]string, error) {
	return target.Namespaces(ctx, specLabel)
}
