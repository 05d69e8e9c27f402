// Package live lets a test work on a real cluster: it connects to the one of the kubeconfig, deploys the operator there, and
// runs commands in containers.
package live

import (
	"context"
	"fmt"
	"slices"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/labels"
	"k8s.io/client-go/kubernetes"
	"k8s.io/client-go/rest"
	ctrl "sigs.k8s.io/controller-runtime"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/raytls/raytls/internal/app"
)

// Namespaces are the names of the namespaces that a label selector matches.
func (c *Cluster) Namespaces(ctx context.Context, matching string) ([]string, error) {
	selector, err := labels.Parse(matching)
	if err != nil {
		return nil, err
	}
	var list corev1.NamespaceList
	err = c.API.List(ctx, &list, client.MatchingLabelsSelector{Selector: selector})
	names := []string{}
	for _, namespace := range list.Items {
		names = append(names, namespace.Name)
	}
	return names, err
}

// IsReady reports whether a pod is Ready.
func IsReady(pod *corev1.Pod) bool {
	return slices.ContainsFunc(pod.Status.Conditions, func(c corev1.PodCondition) bool {
		return c.Type == corev1.PodReady && c.Status == corev1.ConditionTrue
	})
}

// Cluster is a connection to a cluster.
type Cluster struct {
	Config  *rest.Config
	API     client.WithWatch
	Clients kubernetes.Interface
	// Root is the path of the repository, where the Makefile is.
	Root string
}

// Connect connects to the cluster of the current kubeconfig, without a limit on the rate of requests.
func Connect(root string) (*Cluster, error) {
	config, err := ctrl.GetConfig()
	if err != nil {
		return nil, fmt.Errorf("a kubeconfig is needed: %w", err)
	}
	config.QPS = -1
	scheme, err := app.Scheme()
	if err != nil {
		return nil, err
	}
	api, err := client.NewWithWatch(config, client.Options{Scheme: scheme})
	if err != nil {
		return nil, err
	}
	clients, err := kubernetes.NewForConfig(config)
	if err != nil {
		return nil, err
	}
	return &Cluster{Config: config, API: api, Clients: clients, Root: root}, nil
}
