package policy

import (
	"context"
	"fmt"
	"maps"
	"slices"
	"time"

	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"k8s.io/apimachinery/pkg/api/validate/content"
	"k8s.io/apimachinery/pkg/types"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/raytls/raytls/internal/injection"
)

// maxEnvFrom is how many ConfigMaps are read for one cluster: each takes a request.
const maxEnvFrom = 16

// envFromTimeout is how long all reads for one cluster may take together: an admission request waits for them.
const envFromTimeout = 5 * time.Second

// EnvFrom holds the keys of the ConfigMaps that containers which speak Ray take their environment from. The zero value stands for
// ConfigMaps that were not read.
type EnvFrom struct {
	keys map[string][]string
	// tooMany is the number of ConfigMaps if it exceeds maxEnvFrom.
	tooMany int
}

// ReadEnvFrom reads the ConfigMaps that a RayCluster's spec names. additional are the names of further containers that speak Ray.
// live reads past caches, which hold only the operator's ConfigMaps.
//
// Secrets need not be read: the injection sets the variables in env, and env wins over envFrom
// (https://kubernetes.io/docs/reference/kubernetes-api/workload-resources/pod-v1/#environment-variables).
func ReadEnvFrom(ctx context.Context, live client.Reader, namespace string, spec map[string]any, additional []string) (EnvFrom, error) {
	names := map[string]bool{}
	for _, ref := range injection.EnvFromRefs(spec, additional...) {
		if ref.Kind == injection.KindConfigMap {
			names[ref.Name] = true
		}
	}
	if len(names) == 0 {
		return EnvFrom{}, nil
	}
	if len(names) > maxEnvFrom {
		return EnvFrom{tooMany: len(names)}, nil
	}
	ctx, cancel := context.WithTimeout(ctx, envFromTimeout)
	defer cancel()
	read := EnvFrom{keys: map[string][]string{}}
	for name := range names {
		keys, err := configMapKeys(ctx, live, types.NamespacedName{Namespace: namespace, Name: name})
		if err != nil {
			return EnvFrom{}, err
		}
		read.keys[name] = keys
	}
	return read, nil
}

// lookup gives the keys of a ConfigMap that was read and exists.
func (e EnvFrom) lookup(kind, name string) (keys []string, found bool) {
	keys = e.keys[name]
	return keys, kind == injection.KindConfigMap && keys != nil
}

// configMapKeys lists the keys of a ConfigMap; nil if it does not exist.
func configMapKeys(ctx context.Context, live client.Reader, key types.NamespacedName) ([]string, error) {
	if len(content.IsPathSegmentName(key.Name)) > 0 {
		return nil, nil // no ConfigMap can have that name
	}
	var configMap corev1.ConfigMap
	if err := live.Get(ctx, key, &configMap); err != nil {
		if apierrors.IsNotFound(err) || apierrors.IsForbidden(err) {
			return nil, nil
		}
		return nil, fmt.Errorf("reading ConfigMap %s: %w", key.Name, err)
	}
	return slices.AppendSeq([]string{}, maps.Keys(configMap.Data)), nil
}
