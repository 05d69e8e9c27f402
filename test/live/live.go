// Package live lets a test work on a real cluster: it connects to the one of the kubeconfig, deploys the operator there, and
// runs commands in containers.
package live

import (
	"fmt"

	"k8s.io/client-go/kubernetes"
	"k8s.io/client-go/rest"
	ctrl "sigs.k8s.io/controller-runtime"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/raytls/raytls/internal/app"
)

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
