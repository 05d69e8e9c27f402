package live

import (
	"context"
	"fmt"
	"time"

	appsv1 "k8s.io/api/apps/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"
	"sigs.k8s.io/controller-runtime/pkg/client"
)

// The namespace and the Deployments of config/default.
const (
	OperatorNamespace = "raytls-system"
	ControllerName    = "raytls-controller"
	WebhookName       = "raytls-webhook"
)

// Deploy installs the operator of that image, which accepts policies that name the init images.
func (c *Cluster) Deploy(ctx context.Context, image string, initImages ...string) error {
	if _, err := c.Run(ctx, "make", "install", "deploy", "IMG="+image); err != nil {
		return err
	}
	args := ""
	for _, allowed := range initImages {
		args += fmt.Sprintf(",%q", "--allowed-init-image="+allowed)
	}
	for deployment, container := range map[string]string{ControllerName: "controller", WebhookName: "webhook"} {
		// The annotation starts it anew where one of the same image's name runs already, which may be an older one.
		patch := fmt.Sprintf(`{"spec":{"template":{"metadata":{"annotations":{"raytls-test/started":%q}},"spec":{"containers":[{"name":%q,"args":[%q%s]}]}}}}`,
			time.Now().Format(time.RFC3339), container, container, args)
		object := &appsv1.Deployment{ObjectMeta: metav1.ObjectMeta{Namespace: OperatorNamespace, Name: deployment}}
		if err := c.API.Patch(ctx, object, client.RawPatch(types.StrategicMergePatchType, []byte(patch))); err != nil {
			return fmt.Errorf("patching Deployment %s: %w", deployment, err)
		}
	}
	return nil
}

// OperatorRuns returns nil once exactly the pods that both Deployments ask for are ready.
func (c *Cluster) OperatorRuns(ctx context.Context) error {
	for _, name := range []string{ControllerName, WebhookName} {
		var d appsv1.Deployment
		if err := c.API.Get(ctx, types.NamespacedName{Namespace: OperatorNamespace, Name: name}, &d); err != nil {
			return err
		}
		s, want := d.Status, *d.Spec.Replicas
		if s.ObservedGeneration != d.Generation || s.UpdatedReplicas != want || s.ReadyReplicas != want || s.Replicas != want {
			return fmt.Errorf("deployment %s has %d pods, %d of them new and %d ready, and should have %d", name, s.Replicas, s.UpdatedReplicas, s.ReadyReplicas, want)
		}
	}
	return nil
}

// Undeploy removes the operator, all policies, the CRDs and the operator's namespace.
func (c *Cluster) Undeploy(ctx context.Context, image string) error {
	if _, err := c.Run(ctx, "make", "undeploy", "uninstall", "IMG="+image); err != nil {
		return err
	}
	// kubectl waits until it is gone, so that the next suite can deploy.
	_, err := c.Run(ctx, "kubectl", "delete", "namespace", OperatorNamespace, "--ignore-not-found")
	return err
}
