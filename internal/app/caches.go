package app

import (
	"fmt"

	admissionregistrationv1 "k8s.io/api/admissionregistration/v1"
	corev1 "k8s.io/api/core/v1"
	policyv1 "k8s.io/api/policy/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/fields"
	"k8s.io/apimachinery/pkg/labels"
	ctrl "sigs.k8s.io/controller-runtime"
	"sigs.k8s.io/controller-runtime/pkg/cache"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/raytls/raytls/api/v1alpha1"
	"github.com/raytls/raytls/internal/controller/webhookconfig"
	"github.com/raytls/raytls/internal/kept"
	"github.com/raytls/raytls/internal/kuberay"
	"github.com/raytls/raytls/internal/policy"
)

// controllerCaches says what the controller watches, and what of it is kept: of Secrets, ConfigMaps and webhook configurations
// only the operator's own, of pods only Ray's. A read of anything that is not watched fails, so that nobody adds a watch by
// reading.
func controllerCaches(keeper *kept.Keeper) (cache.Options, error) {
	rays, err := labels.Parse(kuberay.LabelCluster)
	if err != nil {
		return cache.Options{}, fmt.Errorf("selecting Ray's pods: %w", err)
	}
	own := cache.ByObject{Label: labels.SelectorFromSet(labels.Set{v1alpha1.LabelManagedBy: v1alpha1.ManagedBy})}
	options := webhookCaches()
	options.ByObject = map[client.Object]cache.ByObject{
		&corev1.Secret{}:                own,
		&corev1.ConfigMap{}:             own,
		&corev1.Pod{}:                   {Label: rays, Transform: kept.SlimPod},
		kuberay.NewRayCluster():         {Transform: keeper.Slim},
		&policyv1.PodDisruptionBudget{}: {Transform: kept.SlimBudget},
		&admissionregistrationv1.MutatingWebhookConfiguration{}: {Field: fields.OneTermEqualSelector("metadata.name", webhookconfig.Configuration)},
	}
	return options, nil
}

// webhookCaches says what the webhook watches: policies, RayClusterTLSes, and RayJobs for the RayCronJobs above them. A read of
// anything else fails, so that nobody adds a watch of Secrets by reading one.
func webhookCaches() cache.Options {
	return cache.Options{DefaultTransform: slim, ReaderFailOnMissingInformer: true}
}

// maxOwnBytes is more than the operator ever puts into one of its own objects.
const maxOwnBytes = 256 << 10

// slim drops what nobody reads. Objects that claim by their label to be the operator's cannot fill the memory: anybody can label.
func slim(object any) (any, error) {
	switch o := object.(type) {
	case *v1alpha1.RayTLSPolicy:
		policy.Slim(o)
		return o, nil
	case *corev1.Secret:
		if size(o.Data) > maxOwnBytes {
			o.Data = nil
		}
	case *corev1.ConfigMap:
		if size(o.Data)+size(o.BinaryData) > maxOwnBytes {
			o.Data, o.BinaryData = nil, nil
		}
	}
	object, err := cache.TransformStripManagedFields()(object)
	if err != nil {
		return nil, err
	}
	return kuberay.SlimOwner(object)
}

func size[V string | []byte](data map[string]V) int {
	bytes := 0
	for _, value := range data {
		bytes += len(value)
	}
	return bytes
}

// secretNames is a cache of which Secrets there are, and nothing else of them.
func secretNames(mgr ctrl.Manager) (cache.Cache, error) {
	names, err := cache.New(mgr.GetConfig(), cache.Options{
		HTTPClient: mgr.GetHTTPClient(), Scheme: mgr.GetScheme(), Mapper: mgr.GetRESTMapper(),
		DefaultTransform: func(object any) (any, error) {
			if o, ok := object.(*metav1.PartialObjectMetadata); ok {
				o.ObjectMeta = metav1.ObjectMeta{Namespace: o.Namespace, Name: o.Name, UID: o.UID, ResourceVersion: o.ResourceVersion}
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
