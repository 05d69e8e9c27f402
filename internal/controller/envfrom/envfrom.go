// Package envfrom looks for TLS that is set up by ConfigMaps and Secrets from which containers take their environment.
package envfrom

import (
	"context"
	"fmt"
	"time"

	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"k8s.io/apimachinery/pkg/types"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/raytls/raytls/internal/injection"
)

// most is how many ConfigMaps and Secrets are read for one cluster: each takes a request.
const most = 16

// patience is how long all reads for one cluster may take together: an admission request waits for them.
const patience = 5 * time.Second

// Foreign gives what forbids to inject the spec of a RayCluster in that namespace, after reading all that it names in the
// envFrom of containers that speak Ray. additional are the names of further such containers. The reader is to be one that
// reads past caches, which hold nothing that is not the operator's. It fails with an *injection.ConflictError where more is
// named than is read.
func Foreign(ctx context.Context, reader client.Reader, namespace string, spec map[string]any, additional []string) ([]injection.Finding, error) {
	refs := injection.EnvFromRefs(spec, additional...)
	if len(refs) == 0 {
		return nil, nil
	}
	if len(refs) > most {
		return nil, &injection.ConflictError{
			Field:   "spec",
			Message: fmt.Sprintf("the containers that speak Ray name %d ConfigMaps and Secrets in envFrom; at most %d can be looked at, so name fewer", len(refs), most),
		}
	}
	ctx, cancel := context.WithTimeout(ctx, patience)
	defer cancel()
	read := map[injection.Ref][]string{}
	for _, ref := range refs {
		keys, err := keysOf(ctx, reader, namespace, ref)
		if err != nil {
			return nil, err
		}
		read[ref] = keys
	}
	return injection.ForeignTLS(spec, func(kind, name string) ([]string, bool) {
		keys := read[injection.Ref{Kind: kind, Name: name}]
		return keys, keys != nil
	}, additional...), nil
}

// keysOf lists the keys of a ConfigMap or Secret; nil if it does not exist.
func keysOf(ctx context.Context, reader client.Reader, namespace string, ref injection.Ref) ([]string, error) {
	key := types.NamespacedName{Namespace: namespace, Name: ref.Name}
	var configMap corev1.ConfigMap
	var secret corev1.Secret
	object := client.Object(&configMap)
	if ref.Kind == injection.KindSecret {
		object = &secret
	}
	if err := reader.Get(ctx, key, object); err != nil {
		if apierrors.IsNotFound(err) || apierrors.IsForbidden(err) {
			return nil, nil
		}
		return nil, fmt.Errorf("reading %s %s: %w", ref.Kind, ref.Name, err)
	}
	keys := []string{}
	for k := range configMap.Data {
		keys = append(keys, k)
	}
	for k := range secret.Data {
		keys = append(keys, k)
	}
	return keys, nil
}
