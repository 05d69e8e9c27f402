package app

import (
	"fmt"

	admissionregistrationv1 "k8s.io/api/admissionregistration/v1"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/fields"
	"k8s.io/apimachinery/pkg/labels"
	"k8s.io/apimachinery/pkg/selection"
	"k8s.io/client-go/rest"
	ctrl "sigs.k8s.io/controller-runtime"
	"sigs.k8s.io/controller-runtime/pkg/cache"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/raytls/raytls/api/v1alpha1"
	"github.com/raytls/raytls/internal/cluster"
	"github.com/raytls/raytls/internal/controller/webhookconfig"
	"github.com/raytls/raytls/internal/kuberay"
)

// controllerCaches says what the controller watches, and what of it is kept: of Secrets, ConfigMaps and webhook configurations
// only the operator's own, of pods only Ray's. A read of anything that is not watched fails, so that nobody adds a watch by
// reading.
func controllerCaches() (cache.Options, error) {
	rays, err := labels.NewRequirement(kuberay.LabelCluster, selection.Exists, nil)
	if err != nil {
		return cache.Options{}, fmt.Errorf("selecting Ray's pods: %w", err)
	}
	own := cache.ByObject{Label: labels.SelectorFromSet(labels.Set{v1alpha1.LabelManagedBy: v1alpha1.ManagedBy}), Transform: slimOwn}
	return cache.Options{
		ByObject: map[client.Object]cache.ByObject{
			&corev1.Secret{}:          own,
			&corev1.ConfigMap{}:       own,
			&corev1.Pod{}:             {Label: labels.NewSelector().Add(*rays), Transform: cluster.SlimPod},
			kuberay.NewRayCluster():   {Transform: cluster.SlimCluster},
			&v1alpha1.RayTLSPolicy{}:  {Transform: cache.TransformStripManagedFields()},
			&v1alpha1.RayClusterTLS{}: {Transform: cache.TransformStripManagedFields()},
			&admissionregistrationv1.MutatingWebhookConfiguration{}: {
				Field:     fields.OneTermEqualSelector("metadata.name", webhookconfig.Configuration),
				Transform: cache.TransformStripManagedFields(),
			},
		},
		DefaultTransform: kuberay.SlimOwner, ReaderFailOnMissingInformer: true,
	}, nil
}

// webhookCaches says what the webhook watches: policies, RayClusterTLSes, and RayJobs for the RayCronJobs above them. A read of
// anything else fails, so that nobody adds a watch of Secrets by reading one.
func webhookCaches() cache.Options {
	return cache.Options{
		ByObject: map[client.Object]cache.ByObject{
			&v1alpha1.RayTLSPolicy{}:  {Transform: cache.TransformStripManagedFields()},
			&v1alpha1.RayClusterTLS{}: {Transform: cache.TransformStripManagedFields()},
		},
		DefaultTransform: kuberay.SlimOwner, ReaderFailOnMissingInformer: true,
	}
}

// maxOwnBytes is more than the operator ever puts into one of its own objects.
const maxOwnBytes = 256 << 10

// slimOwn keeps what claims by its label to be the operator's from filling the memory: anybody can label.
func slimOwn(object any) (any, error) {
	size := 0
	switch o := object.(type) {
	case *corev1.Secret:
		o.ManagedFields = nil
		for _, value := range o.Data {
			size += len(value)
		}
		if size > maxOwnBytes {
			o.Data = nil
		}
	case *corev1.ConfigMap:
		o.ManagedFields = nil
		o.BinaryData = nil
		for _, value := range o.Data {
			size += len(value)
		}
		if size > maxOwnBytes {
			o.Data = nil
		}
	}
	return object, nil
}

// secretNames is a cache of which Secrets there are, and nothing else of them.
func secretNames(mgr ctrl.Manager, config *rest.Config) (cache.Cache, error) {
	names, err := cache.New(config, cache.Options{
		HTTPClient: mgr.GetHTTPClient(), Scheme: mgr.GetScheme(), Mapper: mgr.GetRESTMapper(),
		DefaultTransform: func(object any) (any, error) {
			if o, ok := object.(metav1.Object); ok {
				o.SetManagedFields(nil)
				o.SetAnnotations(nil)
				o.SetLabels(nil)
				o.SetOwnerReferences(nil)
			}
			return object, nil
		},
	})
	if err != nil {
		return nil, fmt.Errorf("making the cache of Secret names: %w", err)
	}
	if err := mgr.Add(names); err != nil {
		return nil, fmt.Errorf("adding the cache of Secret names: %w", err)
	}
	return names, nil
}
