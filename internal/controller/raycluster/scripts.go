package raycluster

import (
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"maps"
	"slices"

	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/types"
	"sigs.k8s.io/controller-runtime/pkg/client"
	"sigs.k8s.io/controller-runtime/pkg/log"

	"github.com/raytls/raytls/api/v1alpha1"
	"github.com/raytls/raytls/internal/gencert"
	"github.com/raytls/raytls/internal/injection"
	"github.com/raytls/raytls/internal/keys"
	"github.com/raytls/raytls/internal/kube"
	"github.com/raytls/raytls/internal/kuberay"
)

// provideScripts sees to the ConfigMap with the scripts. It is immutable and named by its content, so one that differs
// was altered.
func (a *application) provideScripts(ctx context.Context) error {
	if !a.decision.WantsScripts {
		return nil
	}
	scripts, err := scriptsConfigMap(a.facts.Key.Namespace)
	if err != nil {
		return err
	}
	if a.scripts != nil {
		if len(a.scripts.Data) == 0 && maps.EqualFunc(a.scripts.BinaryData, scripts.BinaryData, bytes.Equal) {
			return nil
		}
		log.FromContext(ctx).Info("Deleting altered scripts", "configMap", scripts.Name)
		if err := kube.Delete(ctx, a.Client, a.scripts.DeepCopy()); err != nil {
			return err
		}
	}
	log.FromContext(ctx).Info("Creating scripts", "configMap", scripts.Name)
	if err := kube.Create(ctx, a.Client, a.Live, scripts, nil); err != nil {
		return err
	}
	a.scripts = scripts
	return nil
}

// scriptsConfigMap returns a namespace's ConfigMap with the scripts of the newest revision. They are binary data, because a
// tool that fills in manifests would replace the variables in their text, and no pod runs a script that was changed.
func scriptsConfigMap(namespace string) (*corev1.ConfigMap, error) {
	scripts, err := gencert.Scripts(injection.Revision)
	if err != nil {
		return nil, err
	}
	name, err := gencert.ConfigMapName(injection.Revision)
	if err != nil {
		return nil, err
	}
	content := make(map[string][]byte, len(scripts))
	for file, text := range scripts {
		content[file] = []byte(text)
	}
	return &corev1.ConfigMap{
		ObjectMeta: metav1.ObjectMeta{Namespace: namespace, Name: name, Labels: kube.Labels(v1alpha1.ComponentScripts)},
		BinaryData: content, Immutable: new(true),
	}, nil
}

// wakePods has the kubelets of pods that wait for a Secret or ConfigMap refresh it now and not within a minute.
func (a *application) wakePods(ctx context.Context) error {
	paused := a.facts.Policy != nil && a.facts.Policy.Paused
	if !a.decision.WantsKeys || a.keys.Issuer == nil || a.issuerSecret == nil || paused {
		return nil
	}
	mounted := []*metav1.ObjectMeta{&a.issuerSecret.ObjectMeta}
	if a.scripts != nil {
		mounted = append(mounted, &a.scripts.ObjectMeta)
	}
	since, sum := a.keys.Issuer.IssuedAt(), sha256.New()
	fmt.Fprint(sum, a.keys.Issuer.ID())
	for _, object := range mounted {
		fmt.Fprint(sum, object.UID)
		if object.CreationTimestamp.After(since) {
			since = object.CreationTimestamp.Time
		}
	}
	token := hex.EncodeToString(sum.Sum(nil)[:8])
	for i := range a.facts.Pods {
		pod := &a.facts.Pods[i]
		// The kubelet of a pod without a node reads what there is by then.
		if !pod.Injected || pod.Certified || pod.Terminating || pod.Node == "" || pod.Created.After(since) || pod.Sync == token {
			continue
		}
		log.FromContext(ctx).Info("Annotating pod, so that its kubelet mounts the keys now", "pod", pod.Name)
		// With the version, so that a cache which lags behind does not annotate a pod twice; its next event comes back here.
		patch := fmt.Sprintf(`{"metadata":{"uid":%q,"resourceVersion":%q,"annotations":{%q:%q}}}`, pod.UID, pod.ResourceVersion, v1alpha1.AnnotationSync, token)
		target := &corev1.Pod{ObjectMeta: metav1.ObjectMeta{Namespace: a.facts.Key.Namespace, Name: pod.Name}}
		err := a.Client.Patch(ctx, target, client.RawPatch(types.MergePatchType, []byte(patch)), client.FieldOwner(v1alpha1.ManagedBy))
		if err != nil && !apierrors.IsNotFound(err) && !apierrors.IsConflict(err) {
			// It would only have been sooner: the kubelet refreshes the volume within about a minute.
			log.FromContext(ctx).Error(err, "Annotating pod", "pod", pod.Name)
		}
	}
	return nil
}

// removeScripts deletes the namespace's scripts once no cluster but the named one can need them.
func (r *Reconciler) removeScripts(ctx context.Context, but types.NamespacedName) error {
	clusters := kuberay.NewRayClusterList()
	if err := r.Client.List(ctx, clusters, client.InNamespace(but.Namespace), client.UnsafeDisableDeepCopy); err != nil {
		return fmt.Errorf("listing RayClusters: %w", err)
	}
	if slices.ContainsFunc(clusters.Items, func(c unstructured.Unstructured) bool { return c.GetName() != but.Name && injected(&c) }) {
		return nil
	}
	var scripts corev1.ConfigMapList
	if err := r.Client.List(ctx, &scripts, client.InNamespace(but.Namespace), client.MatchingLabels(kube.Labels(v1alpha1.ComponentScripts))); err != nil {
		return fmt.Errorf("listing scripts: %w", err)
	}
	for i := range scripts.Items {
		log.FromContext(ctx).Info("Deleting scripts", "configMap", client.ObjectKeyFromObject(&scripts.Items[i]))
		if err := kube.Delete(ctx, r.Client, &scripts.Items[i]); err != nil {
			return err
		}
	}
	return nil
}

// forget deletes what is left of a cluster that is gone. Its CA Secret goes with it by its owner reference, and so does its
// RayClusterTLS, which is deleted here too, so that its policy learns at once.
func (r *Reconciler) forget(ctx context.Context, key types.NamespacedName) error {
	r.issuers.forget(key)
	r.settled.forget(key)
	r.unreadable.End(key)
	r.Heads.Forget(key)
	var tls v1alpha1.RayClusterTLS
	missing := r.Client.Get(ctx, key, &tls)
	authority, err := kube.ReadSecret(ctx, r.Client, types.NamespacedName{Namespace: r.Settings.Namespace, Name: keys.AuthoritySecretName(key)})
	if err != nil {
		return err
	}
	if client.IgnoreNotFound(missing) != nil || missing != nil && authority == nil {
		return client.IgnoreNotFound(missing) // anybody's label on a pod can name a cluster that never was
	}
	if err := r.removeScripts(ctx, key); err != nil {
		return err
	}
	// The cache may not know yet of a cluster that was created anew under the name, and keeps the authority.
	existing := &metav1.PartialObjectMetadata{}
	existing.SetGroupVersionKind(kuberay.RayClusterGVK())
	if err := r.Live.Get(ctx, key, existing); !apierrors.IsNotFound(err) {
		return err
	}
	if missing == nil {
		if err := kube.Delete(ctx, r.Client, &tls); err != nil {
			return err
		}
	}
	if authority == nil {
		return nil
	}
	log.FromContext(ctx).Info("Deleting the authority of a RayCluster that is gone", "secret", authority.Name)
	return kube.Delete(ctx, r.Client, authority)
}
