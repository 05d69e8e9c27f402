//go:build e2e

// Package e2e proves on a real cluster, with KubeRay running, what the operator promises. It needs a kubeconfig and, in
// IMG, an image of the operator that the cluster's nodes can get, and brings the rest itself.
package e2e

import (
	"context"
	"fmt"
	"os"
	"os/exec"
	"strings"
	"testing"
	"time"

	. "github.com/onsi/ginkgo/v2"
	. "github.com/onsi/gomega"
	appsv1 "k8s.io/api/apps/v1"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/client-go/kubernetes"
	"k8s.io/client-go/rest"
	ctrl "sigs.k8s.io/controller-runtime"
	"sigs.k8s.io/controller-runtime/pkg/client"
	"sigs.k8s.io/controller-runtime/pkg/log"

	"github.com/raytls/raytls/internal/app"
)

const (
	// root is the repository's, where the Makefile and the samples are.
	root = "../.."
	// operatorNamespace, controllerName and webhookName are the namespace and the Deployments of config/default.
	operatorNamespace = "raytls-system"
	controllerName    = "raytls-controller"
	webhookName       = "raytls-webhook"
	// rayImage is what the samples use.
	rayImage = "rayproject/ray:2.52.0"
	// specLabel marks the namespaces of this suite.
	specLabel = "raytls-e2e"
)

// What BeforeSuite connects to.
var (
	config    *rest.Config
	api       client.WithWatch
	clientset kubernetes.Interface
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
	config, err = ctrl.GetConfig()
	Expect(err).NotTo(HaveOccurred(), "a kubeconfig is needed")
	config.QPS = -1
	scheme, err := app.Scheme()
	Expect(err).NotTo(HaveOccurred())
	api, err = client.NewWithWatch(config, client.Options{Scheme: scheme})
	Expect(err).NotTo(HaveOccurred())
	clientset, err = kubernetes.NewForConfig(config)
	Expect(err).NotTo(HaveOccurred())

	By("deploying the operator")
	run(ctx, "make", "install", "deploy", "IMG="+operatorImage)
	DeferCleanup(func(ctx SpecContext) {
		run(ctx, "make", "undeploy", "uninstall", "IMG="+operatorImage)
		Expect(client.IgnoreNotFound(api.Delete(ctx, &corev1.Namespace{ObjectMeta: metav1.ObjectMeta{Name: operatorNamespace}}))).To(Succeed())
	}, NodeTimeout(2*time.Minute))
	// The operator must be there to let go of what the specs leave behind.
	DeferCleanup(func(ctx SpecContext) {
		Eventually(ctx, leftNamespaces).WithTimeout(2 * time.Minute).Should(BeEmpty())
	}, NodeTimeout(3*time.Minute))
	allowInitImages(ctx, operatorImage, os.Getenv("NO_OPENSSL_IMG"))
	awaitOperator(ctx)
}, NodeTimeout(3*time.Minute))

// run runs a command in the repository's root.
func run(ctx context.Context, name string, args ...string) string {
	GinkgoHelper()
	command := exec.CommandContext(ctx, name, args...)
	command.Dir = root
	out, err := command.CombinedOutput()
	Expect(err).NotTo(HaveOccurred(), "%s %v: %s", name, args, out)
	return string(out)
}

// allowInitImages has the operator accept policies that name these init images.
func allowInitImages(ctx context.Context, images ...string) {
	GinkgoHelper()
	args := ""
	for _, image := range images {
		if image != "" {
			args += fmt.Sprintf("%q,", "--allowed-init-image="+image)
		}
	}
	for deployment, container := range map[string]string{controllerName: "controller", webhookName: "webhook"} {
		// The annotation starts it anew where one of the same image's name runs already, which may be an older one.
		patch := fmt.Sprintf(`{"spec":{"template":{"metadata":{"annotations":{"raytls-e2e/started":%q}},"spec":{"containers":[{"name":%q,"args":[%q,%s]}]}}}}`,
			time.Now().Format(time.RFC3339), container, container, args[:len(args)-1])
		object := &appsv1.Deployment{ObjectMeta: metav1.ObjectMeta{Namespace: operatorNamespace, Name: deployment}}
		Expect(api.Patch(ctx, object, client.RawPatch(types.StrategicMergePatchType, []byte(patch)))).To(Succeed())
	}
}

// awaitOperator waits until exactly the operator that was asked for runs.
func awaitOperator(ctx context.Context) {
	GinkgoHelper()
	awaitDeployment(ctx, controllerName)
	awaitDeployment(ctx, webhookName)
}

func awaitDeployment(ctx context.Context, name string) {
	GinkgoHelper()
	Eventually(ctx, func(g Gomega, ctx context.Context) {
		var d appsv1.Deployment
		g.Expect(api.Get(ctx, types.NamespacedName{Namespace: operatorNamespace, Name: name}, &d)).To(Succeed())
		g.Expect(d.Status.ObservedGeneration).To(Equal(d.Generation))
		for _, replicas := range []int32{d.Status.UpdatedReplicas, d.Status.ReadyReplicas, d.Status.Replicas} {
			g.Expect(replicas).To(Equal(*d.Spec.Replicas))
		}
	}).Should(Succeed())
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
	var list corev1.NamespaceList
	err := api.List(ctx, &list, client.HasLabels{specLabel})
	names := []string{}
	for _, namespace := range list.Items {
		names = append(names, namespace.Name)
	}
	return names, err
}
