package kube

import (
	"context"
	"fmt"
	"maps"
	"slices"
	"strings"
	"time"

	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"k8s.io/apimachinery/pkg/api/validate/content"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/raytls/raytls/api/v1alpha1"
)

// UnwatchedRetry is when to try again at what nothing that is watched tells of.
const UnwatchedRetry = time.Minute

// Labels are those of an object that the operator makes for that purpose.
func Labels(component string) map[string]string {
	return map[string]string{v1alpha1.LabelManagedBy: v1alpha1.ManagedBy, v1alpha1.LabelComponent: component}
}

// OwnedBy reports whether any owner reference of the object has that UID.
func OwnedBy(object metav1.Object, uid types.UID) bool {
	return slices.ContainsFunc(object.GetOwnerReferences(), func(o metav1.OwnerReference) bool { return o.UID == uid })
}

// ReadSecret reads a Secret; nil if it does not exist.
func ReadSecret(ctx context.Context, reader client.Reader, key types.NamespacedName) (*corev1.Secret, error) {
	if len(content.IsPathSegmentName(key.Name)) > 0 {
		return nil, nil // no Secret can have that name
	}
	var secret corev1.Secret
	if err := reader.Get(ctx, key, &secret); err != nil {
		if apierrors.IsNotFound(err) {
			return nil, nil
		}
		return nil, fmt.Errorf("reading Secret %s: %w", key, err)
	}
	return &secret, nil
}

// Delete deletes this very object, and not another that was made under its name meanwhile. One that is gone is no error.
func Delete(ctx context.Context, c client.Client, object client.Object) error {
	uid := object.GetUID()
	err := c.Delete(ctx, object, client.Preconditions{UID: &uid})
	if apierrors.IsNotFound(err) || apierrors.IsConflict(err) {
		return nil // a conflict is another object of that name: the one that was meant is gone
	}
	if err != nil {
		return fmt.Errorf("deleting %s: %w", client.ObjectKeyFromObject(object), err)
	}
	return nil
}

// Create creates a Secret or ConfigMap that the cache does not have. One that exists all the same is the cache's lag
// (ErrStale) if it is the operator's, is taken back if the owner (nil for none) owns it, and is otherwise an Outcome.
func Create(ctx context.Context, c client.Client, live client.Reader, object client.Object, owner metav1.Object) error {
	err := c.Create(ctx, object, client.FieldOwner(v1alpha1.ManagedBy))
	if !apierrors.IsAlreadyExists(err) {
		return err
	}
	existing := client.Object(&corev1.Secret{})
	if _, configMap := object.(*corev1.ConfigMap); configMap {
		existing = &corev1.ConfigMap{}
	}
	if err := live.Get(ctx, client.ObjectKeyFromObject(object), existing); err != nil {
		if apierrors.IsNotFound(err) {
			return ErrStale
		}
		return fmt.Errorf("reading %s: %w", client.ObjectKeyFromObject(object), err)
	}
	if err := NameConflict(existing, object.GetLabels(), owner); err != nil {
		return err
	}
	object.SetResourceVersion(existing.GetResourceVersion())
	object.SetUID(existing.GetUID())
	return c.Update(ctx, object, client.FieldOwner(v1alpha1.ManagedBy))
}

// NameConflict says what it means that a Secret or ConfigMap of a name of ours exists and the cache of ours does not have
// it: the cache lags behind (ErrStale), or it is somebody else's. Nil: it is ours by its owner (nil for none).
func NameConflict(existing client.Object, labels map[string]string, owner metav1.Object) error {
	kind := "Secret"
	if _, configMap := existing.(*corev1.ConfigMap); configMap {
		kind = "ConfigMap"
	}
	switch {
	case !existing.GetDeletionTimestamp().IsZero():
		return Waitf(v1alpha1.ReasonNameConflict, "%s %s in namespace %s is being deleted and a finalizer holds it; it is made anew when it is gone", kind, existing.GetName(), existing.GetNamespace()).
			RetryAfter(UnwatchedRetry)
	case maps.Equal(existing.GetLabels(), labels):
		return ErrStale
	case owner != nil && OwnedBy(existing, owner.GetUID()):
		return nil
	}
	return UserMustActf(v1alpha1.ReasonNameConflict, "%s %s in namespace %s exists and is not the operator's; it is left alone, so delete or rename it", kind, existing.GetName(), existing.GetNamespace()).
		RetryAfter(UnwatchedRetry)
}

// Truncate shortens a text to so many bytes at most, between two characters.
func Truncate(text string, most int) string {
	if len(text) <= most {
		return text
	}
	return strings.ToValidUTF8(text[:most-len("…")], "") + "…"
}
