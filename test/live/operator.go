package live

import (
	"context"
	"fmt"
	"strings"
	"time"

	appsv1 "k8s.io/api/apps/v1"
	"k8s.io/apimachinery/pkg/types"
)

// The namespace and the Deployments of make deploy.
const (
	OperatorNamespace = "raytls-system"
	ControllerName    = "raytls-controller"
	WebhookName       = "raytls-webhook"
)

// Deploy installs the operator of that image, with further arguments of helm such as --set=log.level=debug.
func (c *Cluster) Deploy(ctx context.Context, image string, values ...string) error {
	// The annotation starts pods anew where those of the same image's name run already, which may be an older one.
	started := "podAnnotations.raytls-test/started=" + time.Now().Format(time.RFC3339)
	values = append(values, "--set-string=controller."+started, "--set-string=webhook."+started)
	_, err := c.Run(ctx, "make", "deploy", "IMG="+image, "VALUES="+strings.Join(values, " "))
	return err
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
func (c *Cluster) Undeploy(ctx context.Context) error {
	if _, err := c.Run(ctx, "make", "undeploy", "uninstall"); err != nil {
		return err
	}
	// kubectl waits until it is gone, so that the next suite can deploy.
	_, err := c.Run(ctx, "kubectl", "delete", "namespace", OperatorNamespace, "--ignore-not-found")
	return err
}
