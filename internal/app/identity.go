package app

import (
	"context"
	"fmt"
	"time"

	authenticationv1 "k8s.io/api/authentication/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/client-go/kubernetes"
	"k8s.io/client-go/rest"
)

// username is what the API server calls whoever has this configuration. Every authenticated user may ask for it.
func username(ctx context.Context, config *rest.Config) (string, error) {
	clients, err := kubernetes.NewForConfig(config)
	if err != nil {
		return "", fmt.Errorf("connecting to the Kubernetes API server: %w", err)
	}
	review, err := clients.AuthenticationV1().SelfSubjectReviews().Create(ctx, &authenticationv1.SelfSubjectReview{}, metav1.CreateOptions{})
	if err != nil {
		return "", fmt.Errorf("asking the API server for the operator's own user name: %w", err)
	}
	return review.Status.UserInfo.Username, nil
}

// lingering ends that much later than ctx: API servers send requests to a replica until they have heard that it ends.
func lingering(ctx context.Context, delay time.Duration) (context.Context, context.CancelFunc) {
	out, cancel := context.WithCancel(context.WithoutCancel(ctx))
	stop := context.AfterFunc(ctx, func() {
		select {
		case <-time.After(delay):
		case <-out.Done():
		}
		cancel()
	})
	return out, func() {
		stop()
		cancel()
	}
}
